"""What KFP's driver does to a run: walks the DAG, takes steps from the cache, resolves inputs.

Written after KFP 2.17. The cache key holds the container (image, command, arguments), the parameter values,
the ids of the input artifacts, and the outputs' types. No macro in a parameter is expanded. What a step
itself does is given by the test.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

Json = dict[str, Any]
_CONDITION = re.compile(r"inputs\.parameter_values\['([^']+)'\] == true")


@dataclass(frozen=True)
class Artifact:
    """An artifact as the backend knows it."""

    artifact_id: int
    uri: str


class Inputs(NamedTuple):
    """What a task is given."""

    parameters: dict[str, Any]
    artifacts: dict[str, list[Artifact]]


class Outputs(NamedTuple):
    """What a task hands on."""

    parameters: dict[str, Any]
    artifacts: dict[str, list[Artifact]]


StepCode = Callable[[Inputs], Mapping[str, Any]]
"""What a step does: it is given its inputs and returns its output parameters."""


@dataclass
class Driver:
    """Runs pipelines, one after the other, with one cache and one store of artifacts."""

    steps: Mapping[str, StepCode]
    """Step -> its code; a step without any hands out the addresses of its artifacts."""
    cache: dict[str, Outputs] = field(default_factory=dict)
    artifacts: dict[str, Artifact] = field(default_factory=dict)
    """By URI: an importer that does not reimport finds the one that is there."""
    executed: list[str] = field(default_factory=list)
    """Steps of the last run that ran."""
    reused: list[str] = field(default_factory=list)
    """Steps of the last run that came from the cache."""

    def run_pipeline(self, spec: Json, parameters: Mapping[str, Any], *, run_id: str) -> None:
        """Runs a pipeline to its end; a step that raises ends the run."""
        self.executed, self.reused = [], []
        definitions = spec["root"].get("inputDefinitions", {}).get("parameters", {})
        defaults = {
            name: definition["defaultValue"]
            for name, definition in definitions.items()
            if "defaultValue" in definition
        }
        self._run_dag(spec, spec["root"]["dag"], Inputs(defaults | dict(parameters), {}), run_id)

    def _run_dag(self, spec: Json, dag: Json, given: Inputs, path: str) -> Outputs:
        done: dict[str, Outputs | None] = {}
        while len(done) < len(dag["tasks"]):
            name, task = next(
                (name, task)
                for name, task in dag["tasks"].items()
                if name not in done and all(other in done for other in task.get("dependentTasks", ()))
            )
            done[name] = self._run_task(spec, task, given, done, f"{path}/{name}")
        outputs = dag.get("outputs", {}).get("artifacts", {})
        return Outputs(
            {},
            {
                name: done[selector["producerSubtask"]].artifacts[selector["outputArtifactKey"]]
                for name, output in outputs.items()
                for selector in output["artifactSelectors"]
                if done[selector["producerSubtask"]] is not None
            },
        )

    def _run_task(
        self, spec: Json, task: Json, given: Inputs, done: Mapping[str, Outputs | None], path: str
    ) -> Outputs | None:
        inputs = _resolve_inputs(task.get("inputs", {}), given, done)
        condition = task.get("triggerPolicy", {}).get("condition")
        if condition:
            (name,) = _CONDITION.findall(condition)
            if inputs.parameters[name] is not True:
                return None
        component = spec["components"][task["componentRef"]["name"]]
        if "parameterIterator" in task:
            iterator = task["parameterIterator"]
            rounds = [
                self._run_dag(
                    spec,
                    component["dag"],
                    Inputs(inputs.parameters | {iterator["itemInput"]: item}, inputs.artifacts),
                    f"{path}/{number}",
                )
                for number, item in enumerate(inputs.parameters[iterator["items"]["inputParameter"]])
            ]
            names = {name for outputs in rounds for name in outputs.artifacts}
            return Outputs({}, {name: [a for made in rounds for a in made.artifacts[name]] for name in names})
        if "dag" in component:
            return self._run_dag(spec, component["dag"], inputs, path)
        executor = spec["deploymentSpec"]["executors"][component["executorLabel"]]
        if "importer" in executor:
            return Outputs({}, {"artifact": [self._import_artifact(inputs.parameters["uri"])]})
        is_cached = task.get("cachingOptions", {}).get("enableCache", False)
        return self._run_step(component, executor["container"], inputs, path, is_cached=is_cached)

    def _run_step(
        self, component: Json, container: Json, inputs: Inputs, path: str, *, is_cached: bool
    ) -> Outputs:
        step = component["executorLabel"].removeprefix("exec-")
        key = compute_cache_key(component, container, inputs)
        if is_cached and key in self.cache:
            self.reused.append(step)
            return self.cache[key]
        self.executed.append(step)
        definitions = component.get("outputDefinitions", {})
        made = {
            name: [self._import_artifact(f"minio://bucket/{path}/{name}")]
            for name in definitions.get("artifacts", {})
        }
        named = {f"{name}_uri": artifacts[0].uri for name, artifacts in made.items()}
        first = next((artifacts[0].uri for name, artifacts in made.items() if name != "metrics"), "")
        values = named | {"Output": first} | dict(self.steps.get(step, lambda _: {})(inputs))
        outputs = Outputs({name: values[name] for name in definitions.get("parameters", {})}, made)
        if is_cached:
            self.cache[key] = outputs
        return outputs

    def _import_artifact(self, uri: str) -> Artifact:
        return self.artifacts.setdefault(uri, Artifact(len(self.artifacts) + 1, uri))


def compute_cache_key(component: Json, container: Json, inputs: Inputs) -> str:
    """The key under which KFP looks for a step that ran before."""
    definitions = component.get("outputDefinitions", {})
    key = {
        "containerSpec": {
            "image": container["image"],
            "cmdArgs": [*container.get("command", ()), *container.get("args", ())],
        },
        "inputArtifactNames": {
            name: [artifact.artifact_id for artifact in artifacts]
            for name, artifacts in inputs.artifacts.items()
        },
        "inputParameterValues": inputs.parameters,
        "outputArtifactsSpec": {
            name: definition["artifactType"] for name, definition in definitions.get("artifacts", {}).items()
        },
        "outputParametersSpec": {
            name: definition["parameterType"]
            for name, definition in definitions.get("parameters", {}).items()
        },
    }
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()


def _resolve_inputs(task_inputs: Json, given: Inputs, done: Mapping[str, Outputs | None]) -> Inputs:
    parameters = {
        name: _resolve_parameter(source, given, done)
        for name, source in task_inputs.get("parameters", {}).items()
    }
    artifacts = {
        name: given.artifacts[source["componentInputArtifact"]]
        if "componentInputArtifact" in source
        else done[source["taskOutputArtifact"]["producerTask"]].artifacts[
            source["taskOutputArtifact"]["outputArtifactKey"]
        ]
        for name, source in task_inputs.get("artifacts", {}).items()
    }
    return Inputs(parameters, artifacts)


def _resolve_parameter(source: Json, given: Inputs, done: Mapping[str, Outputs | None]) -> Any:
    if "componentInputParameter" in source:
        return given.parameters[source["componentInputParameter"]]
    if "taskOutputParameter" in source:
        output = source["taskOutputParameter"]
        return done[output["producerTask"]].parameters[output["outputParameterKey"]]
    return source["runtimeValue"]["constant"]
