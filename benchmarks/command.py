"""The command line that the benchmarks of several parts share."""

import argparse
from collections.abc import Sequence


def read_command(description: str | None, parts: Sequence[str], *, quick: str | None = None) -> tuple[list[str], bool]:
    """The chosen parts, all by default, and whether `--quick` was given.

    Args:
        description: Of the benchmark.
        parts: That there are.
        quick: What `--quick` does; without it there is no such option.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(parts)} (default: all)")
    if quick:
        parser.add_argument("--quick", action="store_true", help=quick)
    given = parser.parse_args()
    for part in given.parts:
        if part not in parts:
            parser.error(f"no part '{part}'; there are {', '.join(parts)}")
    return given.parts or list(parts), bool(quick and given.quick)
