"""Measured rows as Markdown: the tables of README.md and docs/results.md (`scripts/generate_docs.py` writes them)."""

from benchmarks.results import Row

METRIC_NAMES = {"auc": "AUC", "gauc": "GAUC", "ndcg10": "NDCG@10", "hr10": "HR@10"}
RANKERS = {
    "ids": "ids alone (plain DIN)",
    "same_network": "same network without knowledge",
    "knowledge": "with knowledge and inferred behaviours",
}

VECTORS = {
    "ids": "none (ids, category, brand, price)",
    "raw_text": "raw text, as the encoder gives it",
    "learnt_text": "learnt space of raw text alone",
    "knowledge": "learnt space with the handbook's knowledge",
}
"""Rankers of benchmarks/knowledge_quality.py -> what they are called here."""


BEHAVIOR_MODELS = {
    "popularity": "popularity",
    "item_knn": "item-kNN",
    "text_knn": "text kNN",
    "ease": "EASE",
    "ease_text": "EASE + text, tuned",
    "sasrec": "SASRec",
    "bert4rec": "BERT4Rec on ids",
    "bert4rec_text": "BERT4Rec with text",
    "generative": "generative, semantic ids, beam 50",
    "without_knowledge": "diffusion model, knowledge dealt at random",
    "without_associations": "diffusion model without associations",
    "without_context": "diffusion model without the transformer's answer",
    "pretrained": "diffusion model started from MiniLM",
    "model": "**diffusion model alone**",
    "shipped": "**as it ships**",
}
"""Models of benchmarks/behavior_quality.py -> what they are called here."""
BEHAVIOR_COLUMNS = {
    "scientific.recall10": "scientific R@10",
    "scientific.recall20": "R@20",
    "scientific.recall50": "R@50",
    "scientific.cold_recall50": "cold R@50",
    "electronics.recall20": "electronics R@20",
    "electronics.nonhead_recall20": "non-head R@20",
    "electronics.cold_recall50": "cold R@50",
}
BEHAVIOR_FIGURES = (
    "shipped_over_ease_text.recall10_ratio",
    "shipped_over_ease_text.nonhead_recall20_ratio",
    "ranker.over_history.ndcg10_ratio",
    "ranker.over_ease_bert.ndcg10_delta",
    "shop.true_offplatform_recall_ratio",
    "shop.elsewhere_over_without_pseudo.recall20_ratio",
    "speed.users_per_s_core_10k",
    "speed.over_ar_ratio",
    "behavior.validity",
)
"""Ends of the ids that are named below the table."""
LADDER = {
    "id_alone": "plain DIN on the item's id alone",
    "ids": "plain DIN on id, category, brand, price",
    "no_knowledge": "the product's network on the same",
    "text": "... and raw text vectors",
    "text_stats": "... and popularity and newness",
    "knowledge": "... and the learnt space with knowledge instead of raw text",
    "full": "... and inferred behaviours: **the whole ranker**",
}
"""Rungs of benchmarks/ranker_ladder.py -> what they are called here."""
LADDER_RATIOS = {
    "full_over_ids": "whole ranker over the plain DIN",
    "full_over_text_stats": "whole ranker over raw text and statistics",
    "full_over_text": "whole ranker over raw text",
    "inferred": "inferred behaviours over none",
}
RANKER_FIGURES = (
    "ranker.train.over_fuxictr_ratio",
    "ranker.train.over_recbole_ratio",
    "ranker.quality.over_fuxictr.ndcg10_ratio",
    "ranker.quality.over_recbole.ndcg10_ratio",
    "ranker.train.epoch_growth_16x_over_linear",
    "ranker.train.memory_growth_16x",
    "ranker.score.ms",
    "ranker.score.over_matmul_ratio",
    "ranker.score.long_history_ratio",
    "ranker.shop.ece",
    "ranker.shop.order_head_over_click_head_auc_delta",
)
SERVING_FIGURES = (
    "serving.gateway.p50_ms",
    "serving.gateway.p99_ms",
    "serving.gateway.p50_over_floor",
    "serving.gateway.p99_over_floor",
    "serving.plain_over_gateway.p50_ratio",
    "serving.saturation_rps",
    "serving.load_50.p99_ms",
    "serving.load_75.errors",
    "serving.soak.errors",
    "serving.soak.memory_growth",
    "serving.materialize.over_plain_ratio",
    "serving.materialize.over_raw_ratio",
    "serving.faults.unanswered",
    "serving.faults.events_lost",
    "serving.faults.recovery_s",
    "serving.fuzz.server_errors",
    "serving.switch.failed_requests",
    "serving.switch.mixed_answers",
    "serving.rollback_s",
    "serving.degraded.no_inferred.ndcg10_delta",
    "serving.degraded.no_vectors.ndcg10_delta",
    "serving.degraded.store_down.ndcg10_delta",
    "serving.degraded.triton_down.ndcg10_delta",
)


