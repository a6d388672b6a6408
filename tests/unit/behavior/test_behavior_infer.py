from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
from behavior_shop import (
    CUTOFF,
    NUM_ITEMS,
    START,
    TRAIN_END,
    Shop,
    shop_embeddings,
    shop_events,
    shop_items,
    write_shop,
)

from contracts.artifacts import read_lineage, read_table
from contracts.errors import UserError
from contracts.shards import Shard
from contracts.tables import INFERRED_BEHAVIORS
from models.behavior import inference
from models.behavior.config import BehaviorConfig, InferenceConfig
from models.behavior.infer import infer_behaviors
from models.behavior.inference import snapshots
from models.behavior.merge import merge_inferred

KEY = ["user_id", "event_timestamp"]


def infer(shop: Shop, model: Path, config: BehaviorConfig, out: Path) -> pl.DataFrame:
    infer_behaviors(*shop, model, config, out=out)
    return read_table(out / "inferred_behaviors.parquet", INFERRED_BEHAVIORS)


@pytest.fixture(scope="module")
def inferred(shop: Shop, model: Path, config: BehaviorConfig, tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    return infer(shop, model, config, tmp_path_factory.mktemp("inferred") / "out")


def with_event(**event: object) -> pl.DataFrame:
    events = shop_events()
    return pl.concat([events, pl.DataFrame([event]).select(events.columns)])


def with_decoding(config: BehaviorConfig, **changes: object) -> BehaviorConfig:
    return config.model_copy(update={"decoding": config.decoding.model_copy(update=changes)})


def pairs(inferred: pl.DataFrame) -> pl.DataFrame:
    exploded = inferred.explode("inferred_item_ids", "inferred_scores")
    return exploded.rename({"inferred_item_ids": "item_id", "inferred_scores": "score"})


def test_one_row_per_known_user_and_snapshot(inferred: pl.DataFrame) -> None:
    times = inferred["event_timestamp"].unique().sort()
    assert len(times) == 3
    assert times[-1] == CUTOFF
    first_seen = shop_events().group_by("user_id").agg(pl.col("timestamp").min())
    for time in times:
        expected = first_seen.filter(pl.col("timestamp") < time)["user_id"].sort().to_list()
        assert inferred.filter(pl.col("event_timestamp") == time)["user_id"].to_list() == expected


def test_lists_are_distinct_ordered_and_confident(inferred: pl.DataFrame) -> None:
    assert (inferred["inferred_item_ids"].list.len() == 5).all()
    assert (inferred["inferred_item_ids"].list.n_unique() == 5).all()
    assert pairs(inferred)["score"].is_between(0, 1, closed="right").all()
    falling = inferred["inferred_scores"].list.eval(pl.element().diff().fill_null(0) <= 0).list.all()
    assert falling.all()


def test_no_logged_and_no_unavailable_item_is_inferred(inferred: pl.DataFrame) -> None:
    logged = shop_events().filter(pl.col("event_type") != "impression")
    first = logged.group_by("user_id", "item_id").agg(pl.col("timestamp").min())
    met = pairs(inferred).join(first, on=["user_id", "item_id"]).filter(pl.col("timestamp") < pl.col("event_timestamp"))
    assert met.is_empty()
    early = pairs(inferred).filter(pl.col("event_timestamp") <= TRAIN_END)
    assert shop_items()["item_id"][-1] not in early["item_id"]


def test_lineage_tells_the_model_and_the_validity(
    shop: Shop, model: Path, config: BehaviorConfig, inferred: pl.DataFrame, tmp_path: Path
) -> None:
    again = infer(shop, model, config, tmp_path / "out")
    assert again.equals(inferred)
    lineage = read_lineage(tmp_path / "out")
    assert lineage.metrics["catalogue_validity"] == 1.0
    assert lineage.labels["behavior_model_version"] == inferred["behavior_model_version"][0]
    assert lineage.inputs["behavior_model"] == read_lineage(model).digest


def test_a_future_event_changes_no_earlier_snapshot(
    model: Path, config: BehaviorConfig, inferred: pl.DataFrame, tmp_path: Path
) -> None:
    last_but_one = inferred["event_timestamp"].unique().sort()[-2]
    planted = with_event(user_id="u00", item_id="i35", timestamp=last_but_one, event_type="order")
    changed = infer(write_shop(tmp_path, events=planted), model, config, tmp_path / "out")
    before = pl.col("event_timestamp") <= last_but_one
    assert changed.filter(before).equals(inferred.filter(before))
    assert not changed.filter(~before).equals(inferred.filter(~before))


def test_users_of_no_and_of_one_behaviour_are_answered(
    model: Path, config: BehaviorConfig, inferred: pl.DataFrame, tmp_path: Path
) -> None:
    planted = with_event(user_id="newcomer", item_id="i00", timestamp=START, event_type="click")
    found = infer(write_shop(tmp_path, events=planted), model, with_decoding(config, num_snapshots=1), tmp_path / "out")
    lists = dict(found.select("user_id", "inferred_item_ids").iter_rows())
    # Who only looked is a stranger: nothing is excluded, so the first item clicked by others may be inferred.
    assert len(lists["looker"]) == len(lists["newcomer"]) == 5
    assert "i00" not in lists["newcomer"]
    # One click in a taste is enough to infer that taste.
    assert sum(item < "i10" for item in lists["newcomer"]) >= 4


def test_a_batch_gives_what_single_users_give(
    shop: Shop, model: Path, config: BehaviorConfig, inferred: pl.DataFrame, tmp_path: Path
) -> None:
    users = ["u00", "u17", "looker"]
    for user in users:
        alone = shop_events().with_columns(
            user_id=pl.when(pl.col("user_id") == user).then("user_id").otherwise(pl.lit("other-") + pl.col("user_id"))
        )
        found = infer(write_shop(tmp_path / user, events=alone), model, config, tmp_path / user / "out")
        mine, theirs = (frame.filter(pl.col("user_id") == user) for frame in (found, inferred))
        assert mine["inferred_item_ids"].to_list() == theirs["inferred_item_ids"].to_list()


def test_more_steps_stay_valid_and_deterministic(
    shop: Shop, model: Path, config: BehaviorConfig, inferred: pl.DataFrame, tmp_path: Path
) -> None:
    steps = with_decoding(config, num_steps=3, num_slots=4)
    first, second = (infer(shop, model, steps, tmp_path / name) for name in ("a", "b"))
    assert first.equals(second)
    assert read_lineage(tmp_path / "a").metrics["catalogue_validity"] == 1.0
    assert not first.equals(inferred)


def test_drawn_and_varied_lists_are_valid_and_repeatable(
    shop: Shop, model: Path, in_cells: BehaviorConfig, inferred: pl.DataFrame, tmp_path: Path
) -> None:
    drawn = with_decoding(in_cells, temperature=1.0, diversity=2.0)
    first, second = (infer(shop, model, drawn, tmp_path / name) for name in ("a", "b"))
    assert first.equals(second)
    assert read_lineage(tmp_path / "a").metrics["catalogue_validity"] == 1.0
    assert not first["inferred_item_ids"].equals(inferred["inferred_item_ids"])
    other = infer(shop, model, drawn.model_copy(update={"seed": 1}), tmp_path / "c")
    assert not first["inferred_item_ids"].equals(other["inferred_item_ids"])


def test_of_a_huge_catalogue_candidates_are_scored(
    shop: Shop, model: Path, config: BehaviorConfig, inferred: pl.DataFrame, tmp_path: Path
) -> None:
    found = infer(shop, model, with_decoding(config, max_exact_items=NUM_ITEMS - 1), tmp_path / "out")
    assert read_lineage(tmp_path / "out").metrics["catalogue_validity"] == 1.0
    # A beam wider than this catalogue finds the lists of the whole.
    same = found["inferred_item_ids"].list.set_intersection(inferred["inferred_item_ids"]).list.len().mean()
    assert same > 4.5
    many = with_decoding(config, max_exact_items=NUM_ITEMS - 1, num_steps=2)
    with pytest.raises(UserError, match="num_steps 2"):
        infer(shop, model, many, tmp_path / "many")


def test_a_list_is_as_long_as_the_catalogue_allows(model: Path, config: BehaviorConfig, tmp_path: Path) -> None:
    everything = pl.DataFrame(
        {"user_id": "glutton", "item_id": shop_items()["item_id"], "timestamp": START, "event_type": "order"}
    )
    nearly = everything.head(NUM_ITEMS - 2).with_columns(user_id=pl.lit("nearly"))
    many = with_decoding(config, num_snapshots=1, num_steps=2)
    found = infer(write_shop(tmp_path, events=pl.concat([everything, nearly])), model, many, tmp_path / "out")
    lengths = dict(found.select("user_id", pl.col("inferred_item_ids").list.len()).iter_rows())
    assert lengths == {"glutton": 0, "nearly": 2}
    assert read_lineage(tmp_path / "out").metrics["catalogue_validity"] == 1.0


def test_new_items_and_unknown_codes_are_read(model: Path, config: BehaviorConfig, tmp_path: Path) -> None:
    code = pl.when(pl.col("item_id") == "i39").then(pl.lit([3, 1, 99], dtype=pl.List(pl.Int32)))
    newer = shop_embeddings().with_columns(semantic_id=code.otherwise("semantic_id"))
    found = infer(write_shop(tmp_path, embeddings=newer), model, config, tmp_path / "out")
    assert found["inferred_scores"].list.eval(pl.element().is_finite()).list.all().all()


def test_another_space_is_refused(model: Path, config: BehaviorConfig, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'space-a'.*'space-b'"):
        infer(write_shop(tmp_path, embeddings=shop_embeddings("space-b")), model, config, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_without_a_model_is_refused(shop: Shop, config: BehaviorConfig, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no behaviour model"):
        infer(shop, tmp_path, config, tmp_path / "out")


def test_more_slots_than_positions_are_refused(shop: Shop, model: Path, config: BehaviorConfig, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="num_slots 12"):
        infer(shop, model, with_decoding(config, num_slots=12), tmp_path / "out")


def sharded(
    shop: Shop, model: Path, config: BehaviorConfig, folder: Path, *, total: int, progress: Path | None = None
) -> list[Path]:
    outs = [folder / f"shard{number}" for number in range(total)]
    for number, out in enumerate(outs):
        infer_behaviors(*shop, model, config, out=out, progress=progress, shard=Shard(number, total))
    return outs


@pytest.fixture(scope="module")
def in_cells(config: BehaviorConfig) -> BehaviorConfig:
    """About twelve cells in this shop."""
    return config.model_copy(update={"inference": InferenceConfig(events_per_cell=40)})


@pytest.mark.parametrize("total", [1, 3, 20])
def test_merged_shards_are_what_one_worker_writes(
    shop: Shop, model: Path, in_cells: BehaviorConfig, inferred: pl.DataFrame, tmp_path: Path, total: int
) -> None:
    whole = infer(shop, model, in_cells, tmp_path / "whole")
    merge_inferred(sharded(shop, model, in_cells, tmp_path, total=total)[::-1], out=tmp_path / "merged")
    files = [tmp_path / name / "inferred_behaviors.parquet" for name in ("whole", "merged")]
    assert files[0].read_bytes() == files[1].read_bytes()
    ours, theirs = (read_lineage(tmp_path / name) for name in ("whole", "merged"))
    assert ours.labels == theirs.labels
    for metric in ("rows", "users", "catalogue_validity"):
        assert ours.metrics[metric] == theirs.metrics[metric]
    # One cell or twelve: the same lists, in another order.
    columns = [*KEY, "inferred_item_ids"]
    assert whole.select(columns).sort(KEY).equals(inferred.select(columns).sort(KEY))


def test_a_killed_shard_goes_on_where_it_was(
    shop: Shop, model: Path, in_cells: BehaviorConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = sharded(shop, model, in_cells, tmp_path, total=2)
    write, done = inference.write_part, []

    def write_then_die(folder: Path, name: str, *piece: object) -> None:
        if len(done) == 4:
            done.append("killed")
            raise KeyboardInterrupt
        write(folder, name, *piece)  # type: ignore[arg-type]
        done.append(name)

    monkeypatch.setattr(inference, "write_part", write_then_die)
    progress = tmp_path / "progress"
    with pytest.raises(KeyboardInterrupt):
        sharded(shop, model, in_cells, tmp_path / "again", total=2, progress=progress)
    again = sharded(shop, model, in_cells, tmp_path / "again", total=2, progress=progress)
    assert len(done) == len(set(done)), "no piece was inferred twice"
    assert not any(progress.iterdir())
    for ours, theirs in zip(whole, again, strict=True):
        assert read_lineage(ours).metrics["rows"] == read_lineage(theirs).metrics["rows"]
        tables = [sorted((folder / "parts").glob("*.parquet")) for folder in (ours, theirs)]
        assert [t.read_bytes() for t in tables[0]] == [t.read_bytes() for t in tables[1]]


def test_only_all_shards_of_one_inference_are_merged(
    shop: Shop, model: Path, config: BehaviorConfig, inferred: pl.DataFrame, tmp_path: Path
) -> None:
    first, second = sharded(shop, model, config, tmp_path, total=2)
    with pytest.raises(UserError, match="0/1 are needed"):
        merge_inferred([second], out=tmp_path / "merged")
    with pytest.raises(UserError, match="not a shard"):
        merge_inferred([first, model], out=tmp_path / "merged")
    other = with_decoding(config, num_inferred=3)
    infer_behaviors(*shop, model, other, out=second, shard=Shard(1, 2))
    with pytest.raises(UserError, match="different settings"):
        merge_inferred([first, second], out=tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_snapshots_end_at_the_cut_off() -> None:
    day = timedelta(days=1)
    assert snapshots(START, START + 3 * day, 4) == [START + i * day for i in range(4)]
    assert snapshots(START, START + day, 1) == [START + day]
