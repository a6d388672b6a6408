"""Each component carries its contract: what it needs, and the tables that come in and go out."""

import shutil
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

import polars as pl
import pytest

from components.component_metadata import METADATA_FILE, read_metadata
from components.port_tables import (
    KIND_TABLES,
    PORT_KINDS,
    WORKSPACE_FOLDERS,
    find_port_tables,
    list_table_faults,
)
from contracts.errors import UserError
from pipelines.compiled_package import COMPILED_FOLDER, read_package

ROOT = Path(__file__).parents[3]
NAMES = sorted(path.parent.name for path in (ROOT / "components").glob("*/component.py"))
SAMPLE_FEATURES = ROOT / "feature_repo" / "sample_data"


def _read_ports(name: str) -> dict[str, str]:
    component_spec = getattr(import_module(f"components.{name}.component"), name).component_spec
    ports = {**(component_spec.inputs or {}), **(component_spec.outputs or {})}
    return {port_name: port.type for port_name, port in ports.items()}


@pytest.fixture(scope="module")
def oldest_backend() -> tuple[int, int]:
    """What `reaseq submit` asks of a cluster."""
    return max(read_package(path).oldest_backend for path in COMPILED_FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("name", NAMES)
def test_a_component_says_what_it_needs_and_how_far_it_may_be_relied_on(name, oldest_backend):
    metadata = read_metadata(ROOT / "components" / name)
    assert metadata.name == name
    assert metadata.oldest_pipelines == oldest_backend, "`submit` asks for another version"
    assert metadata.last_verified <= datetime.now(UTC)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("stability: beta\n", "", "stability: Field required"),
        ("stability: beta", "stability: fine", "stability: Input should be 'alpha', 'beta' or 'stable'"),
        ('">=2.16.0"', '"2.16"', r"dependencies.kubeflow.0.version: String should match pattern"),
        ("tags:\n  - data_processing\n", "tags: []\n", "tags: Tuple should have at least 1 item"),
        ("lastVerified: ", "lastVerified: some day ", "lastVerified: Input should be a valid datetime"),
        ("name: ingest", "name: ingest\nowner: me", "owner: Extra inputs are not permitted"),
        ("name: ingest", "name: ingest\nname: other", "name"),
    ],
)
def test_metadata_that_is_not_whole_is_refused_by_key(tmp_path, old, new, complaint):
    text = (ROOT / "components" / "ingest" / METADATA_FILE).read_text(encoding="utf-8")
    assert old in text
    (tmp_path / METADATA_FILE).write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(UserError, match=complaint):
        read_metadata(tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_every_artifact_port_says_which_tables_come_by_it(name):
    for port, port_type in _read_ports(name).items():
        if port_type.startswith(("system.Dataset", "system.Artifact")):
            assert find_port_tables(name, port) is not None


def test_no_port_is_described_that_is_not_there():
    for place in PORT_KINDS:
        name, port = place.split(".")
        assert port in _read_ports(name), place
    assert set(PORT_KINDS.values()) <= KIND_TABLES.keys()
    assert set(WORKSPACE_FOLDERS) <= set(NAMES)


def test_an_artifact_that_holds_what_its_kind_promises_has_no_fault():
    assert list(list_table_faults(SAMPLE_FEATURES)) == []


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda folder: (folder / "items.parquet").unlink(), "no items.parquet"),
        (
            lambda folder: pl.DataFrame({"item_id": ["a"]}).write_parquet(folder / "items.parquet"),
            "is not Schema",
        ),
        (
            lambda folder: pl.DataFrame({"a": [1]}).write_parquet(folder / "more.parquet"),
            "belongs to no table of its kind",
        ),
    ],
)
def test_a_table_that_is_missing_other_or_too_many_is_named(tmp_path, change, fault):
    folder = tmp_path / "features"
    shutil.copytree(SAMPLE_FEATURES, folder)
    change(folder)
    (found,) = list_table_faults(folder)
    assert fault in found
