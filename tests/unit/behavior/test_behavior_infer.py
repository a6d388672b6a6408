from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from behavior_shop import (
    CUTOFF,
    NUM_ITEMS,
    START,
    TRAIN_END,
    BehaviorShop,
    make_shop_embeddings,
    make_shop_events,
    make_shop_items,
    write_shop,
)

from contracts.artifacts import read_lineage, read_table
from contracts.errors import UserError
from contracts.shards import Shard
from contracts.tables import INFERRED_BEHAVIORS
from models.behavior.config import BehaviorConfig, ComplementsConfig
from models.behavior.decoding import shortlist_decoder
from models.behavior.inference import infer_snapshot as snapshot_inference
from models.behavior.inference import user_partitions
from models.behavior.inference.infer_behaviors import infer_behaviors
from models.behavior.inference.infer_snapshot import spread_snapshots
from models.behavior.inference.merge_inferred import merge_inferred
from models.behavior.training.train_behavior_model import train_behavior_model

KEY = ["user_id", "event_timestamp"]


def infer(shop: BehaviorShop, model: Path, config: BehaviorConfig, out: Path) -> pl.DataFrame:
    infer_behaviors(*shop, model, config, out=out)
    return read_table(out / "inferred_behaviors.parquet", INFERRED_BEHAVIORS)


@pytest.fixture(scope="module")
def inferred(
    shop: BehaviorShop, model: Path, config: BehaviorConfig, tmp_path_factory: pytest.TempPathFactory
) -> pl.DataFrame:
    return infer(shop, model, config, tmp_path_factory.mktemp("inferred") / "out")


def with_event(**event: object) -> pl.DataFrame:
    events = make_shop_events()
    return pl.concat([events, pl.DataFrame([event]).select(events.columns)])


def with_decoding(config: BehaviorConfig, **changes: object) -> BehaviorConfig:
    return config.model_copy(update={"decoding": config.decoding.model_copy(update=changes)})


def pairs(inferred: pl.DataFrame) -> pl.DataFrame:
    exploded_lists = inferred.explode("inferred_item_ids", "inferred_scores")
    return exploded_lists.rename({"inferred_item_ids": "item_id", "inferred_scores": "score"})


def test_one_row_per_known_user_and_snapshot(inferred: pl.DataFrame) -> None:
    snapshot_times = inferred["event_timestamp"].unique().sort()
    assert len(snapshot_times) == 3
    assert snapshot_times[-1] == CUTOFF
    first_seen = make_shop_events().group_by("user_id").agg(pl.col("timestamp").min())
    for time in snapshot_times:
        expected_users = first_seen.filter(pl.col("timestamp") < time)["user_id"].sort().to_list()
        assert inferred.filter(pl.col("event_timestamp") == time)["user_id"].to_list() == expected_users


def test_lists_are_distinct_ordered_and_confident(inferred: pl.DataFrame) -> None:
    assert (inferred["inferred_item_ids"].list.len() == 5).all()
    assert (inferred["inferred_item_ids"].list.n_unique() == 5).all()
    assert pairs(inferred)["score"].is_between(0, 1, closed="right").all()
    is_falling = inferred["inferred_scores"].list.eval(pl.element().diff().fill_null(0) <= 0).list.all()
    assert is_falling.all()


def test_no_logged_and_no_unavailable_item_is_inferred(inferred: pl.DataFrame) -> None:
    logged_behaviors = make_shop_events().filter(pl.col("event_type") != "impression")
    first_logged = logged_behaviors.group_by("user_id", "item_id").agg(pl.col("timestamp").min())
    met_again = (
        pairs(inferred)
        .join(first_logged, on=["user_id", "item_id"])
        .filter(pl.col("timestamp") < pl.col("event_timestamp"))
    )
    assert met_again.is_empty()
    early_rows = pairs(inferred).filter(pl.col("event_timestamp") <= TRAIN_END)
    assert make_shop_items()["item_id"][-1] not in early_rows["item_id"]


