"""Writes rankers into Triton's model repository: one Triton model per ranker version."""

import os
import shutil
from pathlib import Path
from typing import Final

import fsspec

from models.ranker.spec import MODEL_FILE, RankerSpec, TensorSpec
from serving.config import TritonConfig

_TRITON_TYPES: Final = {"int64": "TYPE_INT64", "float32": "TYPE_FP32", "float16": "TYPE_FP16"}
_CONFIG_FILE: Final = "config.pbtxt"
_WARM_UP_CANDIDATES: Final = 200
_PYTHON_MODEL: Final = Path(__file__).parent / "triton_backend" / "model.py"


def publish_model(ranker: Path, repository: Path, config: TritonConfig) -> RankerSpec:
    """Puts a ranker artifact into the model repository; nothing is served before it is loaded.

    The folder appears whole or not at all. A version that is there already is replaced, for other Triton settings.

    Args:
        ranker: the artifact.
        repository: local model repository.
        config: Triton's settings; where they name a `repository`, the model is copied there as well.
    """
    spec = RankerSpec.read(ranker)
    place = repository / spec.model_name
    work = repository / f".{spec.model_name}.{os.getpid()}.tmp"
    shutil.rmtree(work, ignore_errors=True)
    (work / "1").mkdir(parents=True)
    shutil.copyfile(ranker / MODEL_FILE, work / "1" / "model.onnx")
    if config.backend == "python":
        shutil.copyfile(_PYTHON_MODEL, work / "1" / "model.py")
    (work / _CONFIG_FILE).write_text(model_config(spec, config), encoding="utf-8")
    shutil.rmtree(place, ignore_errors=True)
    os.replace(work, place)
    if config.repository is not None:
        _upload(place, f"{config.repository}/{spec.model_name}")
    return spec


def _upload(model: Path, url: str) -> None:
    """Copies a model's files, `config.pbtxt` last: a model without one is none to Triton."""
    store, folder = fsspec.core.url_to_fs(url)
    files = [path for path in model.rglob("*") if path.is_file()]
    for path in sorted(files, key=lambda path: path.name == _CONFIG_FILE):
        place = f"{folder}/{path.relative_to(model).as_posix()}"
        store.makedirs(place.rpartition("/")[0], exist_ok=True)
        store.put_file(str(path), place)


def model_config(spec: RankerSpec, config: TritonConfig) -> str:
    """Triton's `config.pbtxt` for a ranker (model_config.proto)."""
    blocks = [
        f'name: "{spec.model_name}"',
        f'backend: "{config.backend}"',
        f"max_batch_size: {config.max_batch_size}",
        *(_tensor("input", tensor) for tensor in spec.inputs),
        *(_tensor("output", tensor) for tensor in spec.outputs),
        f"dynamic_batching {{ max_queue_delay_microseconds: {config.max_queue_delay_us} }}",
        f"instance_group [ {{ count: {config.instances} kind: KIND_{config.device.upper()} }} ]",
        *_threads(config),
        _warm_up(spec),
    ]
    return "\n".join(blocks) + "\n"


def _tensor(side: str, tensor: TensorSpec) -> str:
    dims = ", ".join(str(size) for size in tensor.dims)
    return f'{side} [ {{ name: "{tensor.name}" data_type: {_TRITON_TYPES[tensor.dtype]} dims: [ {dims} ] }} ]'


def _threads(config: TritonConfig) -> list[str]:
    keys = ("intra_op_thread_count", "inter_op_thread_count")
    values = (config.threads, 1)
    return [
        f'parameters {{ key: "{key}" value: {{ string_value: "{value}" }} }}'
        for key, value in zip(keys, values, strict=True)
    ]


def _warm_up(spec: RankerSpec) -> str:
    inputs = " ".join(
        f'inputs {{ key: "{tensor.name}" value {{ data_type: {_TRITON_TYPES[tensor.dtype]} '
        f"dims: [ {', '.join(str(size if size > 0 else _WARM_UP_CANDIDATES) for size in tensor.dims)} ] "
        "zero_data: true } }"
        for tensor in spec.inputs
    )
    return f'model_warmup [ {{ name: "zeros" batch_size: 1 {inputs} }} ]'
