"""A new shop does not learn from what was served of the former one."""

from pathlib import Path

from contracts.served_log import SERVED_LOG_FOLDER
from pipelines.config import load_config
from pipelines.run_data import prepare_local_data


def _prepare(workspace: Path, *, seed: int) -> Path:
    sizes = ["shop.num_items=60", "shop.num_users=30", "shop.num_days=5"]
    config = load_config(None, [f"workspace={workspace}", f"shop.seed={seed}", *sizes])
    prepare_local_data(config)
    return config.home


def test_what_was_served_of_another_shop_is_set_aside(tmp_path: Path) -> None:
    home = _prepare(tmp_path, seed=1)
    for folder in (home / SERVED_LOG_FOLDER, home / "serving" / "events"):
        folder.mkdir(parents=True)
        (folder / "kept").touch()
    # The same shop, written again by other code.
    lineage_path = home / "shop" / "lineage.json"
    text = lineage_path.read_text()
    lineage_path.write_text(text.replace('"code_version": "', '"code_version": "other'))
    _prepare(tmp_path, seed=1)
    assert (home / SERVED_LOG_FOLDER / "kept").is_file()

    _prepare(tmp_path, seed=2)

    assert not (home / SERVED_LOG_FOLDER).exists()
    assert not (home / "serving" / "events").exists()
    assert len(list((home / "former_shops").glob("*/*/kept"))) == 2
