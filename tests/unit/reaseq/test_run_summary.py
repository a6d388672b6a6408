"""What a run made is a table: aligned text in a log."""

from contracts.artifacts import create_artifact
from reaseq.run_summary import print_artifacts


def test_artifacts_are_listed_with_their_first_figures(tmp_path, capsys):
    for name, num_rows in (("dataset", 1200), ("evaluation", 3)):
        with create_artifact(tmp_path / name, kind=name, inputs={}) as artifact:
            artifact.metrics |= {"rows": num_rows, "rows.cold": 1}

    print_artifacts({name: tmp_path / name for name in ("dataset", "evaluation")})

    assert capsys.readouterr().out == (
        "  artifact    figures\n  dataset     rows 1,200\n  evaluation  rows 3\n"
    )


def test_a_run_tells_how_many_events_became_lists(tmp_path, capsys):
    with create_artifact(tmp_path / "lists", kind="ranking_lists", inputs={}) as artifact:
        for protocol in ("contemporaneous", "within_cold"):
            artifact.metrics |= {
                f"events.{protocol}.test": 50,
                f"lists.{protocol}.test": 20,
                f"skipped.{protocol}.test.repeat": 30,
                f"candidates_mean.{protocol}.test": 99.5,
                f"candidates_min.{protocol}.test": 60,
            }

    with create_artifact(tmp_path / "e", kind="evaluation", inputs={"lists": tmp_path / "lists"}):
        pass

    print_artifacts({"evaluation": tmp_path / "e"})

    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == (
        "  sampled test lists: 20 of 50 events became lists of 99.5 candidates, at least 60; "
        "left out: 30 repeat"
    )
    assert sum("events became lists" in line for line in lines) == 1
