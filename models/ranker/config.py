"""What a user can choose about ranking lists, the ranker, and its promotion."""

from typing import Literal, Self

from pydantic import Field, model_validator

from contracts.config import Config, Precision


class ListConfig(Config):
    """How ranking lists are made from the log."""

    window: int = Field(default=500, ge=1)
    """Candidates of a target come from this many following behaviors of the same part of the log that could
    be targets themselves. Where they hold too few items, the window grows, eightfold at most."""
    train_negatives: int = Field(default=4, ge=1)
    """Negatives per target in training lists."""
    eval_negatives: int = Field(default=99, ge=1)
    """Negatives per target in validation and test lists."""
    max_eval_lists: int | None = Field(default=None, ge=1)
    """Most lists per protocol and evaluation part, drawn at random. By default all are kept."""


class RankerFeatures(Config):
    """What the ranker may look at: one switch per enhancement, so each can be shown to earn its place."""

    item_id: bool = True
    """A learned embedding per item id."""
    category: bool = True
    """A learned embedding per category path."""
    brand: bool = True
    """A learned embedding per brand."""
    price: bool = True
    """A learned embedding per price bucket."""
    recency: bool = True
    """The age and the kind (click, cart, order) of each behavior steer the attention."""
    evidence: bool = True
    """How loudly the history speaks for a candidate (the attention's summed weights), beside what it says."""
    user_summary: bool = True
    """A summary of the history without a candidate, trained against the clicked items of the whole batch."""
    knowledge: bool = True
    """Knowledge vectors in the item representation (paper, section 3.1)."""
    similarity: bool = True
    """Knowledge similarity guides the attention and is read as a histogram (paper, section 3.1)."""
    inferred: bool = True
    """Attention over the inferred behaviors, weighted by their confidence (paper, section 3.2). The behavior
    model's log-confidence in each candidate is read too."""
    list_composition: bool = True
    """What the candidates of a list have in common, and where each stands among them."""
    counts: bool = True
    """How often the user clicked, carted and ordered what shares a category, a brand, a price level or a kind
    with a candidate, with decay."""
    context: bool = True
    """What the page is: its scene, and how like each candidate is to its query, category or seed item in the
    knowledge space. Logs and requests that do not say are read as such."""
    moment: bool = False
    """Hour and weekday (UTC) of the request, multiplied into each candidate."""
    statistics: bool = False
    """Popularity and newness of each candidate at its own time. Offline only: the gateway has no such
    features, so a ranker that reads them is not deployed. On contemporaneous lists they say nothing, by
    construction."""

    @model_validator(mode="after")
    def _check_items_are_described(self) -> Self:
        if not (self.item_id or self.category or self.brand or self.price or self.knowledge):
            raise ValueError(
                "features switches off every description of an item; leave at least one of item_id, "
                "category, brand, price, knowledge on"
            )
        if self.inferred and not (self.item_id or self.knowledge):
            raise ValueError(
                "features.inferred needs features.item_id or features.knowledge to tell items apart"
            )
        return self

    @property
    def reads_vectors(self) -> bool:
        """Whether the ranker needs item vectors at all."""
        return self.knowledge or self.similarity


WITHOUT_KNOWLEDGE = RankerFeatures(knowledge=False, similarity=False, inferred=False)
"""The same network with every other enhancement, and nothing of what a language model knows."""

IDS_ONLY = RankerFeatures(
    recency=False,
    evidence=False,
    user_summary=False,
    list_composition=False,
    counts=False,
    context=False,
    knowledge=False,
    similarity=False,
    inferred=False,
)
"""The baseline: a plain DIN on ids, category, brand and price, with every enhancement off."""


