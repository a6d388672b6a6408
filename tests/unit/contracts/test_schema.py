"""Tables: what keeps a contract passes typed, what breaks it comes back whole with every reason."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import UserError
from contracts.tables import EVENTS, ITEMS, TABLES


def test_rows_that_break_the_contract_come_back_with_every_reason():
    frame = pl.DataFrame(
        {"item_id": ["a", "b", "b", "c"], "title": ["A", "B", "again", " "], "price": ["1", "x", "2", "-3"]}
    )

    result = ITEMS.validate_rows(frame)

    assert result.valid["item_id"].to_list() == ["a", "b"]
    assert result.valid["title"].to_list() == ["A", "again"], "the first sound row of a key is kept"
    assert result.rejected["reasons"].to_list() == [
        ["price: not convertible to Float64"],
        ["title: empty", "price: not a finite number >= 0"],
    ]


def test_a_repeated_key_is_rejected_and_the_first_row_kept():
    result = ITEMS.validate_rows(pl.DataFrame({"item_id": [7, 7], "title": ["first", "second"]}))

    assert result.valid["title"].to_list() == ["first"]
    assert result.rejected["reasons"].to_list() == [["duplicate key (item_id)"]]


def test_a_missing_required_column_names_itself_and_the_remedy():
    with pytest.raises(UserError, match=r"missing column\(s\) title.*data\.items\.columns"):
        ITEMS.validate_rows(pl.DataFrame({"item_id": ["a"]}))


@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "b", ""]), st.sampled_from(["click", "order", "view", None])),
        max_size=20,
    )
)
def test_no_row_is_ever_lost(rows: list[tuple[str, str | None]]):
    frame = pl.DataFrame(
        {
            "user_id": ["u"] * len(rows),
            "item_id": [item for item, _ in rows],
            "event_type": [kind for _, kind in rows],
            "timestamp": [0] * len(rows),
        },
        schema={"user_id": pl.String, "item_id": pl.String, "event_type": pl.String, "timestamp": pl.Int64},
    )

    result = EVENTS.validate_rows(frame)

    assert len(result.valid) + len(result.rejected) == len(frame)
    assert result.valid.select(EVENTS.key).is_duplicated().sum() == 0


@pytest.mark.parametrize("table", TABLES.values(), ids=lambda table: table.name)
def test_every_table_is_documented_and_keyed_by_its_own_columns(table):
    assert table.doc
    assert set(table.key) <= set(table.schema)
    assert all(column.doc for column in table.columns)
    assert table.validate_rows(table.create_empty()).valid.is_empty()
