"""What each step of a pipeline is given on a cluster, and how it fails: the one table of it.

`reaseq compile` writes it into the packages. `reaseq compile --policy FILE` adds what a cluster wants of all
its pods (nodes, tolerations, secrets), another size, and other values for single steps.
"""

from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field, ValidationError, model_validator

from contracts.config import Config
from contracts.config_text import read_yaml_file
from contracts.errors import UserError
from pipelines.config_faults import describe_fault

_OBJECT_NAME: Final = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
_VARIABLE: Final = r"^[A-Za-z_][A-Za-z0-9_]*$"
_UNITS: Final = {"": 1.0, "m": 1e-3, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
_QUANTITY: Final = r"^\d+(\.\d+)?(m|Ki|Mi|Gi|Ti)?$"


def read_quantity(quantity: str) -> float:
    """One of Kubernetes' quantities as a number."""
    number = quantity.rstrip("mKiMGT")
    return float(number) * _UNITS[quantity.removeprefix(number)]


def scale_quantity(quantity: str, factor: float) -> str:
    """Multiplies one of Kubernetes' quantities; its unit stays."""
    number = quantity.rstrip("mKiMGT")
    return f"{float(number) * factor:g}{quantity.removeprefix(number)}"


class StepPolicy(Config):
    """What one step gets. Quantities are Kubernetes' own: `500m`, `2`, `4Gi`."""

    cpu: str = Field(default="500m", pattern=_QUANTITY)
    """Requested; there is no limit, since a throttled step only takes longer."""
    memory: str = Field(default="1Gi", pattern=_QUANTITY)
    """Requested."""
    memory_limit: str = Field(default="2Gi", pattern=_QUANTITY)
    """A step that takes more is ended, and no neighbor is."""
    timeout_s: int = Field(default=3600, ge=60)
    """The pod is ended after so long; all steps go on where they stopped."""
    retries: int = Field(default=2, ge=0, le=10)
    """How often a failed step is tried again."""
    retry_pause_s: int = Field(default=30, ge=1)
    """Before the first retry; each further pause is twice as long, at most ten minutes."""
    shared_memory: str | None = Field(default=None, pattern=_QUANTITY)
    """Size of `/dev/shm`: PyTorch's processes talk through it, and a pod has 64 MiB by default."""

    @model_validator(mode="after")
    def _require_room_below_the_limit(self) -> "StepPolicy":
        # Kubernetes would refuse the pod, hours after the run began; what lies in /dev/shm is memory, too.
        for name in ("memory", "shared_memory"):
            quantity = getattr(self, name)
            if quantity and read_quantity(quantity) > read_quantity(self.memory_limit):
                raise ValueError(
                    f"{name} {quantity} is above memory_limit {self.memory_limit}; raise the limit"
                )
        return self


_LOOK = StepPolicy(cpu="100m", memory="512Mi", memory_limit="1Gi", timeout_s=1800)
_TABLE_WORK = StepPolicy(cpu="1", memory="4Gi", memory_limit="8Gi", timeout_s=4 * 3600)
_SIDE_EFFECT = StepPolicy(cpu="500m", memory="2Gi", memory_limit="4Gi", timeout_s=4 * 3600, retries=3)
_TRAINING = StepPolicy(
    cpu="2", memory="8Gi", memory_limit="16Gi", timeout_s=24 * 3600, retry_pause_s=60, shared_memory="2Gi"
)
# A teacher asks for days, and each answer is kept: a retry goes on with the next question.
_TEACHING = StepPolicy(
    cpu="1",
    memory="4Gi",
    memory_limit="8Gi",
    timeout_s=72 * 3600,
    retries=5,
    retry_pause_s=60,
    shared_memory="2Gi",
)
STEP_POLICIES: Final[dict[str, StepPolicy]] = {
    "digest-sources": _LOOK.model_copy(update={"timeout_s": 4 * 3600}),
    "find-deployment": _LOOK,
    "find-champion": _LOOK,
    "record-refresh": _LOOK,
    # Not tried again: what it did before it died it would do once more.
    "decide": _LOOK.model_copy(update={"retries": 0}),
    "post-outcome": _LOOK,
    # A rollback that is made twice takes itself back.
    "change-routes": _SIDE_EFFECT.model_copy(update={"retries": 0}),
    # It reads the log, and an experiment that was started is there already.
    "run-experiment": _TABLE_WORK.model_copy(update={"retries": 0}),
    "simulate-shop": _TABLE_WORK,
    "collect-log": _TABLE_WORK,
    "ingest": _TABLE_WORK,
    "merge-knowledge": _TABLE_WORK,
    "merge-inferred": _TABLE_WORK,
    "build-features": _TABLE_WORK,
    "build-training-set": _TABLE_WORK,
    "collect-traffic": _TABLE_WORK,
    "report-drift": _TABLE_WORK,
    "report-lift": _TABLE_WORK,
    "publish-dashboard": _TABLE_WORK,
    "materialize-features": _SIDE_EFFECT,
    "deploy-ranker": _SIDE_EFFECT,
    "embed-items": _TRAINING,
    "embed-new-items": _TRAINING,
    "infer-behaviors": _TRAINING,
    "train-behavior-model": _TRAINING,
    "train-ranker": _TRAINING,
    "distill-teacher": _TRAINING,
    "evaluate-ranker": _TRAINING,
    "distill-knowledge": _TEACHING,
    "distill-changed-items": _TEACHING,
}
"""Step -> its policy, for a catalogue of about 100,000 items and a million users (size `small`)."""
SIZES: Final = {"small": 1, "medium": 4, "large": 16}
"""Size of a run -> how many times the table's memory its steps get; of its processors they get the square
root as many."""


class Toleration(Config):
    """A taint that pods put up with, in Kubernetes' own fields."""

    key: str
    """The taint's key."""
    operator: Literal["Equal", "Exists"] = "Exists"
    """Whether the value counts."""
    value: str | None = None
    """The taint's value."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """All effects where none is named."""


class EnvironmentSource(Config):
    """A secret or config map of the namespace that steps see as environment variables."""

    name: str = Field(pattern=_OBJECT_NAME)
    """Its name; the values stay in the cluster."""
    keys: dict[str, Annotated[str, Field(pattern=_VARIABLE)]] = Field(min_length=1)
    """Key in it -> environment variable."""
    optional: bool = False
    """Start without it where it is missing."""
    steps: tuple[str, ...] | None = None
    """Which steps see it; None: all."""


class Webhook(Config):
    """Where the outcome of a run is posted."""

    secret: str = Field(pattern=_OBJECT_NAME)
    """Secret of the namespace; without it nothing is posted."""
    key: str = "url"
    """Key in it that holds the address."""


class PodPolicy(Config):
    """What `reaseq compile --policy` reads: a cluster's wishes on top of the table."""

    size: Literal["small", "medium", "large"] = "small"
    """Of the run; it multiplies processors and memory."""
    steps: dict[str, dict[str, Any]] = {}
    """Step -> fields of its policy that differ, as `{train-ranker: {memory_limit: 64Gi}}`."""
    node_selector: dict[str, str] = {}
    """Labels of the nodes that may run steps."""
    tolerations: tuple[Toleration, ...] = ()
    """Taints of nodes that steps put up with."""
    image_pull_secrets: tuple[str, ...] = ()
    """Secrets with credentials of the image registry."""
    secrets: tuple[EnvironmentSource, ...] = ()
    """Further secrets, beside `reaseq-pipelines`."""
    config_maps: tuple[EnvironmentSource, ...] = ()
    """Config maps."""
    webhook: Webhook | None = None
    """Told how each run ended, by an exit handler; none by default."""
    run_as_user: int | None = Field(default=10001, ge=1)
    """Steps run as this user and group, never as root. None leaves it to the image and the cluster, for
    backends older than 2.16."""

    @model_validator(mode="after")
    def _require_known_steps(self) -> "PodPolicy":
        named = {*self.steps, *(step for s in (*self.secrets, *self.config_maps) for step in s.steps or ())}
        if unknown := sorted(named - set(STEP_POLICIES)):
            raise ValueError(f"unknown step(s) {', '.join(unknown)}; allowed: {', '.join(STEP_POLICIES)}")
        for step in self.steps:
            try:
                self.get_step_policy(step)
            except ValidationError as error:
                faults = error.errors(include_url=False, include_context=False)
                texts = (f"steps.{step}.{describe_fault(fault, {})}" for fault in faults)
                raise ValueError("; ".join(texts).replace(".(top level)", "")) from None
        return self

    @model_validator(mode="after")
    def _require_distinct_variables(self) -> "PodPolicy":
        for one, other in combinations((*self.secrets, *self.config_maps), 2):
            share_a_step = one.steps is None or other.steps is None or set(one.steps) & set(other.steps)
            shared = set(one.keys.values()) & set(other.keys.values())
            if share_a_step and shared:
                listed = ", ".join(sorted(shared))
                raise ValueError(f"{listed} comes from '{one.name}' and from '{other.name}'; keep one")
        return self

    def get_step_policy(self, step: str) -> StepPolicy:
        """The policy of a step: the table's, of this size, with what the file says of the step."""
        factor = SIZES[self.size]
        sized = STEP_POLICIES[step].model_dump()
        if factor > 1:
            sized["cpu"] = scale_quantity(sized["cpu"], factor**0.5)
            for name in ("memory", "memory_limit", "shared_memory"):
                sized[name] = sized[name] and scale_quantity(sized[name], factor)
        return StepPolicy.model_validate(sized | self.steps.get(step, {}))


def read_pod_policy(path: Path) -> PodPolicy:
    """Reads a policy file.

    Raises:
        UserError: it is missing, not YAML, or says what no policy has.
    """
    tree, lines = read_yaml_file(path)
    try:
        return PodPolicy.model_validate(tree or {})
    except ValidationError as error:
        faults = (
            f"  {describe_fault(fault, lines)}"
            for fault in error.errors(include_url=False, include_context=False)
        )
        raise UserError("\n".join([f"'{path}' is not a policy of steps:", *faults])) from error
