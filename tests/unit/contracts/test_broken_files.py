"""A damaged file is read, or refused by name; no library's error reaches the user."""

import bz2
import gzip
import lzma
import zipfile
from contextlib import suppress

import pyarrow
import pytest

from contracts.dataset import read_dataset
from contracts.errors import UserError
from contracts.ingestion.config import DataConfig
from contracts.ingestion.ingest import ingest_dataset
from contracts.ingestion.inspection.inspect_files import inspect_files
from tests.unit.contracts.broken_files import break_files
from tests.unit.contracts.messy_logs import write_messy_log


@pytest.mark.parametrize("seed", range(40))
def test_damaged_files_crash_nothing(seed, tmp_path):
    data = write_messy_log(seed, tmp_path).data
    break_files(tmp_path, seed)
    with suppress(UserError):
        ingest_dataset(DataConfig.model_validate(data), out=tmp_path / "out", is_told=False)
    with suppress(UserError):
        inspect_files([data["items"]["uri"], data["events"]["uri"]], read_all=False)


def _zip(content, path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("log.csv", content)


def _zst(content, path):
    with pyarrow.CompressedOutputStream(path, "zstd") as stream:
        stream.write(content)


PACKERS = {
    ".gz": lambda content, path: path.write_bytes(gzip.compress(content, mtime=0)),
    ".bz2": lambda content, path: path.write_bytes(bz2.compress(content)),
    ".xz": lambda content, path: path.write_bytes(lzma.compress(content)),
    ".zip": _zip,
    ".zst": _zst,
}


def _write_packed_log(suffix, folder):
    rows = "".join(f"u{n},i{n * n % 7},{1_700_000_000 + n},click\n" for n in range(500))
    path = folder / f"log.csv{suffix}"
    PACKERS[suffix](f"user_id,item_id,timestamp,event_type\n{rows}".encode(), path)
    (folder / "items.csv").write_text("item_id,title\n" + "".join(f"i{n},Mug\n" for n in range(7)))
    return path, {"items": {"uri": str(folder / "items.csv")}, "events": {"uri": str(path)}}


@pytest.mark.parametrize("suffix", PACKERS)
def test_a_packed_log_is_read(suffix, tmp_path):
    _, data = _write_packed_log(suffix, tmp_path)
    ingest_dataset(DataConfig.model_validate(data), out=tmp_path / "out", is_told=False)
    assert len(read_dataset(tmp_path / "out").events) == 500


@pytest.mark.parametrize("suffix", PACKERS)
@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_a_damaged_archive_is_refused_by_name(suffix, damage, tmp_path):
    path, data = _write_packed_log(suffix, tmp_path)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle:] = b"" if damage == "cut" else b"\xff" * (len(content) - middle)
    path.write_bytes(bytes(content))
    with pytest.raises(UserError, match=f"log.csv{suffix}' cannot be unpacked"):
        ingest_dataset(DataConfig.model_validate(data), out=tmp_path / "out", is_told=False)
