"""The student: places an item in the space from its raw text alone, so that a new item needs no language model.

It starts as the trained projection without its knowledge inputs and learns by cosine where the teacher, which sees the
knowledge, puts the items. A part of them is held out; on these the agreement of nearest neighbours is measured.

The encoder below it stays frozen: only a map of its vectors is trained, so these are computed once, not in each step.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cosine_similarity

from models.knowledge.config import StudentConfig
from models.knowledge.encoder import Floats
from models.knowledge.projection import Projection

NUM_NEIGHBOURS = 10
_MAX_CHECKED = 2000
_QUERIES = 64
"""Items whose cosines with the whole catalogue are held at once."""
_MIN_ITEMS = 100
"""Catalogues below this give every item to training: a handful of held-out items would tell nothing."""


class Taught(NamedTuple):
    """A student and how it did."""

    student: Projection
    recall10: float | None
    """Share of the teacher's 10 nearest neighbours that the student finds, on held-out items; None without any."""


def teach(
    teacher: Projection, texts: Floats, points: Floats, catalogue: Floats, config: StudentConfig, *, seed: int
) -> Taught:
    """Distils a teacher's points into a map of raw-text views alone.

    Args:
        teacher: The trained projection.
        texts: [N, W] raw-text views, the projection's first inputs.
        points: [N, d] where the teacher puts the items by what is said and known of them, without their residuals.
        catalogue: [N, d] unit vectors of the items, residuals included: among these neighbours are looked up.
        config: The training.
        seed: Of the draw of held-out items and of the training.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(texts))
    num_held = int(config.held_out * len(texts)) if len(texts) >= _MIN_ITEMS else 0
    held, taught = order[:num_held], order[num_held:]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        student = teacher.without(texts.shape[1])
        _fit(student, texts, points, taught, config, rng)
    checked = held[:_MAX_CHECKED]
    recall = None
    if len(checked):
        recall = neighbour_recall(student.project(texts[checked]), points[checked], catalogue, own=checked)
    return Taught(student, recall)


def _fit(
    student: Projection,
    texts: Floats,
    points: Floats,
    taught: NDArray[np.int64],
    config: StudentConfig,
    rng: np.random.Generator,
) -> None:
    per_epoch = -(-len(taught) // config.batch_size)
    optimizer = torch.optim.AdamW(student.parameters(), config.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(per_epoch * config.epochs, 1))
    student.train()
    for _ in range(config.epochs):
        for chosen in np.array_split(taught[rng.permutation(len(taught))], per_epoch):
            said, wanted = torch.from_numpy(texts[chosen]), torch.from_numpy(points[chosen])
            loss = (1 - cosine_similarity(student(said), wanted)).mean()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    student.eval()


def neighbour_recall(found: Floats, wanted: Floats, catalogue: Floats, *, own: NDArray[np.int64]) -> float:
    """Share of the nearest neighbours of points `wanted` [M, d] that points `found` [M, d] of the same items have too.

    Neighbours are sought in `catalogue` [N, d]; `own` [M] are these items' rows: none is a neighbour of itself.
    """
    count = min(NUM_NEIGHBOURS, len(catalogue) - 1)
    shares = []
    for start in range(0, len(own), _QUERIES):
        part = slice(start, start + _QUERIES)
        first, second = (_nearest(points[part], catalogue, own[part], count) for points in (wanted, found))
        shares.append((first[:, :, None] == second[:, None, :]).any(-1))
    return float(np.concatenate(shares).mean())


def _nearest(queries: Floats, catalogue: Floats, own: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    cosines = queries @ catalogue.T
    cosines[np.arange(len(own)), own] = -np.inf
    return np.argpartition(cosines, -count, axis=1)[:, -count:]
