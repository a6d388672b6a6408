"""A local run shows one line a step and tells a user's error from a fault of ours."""

import io

from contracts.errors import UserError
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

    error = log.explain(RuntimeError("x"))

    assert isinstance(error, UserError)
    assert str(error).startswith("step 'ingest': 2 error(s):\n")
    assert "price: too low" in str(error)


def test_a_step_that_still_runs_after_the_failure_does_not_hide_it(tmp_path):
    log, _ = _log(tmp_path, FAILED + "Executing task 'other'\n    fine\nTask 'other' finished with status SUCCESS\n")

    assert str(log.explain(RuntimeError("x"))).startswith("step 'ingest': 2 error(s):")


def test_of_shards_that_fail_at_once_the_first_is_told(tmp_path):
    log, _ = _log(tmp_path, FAILED + "Traceback (most recent call last):\ncontracts.errors.UserError: the other\n")

    assert "the other" not in str(log.explain(RuntimeError("x")))


def test_a_fault_of_ours_shows_the_end_of_the_log(tmp_path):
    log, _ = _log(tmp_path, FAILED.replace("contracts.errors.UserError", "KeyError"))

    error = log.explain(RuntimeError("inner"))

    assert not isinstance(error, UserError)
    assert "KeyError" in str(error)
    assert "run.log" in str(error)
