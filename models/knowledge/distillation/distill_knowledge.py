"""The step `distill_knowledge`: from the catalogue to the KNOWLEDGE table (paper: explicit reasoning).

It writes four files. `knowledge.parquet` is the table. `traces.jsonl` has a line per item: what was read,
each agent's reasoning, the critic's objections. `ledger.json` says what it cost. `quarantine.parquet` holds
the raw answers of items that got no valid one, where there are any.

Items that are finished already, in the cache or in an earlier artifact, are taken over. Every answer is
cached as it comes, so a killed run goes on at the exact request. Memory is bounded but for the caches' index:
16 bytes an entry.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from contracts.artifacts import Artifact, create_artifact, read_lineage, write_json
from contracts.errors import UserError
from contracts.progress import report_progress, report_summary
from contracts.shards import Shard
from models.knowledge.agents.agent_team import ProductCase, distill_product
from models.knowledge.agents.conversation import Conversation
from models.knowledge.agents.prompt_files import digest_prompt_set
from models.knowledge.agents.question_scheduler import QuestionScheduler
from models.knowledge.agents.record_review import DROP_REASONS
from models.knowledge.cache.workspace_cache import (
    SPENDING_FOLDER,
    WorkspaceCache,
    digest_recipe,
    open_workspace_cache,
)
from models.knowledge.config import HandbookTeacherConfig, KnowledgeConfig
from models.knowledge.costs.budget import Budget, BudgetReachedError
from models.knowledge.costs.cost_ledger import CostLedger
from models.knowledge.costs.spending_history import sum_spending_records
from models.knowledge.distillation.finished_records import RECIPE_LABEL, carry_over_items, serialize_case
from models.knowledge.distillation.item_batches import (
    BATCH_ITEMS,
    BatchWriter,
    CatalogueReader,
    ItemBatch,
    KnowledgeTally,
)
from models.knowledge.distillation.product_text import Product, escape_control_chars, read_product
from models.knowledge.teachers.build_teacher import build_teacher
from models.knowledge.teachers.model_identity import TeacherIdentity
from models.knowledge.teachers.teacher import CatalogueTeacher, RoutingTeacher, Teacher

LEDGER_FILE = "ledger.json"
SHARD_KIND = "knowledge_shard"
PAYEE_LABEL = "payee"
"""Label of a knowledge artifact: the digest under which a cache keeps what its teacher was paid."""
CARRIED_OVER = "carried_over"
LITTLE_KNOWN: Final = 0.5
"""Where the handbook knows a smaller share of a catalogue, the run says what to do."""
_WHAT_TO_DO: Final = (
    "Items that it does not know are ranked by their own text. To have knowledge on them too, let a language",
    "model teach (knowledge.teacher.kind), or write concepts of your own: docs/how-to/choose-a-teacher.md.",
)


def distill_knowledge(
    dataset: Path,
    config: KnowledgeConfig,
    *,
    cache: Path,
    out: Path,
    previous: Path | None = None,
    shard: Shard | None = None,
) -> None:
    """Distills knowledge on every item of a dataset artifact into a knowledge artifact.

    Args:
        dataset: The dataset artifact; only its catalogue is read, never its log.
        config: Teacher, budget and gates.
        cache: Folder of the caches, kept between runs; several runs and shards may share it.
        out: The artifact folder to write.
        previous: An earlier knowledge artifact. What it says of unchanged products is taken over without
            asking, if teacher, sampling and prompts are still the same.
        shard: Do only this part of the catalogue; `merge_knowledge` puts the parts together.

    Raises:
        UserError: the dataset or the teacher is not usable, too many answers were invalid, too few items are
            known, or the budget is spent. Then nothing is written, but all answers are cached.
    """
    catalogue = CatalogueReader(dataset)
    teacher = build_teacher(config.teacher)
    if isinstance(teacher, CatalogueTeacher):
        joined_lines = teacher.join_catalogue(catalogue.iterate_products())
        if shard is None or shard.number == 0:
            report_summary(joined_lines)
    recipe_digest = digest_recipe(teacher)
    artifact_kind = "knowledge" if shard is None else SHARD_KIND
    with (
        open_workspace_cache(cache, teacher) as caches,
        create_artifact(out, kind=artifact_kind, inputs={"dataset": dataset}, config=config) as artifact,
    ):
        if previous is not None:
            carry_over_items(previous, caches.items, recipe_digest, shard.is_owner_of if shard else None)
            artifact.labels["previous"] = read_lineage(previous).digest
        batch_writer = BatchWriter(artifact.path, teacher.name)
        distillation_run = _DistillationRun(catalogue, config, teacher, caches, batch_writer, shard)
        try:
            distillation_run.distill_catalogue()
        except BudgetReachedError as reached:
            raise UserError(distillation_run.explain_budget_stop(reached)) from None
        artifact.labels.update(teacher=teacher.name, prompt_version=digest_prompt_set())
        artifact.labels[RECIPE_LABEL] = recipe_digest
        artifact.labels[PAYEE_LABEL] = TeacherIdentity.of_teacher(teacher).digest
        write_cost_ledger(artifact, distillation_run.ledger, cache)
        write_knowledge_metrics(artifact, batch_writer.tally, distillation_run.num_carried_over)
        if isinstance(teacher, CatalogueTeacher):
            artifact.metrics.update(teacher.counts)
        if isinstance(teacher, RoutingTeacher):
            routing = teacher.summarize_routing()
            artifact.metrics.update(routing.counts)
            report_summary(routing.lines)
        if shard is None:
            check_knowledge_coverage(batch_writer.tally, config)
            report_handbook_coverage(batch_writer.tally, config)
        else:
            artifact.labels["shard"] = str(shard)


class _FinishedCase(NamedTuple):
    """What a conversation ended with, and the place of its item."""

    batch: ItemBatch
    place: int
    case: ProductCase


class _DistillationRun:
    """One run through the catalogue."""

    def __init__(
        self,
        catalogue: CatalogueReader,
        config: KnowledgeConfig,
        teacher: Teacher,
        caches: WorkspaceCache,
        writer: BatchWriter,
        shard: Shard | None,
    ) -> None:
        self.ledger = CostLedger(teacher.price, caches.spending_record)
        self.num_carried_over = 0
        self._num_finished = 0
        self._catalogue = catalogue
        self._config = config
        self._caches = caches
        self._writer = writer
        self._shard = shard
        limits = config.budget.share_for_shard(*shard) if shard else config.budget
        self._scheduler = QuestionScheduler(
            teacher, caches.answers, self.ledger, Budget(limits, self.ledger), max_open=BATCH_ITEMS
        )

    def distill_catalogue(self) -> None:
        for batch, place, case in self._scheduler.run_conversations(self._start_conversations()):
            finished_item = serialize_case(case)
            # An invalid item is asked anew by the next run: a mended teacher may know better.
            if case.status != "invalid":
                self._caches.items.store_finished_item(batch.digests[place], finished_item)
            batch.finish_item(place, case, finished_item)
            self._num_finished += 1
            num_items = self._catalogue.num_items // (self._shard.total if self._shard else 1)
            num_finished = self.num_carried_over + self._num_finished
            report_progress("distill knowledge", num_finished, num_items, "items")
            if batch.is_complete:
                self._write_complete_batch(batch)
        self._writer.join_batch_parts()

    def explain_budget_stop(self, reached: BudgetReachedError) -> str:
        num_finished = self.num_carried_over + self._num_finished
        by_shard = f" by shard {self._shard}" if self._shard and self._shard.total > 1 else ""
        return (
            f"knowledge.budget: {reached}. {num_finished} of {self._catalogue.num_items} items are "
            f"finished{by_shard}, {self.ledger.total_spent.asked} requests were asked, and "
            "every answer is cached. Run again to go on with as much once more, or raise the limit."
        )

    def _start_conversations(self) -> Iterator[Conversation[_FinishedCase]]:
        """Conversations on the items that nobody finished before."""
        for batch_number, frame in enumerate(self._catalogue.read_item_batches(self._shard)):
            # Other shards may have finished the same texts meanwhile.
            self._caches.refresh_indexes()
            products = [read_product(row) for row in frame.iter_rows(named=True)]
            digests = [product.digest for product in products]
            cached_items = self._caches.items.load_finished_items(digests)
            finished_items = [cached_items.get(digest) for digest in digests]
            batch = ItemBatch(batch_number, frame["item_id"].to_list(), digests, finished_items)
            open_places = [place for place, item in enumerate(finished_items) if item is None]
            self.num_carried_over += len(products) - len(open_places)
            if not open_places:
                self._write_complete_batch(batch)
            for place in open_places:
                yield _distill_batch_item(batch, place, products[place])

    def _write_complete_batch(self, batch: ItemBatch) -> None:
        self._writer.write_batch(batch)
        # Against the whole catalogue, after each batch: a broken teacher stops the step before it costs much.
        check_invalid_rate(self._writer.tally, self._catalogue.num_items, self._config)


def _distill_batch_item(batch: ItemBatch, place: int, product: Product) -> Conversation[_FinishedCase]:
    case = yield from distill_product(product)
    return _FinishedCase(batch, place, case)


def write_cost_ledger(artifact: Artifact, ledger: CostLedger, cache: Path) -> None:
    """Writes what this run paid, and what all runs paid for the cache: as a file, and among the metrics."""
    spent_ever = sum_spending_records(cache / SPENDING_FOLDER, artifact.labels[PAYEE_LABEL])
    write_json(artifact.path / LEDGER_FILE, ledger.as_dict(spent_ever))
    artifact.metrics.update(ledger.flatten_metrics(spent_ever))


def write_knowledge_metrics(artifact: Artifact, tally: KnowledgeTally, num_carried_over: int) -> None:
    """Flat figures: of the table, and of the claims that fell by reason."""
    num_items = max(tally.statuses.total(), 1)
    artifact.metrics["items"] = tally.statuses.total()
    artifact.metrics[CARRIED_OVER] = num_carried_over
    artifact.metrics["coverage"] = tally.statuses["ok"] / num_items
    artifact.metrics["invalid_rate"] = tally.statuses["invalid"] / num_items
    artifact.metrics["claims_dropped"] = tally.drop_reasons.total()
    for reason in DROP_REASONS:
        artifact.metrics[f"dropped_{reason.replace(' ', '_')}"] = tally.drop_reasons[reason]


def check_invalid_rate(tally: KnowledgeTally, num_items: int, config: KnowledgeConfig) -> None:
    """The gate on items without a valid answer.

    Raises:
        UserError: there are too many.
    """
    if tally.statuses["invalid"] > config.max_invalid_rate * num_items:
        raise UserError(
            f"knowledge: {tally.statuses['invalid']} of {num_items} items got no valid answer, more than "
            f"max_invalid_rate {config.max_invalid_rate} allows. The first, "
            f"{escape_control_chars(tally.first_fault)}. Valid answers are cached: mend the "
            "teacher and run again, or raise knowledge.max_invalid_rate where so many may go without."
        )


def check_knowledge_coverage(tally: KnowledgeTally, config: KnowledgeConfig) -> None:
    """The gate on items that the teacher knows.

    Raises:
        UserError: there are too few.
    """
    num_items = max(tally.statuses.total(), 1)
    coverage = tally.statuses["ok"] / num_items
    if coverage < config.min_coverage:
        raise UserError(
            f"knowledge: only {coverage:.1%} of {num_items} items are known to the teacher, below "
            f"min_coverage {config.min_coverage}. Add concepts to the handbook (teacher.folder), use a "
            "language model as teacher, or lower min_coverage."
        )


def report_handbook_coverage(tally: KnowledgeTally, config: KnowledgeConfig) -> None:
    """Says on the screen what share of the items the handbook knows, and what to do where it is little."""
    num_items = tally.statuses.total()
    if not isinstance(config.teacher, HandbookTeacherConfig) or not num_items:
        return
    num_known = tally.statuses["ok"]
    lines = [f"The handbook knows {num_known:,} of {num_items:,} items ({num_known / num_items:.1%})."]
    report_summary([*lines, *_WHAT_TO_DO] if num_known < LITTLE_KNOWN * num_items else lines)