def test_lineage_tells_the_model_and_the_validity(
    shop: BehaviorShop, model: Path, config: BehaviorConfig, inferred: pl.DataFrame, tmp_path: Path
) -> None:
    second_run = infer(shop, model, config, tmp_path / "out")
    assert second_run.equals(inferred)
    lineage = read_lineage(tmp_path / "out")
    assert lineage.metrics["catalogue_validity"] == 1.0
    assert lineage.labels["behavior_model_version"] == inferred["behavior_model_version"][0]
    assert lineage.inputs["behavior_model"] == read_lineage(model).digest


def test_a_future_event_changes_no_earlier_snapshot(
    model: Path, config: BehaviorConfig, inferred: pl.DataFrame, tmp_path: Path
) -> None:
    last_but_one = inferred["event_timestamp"].unique().sort()[-2]
    planted_events = with_event(user_id="u00", item_id="i35", timestamp=last_but_one, event_type="order")
    changed_lists = infer(write_shop(tmp_path, events=planted_events), model, config, tmp_path / "out")
    is_before = pl.col("event_timestamp") <= last_but_one
    assert changed_lists.filter(is_before).equals(inferred.filter(is_before))
    assert not changed_lists.filter(~is_before).equals(inferred.filter(~is_before))


def test_users_of_no_and_of_one_behavior_are_answered(
    model: Path, config: BehaviorConfig, inferred: pl.DataFrame, tmp_path: Path
) -> None:
    planted_events = with_event(user_id="newcomer", item_id="i00", timestamp=START, event_type="click")
    inferred_lists = infer(
        write_shop(tmp_path, events=planted_events),
        model,
        with_decoding(config, num_snapshots=1),
        tmp_path / "out",
    )
    user_lists = dict(inferred_lists.select("user_id", "inferred_item_ids").iter_rows())
    # Who only looked is a stranger: nothing is excluded, so the first item clicked by others may be inferred.
    assert len(user_lists["looker"]) == len(user_lists["newcomer"]) == 5
    assert "i00" not in user_lists["newcomer"]
    # One click in a taste is enough to infer that taste.
    assert sum(item < "i10" for item in user_lists["newcomer"]) >= 4


def test_a_batch_gives_what_single_users_give(
    shop: BehaviorShop, model: Path, config: BehaviorConfig, inferred: pl.DataFrame, tmp_path: Path
) -> None:
    users = ["u00", "u17", "looker"]
    for user in users:
        events_of_one = make_shop_events().with_columns(
            user_id=pl.when(pl.col("user_id") == user)
            .then("user_id")
            .otherwise(pl.lit("other-") + pl.col("user_id"))
        )
        inferred_lists = infer(
            write_shop(tmp_path / user, events=events_of_one), model, config, tmp_path / user / "out"
        )
        own_lists, other_lists = (
            all_lists.filter(pl.col("user_id") == user) for all_lists in (inferred_lists, inferred)
        )
        assert own_lists["inferred_item_ids"].to_list() == other_lists["inferred_item_ids"].to_list()


def test_more_steps_stay_valid_and_deterministic(
    shop: BehaviorShop, model: Path, config: BehaviorConfig, inferred: pl.DataFrame, tmp_path: Path
) -> None:
    many_steps = with_decoding(config, num_steps=3, num_slots=4)
    first_run, second_run = (infer(shop, model, many_steps, tmp_path / name) for name in ("a", "b"))
    assert first_run.equals(second_run)
    assert read_lineage(tmp_path / "a").metrics["catalogue_validity"] == 1.0
    assert not first_run.equals(inferred)


def test_of_a_huge_catalogue_candidates_are_scored(
    shop: BehaviorShop,
    model: Path,
    config: BehaviorConfig,
    inferred: pl.DataFrame,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shortlist_decoder, "MAX_EXACT_ITEMS", NUM_ITEMS - 1)
    inferred_lists = infer(shop, model, config, tmp_path / "out")
    assert read_lineage(tmp_path / "out").metrics["catalogue_validity"] == 1.0
    # A beam wider than this catalogue finds the lists of the whole.
    mean_overlap = (
        inferred_lists["inferred_item_ids"]
        .list.set_intersection(inferred["inferred_item_ids"])
        .list.len()
        .mean()
    )
    assert mean_overlap > 4.5
    with pytest.raises(UserError, match="num_steps 2"):
        infer(shop, model, with_decoding(config, num_steps=2), tmp_path / "many")


