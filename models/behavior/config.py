"""The behaviour model's configuration."""

from pydantic import Field, model_validator

from contracts.config import Config, Precision


class NetworkConfig(Config):
    """Size of the denoising transformer."""

    dimension: int = Field(default=64, ge=8)
    """Width D of the hidden states."""
    num_layers: int = Field(default=1, ge=1)
    """Transformer blocks."""
    num_heads: int = Field(default=4, ge=1)
    """Attention heads; must divide `dimension`."""
    dropout: float = Field(default=0.4, ge=0, lt=1)
    """Dropout in the blocks and on their input."""
    pretrained: str | None = None
    """Start from the blocks of this Hugging Face encoder or causal model (hub name or folder, safetensors only; for
    instance sentence-transformers/all-MiniLM-L6-v2) instead of `num_layers` blocks trained from nothing."""
    pretrained_revision: str | None = None
    """Revision of the hub model."""
    trainable_layers: int = Field(default=2, ge=0)
    """Top layers of the pretrained model that are trained; the others stay as they are."""

    @model_validator(mode="after")
    def _heads_fit(self) -> "NetworkConfig":
        if self.dimension % self.num_heads:
            raise ValueError(f"dimension {self.dimension} is not a multiple of num_heads {self.num_heads}")
        return self


class DiffusionTrainingConfig(Config):
    """How the denoiser is trained."""

    epochs: int = Field(default=6, ge=1)
    """Passes over the training sequences; the epoch with the lowest held-out ELBO is kept."""
    batch_size: int = Field(default=64, ge=1)
    """Sequences per step."""
    learning_rate: float = Field(default=5e-4, gt=0)
    """Peak rate of AdamW; warms up over the first epoch and falls to zero by a cosine."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Of AdamW."""
    item_mask_share: float = Field(default=0.75, ge=0, le=1)
    """Share of sequences whose items are masked whole; in the rest each code token is masked by itself."""
    max_softmax_items: int = Field(default=4_000, ge=1)
    """Larger catalogues train on a fresh uniform sample of this many items per step (bounds memory)."""
    validation_share: float = Field(default=0.1, gt=0, lt=1)
    """Share of users kept out of training to choose the epoch and to fit the weights of the score's parts."""
    checkpoint_steps: int = Field(default=500, ge=1)
    """Steps after which progress is saved, besides every epoch's end; a killed run goes on from there."""
    num_processes: int = Field(default=1, ge=1)
    """Processes on this machine that train together, each on its share of every batch: one per GPU, if several."""
    precision: Precision = "auto"
    """Of matrix products in training; `auto`: bfloat16 on GPUs that have it, float32 elsewhere."""


class CooccurrenceConfig(Config):
    """The linear co-occurrence model that joins the shipped score."""

    weight: float = Field(default=0.33, ge=0)
    """Of its logarithm in the score, where a log-probability of the model counts about 1. Chosen on held-out behaviours
    that the item space had not seen either; the held-out users of a run cannot fit it, since the space knows them."""
    ridge: float = Field(default=200.0, gt=0)
    """Of the closed form: larger trusts rare pairs less."""
    max_items: int = Field(default=12_000, ge=1)
    """The most frequent items take part (the closed form inverts a matrix of them: 3 x 4 bytes x this squared)."""
    num_neighbors: int = Field(default=100, ge=1)
    """Others kept per item."""


class KindsConfig(Config):
    """What the kinds of a history's items say of other kinds; the part of the score in which world knowledge pays where
    behaviours are sought that the log does not show at all."""

    weight: float = Field(default=0.0, ge=0)
    """Of the logarithm of what the kinds say; 0: none. It pays on the embedded shop's purchases elsewhere (0.8, with
    `satiation` 2 and `decoding.popularity_weight` 0.4); on behaviours hidden from real logs it changes nothing."""
    satiation: float = Field(default=0.0, ge=0)
    """Nats that an item loses when the history holds others of its kind, times log(1 + their number): above 0 for what
    users do elsewhere, since a need that is met here is not met elsewhere too."""
    pseudo_users: float = Field(default=100.0, ge=0)
    """How many users each pseudo-user of a claim counts as, shared among its kinds; 0: the log alone."""
    max_kinds: int = Field(default=5_000, ge=1)
    """More are refused (the closed form inverts a matrix of them)."""
    ridge: float = Field(default=20.0, gt=0)
    """Of the closed form: larger trusts rare pairs less."""


