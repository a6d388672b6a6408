"""Scores lists with the exported graph: what ships is what is measured."""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import onnxruntime
import polars as pl

from contracts.errors import UserError
from models.ranker.encoding import Floats, ItemEncoder
from models.ranker.feed import build_feed, candidate_grid
from models.ranker.records import RankingRows
from models.ranker.rows import ItemTable, encode_catalogue
from models.ranker.search import Search
from models.ranker.spec import MODEL_FILE, RankerSpec


class Scores(NamedTuple):
    """Scores of all candidates, in the order of `RankingRows.candidates`, each [M]."""

    click: Floats
    order: Floats
    score: Floats
    value: Floats | None = None
    """Expected revenue; None without a value head."""


class ExportedRanker:
    """A ranker artifact, opened.

    Args of the constructor: the artifact's folder, the catalogue, its vectors (see `rows.read_vectors`) and the CPU
    threads to use (0: all that this process may use).

    Raises:
        UserError: the folder holds no ranker, or one for other vectors.
    """

    def __init__(
        self, folder: Path, items: pl.DataFrame, vectors: pl.DataFrame, *, space: str, num_threads: int
    ) -> None:
        self.spec = RankerSpec.read(folder)
        if self.spec.space not in (None, space):
            raise UserError(
                f"ranker {self.spec.model_name} reads vectors of space '{self.spec.space}', the item embeddings are of "
                f"space '{space}'; score it with the embeddings that it was trained with"
            )
        self.table: ItemTable = encode_catalogue(items, vectors, ItemEncoder.load(folder, self.spec))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads or len(os.sched_getaffinity(0))
        self.session = onnxruntime.InferenceSession(folder / MODEL_FILE, options, providers=["CPUExecutionProvider"])

    @property
    def search(self) -> Search | None:
        """How its histories are searched."""
        return self.table.search(self.spec.search_length, self.spec.search_dim)

    def score(self, rows: RankingRows, *, batch_size: int) -> Scores:
        """Scores every list, `batch_size` lists at a time."""
        names = [tensor.name for tensor in self.spec.outputs]
        scores = {name: np.empty(len(rows.candidates), np.float32) for name in names}
        for start in range(0, len(rows), batch_size):
            chosen: npt.NDArray[np.int64] = np.arange(start, min(start + batch_size, len(rows)))
            places, filled = candidate_grid(rows, chosen)
            found = self.session.run(names, build_feed(self.spec, self.table, rows, chosen))
            for target, values in zip(scores.values(), found, strict=True):
                target[places[filled]] = values[filled]
            rows.release()
        return Scores(**scores)
