"""Variants take from their product's first row what their own rows leave empty."""

import polars as pl
import pytest

from contracts.errors import UserError
from contracts.ingestion.config import ItemSourceConfig
from contracts.ingestion.inspection.inspect_files import inspect_files
from contracts.ingestion.rows.product_variants import ProductVariants
from contracts.ingestion.sources.source_batches import SourceBatch

PRODUCTS = """Handle,Title,Vendor,Variant SKU,Variant Price,Option1 Value
scarf,Scarf of wool,Nord,sc-r,25.5,red
scarf,,,sc-b,26.5,blue
scarf,,,,,
hat,Hat of felt,Hutmann,hat-1,40,
"""
SOURCE = ItemSourceConfig(
    uri="products.csv",
    columns={"item_id": "Variant SKU", "title": "Title", "brand": "Vendor", "price": "Variant Price"},
    product_column="Handle",
)


def _make_batch(*rows):
    columns = ("Handle", "Title", "Vendor", "Variant SKU", "Variant Price")
    return SourceBatch(pl.DataFrame(rows, schema=dict.fromkeys(columns, pl.String), orient="row"), "a.csv")


def test_the_first_row_of_a_product_may_stand_in_an_earlier_batch():
    variants = ProductVariants(SOURCE)
    variants.fill_rows(_make_batch(("scarf", "Scarf of wool", "Nord", "sc-r", "25.5")))
    batch = _make_batch(
        ("scarf", None, "-", "sc-b", None), ("scarf", None, None, None, None), (None, None, None, None, "1")
    )
    filled = variants.fill_rows(batch).frame
    assert filled.rows() == [("scarf", "Scarf of wool", "Nord", "sc-b", None), (None, None, None, None, "1")]
    assert variants.num_without_id == 1


def test_what_a_variant_says_itself_stays():
    batch = _make_batch(("scarf", "Scarf", "Nord", "r", "5"), ("scarf", "Shawl", None, "b", "6"))
    filled = ProductVariants(SOURCE).fill_rows(batch).frame
    assert filled["Title"].to_list() == ["Scarf", "Shawl"]
    assert filled["Vendor"].to_list() == ["Nord", "Nord"]


def test_a_column_of_products_that_is_not_there_is_named():
    batch = _make_batch(("scarf", "Scarf", "Nord", "r", "5"))
    with pytest.raises(UserError, match=r"product_column 'Handle' is not in 'a\.csv'; found: Title"):
        ProductVariants(SOURCE).fill_rows(batch._replace(frame=batch.frame.drop("Handle")))


def test_an_export_of_products_with_variants_needs_no_edit(tmp_path):
    (tmp_path / "products.csv").write_text(PRODUCTS)
    orders = "".join(
        f"k{n % 5},{('sc-r', 'sc-b', 'hat-1')[n % 3]},2025-05-{n + 1:02}T10:00:00Z,{n % 2 + 1}\n"
        for n in range(24)
    )
    (tmp_path / "orders.csv").write_text("customer_id,sku,created_at,quantity\n" + orders)
    inspection = inspect_files([str(tmp_path / "products.csv"), str(tmp_path / "orders.csv")], read_all=True)
    assert inspection.refusal == ""
    assert inspection.data["items"]["product_column"] == "Handle"
    assert inspection.summary.items.kept == 3
    assert inspection.summary.items.left_out == {"rows of a product without an item": 1}
    assert inspection.summary.events.kept == 24
