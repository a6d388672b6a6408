"""The run configuration: one YAML file describes a run completely; every error in it is reported at once."""

from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from contracts.config import Config
from contracts.errors import UserError
from contracts.ingestion.config import DataConfig
from feature_repo.config import FeatureConfig
from models.behavior.config import BehaviorConfig
from models.knowledge.config import EmbeddingConfig, KnowledgeConfig
from models.ranker.config import EvaluationConfig, ListConfig, RankerConfig
from monitoring.config import MonitoringConfig
from serving.config import ServingConfig
from simulation.config import SimulationConfig, TrafficConfig


class RunConfig(Config):
    """A run: what goes in, how each room works, where everything lies. The defaults are the embedded shop."""

    name: str = Field(default="shop", pattern=r"^[a-z0-9][a-z0-9-]{0,40}$")
    """Name of the run; its files lie in `<workspace>/<name>`."""
    workspace: Path = Path(".reaseq")
    """Folder that holds artifacts, caches, checkpoints, stores and logs of all runs."""
    data: DataConfig | None = None
    """Your catalogue and log; the embedded shop when not given."""
    shop: SimulationConfig = SimulationConfig()
    """The embedded shop (used when `data` is not given)."""
    knowledge: KnowledgeConfig = KnowledgeConfig()
    """Explicit reasoning: teacher, agents, budget."""
    embedding: EmbeddingConfig = EmbeddingConfig()
    """Text encoder, embedding space, semantic ids."""
    behavior: BehaviorConfig = BehaviorConfig()
    """Latent reasoning: the masked-diffusion behaviour model."""
    features: FeatureConfig = FeatureConfig()
    """Feast: histories, time to live, online store."""
    lists: ListConfig = ListConfig()
    """Ranking lists: candidates, negatives, seeds."""
    ranker: RankerConfig = RankerConfig()
    """The ranker and its enhancements."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """Metrics, slices and the gate."""
    serving: ServingConfig = ServingConfig()
    """Triton, gateway, experiment arms."""
    monitoring: MonitoringConfig = MonitoringConfig()
    """Drift, lift and the decision rule."""
    traffic: TrafficConfig = TrafficConfig()
    """Simulated A/B traffic on the embedded shop."""

    @model_validator(mode="after")
    def _stored_histories_are_long_enough(self) -> Self:
        if self.ranker.search_length > self.features.history_length:
            raise ValueError(
                f"ranker.search_length = {self.ranker.search_length} is above features.history_length = "
                f"{self.features.history_length}, what is kept of a user; raise the second or lower the first"
            )
        return self

    @property
    def home(self) -> Path:
        """The run's own folder, absolute."""
        return (self.workspace / self.name).resolve()


def load_config(path: Path | None, overrides: list[str] | None = None) -> RunConfig:
    """Reads a run configuration.

    Args:
        path: YAML file; the embedded defaults when None.
        overrides: `section.key=value` entries; values are read as YAML.

    Raises:
        UserError: the file is missing or not YAML, or values are wrong; all wrong values are listed together.
    """
    tree = _read_yaml(path) if path else {}
    for override in overrides or []:
        _apply(tree, override)
    try:
        return RunConfig.model_validate(tree)
    except ValidationError as error:
        raise UserError(_explain(error, str(path or "the command line"))) from None


def dump_config(config: RunConfig) -> str:
    """The resolved configuration as YAML."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _read_yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"no configuration file at '{path}'")
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"'{path}' is not valid YAML: {error}") from error
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise UserError(f"'{path}' must hold a mapping of sections, not a {type(tree).__name__}")
    return tree


def _apply(tree: dict[str, Any], override: str) -> None:
    key, separator, value = override.partition("=")
    if not separator or not key.strip():
        raise UserError(f"'{override}' is not an override; write section.key=value, as in ranker.epochs=3")
    *parents, leaf = key.strip().split(".")
    for parent in parents:
        tree = tree.setdefault(parent, {})
        if not isinstance(tree, dict):
            raise UserError(f"cannot set '{key}': '{parent}' holds a value, not a section")
    tree[leaf] = yaml.safe_load(value)


def _explain(error: ValidationError, origin: str) -> str:
    details = error.errors(include_url=False, include_context=False)
    lines = [f"{len(details)} error(s) in {origin}:"]
    for detail in details:
        place = ".".join(str(part) for part in detail["loc"]) or "(top level)"
        given = "" if isinstance(detail["input"], dict) else f" (given: {detail['input']!r})"
        lines.append(f"  {place}: {detail['msg'].removeprefix('Value error, ')}{given}")
    return "\n".join([*lines, "`reaseq config` prints every key with its default."])
