"""`feast apply` by itself in the folder, as a clean clone has it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import feature_repo

pytestmark = pytest.mark.integration


def test_feast_apply_and_materialize_work_in_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "feature_repo"
    shutil.copytree(
        Path(feature_repo.__file__).parent, folder, ignore=shutil.ignore_patterns("data", "__pycache__")
    )
    feast = str(Path(sys.executable).with_name("feast"))
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    for command in (
        ["apply"],
        ["materialize-incremental", "2026-02-01T00:00:00"],
        ["feature-services", "list"],
    ):
        done = subprocess.run([feast, *command], cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert "ranker_v1" in done.stdout
    assert (folder / "data" / "online.db").stat().st_size > 0
