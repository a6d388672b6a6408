"""Where a run's data comes from: the user's files, or the embedded shop written beside the run."""

import shutil
from pathlib import Path

from contracts.artifacts import read_lineage
from contracts.digests import LINEAGE_FILE, compute_code_version
from contracts.ingestion.config import DataConfig, EventSourceConfig, ItemSourceConfig
from contracts.served_log import SERVED_LOG_FOLDER
from pipelines.config import RunConfig
from simulation.config import SimulationConfig


def prepare_local_data(config: RunConfig) -> DataConfig:
    """The run's data with absolute paths. Writes the embedded shop first when it is not there yet.

    What was served of a former, other shop is set aside (`former_shops/`).
    """
    if config.data is None:
        shop_folder = locate_shop_folder(config.home)
        if not _is_shop_current(shop_folder, config.shop):
            _write_shop_anew(config)
        return describe_shop_data(shop_folder)
    item_source = config.data.items.model_copy(update={"uri": _make_absolute(config.data.items.uri)})
    event_source = config.data.events.model_copy(update={"uri": _make_absolute(config.data.events.uri)})
    return config.data.model_copy(update={"items": item_source, "events": event_source})


def _write_shop_anew(config: RunConfig) -> None:
    from simulation.write_shop import write_shop

    shop_folder = locate_shop_folder(config.home)
    had_shop = (shop_folder / LINEAGE_FILE).is_file()
    former_digest = read_lineage(shop_folder).digest if had_shop else ""
    write_shop(config.shop, out=shop_folder)
    if former_digest not in ("", read_lineage(shop_folder).digest):
        _set_served_aside(config.home, former_digest)


def _set_served_aside(home: Path, shop_digest: str) -> None:
    """Moves what was served of another shop away: its items and users only share their names with these."""
    former_folder = home / "former_shops" / shop_digest
    for served_folder in (home / SERVED_LOG_FOLDER, home / "serving" / "events"):
        if served_folder.is_dir():
            former_folder.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(former_folder / served_folder.name, ignore_errors=True)
            served_folder.rename(former_folder / served_folder.name)


def locate_shop_folder(home: Path) -> Path:
    """Where a run keeps the embedded shop."""
    return home / "shop"


def describe_shop_data(shop: Path) -> DataConfig:
    """The embedded shop as a user's data would be given."""
    return DataConfig(
        items=ItemSourceConfig(uri=str(shop / "items.parquet")),
        events=EventSourceConfig(uri=str(shop / "events.parquet")),
    )


def _is_shop_current(shop: Path, config: SimulationConfig) -> bool:
    if not (shop / LINEAGE_FILE).is_file():
        return False
    lineage = read_lineage(shop)
    return lineage.code_version == compute_code_version() and lineage.config == config.model_dump(mode="json")


def _make_absolute(uri: str) -> str:
    return uri if "://" in uri else str(Path(uri).absolute())
