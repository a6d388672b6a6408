"""A local run shows one line a step and tells a user's error from a fault of ours."""

import io
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import pytest

from contracts.errors import TooMuchLostError, UserError
from pipelines.run_progress import StageProgress
from pipelines.step_log import StepLog

FAILED = """\
05:33:30 - INFO - Executing task '\x1b[96mingest\x1b[0m'
    Traceback (most recent call last):
      File "x.py", line 1, in <module>
    contracts.errors.UserError: 2 error(s):
      price: too low
05:33:31 - ERROR - Task '\x1b[96mingest\x1b[0m' finished with status \x1b[91mFAILURE\x1b[0m
"""


def _log(tmp_path, text):
    screen = io.StringIO()
    with StepLog(tmp_path / "run.log", screen=screen) as log:
        for start in range(0, len(text), 7):  # as it comes from a pipe: in pieces
            log.write(text[start : start + 7])
    return log, screen.getvalue()


def test_the_screen_shows_the_steps_and_the_file_everything(tmp_path):
    _, screen = _log(tmp_path, FAILED.replace("\x1b[96m", "").replace("\x1b[0m", ""))

    assert screen.splitlines()[0] == "  ingest ..."
    assert "ingest: failure in" in screen
    assert "Traceback" not in screen
    assert "Traceback" in (tmp_path / "run.log").read_text()


def test_a_users_error_in_a_step_is_raised_as_one(tmp_path):
    log, _ = _log(tmp_path, FAILED)

    error = log.explain_failure(RuntimeError("x"))

    assert isinstance(error, UserError)
    assert str(error).startswith("step 'ingest': 2 error(s):\n")
    assert "price: too low" in str(error)


def test_a_step_that_still_runs_after_the_failure_does_not_hide_it(tmp_path):
    log, _ = _log(
        tmp_path, FAILED + "Executing task 'other'\n    fine\nTask 'other' finished with status SUCCESS\n"
    )

    assert str(log.explain_failure(RuntimeError("x"))).startswith("step 'ingest': 2 error(s):")


def test_of_shards_that_fail_at_once_the_first_is_told(tmp_path):
    log, _ = _log(
        tmp_path, FAILED + "Traceback (most recent call last):\ncontracts.errors.UserError: the other\n"
    )

    assert "the other" not in str(log.explain_failure(RuntimeError("x")))


@pytest.mark.parametrize("error_class", [UserError, TooMuchLostError])
def test_every_error_of_the_user_is_known_by_its_module(tmp_path, error_class):
    name = f"{error_class.__module__}.{error_class.__name__}"
    log, _ = _log(tmp_path, FAILED.replace("contracts.errors.UserError", name))

    assert isinstance(log.explain_failure(RuntimeError("x")), UserError)


def test_a_fault_of_ours_shows_the_end_of_the_log(tmp_path):
    log, _ = _log(tmp_path, FAILED.replace("contracts.errors.UserError", "KeyError"))

    error = log.explain_failure(RuntimeError("inner"))

    assert not isinstance(error, UserError)
    assert "KeyError" in str(error)
    assert "run.log" in str(error)


def _report(done, process, total=100):
    return f"    progress: distill knowledge {done}/{total} items (process {process})\n"


def test_progress_of_shards_is_added_up_and_stays_out_of_the_error(tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.step_log._PLAIN_PERIOD_S", 0)
    started, *rest = FAILED.splitlines(keepends=True)

    log, screen = _log(tmp_path, "".join([started, _report(10, 1), _report(0, 2), _report(30, 1), *rest]))

    assert "distill knowledge 30/200 items, " in screen
    assert "/s, " in screen
    assert " left" in screen
    assert "progress" not in str(log.explain_failure(RuntimeError("x")))


def test_rate_and_time_left_count_from_what_was_heard_first():
    stage = StageProgress("train ranker", "steps", started_s=100.0)
    stage.update_count("1", 50, 250)
    assert stage.describe_stage(110.0) == "train ranker 50/250 steps"
    stage.update_count("1", 150, 250)
    assert stage.describe_stage(110.0) == "train ranker 150/250 steps, 10/s, 10 s left"


def test_a_terminal_sees_the_running_step_and_what_it_does():
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    with patch.dict("os.environ", {"TERM": "xterm"}), TemporaryDirectory() as folder:
        log = StepLog(Path(folder) / "run.log", screen=terminal, num_steps=3)
        with log:
            log.write("Executing task 'ingest'\n" + _report(5, 1))

    text = terminal.getvalue()
    assert "0 of 3 steps" in text
    assert "distill knowledge 5/100 items" in text
