"""The store of answers: many writers, killed writers, torn tails, damaged blobs."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.errors import UserError
from models.knowledge import store
from models.knowledge.store import Store

WRITER = """
import itertools, sys
from pathlib import Path
from models.knowledge.store import Store
store = Store(Path(sys.argv[1]))
for number in itertools.count():
    store.put([f"{number:016x}"], b"%d " % number * 1000)
    if number == 200:
        print("going", flush=True)
"""


def key(number: int) -> str:
    return f"{number:016x}"


@given(st.lists(st.tuples(st.integers(0, 9), st.binary(max_size=20)), max_size=60), st.integers(1, 5))
@settings(max_examples=30, deadline=None)
def test_what_was_put_first_is_found(tmp_path_factory, puts, max_recent) -> None:
    folder = tmp_path_factory.mktemp("store")
    expected: dict[str, set[bytes]] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "_MAX_RECENT", max_recent)
        writers = [Store(folder), Store(folder)]
        for number, (name, blob) in enumerate(puts):
            writers[number % 2].put([key(name), key(name + 100)], blob)
            expected.setdefault(key(name), set()).add(blob)
        for writer in writers:
            writer.refresh()
        for reader in (*writers, Store(folder)):
            found = reader.get_many([key(name) for name in range(10)])
            assert set(found) == set(expected)
            assert all(blob in expected[name] for name, blob in found.items())
            assert all((name in reader) == (name in expected) for name in map(key, range(10)))
            assert reader.get_many([key(name + 100) for name in range(10)]).keys() == {
                key(int(name, 16) + 100) for name in expected
            }


def test_all_readers_agree_on_one_of_several_blobs(tmp_path: Path) -> None:
    """Two shards may be answered the same question at once; from then on both must go on from one answer."""
    writers = [Store(tmp_path) for _ in range(4)]
    for writer, blob in zip(writers, (b"c", b"a", b"d", b"b"), strict=True):
        writer.put([key(1)], blob)
    for reader in (*writers, Store(tmp_path)):
        reader.refresh()
        assert reader.get_many([key(1)]) == {key(1): b"a"}


def test_a_killed_writer_leaves_whole_blobs_only(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "going\n"
        process.send_signal(signal.SIGKILL)
    found = Store(tmp_path).get_many([key(number) for number in range(100_000)])
    assert len(found) > 200
    assert all(blob == b"%d " % int(name, 16) * 1000 for name, blob in found.items())
    assert sorted(found) == [key(number) for number in range(len(found))]


@pytest.mark.parametrize("torn", ["idx", "data"])
@pytest.mark.parametrize("num_bytes", [1, 5, 23])
def test_a_torn_tail_is_not_there(tmp_path: Path, torn: str, num_bytes: int) -> None:
    writer = Store(tmp_path)
    for number in range(3):
        writer.put([key(number)], b"x" * 30)
    writer.close()
    (path,) = tmp_path.glob(f"*.{torn}")
    os.truncate(path, path.stat().st_size - num_bytes)
    after = Store(tmp_path)
    assert set(after.get_many([key(number) for number in range(3)])) == {key(0), key(1)}
    after.put([key(2)], b"again")
    assert Store(tmp_path).get_many([key(2)]) == {key(2): b"again"}


def test_an_index_seen_before_its_blob_is_whole_is_a_miss_and_found_later(tmp_path: Path) -> None:
    """As on a shared volume that shows one file's growth before the other's."""
    writer, reader = Store(tmp_path), Store(tmp_path)
    writer.put([key(1)], b"blob")
    (data,) = tmp_path.glob("*.data")
    content = data.read_bytes()
    data.write_bytes(b"")
    reader.refresh()
    assert reader.get_many([key(1)]) == {}
    data.write_bytes(content)
    assert reader.get_many([key(1)]) == {key(1): b"blob"}


def test_a_damaged_blob_is_a_miss(tmp_path: Path) -> None:
    writer = Store(tmp_path)
    writer.put([key(1)], b"blob")
    (data,) = tmp_path.glob("*.data")
    data.write_bytes(b"blab")
    assert Store(tmp_path).get_many([key(1)]) == {}


def test_a_folder_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="not usable as a cache"):
        Store(tmp_path / "file" / "cache")
