"""What can be chosen in the ranker's room: lists, features, training, the promotion gate."""

from typing import Literal, Self

from pydantic import Field, model_validator

from contracts.config import Config, Precision


class ListConfig(Config):
    """How ranking lists are made from the log."""

    seed: int = 0
    """Seed of the candidate draws."""
    window: int = Field(default=500, ge=1)
    """Candidates of a target come from this many following events of the same part of the log."""
    train_negatives: int = Field(default=4, ge=1)
    """Negatives per target in training lists."""
    eval_negatives: int = Field(default=99, ge=1)
    """Negatives per target in validation and test lists."""
    cold_events: int = Field(default=5, ge=1)
    """An item is cold with fewer training events than this."""
    max_eval_lists: int | None = Field(default=None, ge=1)
    """Cap on the lists per protocol and evaluation part, drawn at random; all by default."""


class FeatureConfig(Config):
    """What the ranker may look at: one switch per enhancement, so that each can be shown to earn its place."""

    item_id: bool = True
    """A learnt embedding per item id."""
    category: bool = True
    """A learnt embedding per category path."""
    brand: bool = True
    """A learnt embedding per brand."""
    price: bool = True
    """A learnt embedding per price bucket."""
    recency: bool = True
    """The age of each behaviour steers the attention."""
    event_type: bool = True
    """The kind of each behaviour (click, cart, order) steers the attention."""
    evidence: bool = True
    """How loudly the history speaks for a candidate (the attention's summed weights), beside what it says."""
    user_summary: bool = True
    """A summary of the history without a candidate, trained against the clicked items of the whole batch."""
    knowledge: bool = True
    """Knowledge vectors in the item representation (paper, section 3.1)."""
    similarity: bool = True
    """Knowledge similarity guides the attention and is read as a histogram over the history (paper, section 3.1)."""
    inferred: bool = True
    """Attention over the inferred behaviours, weighted by their confidence (paper, section 3.2)."""
    confidence: bool = True
    """The behaviour model's own log-confidence in each candidate that it inferred (with `inferred`)."""
    semantic_id: bool = False
    """Learnt embeddings of the semantic id's codes, which items with few events share with those alike. Items that
    training did not see have none: what they are, their knowledge vector says."""
    price_relation: bool = False
    """How far a candidate's price lies from the prices of the history, as ranks."""
    context: bool = False
    """Hour and weekday (UTC) of the request, multiplied into each candidate."""
    statistics: bool = False
    """Popularity and newness of each candidate at its own time. Offline only: the gateway has no such features, and a
    ranker that reads them is not deployed. On contemporaneous lists they say nothing, by construction."""

    @model_validator(mode="after")
    def _some_item_feature(self) -> Self:
        if not (self.item_id or self.category or self.brand or self.price or self.knowledge):
            raise ValueError(
                "features switches off every description of an item; leave at least one of item_id, category, brand, "
                "price, knowledge on"
            )
        if self.semantic_id and not self.item_id:
            raise ValueError("features.semantic_id needs features.item_id: an item's codes are found by its id")
        if self.inferred and not (self.item_id or self.knowledge):
            raise ValueError("features.inferred needs features.item_id or features.knowledge to tell items apart")
        return self

    @property
    def confidences(self) -> bool:
        """Does the ranker read how confident the behaviour model is in the candidates themselves?"""
        return self.inferred and self.confidence

    @property
    def vectors(self) -> bool:
        """Does the ranker need item vectors at all?"""
        return self.knowledge or self.similarity


WITHOUT_KNOWLEDGE = FeatureConfig(knowledge=False, similarity=False, inferred=False)
"""The same network with every other enhancement, and nothing of what a language model knows."""

IDS_ONLY = FeatureConfig(
    recency=False,
    event_type=False,
    evidence=False,
    user_summary=False,
    knowledge=False,
    similarity=False,
    inferred=False,
)
"""The baseline: a plain DIN on ids, category, brand and price, with every enhancement off."""


