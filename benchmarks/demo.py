"""`python -m benchmarks demo`: the demo from a clean clone, as a stranger runs it.

Writes benchmarks/results/demo.json. The clone holds what is committed; a package registry must be in reach.
"""

import json
import subprocess
import tempfile
from pathlib import Path

from benchmarks.shared.results import REPOSITORY, Row, make_row

UNITS = {"setup_s": "s", "run_s": "s", "peak_rss_gib": "GiB"}


def measure_demo() -> list[Row]:
    """Clones, runs `make demo`, reads its figures."""
    with tempfile.TemporaryDirectory() as scratch_folder:
        clone_folder, figures_file = Path(scratch_folder) / "clone", Path(scratch_folder) / "figures.json"
        clone_command = ["git", "clone", "--quiet", "--no-hardlinks", str(REPOSITORY), str(clone_folder)]
        subprocess.run(clone_command, check=True)
        subprocess.run(["make", "demo", f"ARGS=--figures {figures_file}"], cwd=clone_folder, check=True)
        figures = json.loads(figures_file.read_text(encoding="utf-8"))
    return [
        make_row(f"demo.{name}", figures[name], unit=unit, better="lower", data="embedded shop")
        for name, unit in UNITS.items()
    ]
