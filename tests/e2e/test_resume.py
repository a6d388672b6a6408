"""A run that is killed goes on where it stopped; one that is interrupted ends its steps first."""

import os
import signal
import subprocess
import sys

import psutil
import pytest

from reaseq.interruption import is_alive
from tests.e2e.conftest import ROOT, run_reaseq, write_config

pytestmark = pytest.mark.e2e


def test_a_killed_run_reuses_the_steps_it_had_finished(tmp_path):
    config_path = write_config(tmp_path)
    command = [sys.executable, "-m", "reaseq.cli", "run", "--no-deploy", "--config", str(config_path)]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == "train-behavior-model ...":
                os.killpg(process.pid, signal.SIGKILL)

    resumed_run = run_reaseq("run", "--no-deploy", "--config", str(config_path))

    assert resumed_run.returncode == 0, resumed_run.stdout[-2000:] + resumed_run.stderr[-2000:]
    for step_name in ("ingest", "distill-knowledge", "embed-items"):
        assert f"{step_name}: unchanged, reused" in resumed_run.stdout
    assert "train-behavior-model: success" in resumed_run.stdout


def test_an_interrupted_run_leaves_no_process(tmp_path):
    config_path = write_config(tmp_path)
    command = [sys.executable, "-m", "reaseq.cli", "run", "--no-deploy", "--config", str(config_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "ingest ..." in next(line for line in process.stdout if "ingest" in line)
        steps = []
        while not steps:
            steps = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        exit_code = process.wait()

    assert exit_code == 128 + signal.SIGTERM
    assert not any(map(is_alive, steps))
