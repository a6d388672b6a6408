"""Rows of variants that leave empty what stands in their product's first row, as Shopify's export does."""

from typing import Final

import polars as pl

from contracts.errors import UserError
from contracts.ingestion.config import ItemSourceConfig
from contracts.ingestion.rows.column_evidence import read_clean_texts
from contracts.ingestion.rows.column_mapping import list_mapped_columns
from contracts.ingestion.sources.source_batches import SourceBatch
from contracts.tables import ITEMS

_OF_PRODUCT: Final = ("title", "brand", "category", "description")
"""What the variants of a product share. A price is each one's own."""
_PRODUCT: Final = "__product"


class ProductVariants:
    """Fills the rows of variants, batch by batch."""

    def __init__(self, source: ItemSourceConfig) -> None:
        """Knows no product yet.

        Args:
            source: with `product_column`.
        """
        self._source = source
        self._known: pl.DataFrame | None = None
        self.num_without_id = 0
        """Rows that name a product and no item, as those of further pictures; they are left out."""

    def fill_rows(self, batch: SourceBatch) -> SourceBatch:
        """A batch with the texts of each row's product where its own are empty.

        Raises:
            UserError: the file has no such column.
        """
        frame, name = batch.frame, self._source.product_column
        if name not in frame.columns:
            raise UserError(
                f"data.items.product_column '{name}' is not in '{batch.file}'; found: "
                f"{', '.join(frame.columns)}"
            )
        columns = {c.ours: c for c in list_mapped_columns(frame, self._source, ITEMS)}
        of_product = {c.theirs for c in columns.values() if c.ours in _OF_PRODUCT and c.field is None}
        theirs = [column for column in sorted(of_product) if frame.schema[column] == pl.String]
        texts = [self._read_texts(frame[column]) for column in theirs]
        rows = pl.DataFrame([self._read_texts(frame[name]).alias(_PRODUCT), *texts])
        named = rows.drop_nulls(_PRODUCT)
        earlier = [] if self._known is None else [self._known]
        firsts = pl.concat([*earlier, named], how="diagonal_relaxed")
        firsts = firsts.group_by(_PRODUCT, maintain_order=True).agg(pl.all().drop_nulls().first())
        self._known = firsts
        filled = rows.join(firsts, on=_PRODUCT, how="left", maintain_order="left", suffix="__first")
        filled = filled.select(pl.coalesce(column, f"{column}__first") for column in theirs)
        has_id = pl.Series([True]).new_from_index(0, len(frame))
        if "item_id" in columns:
            ids = self._read_texts(columns["item_id"].select_from(frame))
            has_id = ids.is_not_null() | rows[_PRODUCT].is_null()
        self.num_without_id += int((~has_id).sum())
        return batch._replace(frame=frame.with_columns(filled.get_columns()).filter(has_id))

    def _read_texts(self, cells: pl.Series) -> pl.Series:
        return read_clean_texts(cells, self._source).alias(cells.name)
