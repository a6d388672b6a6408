"""A generative recommender: the next item's semantic id by beam search (TIGER, Rajput et al., NeurIPS 2023).

Decoder only, of the behavior model's width and depth, over the codes of the history one after another. The
beam search is a fair one: keys and values of the history are computed once per user and shared by all beams,
only codes that lead to an item are followed, and the last step leaves out what the user has logged.

Shape letters: B users, S tokens, L levels, W beams, H heads, D width, K codes of a level, N items.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, scaled_dot_product_attention

from benchmarks.behavior.hidden_behaviors import LIST_LENGTH
from benchmarks.behavior.peers.log import NO_ITEM, PeerLog, Recommender
from benchmarks.behavior.peers.training import PeerConfig, train_peer_network
from contracts.array_types import BoolArray, IntArray

_DEAD = -1e9


class Tries(NamedTuple):
    """Which codes lead to an item: a level maps (prefix, code) to the next prefix, or to -1."""

    children: tuple[Tensor, ...]
    """Per level [prefixes, K]; the last level's prefixes are items."""

    @classmethod
    def build_tries(cls, codes: IntArray) -> "Tries":
        """The trie of unique codes [N, L]."""
        children_by_level, item_prefixes, num_prefixes = [], np.zeros(len(codes), np.int64), 1
        for level in range(codes.shape[1]):
            num_codes = int(codes[:, level].max()) + 1
            child_keys = item_prefixes * num_codes + codes[:, level]
            prefix_keys, next_prefixes = np.unique(child_keys, return_inverse=True)
            if level == codes.shape[1] - 1:
                assert len(prefix_keys) == len(codes), "semantic ids must be unique"
                next_prefixes = np.arange(len(codes))
            child_table = np.full((num_prefixes, num_codes), -1, dtype=np.int64)
            child_table[item_prefixes, codes[:, level]] = next_prefixes
            children_by_level.append(torch.from_numpy(child_table))
            item_prefixes, num_prefixes = next_prefixes, len(prefix_keys)
        return cls(tuple(children_by_level))


class Cache(NamedTuple):
    """Keys and values of a layer: history [B, H, S, D/H], codes so far [B, H, W, l, D/H]."""

    history: tuple[Tensor, Tensor]
    own: tuple[Tensor, Tensor] | None


