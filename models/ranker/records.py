"""Lists as records of integers in two mapped files: the lists, and their candidates.

What is read of a list lies together, and pages that were read are given back, so training holds a batch of lists in
memory whatever the size of the training set.

Legend: N lists, M candidates of all lists, H history, K inferred, n lists of one batch, m candidates of one batch.
"""

import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.ranker.encoding import Floats
from models.ranker.spec import NUM_STATISTICS

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class RankingRows:
    """Lists as arrays; item columns hold rows of an `ItemTable`. All but `offsets` and `lengths` lie in files."""

    offsets: npt.NDArray[np.int64]
    """[N + 1]: list n has the candidates offsets[n] to offsets[n + 1]."""
    lengths: npt.NDArray[np.int64]
    """[N], behaviours of each history."""
    candidates: npt.NDArray[np.int32]
    """[M]"""
    clicks: npt.NDArray[np.bool_]
    """[M]"""
    orders: npt.NDArray[np.bool_]
    """[M]"""
    values: Floats
    """[M], revenue of the orders."""
    history: npt.NDArray[np.int32]
    """[N, H], newest first."""
    history_types: npt.NDArray[np.int8]
    """[N, H]"""
    history_ages_s: Floats
    """[N, H], at the time of the list."""
    inferred: npt.NDArray[np.int32]
    """[N, K], most confident first."""
    inferred_scores: Floats
    """[N, K]"""
    confidences: Floats
    """[M], the behaviour model's own in the candidates (`confidences.py`)."""
    times_s: npt.NDArray[np.int64]
    """[N], time of the list, seconds since 1970."""
    statistics: Floats
    """[M, 3], popularity and newness of the candidates (`statistics.py`); [M, 0] where nobody asked for them."""
    maps: tuple[mmap.mmap, ...]
    """The files."""

    def __len__(self) -> int:
        return len(self.lengths)

    def release(self) -> None:
        """Gives the pages that were read back to the system; they are read again where they are needed."""
        for mapped in self.maps:
            mapped.madvise(mmap.MADV_DONTNEED)


class RowWriter:
    """Writes lists batch by batch.

    Args of the constructor: a folder for the files, which must live as long as the rows; H, K, and whether candidates
    have statistics.
    """

    def __init__(self, folder: Path, *, history: int, inferred: int, statistics: bool) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        lists = [
            ("times_s", np.int64),
            ("history", np.int32, (history,)),
            ("history_ages_s", np.float32, (history,)),
            ("inferred", np.int32, (inferred,)),
            ("inferred_scores", np.float32, (inferred,)),
            ("history_types", np.int8, (history,)),
        ]
        candidates = [
            ("candidates", np.int32),
            ("confidences", np.float32),
            ("values", np.float32),
            ("statistics", np.float32, (NUM_STATISTICS if statistics else 0,)),
            ("clicks", np.bool_),
            ("orders", np.bool_),
        ]
        self._fields = {folder / "lists.bin": np.dtype(lists, align=True)}
        self._fields[folder / "candidates.bin"] = np.dtype(candidates, align=True)
        self._counts: list[npt.NDArray[np.int64]] = [np.zeros(1, np.int64)]
        self._lengths: list[npt.NDArray[np.int64]] = [np.zeros(0, np.int64)]
        for path in self._fields:
            path.write_bytes(b"")

    def write(self, arrays: Mapping[str, Array], counts: npt.NDArray[np.int64]) -> None:
        """Adds lists: the fields of `RankingRows` that lie in files, and how many candidates each list has, [n]."""
        for path, dtype in self._fields.items():
            names = tuple(dtype.fields or ())
            records = np.zeros(len(arrays[names[0]]), dtype)
            for name in names:
                records[name] = arrays[name]
            with path.open("ab") as file:
                file.write(records.tobytes())
        self._counts.append(counts)
        self._lengths.append(np.count_nonzero(arrays["history"], axis=1))

    def rows(self) -> RankingRows:
        """All lists that were written."""
        found: dict[str, Array] = {}
        maps = []
        for path, dtype in self._fields.items():
            records = np.empty(0, dtype)
            # An empty file cannot be mapped.
            if path.stat().st_size:
                with path.open("rb") as file:
                    maps.append(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))
                records = np.frombuffer(maps[-1], dtype)
            found |= {name: records[name] for name in dtype.fields or ()}
        offsets, lengths = np.cumsum(np.concatenate(self._counts)), np.concatenate(self._lengths)
        return RankingRows(offsets=offsets, lengths=lengths, maps=tuple(maps), **found)