class RankerConfig(Config):
    """The ranker and its training."""

    features: RankerFeatures = RankerFeatures()
    """The switches."""
    history_length: int = Field(default=50, ge=1)
    """Behaviors read per user, newest first."""
    search_length: int = Field(default=0, ge=0, le=10_000)
    """Behaviors that the general search unit looks at; 0 searches nothing. It keeps `history_length` of them:
    half are the newest, half those of the rest that are most like the candidates. The feature store must hold
    histories as long (`features.history_length`). It pays where they are much longer than
    `history_length`."""
    inferred_length: int = Field(default=20, ge=1)
    """Inferred behaviors read per user, most confident first."""
    dim: int = Field(default=64, ge=8, multiple_of=8)
    """Width of an item representation."""
    id_dropout: float = Field(default=0.5, ge=0, lt=1)
    """Share of items whose id is hidden in a training step, so that new items lean on what else is known."""
    dropout: float = Field(default=0.4, ge=0, lt=1)
    """Dropout in the towers."""
    order_weight: float = Field(default=1.0, ge=0)
    """`score = click + order_weight * order`, what lists are sorted by."""
    value_weight: float | None = Field(default=None, ge=0)
    """Gives the ranker a third head: the revenue that an order of the candidate brings. Its output `value` is
    P(order) times that, in the catalogue's currency. The score grows by `value_weight * value`, so 1 / (a
    usual order) makes one usual order worth one click, and 0 only reports it. None: no third head."""
    batch_size: int = Field(default=128, ge=1)
    """Lists per step."""
    learning_rate: float = Field(default=2e-3, gt=0)
    """Peak learning rate of AdamW."""
    max_epochs: int = Field(default=8, ge=1)
    """Passes over the training lists at most."""
    min_steps: int = Field(default=300, ge=1)
    """Where `max_epochs` passes give fewer steps than this, the passes are stretched to give them."""
    seed: int = 0
    """Seed of the weights, the shuffling and the dropout."""
    num_threads: int = Field(default=0, ge=0)
    """CPU threads; 0 takes every core."""
    num_processes: int = Field(default=1, ge=1)
    """Processes on this machine that train together, each on its share of every batch: one per GPU."""
    precision: Precision = "auto"
    """Of matrix products in training; `auto`: bfloat16 on GPUs that have it, float32 elsewhere."""

    @property
    def has_value_head(self) -> bool:
        """Whether the ranker says what an order brings."""
        return self.value_weight is not None

    @model_validator(mode="after")
    def _check_search_finds_something(self) -> Self:
        if self.search_length and self.search_length <= self.history_length:
            raise ValueError(
                f"search_length = {self.search_length} is not above history_length = {self.history_length}; "
                "give a longer one, or 0 to search nothing"
            )
        if self.search_length and not self.features.reads_vectors:
            raise ValueError("search_length needs item vectors: features.knowledge or features.similarity")
        return self


class EvaluationConfig(Config):
    """How rankers are measured and compared."""

    num_bootstrap: int = Field(default=1000, ge=100)
    """Resamples of users for the confidence intervals."""
    gate_protocol: Literal["auto", "contemporaneous", "impressions"] = "auto"
    """Lists that the gate decides on. `impressions`: what the shown pages would have earned in each ranker's
    order. `contemporaneous`: NDCG@10 on sampled lists, for logs that do not say what was shown. `auto` takes
    impressions where there are any: on sampled lists the better ranker for pages often looks the worse."""
    gate: Literal["decide", "report"] = "decide"
    """`report`: the challenger is promoted whatever the gate finds, which the report still says. For a first
    ranker from a log that is too small to decide."""
    pool_factor: float = Field(default=1.0, ge=1)
    """Candidates of a request over the items that its page shows: how hard a page chooses."""
    min_gain_over_baseline: float = 0.0
    """The interval of the challenger's gain over the baseline must lie above this: a share of the clicks a
    page, or NDCG@10."""
    max_loss_to_champion: float = Field(default=0.01, ge=0)
    """The interval of its NDCG@10 difference to the champion must lie above minus this. The noise of a
    training's seed alone is half of it: less would keep out a ranker as good as the champion."""
    min_effective_lists: float = Field(default=100.0, ge=0)
    """The shown test pages must be worth at least so many pages of the challenger's own: fewer tell of
    luck."""
    max_page_loss_to_champion: float = Field(default=0.02, ge=0)
    """The same of the clicks a page, as a share."""
    seed_noise: float = Field(default=0.01, ge=0, lt=1)
    """What NDCG@10 changes with the training seed alone, as a standard deviation relative to it: measured at
    .002 of .18. Intervals on sampled lists are widened by it."""
    max_ece: float = Field(default=0.05, gt=0)
    """Its click probabilities must be calibrated to within this."""
    num_threads: int = Field(default=0, ge=0)
    """CPU threads; 0 takes every core."""
