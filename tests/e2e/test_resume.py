"""A run that is killed goes on where it stopped."""

import os
import signal
import subprocess
import sys

import pytest

from tests.e2e.conftest import ROOT, reaseq, write_config

pytestmark = pytest.mark.e2e


def test_a_killed_run_reuses_the_steps_it_had_finished(tmp_path):
    config = write_config(tmp_path)
    command = [sys.executable, "-m", "reaseq.cli", "run", "--no-deploy", "--config", str(config)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == "train-behavior-model ...":
                os.killpg(process.pid, signal.SIGKILL)

    resumed = reaseq("run", "--no-deploy", "--config", str(config))

    assert resumed.returncode == 0, resumed.stdout[-2000:] + resumed.stderr[-2000:]
    for step in ("ingest", "distill-knowledge", "embed-items"):
        assert f"{step}: unchanged, reused" in resumed.stdout
    assert "train-behavior-model: success" in resumed.stdout
