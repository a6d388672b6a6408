"""The denoiser: a bidirectional transformer over semantic-id tokens.

Shape letters: B sequences, T positions, L levels of the semantic id, N items, D width, V length of the
knowledge vector, P its principal components, K codes of a level.

What is notable:
- One position per item: its L code tokens are summed, so attention is L times shorter; each token is masked by itself.
- A whole item also brings its knowledge vector; a partly masked one does not (the vector would tell the hidden codes).
- Input and output share their item vectors: codes + projected knowledge. An unseen item has one as good as any other.
- A linear shortcut leads from the mean of the visible items to every position: where behaviours are few it learns
  faster than attention and reaches items by knowledge alone.
- Code embeddings start at the centroids of the knowledge vectors that carry the code.
- Each visible behaviour also answers for itself (`associations.py`); the transformer learns what that leaves open.
- Heads return log-odds against the prior: score(item) = sum_l log p(code_l) - log P(code_l) + log P(item) is
  sum_l h.E_l[code_l] + log P(item), a plain matrix product over the whole catalogue.
"""

import math

import numpy as np
import torch
from torch import Tensor, nn

from contracts.config import Config
from contracts.tables import EVENT_TYPES
from models.behavior.associations import Associations
from models.behavior.backbone import Architecture, Pretrained, build_backbone, read_architecture
from models.behavior.catalogue import Catalogue, FloatArray, IntArray
from models.behavior.config import BehaviorConfig, NetworkConfig
from models.behavior.tensors import Batch

_NUM_AGE_BUCKETS = 26
_MINUTE_S = 60.0
_SHORTCUT_START = 0.2
"""Share of the identity that the shortcut starts from: items like those seen are a little likelier."""


class NetworkSpec(Config):
    """All that is needed to rebuild the network before its weights are loaded."""

    network: NetworkConfig
    """Sizes of the transformer."""
    code_sizes: tuple[int, ...]
    """Codes per level, K_l."""
    vector_length: int
    """Length d of the knowledge vectors."""
    max_length: int
    """Positions T at most."""
    num_event_types: int
    """Event types, without the `none` of masked and empty positions."""
    architecture: Architecture | None = None
    """Configuration of the pretrained model whose blocks are used; None: the room's own."""


class Denoiser(nn.Module):
    """Predicts masked behaviours from visible ones."""

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        size = spec.network
        width, components = size.dimension, min(spec.vector_length, size.dimension)
        self.spec = spec
        self.register_buffer("center", torch.zeros(spec.vector_length))
        self.register_buffer("rotation", torch.zeros(spec.vector_length, components))
        self.code_embeddings = nn.ModuleList(nn.Embedding(k + 1, width) for k in spec.code_sizes)
        self.mask_embeddings = nn.Parameter(torch.randn(len(spec.code_sizes), width) * 0.02)
        self.knowledge = nn.Linear(components, width, bias=False)
        self.positions = nn.Embedding(spec.max_length, width)
        self.ages = nn.Embedding(_NUM_AGE_BUCKETS, width)
        self.event_types = nn.Embedding(spec.num_event_types + 1, width)
        self.input_norm = nn.LayerNorm(width)
        self.input_dropout = nn.Dropout(size.dropout)
        self.backbone = build_backbone(size, spec.max_length, spec.architecture)
        self.output = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width))
        self.mean_norm = nn.LayerNorm(width)
        self.shortcut = nn.Linear(width, width, bias=False)
        self.associations = Associations()

    @torch.no_grad()
    def start_from(self, catalogue: Catalogue) -> None:
        """Fits the principal components, starts the code embeddings at the centroids of their knowledge vectors, and
        loads the pretrained blocks where there are any."""
        center, rotation = principal_components(catalogue.vectors, self.knowledge.in_features)
        self.get_buffer("center").copy_(torch.from_numpy(center))
        self.get_buffer("rotation").copy_(torch.from_numpy(rotation))
        nn.init.eye_(self.knowledge.weight)
        nn.init.eye_(self.shortcut.weight).mul_(_SHORTCUT_START)
        residual = self.project(torch.from_numpy(catalogue.vectors)) @ self.knowledge.weight.T
        for level, embedding in enumerate(self._code_embeddings()):
            codes = torch.from_numpy(catalogue.codes[:, level])
            centroids = _centroids(residual, codes, embedding.num_embeddings)
            embedding.weight.copy_(centroids)
            residual = residual - centroids[codes]
        for added in (self.positions, self.ages, self.event_types):
            nn.init.normal_(added.weight, std=0.1)
        if isinstance(self.backbone, Pretrained):
            self.backbone.load_pretrained()

    def project(self, vectors_nv: Tensor) -> Tensor:
        """Principal components of knowledge vectors, [N, P], mean square 1 on the catalogue they were fitted to."""
        return (vectors_nv - self.get_buffer("center")) @ self.get_buffer("rotation")

    def known_codes(self, codes_nl: Tensor) -> Tensor:
        """Codes with those of no known code word replaced by the level's `unknown` code (embedding 0)."""
        sizes = torch.tensor(self.spec.code_sizes, device=codes_nl.device)
        return torch.where((codes_nl >= 0) & (codes_nl < sizes), codes_nl, sizes)

    def item_vectors(self, codes_nl: Tensor, components_np: Tensor) -> Tensor:
        """The shared input and output vectors of items, [N, D]."""
        codes_nd = torch.stack([e(codes_nl[:, i]) for i, e in enumerate(self.code_embeddings)]).sum(0)
        vectors_nd: Tensor = codes_nd + self.knowledge(components_np)
        return vectors_nd

    def encode(self, items_btd: Tensor, codes_btl: Tensor, masked_btl: Tensor, batch: Batch) -> Tensor:
        """Hidden states, [B, T, D].

        Args:
            items_btd: vectors of the items, from `item_vectors`.
            codes_btl: their codes, from `known_codes`.
            masked_btl: which tokens are hidden; the event type of a wholly masked item is hidden with it.
            batch: event types, ages and padding; positions count from the right end.
        """
        x_btd = self._tokens(items_btd, codes_btl, masked_btl)
        from_end_t = torch.arange(x_btd.shape[1] - 1, -1, -1, device=x_btd.device)
        seen_bt = torch.where(masked_btl.all(-1), 0, batch.event_types_bt)
        x_btd = x_btd + self.positions(from_end_t) + self.ages(_age_bucket(batch.ages_bt)) + self.event_types(seen_bt)
        x_btd = self.input_dropout(self.input_norm(x_btd))
        hidden_btd: Tensor = self.output(self.backbone(x_btd, batch.valid_bt))
        whole_bt = (batch.valid_bt & ~masked_btl.any(-1)).to(items_btd.dtype)
        mean_bd = torch.einsum("bt,btd->bd", whole_bt, items_btd) / whole_bt.sum(1, keepdim=True).clamp_min(1)
        shortcut_bd: Tensor = self.shortcut(self.input_dropout(self.mean_norm(mean_bd)))
        return (hidden_btd + shortcut_bd[:, None]) / math.sqrt(self.spec.network.dimension)

    def code_log_odds(self, hidden_md: Tensor, level: int) -> Tensor:
        """log p(code | context) - log P(code) up to a constant, [M, K_l]."""
        weights = self._code_embeddings()[level].weight[: self.spec.code_sizes[level]]
        return hidden_md @ weights.T

    def _tokens(self, items_btd: Tensor, codes_btl: Tensor, masked_btl: Tensor) -> Tensor:
        parts = [
            torch.where(masked_btl[..., i, None], self.mask_embeddings[i], embedding(codes_btl[..., i]))
            for i, embedding in enumerate(self.code_embeddings)
        ]
        return torch.where(masked_btl.any(-1, keepdim=True), torch.stack(parts).sum(0), items_btd)

    def _code_embeddings(self) -> list[nn.Embedding]:
        return [module for module in self.code_embeddings if isinstance(module, nn.Embedding)]


