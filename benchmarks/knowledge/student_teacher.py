"""Does a small language model learn to answer as a large one did, and does it know when it does not?

SmolLM2-135M is fine-tuned on the recorded answers of a large model about `scientific`, then answers items
that it never learned from. Beside it stand two measures: the large model's second writing of 660 items, which
no student can be expected to pass, and the answer of the most similar item that was learned from, which costs
no model at all. Agreement is of words; `_cosine` is of the text encoder's vectors.

The default is what two cores do in a quarter of an hour; REASEQ_STUDENT_ITEMS takes more. Needs
`scripts/make_smollm.sh`.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.knowledge.pretrained import MODEL
from benchmarks.shared.public_data import PublicDataMissingError, find_data_folder, load_benchmark_config
from benchmarks.shared.results import REPOSITORY, Row, digest_sources, make_row
from contracts.artifacts import read_lineage
from contracts.digests import digest_value
from contracts.ingestion.ingest import ingest_dataset
from models.knowledge.config import (
    CascadeTeacherConfig,
    EmbeddingConfig,
    KnowledgeConfig,
    LanguageModelConfig,
    ReplayTeacherConfig,
    StudentConfig,
)
from models.knowledge.distillation.distill_knowledge import distill_knowledge
from models.knowledge.embedding.text_encoder import SentenceEncoder
from models.knowledge.reporting.teacher_agreement import measure_item_agreement
from models.knowledge.teacher_student.distill_teacher import HELD_OUT_FILE, distill_teacher
from models.knowledge.teacher_student.held_out_answers import KIND, SAME_KIND, list_facets
from models.knowledge.teacher_student.training_examples import Lessons, read_lessons, store_examples
from models.knowledge.teachers.compact.compact_answer import CompactAnswer
from pipelines.config import load_config
from pipelines.run_data import prepare_local_data

DATASET: Final = "scientific"
RECORDINGS: Final = "llm_knowledge.jsonl.gz"
SECOND_RECORDINGS: Final = "llm_knowledge_second.jsonl.gz"
SHARES: Final = tuple(share / 10 for share in range(11))
_ITEMS_VARIABLE: Final = "REASEQ_STUDENT_ITEMS"
_MAX_COMPARED: Final = 200
"""Items that the large model described twice; more change nothing."""
_MAKERS: Final = ("contracts", "models/knowledge", "models/training")

Facets = Mapping[str, Sequence[str]]


def measure_student_teacher() -> list[Row]:
    """The rows of the student and of the cascade.

    Raises:
        PublicDataMissingError: the recorded answers are not there, or the pretrained model was not made.
    """
    config = configure_student()
    folder = prepare_student(config)
    lines = [json.loads(line) for line in (folder / "student" / HELD_OUT_FILE).read_text().splitlines()]
    metrics = read_lineage(folder / "student").metrics
    data = f"{len(lines)} held-out items, SmolLM2-135M, {metrics['items_trained']:.0f} items learned from"
    similarity = _TextSimilarity()
    lessons = read_lessons(folder / "dataset", folder / "knowledge", config)
    pairs = [(_read_facets(line["student"], line["is_valid"]), _facets_of(line["teacher"])) for line in lines]
    copied = _copy_neighbors(lessons, lines)
    ceiling = _pair_both_writings(folder)
    figures = {
        "valid_share": metrics["valid_share"],
        "validation_loss": metrics["validation_loss"],
        **_compare("", pairs, similarity),
        **_compare("neighbor_", copied, similarity),
        **_compare("ceiling_", ceiling, similarity),
    }
    rows = [
        make_row(f"knowledge.student_lm.{name}", value, unit=_name_unit(name), data=data)
        for name, value in figures.items()
    ]
    return [*rows, *_make_cost_rows(lines, data), *_make_cascade_rows(lines, data)]


def configure_student() -> StudentConfig:
    """The student that two cores can train."""
    return StudentConfig(
        base_model=str(MODEL),
        max_items=int(os.environ.get(_ITEMS_VARIABLE, "200")),
        held_out_share=0.1,
        max_measured=64,
        max_claims=2,
        epochs=1,
        batch_size=8,
        precision="bfloat16",
    )


def prepare_student(config: StudentConfig) -> Path:
    """Dataset, both writings as knowledge, and the student; reused as long as their makers are the same.

    Raises:
        PublicDataMissingError: the recorded answers are not there, or the pretrained model was not made.
    """
    data_folder = find_data_folder(DATASET)
    for path in (data_folder / RECORDINGS, data_folder / SECOND_RECORDINGS):
        if not path.is_file():
            raise PublicDataMissingError(f"there are no recorded answers: {path}")
    if not (MODEL / "model.safetensors").is_file():
        raise PublicDataMissingError("there is no pretrained model: run scripts/make_smollm.sh")
    run_config = load_benchmark_config(DATASET)
    key = digest_value([digest_sources(*_MAKERS), config.model_dump(mode="json")])
    folder = run_config.home / "bench_student" / key
    dataset = folder / "dataset"

    def record(recordings: str, out: Path) -> None:
        teacher = ReplayTeacherConfig(kind="replay", recordings=data_folder / recordings)
        # The second writing is of a part of the items; the others count as invalid.
        knowledge_config = KnowledgeConfig(teacher=teacher, max_invalid_rate=1)
        distill_knowledge(dataset, knowledge_config, cache=folder / "cache", out=out)

    steps: dict[str, Callable[[Path], object]] = {
        "dataset": lambda out: ingest_dataset(prepare_local_data(run_config), out=out),
        "knowledge": lambda out: record(RECORDINGS, out),
        "knowledge_second": lambda out: record(SECOND_RECORDINGS, out),
        "student": lambda out: distill_teacher(
            dataset, folder / "knowledge", config, checkpoints=folder / "checkpoints", out=out
        ),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for step, make_artifact in steps.items():
        if not (folder / step).exists():
            print(f"{DATASET}: {step}", flush=True)
            make_artifact(folder / step)
    return folder


def _pair_both_writings(folder: Path) -> list[tuple[Facets, Facets]]:
    """What the large model wrote at first and a second time about the same items."""
    # One lesson is held out at least, so that both sides are read whole.
    config = StudentConfig(max_claims=2, held_out_share=0.5)
    writings = []
    for knowledge in ("knowledge", "knowledge_second"):
        sides = read_lessons(folder / "dataset", folder / knowledge, config)
        writings.append({lesson.item_id: lesson for side in sides for lesson in side})
    first, second = writings
    both = sorted(second.keys() & first.keys())[:_MAX_COMPARED]
    return [(list_facets(second[item].answer), list_facets(first[item].answer)) for item in both]


def _copy_neighbors(lessons: Lessons, lines: Sequence[dict[str, Any]]) -> list[tuple[Facets, Facets]]:
    """For each held-out item what the student is shown: the answer about the most similar lesson."""
    products = {lesson.item_id: lesson.product for lesson in lessons.held_out}
    store = store_examples(lessons.training)
    shown = store.find_examples([products[line["item_id"]] for line in lines])
    return [
        (
            list_facets(example.answer) if example else _read_facets("", is_valid=False),
            _facets_of(line["teacher"]),
        )
        for example, line in zip(shown, lines, strict=True)
    ]


def _compare(
    prefix: str, pairs: Sequence[tuple[Facets, Facets]], similarity: "_TextSimilarity"
) -> dict[str, float]:
    """Accuracy of kinds, agreement of all facets, and of each; of an invalid answer 0."""
    by_words = [measure_item_agreement(*pair) for pair in pairs]
    by_cosine = [similarity.measure_item_agreement(*pair) for pair in pairs]
    figures: dict[str, Any] = {
        f"{prefix}kind_accuracy": np.mean([facets.get(KIND, 0.0) >= SAME_KIND for facets in by_words]),
        f"{prefix}agreement": np.mean([_average(facets) for facets in by_words]),
        f"{prefix}agreement_cosine": np.mean([_average(facets) for facets in by_cosine]),
    }
    for facet in pairs[0][1]:
        scores = [facets[facet] for facets in by_words if facet in facets]
        figures[f"{prefix}agreement_{facet}"] = np.mean(scores) if scores else 0.0
    return {name: float(value) for name, value in figures.items()}


def _make_cost_rows(lines: Sequence[dict[str, Any]], data: str) -> list[Row]:
    """What a thousand items cost the student, and the share of what they would cost the large model.

    Both are asked the same question. The large model's answer is as long as the recorded one, in the same
    tokens.
    """
    from transformers import AutoTokenizer

    teacher = load_config(REPOSITORY / "configs/scientific-cascade.yaml").knowledge.teacher
    assert isinstance(teacher, CascadeTeacherConfig)
    assert isinstance(teacher.fallback, LanguageModelConfig)
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    answers = [CompactAnswer.model_validate(line["teacher"]).model_dump_json() for line in lines]
    tokens_in = np.mean([line["tokens_in"] for line in lines])
    student_out = np.mean([line["tokens_out"] for line in lines])
    large_out = np.mean([len(tokenizer(answer)["input_ids"]) for answer in answers])
    moneys = [
        (
            tokens_in * prices.price_per_million_input_tokens
            + tokens_out * prices.price_per_million_output_tokens
        )
        / 1000
        for prices, tokens_out in ((teacher.student, student_out), (teacher.fallback, large_out))
    ]
    seconds = sum(line["seconds"] for line in lines) / len(lines)
    figures = {
        "cost_ratio": (moneys[0] / moneys[1], "ratio"),
        "money_per_1000": (moneys[0], "money"),
        "tokens_per_item": (tokens_in + student_out, "tokens"),
        "seconds_per_1000": (1000 * seconds, "s"),
    }
    return [
        make_row(
            f"knowledge.student_lm.{name}",
            float(value),
            unit=unit,
            better="lower",
            data=f"{data}, prices of the config",
        )
        for name, (value, unit) in figures.items()
    ]


def _make_cascade_rows(lines: Sequence[dict[str, Any]], data: str) -> list[Row]:
    """Agreement with the large model where the least confident items are sent to it, and at random."""
    agreements = np.array([_average(line["agreement"]) for line in lines])
    confidences = np.array([line["confidence"] if line["is_valid"] else -np.inf for line in lines])
    by_confidence = np.argsort(confidences, kind="stable")
    curve = {}
    for share in SHARES:
        reached = agreements.copy()
        reached[by_confidence[: round(share * len(lines))]] = 1.0
        curve[share] = float(reached.mean())
        at_random = share + (1 - share) * agreements.mean()
        print(f"sent {share:4.0%}: agreement {curve[share]:.3f}, at random {at_random:.3f}", flush=True)
    num_for_95 = next(
        number
        for number in range(len(lines) + 1)
        if number + agreements[by_confidence[number:]].sum() >= 0.95 * len(lines)
    )
    is_valid = np.isfinite(confidences)
    correlation = np.corrcoef(
        confidences[is_valid].argsort().argsort(), agreements[is_valid].argsort().argsort()
    )[0, 1]
    figures = {
        "agreement_at_30": curve[0.3],
        "sent_for_95": num_for_95 / len(lines),
        "confidence_correlation": correlation,
    }
    return [
        make_row(f"knowledge.cascade.{name}", float(value), unit=_name_unit(name), data=data)
        for name, value in figures.items()
    ]


class _TextSimilarity:
    """Cosines of phrases by the default text encoder."""

    def __init__(self) -> None:
        self._encoder = SentenceEncoder(EmbeddingConfig())
        self._vectors: dict[str, Any] = {}

    def _encode(self, texts: Sequence[str]) -> Any:
        new_texts = sorted({text for text in texts if text not in self._vectors})
        if new_texts:
            vectors = np.asarray(self._encoder.encode(new_texts))
            vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
            self._vectors |= dict(zip(new_texts, vectors, strict=True))
        return np.stack([self._vectors[text] for text in texts])

    def measure_item_agreement(self, first: Facets, second: Facets) -> dict[str, float]:
        """The mean of each claim's best match on the other side, by facet."""
        scores = {}
        for facet, claims in first.items():
            others = [text for text in second[facet] if text]
            claims = [text for text in claims if text]
            if claims and others:
                cosines = self._encode(claims) @ self._encode(others).T
                best_matches = [*cosines.max(axis=0), *cosines.max(axis=1)]
                scores[facet] = float(np.mean(best_matches))
            elif claims or others:
                scores[facet] = 0.0
        return scores


def _read_facets(text: str, is_valid: bool) -> Facets:
    if is_valid:
        return list_facets(CompactAnswer.model_validate_json(text))
    return {name: [] for name in CompactAnswer.model_fields}


def _facets_of(answer: dict[str, Any]) -> Facets:
    return list_facets(CompactAnswer.model_validate(answer))


def _average(facets: Mapping[str, float]) -> float:
    return float(np.mean(list(facets.values()))) if facets else 0.0


def _name_unit(name: str) -> str:
    return "nats" if "loss" in name else "correlation" if "correlation" in name else "share"
