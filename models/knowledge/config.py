"""Configuration of the knowledge room."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, JsonValue, model_validator

from contracts.config import Config, Precision
from contracts.pretrained import MINILM


class HandbookTeacherConfig(Config):
    """The embedded teacher: hand-written concepts, no weights, no network."""

    kind: Literal["handbook"] = "handbook"
    folder: Path | None = None
    """Folder of concept files (*.yaml); none means the handbook that comes with the package."""


class LanguageModelConfig(Config):
    """What all language-model teachers have in common."""

    model: str = Field(min_length=1)
    """The model: a hub name or a local folder; for a server, the name that it serves."""
    max_tokens: int = Field(default=1500, ge=16)
    """Longest answer; a cut-off answer is asked for once more with twice as much."""
    temperature: float = Field(default=0.0, ge=0, le=2)
    """Sampling temperature."""
    seed: int = Field(default=0, ge=0)
    """Sampling seed, for servers that honor it; each request gets one of its own from it."""
    price_per_million_input_tokens: float = Field(default=0.0, ge=0)
    """For the ledger, in the currency of your bill."""
    price_per_million_output_tokens: float = Field(default=0.0, ge=0)
    """For the ledger, in the currency of your bill."""
    form: Literal["agents", "compact"] = "agents"
    """What is asked: `agents`, several questions an item with reasons and evidence; `compact`, one short
    question an item, where rules stand in for the other agents. A distilled student needs `compact`."""
    examples: Path | None = None
    """For the form `compact`: a student's `answered_items.jsonl`. Each question then shows the most similar
    item of it, and its answer. By default the one in the folder `model`; a student behind a server needs the
    path."""
    confidence: bool = False
    """Ask how probable each answer was. A cascade sets it for its student; a server must know `logprobs`."""


class OpenAITeacherConfig(LanguageModelConfig):
    """Any OpenAI-compatible server, for example `vllm serve`."""

    kind: Literal["openai"]
    base_url: str = Field(pattern=r"^https?://")
    """Root of the API, such as http://127.0.0.1:8000/v1."""
    api_key_env: str | None = None
    """Environment variable that holds the key; none for servers that ask for no key."""
    structured_output: Literal["response_format", "structured_outputs", "none"] = "response_format"
    """How the answer's schema is sent: the standard field, vLLM's own, or not at all. A trial request checks
    that the server keeps to it."""
    extra_body: dict[str, JsonValue] = {}
    """Further fields of each request, such as {"chat_template_kwargs": {"enable_thinking": false}}."""
    concurrency: int = Field(default=16, ge=1, le=1024)
    """Requests in flight at once."""
    timeout_s: float = Field(default=120, gt=0)
    """Limit of one attempt of one request."""
    max_retries: int = Field(default=4, ge=0, le=20)
    """Further attempts after a timeout, a lost connection, HTTP 408, 409, 425, 429 or 5xx (also inside of
    HTTP 200), with backoff and jitter; a `Retry-After` of the server is kept to."""
    deadline_s: float = Field(default=600, gt=0)
    """Limit of one request, all its attempts and waits together. A server that is lost meanwhile is waited
    for so long; then the run stops, and another one goes on with what is missing."""


class LocalModelConfig(LanguageModelConfig):
    """What teachers that load the model themselves have in common. Weights must be safetensors."""

    revision: str | None = None
    """Revision of a hub model. Pin it: answers are cached under it. A local folder is known by its
    content."""
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    """Of the weights; `auto`: as they are stored."""
    chat_template_kwargs: dict[str, JsonValue] = {}
    """Arguments of the model's chat template, such as {"enable_thinking": false}."""


class VllmTeacherConfig(LocalModelConfig):
    """vLLM in this process; needs the environment `vllm`."""

    kind: Literal["vllm"]
    max_model_len: int = Field(default=16_384, ge=256)
    """Tokens of a request and its answer together; a model of fewer positions sets the limit itself."""
    concurrency: int = Field(default=512, ge=1)
    """Requests in the engine at once. It computes `max_num_seqs` of them together; some more should wait, so
    that it never idles."""
    engine_args: dict[str, JsonValue] = {}
    """Further arguments of `vllm.LLM`, such as {"tensor_parallel_size": 2}, {"gpu_memory_utilization": 0.8}
    or {"quantization": "fp8"}."""


class TransformersTeacherConfig(LocalModelConfig):
    """Plain `transformers` in this process, on the first GPU, else the processor."""

    kind: Literal["transformers"]
    batch_size: int = Field(default=8, ge=1)
    """Requests that are answered together; bounds the memory."""
    constrained: bool = True
    """Hold answers to their schema token by token. A model that thinks before it answers needs false."""