def result_table(rows: list[Row]) -> str:
    """All rows, as the page of results shows them."""
    lines = [
        "| figure | value | unit | data | command | commit | hardware | date |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| `{row.id}` | {_value(row)} | {row.unit} | {row.data} | `{row.command}` | {row.commit} | {row.hardware} "
        f"| {row.date} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def summarize(rows: list[Row]) -> str:
    """The README's tables."""
    found = {row.id: row for row in rows}
    columns = [(part, metric) for part in ("all", "cold") for metric in ("auc", "gauc", "ndcg10", "hr10")]
    lines = []
    if ratio := found.get("house.electronics.knowledge_over_ids.ndcg10_ratio"):
        same = found["house.electronics.knowledge_over_same_network.ndcg10_ratio"]
        lines += [
            f"**Knowledge over ids** ({ratio.data}; `{ratio.command}`, seeds {', '.join(map(str, ratio.seeds))}, "
            f"commit {ratio.commit}, {ratio.hardware}): NDCG@10 x {_value(ratio)} over a plain DIN on ids, "
            f"x {_value(same)} over the same network with every other enhancement.\n",
            "| ranker | " + " | ".join(f"{part} {METRIC_NAMES[metric]}" for part, metric in columns) + " |",
            "|---|" + "---|" * len(columns),
        ]
        for name, title in RANKERS.items():
            cells = [_value(found[f"house.electronics.{name}.{part}.{metric}"]) for part, metric in columns]
            lines.append(f"| {title} | " + " | ".join(cells) + " |")
        lines.append("")
    lines += _knowledge_lines(found)
    lines += _behavior_lines(found)
    lines += _ranker_lines(found)
    lines += _figures("**The ranker's cost and peers**", found, RANKER_FIGURES)
    lines += _figures("**Serving**", found, SERVING_FIGURES)
    demo = [row for row in rows if row.id.startswith("demo.")]
    if demo:
        figures = ", ".join(f"`{row.id}` {_value(row)} {row.unit}" for row in demo)
        where = f"`{demo[0].command}`, clean clone, commit {demo[0].commit}, {demo[0].hardware}"
        lines.append(f"**The demo** ({where}): {figures}.\n")
    return "\n".join(lines)


def _table_head(title: str, first: Row, columns: list[str], *, brackets: str = "") -> list[str]:
    """What a table is of, and its head."""
    where = f"`{first.command}`, commit {first.commit}, {first.hardware}"
    return [
        f"{title}; {where}; {brackets}rows of another commit say so in docs/results.md):\n",
        f"| {' | '.join(columns)} |",
        "|---" * len(columns) + "|",
    ]


def _knowledge_lines(found: dict[str, Row]) -> list[str]:
    """What item vectors are worth to the ranker, from ids to the learnt space with knowledge."""
    first = found.get("knowledge.electronics.over_text.ndcg10_ratio")
    if first is None:
        return []
    datasets, metrics = ("electronics", "scientific"), ("ndcg10", "cold_ndcg10")
    lines = _table_head(
        "**Knowledge over raw text** (NDCG@10, test part, contemporaneous candidates, no inferred behaviours",
        first,
        ["item vectors", *(f"{name}, {part}" for name in datasets for part in ("all", "cold"))],
        brackets="in brackets the number of paired seeds; ",
    )
    for name, title in VECTORS.items():
        rows = [found.get(f"knowledge.{data}.{name}.{metric}") for data in datasets for metric in metrics]
        if any(rows):
            lines.append(f"| {title} | " + " | ".join(_value(row) if row else "" for row in rows) + " |")
    ratios = [found[f"knowledge.{data}.over_text.{metric}_ratio"] for data in datasets for metric in metrics]
    cells = [f"{_value(row)} ({len(row.seeds)})" for row in ratios]
    return [*lines, "| **knowledge over raw text** | " + " | ".join(cells) + " |", ""]


def _behavior_lines(found: dict[str, Row]) -> list[str]:
    """Recall of hidden behaviours, model by model, and what they are worth."""
    first = found.get("behavior.scientific.shipped.recall10")
    if first is None:
        return []
    lines = _table_head(
        "**Inferred behaviours** (recall of behaviours that were hidden from all training, test users",
        first,
        ["model", *BEHAVIOR_COLUMNS.values()],
    )
    for name, title in BEHAVIOR_MODELS.items():
        rows = [found.get(f"behavior.{data}.{name}.{metric}") for data, metric in map(_split, BEHAVIOR_COLUMNS)]
        if any(rows):
            lines.append(f"| {title} | " + " | ".join(f"{row.value:.3f}" if row else "" for row in rows) + " |")
    figures = [
        f"`{row_id.removeprefix('behavior.')}` {_value(row)}"
        for row_id, row in found.items()
        if row_id.endswith(BEHAVIOR_FIGURES) and row_id.startswith("behavior.")
    ]
    return [
        *lines,
        "",
        f"Also of `{first.command}` (unit, data and intervals in docs/results.md): {', '.join(figures)}.\n",
    ]


def _ranker_lines(found: dict[str, Row]) -> list[str]:
    """The ladder, rung by rung, and the ratios that matter."""
    first = found.get("ranker.electronics.full.ndcg10")
    if first is None:
        return []
    datasets, metrics = ("electronics", "scientific"), ("ndcg10", "cold_ndcg10")
    lines = _table_head(
        "**The ranker, enhancement by enhancement** (NDCG@10, test part, contemporaneous candidates",
        first,
        ["ranker", *(f"{name}, {part}" for name in datasets for part in ("all", "cold"))],
        brackets="in brackets the number of seeds; ",
    )
    named = {name: (title, "") for name, title in LADDER.items()}
    named |= {name: (f"**{title}**", "_ratio") for name, title in LADDER_RATIOS.items()}
    for name, (title, end) in named.items():
        rows = [found.get(f"ranker.{data}.{name}.{metric}{end}") for data in datasets for metric in metrics]
        cells = [f"{_value(row)} ({len(row.seeds)})" if row else "" for row in rows]
        if any(cells):
            lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def _figures(title: str, found: dict[str, Row], wanted: tuple[str, ...]) -> list[str]:
    """Some figures in a line."""
    rows = [found[name] for name in wanted if name in found]
    if not rows:
        return []
    figures = ", ".join(f"`{row.id.partition('.')[2]}` {_value(row)}" for row in rows)
    return [f"{title} (`{rows[0].command}`; unit, data, commit and seeds in docs/results.md): {figures}.\n"]


def _split(column: str) -> tuple[str, str]:
    data, metric = column.split(".")
    return data, metric


def _value(row: Row) -> str:
    spread = f" ± {row.sd:.2g}" if row.sd is not None else ""
    return f"{row.value:.4g}{spread}"
