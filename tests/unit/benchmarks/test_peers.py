"""Each peer learns a planted pattern; the beam search finds what scoring everything finds."""

import numpy as np
import pytest
import torch
from planted import NUM_ITEMS, PER_GROUP, planted_log

from benchmarks.behavior.hidden_behaviors import average_metric, measure_lists
from benchmarks.behavior.peers import linear
from benchmarks.behavior.peers.bert4rec import train_bert4rec
from benchmarks.behavior.peers.generative import CodeDecoder, make_beam_search, train_generative_peer
from benchmarks.behavior.peers.log import (
    NO_ITEM,
    PeerLog,
    Recommender,
    recommend_by_score,
    recommend_to_users,
)
from benchmarks.behavior.peers.sasrec import train_sasrec
from benchmarks.behavior.peers.training import PeerConfig
from contracts.array_types import IntArray

SMALL = PeerConfig(
    dimension=16, num_layers=1, num_heads=2, dropout=0.0, epochs=10, batch_size=32, learning_rate=2e-2
)
CHANCE = 10 / (NUM_ITEMS - 5)


@pytest.fixture(scope="module")
def log() -> PeerLog:
    torch.set_num_threads(1)
    return planted_log()


def _recall(log: PeerLog, recommend: Recommender) -> float:
    lists = recommend_to_users(log, recommend, log.task.asked_users)
    return average_metric(measure_lists(log.task, lists), log.task, validation=False)


def test_popularity_knows_nothing_of_the_user(log: PeerLog) -> None:
    assert _recall(log, recommend_by_score(linear.score_popularity(log))) < 2 * CHANCE


@pytest.mark.parametrize("peer", [linear.score_item_knn, linear.score_text_knn, linear.score_ease])
def test_neighbors_find_the_group(log: PeerLog, peer: linear.Fit) -> None:
    assert _recall(log, recommend_by_score(peer(log))) == 1.0


def test_text_is_mixed_in_where_it_helps(log: PeerLog) -> None:
    for mixed in linear.score_ease_with_text(log, linear.score_text_knn(log)).values():
        assert _recall(log, recommend_by_score(mixed)) == 1.0


def test_trained_peers_find_the_group(log: PeerLog) -> None:
    for scorer in (
        train_sasrec(log, SMALL),
        train_bert4rec(log, SMALL, text=False),
        train_bert4rec(log, SMALL, text=True),
    ):
        assert _recall(log, recommend_by_score(scorer)) > 3 * CHANCE
    assert _recall(log, train_generative_peer(log, SMALL)) > 3 * CHANCE


def test_same_seed_same_model(log: PeerLog) -> None:
    short = SMALL.model_copy(update={"epochs": 1})
    first, second = (train_bert4rec(log, short, text=True)(log.histories) for _ in range(2))
    assert np.array_equal(first, second)


def test_beam_search_finds_what_scoring_every_item_finds(log: PeerLog) -> None:
    torch.manual_seed(0)
    network = CodeDecoder(log, SMALL).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    histories = np.concatenate([log.histories[:6], np.where(np.arange(5) < 2, log.histories[6:9], NO_ITEM)])
    excluded = np.zeros((len(histories), NUM_ITEMS), bool)
    excluded[:, :PER_GROUP] = True
    found = make_beam_search(network, log, num_beams=NUM_ITEMS)(histories, excluded)
    for row, history in enumerate(histories):
        scores = np.where(excluded[row], -np.inf, _log_probabilities(network, history[history != NO_ITEM]))
        count = NUM_ITEMS - PER_GROUP
        assert np.array_equal(found[row, :count], np.argsort(-scores)[:count])
        assert (found[row, count:] == NO_ITEM).all()


@torch.no_grad()
def _log_probabilities(network: CodeDecoder, history: IntArray) -> np.ndarray:
    """log p of every item as the next one, each by a forward pass of its own."""
    items = torch.from_numpy(
        np.concatenate([np.tile(history, (NUM_ITEMS, 1)), np.arange(NUM_ITEMS)[:, None]], axis=1)
    )
    x = network.embed_codes(items)[:, :-1]
    for layer in network.layers:
        x, _ = layer(x)
    hidden = network.norm(x).unflatten(1, (items.shape[1], -1))[:, -1]
    codes = network.get_buffer("codes")
    parts = [
        head(hidden[:, i]).log_softmax(-1)[torch.arange(NUM_ITEMS), codes[:, i]]
        for i, head in enumerate(network.heads)
    ]
    return torch.stack(parts).sum(0).numpy()
