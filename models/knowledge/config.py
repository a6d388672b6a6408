"""Configuration of the knowledge room."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, JsonValue, model_validator

from contracts.config import Config
from contracts.pretrained import MINILM


class HandbookTeacherConfig(Config):
    """The embedded teacher: hand-written concepts, no weights, no network."""

    kind: Literal["handbook"] = "handbook"
    folder: Path | None = None
    """Folder of concept files (*.yaml); none means the handbook that comes with the package."""
    min_confidence: float = Field(default=0.35, ge=0, le=1)
    """Below this confidence of the match the handbook answers "unknown"."""
    encoder: str | None = None
    """A sentence-transformers model, asked about products that category and words leave undecided; none: never ask."""


class LanguageModelConfig(Config):
    """What all language-model teachers have in common."""

    model: str = Field(min_length=1)
    """The model: a hub name or a local folder; for a server, the name that it serves."""
    max_tokens: int = Field(default=1500, ge=16)
    """Longest answer; a cut-off answer is asked for once more with twice as much."""
    temperature: float = Field(default=0.0, ge=0, le=2)
    """Sampling temperature."""
    seed: int = Field(default=0, ge=0)
    """Sampling seed, for servers that honour it; each request gets one of its own from it."""
    price_per_million_input_tokens: float = Field(default=0.0, ge=0)
    """For the ledger, in the currency of your bill."""
    price_per_million_output_tokens: float = Field(default=0.0, ge=0)
    """For the ledger, in the currency of your bill."""


class OpenAITeacherConfig(LanguageModelConfig):
    """Any OpenAI-compatible server, for example `vllm serve`."""

    kind: Literal["openai"]
    base_url: str = Field(pattern=r"^https?://")
    """Root of the API, such as http://127.0.0.1:8000/v1."""
    api_key_env: str | None = None
    """Environment variable that holds the key; none for servers that ask for no key."""
    structured_output: Literal["response_format", "structured_outputs", "none"] = "response_format"
    """How the answer's schema is sent: the standard field, vLLM's own, or not at all. A trial request checks that the
    server keeps to it."""
    extra_body: dict[str, JsonValue] = {}
    """Further fields of each request, such as {"chat_template_kwargs": {"enable_thinking": false}}."""
    concurrency: int = Field(default=16, ge=1, le=1024)
    """Requests in flight at once."""
    timeout_s: float = Field(default=120, gt=0)
    """Limit of one attempt of one request."""
    max_retries: int = Field(default=4, ge=0, le=20)
    """Further attempts after a timeout, a lost connection, HTTP 408, 409, 429 or 5xx, with backoff and jitter; a
    `Retry-After` of the server is kept to."""
    deadline_s: float = Field(default=600, gt=0)
    """Limit of one request, all its attempts and waits together. A server that is lost meanwhile is waited for so long;
    then the run stops, and another one goes on with what is missing."""


class LocalModelConfig(LanguageModelConfig):
    """What teachers that load the model themselves have in common. Weights must be safetensors."""

    revision: str | None = None
    """Revision of a hub model. Pin it: answers are cached under it. A local folder is known by its content."""
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    """Of the weights; `auto`: as they are stored."""
    chat_template_kwargs: dict[str, JsonValue] = {}
    """Arguments of the model's chat template, such as {"enable_thinking": false}."""


class VllmTeacherConfig(LocalModelConfig):
    """vLLM in this process; needs the environment `vllm`."""

    kind: Literal["vllm"]
    tensor_parallel: int = Field(default=1, ge=1)
    """GPUs that share the model."""
    max_model_len: int = Field(default=16_384, ge=256)
    """Tokens of a request and its answer together."""
    gpu_memory: float = Field(default=0.9, gt=0, le=1)
    """Share of the GPU's memory for weights and caches."""
    concurrency: int = Field(default=512, ge=1)
    """Requests in the engine at once. It computes `max_num_seqs` of them together; some more should wait, so that it
    never idles."""
    engine_args: dict[str, JsonValue] = {}
    """Further arguments of `vllm.LLM`, such as {"max_num_seqs": 512} or {"quantization": "fp8"}."""


