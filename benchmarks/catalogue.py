"""Generated catalogues for measurements of distillation."""

from pathlib import Path

import polars as pl

from contracts.artifacts import new_artifact, write_table
from contracts.tables import ITEMS


def write_catalogue(folder: Path, num_items: int, *, num_categories: int = 50) -> Path:
    """A dataset artifact of distinct products, evenly in categories; no log, as distillation reads none."""
    number = pl.int_range(num_items, eager=True)
    text = number.cast(pl.String())
    filler = "It is made for every day and comes in several colours. " * 8
    items = pl.DataFrame(
        {
            "item_id": "i" + text,
            "title": "Useful thing number " + text,
            "brand": "Brand " + (number % 200).cast(pl.String()),
            "category": "Things > Kind " + (number % num_categories).cast(pl.String()),
            "description": "Thing " + text + ". " + filler,
            "price": None,
            "available_at": None,
        },
        schema=ITEMS.schema,
    )
    with new_artifact(folder, kind="dataset", inputs={}) as artifact:
        write_table(artifact.path / "items.parquet", ITEMS, items)
    return folder
