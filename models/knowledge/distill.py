"""The step `distill_knowledge`: from the catalogue to the KNOWLEDGE table (paper: explicit reasoning).

Writes knowledge.parquet, traces.jsonl (what was read, each agent's reasoning, the critic's objections, one line per
item), ledger.json and, where items got no valid answer, quarantine.parquet with the raw answers. Items that are
finished already, in the cache or in an earlier artifact, are taken over; every answer is cached as it comes, so a
killed run goes on at the exact request. Memory is bounded but for the caches' index: 16 bytes an entry.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from contracts.artifacts import Artifact, new_artifact, read_lineage, write_json
from contracts.errors import UserError
from contracts.shards import Shard
from models.knowledge.agents.conversation import Conversation
from models.knowledge.agents.desk import Desk
from models.knowledge.agents.prompts import prompt_set_version
from models.knowledge.agents.review import REASONS
from models.knowledge.agents.team import Case, distil
from models.knowledge.books import read_books
from models.knowledge.budget import Budget, BudgetReachedError
from models.knowledge.cache import BOOKS, Cache, open_cache, recipe
from models.knowledge.config import KnowledgeConfig
from models.knowledge.ledger import Ledger
from models.knowledge.products import Product, printable, read_product
from models.knowledge.records import RECIPE, carry_over, finish
from models.knowledge.slabs import Catalogue, Slab, SlabWriter, Tally
from models.knowledge.teachers.base import Teacher
from models.knowledge.teachers.build import build_teacher
from models.knowledge.teachers.identity import Identity

LEDGER_FILE = "ledger.json"
SHARD_KIND = "knowledge_shard"
PAYEE = "payee"
"""Label of a knowledge artifact: under which its teacher stands in a cache's books."""
CARRIED_OVER = "carried_over"


def distill_knowledge(
    dataset: Path,
    config: KnowledgeConfig,
    *,
    cache: Path,
    out: Path,
    previous: Path | None = None,
    shard: Shard | None = None,
) -> None:
    """Distils knowledge on every item of a dataset artifact into a knowledge artifact.

    Args:
        dataset: The dataset artifact; only its catalogue is read, never its log.
        config: Teacher, budget and gates.
        cache: Folder of the caches, kept between runs; several runs and shards may share it.
        out: The artifact folder to write.
        previous: An earlier knowledge artifact; what it says of unchanged products is taken over without asking, if
            teacher, sampling and prompts are still the same.
        shard: Do only this part of the catalogue; `merge_knowledge` puts the parts together.

    Raises:
        UserError: the dataset or the teacher is not usable, too many answers were invalid, too few items known, or the
            budget is spent: then nothing is written, but all answers are cached.
    """
    catalogue = Catalogue(dataset)
    teacher = build_teacher(config.teacher)
    kind = "knowledge" if shard is None else SHARD_KIND
    with (
        open_cache(cache, teacher) as caches,
        new_artifact(out, kind=kind, inputs={"dataset": dataset}, config=config) as artifact,
    ):
        if previous is not None:
            carry_over(previous, caches.items, recipe(teacher), shard.owns if shard else None)
            artifact.labels["previous"] = read_lineage(previous).digest
        work = _Work(catalogue, config, teacher, caches, SlabWriter(artifact.path, teacher.name), shard)
        try:
            work.run()
        except BudgetReachedError as reached:
            raise UserError(work.explain(reached)) from None
        artifact.labels.update(teacher=teacher.name, prompt_version=prompt_set_version())
        artifact.labels[RECIPE] = recipe(teacher)
        artifact.labels[PAYEE] = Identity.of(teacher).digest
        write_ledger(artifact, work.ledger, cache)
        write_metrics(artifact, work.tally, work.carried_over)
        if shard is None:
            check_coverage(work.tally, config)
        else:
            artifact.labels["shard"] = str(shard)


class _Done(NamedTuple):
    """A finished conversation and the place of its item."""

    slab: Slab
    place: int
    case: Case


