"""Figures that integration tests record while they run: what is asserted there is what is published here."""

import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

from benchmarks.shared.results import REPOSITORY
from contracts.errors import UserError


def run_recording_test(test: str) -> Counter[str]:
    """Runs a test; the sums of what it recorded by `record_property`, though it may have failed.

    Raises:
        UserError: it was skipped, or recorded nothing.
    """
    with tempfile.NamedTemporaryFile(suffix=".xml") as report:
        options = ["-q", "-p", "no:cacheprovider", "-o", "junit_family=xunit1"]
        command = [sys.executable, "-m", "pytest", *options, test]
        done = subprocess.run(
            [*command, f"--junitxml={report.name}"],
            cwd=REPOSITORY,
            env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
            capture_output=True,
            text=True,
        )
        figures = _read_properties(Path(report.name))
    if not figures:
        raise UserError(f"{test} recorded nothing:\n{done.stdout[-2000:]}{done.stderr[-500:]}")
    if done.returncode:
        print(done.stdout[-2000:], flush=True)
    return figures


def _read_properties(report: Path) -> Counter[str]:
    figures: Counter[str] = Counter()
    # Written by the pytest that we just ran.
    for entry in ElementTree.parse(report).iter("property"):
        figures[entry.attrib["name"]] += int(entry.attrib["value"])
    return figures
