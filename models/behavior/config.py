"""The behavior model's configuration."""

from pydantic import Field, model_validator

from contracts.config import Config, Precision


class NetworkConfig(Config):
    """Size of the denoising transformer."""

    dimension: int = Field(default=64, ge=8)
    """Width E of the hidden states."""
    num_layers: int = Field(default=1, ge=1)
    """Transformer blocks."""
    num_heads: int = Field(default=4, ge=1)
    """Attention heads; must divide `dimension`."""
    dropout: float = Field(default=0.4, ge=0, lt=1)
    """Dropout in the blocks and on their input."""
    pretrained: str | None = None
    """Start from the blocks of this Hugging Face encoder or causal model (hub name or folder, safetensors
    only; for instance sentence-transformers/all-MiniLM-L6-v2) instead of `num_layers` blocks trained from
    nothing."""
    pretrained_revision: str | None = None
    """Revision of the hub model."""
    trainable_layers: int = Field(default=2, ge=0)
    """Top layers of the pretrained model that are trained; the others stay as they are."""

    @model_validator(mode="after")
    def _check_heads(self) -> "NetworkConfig":
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
    checkpoint_steps: int = Field(default=500, ge=1)
    """Steps after which progress is saved, besides every epoch's end; a killed run goes on from there."""
    num_processes: int = Field(default=1, ge=1)
    """Processes on this machine that train together, each on its share of a batch; one per GPU."""
    precision: Precision = "auto"
    """Of matrix products in training; `auto`: bfloat16 on GPUs that have it, float32 elsewhere."""


class CooccurrenceConfig(Config):
    """The linear co-occurrence model that joins the shipped score."""

    weight: float = Field(default=0.33, ge=0)
    """Of its logarithm in the score, where a log-probability of the model counts about 1. Chosen on
    held-out behaviors that the item space had not seen either; the held-out users of a run cannot fit it,
    since the space knows them."""


class ComplementsConfig(Config):
    """What goes with the items of a history, as the knowledge tells; joins the shipped score."""

    weight: float = Field(default=0.0, ge=0)
    """Of its logarithm in the score, like `cooccurrence.weight`; 0 leaves it out. With a large model's
    knowledge 0.1 found more of the items that few have met; the handbook's complements bring nothing."""


class DecodingConfig(Config):
    """How behaviors are inferred."""

    num_inferred: int = Field(default=200, ge=1)
    """Items inferred per user and snapshot, K. A ranker attends to the first of them, and reads of each
    candidate how confident the list is in it: the longer the list, the more candidates it names."""
    num_snapshots: int = Field(default=4, ge=1)
    """Moments of inference, evenly spread from the model's training end to the cut-off, which is the last."""
    num_slots: int = Field(default=2, ge=1)
    """Masked slots: one after the latest behavior, the others between the latest behaviors."""
    num_steps: int = Field(default=1, ge=1)
    """Denoising steps. One step scores every slot at once and is the best and the fastest on real data."""
    trend_days: float = Field(default=90.0, gt=0)
    """Length of the window before a snapshot in which the items' prior popularity is counted."""
    popularity_weight: float = Field(default=0.8, ge=0, le=1)
    """Factor of log P(item): 1 infers the likeliest items, 0 those that this user raises most above their
    popularity. A little below 1 the recall of all items is the same and that of rare ones better."""


class InferenceConfig(Config):
    """How the work of inference is divided."""

    num_shards: int = Field(default=1, ge=1, le=1000)
    """Workers among which the users are divided; on a cluster they run at once."""


class BehaviorConfig(Config):
    """Everything about the behavior model."""

    seed: int = Field(default=0, ge=0)
    """Of initialization, masking, dropout, and the choice of held-out users."""
    max_history: int = Field(default=50, ge=2)
    """Behaviors (distinct items) per sequence; longer histories are cut into several training sequences."""
    train_fraction: float = Field(default=0.5, gt=0, le=1)
    """The model learns from the first such share of the behaviors before `train_end`, so that the later
    ones meet inferences made by a model that has not seen them."""
    network: NetworkConfig = NetworkConfig()
    """The transformer."""
    training: DiffusionTrainingConfig = DiffusionTrainingConfig()
    """Its training."""
    cooccurrence: CooccurrenceConfig = CooccurrenceConfig()
    """A part of the shipped score that the network does not have."""
    complements: ComplementsConfig = ComplementsConfig()
    """Another part that the network does not have."""
    decoding: DecodingConfig = DecodingConfig()
    """Inference."""
    inference: InferenceConfig = InferenceConfig()
    """Division of its work."""

    @property
    def max_visible(self) -> int:
        """Behaviors that inference shows the network: the rest of its positions belongs to the slots."""
        return self.max_history - self.decoding.num_slots

    @model_validator(mode="after")
    def _check_slots(self) -> "BehaviorConfig":
        if self.decoding.num_slots >= self.max_history:
            raise ValueError(
                f"decoding.num_slots {self.decoding.num_slots} must be smaller than "
                f"max_history {self.max_history}"
            )
        return self