class _Work:
    """One run through the catalogue."""

    def __init__(
        self,
        catalogue: Catalogue,
        config: KnowledgeConfig,
        teacher: Teacher,
        caches: Cache,
        writer: SlabWriter,
        shard: Shard | None,
    ) -> None:
        budget = config.budget.share(*shard) if shard else config.budget
        self.ledger = Ledger(teacher.price, caches.book)
        self.tally = writer.tally
        self.carried_over = 0
        self._num_finished = 0
        self._catalogue = catalogue
        self._config = config
        self._caches = caches
        self._writer = writer
        self._shard = shard
        limit = Budget(budget, self.ledger)
        self._desk = Desk(teacher, caches.requests, self.ledger, limit, num_seats=config.batch_items)

    def run(self) -> None:
        for done in self._desk.hold(self._conversations()):
            made = finish(done.case)
            if done.case.status != "invalid":
                self._caches.items.put(done.slab.digests[done.place], made)
            done.slab.take(done.place, done.case, made)
            self._num_finished += 1
            if done.slab.whole:
                self._write(done.slab)
        self._writer.join()

    def explain(self, reached: BudgetReachedError) -> str:
        finished = self.carried_over + self._num_finished
        worker = f" by shard {self._shard}" if self._shard and self._shard.total > 1 else ""
        return (
            f"knowledge.budget: {reached}. {finished} of {self._catalogue.num_items} items are finished{worker}, "
            f"{self.ledger.spent.asked} requests were asked, and "
            "every answer is cached. Run again to go on with as much once more, or raise the limit."
        )

    def _conversations(self) -> Iterator[Conversation[_Done]]:
        """Conversations on the items that nobody finished before."""
        for number, frame in enumerate(self._catalogue.read(self._config.batch_items, self._shard)):
            self._caches.refresh()
            limit = self._config.max_description_chars
            products = [read_product(row, max_description_chars=limit) for row in frame.iter_rows(named=True)]
            digests = [product.digest for product in products]
            known = self._caches.items.get_many(digests)
            slab = Slab(number, frame["item_id"].to_list(), digests, [known.get(digest) for digest in digests])
            unknown = [place for place, made in enumerate(slab.finished) if made is None]
            self.carried_over += len(products) - len(unknown)
            if not unknown:
                self._write(slab)
            for place in unknown:
                yield _work_on(slab, place, products[place])

    def _write(self, slab: Slab) -> None:
        self._writer.write(slab)
        # Against the whole catalogue and after each slab: a broken teacher stops the step before it costs much.
        check_invalid(self.tally, self._catalogue.num_items, self._config)


def _work_on(slab: Slab, place: int, product: Product) -> Conversation[_Done]:
    case = yield from distil(product)
    return _Done(slab, place, case)


def write_ledger(artifact: Artifact, ledger: Ledger, cache: Path) -> None:
    """What this run paid, and all runs together that filled the cache: as a file, and flat among the metrics."""
    spent = read_books(cache / BOOKS, artifact.labels[PAYEE])
    write_json(artifact.path / LEDGER_FILE, ledger.as_dict(spent))
    artifact.metrics.update(ledger.metrics(spent))


def write_metrics(artifact: Artifact, tally: Tally, carried_over: int) -> None:
    """Flat figures: of the table, and of the claims that fell by reason."""
    num_items = max(tally.statuses.total(), 1)
    artifact.metrics["items"] = tally.statuses.total()
    artifact.metrics[CARRIED_OVER] = carried_over
    artifact.metrics["coverage"] = tally.statuses["ok"] / num_items
    artifact.metrics["invalid_rate"] = tally.statuses["invalid"] / num_items
    artifact.metrics["claims_dropped"] = tally.dropped.total()
    artifact.metrics.update({f"dropped_{reason.replace(' ', '_')}": tally.dropped[reason] for reason in REASONS})


def check_invalid(tally: Tally, num_items: int, config: KnowledgeConfig) -> None:
    """The gate on items without a valid answer.

    Raises:
        UserError: there are too many.
    """
    if tally.statuses["invalid"] > config.max_invalid_rate * num_items:
        raise UserError(
            f"knowledge: {tally.statuses['invalid']} of {num_items} items got no valid answer, more than "
            f"max_invalid_rate {config.max_invalid_rate} allows. The first, {printable(tally.first_fault)}. "
            "Valid answers are cached; mend the teacher and run again."
        )


def check_coverage(tally: Tally, config: KnowledgeConfig) -> None:
    """The gate on items that the teacher knows.

    Raises:
        UserError: there are too few.
    """
    num_items = max(tally.statuses.total(), 1)
    coverage = tally.statuses["ok"] / num_items
    if coverage < config.min_coverage:
        raise UserError(
            f"knowledge: only {coverage:.1%} of {num_items} items are known to the teacher, below min_coverage "
            f"{config.min_coverage}. Add concepts to the handbook (teacher.folder), use a language model as teacher, "
            "or lower min_coverage."
        )
