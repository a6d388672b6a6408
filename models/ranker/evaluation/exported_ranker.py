"""Scores lists with the exported graph: what ships is what is measured."""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnxruntime
import polars as pl

from contracts.array_types import FloatArray
from contracts.errors import UserError
from models.ranker.inputs.graph_feed import build_list_feed, gather_lists
from models.ranker.inputs.item_encoder import ItemEncoder
from models.ranker.inputs.ranker_spec import MODEL_FILE, RankerSpec
from models.ranker.lists.encode_catalogue import encode_catalogue
from models.ranker.lists.general_search_unit import HistorySearch, plan_search
from models.ranker.lists.mapped_lists import RankingLists


class CandidateScores(NamedTuple):
    """Scores of all candidates, in the order of `RankingLists.candidates`, each [M]."""

    click: FloatArray
    order: FloatArray
    score: FloatArray
    value: FloatArray | None = None
    """Expected revenue; None without a value head."""


class ExportedRanker:
    """A ranker artifact, opened.

    Args of the constructor:
        folder: the artifact.
        items: the catalogue.
        vectors: its item vectors (`encode_catalogue.read_item_vectors`).
        space: the name of their space.
        num_threads: CPU threads to use; 0: all that this process may use.

    Raises:
        UserError: the folder holds no ranker, or one for other vectors.
    """

    def __init__(
        self, folder: Path, items: pl.DataFrame, vectors: pl.DataFrame, *, space: str, num_threads: int
    ) -> None:
        self.spec = RankerSpec.read(folder)
        if self.spec.space not in (None, space):
            raise UserError(
                f"ranker {self.spec.model_name} reads vectors of space '{self.spec.space}', the item "
                f"embeddings are of space '{space}'; score it with the embeddings that it was trained with"
            )
        self.table = encode_catalogue(items, vectors, ItemEncoder.load_artifact(folder, self.spec))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads or len(os.sched_getaffinity(0))
        self.session = onnxruntime.InferenceSession(
            folder / MODEL_FILE, options, providers=["CPUExecutionProvider"]
        )

    @property
    def history_search(self) -> HistorySearch | None:
        """How its histories are searched."""
        item_vectors = self.table.encoded_items.vectors
        return plan_search(item_vectors, length=self.spec.search_length, dim=self.spec.search_dim)

    def score_lists(self, lists: RankingLists, *, batch_size: int = 256) -> CandidateScores:
        """Scores every list, `batch_size` lists at a time."""
        output_names = [tensor.name for tensor in self.spec.outputs]
        scores = {name: np.empty(len(lists.candidates), np.float32) for name in output_names}
        for start in range(0, len(lists), batch_size):
            chosen = np.arange(start, min(start + batch_size, len(lists)))
            gathered = gather_lists(
                lists, chosen, history=self.spec.history_length, inferred=self.spec.inferred_length
            )
            outputs = self.session.run(output_names, build_list_feed(self.spec, self.table, gathered))
            for flat_scores, candidate_scores in zip(scores.values(), outputs, strict=True):
                flat_scores[gathered.flat_rows[gathered.is_real]] = candidate_scores[gathered.is_real]
            lists.release_pages()
        return CandidateScores(**scores)
