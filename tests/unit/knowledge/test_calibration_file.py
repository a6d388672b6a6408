"""A student's calibration, read from a file that anybody may have written."""

import json
from pathlib import Path

import pytest

from contracts.errors import UserError
from models.knowledge.config import CascadeTeacherConfig
from models.knowledge.teachers.build_teacher import build_teacher
from models.knowledge.teachers.cascade.calibration import CALIBRATION_FILE, Calibration

GOOD = {"confidences": [-2.0, -1.0], "agreements": [0.2, 0.8], "num_invalid": 1}


def read(folder: Path, text: str) -> Calibration:
    path = folder / CALIBRATION_FILE
    path.write_text(text)
    return Calibration.read(path)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    calibration = Calibration([-2.0, -1.0], [0.2, 1.0000000000000002], 1)
    calibration.write(tmp_path)
    assert Calibration.read(tmp_path / CALIBRATION_FILE) == calibration


@pytest.mark.parametrize(
    "changes",
    [
        {"confidences": 1},
        {"confidences": ["a", "b"]},
        {"confidences": [-1.0, -2.0]},
        {"confidences": [-1.0]},
        {"agreements": [0.5]},
        {"agreements": [float("nan"), 0.5]},
        {"confidences": [float("-inf"), -1.0]},
        {"num_invalid": "1"},
        {"num_invalid": -1},
        {"other": 1},
    ],
)
def test_a_file_that_is_no_calibration_is_refused(tmp_path: Path, changes: dict[str, object]) -> None:
    with pytest.raises(UserError, match=r"is no calibration: .*Give the calibration\.json"):
        read(tmp_path, json.dumps({**GOOD, **changes}))


@pytest.mark.parametrize("text", ["", "[]", "null", "[" * 100_000, '{"confidences": []}'])
def test_a_file_of_something_else_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(UserError, match="is no calibration"):
        read(tmp_path, text)


def test_where_any_agreement_is_good_enough_nothing_valid_is_sent_on() -> None:
    calibration = Calibration([-2.0, -1.0], [0.2, 0.8], 1)
    assert calibration.find_threshold(share=None, min_agreement=0.0) == -float("inf")
    assert calibration.find_threshold(share=None, min_agreement=0.1) == -2.0


def test_a_student_without_a_valid_answer_is_no_part_of_a_cascade(tmp_path: Path) -> None:
    Calibration([], [], 7).write(tmp_path)
    config = CascadeTeacherConfig.model_validate(
        {
            "kind": "cascade",
            "share": 0.0,
            "student": {"kind": "transformers", "model": str(tmp_path)},
            "fallback": {"kind": "handbook"},
        }
    )
    with pytest.raises(UserError, match=r"no valid answer of the student \(7 were not valid\)"):
        build_teacher(config)