class TransformersTeacherConfig(LocalModelConfig):
    """Plain `transformers` in this process; answers are not constrained, so more of them are invalid."""

    kind: Literal["transformers"]
    device: str = "auto"
    """A torch device, such as cuda:0; `auto`: the first GPU, else the processor."""
    batch_size: int = Field(default=8, ge=1)
    """Requests that are answered together; bounds the memory."""


class ReplayTeacherConfig(Config):
    """Answers recorded by another teacher."""

    kind: Literal["replay"]
    recordings: Path
    """Folder of answers that an earlier run wrote (`requests` in its cache), or a file of JSON lines: see
    `teachers/recordings.py`."""
    recorded_by: str | None = None
    """Whose answers, where a cache holds those of several teachers: the teacher's name, or as the error lists it."""


TeacherConfig = Annotated[
    HandbookTeacherConfig | VllmTeacherConfig | OpenAITeacherConfig | TransformersTeacherConfig | ReplayTeacherConfig,
    Field(discriminator="kind"),
]


class BudgetConfig(Config):
    """What one run may cost. When a limit is reached the run stops with a clear message and writes no artifact; all
    answers are cached, so a further run goes on where it stopped. Only what is asked anew counts, not what is cached.
    """

    max_requests: int | None = Field(default=None, ge=0)
    """Requests to the teacher."""
    max_tokens: int | None = Field(default=None, ge=0)
    """Tokens in and out; passed by no more than the requests in flight."""
    max_money: float | None = Field(default=None, ge=0)
    """By the teacher's configured prices; passed by no more than the requests in flight."""
    max_hours: float | None = Field(default=None, ge=0)
    """Wall-clock hours."""

    def share(self, number: int, total: int) -> "BudgetConfig":
        """What shard `number` of `total` that run at once may spend; all shares together are the whole."""
        counts = {"max_requests": self.max_requests, "max_tokens": self.max_tokens}
        shares: dict[str, float | None] = {
            name: None if amount is None else (amount + total - 1 - number) // total for name, amount in counts.items()
        }
        shares["max_money"] = None if self.max_money is None else self.max_money / total
        return self.model_copy(update=shares)


class KnowledgeConfig(Config):
    """What `distill_knowledge` needs to know."""

    teacher: TeacherConfig = HandbookTeacherConfig()
    """Who answers the agents."""
    budget: BudgetConfig = BudgetConfig()
    """When to stop."""
    num_shards: int = Field(default=1, ge=1, le=1000)
    """Workers among which the catalogue is divided; on a cluster they run at once and share the budget evenly."""
    batch_items: int = Field(default=512, ge=1)
    """Items that are under way at once, and rows written at once; bounds the memory."""
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


class ContrastConfig(Config):
    """How the space learns from co-engagement before the training end."""

    epochs: int = Field(default=4, ge=0)
    """Passes over the log; 0 leaves a principal component analysis of the views."""
    max_targets: int = Field(default=500_000, ge=1)
    """Behaviours learnt from at most, drawn at random from larger logs; bounds time and memory."""
    history_length: int = Field(default=20, ge=1)
    """Behaviours before a target that are looked at."""
    batch_size: int = Field(default=256, ge=2)
    """Targets per step; each is told from the others of its batch."""
    temperature: float = Field(default=0.07, gt=0)
    """Divides the cosines."""
    hidden: int = Field(default=512, ge=1)
    """Width of the projection's hidden layer."""
    dropout: float = Field(default=0.2, ge=0, lt=1)
    """Dropout of the hidden layer."""
    residual_dropout: float = Field(default=0.5, ge=0, le=1)
    """How often an item's own residual is left out in training; 1: items have none."""
    num_folds: int = Field(default=3, ge=0)
    """Further spaces, each learnt without one part of the users: a ranker trains on a user's lists in the space that
    has not seen him, else it trusts similarities learnt from the very clicks it is to predict. 0: none; else
    2 or more."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Peak learning rate of AdamW."""
    weight_decay: float = Field(default=0.05, ge=0)
    """Weight decay of AdamW; residuals have none."""

    @model_validator(mode="after")
    def _folds_divide(self) -> "ContrastConfig":
        if self.num_folds == 1:
            raise ValueError("num_folds 1 leaves no user to learn from: give 0 (none) or at least 2")
        return self


