"""What the space learns from the log, and how items without knowledge find their place in it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from contracts.artifacts import create_artifact, write_json, write_table
from contracts.errors import UserError
from contracts.shards import assign_shards
from contracts.tables import EVENTS, ITEMS
from models.knowledge.config import AspectsConfig, ContrastConfig, EmbeddingConfig
from models.knowledge.embedding import mapped_matrices
from models.knowledge.embedding.coengagement import NO_ITEM, CoEngagement, read_coengagement
from models.knowledge.embedding.embedding_space import EmbeddingSpace, fit_space
from models.knowledge.embedding.exact_words import PAGE_WORDS, TITLE_WORDS
from models.knowledge.embedding.item_views import KNOWLEDGE, normalize_rows
from models.knowledge.embedding.projection import Dropout, TrainableProjection
from models.knowledge.embedding.projection_inputs import fit_principal_axes, rotate_inputs
from models.knowledge.embedding.space_training import count_training_steps
from models.knowledge.embedding.student import measure_neighbor_recall

START = datetime(2026, 1, 1, tzinfo=UTC)
NUM_ITEMS = 40
CONTRAST = ContrastConfig(epochs=30, batch_size=16, num_folds=0)
CONTRAST_OF_FOLDS = ContrastConfig(epochs=30, batch_size=16, num_folds=2)


def config(**options) -> EmbeddingConfig:
    defaults = {"dimension": 12, "contrast": CONTRAST}
    return EmbeddingConfig(**defaults | options)


def random_views(seed: int = 0, *, num_items: int = NUM_ITEMS) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    views = {
        name: rng.standard_normal((num_items, 12)).astype(np.float32) for name in ("text", "title", KNOWLEDGE)
    }
    return {name: view / np.linalg.norm(view, axis=1, keepdims=True) for name, view in views.items()}


def engaged(pairs: list[tuple[int, int]]) -> CoEngagement:
    """Each pair: an item turned to after another."""
    targets, before = (np.array(side) for side in zip(*pairs, strict=True))
    histories = np.column_stack([before, np.full((len(pairs), 2), NO_ITEM)])
    return CoEngagement(np.arange(len(pairs)), targets, histories, np.arange(len(pairs)) % 2)


NOTHING = CoEngagement(*(np.zeros(shape, np.int64) for shape in ((0,), (0,), (0, 3), (0,))))


def texts_without_words(num_items: int = NUM_ITEMS) -> dict[str, list[str]]:
    return dict.fromkeys((TITLE_WORDS, PAGE_WORDS), [""] * num_items)


def texts_of(num_items: int = NUM_ITEMS) -> dict[str, list[str]]:
    return {
        kind: [f"thing number{item} kind{item % 5}" for item in range(num_items)]
        for kind in (TITLE_WORDS, PAGE_WORDS)
    }


def place(space: EmbeddingSpace, views: dict[str, np.ndarray], texts: dict[str, list[str]]) -> np.ndarray:
    """Points of items without residuals."""
    _, inputs = space.input_builder.build_inputs(views, texts)
    return space.projection.project_views(inputs)


def test_items_of_the_same_histories_come_closer() -> None:
    views = random_views()
    partners = [(item ^ 1, item) for item in range(NUM_ITEMS)] * 4
    similar = {}
    for name, log in {"with": engaged(partners), "without": NOTHING}.items():
        fitted = fit_space(views, texts_of(), log, config())
        vectors = fitted.space.project_items(views, fitted.residuals, texts_of())[:, :12]
        similar[name] = np.mean([vectors[item] @ vectors[item ^ 1] for item in range(NUM_ITEMS)])
    assert similar["with"] > similar["without"] + 0.3


def test_the_same_seed_gives_the_same_space() -> None:
    views, log = random_views(), engaged([(item ^ 1, item) for item in range(NUM_ITEMS)])
    first, second = (fit_space(views, texts_of(), log, config()) for _ in range(2))
    np.testing.assert_array_equal(
        place(first.space, views, texts_of()), place(second.space, views, texts_of())
    )
    np.testing.assert_array_equal(first.residuals, second.residuals)


def test_without_a_log_the_space_is_a_principal_component_analysis() -> None:
    views = random_views()
    fitted = fit_space(views, texts_without_words(), NOTHING, config(dimension=36))
    assert not fitted.residuals.any()
    _, full_inputs = fitted.space.input_builder.build_inputs(views, texts_without_words())
    points = place(fitted.space, views, texts_without_words())
    # All axes kept: a rotation, which changes no similarity.
    np.testing.assert_allclose(points @ points.T, full_inputs @ full_inputs.T, atol=1e-4)


def follow_text(num_items: int = 200) -> dict[str, np.ndarray]:
    """Views whose knowledge follows from the text."""
    views = random_views(num_items=num_items)
    return views | {KNOWLEDGE: np.roll(views["text"], 3, axis=1)}


def test_an_item_without_knowledge_is_placed_by_its_text() -> None:
    views, texts = follow_text(), texts_without_words(200)
    fitted = fit_space(views, texts, engaged([(item ^ 1, item) for item in range(200)]), config())
    by_knowledge = place(fitted.space, views, texts)
    by_text = place(fitted.space, views | {KNOWLEDGE: np.zeros_like(views[KNOWLEDGE])}, texts)
    cosines = (normalize_rows(by_knowledge) * normalize_rows(by_text)).sum(1)
    assert np.median(cosines) > 0.95


def test_knowledge_of_half_of_the_items_does_not_set_the_others_apart() -> None:
    views, texts = follow_text(), texts_without_words(200)
    is_known = np.arange(200) % 2 == 0
    views[KNOWLEDGE] = views[KNOWLEDGE] * is_known[:, None]
    # The space is learned from the filled inputs, and its folds have the same of them.
    fitted = fit_space(views, texts, NOTHING, config(dimension=36, contrast=CONTRAST_OF_FOLDS))
    vectors = fitted.space.project_items(views, fitted.residuals, texts)[:, :36]
    np.testing.assert_allclose(fitted.fold_vectors[0], vectors, atol=1e-5)
    _, inputs = fitted.space.input_builder.build_inputs(views, texts)
    filled = fitted.space.input_builder.select_view(inputs, KNOWLEDGE)
    np.testing.assert_allclose(np.linalg.norm(filled, axis=1), 1, atol=1e-5)
    whole = follow_text()
    _, known_inputs = fitted.space.input_builder.build_inputs(whole, texts)
    expected = fitted.space.input_builder.select_view(known_inputs, KNOWLEDGE)
    assert (filled * expected)[~is_known].sum(1).mean() > 0.9


def test_where_nothing_is_known_nothing_is_filled_in() -> None:
    views = random_views()
    views[KNOWLEDGE][:] = 0
    fitted = fit_space(views, texts_of(), NOTHING, config())
    _, inputs = fitted.space.input_builder.build_inputs(views, texts_of())
    assert not fitted.space.input_builder.select_view(inputs, KNOWLEDGE).any()


def test_a_space_that_fills_nothing_in_is_refused() -> None:
    views = random_views()
    fitted = fit_space(views, texts_of(), NOTHING, config())
    old_space = fitted.space._replace(input_builder=fitted.space.input_builder._replace(filler=None))
    with pytest.raises(UserError, match="an earlier version made them"):
        old_space.project_items(views, fitted.residuals, texts_of())


def test_a_student_places_what_has_a_title_alone() -> None:
    views, texts = follow_text(), texts_without_words(200)
    fitted = fit_space(views, texts, engaged([(item ^ 1, item) for item in range(200)]), config())
    assert fitted.metrics["student_recall10"] > 0.6
    queries = fitted.space.project_queries(views, texts)
    learned = fitted.space.project_items(views, np.zeros((200, 12), np.float32), texts)
    assert queries.shape == learned.shape
    assert np.median((queries[:, :12] * learned[:, :12]).sum(1)) > 0.9
    assert not queries[:, fitted.space.aspect_lengths["learned"] :][:, -3:].any(), "no aspect of knowledge"


def test_a_space_of_raw_text_has_no_student() -> None:
    views = random_views()
    del views[KNOWLEDGE]
    fitted = fit_space(views, texts_of(), NOTHING, config())
    assert fitted.space.student is None
    assert place(fitted.space, views, texts_of()).shape == (NUM_ITEMS, 12)


def test_a_saved_space_places_items_where_they_were(tmp_path: Path) -> None:
    views = random_views()
    fitted = fit_space(views, texts_of(), engaged([(item ^ 1, item) for item in range(NUM_ITEMS)]), config())
    fitted.space.save_tensors(tmp_path / "space.safetensors")
    loaded = EmbeddingSpace.load_tensors(tmp_path / "space.safetensors")
    views[KNOWLEDGE][:5] = 0
    assert loaded.aspect_lengths == fitted.space.aspect_lengths
    texts, residuals = texts_of(), fitted.residuals
    np.testing.assert_array_equal(
        loaded.project_items(views, residuals, texts), fitted.space.project_items(views, residuals, texts)
    )


def test_large_catalogues_are_worked_through_in_blocks_on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    views, log = random_views(), engaged([(item ^ 1, item) for item in range(NUM_ITEMS)])
    views[KNOWLEDGE][:5] = 0

    def place() -> np.ndarray:
        fitted = fit_space(views, texts_of(), log, config())
        return fitted.space.project_items(views, fitted.residuals, texts_of())

    whole = place()
    monkeypatch.setattr(mapped_matrices, "BLOCK_ROWS", 7)
    monkeypatch.setattr(mapped_matrices, "_MAX_BYTES_IN_MEMORY", 0)
    cosines, expected = (vectors @ vectors.T for vectors in (place(), whole))
    np.testing.assert_allclose(cosines, expected, atol=2e-2)


def test_every_aspect_of_an_item_has_unit_norm() -> None:
    views, texts = random_views(), texts_of()
    fitted = fit_space(views, texts, NOTHING, config(aspects=AspectsConfig(words=4, knowledge=3)))
    assert fitted.space.aspect_lengths == {"learned": 12, "words": 4, KNOWLEDGE: 3}
    vectors = fitted.space.project_items(views, fitted.residuals, texts)
    lengths = np.add.reduceat(vectors**2, [0, 12, 16], axis=1)
    np.testing.assert_allclose(lengths, 1, atol=1e-5)


def test_an_aspect_that_is_left_out_is_no_aspect() -> None:
    views, texts = random_views(), texts_of()
    fitted = fit_space(views, texts, NOTHING, config(aspects=AspectsConfig(words=0, knowledge=0)))
    assert fitted.space.aspect_lengths == {"learned": 12}
    assert fitted.space.project_items(views, fitted.residuals, texts).shape == (NUM_ITEMS, 12)


def test_a_single_fold_is_refused() -> None:
    with pytest.raises(ValueError, match="num_folds 1"):
        ContrastConfig(num_folds=1)


def test_a_fold_has_learned_nothing_from_its_own_users() -> None:
    views, texts = random_views(), texts_of()
    partners = [(item ^ 1, item) for item in range(NUM_ITEMS)] * 4
    log = engaged(partners)._replace(folds=(np.array(partners)[:, 1] < NUM_ITEMS // 2).astype(np.int64))
    two_folds = config(contrast=CONTRAST.model_copy(update={"num_folds": 2}))
    first, second = fit_space(views, texts, log, two_folds).fold_vectors
    pairs = np.arange(NUM_ITEMS)
    near = np.stack([(fold[pairs] * fold[pairs ^ 1]).sum(1) for fold in (first, second)])
    late = pairs >= NUM_ITEMS // 2
    assert near[0, ~late].mean() > near[0, late].mean() + 0.2, "fold 0 holds the users of the late items"
    assert near[1, late].mean() > near[1, ~late].mean() + 0.2


def test_folds_of_a_log_follow_the_users(write_log) -> None:
    users = [f"u{number}" for number in range(12)]
    log = write_log([(user, item, day) for user in users for day, item in enumerate("abc", start=1)])
    engagement = read_coengagement(log, pl.Series(["a", "b", "c"]), seed=0, num_folds=3)
    user_folds = [
        set(engagement.folds[engagement.users == user].tolist()) for user in np.unique(engagement.users)
    ]
    assert all(len(folds) == 1 for folds in user_folds)
    expected = np.sort(np.repeat(assign_shards(pl.Series(users), 3).to_numpy(), 2))
    np.testing.assert_array_equal(np.sort(engagement.folds), expected)


def test_recall_counts_common_neighbors() -> None:
    catalogue = random_views(num_items=50)["text"]
    own = np.arange(10)
    assert measure_neighbor_recall(catalogue[own], catalogue[own], catalogue, own=own) == 1
    assert measure_neighbor_recall(-catalogue[own], catalogue[own], catalogue, own=own) < 0.1


@pytest.fixture
def write_log(tmp_path: Path):
    """Writes a dataset artifact of events (user, item, day); training ends on day 10."""

    def write(events: list[tuple[str, str, int]]) -> Path:
        out = tmp_path / f"log-{len(list(tmp_path.iterdir()))}"
        names = sorted({item for _, item, _ in events})
        items = pl.DataFrame([{"item_id": name, "title": name} for name in names], schema=ITEMS.schema)
        rows = [
            {
                "user_id": user,
                "item_id": item,
                "timestamp": START + timedelta(days=day),
                "event_type": "click",
            }
            for user, item, day in sorted(events, key=lambda event: event[2])
        ]
        ends = {"train_end": 10, "validation_end": 20, "cutoff": 30}
        with create_artifact(out, kind="dataset", inputs={}) as artifact:
            write_table(artifact.path / "items.parquet", ITEMS, items)
            write_table(artifact.path / "events.parquet", EVENTS, pl.DataFrame(rows))
            write_json(
                artifact.path / "split.json",
                {name: START + timedelta(days=day) for name, day in ends.items()},
            )
        return out

    return write


def test_engagement_is_new_behaviors_and_what_was_before_them(write_log) -> None:
    log = write_log(
        [("u", "a", 1), ("v", "b", 2), ("u", "b", 3), ("u", "c", 4), ("u", "c", 5), ("v", "a", 6)]
    )
    item_ids = pl.Series(["a", "b", "c"])
    engagement = read_coengagement(log, item_ids, seed=0)
    rows = {
        (int(target), tuple(history[:2]))
        for target, history in zip(engagement.targets, engagement.histories, strict=True)
    }
    assert rows == {(1, (0, NO_ITEM)), (2, (1, 0)), (0, (1, NO_ITEM))}, "the second look at c is nothing new"
    assert len(read_coengagement(log, item_ids, max_targets=2, seed=0).targets) <= 2


def test_nothing_after_the_training_end_is_learned_from(write_log) -> None:
    past = [("u", "a", 1), ("u", "b", 3), ("v", "c", 4), ("v", "a", 5)]
    ids = pl.Series(["a", "b", "c"])
    before = read_coengagement(write_log(past), ids, seed=0)
    after = read_coengagement(write_log([*past, ("u", "c", 10), ("v", "b", 25)]), ids, seed=0)
    for first, second in zip(before, after, strict=True):
        np.testing.assert_array_equal(first, second)


def test_a_log_too_small_for_one_batch_trains_nothing() -> None:
    assert count_training_steps(15, CONTRAST) == 0
    assert count_training_steps(33, CONTRAST) == 60


def test_the_number_of_threads_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    views, log = random_views(), engaged([(item ^ 1, item) for item in range(NUM_ITEMS)])
    folded = config(contrast=CONTRAST.model_copy(update={"num_folds": 2}))
    one_by_one, side_by_side = [], []
    for num_cores, vectors in ((1, one_by_one), (3, side_by_side)):
        monkeypatch.setattr("os.sched_getaffinity", lambda _, cores=num_cores: range(cores))
        fitted = fit_space(views, texts_of(), log, folded)
        vectors += [fitted.residuals, fitted.fold_vectors]
    for first, second in zip(one_by_one, side_by_side, strict=True):
        np.testing.assert_array_equal(first, second)


def test_training_sees_the_axes_in_which_inputs_differ() -> None:
    rng = np.random.default_rng(0)
    inputs = (rng.standard_normal((50, 6)) @ rng.standard_normal((6, 20))).astype(np.float32)
    axes = fit_principal_axes(inputs, 2)
    assert axes.shape[1] <= 6, "the other directions are empty"
    assert (rotate_inputs(inputs, axes) ** 2).sum() >= 0.999 * (inputs**2).sum()
    assert fit_principal_axes(inputs, 9).shape == (20, 9), "a space of nine dimensions needs as many axes"


def test_a_trained_projection_reads_views_as_they_are() -> None:
    class NoDropout(Dropout):
        def drop_numbers(self, values: torch.Tensor, share: float) -> torch.Tensor:
            return values

    torch.manual_seed(0)
    views = random_views()["text"]
    axes = fit_principal_axes(views, 4)
    trained = TrainableProjection(axes.shape[1], 4)
    torch.nn.init.normal_(trained.correction.weight)
    with torch.no_grad():
        expected = trained(torch.from_numpy(rotate_inputs(views, axes)), NoDropout(np.random.default_rng(0)))
    np.testing.assert_allclose(trained.undo_rotation(axes).project_views(views), expected, atol=1e-4)


def test_a_space_of_an_earlier_version_says_so():
    views = random_views()
    fitted = fit_space(views, texts_of(), NOTHING, config())
    now = {name: view for name, view in views.items() if name != "title"} | {"heading": views["title"]}
    with pytest.raises(UserError, match="'title', which this version does not make"):
        fitted.space.project_items(now, fitted.residuals, texts_of())