def test_a_list_is_as_long_as_the_catalogue_allows(
    model: Path, config: BehaviorConfig, tmp_path: Path
) -> None:
    all_behaviors = pl.DataFrame(
        {
            "user_id": "glutton",
            "item_id": make_shop_items()["item_id"],
            "timestamp": START,
            "event_type": "order",
        }
    )
    nearly_all = all_behaviors.head(NUM_ITEMS - 2).with_columns(user_id=pl.lit("nearly"))
    many_config = with_decoding(config, num_snapshots=1, num_steps=2)
    inferred_lists = infer(
        write_shop(tmp_path, events=pl.concat([all_behaviors, nearly_all])),
        model,
        many_config,
        tmp_path / "out",
    )
    list_lengths = dict(inferred_lists.select("user_id", pl.col("inferred_item_ids").list.len()).iter_rows())
    assert list_lengths == {"glutton": 0, "nearly": 2}
    assert read_lineage(tmp_path / "out").metrics["catalogue_validity"] == 1.0


def test_new_items_and_unknown_codes_are_read(model: Path, config: BehaviorConfig, tmp_path: Path) -> None:
    code = pl.when(pl.col("item_id") == "i39").then(pl.lit([3, 1, 99], dtype=pl.List(pl.Int32)))
    new_embeddings = make_shop_embeddings().with_columns(semantic_id=code.otherwise("semantic_id"))
    inferred_lists = infer(write_shop(tmp_path, embeddings=new_embeddings), model, config, tmp_path / "out")
    assert inferred_lists["inferred_scores"].list.eval(pl.element().is_finite()).list.all().all()


def test_what_goes_with_a_behavior_is_found_though_nobody_met_it(
    config: BehaviorConfig, tmp_path: Path
) -> None:
    # Who has items 0 to 9 needs item 19, says the knowledge. The table's rows are not in the order of ids.
    new_item, order = 19, np.arange(NUM_ITEMS)[::-1]
    kinds = np.eye(NUM_ITEMS, dtype=np.float16)
    complements = np.zeros_like(kinds)
    complements[:10, new_item] = 1
    knowing_shop = write_shop(
        tmp_path,
        embeddings=make_shop_embeddings()[order.tolist()],
        complements={"kinds": kinds[order], "complements": complements[order]},
    )
    confidences = {}
    for weight in (0.0, 0.5):
        weighted_config = with_decoding(config, num_inferred=NUM_ITEMS).model_copy(
            update={"complements": ComplementsConfig(weight=weight)}
        )
        model = tmp_path / f"model-{weight}"
        train_behavior_model(*knowing_shop, weighted_config, checkpoints=tmp_path / "checkpoints", out=model)
        inferred_lists = infer(knowing_shop, model, weighted_config, tmp_path / f"out-{weight}")
        new_pairs = pairs(inferred_lists).filter(
            pl.col("item_id") == f"i{new_item}", pl.col("event_timestamp") == CUTOFF
        )
        confidences[weight] = dict(new_pairs.select("user_id", "score").iter_rows())
    # u00 buys of items 0 to 9, u02 of items 20 to 29.
    assert confidences[0.5]["u00"] > 3 * confidences[0.0]["u00"]
    assert confidences[0.5]["u02"] < 1.5 * confidences[0.0]["u02"]
    assert read_lineage(tmp_path / "model-0.5").metrics["weight_complement"] == 0.5