class Layer(nn.Module):
    """A pre-norm block, causal in training, with cached keys and values in the search."""

    def __init__(self, config: PeerConfig) -> None:
        super().__init__()
        width = config.dimension
        self.heads, self.share = config.num_heads, config.dropout
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x_bsd: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Causal self-attention over whole sequences; returns the keys and values too."""
        query, key, value = self.split_heads(x_bsd)
        dropout_share = self.share if self.training else 0.0
        attended = scaled_dot_product_attention(query, key, value, dropout_p=dropout_share, is_causal=True)
        return self.finish_block(x_bsd, attended.transpose(1, 2).flatten(2)), (key, value)

    def advance_codes(self, x_bwd: Tensor, cache: Cache, valid_bs: Tensor) -> tuple[Tensor, Cache]:
        """One code per beam: attention to the history, shared by all beams, and to the beam's own codes."""
        query, key, value = self.split_heads(x_bwd)
        own_keys, own_values = key[:, :, :, None], value[:, :, :, None]
        if cache.own is not None:
            own_keys, own_values = (
                torch.cat([cache.own[0], own_keys], 3),
                torch.cat([cache.own[1], own_values], 3),
            )
        logit_scale = query.shape[-1] ** -0.5
        to_history = query @ cache.history[0].transpose(2, 3) * logit_scale
        to_history = to_history.masked_fill(~valid_bs[:, None, None], _DEAD)
        to_own = (query[:, :, :, None] * own_keys).sum(-1) * logit_scale
        weights = torch.cat([to_history, to_own], 3).softmax(3)
        history_length = to_history.shape[3]
        attended = weights[..., :history_length] @ cache.history[1] + (
            weights[..., history_length:, None] * own_values
        ).sum(3)
        return self.finish_block(x_bwd, attended.transpose(1, 2).flatten(2)), Cache(
            cache.history, (own_keys, own_values)
        )

    def split_heads(self, x_bsd: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, [B, H, S, D/H] each."""
        qkv_parts = self.qkv(self.norms[0](x_bsd)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return qkv_parts[0], qkv_parts[1], qkv_parts[2]

    def finish_block(self, x_bsd: Tensor, read_bsd: Tensor) -> Tensor:
        """Adds what was attended to, then the MLP."""
        x_bsd = x_bsd + self.dropout(self.out(read_bsd))
        finished_bsd: Tensor = x_bsd + self.dropout(self.mlp(self.norms[1](x_bsd)))
        return finished_bsd


class CodeDecoder(nn.Module):
    """Predicts each next code of a sequence of items."""

    def __init__(self, log: PeerLog, config: PeerConfig) -> None:
        super().__init__()
        width, num_levels = config.dimension, log.codes.shape[1]
        self.sizes = [int(num_codes) + 1 for num_codes in log.codes.max(axis=0)]
        self.register_buffer("codes", torch.from_numpy(log.codes))
        self.tokens = nn.ModuleList(nn.Embedding(num_codes, width) for num_codes in self.sizes)
        self.start = nn.Parameter(torch.randn(width) * 0.02)
        self.levels = nn.Embedding(num_levels + 1, width)
        self.places = nn.Embedding(log.histories.shape[1] + 1, width)
        for module in (*self.tokens, self.levels, self.places):
            nn.init.normal_(module.weight, std=0.02)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_layers))
        self.norm, self.dropout = nn.LayerNorm(width), nn.Dropout(config.dropout)
        self.heads = nn.ModuleList(nn.Linear(width, num_codes) for num_codes in self.sizes)

    def embed_codes(self, items_bt: Tensor) -> Tensor:
        """Start token and the codes of the items [B, T] one after another, [B, 1 + T L, D]."""
        codes_btl = self.get_buffer("codes")[items_bt.clamp_min(0)]
        token_vectors = torch.stack(
            [token_table(codes_btl[..., level]) for level, token_table in enumerate(self.tokens)], dim=2
        )
        token_vectors = (
            token_vectors + self.levels.weight[:-1] + self.places.weight[: items_bt.shape[1], None]
        )
        start_vectors = (self.start + self.levels.weight[-1]).expand(len(items_bt), 1, -1)
        return torch.cat([start_vectors, token_vectors.flatten(1, 2)], dim=1)


def train_generative_peer(log: PeerLog, config: PeerConfig, *, num_beams: int = LIST_LENGTH) -> Recommender:
    """Trained to name each next code; infers by beam search."""
    torch.manual_seed(config.seed)
    network = CodeDecoder(log, config)

    def compute_loss(histories: IntArray, _generator: torch.Generator) -> Tensor:
        return _compute_code_loss(network, torch.from_numpy(histories))

    beam_search = make_beam_search(network, log, num_beams=num_beams)
    train_peer_network(network, compute_loss, beam_search, log, config)
    return beam_search


def make_beam_search(network: CodeDecoder, log: PeerLog, *, num_beams: int) -> Recommender:
    """Lists of the `num_beams` likeliest items that the search finds."""
    code_tries = Tries.build_tries(log.codes)

    @torch.no_grad()
    def recommend_items(histories: IntArray, excluded: BoolArray) -> IntArray:
        network.eval()
        items_bt = torch.from_numpy(histories)
        hidden_bwd, caches, valid_bs = _read_history(network, items_bt)
        prefix_bw, score_bw = torch.zeros(len(items_bt), 1, dtype=torch.long), torch.zeros(len(items_bt), 1)
        for level, children in enumerate(code_tries.children):
            next_bwk = children[prefix_bw]
            gain_bwk = network.heads[level](network.norm(hidden_bwd)).log_softmax(-1)
            found_bwk = (score_bw[..., None] + gain_bwk).masked_fill(next_bwk < 0, _DEAD)
            if level == len(code_tries.children) - 1:
                is_excluded = torch.from_numpy(excluded).gather(1, next_bwk.clamp_min(0).flatten(1))
                is_logged = is_excluded.view_as(next_bwk)
                found_bwk = found_bwk.masked_fill(is_logged, _DEAD)
            num_kept = min(num_beams, found_bwk[0].numel())
            score_bw, flat_bw = found_bwk.flatten(1).topk(num_kept, dim=1)
            prefix_bw = next_bwk.flatten(1).gather(1, flat_bw).clamp_min(0)
            if level < len(code_tries.children) - 1:
                parent_bw, code_bw = flat_bw // next_bwk.shape[2], flat_bw % next_bwk.shape[2]
                hidden_bwd, caches = _advance_beams(network, code_bw, parent_bw, level, caches, valid_bs)
        return np.asarray(prefix_bw.masked_fill(score_bw <= _DEAD / 2, NO_ITEM).numpy())

    return recommend_items


def _compute_code_loss(network: CodeDecoder, items_bt: Tensor) -> Tensor:
    """Mean loss of all codes of all items."""
    x_bsd = network.dropout(network.embed_codes(items_bt)[:, :-1])
    for layer in network.layers:
        x_bsd, _ = layer(x_bsd)
    hidden_btld = network.norm(x_bsd).unflatten(1, (items_bt.shape[1], -1))
    known_bt = items_bt != NO_ITEM
    codes_ml = network.get_buffer("codes")[items_bt[known_bt]]
    level_losses = [
        cross_entropy(head(hidden_btld[:, :, level][known_bt]), codes_ml[:, level])
        for level, head in enumerate(network.heads)
    ]
    return torch.stack(level_losses).sum()


def _read_history(network: CodeDecoder, items_bt: Tensor) -> tuple[Tensor, list[Cache], Tensor]:
    """Reads the histories: hidden state at the last token [B, 1, D], caches, which tokens are there."""
    x_bsd, caches = network.embed_codes(items_bt), []
    for layer in network.layers:
        x_bsd, keys_and_values = layer(x_bsd)
        caches.append(Cache(keys_and_values, None))
    last_b = (items_bt != NO_ITEM).sum(1) * len(network.sizes)
    valid_bs = torch.arange(x_bsd.shape[1]) <= last_b[:, None]
    return x_bsd[torch.arange(len(x_bsd)), last_b][:, None], caches, valid_bs


def _advance_beams(
    network: CodeDecoder,
    code_bw: Tensor,
    parent_bw: Tensor,
    level: int,
    caches: list[Cache],
    valid_bs: Tensor,
) -> tuple[Tensor, list[Cache]]:
    """Adds a code to each beam; the own keys and values follow their parents."""
    place_b = valid_bs.sum(1) // len(network.sizes)
    place_bwd = network.places(place_b)[:, None]
    x_bwd: Tensor = network.tokens[level](code_bw) + network.levels.weight[level] + place_bwd
    next_caches = []
    for layer, cache in zip(network.layers, caches, strict=True):
        assert isinstance(layer, Layer)
        own_cache = None
        if cache.own is not None:
            own_cache = _take_beams(cache.own[0], parent_bw), _take_beams(cache.own[1], parent_bw)
        x_bwd, next_cache = layer.advance_codes(x_bwd, Cache(cache.history, own_cache), valid_bs)
        next_caches.append(next_cache)
    return x_bwd, next_caches


def _take_beams(values: Tensor, parent_bw: Tensor) -> Tensor:
    """Values [B, H, W, l, D/H] of each beam's parent."""
    parent_index = parent_bw[:, None, :, None, None].expand(-1, values.shape[1], -1, *values.shape[3:])
    return values.gather(2, parent_index)
