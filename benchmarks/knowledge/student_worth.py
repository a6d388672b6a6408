"""What a distilled student's knowledge is worth to the ranker, of what the large model's is worth.

The large model is asked about a part of `scientific` alone (REASEQ_STUDENT_ITEMS; 1,086 is a quarter). A
student learns from these answers. Rankers of one network are trained per seed in spaces that are learned from
the same log; what is known of all other items differs: nothing; the answer about the most similar item of the
part, which costs no model; the student's; the student's, but for the half that it doubts most the large
model's.
"""

import gzip
import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.knowledge.quality import embed_catalogue, prepare_inputs
from benchmarks.knowledge.recorded_worth import SEEDS, run_trial_in_space
from benchmarks.knowledge.student_answers import ask_student, read_products
from benchmarks.knowledge.student_teacher import DATASET, RECORDINGS, configure_student, prepare_student
from benchmarks.ranker.trials import Trial
from benchmarks.shared.measured_process import run_on_all_cores
from benchmarks.shared.public_data import find_data_folder, load_benchmark_config
from benchmarks.shared.results import Row, make_row
from contracts.digests import digest_value
from models.knowledge.config import KnowledgeConfig, ReplayTeacherConfig, StudentConfig
from models.knowledge.distillation.distill_knowledge import distill_knowledge
from models.knowledge.teacher_student.training_examples import read_lessons, store_examples
from models.knowledge.teachers.compact.compact_answer import CompactAnswer

_SEEDS: Final = SEEDS[:4]
_TEXT, _LARGE = "text_space", "llm_space"
_PART, _NEIGHBOR, _STUDENT, _CASCADE = "part_space", "neighbor_space", "student_space", "cascade_space"
_SENT_SHARE: Final = 0.5
"""Of the other items: sent to the large model in the cascade."""

Lines = dict[str, dict[str, Any]]
"""Item -> what is recorded of it."""


def measure_student_worth() -> list[Row]:
    """The rows of shares of the gain, and of the calls that a cascade needs for nearly all of it.

    Raises:
        PublicDataMissingError: the recorded answers are not there, or the pretrained model was not made.
    """
    config = configure_student()
    student = prepare_student(config)
    folder = prepare_inputs(DATASET, ("text", "recorded"))
    spaces = {_TEXT: folder / "space_text", _LARGE: folder / "space_recorded"}
    lines_by_arm, shares_asked = _record_arms(student, folder, config)
    for arm, lines in lines_by_arm.items():
        spaces[arm] = _make_space(folder, f"{arm}_{digest_value(lines)}", lines)
    trials = [Trial(DATASET, ranker, seed) for seed in _SEEDS for ranker in spaces]
    trial_metrics = run_on_all_cores(
        run_trial_in_space, trials, [folder] * len(trials), [spaces[trial.ranker] for trial in trials]
    )
    quality = {
        ranker: float(
            np.mean([m["ndcg10"] for t, m in zip(trials, trial_metrics, strict=True) if t.ranker == ranker])
        )
        for ranker in spaces
    }
    return _make_rows(quality, shares_asked)


def _record_arms(
    student: Path, folder: Path, config: StudentConfig
) -> tuple[dict[str, Lines], dict[str, float]]:
    """What each arm's teachers recorded, and the share of all items that the large model was asked about."""
    products = read_products(folder / "dataset")
    recorded = _read_recordings()
    sides = read_lessons(student / "dataset", student / "knowledge", config)
    lessons = [*sides.training, *sides.held_out]
    part = {lesson.item_id: recorded[lesson.item_id] for lesson in lessons}
    others = {item: product for item, product in products.items() if item not in part}
    answers = ask_student(student, list(others))
    by_student = {
        item: _to_line(item, CompactAnswer.model_validate(answer["answer"]))
        for item, answer in answers.items()
        if answer["answer"]
    }
    examples = store_examples(lessons).find_examples(list(others.values()))
    by_neighbor = {
        item: _to_line(item, example.answer)
        for item, example in zip(others, examples, strict=True)
        if example
    }
    least_confident = sorted(others, key=lambda item: (item in by_student, answers[item]["confidence"], item))
    sent = {
        item: recorded[item]
        for item in least_confident[: round(_SENT_SHARE * len(others))]
        if item in recorded
    }
    arms = {
        _PART: part,
        _NEIGHBOR: part | by_neighbor,
        _STUDENT: part | by_student,
        _CASCADE: part | by_student | sent,
    }
    share = len(part) / len(products)
    return arms, {_STUDENT: share, _CASCADE: share + _SENT_SHARE * (1 - share)}