def test_another_space_is_refused(model: Path, config: BehaviorConfig, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'space-a'.*'space-b'"):
        infer(
            write_shop(tmp_path, embeddings=make_shop_embeddings("space-b")), model, config, tmp_path / "out"
        )
    assert not (tmp_path / "out").exists()


def test_a_folder_without_a_model_is_refused(
    shop: BehaviorShop, config: BehaviorConfig, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="no behavior model"):
        infer(shop, tmp_path, config, tmp_path / "out")


def test_more_slots_than_positions_are_refused(
    shop: BehaviorShop, model: Path, config: BehaviorConfig, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="num_slots 12"):
        infer(shop, model, with_decoding(config, num_slots=12), tmp_path / "out")


def sharded(
    shop: BehaviorShop,
    model: Path,
    config: BehaviorConfig,
    folder: Path,
    *,
    total: int,
    progress: Path | None = None,
) -> list[Path]:
    shard_folders = [folder / f"shard{shard_number}" for shard_number in range(total)]
    for shard_number, out in enumerate(shard_folders):
        infer_behaviors(*shop, model, config, out=out, progress=progress, shard=Shard(shard_number, total))
    return shard_folders


@pytest.fixture
def small_partitions(monkeypatch: pytest.MonkeyPatch) -> None:
    """About twelve partitions in this shop."""
    monkeypatch.setattr(user_partitions, "EVENTS_PER_PARTITION", 40)


@pytest.mark.usefixtures("small_partitions")
@pytest.mark.parametrize("total", [1, 3, 20])
def test_merged_shards_are_what_one_worker_writes(
    shop: BehaviorShop,
    model: Path,
    config: BehaviorConfig,
    inferred: pl.DataFrame,
    tmp_path: Path,
    total: int,
) -> None:
    whole_run = infer(shop, model, config, tmp_path / "whole")
    merge_inferred(sharded(shop, model, config, tmp_path, total=total)[::-1], out=tmp_path / "merged")
    table_files = [tmp_path / name / "inferred_behaviors.parquet" for name in ("whole", "merged")]
    assert table_files[0].read_bytes() == table_files[1].read_bytes()
    own_lineage, other_lineage = (read_lineage(tmp_path / name) for name in ("whole", "merged"))
    assert own_lineage.labels == other_lineage.labels
    for metric in ("rows", "users", "catalogue_validity"):
        assert own_lineage.metrics[metric] == other_lineage.metrics[metric]
    # One cell or twelve: the same lists, in another order.
    columns = [*KEY, "inferred_item_ids"]
    assert whole_run.select(columns).sort(KEY).equals(inferred.select(columns).sort(KEY))


@pytest.mark.usefixtures("small_partitions")
def test_a_killed_shard_goes_on_where_it_was(
    shop: BehaviorShop, model: Path, config: BehaviorConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole_run = sharded(shop, model, config, tmp_path, total=2)
    original_write, finished_names = snapshot_inference.write_piece, []

    def write_then_die(folder: Path, name: str, *piece: object) -> None:
        if len(finished_names) == 4:
            finished_names.append("killed")
            raise KeyboardInterrupt
        original_write(folder, name, *piece)  # type: ignore[arg-type]
        finished_names.append(name)

    monkeypatch.setattr(snapshot_inference, "write_piece", write_then_die)
    progress = tmp_path / "progress"
    with pytest.raises(KeyboardInterrupt):
        sharded(shop, model, config, tmp_path / "again", total=2, progress=progress)
    second_run = sharded(shop, model, config, tmp_path / "again", total=2, progress=progress)
    assert len(finished_names) == len(set(finished_names)), "no piece was inferred twice"
    assert not any(progress.iterdir())
    for whole_folder, resumed_folder in zip(whole_run, second_run, strict=True):
        assert read_lineage(whole_folder).metrics["rows"] == read_lineage(resumed_folder).metrics["rows"]
        piece_tables = [
            sorted((folder / "parts").glob("*.parquet")) for folder in (whole_folder, resumed_folder)
        ]
        assert [t.read_bytes() for t in piece_tables[0]] == [t.read_bytes() for t in piece_tables[1]]


def test_only_all_shards_of_one_inference_are_merged(
    shop: BehaviorShop, model: Path, config: BehaviorConfig, inferred: pl.DataFrame, tmp_path: Path
) -> None:
    first_run, second_run = sharded(shop, model, config, tmp_path, total=2)
    with pytest.raises(UserError, match="0/1 are needed"):
        merge_inferred([second_run], out=tmp_path / "merged")
    with pytest.raises(UserError, match="not a shard"):
        merge_inferred([first_run, model], out=tmp_path / "merged")
    other_config = with_decoding(config, num_inferred=3)
    infer_behaviors(*shop, model, other_config, out=second_run, shard=Shard(1, 2))
    with pytest.raises(UserError, match="different settings"):
        merge_inferred([first_run, second_run], out=tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_snapshots_end_at_the_cut_off() -> None:
    day = timedelta(days=1)
    assert spread_snapshots(START, START + 3 * day, 4) == [START + i * day for i in range(4)]
    assert spread_snapshots(START, START + day, 1) == [START + day]
