"""The run configuration. One YAML file describes a run, and all errors in it are reported at once."""

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple, Self

from pydantic import Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from contracts.config import Config
from contracts.config_text import KeyPath, dump_yaml, parse_yaml, read_yaml_file
from contracts.errors import UserError
from contracts.ingestion.config import DataConfig
from feature_repo.config import FeatureStoreConfig
from models.behavior.config import BehaviorConfig
from models.knowledge.config import EmbeddingConfig, KnowledgeConfig, StudentConfig
from models.ranker.config import EvaluationConfig, ListConfig, RankerConfig
from monitoring.config import MonitoringConfig
from pipelines.config_faults import describe_fault
from serving.config import ServedLogConfig, ServingConfig
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
    student_lm: StudentConfig = StudentConfig()
    """A small language model that learns to answer as the teacher did (`--pipeline distill_teacher`)."""
    embedding: EmbeddingConfig = EmbeddingConfig()
    """Text encoder, embedding space, semantic ids."""
    behavior: BehaviorConfig = BehaviorConfig()
    """Latent reasoning: the masked-diffusion behavior model."""
    features: FeatureStoreConfig = FeatureStoreConfig()
    """Feast: histories, time to live, online store."""
    lists: ListConfig = ListConfig()
    """Ranking lists: candidates, negatives, seeds."""
    ranker: RankerConfig = RankerConfig()
    """The ranker and its enhancements."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """Metrics, slices and the gate."""
    serving: ServingConfig = ServingConfig()
    """Triton, gateway, experiment arms."""
    served_log: ServedLogConfig = ServedLogConfig()
    """What was served, as data to learn from beside the history."""
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
        UserError: the file is missing or not YAML, a key stands twice, or values are wrong. All wrong values
            are listed together, each with the line or the override that it comes from.
    """
    file_tree, lines = _read_sections(path) if path else ({}, {})
    config_tree = deepcopy(file_tree)
    override_keys = _apply_overrides(config_tree, overrides or [])
    try:
        return RunConfig.model_validate(config_tree)
    except ValidationError as error:
        faults = _attribute_faults(error, file_tree, override_keys)
        raise UserError(_explain_faults(faults, path, lines)) from None


def dump_config(config: RunConfig) -> str:
    """The resolved configuration as YAML."""
    return dump_yaml(config.model_dump(mode="json"))


class ConfigFault(NamedTuple):
    """Something wrong with a run configuration, and where it comes from."""

    detail: ErrorDetails
    override: str | None
    """The `--set` argument to blame; None for the file."""


def _read_sections(path: Path) -> tuple[dict[str, Any], Mapping[KeyPath, int]]:
    config_tree, lines = read_yaml_file(path)
    if config_tree is None:
        return {}, lines
    if not isinstance(config_tree, dict):
        raise UserError(f"'{path}' must hold a mapping of sections, not a {type(config_tree).__name__}")
    return config_tree, lines


def _apply_overrides(config_tree: dict[str, Any], overrides: list[str]) -> dict[KeyPath, str]:
    """Sets the values in the tree; returns which override set which key."""
    overrides_by_key: dict[KeyPath, str] = {}
    for override in overrides:
        dotted_key, separator, value = override.partition("=")
        if not separator or not dotted_key.strip():
            raise UserError(
                f"--set '{override}' is not an override; write section.key=value, as in ranker.max_epochs=3"
            )
        key = tuple(name.strip() for name in dotted_key.split("."))
        for other_key, other_override in overrides_by_key.items():
            if _is_same_place(key, other_key):
                raise UserError(f"--set {other_override} and --set {override} set the same key; keep one")
        _set_value(config_tree, key, override, parse_yaml(value, origin=f"--set {override}").value)
        overrides_by_key[key] = override
    return overrides_by_key


def _set_value(config_tree: dict[str, Any], key: KeyPath, override: str, value: Any) -> None:
    *section_names, leaf_name = key
    for section_name in section_names:
        # A section that the file leaves empty is one that holds nothing yet.
        if config_tree.get(section_name) is None:
            config_tree[section_name] = {}
        config_tree = config_tree[section_name]
        if not isinstance(config_tree, dict):
            raise UserError(f"--set {override}: '{section_name}' holds a value, not a section")
    config_tree[leaf_name] = value


def _attribute_faults(
    error: ValidationError, file_tree: dict[str, Any], override_keys: Mapping[KeyPath, str]
) -> list[ConfigFault]:
    """Tells faults of the file from those that came with an override."""
    details = _list_details(error)
    if not override_keys:
        return [ConfigFault(detail, None) for detail in details]
    try:
        RunConfig.model_validate(file_tree)
    except ValidationError as file_error:
        of_the_file = {(detail["loc"], detail["msg"]) for detail in _list_details(file_error)}
    else:
        of_the_file = set()
    return [
        ConfigFault(
            detail, _find_culprit(detail, (detail["loc"], detail["msg"]) in of_the_file, override_keys)
        )
        for detail in details
    ]


def _find_culprit(detail: ErrorDetails, is_of_file: bool, override_keys: Mapping[KeyPath, str]) -> str | None:
    place = tuple(map(str, detail["loc"]))
    setting_it = [override for key, override in override_keys.items() if key == place[: len(key)]]
    if setting_it or is_of_file:
        return " ".join(setting_it) or None
    # A rule about several keys of a section is broken by those that were set in it.
    inside = [override for key, override in override_keys.items() if _is_same_place(key, place)]
    return " --set ".join(inside or override_keys.values())


def _is_same_place(one: KeyPath, other: KeyPath) -> bool:
    """Is one of them the other, or a section around it?"""
    length = min(len(one), len(other))
    return one[:length] == other[:length]


def _list_details(error: ValidationError) -> list[ErrorDetails]:
    return error.errors(include_url=False, include_context=False)


def _explain_faults(faults: list[ConfigFault], path: Path | None, lines: Mapping[KeyPath, int]) -> str:
    origins = [str(path)] * any(fault.override is None for fault in faults)
    origins += dict.fromkeys(f"--set {fault.override}" for fault in faults if fault.override is not None)
    texts = [f"{len(faults)} error(s) in {', '.join(origins)}:"]
    texts += [f"  {describe_fault(detail, lines, override=override)}" for detail, override in faults]
    return "\n".join([*texts, "`reaseq config` prints every key with its default."])
