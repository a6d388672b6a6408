"""What compiled packages and a run configuration need in the namespace of their steps."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from contracts.config import Config
from models.knowledge.config import CascadeTeacherConfig, KnowledgeConfig
from pipelines.compiled_package import CompiledPackage
from pipelines.config import RunConfig

_ENVIRONMENTS: Final = {
    "secret": ("secretAsEnv", "secretName", "secretKey"),
    "config map": ("configMapAsEnv", "configMapName", "configMapKey"),
}
"""Kind -> KFP's field of a pod, of the object's name, and of a key in it."""


@dataclass
class NamespaceNeeds:
    """Objects that must be there before a step can start, or can do its work."""

    claims: set[str] = field(default_factory=set)
    """Persistent volume claims that steps mount."""
    keys: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    """(`secret` or `config map`, its name) -> the keys that must be in it."""
    optional: set[tuple[str, str]] = field(default_factory=set)
    """Those that steps start without."""


def list_namespace_needs(packages: Iterable[CompiledPackage], config: RunConfig) -> NamespaceNeeds:
    """Reads off the packages what their pods mount and see, and off the configuration what it counts on.

    A package names every key that a step may want, as optional ones; the configuration tells which it does.
    """
    needs = NamespaceNeeds()
    wanted_variables = set(list_wanted_variables(config))
    is_certain: set[tuple[str, str]] = set()
    for pod in (pod for package in packages for pod in package.pods.values()):
        needs.claims |= {name for name in map(_read_claim_name, pod.get("pvcMount", ())) if name}
        for secret in pod.get("imagePullSecret", ()):
            needs.keys.setdefault(("secret", secret["secretName"]), set())
            is_certain.add(("secret", secret["secretName"]))
        for kind, (list_field, name_field, key_field) in _ENVIRONMENTS.items():
            for source in pod.get(list_field, ()):
                place = (kind, source[name_field])
                keys = needs.keys.setdefault(place, set())
                is_optional = bool(source.get("optional"))
                for entry in source["keyToEnv"]:
                    if not is_optional or entry["envVar"] in wanted_variables:
                        keys.add(entry[key_field])
                        is_certain.add(place)
    needs.optional = set(needs.keys) - is_certain
    return needs


def list_wanted_variables(config: RunConfig) -> Iterator[str]:
    """Environment variables without which a step of this configuration fails."""
    connection = config.features.redis_connection
    if config.features.online_store == "redis" and connection.startswith("${"):
        yield connection.strip("${}")
    if config.serving.event_log.sink == "redis":
        yield "REASEQ_EVENT_SINK"
    for teacher in list_asked_teachers(config.knowledge):
        api_key = getattr(teacher, "api_key_env", None)
        if api_key:
            yield api_key


def list_asked_teachers(knowledge: KnowledgeConfig) -> list[Config]:
    """The teacher, or both of a cascade."""
    teacher = knowledge.teacher
    if isinstance(teacher, CascadeTeacherConfig):
        return [teacher.student, teacher.fallback]
    return [teacher]


def _read_claim_name(mount: Mapping[str, Any]) -> str | None:
    # Newer fields are the parameter's, older ones the constant.
    parameter = mount.get("pvcNameParameter", {}).get("runtimeValue", {})
    return parameter.get("constant") or mount.get("constant")
