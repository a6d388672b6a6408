"""A generative recommender: the next item's semantic id by beam search (TIGER, Rajput et al., NeurIPS 2023).

Decoder only, of the behaviour model's width and depth, over the codes of the history one after another. The beam
search is a fair one: keys and values of the history are computed once per user and shared by all beams, only codes that
lead to an item are followed, and the last step leaves out what the user has logged.

Shape letters: B users, S tokens, L levels, W beams, H heads, D width, K codes of a level, N items.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, scaled_dot_product_attention

from benchmarks.behavior_protocol import LIST_LENGTH, Bools, Ints
from benchmarks.peers.log import NO_ITEM, PeerLog, Recommender
from benchmarks.peers.training import PeerConfig, fit

_DEAD = -1e9


class Tries(NamedTuple):
    """Which codes lead to an item: level l maps (prefix, code) to the next prefix, -1 where no item lies there."""

    children: tuple[Tensor, ...]
    """Per level [prefixes, K]; the last level's prefixes are items."""

    @classmethod
    def of(cls, codes: Ints) -> "Tries":
        """The trie of unique codes [N, L]."""
        children, prefix, count = [], np.zeros(len(codes), np.int64), 1
        for level in range(codes.shape[1]):
            size = int(codes[:, level].max()) + 1
            keys, following = np.unique(prefix * size + codes[:, level], return_inverse=True)
            if level == codes.shape[1] - 1:
                assert len(keys) == len(codes), "semantic ids must be unique"
                following = np.arange(len(codes))
            table = np.full((count, size), -1, dtype=np.int64)
            table[prefix, codes[:, level]] = following
            children.append(torch.from_numpy(table))
            prefix, count = following, len(keys)
        return cls(tuple(children))


class Cache(NamedTuple):
    """Keys and values of a layer: the history's, [B, H, S, D/H], and those of the codes so far, [B, H, W, l, D/H]."""

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
        query, key, value = self._heads(x_bsd)
        share = self.share if self.training else 0.0
        read = scaled_dot_product_attention(query, key, value, dropout_p=share, is_causal=True)
        return self._finish(x_bsd, read.transpose(1, 2).flatten(2)), (key, value)

    def step(self, x_bwd: Tensor, cache: Cache, valid_bs: Tensor) -> tuple[Tensor, Cache]:
        """One code per beam: attention to the history, shared by all beams, and to the beam's own codes."""
        query, key, value = self._heads(x_bwd)
        keys, values = key[:, :, :, None], value[:, :, :, None]
        if cache.own is not None:
            keys, values = torch.cat([cache.own[0], keys], 3), torch.cat([cache.own[1], values], 3)
        scale = query.shape[-1] ** -0.5
        to_history = query @ cache.history[0].transpose(2, 3) * scale
        to_history = to_history.masked_fill(~valid_bs[:, None, None], _DEAD)
        to_own = (query[:, :, :, None] * keys).sum(-1) * scale
        weights = torch.cat([to_history, to_own], 3).softmax(3)
        length = to_history.shape[3]
        read = weights[..., :length] @ cache.history[1] + (weights[..., length:, None] * values).sum(3)
        return self._finish(x_bwd, read.transpose(1, 2).flatten(2)), Cache(cache.history, (keys, values))

    def _heads(self, x_bsd: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        parts = self.qkv(self.norms[0](x_bsd)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return parts[0], parts[1], parts[2]

    def _finish(self, x_bsd: Tensor, read_bsd: Tensor) -> Tensor:
        x_bsd = x_bsd + self.dropout(self.out(read_bsd))
        found: Tensor = x_bsd + self.dropout(self.mlp(self.norms[1](x_bsd)))
        return found


class CodeDecoder(nn.Module):
    """Predicts each next code of a sequence of items."""

    def __init__(self, log: PeerLog, config: PeerConfig) -> None:
        super().__init__()
        width, num_levels = config.dimension, log.codes.shape[1]
        self.sizes = [int(size) + 1 for size in log.codes.max(axis=0)]
        self.register_buffer("codes", torch.from_numpy(log.codes))
        self.tokens = nn.ModuleList(nn.Embedding(size, width) for size in self.sizes)
        self.start = nn.Parameter(torch.randn(width) * 0.02)
        self.levels = nn.Embedding(num_levels + 1, width)
        self.places = nn.Embedding(log.histories.shape[1] + 1, width)
        for module in (*self.tokens, self.levels, self.places):
            nn.init.normal_(module.weight, std=0.02)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_layers))
        self.norm, self.dropout = nn.LayerNorm(width), nn.Dropout(config.dropout)
        self.heads = nn.ModuleList(nn.Linear(width, size) for size in self.sizes)

    def embed(self, items_bt: Tensor) -> Tensor:
        """Start token and the codes of the items [B, T] one after another, [B, 1 + T L, D]."""
        codes_btl = self.get_buffer("codes")[items_bt.clamp_min(0)]
        tokens = torch.stack([table(codes_btl[..., i]) for i, table in enumerate(self.tokens)], dim=2)
        tokens = tokens + self.levels.weight[:-1] + self.places.weight[: items_bt.shape[1], None]
        start = (self.start + self.levels.weight[-1]).expand(len(items_bt), 1, -1)
        return torch.cat([start, tokens.flatten(1, 2)], dim=1)


