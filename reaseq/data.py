"""`reaseq data inspect`: looks at files, says what they hold and what would be lost, and writes a config."""

import argparse
from pathlib import Path

from contracts.artifacts import write_text
from contracts.config_text import dump_yaml
from contracts.errors import UserError

EXAMPLES = {
    "reaseq data inspect items.csv events.csv --write my-shop.yaml": "a catalogue and a log, in any order",
    "reaseq data inspect 'log/*.parquet' items.jsonl --full": "read every row, not the first 100,000",
    "reaseq data inspect orders.tsv": "a log that holds its items' titles",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    action_parsers = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    inspect_action = action_parsers.add_parser("inspect", help="look at files and write a config")
    inspect_action.add_argument("files", nargs="+", metavar="FILE", help="file, folder, glob, URL or query")
    inspect_action.add_argument("--full", action="store_true", help="read every row (default: a sample)")
    inspect_action.add_argument("--write", type=Path, metavar="YAML", help="write the config into this file")
    inspect_action.add_argument("--name", default="my-shop", help="name of the run (default: %(default)s)")


def run_verb(arguments: argparse.Namespace) -> int:
    """Prints what was found. Returns 1 where ingestion would refuse the data."""
    from contracts.ingestion.ingest_summary import describe_summary
    from contracts.ingestion.inspection.inspect_files import inspect_files
    from reaseq.run_summary import print_table

    if len(arguments.files) > 2:
        raise UserError(
            f"{len(arguments.files)} files given; inspect takes a catalogue and a log. Put the "
            "files of a log into one folder, or quote a glob: 'events/*.csv'"
        )
    inspection = inspect_files(arguments.files, read_all=arguments.full)
    for table, role in zip(inspection.tables, ("catalogue", "log"), strict=True):
        print(f"\n{role}: {table.uri}")
        print_table(
            ("your column", "is", "how sure", "filled", "for example"),
            [
                (
                    column.theirs,
                    column.ours or ("order" if column.theirs == table.order_column else "not used"),
                    column.how_sure,
                    f"{column.filled_share:.0%}",
                    ", ".join(column.examples),
                )
                for column in table.columns
            ],
        )
        for theirs, ours in table.event_types.items():
            question = "  (what is it? ignored until you say)" if ours == "ignore" else ""
            print(f"  event type '{theirs}' -> {ours}{question}")
        for doubt in table.doubts:
            print(f"  look at this: {doubt}")
        if table.event_type:
            print(f"  no column says what users did; every row is taken for: {table.event_type}")
    config_text = dump_yaml({"name": arguments.name, "data": inspection.data})
    print()
    if inspection.num_read:
        print(f"what becomes of the first {inspection.num_read:,} rows of the log:")
    if inspection.summary is not None:
        print("\n".join(describe_summary(inspection.summary, "(written by reaseq run)")))
    else:
        print(f"reaseq run would refuse this data: {inspection.refusal}")
    if arguments.write is None:
        print(f"\nthe config (--write FILE keeps it):\n\n{config_text}", end="")
    else:
        if arguments.write.exists():
            raise UserError(f"'{arguments.write}' is there already; give another name to --write")
        write_text(arguments.write, config_text)
        print(f"\nwrote {arguments.write}; next: reaseq run --config {arguments.write} --no-deploy")
    return 0 if inspection.summary is not None else 1
