"""Kinds: what the log says of them, what pseudo-users of claims add, satiation."""

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import torch
from behavior_shop import CUTOFF, NUM_ITEMS, PER_TASTE, Shop, shop_items

from contracts.artifacts import new_artifact, read_table, write_table
from contracts.errors import UserError
from contracts.tables import ITEMS, KNOWLEDGE
from models.behavior.catalogue import Catalogue, read_catalogue
from models.behavior.config import BehaviorConfig, KindsConfig
from models.behavior.kinds import fit_kinds, load_kinds, save_kinds
from models.behavior.model import load_model, make_decoder
from models.behavior.tensors import Batch
from models.behavior.train import train_behavior_model

CONFIG = KindsConfig(weight=1.0, satiation=0.5)
UNKNOWN = NUM_ITEMS - 1


def claims(text: str) -> list[dict[str, object]]:
    return [{"text": text, "evidence": "reasoning", "quote": None, "confidence": 0.9}]


def table() -> pl.DataFrame:
    """A kind per taste; the first and the third taste share a demand; the last item is unknown."""
    taste = [number // PER_TASTE for number in range(NUM_ITEMS)]
    rows = {
        "item_id": shop_items()["item_id"],
        "summary": [f"kind {kind}" if number != UNKNOWN else None for number, kind in enumerate(taste)],
        "demands": [claims("shared" if kind in (0, 2) else f"own {kind}") for kind in taste],
        "teacher": "t",
        "prompt_version": "1",
        "source_digest": "d",
        "status": "ok",
    }
    empty = KNOWLEDGE.empty()
    frame = pl.DataFrame(rows, schema_overrides={"demands": empty.schema["demands"]})
    return pl.concat([empty, frame], how="diagonal").select(empty.columns)


@pytest.fixture
def catalogue(shop: Shop) -> Catalogue:
    return read_catalogue(read_table(shop.dataset / "items.parquet", ITEMS), shop.item_embeddings)


def history(*items: int) -> Batch:
    items_bt = torch.tensor([items])
    return Batch(items_bt, torch.ones_like(items_bt), torch.zeros(items_bt.shape), torch.ones_like(items_bt).bool())


def behaviors() -> pl.DataFrame:
    """Who turns to the first taste turns to the second."""
    return pl.DataFrame(
        {"user_id": [user for user in "abcdefgh" for _ in range(2)], "item": [0, PER_TASTE] * 8},
        schema_overrides={"item": pl.Int64},
    )


def test_kinds_that_go_together_in_the_log_or_in_the_world_are_called(catalogue: Catalogue) -> None:
    said = {
        pseudo: fit_kinds(behaviors(), table(), catalogue, KindsConfig(pseudo_users=pseudo)).score(history(1), CONFIG)
        for pseudo in (0.0, 30.0)
    }
    for scores in said.values():
        assert scores[0, 1] > scores[0, 3] == scores[0, -1] == 0
        assert scores[0, 0] == pytest.approx(-0.5 * torch.log(torch.tensor(2.0)).item())
    assert said[0.0][0, 2] == 0 < said[30.0][0, 2]


def test_a_catalogue_of_which_nothing_is_known_has_no_kinds(catalogue: Catalogue) -> None:
    kinds = fit_kinds(behaviors(), table().with_columns(summary=pl.lit(None, pl.String())), catalogue, CONFIG)
    assert (kinds.kind_n == 0).all()
    assert kinds.score(history(1, 2), CONFIG).tolist() == [[0.0]]


def test_a_kind_of_one_item_is_none_and_too_many_kinds_are_refused(catalogue: Catalogue) -> None:
    alone = pl.when(pl.col("item_id") == "i00").then(pl.lit("of its own")).otherwise("summary")
    assert fit_kinds(behaviors(), table().with_columns(summary=alone), catalogue, CONFIG).kind_n[0] == 4
    with pytest.raises(UserError, match=r"4 kinds of items, more than behavior\.kinds\.max_kinds \(3\)"):
        fit_kinds(behaviors(), table(), catalogue, KindsConfig(max_kinds=3))


def test_a_table_outlives_a_change_of_the_catalogue(catalogue: Catalogue, tmp_path: Path) -> None:
    kinds = fit_kinds(behaviors(), table(), catalogue, CONFIG)
    save_kinds(tmp_path, kinds, catalogue.item_ids)
    changed = replace(catalogue, item_ids=pl.concat([catalogue.item_ids[5:], pl.Series(["new"])]))
    found = load_kinds(tmp_path, changed)
    assert found is not None
    assert found.kind_n.tolist() == [*kinds.kind_n[5:].tolist(), 4]
    torch.testing.assert_close(found.weights_kk, kinds.weights_kk)
    assert load_kinds(tmp_path / "none", catalogue) is None


def test_they_count_in_what_ships_alone(shop: Shop, config: BehaviorConfig, tmp_path: Path) -> None:
    configured = config.model_copy(update={"kinds": CONFIG})
    with pytest.raises(UserError, match=r"behavior\.kinds needs knowledge"):
        train_behavior_model(*shop, configured, checkpoints=tmp_path, out=tmp_path / "none")
    with new_artifact(tmp_path / "knowledge", kind="knowledge", inputs={}) as artifact:
        write_table(artifact.path / "knowledge.parquet", KNOWLEDGE, table())
    train_behavior_model(
        *shop, configured, checkpoints=tmp_path, out=tmp_path / "model", knowledge=tmp_path / "knowledge"
    )
    items = read_catalogue(read_table(shop.dataset / "items.parquet", ITEMS), shop.item_embeddings)
    model = load_model(tmp_path / "model", items, config.decoding)
    assert model.card.trained_until < CUTOFF
    prior = torch.zeros(len(items))
    shipped, without = (
        make_decoder(made, items, prior, config.decoding).log_scores(history(1))
        for made in (model, model._replace(kinds=None))
    )
    assert model.kinds is not None
    expected = model.kinds.score(history(1), CONFIG)[:, model.kinds.kind_n]
    torch.testing.assert_close(shipped - without, expected, atol=1e-5, rtol=1e-4)
    assert make_decoder(model, items, prior, config.decoding, alone=True).kinds is None
