"""`reaseq knowledge`: what is known of an item and why, its neighbors, and what all of it is worth."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Final

from contracts.artifacts import write_text
from contracts.errors import UserError
from pipelines.config import RunConfig
from reaseq.config_options import add_config_options, load_run_config

if TYPE_CHECKING:  # the command line starts fast
    from models.knowledge.reporting.knowledge_figures import KnowledgeFigures
    from models.knowledge.reporting.knowledge_page import Neighbors

MIN_AGREEMENT: Final = 0.2
"""Half of what a large model agrees with itself in the facet that it says most freely (scenarios)."""
MAX_COVERAGE_CHANGE: Final = 0.05

EXAMPLES = {
    "reaseq knowledge show i00001": "text, each agent's reasoning, objections and evidence",
    "reaseq knowledge neighbors i00001 --count 5": "the nearest items in the embedding space",
    "reaseq knowledge report --out knowledge.html": "coverage, grounding, what fell and why, cost",
    "reaseq knowledge drift --against former/knowledge": "do two teachers or prompt versions say the same?",
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
    report_action = action_parsers.add_parser("report", help="write a page on the knowledge of all items")
    report_action.add_argument(
        "--out",
        type=Path,
        default=Path("knowledge.html"),
        metavar="FILE",
        help="the page (default: %(default)s)",
    )
    drift_action = action_parsers.add_parser(
        "drift", help="compare two knowledge artifacts; status 1 where they drifted apart"
    )
    for action_parser in (report_action, drift_action):
        action_parser.add_argument(
            "--knowledge", type=Path, metavar="DIR", help="knowledge artifact (default: the run's)"
        )
        action_parser.add_argument(
            "--against",
            type=Path,
            metavar="DIR",
            required=action_parser is drift_action,
            help="another one: of another teacher, or of other prompts",
        )
    drift_action.add_argument(
        "--min-agreement",
        type=float,
        default=MIN_AGREEMENT,
        metavar="SHARE",
        help="least agreement over chance of each facet (default: %(default)s)",
    )
    drift_action.add_argument(
        "--max-coverage-change",
        type=float,
        default=MAX_COVERAGE_CHANGE,
        metavar="SHARE",
        help="largest change of coverage (default: %(default)s)",
    )
    for action_parser in (show_action, near_action, report_action, drift_action):
        add_config_options(action_parser)


def run_verb(arguments: argparse.Namespace) -> int:
    """Prints plain text."""
    run_config = load_run_config(arguments)
    from reaseq.local_runs import find_artifact

    if arguments.action == "show":
        from models.knowledge.distillation.describe_item import describe_item

        print(describe_item(arguments.knowledge or find_artifact(run_config, "knowledge"), arguments.item))
        return 0
    if arguments.action == "report":
        return _write_report(arguments, run_config)
    if arguments.action == "drift":
        return _check_drift(arguments, run_config)
    from models.knowledge.distillation.product_text import escape_control_chars
    from models.knowledge.embedding.nearest_items import find_neighbors

    items_path = find_artifact(run_config, "dataset") / "items.parquet"
    item_embeddings = find_artifact(run_config, "item_embeddings")
    neighbors = find_neighbors(item_embeddings, items_path, arguments.item, count=arguments.count)
    for item_id, cosine, title, category in neighbors.iter_rows():
        printable_texts = [escape_control_chars(text or "") for text in (item_id, title, category)]
        print(f"{cosine:.3f}  {printable_texts[0]}  {printable_texts[1]}  [{printable_texts[2]}]")
    return 0


def _write_report(arguments: argparse.Namespace, run_config: RunConfig) -> int:
    from models.knowledge.reporting.knowledge_figures import read_knowledge_figures
    from models.knowledge.reporting.knowledge_page import render_knowledge_page
    from models.knowledge.reporting.teacher_agreement import compare_knowledge
    from reaseq.local_runs import find_artifact

    if arguments.out.is_dir() or not arguments.out.parent.is_dir():
        raise UserError(f"--out {arguments.out}: give the name of a file, in a folder that is there")
    knowledge = arguments.knowledge or find_artifact(run_config, "knowledge")
    figures = read_knowledge_figures(knowledge)
    comparison = compare_knowledge(knowledge, arguments.against) if arguments.against else None
    # An artifact given by hand need not be of this run, whose vectors may know nothing of its items.
    neighbors = {} if arguments.knowledge else _find_shown_neighbors(run_config, figures)
    write_text(arguments.out, render_knowledge_page(figures, neighbors, comparison))
    print(f"{figures.coverage:.1%} of {figures.num_items:,} items have knowledge; page: {arguments.out}")
    return 0


def _find_shown_neighbors(run_config: RunConfig, figures: "KnowledgeFigures") -> "Neighbors":
    from models.knowledge.embedding.nearest_items import find_neighbors
    from reaseq.local_runs import find_artifact

    try:
        item_embeddings = find_artifact(run_config, "item_embeddings")
        items_path = find_artifact(run_config, "dataset") / "items.parquet"
        return {
            item.item_id: find_neighbors(item_embeddings, items_path, item.item_id, count=5)
            for item in (*figures.most_certain, *figures.least_certain)
        }
    except UserError:  # the run may have stopped before, and left the vectors of an earlier catalogue
        return {}


def _check_drift(arguments: argparse.Namespace, run_config: RunConfig) -> int:
    from models.knowledge.distillation.product_text import escape_control_chars
    from models.knowledge.reporting.teacher_agreement import compare_knowledge
    from reaseq.local_runs import find_artifact

    knowledge = arguments.knowledge or find_artifact(run_config, "knowledge")
    comparison = compare_knowledge(arguments.against, knowledge)
    for name, coverage in zip(comparison.names, comparison.coverages, strict=True):
        print(f"{escape_control_chars(name)}: knows {coverage:.1%} of {comparison.num_items:,} items")
    print(f"agreement over chance, {comparison.num_compared:,} items:")
    for facet in comparison.facets:
        first, second = facet.claims_per_item
        print(f"  {facet.facet:12} {facet.corrected:5.2f}  claims an item: {first:.1f} and {second:.1f}")
    drift = comparison.find_drift(
        min_agreement=arguments.min_agreement, max_coverage_change=arguments.max_coverage_change
    )
    for words in drift:
        print(f"drift: {words}")
    print("they have drifted apart" if drift else "no drift")
    return int(bool(drift))