class DecodingConfig(Config):
    """How behaviours are inferred."""

    num_inferred: int = Field(default=200, ge=1)
    """Items inferred per user and snapshot, K. A ranker attends to the first of them, and reads of each candidate how
    confident the list is in it: the longer the list, the more candidates it names."""
    num_snapshots: int = Field(default=4, ge=1)
    """Moments of inference, evenly spread from the model's training end to the cut-off; the last is the cut-off."""
    num_slots: int = Field(default=2, ge=1)
    """Masked slots: one after the latest behaviour, the others between the latest behaviours."""
    num_steps: int = Field(default=1, ge=1)
    """Denoising steps. One step scores every slot at once and is the best and the fastest on real data."""
    temperature: float = Field(default=0.0, ge=0)
    """0 infers the surest items; above it items are drawn by their probability to the power 1 / temperature, without
    repetition and the same for the same seed, so that rare interests get their turn."""
    diversity: float = Field(default=0.0, ge=0)
    """Nats of log-confidence that an item loses if it equals one already in the list, in proportion to their knowledge
    cosine; 0 looks at confidence alone."""
    num_neighbors: int = Field(default=400, ge=1)
    """Associated items kept per item of a large catalogue; what lies further off counts by its mean."""
    max_associated_exactly: int = Field(default=12_000, ge=0)
    """Catalogues up to this many items keep all associations (4 bytes x this squared of memory)."""
    max_exact_items: int = Field(default=50_000, ge=1)
    """Of larger catalogues only a user's candidates are scored (neighbours of the history, and what a beam over the
    semantic ids finds), with one denoising step."""
    trend_days: float = Field(default=90.0, gt=0)
    """Length of the window before a snapshot in which the items' prior popularity is counted."""
    popularity_weight: float = Field(default=0.8, ge=0, le=1)
    """Factor of log P(item): 1 infers the likeliest items, 0 those that this user raises most above their popularity.
    A little below 1 the recall of all items is the same and that of rare ones better."""


class InferenceConfig(Config):
    """How the work of inference is divided."""

    num_shards: int = Field(default=1, ge=1, le=1000)
    """Workers among which the users are divided; on a cluster they run at once."""
    events_per_cell: int = Field(default=200_000, ge=1)
    """Users are inferred in cells with about this many events in all: bounds the memory, and what a killed worker does
    twice."""


class BehaviorConfig(Config):
    """Everything about the behaviour model."""

    seed: int = Field(default=0, ge=0)
    """Of initialisation, masking, dropout, the choice of held-out users, and draws of items (`temperature`)."""
    max_history: int = Field(default=50, ge=2)
    """Behaviours (distinct items) per sequence; longer histories are cut into several training sequences."""
    train_fraction: float = Field(default=0.5, gt=0, le=1)
    """The model learns from the first such share of the behaviours before `train_end`, so that the later ones meet
    inferences made by a model that has not seen them."""
    network: NetworkConfig = NetworkConfig()
    """The transformer."""
    training: DiffusionTrainingConfig = DiffusionTrainingConfig()
    """Its training."""
    cooccurrence: CooccurrenceConfig = CooccurrenceConfig()
    """A part of the shipped score that the network does not have."""
    kinds: KindsConfig = KindsConfig()
    """Another part, of knowledge."""
    decoding: DecodingConfig = DecodingConfig()
    """Inference."""
    inference: InferenceConfig = InferenceConfig()
    """Division of its work."""

    @property
    def max_visible(self) -> int:
        """Behaviours that inference shows the network: the rest of its positions belongs to the slots."""
        return self.max_history - self.decoding.num_slots

    @model_validator(mode="after")
    def _slots_fit(self) -> "BehaviorConfig":
        if self.decoding.num_slots >= self.max_history:
            raise ValueError(
                f"decoding.num_slots {self.decoding.num_slots} must be smaller than max_history {self.max_history}"
            )
        return self
