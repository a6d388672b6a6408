"""What was lost of a table, and whether that is too much: of all its rows, or of one class of them.

A class is an event type, a day, a source file or an arm. Losing all orders is not "2 % of the rows".
"""

from collections.abc import Sequence
from typing import Final

import polars as pl

from contracts.errors import TooMuchLostError, UserError
from contracts.ingestion.config import DataConfig
from contracts.ingestion.rows.normalize_rows import FILE_COLUMN, NormalizedRows, UnreadableCells
from contracts.ingestion.sources.source_batches import BrokenLine

_MIN_CLASS_ROWS: Final = {"event_type": 2, "day": 20, "file": 10, "arm": 20}
"""Of fewer rows the loss of most says nothing."""
_MIN_FILLED_CELLS: Final = 5
_AND: Final = "+"
"""Between the columns that a row is lost for."""
_CLASS_ORDER: Final = {"event_type": 0, "arm": 1, "file": 2, "day": 3}
_CLASS_NAMES: Final = {
    "event_type": "events of type",
    "day": "events of the day",
    "file": "rows of the file",
    "arm": "events of the arm",
}


class RejectionCount:
    """Counts kept and lost rows by class and reason, batch by batch."""

    def __init__(self, table_name: str) -> None:
        """Counts nothing yet."""
        self.table_name = table_name
        self._class_counts: list[pl.DataFrame] = []
        self.reason_counts: dict[str, int] = {}
        self.num_rows = 0
        self.num_rejected = 0
        self.unreadable: dict[str, UnreadableCells] = {}
        self.explanation = ""
        """Why rows may be lost that need not be."""
        self._unreadable_of_file: dict[tuple[str, str], UnreadableCells] = {}

    def add_batch(self, batch: NormalizedRows) -> None:
        """Adds a batch, before its broken rows are taken out."""
        for name, cells in batch.unreadable.items():
            known = self.unreadable.get(name)
            self.unreadable[name] = known.add(cells) if known else cells
            key = (name, batch.rows[FILE_COLUMN][0])
            of_file = self._unreadable_of_file.get(key)
            self._unreadable_of_file[key] = of_file.add(cells) if of_file else cells
        self.add_rows(batch.rows, batch.reasons)

    def add_rows(self, rows: pl.DataFrame, reasons: pl.Series, *, are_counted: bool = False) -> None:
        """Adds rows with their reasons, [N] lists; rows without a reason are kept ones.

        Args:
            rows: in the table's columns, and FILE_COLUMN.
            reasons: of each.
            are_counted: whether they were added before, as kept ones, and turn out to be broken.
        """
        is_lost = reasons.list.len() > 0
        self.num_rows += 0 if are_counted else len(rows)
        self.num_rejected += int(is_lost.sum())
        for reason, count in reasons.explode().drop_nulls().value_counts().iter_rows():
            self.reason_counts[reason] = self.reason_counts.get(reason, 0) + count
        classes = {"file": pl.col(FILE_COLUMN)}
        if "event_type" in rows.columns:
            day = pl.col("timestamp").dt.date().cast(pl.String)
            classes |= {"event_type": pl.col("event_type"), "arm": pl.col("arm"), "day": day}
        described = rows.select(is_lost.alias("is_lost"), _name_causes(reasons), **classes)
        self._class_counts += [
            described.group_by(pl.col(name).alias("value"), "causes")
            .agg(
                num_rows=pl.lit(0, pl.UInt32) if are_counted else pl.len(),
                num_lost=pl.col("is_lost").sum(),
            )
            .with_columns(pl.lit(name).alias("class"))
            for name in classes
        ]

    def reject_more(self, rows: pl.DataFrame, reason: str) -> None:
        """Rows that were added as kept ones turn out to be broken."""
        reasons = pl.Series([[reason]], dtype=pl.List(pl.String)).new_from_index(0, len(rows))
        self.add_rows(rows, reasons, are_counted=True)

    def add_broken_lines(self, lines: Sequence[BrokenLine]) -> None:
        """Adds lines of text files that are no rows."""
        if not lines:
            return
        self.num_rows += len(lines)
        self.num_rejected += len(lines)
        for line in lines:
            self.reason_counts[line.reason] = self.reason_counts.get(line.reason, 0) + 1
        self._class_counts.append(
            pl.DataFrame({"value": [line.file for line in lines]})
            .with_columns(causes=pl.lit("line"))
            .group_by("value", "causes")
            .agg(num_rows=pl.len(), num_lost=pl.len())
            .with_columns(pl.lit("file").alias("class"))
        )

    def list_lost_by_type(self) -> dict[str, int]:
        """Event type -> lost rows."""
        counts = self._sum_classes(()).filter((pl.col("class") == "event_type") & (pl.col("num_lost") > 0))
        counts = counts.drop_nulls("value")
        return dict(counts.select("value", "num_lost").iter_rows())

    def judge(self, config: DataConfig, first_row: str) -> None:
        """Fails where too much was lost.

        Raises:
            UserError: of the table, a column, a class of rows or the cells of a column.
        """
        hint = f" First such row: {first_row[:200]}" if first_row else ""
        hint += f" {self.explanation}." if self.explanation else ""
        limits = config.max_rejected_shares
        named_columns = {name.partition(".")[2] for name in limits if name.startswith(f"{self.table_name}.")}
        for classified in self._sum_classes(sorted(named_columns)).iter_rows(named=True):
            least = _MIN_CLASS_ROWS[classified["class"]]
            if classified["value"] is None or classified["num_rows"] < least:
                continue
            # Losses with a limit of their own count here only where nothing is left.
            is_lost_whole = classified["num_lost"] == classified["num_rows"] and config.max_lost_share < 1
            if is_lost_whole or classified["num_unlimited"] > config.max_lost_share * classified["num_rows"]:
                reason = self._find_main_reason()
                raise TooMuchLostError(
                    f"table '{self.table_name}': {classified['num_lost']:,} of {classified['num_rows']:,} "
                    f"{_CLASS_NAMES[classified['class']]} '{classified['value']}' are lost. "
                    f"Reasons: {self._list_reasons()}.{hint} Mend them, or let such losses pass with "
                    "data.max_lost_share = 1",
                    reason=reason,
                    share=self.reason_counts[reason] / self.num_rows,
                )
        columns = [(name, "", cells) for name, cells in self.unreadable.items()]
        columns += [
            (name, f" of '{file}'", cells) for (name, file), cells in self._unreadable_of_file.items()
        ]
        for name, where, cells in columns:
            if (
                cells.num_filled >= (_MIN_CLASS_ROWS["file"] if where else _MIN_FILLED_CELLS)
                and cells.num_cells > config.max_lost_share * cells.num_filled
            ):
                raise UserError(
                    f"table '{self.table_name}': {cells.num_cells:,} of {cells.num_filled:,} cells of column "
                    f"'{name}'{where} cannot be read, for example '{cells.example}'. Map another column, or "
                    f"leave it out with `columns: {{{name}: null}}`"
                )
        for reason, count in self.reason_counts.items():
            column = f"{self.table_name}.{reason.partition(':')[0]}"
            if column in limits and count > limits[column] * self.num_rows:
                raise UserError(
                    f"table '{self.table_name}': {count:,} of {self.num_rows:,} rows break the contract with "
                    f"'{reason}', more than data.max_rejected_shares allows ({limits[column]:g}).{hint}"
                )
        limit = limits.get(self.table_name, config.max_rejected_share)
        num_excused = sum(
            count for reason, count in self.reason_counts.items() if reason.partition(":")[0] in named_columns
        )
        if self.num_rejected - num_excused > limit * self.num_rows:
            reason = self._find_main_reason()
            column, colon, _ = reason.partition(":")
            limited = f"{self.table_name}.{column}" if colon else self.table_name
            key = f"max_rejected_shares: {{{limited}: ...}}"
            raise TooMuchLostError(
                f"table '{self.table_name}': {self.num_rejected:,} of {self.num_rows:,} rows break the "
                f"contract, more than data.max_rejected_share = {limit:g} allows. "
                f"Reasons: {self._list_reasons()}.{hint} If these rows may be lost, say so: `{key}`",
                reason=reason,
                share=self.reason_counts[reason] / self.num_rows,
            )

    def _sum_classes(self, limited_columns: Sequence[str]) -> pl.DataFrame:
        """Rows of each class: all, lost, and lost for faults of other columns than those with a limit."""
        texts, counts = ("value", "causes", "class"), ("num_rows", "num_lost")
        schema = pl.Schema(dict.fromkeys(texts, pl.String()) | dict.fromkeys(counts, pl.Int64()))
        frames = [
            frame.select(pl.col(name).cast(t) for name, t in schema.items()) for frame in self._class_counts
        ]
        others = pl.col("causes").str.split(_AND).list.set_difference(list(limited_columns))
        return (
            pl.concat([pl.DataFrame(schema=schema), *frames])
            .group_by("class", "value")
            .agg(
                pl.col("num_rows", "num_lost").sum(),
                num_unlimited=pl.col("num_lost").filter(others.list.len() > 0).sum(),
            )
            .sort(pl.col("class").replace_strict(_CLASS_ORDER), -pl.col("num_lost"), "value")
        )

    def _find_main_reason(self) -> str:
        return max(self.reason_counts, key=lambda name: self.reason_counts[name])

    def _list_reasons(self) -> str:
        largest = sorted(self.reason_counts.items(), key=lambda item: -item[1])[:5]
        return "; ".join(f"{count:,} x {reason}" for reason, count in largest)


def _name_causes(reasons: pl.Series) -> pl.Series:
    """The columns that each row is lost for, sorted, in one text; empty for a kept one."""
    causes = pl.Series("causes", [""]).new_from_index(0, len(reasons))
    # Few rows are lost, and lists are slow.
    lost_rows = (reasons.list.len() > 0).arg_true()
    columns = reasons[lost_rows].list.eval(pl.element().str.split(":").list.first())
    return causes.scatter(lost_rows, columns.list.unique().list.sort().list.join(_AND))
