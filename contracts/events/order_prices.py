"""Orders that came without a price: they count at the catalogue's price, and are marked."""

import polars as pl


def fill_order_prices(orders: pl.DataFrame, items: pl.DataFrame) -> pl.DataFrame:
    """Gives orders without a price that of the catalogue; null stays where it has none either.

    Args:
        orders: events of type `order`.
        items: the catalogue, `item_id` and `price`.

    Returns:
        The orders with one more column, `has_own_price`: came it with the order?
    """
    catalogue_prices = items.select("item_id", catalogue_price="price").unique("item_id", keep="first")
    priced = orders.join(catalogue_prices, on="item_id", how="left", maintain_order="left")
    return priced.with_columns(
        price=pl.coalesce("price", "catalogue_price"), has_own_price=pl.col("price").is_not_null()
    ).drop("catalogue_price")
