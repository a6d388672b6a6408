"""`python -m benchmarks.demo`: the demo from a clean clone, as a stranger runs it: set-up, main job, peak memory.

Writes benchmarks/results/demo.json. The clone holds what is committed; a package registry must be in reach.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.results import ROOT, make_row, write_rows

COMMAND = "make bench-demo"
UNITS = {"setup_s": "s", "run_s": "s", "peak_rss_gib": "GiB"}


def main() -> int:
    """Clones, runs `make demo`, records its figures."""
    with tempfile.TemporaryDirectory() as scratch:
        clone, figures = Path(scratch) / "clone", Path(scratch) / "figures.json"
        subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", str(ROOT.parent), str(clone)], check=True)
        subprocess.run(["make", "demo", f"ARGS=--figures {figures}"], cwd=clone, check=True)
        measured = json.loads(figures.read_text(encoding="utf-8"))
    rows = [
        make_row(f"demo.{name}", [measured[name]], unit=unit, better="lower", data="embedded shop", command=COMMAND)
        for name, unit in UNITS.items()
    ]
    print(f"wrote {write_rows('demo', rows)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
