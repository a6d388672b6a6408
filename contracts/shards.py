"""How ids and pieces of work are divided among workers: by a hash that is the same on every machine."""

import zlib
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from contracts.errors import UserError


class Shard(NamedTuple):
    """One of several workers, written `number/total`."""

    number: int
    total: int

    @classmethod
    def parse_shard(cls, text: str) -> "Shard":
        """Reads `number/total`, as pipelines pass it.

        Raises:
            UserError: it is none.
        """
        number, _, total = text.partition("/")
        if not (number.isdecimal() and total.isdecimal() and int(number) < int(total)):
            raise UserError(f"'{text}' is no shard; write number/total, as in 0/4 (numbers start at 0)")
        return cls(int(number), int(total))

    def __str__(self) -> str:
        return f"{self.number}/{self.total}"

    def is_owner_of(self, ids: pl.Series) -> pl.Series:
        """Which of the ids are this worker's."""
        return assign_shards(ids, self.total) == self.number

    def slice_of(self, num_pieces: int) -> range:
        """This worker's part of `count` numbered pieces: all parts in order are all pieces in order."""
        return range(self.number * num_pieces // self.total, (self.number + 1) * num_pieces // self.total)


def assign_shards(ids: pl.Series, num_shards: int) -> pl.Series:
    """The number of the owner (worker, piece) that has each id."""
    return pl.Series(hash_ids(ids) % num_shards, dtype=pl.UInt32())


def hash_ids(ids: pl.Series) -> npt.NDArray[np.uint32]:
    """The stable hash (CRC-32) of each id."""
    return np.fromiter((zlib.crc32(value.encode()) for value in ids), dtype=np.uint32, count=len(ids))
