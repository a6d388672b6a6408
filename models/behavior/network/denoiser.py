"""The denoiser: a bidirectional transformer over semantic-id tokens.

Letters of its own: P principal components of the knowledge vectors, M masked positions, flat.

What is notable:
- One position per item: its L code tokens are summed, so attention is L times shorter. Each token is masked
  by itself.
- A whole item also brings its knowledge vector. A partly masked one does not: the vector would tell the
  hidden codes.
- Input and output share their item vectors: codes + projected knowledge. An unseen item has one as good as
  any other.
- A linear shortcut leads from the mean of the visible items to every position. Where behaviors are few it
  learns faster than attention and reaches items by knowledge alone.
- Code embeddings start at the centroids of the knowledge vectors that carry the code.
- Each visible behavior also answers for itself (`associations.py`). The transformer learns what that leaves
  open.
- Heads return log-odds against the prior: score(item) = sum_l log p(code_l) - log P(code_l) + log P(item) is
  sum_l h.E_l[code_l] + log P(item), a plain matrix product over the whole catalogue.
"""

import math

import numpy as np
import torch
from torch import Tensor, nn

from contracts.array_types import FloatArray, IntArray
from contracts.config import Config
from contracts.tables import EVENT_TYPES
from models.behavior.config import BehaviorConfig, NetworkConfig
from models.behavior.decoding.associations import Associations
from models.behavior.network.backbone import (
    Architecture,
    PretrainedBackbone,
    build_backbone,
    read_architecture,
)
from models.behavior.sequences.behavior_catalogue import BehaviorCatalogue
from models.behavior.sequences.sequence_tensors import SequenceBatch

_NUM_AGE_BUCKETS = 26
_MINUTE_S = 60.0
_SHORTCUT_START = 0.2
"""Share of the identity that the shortcut starts from: items like those seen are a little likelier."""


class DenoiserSpec(Config):
    """All that is needed to rebuild the network before its weights are loaded."""

    network: NetworkConfig
    """Sizes of the transformer."""
    code_sizes: tuple[int, ...]
    """Codes per level, V_l."""
    vector_length: int
    """Length D of the knowledge vectors."""
    max_length: int
    """Positions T at most."""
    num_event_types: int
    """Event types, without the `none` of masked and empty positions."""
    architecture: Architecture | None = None
    """Configuration of the pretrained model whose blocks are used; None: blocks trained from nothing."""


class Denoiser(nn.Module):
    """Predicts masked behaviors from visible ones."""

    def __init__(self, spec: DenoiserSpec) -> None:
        super().__init__()
        network, width = spec.network, spec.network.dimension
        num_components = min(spec.vector_length, width)
        self.spec = spec
        self.register_buffer("center", torch.zeros(spec.vector_length))
        self.register_buffer("rotation", torch.zeros(spec.vector_length, num_components))
        self.code_embeddings = nn.ModuleList(
            nn.Embedding(num_codes + 1, width) for num_codes in spec.code_sizes
        )
        self.mask_embeddings = nn.Parameter(torch.randn(len(spec.code_sizes), width) * 0.02)
        self.knowledge = nn.Linear(num_components, width, bias=False)
        self.positions = nn.Embedding(spec.max_length, width)
        self.ages = nn.Embedding(_NUM_AGE_BUCKETS, width)
        self.event_types = nn.Embedding(spec.num_event_types + 1, width)
        self.input_norm = nn.LayerNorm(width)
        self.input_dropout = nn.Dropout(network.dropout)
        self.backbone = build_backbone(network, spec.max_length, spec.architecture)
        self.output = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width))
        self.mean_norm = nn.LayerNorm(width)
        self.shortcut = nn.Linear(width, width, bias=False)
        self.associations = Associations()

    @torch.no_grad()
    def start_from_catalogue(self, catalogue: BehaviorCatalogue) -> None:
        """Initializes what depends on the items.

        Fits the principal components and starts the code embeddings at the centroids of their knowledge
        vectors. Loads the pretrained blocks where there are any.
        """
        center_D, rotation_DP = fit_principal_components(catalogue.vectors, self.knowledge.in_features)
        self.get_buffer("center").copy_(torch.from_numpy(center_D))
        self.get_buffer("rotation").copy_(torch.from_numpy(rotation_DP))
        nn.init.eye_(self.knowledge.weight)
        nn.init.eye_(self.shortcut.weight).mul_(_SHORTCUT_START)
        residual_IE = self.project_vectors(torch.from_numpy(catalogue.vectors)) @ self.knowledge.weight.T
        for level, embedding in enumerate(self._list_code_embeddings()):
            codes_I = torch.from_numpy(catalogue.codes[:, level])
            centroids_VE = _average_per_code(residual_IE, codes_I, embedding.num_embeddings)
            embedding.weight.copy_(centroids_VE)
            residual_IE = residual_IE - centroids_VE[codes_I]
        for embedding in (self.positions, self.ages, self.event_types):
            nn.init.normal_(embedding.weight, std=0.1)
        if isinstance(self.backbone, PretrainedBackbone):
            self.backbone.load_pretrained()

    def project_vectors(self, vectors_ID: Tensor) -> Tensor:
        """Projects knowledge vectors onto principal components, [I, P], of mean square 1."""
        return (vectors_ID - self.get_buffer("center")) @ self.get_buffer("rotation")

    def replace_unknown_codes(self, codes_IL: Tensor) -> Tensor:
        """Replaces codes that no item of training had by the level's `unknown` code (embedding 0)."""
        code_sizes = torch.tensor(self.spec.code_sizes, device=codes_IL.device)
        return torch.where((codes_IL >= 0) & (codes_IL < code_sizes), codes_IL, code_sizes)

    def embed_items(self, codes_IL: Tensor, components_IP: Tensor) -> Tensor:
        """Computes the shared input and output vectors of items, [I, E]."""
        code_vectors = [embedding(codes_IL[:, level]) for level, embedding in enumerate(self.code_embeddings)]
        items_IE: Tensor = torch.stack(code_vectors).sum(0) + self.knowledge(components_IP)
        return items_IE

    def encode_sequences(
        self, items_BTE: Tensor, codes_BTL: Tensor, is_masked_BTL: Tensor, batch: SequenceBatch
    ) -> Tensor:
        """Computes hidden states, [B, T, E].

        Args:
            items_BTE: vectors of the items, from `embed_items`.
            codes_BTL: their codes, from `replace_unknown_codes`.
            is_masked_BTL: which tokens are hidden; the event type of a wholly masked item is hidden with it.
            batch: event types, ages and padding; positions count from the right end.
        """
        x_BTE = self._embed_tokens(items_BTE, codes_BTL, is_masked_BTL)
        from_end_T = torch.arange(x_BTE.shape[1] - 1, -1, -1, device=x_BTE.device)
        visible_types_BT = torch.where(is_masked_BTL.all(-1), 0, batch.event_types_BT)
        x_BTE = x_BTE + self.positions(from_end_T) + self.ages(_bucket_ages(batch.ages_BT))
        x_BTE = self.input_dropout(self.input_norm(x_BTE + self.event_types(visible_types_BT)))
        hidden_BTE: Tensor = self.output(self.backbone(x_BTE, batch.is_valid_BT))
        is_whole_BT = (batch.is_valid_BT & ~is_masked_BTL.any(-1)).to(items_BTE.dtype)
        sum_BE = torch.einsum("bt,btd->bd", is_whole_BT, items_BTE)
        mean_BE = sum_BE / is_whole_BT.sum(1, keepdim=True).clamp_min(1)
        shortcut_BE: Tensor = self.shortcut(self.input_dropout(self.mean_norm(mean_BE)))
        # Scaled as in attention, so that the products with item vectors start small.
        return (hidden_BTE + shortcut_BE[:, None]) / math.sqrt(self.spec.network.dimension)

    def compute_code_log_odds(self, hidden_ME: Tensor, level: int) -> Tensor:
        """Computes log p(code | context) - log P(code) up to a constant, [M, V]."""
        weights_VE = self._list_code_embeddings()[level].weight[: self.spec.code_sizes[level]]
        return hidden_ME @ weights_VE.T

    def _embed_tokens(self, items_BTE: Tensor, codes_BTL: Tensor, is_masked_BTL: Tensor) -> Tensor:
        token_vectors = [
            torch.where(
                is_masked_BTL[..., level, None], self.mask_embeddings[level], embedding(codes_BTL[..., level])
            )
            for level, embedding in enumerate(self.code_embeddings)
        ]
        return torch.where(is_masked_BTL.any(-1, keepdim=True), torch.stack(token_vectors).sum(0), items_BTE)

    def _list_code_embeddings(self) -> list[nn.Embedding]:
        return [module for module in self.code_embeddings if isinstance(module, nn.Embedding)]


