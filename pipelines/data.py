"""Where a run's data comes from: the user's files, or the embedded shop written beside the run."""

from pathlib import Path

from contracts.artifacts import read_lineage
from contracts.digests import LINEAGE_FILE, code_version
from contracts.ingestion.config import DataConfig, EventSourceConfig, ItemSourceConfig
from pipelines.config import RunConfig
from simulation.config import SimulationConfig


def local_data(config: RunConfig) -> DataConfig:
    """The run's data with absolute paths; the embedded shop is written first when it is not there yet."""
    if config.data is None:
        shop = shop_folder(config.home)
        if not _is_current(shop, config.shop):
            from simulation.shop import write_shop

            write_shop(config.shop, out=shop)
        return shop_data(shop)
    items = config.data.items.model_copy(update={"uri": _absolute(config.data.items.uri)})
    events = config.data.events.model_copy(update={"uri": _absolute(config.data.events.uri)})
    return config.data.model_copy(update={"items": items, "events": events})


def shop_folder(home: Path) -> Path:
    """Where a run keeps the embedded shop."""
    return home / "shop"


def shop_data(shop: Path) -> DataConfig:
    """The embedded shop as a user's data would be given."""
    return DataConfig(
        items=ItemSourceConfig(uri=str(shop / "items.parquet")),
        events=EventSourceConfig(uri=str(shop / "events.parquet")),
    )


def _is_current(shop: Path, config: SimulationConfig) -> bool:
    if not (shop / LINEAGE_FILE).is_file():
        return False
    lineage = read_lineage(shop)
    return lineage.code_version == code_version() and lineage.config == config.model_dump(mode="json")


def _absolute(uri: str) -> str:
    return uri if "://" in uri else str(Path(uri).absolute())