def generative(log: PeerLog, config: PeerConfig, *, num_beams: int = LIST_LENGTH) -> Recommender:
    """Trained to name each next code; infers by beam search."""
    torch.manual_seed(config.seed)
    network = CodeDecoder(log, config)

    def loss(histories: Ints, _generator: torch.Generator) -> Tensor:
        return _loss(network, torch.from_numpy(histories))

    recommend = beam_search(network, log, num_beams=num_beams)
    fit(network, loss, recommend, log, config)
    return recommend


def beam_search(network: CodeDecoder, log: PeerLog, *, num_beams: int) -> Recommender:
    """Lists of the `num_beams` likeliest items that the search finds."""
    tries = Tries.of(log.codes)

    @torch.no_grad()
    def recommend(histories: Ints, excluded: Bools) -> Ints:
        network.eval()
        items_bt = torch.from_numpy(histories)
        hidden_bwd, caches, valid_bs = _read(network, items_bt)
        prefix_bw, score_bw = torch.zeros(len(items_bt), 1, dtype=torch.long), torch.zeros(len(items_bt), 1)
        for level, children in enumerate(tries.children):
            next_bwk = children[prefix_bw]
            gain_bwk = network.heads[level](network.norm(hidden_bwd)).log_softmax(-1)
            found_bwk = (score_bw[..., None] + gain_bwk).masked_fill(next_bwk < 0, _DEAD)
            if level == len(tries.children) - 1:
                logged = torch.from_numpy(excluded).gather(1, next_bwk.clamp_min(0).flatten(1)).view_as(next_bwk)
                found_bwk = found_bwk.masked_fill(logged, _DEAD)
            count = min(num_beams, found_bwk[0].numel())
            score_bw, flat_bw = found_bwk.flatten(1).topk(count, dim=1)
            prefix_bw = next_bwk.flatten(1).gather(1, flat_bw).clamp_min(0)
            if level < len(tries.children) - 1:
                parent_bw, code_bw = flat_bw // next_bwk.shape[2], flat_bw % next_bwk.shape[2]
                hidden_bwd, caches = _advance(network, code_bw, parent_bw, level, caches, valid_bs)
        return np.asarray(prefix_bw.masked_fill(score_bw <= _DEAD / 2, NO_ITEM).numpy())

    return recommend


def _loss(network: CodeDecoder, items_bt: Tensor) -> Tensor:
    """Mean loss of all codes of all items."""
    x_bsd = network.dropout(network.embed(items_bt)[:, :-1])
    for layer in network.layers:
        x_bsd, _ = layer(x_bsd)
    hidden_btld = network.norm(x_bsd).unflatten(1, (items_bt.shape[1], -1))
    known_bt = items_bt != NO_ITEM
    codes_ml = network.get_buffer("codes")[items_bt[known_bt]]
    losses = [
        cross_entropy(head(hidden_btld[:, :, i][known_bt]), codes_ml[:, i]) for i, head in enumerate(network.heads)
    ]
    return torch.stack(losses).sum()


def _read(network: CodeDecoder, items_bt: Tensor) -> tuple[Tensor, list[Cache], Tensor]:
    """Reads the histories: the hidden state at their last token [B, 1, D], the caches, which tokens are there."""
    x_bsd, caches = network.embed(items_bt), []
    for layer in network.layers:
        x_bsd, kept = layer(x_bsd)
        caches.append(Cache(kept, None))
    last_b = (items_bt != NO_ITEM).sum(1) * len(network.sizes)
    valid_bs = torch.arange(x_bsd.shape[1]) <= last_b[:, None]
    return x_bsd[torch.arange(len(x_bsd)), last_b][:, None], caches, valid_bs


def _advance(
    network: CodeDecoder, code_bw: Tensor, parent_bw: Tensor, level: int, caches: list[Cache], valid_bs: Tensor
) -> tuple[Tensor, list[Cache]]:
    """Adds a code to each beam; the own keys and values follow their parents."""
    place_b = valid_bs.sum(1) // len(network.sizes)
    x_bwd: Tensor = network.tokens[level](code_bw) + network.levels.weight[level] + network.places(place_b)[:, None]
    followed = []
    for layer, cache in zip(network.layers, caches, strict=True):
        assert isinstance(layer, Layer)
        own = None if cache.own is None else (_take(cache.own[0], parent_bw), _take(cache.own[1], parent_bw))
        x_bwd, moved = layer.step(x_bwd, Cache(cache.history, own), valid_bs)
        followed.append(moved)
    return x_bwd, followed


def _take(values: Tensor, parent_bw: Tensor) -> Tensor:
    """Values [B, H, W, l, D/H] of each beam's parent."""
    index = parent_bw[:, None, :, None, None].expand(-1, values.shape[1], -1, *values.shape[3:])
    return values.gather(2, index)
