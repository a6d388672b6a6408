"""The public data sets that benchmarks measure on. They are not in the repository."""

import os
from pathlib import Path

from benchmarks.shared.results import REPOSITORY
from contracts.errors import UserError
from models.knowledge.config import ReplayTeacherConfig
from pipelines.config import RunConfig, load_config

DATA_VARIABLE = "REASEQ_BENCH_DATA"
HOW_TO_GET_IT = "docs/how-to/get-the-data.md"


class PublicDataMissingError(UserError):
    """A data set is not on this machine: what needs it is skipped."""


def find_data_folder(name: str) -> Path:
    """The folder that holds a data set's tables.

    Raises:
        PublicDataMissingError: no known place holds them.
    """
    data_folders = [REPOSITORY / "data", REPOSITORY.parent / "shared" / "data"]
    if named_folder := os.environ.get(DATA_VARIABLE):
        data_folders.insert(0, Path(named_folder))
    for folder in data_folders:
        if (folder / name / "items.parquet").is_file():
            return folder / name
    searched_places = ", ".join(str(folder / name) for folder in data_folders)
    raise PublicDataMissingError(
        f"the data set '{name}' is in none of {searched_places}; {HOW_TO_GET_IT} says how to get it"
    )


def load_benchmark_config(name: str) -> RunConfig:
    """The configuration `configs/<name>.yaml`, which reads its data set from where it lies on this machine.

    Raises:
        PublicDataMissingError: the data set is not on this machine.
    """
    config = load_config(REPOSITORY / "configs" / f"{name}.yaml")
    if config.data is None:  # the embedded shop needs none
        # A shop of its own, so that figures do not follow the demo's size.
        return config.model_copy(update={"shop": config.shop.model_copy(update={"num_items": 1200})})
    # A configuration that reads another one's data names its folder.
    data_folder = find_data_folder(Path(config.data.items.uri).parent.name)
    path_overrides = [
        f"data.{table}.uri={data_folder / Path(source.uri).name}"
        for table, source in (("items", config.data.items), ("events", config.data.events))
    ]
    if isinstance(config.knowledge.teacher, ReplayTeacherConfig):
        recordings = data_folder / config.knowledge.teacher.recordings.name
        path_overrides.append(f"knowledge.teacher.recordings={recordings}")
    return load_config(REPOSITORY / "configs" / f"{name}.yaml", path_overrides)