class RankerConfig(Config):
    """The ranker and its training."""

    features: FeatureConfig = FeatureConfig()
    """The switches."""
    feature_service: str = "ranker"
    """Feast feature service that serves this ranker's inputs."""
    history_length: int = Field(default=50, ge=1)
    """Behaviours read per user, newest first."""
    search_length: int = Field(default=0, ge=0, le=10_000)
    """Behaviours that the general search unit looks at: of these it keeps `history_length`, half of them the newest and
    half those of the rest that are most like the candidates. 0: nothing is searched. Needs histories as long in the
    feature store (`features.history_length`), and pays where they are much longer than `history_length`."""
    inferred_length: int = Field(default=20, ge=1)
    """Inferred behaviours read per user, most confident first."""
    dim: int = Field(default=64, ge=8, multiple_of=8)
    """Width of an item representation."""
    lens_dim: int = Field(default=0, ge=0)
    """Directions of the item vectors that the ranker looks at, half whitened (`lens.py`). 0 takes the vectors as they
    are, which is right for a space that was trained and wrong for the raw vectors of a text encoder. A lens sees all
    aspects of a vector as one, and folds (`embedding.contrast.num_folds`) go unused."""
    num_heads: int = Field(default=4, ge=1)
    """Attention heads; must divide `dim`."""
    num_price_buckets: int = Field(default=32, ge=2)
    """Price buckets, at the quantiles of the training items' prices."""
    min_item_events: int = Field(default=1, ge=1)
    """Items with fewer training events share the embedding of the unknown."""
    id_dropout: float = Field(default=0.5, ge=0, lt=1)
    """Share of items whose id is hidden in a training step, so that new items lean on what is known of them."""
    dropout: float = Field(default=0.2, ge=0, lt=1)
    """Dropout in the towers."""
    softmax_weight: float = Field(default=1.0, ge=0)
    """Weight of the listwise softmax loss beside the pointwise losses."""
    contrast_weight: float = Field(default=1.0, ge=0)
    """Weight of the in-batch softmax that trains the user summary."""
    position_bias: bool = True
    """Lets training explain clicks by the position shown; the served score knows no position (impressions only)."""
    order_weight: float = Field(default=1.0, ge=0)
    """`score = click + order_weight * order`, what lists are sorted by."""
    value_head: bool = False
    """A third head: the money that an order of the candidate brings. The output `value` is what is expected of showing
    it, P(order) times that, in the catalogue's currency."""
    value_weight: float = Field(default=0.0, ge=0)
    """Added to the score: `value_weight * value`, so 1 / (a usual order) makes one usual order worth one click."""
    quantized: bool = False
    """The graph multiplies by weights of 8 bits: a fifth less time on a CPU (docs/log.md), the same NDCG@10. Its scales
    come from all candidates that are scored at once, so a probability then hangs a little on its company (third digit).
    The weights beside the graph stay as they were learnt."""
    batch_size: int = Field(default=512, ge=1)
    """Lists per step."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Peak learning rate of AdamW."""
    weight_decay: float = Field(default=1e-2, ge=0)
    """Weight decay of AdamW."""
    max_epochs: int = Field(default=3, ge=1)
    """Passes over the training lists at most."""
    min_steps: int = Field(default=300, ge=1)
    """Where `max_epochs` passes give fewer steps than this, `max_epochs` and `patience` are stretched to give them."""
    patience: int = Field(default=2, ge=1)
    """Stops after so many epochs without a better validation NDCG@10."""
    max_validation_lists: int = Field(default=3000, ge=1)
    """Validation lists looked at after each epoch, spread evenly over the validation part."""
    checkpoint_minutes: float = Field(default=2.0, ge=0)
    """Minutes between checkpoints inside an epoch; each epoch also ends with one."""
    seed: int = 0
    """Seed of the weights, the shuffling and the dropout."""
    num_threads: int = Field(default=0, ge=0)
    """CPU threads; 0 takes every core."""
    num_processes: int = Field(default=1, ge=1)
    """Processes on this machine that train together, each on its share of every batch: one per GPU, if several."""
    precision: Precision = "auto"
    """Of matrix products in training; `auto`: bfloat16 on GPUs that have it, float32 elsewhere."""

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.dim % self.num_heads:
            raise ValueError(f"num_heads = {self.num_heads} does not divide dim = {self.dim}")
        return self

    @model_validator(mode="after")
    def _weighs_what_there_is(self) -> Self:
        if self.value_weight and not self.value_head:
            raise ValueError(
                f"value_weight = {self.value_weight:g} needs value_head = true; set it, or the weight to 0"
            )
        return self

    @model_validator(mode="after")
    def _search_has_something_to_do(self) -> Self:
        if self.search_length and self.search_length <= self.history_length:
            raise ValueError(
                f"search_length = {self.search_length} is not above history_length = {self.history_length}; give a "
                "longer one, or 0 to search nothing"
            )
        if self.search_length and not self.features.vectors:
            raise ValueError("search_length needs item vectors: features.knowledge or features.similarity")
        return self


class EvaluationConfig(Config):
    """How rankers are measured and compared."""

    num_bootstrap: int = Field(default=1000, ge=100)
    """Resamples of users for the confidence intervals."""
    confidence: float = Field(default=0.95, gt=0, lt=1)
    """Level of the intervals."""
    seed: int = 0
    """Seed of the resampling."""
    gate_protocol: Literal["contemporaneous", "impressions"] = "contemporaneous"
    """Lists that the gate compares on. Logged impressions carry the position bias of the policy that showed them, which
    favours whatever learnt that policy; contemporaneous lists do not, and every log has them."""
    min_gain_over_baseline: float = 0.0
    """The challenger is promoted only if the interval of its NDCG@10 gain over the baseline lies above this."""
    max_loss_to_champion: float = Field(default=0.002, ge=0)
    """... and the interval of its NDCG@10 difference to the champion lies above minus this,"""
    max_ece: float = Field(default=0.05, gt=0)
    """... and its click probabilities are calibrated to within this."""
    batch_size: int = Field(default=256, ge=1)
    """Lists scored at once."""
    num_threads: int = Field(default=0, ge=0)
    """CPU threads; 0 takes every core."""