class StudentConfig(Config):
    """How the student learns to place items by their raw text alone."""

    epochs: int = Field(default=30, ge=1)
    """Passes over the catalogue."""
    batch_size: int = Field(default=256, ge=1)
    """Items per step."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Peak learning rate."""
    held_out: float = Field(default=0.1, ge=0, lt=1)
    """Share of the items that it never learns from; its agreement with the teacher is measured on them."""


class AspectsConfig(Config):
    """What stands beside the learnt vector of an item: cosines that a ranker weighs on their own. 0 leaves one out."""

    words: int = Field(default=128, ge=0)
    """Leading axes of the title's exact words, brand and category; at most `words.title_axes`."""
    knowledge: int = Field(default=64, ge=0)
    """Leading axes of the whitened knowledge view."""
    brand: int = Field(default=32, ge=0)
    """Leading axes of the whitened brand view."""


class WordsConfig(Config):
    """How an item's exact words are read (`words.py`), beside the text encoder's views of it. 0 leaves a kind out."""

    title_axes: int = Field(default=384, ge=0)
    """Directions kept of the title's words and word pairs, brand and category."""
    page_axes: int = Field(default=256, ge=0)
    """Directions kept of all words: title, brand, category and description."""
    max_words: int = Field(default=50_000, ge=1)
    """Most frequent words (and word pairs) kept of each kind."""


class EmbeddingConfig(Config):
    """What `embed_items` needs to know."""

    encoder: str = MINILM
    """A sentence-transformers model: hub name or local folder."""
    revision: str | None = None
    """Revision of the hub model; the default encoder is verified by its digest instead."""
    knowledge: bool = True
    """Let the distilled knowledge speak beside the raw text; off gives a space of the raw text alone."""
    dimension: int = Field(default=256, ge=2)
    """Length of an item's learnt vector, the first aspect of its embedding."""
    aspects: AspectsConfig = AspectsConfig()
    """The other aspects."""
    text_axes: int = Field(default=256, ge=2)
    """Principal components kept of each view of the raw text."""
    knowledge_axes: int = Field(default=128, ge=2)
    """Principal components kept of the knowledge."""
    words: WordsConfig = WordsConfig()
    """The exact words, which the space learns from beside the views."""
    whitening: float = Field(default=0.25, ge=0, le=0.5)
    """How far a view's principal axes are evened out: 0 not at all, 0.5 to equal variance."""
    contrast: ContrastConfig = ContrastConfig()
    """How the space learns from the log."""
    student: StudentConfig = StudentConfig()
    """How new items find their place."""
    max_tokens: int = Field(default=64, ge=8, le=512)
    """Longer texts are cut here."""
    max_description_tokens: int = Field(default=128, ge=8, le=512)
    """Longer descriptions are cut here."""
    batch_size: int = Field(default=64, ge=1)
    """Texts encoded at once."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the encoder's products; `auto`: bfloat16 where the processor computes it natively (about twice as fast)."""
    semantic_ids: SemanticIdConfig = SemanticIdConfig()
    """How vectors become codes."""
    seed: int = 0
    """Seed of all training and of k-means."""

    @model_validator(mode="after")
    def _slices_fit(self) -> "EmbeddingConfig":
        if self.dimension < self.semantic_ids.num_levels:
            raise ValueError(
                f"dimension {self.dimension} is below semantic_ids.num_levels {self.semantic_ids.num_levels}: "
                "raise the dimension or lower the levels"
            )
        return self