def build_denoiser(catalogue: BehaviorCatalogue, config: BehaviorConfig) -> Denoiser:
    """Builds the network for a catalogue, ready to be trained; the same for the same seed.

    Raises:
        UserError: the pretrained checkpoint is not usable.
    """
    spec = DenoiserSpec(
        network=config.network,
        code_sizes=count_codes(catalogue.codes),
        vector_length=catalogue.vectors.shape[1],
        max_length=config.max_history,
        num_event_types=len(EVENT_TYPES),
        architecture=read_architecture(config.network, config.max_history),
    )
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        denoiser = Denoiser(spec)
        denoiser.start_from_catalogue(catalogue)
    return denoiser


def fit_principal_components(vectors: FloatArray, num_components: int) -> tuple[FloatArray, FloatArray]:
    """Fits mean [D] and rotation [D, P] onto the first components, scaled to mean square 1 per component."""
    center_D = vectors.mean(axis=0)
    moments_DD = (vectors - center_D).T @ (vectors - center_D) / len(vectors)
    eigenvalues, directions_DD = np.linalg.eigh(moments_DD.astype(np.float64))
    rotation_DP = directions_DD[:, ::-1][:, :num_components]
    # The sign of an eigenvector is arbitrary: the largest entry is made positive.
    largest_P = np.abs(rotation_DP).argmax(axis=0)
    rotation_DP = rotation_DP * np.sign(rotation_DP[largest_P, np.arange(num_components)])
    mean_square = max(float(eigenvalues[::-1][:num_components].mean()), 1e-12)
    return center_D, (rotation_DP / mean_square**0.5).astype(np.float32)


def count_codes(codes: IntArray) -> tuple[int, ...]:
    """Counts the codes per level that a table of semantic ids [I, L] needs."""
    return tuple(int(size) for size in codes.max(axis=0) + 1)


def _bucket_ages(ages_s: Tensor) -> Tensor:
    """Bucket 0 up to a minute, then one per doubling."""
    return torch.log2(1 + ages_s.clamp_min(0) / _MINUTE_S).long().clamp_max(_NUM_AGE_BUCKETS - 1)


def _average_per_code(vectors_IE: Tensor, codes_I: Tensor, num_codes: int) -> Tensor:
    """Mean vector per code, zero for codes that no item has, [V, E]."""
    sums_VE = torch.zeros(num_codes, vectors_IE.shape[1]).index_add_(0, codes_I, vectors_IE)
    counts_V = torch.zeros(num_codes).index_add_(0, codes_I, torch.ones(len(codes_I)))
    return sums_VE / counts_V.clamp_min(1)[:, None]
