"""`reaseq knowledge`: what is known of an item and why, and which items are near it."""

import argparse
from pathlib import Path

from reaseq.options import add_config_options, config_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    show = actions.add_parser("show", help="print an item, the agents' reasoning and what came of it")
    show.add_argument("item", metavar="ITEM", help="item id")
    show.add_argument("--knowledge", type=Path, metavar="DIR", help="knowledge artifact (default: the run's)")
    near = actions.add_parser("neighbours", help="print the nearest items in the embedding space")
    near.add_argument("item", metavar="ITEM", help="item id")
    near.add_argument("--count", type=int, default=10, help="how many (default: %(default)s)")
    for action in (show, near):
        add_config_options(action)


def run(args: argparse.Namespace) -> int:
    """Prints plain text."""
    config = config_of(args)
    from reaseq.running import find_artifact

    if args.action == "show":
        from models.knowledge.show import describe_item

        print(describe_item(args.knowledge or find_artifact(config, "knowledge"), args.item))
        return 0
    from models.knowledge.neighbours import find_neighbours
    from models.knowledge.products import printable

    items = find_artifact(config, "dataset") / "items.parquet"
    for item_id, cosine, title, category in find_neighbours(
        find_artifact(config, "item_embeddings"), items, args.item, count=args.count
    ).iter_rows():
        print(f"{cosine:.3f}  {printable(item_id)}  {printable(title or '')}  [{printable(category or '')}]")
    return 0
