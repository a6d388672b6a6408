"""The rows of a log in files, parted by user, so that a part of the users is settled at a time.

Memory then grows with a part of the users, not with the log. One user may hold more than a partition should:
where they are no shopper, their rows are taken out file by file, before any partition is read.
"""

from collections.abc import Iterator, Sequence
from math import ceil
from pathlib import Path
from typing import Final

import polars as pl

ROWS_A_PARTITION: Final = 500_000
BUFFERED_ROWS: Final = 500_000
"""Rows that wait in memory until they are written: fewer would make many small files."""
_PARTITION: Final = "__partition"


class UserPartitions:
    """Rows of a log on disk. All rows of a user are in one partition, in the order in which they came."""

    def __init__(self, folder: Path, *, num_rows: int) -> None:
        """Makes empty partitions.

        Args:
            folder: where the files go; it must not exist.
            num_rows: about as many rows will come.
        """
        self._folder = folder
        self.num_partitions = max(1, ceil(num_rows / ROWS_A_PARTITION))
        self._buffer: list[pl.DataFrame] = []
        self._num_buffered = 0
        self._num_files = 0
        for number in range(self.num_partitions):
            self._name_folder(number).mkdir(parents=True)

    def add_rows(self, rows: pl.DataFrame) -> None:
        """Adds rows; their columns may differ from those of earlier rows."""
        self._buffer.append(rows)
        self._num_buffered += len(rows)
        if self._num_buffered >= BUFFERED_ROWS:
            self.write_buffer()

    def write_buffer(self) -> None:
        """Writes what still waits in memory."""
        if not self._num_buffered:
            return
        rows = pl.concat(self._buffer, how="diagonal_relaxed")
        self._buffer, self._num_buffered = [], 0
        for number, part in self._divide(rows):
            part.write_parquet(self._name_folder(number) / f"{self._num_files:06}.parquet", compression="lz4")
        self._num_files += 1

    def iterate_partitions(self) -> Iterator[tuple[int, pl.DataFrame]]:
        """Yields the number and rows of each partition that holds any."""
        for number in range(self.num_partitions):
            rows = self.read_rows(number)
            if len(rows):
                yield number, rows

    def read_rows(self, number: int) -> pl.DataFrame:
        """Rows of a partition; a frame without columns where it never had any."""
        frames = [pl.read_parquet(path) for path in sorted(self._name_folder(number).iterdir())]
        return pl.concat(frames, how="diagonal_relaxed") if frames else pl.DataFrame()

    def replace_rows(self, number: int, rows: pl.DataFrame) -> None:
        """Puts other rows of the same users in the place of a partition's rows."""
        for path in self._name_folder(number).iterdir():
            path.unlink()
        rows.write_parquet(self._name_folder(number) / "all.parquet", compression="lz4")

    def iterate_files(self) -> Iterator[tuple[Path, pl.DataFrame]]:
        """Yields each file and its rows: far fewer than a partition's, where one user holds most of it."""
        for number in range(self.num_partitions):
            for path in sorted(self._name_folder(number).iterdir()):
                yield path, pl.read_parquet(path)

    def replace_file(self, path: Path, rows: pl.DataFrame) -> None:
        """Puts other rows of the same users in the place of a file's rows."""
        rows.write_parquet(path, compression="lz4")

    def take_out_users(self, user_ids: Sequence[str]) -> Iterator[pl.DataFrame]:
        """Yields the rows of some users, which are in no partition any more; one file at a time."""
        if not user_ids:
            return
        for path, rows in self.iterate_files():
            is_theirs = rows["user_id"].is_in(list(user_ids))
            if is_theirs.any():
                self.replace_file(path, rows.filter(~is_theirs))
                yield rows.filter(is_theirs)

    def select_rows(self, rows: pl.DataFrame, number: int) -> pl.DataFrame:
        """Those of other rows whose users are in a partition."""
        return rows.filter(self._number_users() == number)

    @property
    def files(self) -> str:
        """A pattern of all files."""
        return str(self._folder / "*" / "*.parquet")

    def count_rows(self) -> int:
        """Rows of all partitions."""
        return int(pl.scan_parquet(self.files).select(pl.len()).collect().item())

    def count_users(self, is_chosen: pl.Expr) -> int:
        """Users with chosen rows, partition by partition: their ids together may not fit into memory."""
        counts = []
        for number in range(self.num_partitions):
            if paths := sorted(self._name_folder(number).iterdir()):
                chosen = pl.scan_parquet(paths).filter(is_chosen)
                counts.append(int(chosen.select(pl.col("user_id").n_unique()).collect().item()))
        return sum(counts)

    @property
    def has_rows(self) -> bool:
        """Whether anything was ever written."""
        return any(self._folder.glob("*/*.parquet"))

    def _divide(self, rows: pl.DataFrame) -> Iterator[tuple[int, pl.DataFrame]]:
        if self.num_partitions == 1:
            yield 0, rows
            return
        numbered = rows.with_columns(self._number_users().alias(_PARTITION))
        parts = numbered.partition_by(_PARTITION, maintain_order=True, include_key=False, as_dict=True)
        for (number,), part in parts.items():
            yield int(number), part

    def _number_users(self) -> pl.Expr:
        return pl.col("user_id").hash() % self.num_partitions

    def _name_folder(self, number: int) -> Path:
        return self._folder / f"{number:06}"
