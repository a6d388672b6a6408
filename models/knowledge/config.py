"""Configuration of the knowledge room."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from contracts.config import Config

MINILM = "sentence-transformers/all-MiniLM-L6-v2"


class HandbookTeacherConfig(Config):
    """The embedded teacher: hand-written concepts, no weights, no network."""

    kind: Literal["handbook"] = "handbook"
    folder: Path | None = None
    """Folder of concept files (*.yaml); none means the handbook that comes with the package."""
    min_confidence: float = Field(default=0.35, ge=0, le=1)
    """Below this confidence of the match the handbook answers "unknown"."""


class OpenAITeacherConfig(Config):
    """Any OpenAI-compatible server, for example `vllm serve`."""

    kind: Literal["openai"]
    base_url: str = Field(pattern=r"^https?://")
    """Root of the API, such as http://127.0.0.1:8000/v1."""
    model: str = Field(min_length=1)
    """Model name as the server knows it."""
    api_key_env: str | None = None
    """Environment variable that holds the key; none for servers that ask for no key."""
    concurrency: int = Field(default=16, ge=1, le=1024)
    """Requests in flight at once."""
    timeout_s: float = Field(default=120, gt=0)
    """Limit of one attempt of one request."""
    max_retries: int = Field(default=4, ge=0, le=20)
    """Further attempts after a timeout, a lost connection, HTTP 408, 409, 429 or 5xx, with backoff and jitter."""
    max_tokens: int = Field(default=1500, ge=16)
    """Longest answer; a cut-off answer is asked for once more with twice as much."""
    temperature: float = Field(default=0.0, ge=0, le=2)
    """Sampling temperature."""
    seed: int = 0
    """Sampling seed, for servers that honour it."""
    price_per_million_input_tokens: float = Field(default=0.0, ge=0)
    """For the ledger, in the currency of your bill."""
    price_per_million_output_tokens: float = Field(default=0.0, ge=0)
    """For the ledger, in the currency of your bill."""


class ReplayTeacherConfig(Config):
    """Answers recorded by another teacher, read from its request cache."""

    kind: Literal["replay"]
    recordings: Path
    """A request cache (`requests.sqlite`) of an earlier run."""


TeacherConfig = Annotated[
    HandbookTeacherConfig | OpenAITeacherConfig | ReplayTeacherConfig,
    Field(discriminator="kind"),
]


class KnowledgeConfig(Config):
    """What `distill_knowledge` needs to know."""

    teacher: TeacherConfig = HandbookTeacherConfig()
    """Who answers the agents."""
    batch_items: int = Field(default=512, ge=1)
    """Items that go through the agents together; bounds the memory."""
    max_description_chars: int = Field(default=1000, ge=0)
    """Descriptions are cut here before an agent reads them."""
    max_invalid_rate: float = Field(default=0.05, ge=0, le=1)
    """The step fails when a larger share of items got no valid answer even after a repair."""
    min_coverage: float = Field(default=0.0, ge=0, le=1)
    """The step fails when a smaller share of items has knowledge."""


class SemanticIdConfig(Config):
    """How vectors become short codes."""

    method: Literal["product", "residual"] = "residual"
    """`product`: one code per slice of the rotated vector; `residual`: each level codes what the one before left."""
    num_levels: int = Field(default=4, ge=1, le=16)
    """Levels with meaning; one more level tells apart items whose codes agree."""
    num_codes: int = Field(default=256, ge=1, le=65_536)
    """Codes per level; fewer where the catalogue has fewer distinct vectors."""
    max_iterations: int = Field(default=25, ge=1)
    """Iterations of k-means."""


class EmbeddingConfig(Config):
    """What `embed_items` needs to know."""

    encoder: str = MINILM
    """A sentence-transformers model: hub name or local folder."""
    revision: str | None = None
    """Revision of the hub model; the default encoder is verified by its digest instead."""
    knowledge: bool = True
    """Combine the raw text with the distilled knowledge; off gives the raw-text space, for ablations."""
    knowledge_weight: float = Field(default=0.2, ge=0, le=1)
    """Share of the knowledge vector in the sum; the rest is the raw text's."""
    dimension: int = Field(default=128, ge=2)
    """Length of an item's vector: so many principal components of the encoder's vectors."""
    whitening: float = Field(default=0.2, ge=0, le=0.5)
    """How far the principal axes are evened out: 0 not at all, 0.5 to equal variance."""
    max_tokens: int = Field(default=64, ge=8, le=512)
    """Longer texts are cut here."""
    batch_size: int = Field(default=64, ge=1)
    """Texts encoded at once."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the encoder's products; `auto`: bfloat16 where the processor computes it natively (about twice as fast)."""
    semantic_ids: SemanticIdConfig = SemanticIdConfig()
    """How vectors become codes."""
    seed: int = 0
    """Seed of k-means."""

    @model_validator(mode="after")
    def _slices_fit(self) -> "EmbeddingConfig":
        if self.dimension < self.semantic_ids.num_levels:
            raise ValueError(
                f"dimension {self.dimension} is below semantic_ids.num_levels {self.semantic_ids.num_levels}: "
                "raise the dimension or lower the levels"
            )
        return self
