"""The store of answers: many writers, killed writers, torn tails, damaged blobs."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.errors import UserError
from models.knowledge.cache import blob_index as index
from models.knowledge.cache import blob_store as store
from models.knowledge.cache.blob_index import BlobIndex
from models.knowledge.cache.blob_store import BlobStore

WRITER = """
import itertools, sys
from pathlib import Path
from models.knowledge.cache.blob_store import BlobStore
store = BlobStore(Path(sys.argv[1]))
for number in itertools.count():
    store.put_blob(f"{number:016x}", b"%d " % number * 1000)
    if number == 200:
        print("going", flush=True)
"""


def key(number: int) -> str:
    return f"{number:016x}"


@given(st.lists(st.tuples(st.integers(0, 9), st.binary(max_size=20)), max_size=60), st.integers(1, 5))
@settings(max_examples=30, deadline=None)
def test_what_was_put_is_found(tmp_path_factory, puts, size) -> None:
    folder = tmp_path_factory.mktemp("store")
    expected: dict[str, set[bytes]] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "_MAX_RECENT", size)
        patch.setattr(store, "_MAX_READ", size)
        patch.setattr(index, "_LARGE", 2 * size)
        writers = [BlobStore(folder), BlobStore(folder)]
        for number, (name, blob) in enumerate(puts):
            writers[number % 2].put_blob(key(name), blob)
            expected.setdefault(key(name), set()).add(blob)
            writers[0].refresh_index()
        for writer in writers:
            writer.refresh_index()
        for reader in (*writers, BlobStore(folder)):
            found = reader.get_blobs([key(name) for name in range(10)])
            assert set(found) == set(expected)
            assert all(blob in expected[name] for name, blob in found.items())
            assert all((name in reader) == (name in expected) for name in map(key, range(10)))


def test_an_index_sorts_little_and_keeps_large_runs_on_disk(monkeypatch) -> None:
    monkeypatch.setattr(index, "_LARGE", 1024)
    made, ordered, argsort = BlobIndex(), [0], np.argsort

    def count(values, **options):
        ordered[0] += len(values)
        return argsort(values, **options)

    monkeypatch.setattr(np, "argsort", count)
    keys = np.random.default_rng(0).permutation(10_000).astype(np.uint64)
    for start in range(0, len(keys), 10):
        made.add_entries(keys[start : start + 10], start % 7, np.arange(start, start + 10, dtype=np.uint32))
    assert ordered[0] < 10 * len(keys), "an entry is sorted log2(1024 / 10) times, not once for each addition"
    assert len(made) == len(keys)
    assert sum(len(run) for run in made._runs if run.keys.flags.owndata) < 2 * 1024
    wanted = keys[5000:5100]
    assert {
        place.query_number: (place.file_number, place.row) for place in made.find_blob_places(wanted)
    } == {number: ((5000 + number) // 10 * 10 % 7, 5000 + number) for number in range(100)}
    assert not list(made.find_blob_places(np.array([10_000, 2**63], np.uint64)))


def test_all_readers_agree_on_one_of_several_blobs(tmp_path: Path) -> None:
    """Two shards may be answered the same question at once; from then on both must go on from one answer."""
    writers = [BlobStore(tmp_path) for _ in range(4)]
    for writer, blob in zip(writers, (b"c", b"a", b"d", b"b"), strict=True):
        writer.put_blob(key(1), blob)
    for reader in (*writers, BlobStore(tmp_path)):
        reader.refresh_index()
        assert reader.get_blobs([key(1)]) == {key(1): b"a"}


def test_a_killed_writer_leaves_whole_blobs_only(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "going\n"
        process.send_signal(signal.SIGKILL)
    found = BlobStore(tmp_path).get_blobs([key(number) for number in range(100_000)])
    assert len(found) > 200
    assert all(blob == b"%d " % int(name, 16) * 1000 for name, blob in found.items())
    assert sorted(found) == [key(number) for number in range(len(found))]


@pytest.mark.parametrize("torn", ["idx", "data"])
@pytest.mark.parametrize("num_bytes", [1, 5, 23])
def test_a_torn_tail_is_not_there(tmp_path: Path, torn: str, num_bytes: int) -> None:
    writer = BlobStore(tmp_path)
    for number in range(3):
        writer.put_blob(key(number), b"x" * 30)
    writer.close()
    (path,) = tmp_path.glob(f"*.{torn}")
    os.truncate(path, path.stat().st_size - num_bytes)
    after = BlobStore(tmp_path)
    assert set(after.get_blobs([key(number) for number in range(3)])) == {key(0), key(1)}
    after.put_blob(key(2), b"again")
    assert BlobStore(tmp_path).get_blobs([key(2)]) == {key(2): b"again"}


def test_an_index_seen_before_its_blob_is_whole_is_a_miss_and_found_later(tmp_path: Path) -> None:
    """As on a shared volume that shows one file's growth before the other's."""
    writer, reader = BlobStore(tmp_path), BlobStore(tmp_path)
    writer.put_blob(key(1), b"blob")
    (data,) = tmp_path.glob("*.data")
    content = data.read_bytes()
    data.write_bytes(b"")
    reader.refresh_index()
    assert reader.get_blobs([key(1)]) == {}
    data.write_bytes(content)
    assert reader.get_blobs([key(1)]) == {key(1): b"blob"}


def test_a_damaged_blob_is_a_miss(tmp_path: Path) -> None:
    writer = BlobStore(tmp_path)
    writer.put_blob(key(1), b"blob")
    (data,) = tmp_path.glob("*.data")
    data.write_bytes(b"blab")
    assert BlobStore(tmp_path).get_blobs([key(1)]) == {}


def test_a_folder_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="not usable as a cache"):
        BlobStore(tmp_path / "file" / "cache")
