"""Luck that belongs to a request and an item, whatever ranker shows it where (common random numbers).

A draw is a hash of its names (SplitMix64; Steele, Lea, Flood 2014), not the next of a stream: so rankers that
show other items, or fewer, leave the luck of all the rest as it was.
"""

import numpy as np
import numpy.typing as npt

from contracts.array_types import FloatArray, IntArray

_UINT = np.uint64


def draw_shared_luck(seed: int, *names: IntArray | int, num_draws: int) -> FloatArray:
    """Draws uniform numbers in [0, 1), [num_draws, *S], the same for the same seed and names.

    Args:
        seed: of all draws.
        names: integers that together name a case, such as day, request and item; broadcast to S.
        num_draws: numbers a case.
    """
    state = _mix_bits(np.asarray(seed, dtype=_UINT))
    for name in names:
        state = _mix_bits(state ^ _mix_bits(np.asarray(name).astype(_UINT)))
    number = np.arange(num_draws, dtype=_UINT).reshape(num_draws, *(1 for _ in range(np.ndim(state))))
    bits = _mix_bits(state + number * _UINT(0x9E3779B97F4A7C15))
    # Twenty-four bits are what single precision holds without rounding up to one.
    return np.asarray((bits >> _UINT(40)).astype(np.float32) * np.float32(2**-24), dtype=np.float32)


def _mix_bits(bits: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    with np.errstate(over="ignore"):
        bits = bits + _UINT(0x9E3779B97F4A7C15)
        bits = (bits ^ (bits >> _UINT(30))) * _UINT(0xBF58476D1CE4E5B9)
        bits = (bits ^ (bits >> _UINT(27))) * _UINT(0x94D049BB133111EB)
        return np.asarray(bits ^ (bits >> _UINT(31)))
