"""The ranker's network: a DIN that knows what items mean.

Notable:
- item vectors are inputs, so a new item needs no new model;
- an item is the sum of what is known of it: id (dropped out in training), category, brand, price and a
  projection of its knowledge vector;
- target attention over the history, steered by knowledge similarity, age and kind of each behavior;
- a histogram of the similarities of each aspect, which needs no training per item at all;
- a summary of the user without a candidate, trained against the clicks of the whole batch;
- the same readings of the inferred behaviors, weighted by their confidence;
- how confident the behavior model is in the candidate itself, added to the click's logit in the end
  (`confidence_fusion.py`);
- behind switches that are off: hour and weekday, popularity and newness of each candidate;
- click and order heads, the order as click x conversion (ESMM, arXiv 1804.07931), each with an affine
  calibration;
- where asked for, a third head in that chain: what an order brings (`RankerConfig.value_weight`).

Shape legend: B batch, C candidates, H history, K inferred, D vector, E width, S aspects, F features, M
memories, A heads, G gates.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.ranker.config import RankerConfig
from models.ranker.inputs.input_table import NUM_STATISTICS
from models.ranker.inputs.item_encoder import EncodedItems
from models.ranker.network.behavior_counts import BehaviorCounts
from models.ranker.network.confidence_fusion import ConfidenceFusion
from models.ranker.network.item_tower import ItemTower
from models.ranker.network.list_composition import ListComposition
from models.ranker.network.request_context import PageContext, RequestMoment
from models.ranker.network.score_tower import RankerLogits, ScoreTower, compute_order_logit
from models.ranker.network.target_attention import (
    MASKED,
    BehaviorBias,
    SimilarityHistogram,
    TargetAttention,
    UserSummary,
)
from models.ranker.network.vector_similarities import (
    NUM_LIST_ASPECTS,
    compare_candidates,
    compare_with_context,
    compute_similarities,
)

_NUM_HEADS = 4
"""Divides every allowed width."""
# Weightings of the behaviors by age and kind; each has a histogram of its own.
_NUM_GATES = 4
_NUM_COUNT_GATES = 6
"""Counters of behaviors: clicks, carts and orders, each once with a slow and once with a steep decay."""
_NUM_POSITIONS = 64
"""Places on the page that have a bias of their own; all further ones share the last."""


class RepresentedLists(NamedTuple):
    """A batch after its items have been represented; what a switch turned off is None."""

    candidates_BCE: Tensor
    history_BHE: Tensor
    history_mask_BH: Tensor
    """1 where there is a behavior, else 0."""
    inferred_BKE: Tensor | None
    similarity_BSHC: Tensor | None
    inferred_similarity_BSKC: Tensor | None
    """Of the first aspect alone."""
    inputs: Mapping[str, Tensor]
    """Graph inputs that are no fields of items, by name (`inputs/input_table.py`)."""
    candidate_mask_BC: Tensor
    """1 where there is a candidate, else 0."""
    candidate_fields: Mapping[str, Tensor]
    """Codes of the candidates by field, [B, C] each."""
    history_fields: Mapping[str, Tensor]
    """The same of the history, [B, H] each."""
    list_similarity_BSCC: Tensor | None
    """Cosines between candidates."""
    own_similarity_BSC: Tensor | None
    """Cosine of each candidate with itself: 1, or 0 where it has no vector."""
    context_similarity_BSC: Tensor | None
    """Cosines of candidates and what the page is about, by aspect."""


class Ranker(nn.Module):
    """The network; `compute_logits` for training, `forward` for the exported graph."""

    calibration: Tensor
    usual_order: Tensor

    def __init__(self, config: RankerConfig, table_sizes: Mapping[str, int], aspects: Sequence[int]) -> None:
        """Builds the network.

        Args:
            config: Its switches and sizes.
            table_sizes: Rows of each embedding table.
            aspects: Lengths of the aspects of an item vector; the first represents the item, all are
                compared.
        """
        super().__init__()
        self.features, self.order_weight = config.features, config.order_weight
        self.value_weight = config.value_weight
        self.aspects = tuple(aspects)
        features, width = config.features, config.dim
        self.scale = width**-0.5
        num_aspects = len(self.aspects) if features.similarity else 0
        num_features, num_distribution = 3 * width, 0
        evidence_width = _NUM_HEADS if features.evidence else 0
        # The order in which the parts are made fixes their random first weights.
        self.items = ItemTower(config, table_sizes, self.aspects[0])
        self.attention = TargetAttention(width, _NUM_HEADS, num_aspects=num_aspects)
        num_features += evidence_width
        self.user = UserSummary(width) if features.user_summary else None
        if self.user is not None:
            num_features += width + 1
        # Without age and kind all gates would be alike.
        num_gates = _NUM_GATES if features.recency else 1
        num_count_gates = _NUM_COUNT_GATES if features.counts else 0
        self.bias = BehaviorBias(
            _NUM_HEADS,
            UserSummary.NUM_MEMORIES,
            [num_gates] * num_aspects,
            num_count_gates=num_count_gates,
            recency=features.recency,
        )
        self.composition = self.counts = self.count_histogram = None
        if features.list_composition:
            self.composition = ListComposition(
                list(self.items.tables), num_aspects=NUM_LIST_ASPECTS if features.similarity else 0
            )
            num_distribution += self.composition.width
        if features.counts:
            self.counts = BehaviorCounts(
                list(self.items.tables), num_gates=num_count_gates, num_prices=table_sizes["price"]
            )
            num_distribution += self.counts.width
        if features.counts and features.similarity:
            self.count_histogram = SimilarityHistogram(num_aspects=1, num_gates=num_count_gates)
            num_distribution += self.count_histogram.width
        if features.similarity:
            self.histogram = SimilarityHistogram(num_aspects=num_aspects, num_gates=num_gates)
            num_distribution += self.histogram.width
        if features.inferred:
            self.inferred_attention = TargetAttention(width, _NUM_HEADS, num_aspects=min(num_aspects, 1))
            num_features += 2 * width + evidence_width
        if features.inferred and features.similarity:
            self.inferred_histogram = SimilarityHistogram(num_aspects=1, num_gates=1)
            num_distribution += self.inferred_histogram.width
        self.moment = RequestMoment(width) if features.moment else None
        num_features += width if features.moment else 0
        self.context = PageContext(width, num_aspects=num_aspects) if features.context else None
        if self.context is not None:
            num_features += width
            num_distribution += self.context.width
        num_features += NUM_STATISTICS if features.statistics else 0
        self.tower = ScoreTower(
            num_features, num_distribution, width, config.dropout, has_value_head=config.has_value_head
        )
        # Fitted after the training, on other lists.
        self.fusion = ConfidenceFusion() if features.inferred else None
        # What a click owes to the place on the page: learned, and left out of the graph.
        self.position = nn.Parameter(torch.zeros(_NUM_POSITIONS))
        # Rows: click, order. Columns: scale, shift of the logit.
        self.register_buffer("calibration", torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
        # Revenue of an order; what one candidate's order brings is learned relative to it.
        self.register_buffer("usual_order", torch.ones(()))

    def compute_logits(self, lists: RepresentedLists) -> RankerLogits:
        """Reads the behaviors of represented lists and scores their candidates."""
        read_features, distributions, user_BE = self.read_lists(lists)
        click, conversion, spend = self.tower(read_features, distributions)
        # In training it would learn from clicks that the behavior model has learned from, too.
        if self.fusion is not None and not self.training:
            click = click + self.fusion(click, lists.inputs["candidate_confidences"])
        return RankerLogits(click, conversion, spend, user_BE)

    def read_lists(self, lists: RepresentedLists) -> tuple[list[Tensor], list[Tensor], Tensor | None]:
        """What is read of candidates: features [B, C, F], distributions [B, F, C], and the user [B, E]."""
        candidates_BCE, mask_BH, inputs = lists.candidates_BCE, lists.history_mask_BH, lists.inputs
        bias_BHA, bias_BHM, gates_BHG, count_gates_BHG = self.bias(
            mask_BH, inputs.get("history_ages_s"), inputs.get("history_types")
        )
        read_features = [
            candidates_BCE,
            *self._attend_to_behaviors(
                self.attention, lists.history_BHE, bias_BHA, candidates_BCE, lists.similarity_BSHC
            ),
        ]
        distributions, user_BE = [], None
        if self.user is not None:
            user_BE = self.user(lists.history_BHE, mask_BH, bias_BHM)
            # How well user and candidate match, dimension by dimension and in all.
            match_BCE = candidates_BCE * user_BE.unsqueeze(1)
            read_features += [match_BCE, match_BCE.sum(-1, keepdim=True) * self.scale]
        if lists.similarity_BSHC is not None:
            # Gates are factors on counts, so they must be positive.
            gates_BGH = torch.exp(gates_BHG).transpose(1, 2)
            gates_BSGH = gates_BGH.reshape(gates_BGH.shape[0], len(self.aspects), -1, gates_BGH.shape[2])
            distributions.append(self.histogram(lists.similarity_BSHC, mask_BH, gates_BSGH))
        if self.composition is not None:
            distributions.append(
                self.composition(
                    lists.list_similarity_BSCC,
                    lists.own_similarity_BSC,
                    lists.candidate_fields,
                    lists.candidate_mask_BC,
                )
            )
        if self.counts is not None:
            count_gates_BGH = torch.exp(count_gates_BHG).transpose(1, 2)
            distributions.append(
                self.counts(
                    lists.candidate_fields, lists.history_fields, count_gates_BGH, lists.candidate_mask_BC
                )
            )
            if self.count_histogram is not None:
                assert lists.similarity_BSHC is not None
                first_aspect = lists.similarity_BSHC[:, :1]
                distributions.append(
                    self.count_histogram(first_aspect, mask_BH, count_gates_BGH.unsqueeze(1))
                )
        if self.features.inferred:
            inferred_features, inferred_distributions = self._read_inferred_behaviors(lists)
            read_features += inferred_features
            distributions += inferred_distributions
        if self.moment is not None:
            read_features.append(
                self.moment(candidates_BCE, inputs["context_hour"], inputs["context_weekday"])
            )
        if self.context is not None:
            in_scene_BCE, readings_BFC = self.context(
                candidates_BCE,
                inputs["context_scene"],
                lists.context_similarity_BSC,
                lists.candidate_mask_BC,
            )
            read_features.append(in_scene_BCE)
            distributions.append(readings_BFC)
        if self.features.statistics:
            read_features.append(inputs["candidate_statistics"])
        return read_features, distributions, user_BE

    def add_position_bias(self, logits: RankerLogits) -> RankerLogits:
        """Logits as seen by a user who reads from the top (Joachims et al., "Unbiased learning-to-rank")."""
        num_candidates = logits.click.shape[1]
        position = torch.arange(num_candidates, device=logits.click.device).clamp(max=_NUM_POSITIONS - 1)
        return logits._replace(click=logits.click + self.position[position])

    def _attend_to_behaviors(
        self,
        attention: TargetAttention,
        behaviors_BHE: Tensor,
        bias_BHA: Tensor,
        candidates_BCE: Tensor,
        similarity_BSHC: Tensor | None,
    ) -> list[Tensor]:
        read_BCE, mass_BCA = attention(candidates_BCE, behaviors_BHE, bias_BHA, similarity_BSHC)
        return [read_BCE, candidates_BCE * read_BCE, *([mass_BCA] if self.features.evidence else [])]

    def _read_inferred_behaviors(self, lists: RepresentedLists) -> tuple[list[Tensor], list[Tensor]]:
        """Features and distributions of the inferred behaviors."""
        scores_BK, similarity_BSKC = lists.inputs["inferred_scores"], lists.inferred_similarity_BSKC
        assert lists.inferred_BKE is not None
        mask_BK = (scores_BK > 0).to(scores_BK.dtype)
        # Adding log confidence to a logit multiplies the attention weight by the confidence.
        bias_BK = torch.log(scores_BK.clamp(min=1e-6)) + (1 - mask_BK) * MASKED
        read_features = self._attend_to_behaviors(
            self.inferred_attention,
            lists.inferred_BKE,
            bias_BK.unsqueeze(-1),
            lists.candidates_BCE,
            similarity_BSKC,
        )
        if similarity_BSKC is None:
            return read_features, []
        return read_features, [self.inferred_histogram(similarity_BSKC, mask_BK, scores_BK[:, None, None])]

    def forward(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """The outputs of `ranker_spec.list_graph_outputs`, each [B, C]."""
        return self.calibrate_outputs(self.compute_logits(self._represent_inputs(inputs)))

    def calibrate_outputs(self, logits: RankerLogits) -> tuple[Tensor, ...]:
        """Probabilities, score and, with a value head, expected revenue from logits."""
        (click_scale, click_shift), (order_scale, order_shift) = self.calibration.unbind(0)
        click = torch.sigmoid(click_scale * logits.click + click_shift)
        order = torch.sigmoid(order_scale * compute_order_logit(logits) + order_shift)
        score = click + self.order_weight * order
        if logits.spend is None:
            return click, order, score
        assert self.value_weight is not None
        value = order * torch.exp(logits.spend) * self.usual_order
        return click, order, score + self.value_weight * value, value

    def _represent_inputs(self, inputs: Mapping[str, Tensor]) -> RepresentedLists:
        candidates, history, inferred = (
            select_item_fields(inputs, side) for side in ("candidate", "history", "inferred")
        )
        similarity_BSHC = inferred_similarity_BSKC = None
        list_similarity_BSCC = own_similarity_BSC = context_similarity_BSC = None
        if self.features.similarity:
            if self.features.context:
                context_similarity_BSC = compare_with_context(
                    candidates["vectors"], inputs["context_vectors"], self.aspects
                )
            if self.features.list_composition:
                list_similarity_BSCC, own_similarity_BSC = compare_candidates(
                    candidates["vectors"], self.aspects
                )
            similarity_BSHC = compute_similarities(candidates["vectors"], history["vectors"], self.aspects)
            if self.features.inferred:
                inferred_similarity_BSKC = compute_similarities(
                    candidates["vectors"], inferred["vectors"], self.aspects[:1]
                )
        candidates_BCE = self.items(candidates)
        return RepresentedLists(
            candidates_BCE=candidates_BCE,
            history_BHE=self.items(history),
            history_mask_BH=(inputs["history_ids"] > 0).to(torch.float32),
            inferred_BKE=self.items(inferred) if self.features.inferred else None,
            similarity_BSHC=similarity_BSHC,
            inferred_similarity_BSKC=inferred_similarity_BSKC,
            inputs=inputs,
            # Every candidate of a request is one; the exporter would compute a shape for `ones_like`.
            candidate_mask_BC=candidates_BCE[..., 0] * 0 + 1,
            candidate_fields=candidates,
            history_fields=history,
            list_similarity_BSCC=list_similarity_BSCC,
            own_similarity_BSC=own_similarity_BSC,
            context_similarity_BSC=context_similarity_BSC,
        )


def select_item_fields(inputs: Mapping[str, Tensor], side: str) -> dict[str, Tensor]:
    """The item fields of one side of a feed."""
    return {field: inputs[f"{side}_{field}"] for field in EncodedItems._fields if f"{side}_{field}" in inputs}