def _make_space(folder: Path, name: str, lines: Lines) -> Path:
    """The space that is learned with what is recorded; made once."""
    knowledge, space = folder / f"knowledge_{name}", folder / f"space_{name}"
    if not knowledge.exists():
        recordings = folder / f"{name}.jsonl"
        recordings.write_text("".join(json.dumps(line) + "\n" for line in lines.values()))
        teacher = ReplayTeacherConfig(kind="replay", recordings=recordings)
        # Of many items nothing is known.
        config = KnowledgeConfig(teacher=teacher, max_invalid_rate=1)
        distill_knowledge(folder / "dataset", config, cache=folder / f"cache_{name}", out=knowledge)
    if not space.exists():
        embed_catalogue(folder, load_benchmark_config(f"{DATASET}-recorded"), knowledge.name, space)
    return space


def _make_rows(quality: Mapping[str, float], shares_asked: Mapping[str, float]) -> list[Row]:
    gain = quality[_LARGE] - quality[_TEXT]
    shares = {arm: (quality[arm] - quality[_TEXT]) / gain for arm in (_PART, _NEIGHBOR, _STUDENT, _CASCADE)}
    for arm, share in shares.items():
        print(f"{arm}: NDCG@10 {quality[arm]:.4f}, {share:.0%} of the large model's gain", flush=True)
    points = [(asked, shares[arm]) for arm, asked in shares_asked.items()]
    data = (
        f"{DATASET}, the large model asked about {shares_asked[_STUDENT]:.0%} of the items, a student about "
        f"the others; gain in NDCG@10 from {quality[_TEXT]:.4f} to {quality[_LARGE]:.4f}"
    )
    values = {
        "student_lm.ranker_share_of_gain": shares[_STUDENT],
        "student_lm.ranker_share_of_gain_alone": shares[_PART],
        "student_lm.ranker_share_of_gain_neighbors": shares[_NEIGHBOR],
        "cascade.ranker_share_of_gain": shares[_CASCADE],
    }
    rows = [
        make_row(f"knowledge.{name}", value, unit="share", data=data, seeds=list(_SEEDS))
        for name, value in values.items()
    ]
    calls = find_calls([*points, (1.0, 1.0)], 0.95)
    calls_row = make_row(
        "knowledge.cascade.calls_for_95",
        calls,
        unit="share",
        better="lower",
        data=data,
        seeds=list(_SEEDS),
    )
    return [*rows, calls_row]


def find_calls(points: Sequence[tuple[float, float]], wanted: float) -> float:
    """The least share of calls that gives the wanted share of the gain, straight between measured points.

    Args:
        points: Share of calls and share of the gain, by the first.
        wanted: Share of the gain.
    """
    if points[0][1] >= wanted:
        return points[0][0]
    for (calls, gain), (more_calls, more_gain) in pairwise(points):
        if more_gain >= wanted:
            return calls + (wanted - gain) / (more_gain - gain) * (more_calls - calls)
    return points[-1][0]


def _read_recordings() -> Lines:
    with gzip.open(find_data_folder(DATASET) / RECORDINGS, "rt") as stream:
        return {line["item_id"]: line for line in map(json.loads, stream)}


def _to_line(item_id: str, answer: CompactAnswer) -> dict[str, Any]:
    return answer.to_knowledge().model_copy(update={"item_id": item_id}).model_dump(exclude={"title"})