class ReplayTeacherConfig(Config):
    """Answers, or knowledge of items, recorded from another teacher."""

    kind: Literal["replay"]
    recordings: Path
    """Folder of answers that an earlier run wrote (`requests` in its cache), or a file of JSON lines, gzip or
    not: agents' answers (`teachers/replay/recordings.py`) or what is known of each item
    (`teachers/replay/recorded_knowledge.py`)."""
    digest: str | None = None
    """Digest of the recordings that are meant; others are refused. A run on this machine fills it in, so that
    no step is taken from the cache where the file has changed. On a cluster set it yourself."""
    recorded_by: str | None = None
    """Whose answers, where a cache holds those of several teachers: the teacher's name, or as the error lists
    it."""


class CascadeTeacherConfig(Config):
    """A small teacher that answers first; items that it is not sure of go to a large one. Give either
    `share` or `min_agreement`: both are read off what distillation measured on held-out items."""

    kind: Literal["cascade"]
    student: Annotated[
        VllmTeacherConfig | OpenAITeacherConfig | TransformersTeacherConfig, Field(discriminator="kind")
    ]
    """The small teacher, mostly one that `distill_teacher` made. It is asked in the `compact` form."""
    fallback: Annotated[
        HandbookTeacherConfig
        | VllmTeacherConfig
        | OpenAITeacherConfig
        | TransformersTeacherConfig
        | ReplayTeacherConfig,
        Field(discriminator="kind"),
    ]
    """The large teacher."""
    share: float | None = Field(default=None, ge=0, le=1)
    """About this share of the items is sent on: those with the least confidence."""
    min_agreement: float | None = Field(default=None, ge=0, le=1)
    """Items are sent on whose expected agreement with the large teacher is below this."""
    calibration: Path | None = None
    """The student's `calibration.json`; by default the one in the folder `student.model`."""

    @model_validator(mode="after")
    def _require_one_rule(self) -> "CascadeTeacherConfig":
        if (self.share is None) == (self.min_agreement is None):
            raise ValueError("a cascade needs either share or min_agreement, not both and not none")
        return self


TeacherConfig = Annotated[
    HandbookTeacherConfig
    | VllmTeacherConfig
    | OpenAITeacherConfig
    | TransformersTeacherConfig
    | ReplayTeacherConfig
    | CascadeTeacherConfig,
    Field(discriminator="kind"),
]


class StudentConfig(Config):
    """How `distill_teacher` trains a small language model to answer as the teacher did."""

    base_model: str = "HuggingFaceTB/SmolLM2-135M-Instruct"
    """The model to start from: a hub name or a local folder, with safetensors and a chat template."""
    revision: str | None = None
    """Revision of a hub model. Pin it."""
    max_items: int | None = Field(default=None, ge=2)
    """Items to learn from and to hold out, chosen evenly; none means all."""
    held_out_share: float = Field(default=0.1, gt=0, lt=1)
    """Of the items: never trained on. They choose the epoch, and show what the student is worth."""
    max_measured: int = Field(default=200, ge=1)
    """Held-out items that the student answers at the end, for its figures and its calibration."""
    max_claims: int = Field(default=3, ge=1, le=4)
    """Claims of each facet that are learned, the first ones. Fewer claims are fewer tokens."""
    examples: bool = True
    """Show with each question the most similar other item that is learned from, and its answer: the student
    learns sooner what to say. Questions are twice as long."""
    max_length: int = Field(default=1024, ge=32)
    """Tokens of question and answer together; longer examples are left out and counted."""
    rank: int = Field(default=16, ge=0)
    """Of the low-rank updates (LoRA) of all linear layers; 0: all weights are trained."""
    epochs: int = Field(default=3, ge=1)
    """Passes over the items; the one with the least loss on held-out items is kept."""
    batch_size: int = Field(default=16, ge=1)
    """Examples a step."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Peak learning rate of AdamW. All weights (rank 0) want a tenth of it or less."""
    checkpoint_steps: int = Field(default=20, ge=1)
    """Steps between two checkpoints inside an epoch."""
    precision: Precision = "auto"
    """Of matrix products; weights are kept in float32."""
    seed: int = 0
    """Of the updates' start and the order of examples."""


