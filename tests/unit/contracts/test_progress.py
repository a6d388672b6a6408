"""Progress is told often enough to be followed, and seldom enough not to flood a log."""

from contracts import progress
from pipelines.run_progress import RunProgress


def test_a_stage_prints_at_most_one_line_each_two_seconds(capsys, monkeypatch):
    moments = iter([100.0, 100.5, 102.0, 102.1])
    monkeypatch.setattr(progress, "_last_lines_s", {})
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(moments))

    for num_done in (1, 2, 3):
        progress.report_progress("encode texts", num_done, 9, "texts")
    progress.report_progress("train the student", 1, 30, "epochs")

    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" (")[0] for line in lines] == [
        "progress: encode texts 1/9 texts",
        "progress: encode texts 3/9 texts",
        "progress: train the student 1/30 epochs",
    ]


def test_the_step_log_understands_the_lines(capsys, monkeypatch):
    monkeypatch.setattr(progress, "_last_lines_s", {})
    run_progress = RunProgress(num_steps=1)

    progress.report_progress("train, epoch 1 of at most 3:", 5, 80, "steps")

    assert run_progress.read_line(capsys.readouterr().err.strip())
    assert run_progress.describe_running() == ["  train, epoch 1 of at most 3: 5/80 steps"]
    assert not run_progress.read_line("loss 0.5")
