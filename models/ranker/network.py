"""The ranker's network: a DIN that knows what items mean.

Notable:
- item vectors are inputs, seen through a fixed lens where that is asked for (`lens.py`);
- an item is the sum of what is known of it: id (dropped out in training), category, brand, price and a projection of
  its knowledge vector, so a new item is as good as its knowledge;
- target attention over the history, steered by knowledge similarity, age and kind of each behaviour;
- a histogram of the similarities of each aspect, which needs no training per item at all;
- a summary of the user without a candidate, trained against the clicks of the whole batch;
- the same two readings of the inferred behaviours, weighted by their confidence;
- how confident the behaviour model is in the candidate itself, added to the click's logit in the end (`fusion.py`);
- behind switches that are off: codes of the semantic id, the price against the history's, hour and weekday, popularity
  and newness of each candidate (`context.py`, `statistics.py`);
- click and order heads, the order as click x conversion (ESMM, arXiv 1804.07931), each with an affine calibration;
  conversion follows the click's logit until orders, of which there are few, say otherwise;
- where asked for, a third head in that chain: what an order brings (`RankerConfig.value_head`).

Shape legend: B batch, C candidates, H history, K inferred, D vector, E width, S aspects,
F features, M memories, A heads, G gates.
"""

# ruff: noqa: N803, N806, N815 (shape suffixes)
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, softplus

from models.ranker.attention import MASKED, BehaviorBias, SimilarityHistogram, TargetAttention, UserReader
from models.ranker.config import RankerConfig
from models.ranker.context import PriceRelation, RequestContext
from models.ranker.encoding import UNKNOWN
from models.ranker.fusion import Fusion
from models.ranker.lens import Lens
from models.ranker.spec import NUM_STATISTICS

_NUM_GATES = 4
_NUM_POSITIONS = 64
_ID_STD, _PROJECTION_STD = 0.01, 0.1
_FIRST_FOLLOW, _FIRST_CONVERSION = 0.5, -2.0


class Views(NamedTuple):
    """A batch after its items have been represented; what a switch turned off is None."""

    candidates_BCE: Tensor
    history_BHE: Tensor
    history_mask_BH: Tensor
    """1 where there is a behaviour, else 0."""
    ages_s_BH: Tensor | None
    types_BH: Tensor | None
    similarity_BSHC: Tensor | None
    inferred_BKE: Tensor | None
    scores_BK: Tensor | None
    inferred_similarity_BSKC: Tensor | None
    """Of the first aspect alone."""
    confidences_BC: Tensor | None
    """The behaviour model's own in the candidates (`confidences.py`)."""
    candidate_prices_BC: Tensor | None
    """Buckets."""
    history_prices_BH: Tensor | None
    hours_B1: Tensor | None
    weekdays_B1: Tensor | None
    statistics_BCF: Tensor | None


class Logits(NamedTuple):
    """Uncalibrated logits, [B, C], and the user on his own."""

    click: Tensor
    conversion: Tensor
    spend: Tensor | None
    """Logarithm of an order's revenue, over the usual one; None without a value head."""
    user_BE: Tensor | None
    """None where the summary is switched off."""