def build_denoiser(catalogue: Catalogue, config: BehaviorConfig) -> Denoiser:
    """The network for a catalogue, ready to be trained; the same for the same seed.

    Raises:
        UserError: the pretrained checkpoint is not usable.
    """
    spec = NetworkSpec(
        network=config.network,
        code_sizes=code_sizes(catalogue.codes),
        vector_length=catalogue.vectors.shape[1],
        max_length=config.max_history,
        num_event_types=len(EVENT_TYPES),
        architecture=read_architecture(config.network, config.max_history),
    )
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        denoiser = Denoiser(spec)
        denoiser.start_from(catalogue)
    return denoiser


def principal_components(vectors: FloatArray, num_components: int) -> tuple[FloatArray, FloatArray]:
    """Mean [d] and rotation [d, P] onto the first principal components, scaled to mean square 1 per component."""
    center = vectors.mean(axis=0)
    moments = (vectors - center).T @ (vectors - center) / len(vectors)
    values, directions = np.linalg.eigh(moments.astype(np.float64))
    rotation = directions[:, ::-1][:, :num_components]
    rotation = rotation * np.sign(rotation[np.abs(rotation).argmax(axis=0), np.arange(num_components)])
    mean_square = max(float(values[::-1][:num_components].mean()), 1e-12)
    return center, (rotation / mean_square**0.5).astype(np.float32)


def code_sizes(codes: IntArray) -> tuple[int, ...]:
    """Codes per level that a table of semantic ids [N, L] needs."""
    return tuple(int(size) for size in codes.max(axis=0) + 1)


def _age_bucket(ages_s: Tensor) -> Tensor:
    """Bucket 0 up to a minute, then one per doubling."""
    return torch.log2(1 + ages_s.clamp_min(0) / _MINUTE_S).long().clamp_max(_NUM_AGE_BUCKETS - 1)


def _centroids(vectors_nd: Tensor, codes_n: Tensor, num_codes: int) -> Tensor:
    """Mean vector per code, zero for codes that no item has, [num_codes, D]."""
    sums = torch.zeros(num_codes, vectors_nd.shape[1]).index_add_(0, codes_n, vectors_nd)
    counts = torch.zeros(num_codes).index_add_(0, codes_n, torch.ones(len(codes_n)))
    return sums / counts.clamp_min(1)[:, None]
