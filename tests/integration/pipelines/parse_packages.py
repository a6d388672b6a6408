"""Run by an interpreter that knows one backend's formats and nothing else: FOLDER PACKAGE...

Prints what the backend would not understand, a line for each package, and exits with 1.
"""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

FOLDER = Path(sys.argv[1])
sys.path.insert(0, str(FOLDER))

import yaml  # noqa: E402 - of the folder
from google.protobuf import json_format  # noqa: E402


def load_format(path: str) -> ModuleType:
    """A generated module alone: the packages around it would import the whole of kfp."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, FOLDER / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PIPELINES = load_format("kfp/pipeline_spec/pipeline_spec_pb2.py")
KUBERNETES = load_format("kfp/kubernetes/kubernetes_executor_config_pb2.py")


def parse_package(path: str) -> None:
    """Raises `ParseError` where a field is not known."""
    pipeline, *platforms = yaml.load_all(Path(path).read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    json_format.ParseDict(pipeline, PIPELINES.PipelineSpec())
    for platform in platforms:
        executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
        for config in executors.values():
            json_format.ParseDict(config, KUBERNETES.KubernetesExecutorConfig())


failures = {}
for package in sys.argv[2:]:
    try:
        parse_package(package)
    except json_format.ParseError as error:
        failures[package] = error
        print(f"{Path(package).name}: {error}")
sys.exit(bool(failures))