class ItemNorm(nn.LayerNorm):
    """Layer norm; in the graph its means are products with a constant: half the time of the runtime's own."""

    share_E1: Tensor

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.register_buffer("share_E1", torch.full((width, 1), 1 / width), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """[..., E]"""
        if not torch.onnx.is_in_onnx_export():
            return super().forward(x)
        mean = x @ self.share_E1
        variance = (x * x) @ self.share_E1 - mean * mean
        return (x - mean) * torch.rsqrt(variance + self.eps) * self.weight + self.bias


class ItemTower(nn.Module):
    """Represents an item as the normalised sum of what is known of it."""

    codes: Tensor

    def __init__(self, config: RankerConfig, sizes: Mapping[str, int], rank: int, codes: Tensor | None) -> None:
        super().__init__()
        features, width = config.features, config.dim
        self.shared = None
        if features.semantic_id:
            assert codes is not None
            # The graph holds them; weights are what was learnt.
            self.register_buffer("codes", codes, persistent=False)
            self.shared = _table(int(codes.max()) + 1, width)
        self.id_dropout = config.id_dropout
        used = {"ids": "item", "categories": "category", "brands": "brand", "price_buckets": "price"}
        self.tables = nn.ModuleDict(
            {
                field: _table(sizes[name], width)
                for field, name in used.items()
                if getattr(features, "item_id" if name == "item" else name)
            }
        )
        self.project = nn.Linear(rank, width, bias=False) if features.knowledge else None
        if self.project is not None:
            # Far above the ids' noise: an item starts as what it means, and its id is learnt as a correction.
            nn.init.normal_(self.project.weight, std=_PROJECTION_STD)
        self.norm = ItemNorm(width)

    def forward(self, fields: Mapping[str, Tensor]) -> Tensor:
        """Items [..., E] from the fields that are there."""
        seen = {name: self._hidden(name, fields[name]) for name in self.tables if name in fields}
        parts = [self.tables[name](indices) for name, indices in seen.items()]
        if self.shared is not None and "ids" in seen:
            parts.append(self.shared(self.codes[seen["ids"]]).sum(-2))
        if self.project is not None and "vectors" in fields:
            parts.append(self.project(fields["vectors"][..., : self.project.in_features]))
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        item: Tensor = self.norm(total)
        return item

    def _hidden(self, name: str, indices: Tensor) -> Tensor:
        if name != "ids" or not self.training or self.id_dropout == 0:
            return indices
        dropped = torch.rand(indices.shape, device=indices.device) < self.id_dropout
        return torch.where(dropped & (indices > UNKNOWN), UNKNOWN, indices)


class Tower(nn.Module):
    """From all that was read of a candidate to its two logits."""

    def __init__(self, read: int, distribution: int, width: int, dropout: float, *, spends: bool) -> None:
        """Takes `read` features that lie along the last axis and `distribution` features that lie before it."""
        super().__init__()
        self.read = read
        self.first = nn.Linear(read + distribution, 2 * width)
        self.rest = nn.Sequential(
            nn.GELU(), nn.Dropout(dropout), nn.Linear(2 * width, width), nn.GELU(), nn.Linear(width, 3 if spends else 2)
        )
        # Conversion learnt from nothing but the few orders of a log is noise: it starts as what the click says.
        self.follow = nn.Parameter(torch.tensor(_FIRST_FOLLOW))
        last = self.rest[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight[1:])
        nn.init.zeros_(last.bias[1:])
        nn.init.constant_(last.bias[1], _FIRST_CONVERSION)

    def forward(
        self, parts: Sequence[Tensor], distributions_BFC: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Logits of click and of conversion, and of spend where there is a head for it, [B, C]."""
        weight = self.first.weight
        hidden = linear(torch.cat(list(parts), -1), weight[:, : self.read], self.first.bias)
        if distributions_BFC:
            # One product takes the turned axes as they are: no copy is made.
            hidden = hidden + torch.cat(list(distributions_BFC), 1).transpose(-1, -2) @ weight[:, self.read :].T
        click, own, *spend = self.rest(hidden).unbind(-1)
        return click, own + self.follow * click.detach(), spend[0] if spend else None


class Ranker(nn.Module):
    """The network; `score_views` for training, `forward` for the exported graph."""

    calibration: Tensor
    usual_order: Tensor

    def __init__(
        self, config: RankerConfig, sizes: Mapping[str, int], aspects: Sequence[int], codes: Tensor | None = None
    ) -> None:
        """Builds the network.

        Args:
            config: Its switches and sizes.
            sizes: Rows of each embedding table.
            aspects: Lengths of the aspects of an item vector; the first represents the item, all are compared.
            codes: Rows of the table of codes, for each id (`rows.read_codes`); needed for `features.semantic_id`.
        """
        super().__init__()
        self.features, self.order_weight, self.value_weight = config.features, config.order_weight, config.value_weight
        features, width = config.features, config.dim
        self.scale = width**-0.5
        self.lens = Lens(sum(aspects), config.lens_dim) if features.vectors and config.lens_dim else None
        self.aspects = (self.lens.rank,) if self.lens else tuple(aspects)
        num_aspects = len(self.aspects) if features.similarity else 0
        self.items = ItemTower(config, sizes, self.aspects[0], codes)
        self.attention = TargetAttention(width, config.num_heads, num_aspects=num_aspects)
        read = 3 * width + (config.num_heads if features.evidence else 0)
        self.user = UserReader(width) if features.user_summary else None
        if self.user is not None:
            read += width + 1
        # Without age and kind all gates would be alike.
        num_gates = _NUM_GATES if features.recency or features.event_type else 1
        self.bias = BehaviorBias(
            config.num_heads,
            UserReader.NUM_MEMORIES,
            [num_gates] * num_aspects,
            recency=features.recency,
            event_type=features.event_type,
        )
        distribution = 0
        if features.similarity:
            self.histogram = SimilarityHistogram(num_aspects=num_aspects, num_gates=num_gates)
            distribution += self.histogram.width
        if features.inferred:
            self.inferred_attention = TargetAttention(width, config.num_heads, num_aspects=min(num_aspects, 1))
            read += 2 * width + (config.num_heads if features.evidence else 0)
        if features.inferred and features.similarity:
            self.inferred_histogram = SimilarityHistogram(num_aspects=1, num_gates=1)
            distribution += self.inferred_histogram.width
        self.context = RequestContext(width) if features.context else None
        read += width if features.context else 0
        read += NUM_STATISTICS if features.statistics else 0
        self.prices = PriceRelation(config.num_price_buckets) if features.price_relation else None
        if self.prices is not None:
            distribution += self.prices.width
        self.tower = Tower(read, distribution, width, config.dropout, spends=config.value_head)
        # Fitted after the training, on other lists.
        self.fusion = Fusion() if features.confidences else None
        # What a click owes to the place on the page: learnt, and left out of the graph.
        self.position = nn.Parameter(torch.zeros(_NUM_POSITIONS)) if config.position_bias else None
        # Rows: click, order. Columns: scale, shift of the logit.
        self.register_buffer("calibration", torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
        # Revenue of an order; what one candidate's order brings is learnt relative to it.
        self.register_buffer("usual_order", torch.ones(()))

    def score_views(self, views: Views) -> Logits:
        """Scores represented items."""
        c_BCE, mask_BH = views.candidates_BCE, views.history_mask_BH
        bias_BHA, bias_BHM, gates_BHF = self.bias(mask_BH, views.ages_s_BH, views.types_BH)
        parts = [c_BCE, *self._attend(self.attention, views.history_BHE, bias_BHA, c_BCE, views.similarity_BSHC)]
        distributions, user_BE = [], None
        if self.user is not None:
            user_BE = self.user(views.history_BHE, mask_BH, bias_BHM)
            both_BCE = c_BCE * user_BE.unsqueeze(1)
            parts += [both_BCE, both_BCE.sum(-1, keepdim=True) * self.scale]
        if views.similarity_BSHC is not None:
            gates_BFH = torch.exp(gates_BHF).transpose(1, 2)
            gates_BSGH = gates_BFH.reshape(gates_BFH.shape[0], len(self.aspects), -1, gates_BFH.shape[2])
            distributions.append(self.histogram(views.similarity_BSHC, mask_BH, gates_BSGH))
        if self.features.inferred:
            read, distribution = self._read_inferred(views)
            parts, distributions = [*parts, *read], [*distributions, *distribution]
        if self.context is not None:
            parts.append(self.context(c_BCE, views.hours_B1, views.weekdays_B1))
        if self.features.statistics:
            assert views.statistics_BCF is not None
            parts.append(views.statistics_BCF)
        if self.prices is not None:
            distributions.append(self.prices(views.candidate_prices_BC, views.history_prices_BH))
        click, conversion, spend = self.tower(parts, distributions)
        if self.fusion is not None and not self.training:
            assert views.confidences_BC is not None
            click = click + self.fusion(click, views.confidences_BC)
        return Logits(click, conversion, spend, user_BE)

    def with_position(self, logits: Logits) -> Logits:
        """Logits as seen by a user who reads the list from the top (Joachims et al., "Unbiased learning-to-rank")."""
        if self.position is None:
            return logits
        place = torch.arange(logits.click.shape[1], device=logits.click.device).clamp(max=_NUM_POSITIONS - 1)
        return logits._replace(click=logits.click + self.position[place])

    def _attend(
        self,
        attention: TargetAttention,
        others_BHE: Tensor,
        bias_BHA: Tensor,
        c_BCE: Tensor,
        similarity_BSHC: Tensor | None,
    ) -> list[Tensor]:
        read_BCE, mass_BCA = attention(c_BCE, others_BHE, bias_BHA, similarity_BSHC)
        return [read_BCE, c_BCE * read_BCE, *([mass_BCA] if self.features.evidence else [])]

    def _read_inferred(self, views: Views) -> tuple[list[Tensor], list[Tensor]]:
        scores_BK, similarity_BSKC = views.scores_BK, views.inferred_similarity_BSKC
        assert scores_BK is not None
        assert views.inferred_BKE is not None
        mask_BK = (scores_BK > 0).to(scores_BK.dtype)
        # Adding log confidence to a logit multiplies the attention weight by the confidence.
        bias_BK = torch.log(scores_BK.clamp(min=1e-6)) + (1 - mask_BK) * MASKED
        c_BCE = views.candidates_BCE
        read = self._attend(self.inferred_attention, views.inferred_BKE, bias_BK.unsqueeze(-1), c_BCE, similarity_BSKC)
        if similarity_BSKC is None:
            return read, []
        return read, [self.inferred_histogram(similarity_BSKC, mask_BK, scores_BK[:, None, None])]

    def forward(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """The outputs of `spec.output_specs`, each [B, C]."""
        return self.calibrated(self.score_views(self._views(inputs)))

    def calibrated(self, logits: Logits) -> tuple[Tensor, ...]:
        """Probabilities, score and, with a value head, expected revenue from logits."""
        (click_scale, click_shift), (order_scale, order_shift) = self.calibration.unbind(0)
        click = torch.sigmoid(click_scale * logits.click + click_shift)
        order = torch.sigmoid(order_scale * order_logit(logits) + order_shift)
        score = click + self.order_weight * order
        if logits.spend is None:
            return click, order, score
        value = order * torch.exp(logits.spend) * self.usual_order
        return click, order, score + self.value_weight * value, value

    def _views(self, inputs: Mapping[str, Tensor]) -> Views:
        sides = {side: side_fields(inputs, side) for side in ("candidate", "history", "inferred")}
        if self.lens is not None:
            for fields in sides.values():
                if "vectors" in fields:
                    fields["vectors"] = self.lens(fields["vectors"])
        similar = inferred_similar = None
        if self.features.similarity:
            vectors = {side: fields["vectors"] for side, fields in sides.items() if "vectors" in fields}
            similar = similarities(vectors["candidate"], vectors["history"], self.aspects)
            if self.features.inferred:
                inferred_similar = similarities(vectors["candidate"], vectors["inferred"], self.aspects[:1])
        return Views(
            candidates_BCE=self.items(sides["candidate"]),
            history_BHE=self.items(sides["history"]),
            history_mask_BH=(inputs["history_ids"] > 0).to(torch.float32),
            ages_s_BH=inputs.get("history_ages_s"),
            types_BH=inputs.get("history_types"),
            similarity_BSHC=similar,
            inferred_BKE=self.items(sides["inferred"]) if self.features.inferred else None,
            scores_BK=inputs.get("inferred_scores"),
            inferred_similarity_BSKC=inferred_similar,
            confidences_BC=inputs.get("candidate_confidences"),
            candidate_prices_BC=inputs.get("candidate_price_buckets"),
            history_prices_BH=inputs.get("history_price_buckets"),
            hours_B1=inputs.get("context_hour"),
            weekdays_B1=inputs.get("context_weekday"),
            statistics_BCF=inputs.get("candidate_statistics"),
        )


def order_logit(logits: Logits) -> Tensor:
    """Logit of P(order) = P(click) P(order | click).

    With logits a and b: 1 / p = (1 + exp(-a)) (1 + exp(-b)), so (1 - p) / p = exp(-a) (1 + (1 + exp(a)) exp(-b)), whose
    logarithm is -a + softplus(softplus(a) - b).
    """
    return logits.click - softplus(softplus(logits.click) - logits.conversion)


def side_fields(inputs: Mapping[str, Tensor], side: str) -> dict[str, Tensor]:
    """The item fields of one side of a feed."""
    names = ("ids", "categories", "brands", "price_buckets", "vectors")
    return {name: inputs[f"{side}_{name}"] for name in names if f"{side}_{name}" in inputs}


def similarities(candidates_BCD: Tensor, others_BHD: Tensor, aspects: Sequence[int]) -> Tensor:
    """Cosines of each aspect, [B, S, H, C]; what the vectors hold beyond these aspects is not looked at."""
    bounds = pairwise(accumulate(aspects, initial=0))
    found = [others_BHD[..., a:b] @ candidates_BCD[..., a:b].transpose(-1, -2) for a, b in bounds]
    joined = torch.cat(found, 1)
    return joined.view(joined.shape[0], len(aspects), -1, joined.shape[2])


def _table(rows: int, width: int) -> nn.Embedding:
    table = nn.Embedding(rows, width)
    nn.init.normal_(table.weight, std=_ID_STD)
    return table
