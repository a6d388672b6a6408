"""The command line that the benchmarks of several parts share."""

import argparse
import os
from collections.abc import Sequence
from importlib import import_module

from benchmarks.baselines import read_baselines, regressions
from benchmarks.results import ROOT, Row, write_rows


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


def measure_parts(name: str, parts: Sequence[str], *, quick: bool) -> int:
    """Measures parts, whose modules are called `benchmarks/<name>_<part>.py`, and writes the rows of each at its end.

    Args:
        name: Of the benchmark and its file of results.
        parts: The chosen ones.
        quick: Write nothing, but compare with the baselines named `quick....`.

    Returns:
        1 where a quick figure is worse than its baseline, else 0.
    """
    os.chdir(ROOT.parent)  # the configurations' paths are relative to the repository
    worse = []
    for part in parts:
        rows: list[Row] = list(import_module(f"benchmarks.{name}_{part}").measure(quick=quick))
        if quick:
            rows = [row.model_copy(update={"id": f"quick.{row.id}"}) for row in rows]
            worse += regressions(rows, read_baselines())
        else:
            print(f"wrote {write_rows(name, rows)}")
        print("\n".join(f"{row.id}: {row.value:.4g} +- {row.sd or 0:.2g} {row.unit}" for row in rows), flush=True)
    print("\n".join(worse))
    return 1 if worse else 0
