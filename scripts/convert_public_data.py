"""`make data`: turns clones of public repositories into the tables that benchmarks and configs/*.yaml read.

    scripts/convert_public_data.py electronics --clone ../amazon-recsys
    scripts/convert_public_data.py scientific --clone ../CollisionGenRec

docs/how-to/get-the-data.md says where the clones come from, under which terms. The tables go into `data/`,
which git ignores. A digest checks their content, so everybody measures on the same rows.
"""

import argparse
import hashlib
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import polars as pl

ROOT = Path(__file__).parent.parent


class PublicDataSet(NamedTuple):
    """Where a data set lies in its repository, and what its tables must hold."""

    commit: str
    convert: Callable[[Path, str], dict[str, pl.DataFrame]]
    """(clone, commit) -> table name -> rows."""
    digests: dict[str, str]
    """Table name -> digest of its content."""


def read_file_at_commit(clone: Path, commit: str, path: str) -> bytes:
    """The bytes of a file as of a commit, whatever is checked out."""
    shown = subprocess.run(
        ["git", "-C", str(clone), "show", f"{commit}:{path}"], capture_output=True, check=False
    )
    if shown.returncode:
        raise SystemExit(f"{clone} holds no '{path}' at {commit}: {shown.stderr.decode().strip()}")
    return shown.stdout


def convert_electronics(clone: Path, commit: str) -> dict[str, pl.DataFrame]:
    """Amazon Reviews 2023, Electronics: three splits become one log by time, without exact duplicates."""

    def read_parquet(name: str) -> pl.DataFrame:
        return pl.read_parquet(io.BytesIO(read_file_at_commit(clone, commit, f"data/{name}.parquet")))

    splits = [read_parquet(name).with_columns(orig_split=pl.lit(name)) for name in ("train", "val", "test")]
    columns = ["user_id", "item_id", "rating", "ts_ms", "orig_split"]
    log = (
        pl.concat(splits, how="diagonal_relaxed").rename({"timestamp": "ts_ms"}, strict=False).select(columns)
    )
    log = log.unique(["user_id", "item_id", "ts_ms"], keep="first", maintain_order=True)
    items = read_parquet("items").select(
        "item_id", "title", "brand", "category", "price", "avg_rating", "image_url"
    )
    return {"items": items, "interactions": log.sort("ts_ms", "user_id", "item_id")}


def convert_scientific(clone: Path, commit: str) -> dict[str, pl.DataFrame]:
    """Amazon reviews 2018, Industrial and Scientific: texts per item, each user's items in order."""
    folder = "data/Scientific/Scientific"
    texts = json.loads(read_file_at_commit(clone, commit, f"{folder}.item.json"))
    sequences = json.loads(read_file_at_commit(clone, commit, f"{folder}.inter.json"))
    items = pl.DataFrame([{"item_id": int(item_id), **text} for item_id, text in texts.items()])
    log = pl.DataFrame(
        [
            (int(user), int(item), place)
            for user, chosen in sequences.items()
            for place, item in enumerate(chosen)
        ],
        schema=["user_id", "item_id", "pos"],
        orient="row",
    )
    return {"items": items.select("item_id", "title", "description", "brand", "categories"), "sequences": log}


DATA_SETS = {
    "electronics": PublicDataSet(
        "12a02448d862053ba89d74e47ac62b598e825e58",
        convert_electronics,
        {"items": "74e5016230886a00", "interactions": "6f063aaed77f8b3b"},
    ),
    "scientific": PublicDataSet(
        "505d5be3166f7c38ae67957daf8a3b7ec7092577",
        convert_scientific,
        {"items": "51d13637c979af2b", "sequences": "263f16fc2922c1c7"},
    ),
}


def digest_rows(table: pl.DataFrame) -> str:
    """Digest of a table's content in the order of its key: Parquet's own bytes depend on who writes them."""
    rows = table.sort(table.columns).write_csv().encode()
    return hashlib.sha256(rows).hexdigest()[:16]


def main() -> int:
    """Converts one data set."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=DATA_SETS)
    parser.add_argument(
        "--clone", type=Path, required=True, metavar="FOLDER", help="clone of the data's repository"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "data", metavar="FOLDER", help="default: data")
    arguments = parser.parse_args()
    data_set = DATA_SETS[arguments.name]
    folder = arguments.out / arguments.name
    for name, table in data_set.convert(arguments.clone, data_set.commit).items():
        digest = digest_rows(table)
        if digest != data_set.digests[name]:
            print(
                f"{name}: digest {digest}, expected {data_set.digests[name]}; nothing was written",
                file=sys.stderr,
            )
            return 1
        folder.mkdir(parents=True, exist_ok=True)
        table.write_parquet(folder / f"{name}.parquet")
        print(f"{folder / name}.parquet: {len(table):,} rows, digest as expected")
    return 0


if __name__ == "__main__":
    sys.exit(main())