class BudgetConfig(Config):
    """What one run may cost. When a limit is reached the run stops with a message and writes no artifact. All
    answers are cached, so a further run goes on where it stopped. Only what is asked anew counts, not what is
    cached.
    """

    max_requests: int | None = Field(default=None, ge=0)
    """Requests to the teacher."""
    max_tokens: int | None = Field(default=None, ge=0)
    """Tokens in and out; passed by no more than the requests in flight."""
    max_money: float | None = Field(default=None, ge=0)
    """By the teacher's configured prices; passed by no more than the requests in flight."""
    max_hours: float | None = Field(default=None, ge=0)
    """Wall-clock hours."""

    def share_for_shard(self, shard_number: int, num_shards: int) -> "BudgetConfig":
        """What one of several shards that run at once may spend; all shares together are the whole."""
        count_limits = {"max_requests": self.max_requests, "max_tokens": self.max_tokens}
        shared_limits: dict[str, float | None] = {
            name: None if limit is None else (limit + num_shards - 1 - shard_number) // num_shards
            for name, limit in count_limits.items()
        }
        # Hours are not divided: the shards run at the same time.
        shared_limits["max_money"] = None if self.max_money is None else self.max_money / num_shards
        return self.model_copy(update=shared_limits)


class KnowledgeConfig(Config):
    """What `distill_knowledge` needs to know."""

    teacher: TeacherConfig = HandbookTeacherConfig()
    """Who answers the agents."""
    budget: BudgetConfig = BudgetConfig()
    """When to stop."""
    num_shards: int = Field(default=1, ge=1, le=1000)
    """Workers among which the catalogue is divided; on a cluster they run at once and share the budget
    evenly."""
    max_invalid_rate: float = Field(default=0.05, ge=0, le=1)
    """The step fails when a larger share of items got no valid answer even after a repair."""
    min_coverage: float = Field(default=0.0, ge=0, le=1)
    """The step fails when a smaller share of items has knowledge."""
    files_digest: str | None = None
    """Digest of the files that the teacher reads: handbook, model, examples, calibration. A run on this
    machine fills it in, so that no step is taken from the cache where one has changed."""


class SemanticIdConfig(Config):
    """How vectors become semantic ids."""

    num_levels: int = Field(default=4, ge=1, le=16)
    """Levels with meaning; one more level tells apart items whose codes agree."""
    num_codes: int = Field(default=256, ge=1, le=65_536)
    """Codes per level; fewer where the catalogue has fewer distinct vectors."""


class ContrastConfig(Config):
    """How the space learns from co-engagement before the training end."""

    epochs: int = Field(default=4, ge=0)
    """Passes over the log; 0 leaves a principal component analysis of the views."""
    batch_size: int = Field(default=512, ge=2)
    """Targets per step; each is told from the others of its batch."""
    num_folds: int = Field(default=3, ge=0)
    """Further spaces, each learned without one part of the users. A ranker trains on a user's lists in the
    space that has not seen them, else it trusts similarities learned from the very clicks it is to predict.
    0: none; else 2 or more."""
    learning_rate: float = Field(default=2.5e-3, gt=0)
    """Peak learning rate of AdamW."""

    @model_validator(mode="after")
    def _refuse_single_fold(self) -> "ContrastConfig":
        if self.num_folds == 1:
            raise ValueError("num_folds 1 leaves no user to learn from: give 0 (none) or at least 2")
        return self


class AspectsConfig(Config):
    """What stands beside the learned vector of an item. A ranker weighs each cosine alone; 0: left out."""

    words: int = Field(default=128, ge=0)
    """Leading axes of the title's exact words, brand and category; at most 384."""
    knowledge: int = Field(default=64, ge=0)
    """Leading axes of the whitened knowledge view, or of each of the two that stand apart; at most 128."""
    brand: int = Field(default=32, ge=0)
    """Leading axes of the whitened brand view; at most 256."""


class EmbeddingConfig(Config):
    """What `embed_items` needs to know."""

    encoder: str = MINILM
    """A sentence-transformers model: hub name or local folder."""
    revision: str | None = None
    """Revision of the hub model; the default encoder is verified by its digest instead."""
    knowledge: bool = True
    """Let the distilled knowledge speak beside the raw text; off gives a space of the raw text alone."""
    knowledge_views: Literal["together", "apart"] = "together"
    """`together`: all claims on an item in one vector. `apart`: what it is, needs, features and what goes
    with it. Apart pays where claims are about the item, as a language model's are; the handbook's are about
    its kind of product."""
    dimension: int = Field(default=256, ge=2)
    """Length of an item's learned vector, the first aspect of its embedding."""
    aspects: AspectsConfig = AspectsConfig()
    """The other aspects."""
    contrast: ContrastConfig = ContrastConfig()
    """How the space learns from the log."""
    max_tokens: int = Field(default=64, ge=8, le=512)
    """Longer texts are cut here; descriptions on their own at 128."""
    batch_size: int = Field(default=64, ge=1)
    """Texts encoded at once by sentence-transformers. The default encoder batches tokens on its own."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the encoder's products; `auto`: bfloat16 where a GPU or AMX makes it fast."""
    semantic_ids: SemanticIdConfig = SemanticIdConfig()
    """How vectors become codes."""
    seed: int = 0
    """Seed of all training and of k-means."""
