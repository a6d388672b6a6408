"""Encoded lists in two mapped files: the lists, and their candidates.

What is read of a list lies together, and pages that were read are given back. So training holds a batch of
lists in memory, whatever the size of the training set.

Legend: N lists, M candidates of all lists, H history, K inferred, n lists of one batch.
"""

import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from contracts.array_types import BoolArray, FloatArray, HalfArray, Int32Array, IntArray
from contracts.half_vectors import VECTOR_DTYPE
from models.ranker.inputs.input_table import NUM_STATISTICS, Array


@dataclass(frozen=True)
class RankingLists:
    """Lists as arrays; item columns hold rows of an `ItemTable`. All but `offsets` and `lengths` lie in
    files."""

    offsets: IntArray
    """[N + 1]: list n has the candidates offsets[n] to offsets[n + 1]."""
    lengths: IntArray
    """[N], behaviors of each history."""
    candidates: Int32Array
    """[M]"""
    clicks: BoolArray
    """[M]"""
    orders: BoolArray
    """[M]"""
    values: FloatArray
    """[M], revenue of the orders."""
    history: Int32Array
    """[N, H], newest first."""
    history_types: npt.NDArray[np.int8]
    """[N, H]"""
    history_ages_s: FloatArray
    """[N, H], at the time of the list."""
    inferred: Int32Array
    """[N, K], most confident first."""
    inferred_scores: FloatArray
    """[N, K]"""
    confidences: FloatArray
    """[M], the behavior model's own in the candidates (`candidate_confidences.py`)."""
    times_s: IntArray
    """[N], time of the list, seconds since 1970."""
    scenes: npt.NDArray[np.int8]
    """[N], where the page was shown (`item_encoder.SCENE_INDEX`)."""
    context_vectors: HalfArray
    """[N, D], what the page is about, in the item space; zeros where it does not say, [N, 0] where none does.
    """
    statistics: FloatArray
    """[M, 3], popularity and newness of the candidates (`item_statistics.py`); [M, 0] where nobody asked for
    them."""
    mapped_files: tuple[mmap.mmap, ...]

    def __len__(self) -> int:
        return len(self.lengths)

    def release_pages(self) -> None:
        """Gives the pages that were read back to the system; they are read again where they are needed."""
        for mapped_file in self.mapped_files:
            mapped_file.madvise(mmap.MADV_DONTNEED)


class ListWriter:
    """Writes lists batch by batch.

    Args of the constructor:
        folder: for the files; must live as long as the lists.
        history: H.
        inferred: K.
        statistics: whether candidates have statistics.
        vector_length: D; 0 where no list says what its page is about.
    """

    def __init__(
        self, folder: Path, *, history: int, inferred: int, statistics: bool, vector_length: int
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        list_columns = [
            ("times_s", np.int64),
            ("history", np.int32, (history,)),
            ("history_ages_s", np.float32, (history,)),
            ("inferred", np.int32, (inferred,)),
            ("inferred_scores", np.float32, (inferred,)),
            ("history_types", np.int8, (history,)),
            ("scenes", np.int8),
            ("context_vectors", VECTOR_DTYPE, (vector_length,)),
        ]
        candidate_columns = [
            ("candidates", np.int32),
            ("confidences", np.float32),
            ("values", np.float32),
            ("statistics", np.float32, (NUM_STATISTICS if statistics else 0,)),
            ("clicks", np.bool_),
            ("orders", np.bool_),
        ]
        # Records, not columns: what is read of a list lies on one page.
        self._record_types = {
            folder / "lists.bin": np.dtype(list_columns, align=True),
            folder / "candidates.bin": np.dtype(candidate_columns, align=True),
        }
        self._counts: list[IntArray] = [np.zeros(1, np.int64)]
        self._lengths: list[IntArray] = [np.zeros(0, np.int64)]
        for file_path in self._record_types:
            file_path.write_bytes(b"")

    def write_lists(self, arrays: Mapping[str, Array], counts: IntArray) -> None:
        """Adds lists.

        Args:
            arrays: the fields of `RankingLists` that lie in files.
            counts: candidates of each list, [n].
        """
        for file_path, record_type in self._record_types.items():
            column_names = tuple(record_type.fields or ())
            records = np.zeros(len(arrays[column_names[0]]), record_type)
            for column_name in column_names:
                records[column_name] = arrays[column_name]
            with file_path.open("ab") as file:
                file.write(records.tobytes())
        self._counts.append(counts)
        self._lengths.append(np.count_nonzero(arrays["history"], axis=1))

    def open_lists(self) -> RankingLists:
        """Maps all lists that were written."""
        columns: dict[str, Array] = {}
        mapped_files = []
        for file_path, record_type in self._record_types.items():
            records = np.empty(0, record_type)
            # An empty file cannot be mapped.
            if file_path.stat().st_size:
                with file_path.open("rb") as file:
                    mapped_files.append(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))
                records = np.frombuffer(mapped_files[-1], record_type)
            columns |= {name: records[name] for name in record_type.fields or ()}
        offsets, lengths = np.cumsum(np.concatenate(self._counts)), np.concatenate(self._lengths)
        return RankingLists(offsets=offsets, lengths=lengths, mapped_files=tuple(mapped_files), **columns)
