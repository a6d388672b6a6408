"""`reaseq knowledge`: what is known of an item and why, and which items are near it."""

import argparse
from pathlib import Path

from reaseq.config_options import add_config_options, load_run_config

EXAMPLES = {
    "reaseq knowledge show i00001": "text, each agent's reasoning, objections and evidence",
    "reaseq knowledge neighbors i00001 --count 5": "the nearest items in the embedding space",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    action_parsers = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    show_action = action_parsers.add_parser(
        "show", help="print an item, the agents' reasoning and what came of it"
    )
    show_action.add_argument("item", metavar="ITEM", help="item id")
    show_action.add_argument(
        "--knowledge", type=Path, metavar="DIR", help="knowledge artifact (default: the run's)"
    )
    near_action = action_parsers.add_parser(
        "neighbors", help="print the nearest items in the embedding space"
    )
    near_action.add_argument("item", metavar="ITEM", help="item id")
    near_action.add_argument("--count", type=int, default=10, help="how many (default: %(default)s)")
    for action_parser in (show_action, near_action):
        add_config_options(action_parser)


def run_verb(arguments: argparse.Namespace) -> int:
    """Prints plain text."""
    run_config = load_run_config(arguments)
    from reaseq.local_runs import find_artifact

    if arguments.action == "show":
        from models.knowledge.distillation.describe_item import describe_item

        print(describe_item(arguments.knowledge or find_artifact(run_config, "knowledge"), arguments.item))
        return 0
    from models.knowledge.distillation.product_text import escape_control_chars
    from models.knowledge.embedding.nearest_items import find_neighbors

    items_path = find_artifact(run_config, "dataset") / "items.parquet"
    item_embeddings = find_artifact(run_config, "item_embeddings")
    neighbors = find_neighbors(item_embeddings, items_path, arguments.item, count=arguments.count)
    for item_id, cosine, title, category in neighbors.iter_rows():
        printable_texts = [escape_control_chars(text or "") for text in (item_id, title, category)]
        print(f"{cosine:.3f}  {printable_texts[0]}  {printable_texts[1]}  [{printable_texts[2]}]")
    return 0
