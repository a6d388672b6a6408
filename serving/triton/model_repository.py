"""Writes rankers into Triton's model repository: one Triton model per ranker version."""

import os
import re
import shutil
from collections.abc import Set
from pathlib import Path
from typing import Final

import fsspec

from models.ranker.inputs.ranker_spec import MODEL_FILE, RankerSpec, TensorSpec
from serving.config import TritonConfig

_TRITON_TYPES: Final = {"int64": "TYPE_INT64", "float32": "TYPE_FP32", "float16": "TYPE_FP16"}
_CONFIG_FILE: Final = "config.pbtxt"
# About as many as a request has: the first run of a shape is the slow one.
_WARM_UP_CANDIDATES: Final = 200
# Twice the requests that one gateway worker lets in by default (`gateway.max_in_flight`): they never wait for
# a batch.
_MAX_BATCH_SIZE: Final = 64
# Only requests that wait anyway are joined: on CPUs any further delay made answers slower.
_MAX_QUEUE_DELAY_US: Final = 0
_RANKER_NAME: Final = re.compile(r"ranker_[0-9a-f]{8}")
"""What `ranker_spec.name_model` makes."""
_PYTHON_MODEL: Final = Path(__file__).parent / "python_backend" / "model.py"


def publish_model(ranker: Path, repository: Path, config: TritonConfig) -> RankerSpec:
    """Puts a ranker artifact into the model repository; nothing is served before it is loaded.

    The folder appears whole or not at all. A version that is there already is replaced, for other Triton
    settings.

    Args:
        ranker: the artifact.
        repository: local model repository.
        config: Triton's settings; where they name a `repository`, the model is copied there as well.
    """
    spec = RankerSpec.read(ranker)
    model_folder = repository / spec.model_name
    temporary_folder = repository / f".{spec.model_name}.{os.getpid()}.tmp"
    shutil.rmtree(temporary_folder, ignore_errors=True)
    (temporary_folder / "1").mkdir(parents=True)
    shutil.copyfile(ranker / MODEL_FILE, temporary_folder / "1" / "model.onnx")
    if config.backend == "python":
        shutil.copyfile(_PYTHON_MODEL, temporary_folder / "1" / "model.py")
    (temporary_folder / _CONFIG_FILE).write_text(render_model_config(spec, config), encoding="utf-8")
    shutil.rmtree(model_folder, ignore_errors=True)
    os.replace(temporary_folder, model_folder)
    if config.repository is not None:
        _upload_model(model_folder, f"{config.repository}/{spec.model_name}")
    return spec


def list_models_since(repository: Path, moment_file: Path) -> set[str]:
    """Names of the rankers that were published after a file was written.

    Times of two files on one claim compare; those of two pods' clocks may not.
    """
    moment_ns = moment_file.stat().st_mtime_ns
    return {
        folder.name
        for folder in repository.glob("*")
        if _RANKER_NAME.fullmatch(folder.name) and folder.stat().st_mtime_ns >= moment_ns
    }


def delete_models(repository: Path, config: TritonConfig, *, keep: Set[str]) -> list[str]:
    """Deletes the rankers that are not to be kept, here and where `config.repository` says.

    Only folders that bear a ranker's name are looked at: a repository may hold models of others.

    Returns:
        Names of the deleted.
    """
    old_names = [
        folder.name
        for folder in sorted(repository.glob("*"))
        if _RANKER_NAME.fullmatch(folder.name) and folder.name not in keep
    ]
    for name in old_names:
        shutil.rmtree(repository / name)
        if config.repository is not None:
            store, remote_folder = fsspec.core.url_to_fs(f"{config.repository}/{name}")
            if store.exists(remote_folder):
                store.rm(remote_folder, recursive=True)
    return old_names


def render_model_config(spec: RankerSpec, config: TritonConfig) -> str:
    """Triton's `config.pbtxt` for a ranker (model_config.proto)."""
    thread_counts = {"intra_op_thread_count": config.threads, "inter_op_thread_count": 1}
    blocks = [
        f'name: "{spec.model_name}"',
        f'backend: "{config.backend}"',
        f"max_batch_size: {_MAX_BATCH_SIZE}",
        *(_render_tensor("input", tensor) for tensor in spec.inputs),
        *(_render_tensor("output", tensor) for tensor in spec.outputs),
        f"dynamic_batching {{ max_queue_delay_microseconds: {_MAX_QUEUE_DELAY_US} }}",
        f"instance_group [ {{ count: {config.instances} kind: KIND_{config.device.upper()} }} ]",
        *(
            f'parameters {{ key: "{parameter_name}" value: {{ string_value: "{count}" }} }}'
            for parameter_name, count in thread_counts.items()
        ),
        _render_warm_up(spec),
    ]
    return "\n".join(blocks) + "\n"


def _upload_model(model_folder: Path, url: str) -> None:
    """Copies a model's files, `config.pbtxt` last: a model without one is none to Triton."""
    store, remote_folder = fsspec.core.url_to_fs(url)
    files = [path for path in model_folder.rglob("*") if path.is_file()]
    for path in sorted(files, key=lambda path: path.name == _CONFIG_FILE):
        remote_path = f"{remote_folder}/{path.relative_to(model_folder).as_posix()}"
        store.makedirs(remote_path.rpartition("/")[0], exist_ok=True)
        store.put_file(str(path), remote_path)


def _render_tensor(side: str, tensor: TensorSpec) -> str:
    dims = ", ".join(str(size) for size in tensor.dims)
    return f'{side} [ {{ name: "{tensor.name}" data_type: {_TRITON_TYPES[tensor.dtype]} dims: [ {dims} ] }} ]'


def _render_warm_up(spec: RankerSpec) -> str:
    warm_up_inputs = " ".join(
        f'inputs {{ key: "{tensor.name}" value {{ data_type: {_TRITON_TYPES[tensor.dtype]} '
        f"dims: [ {', '.join(str(size if size > 0 else _WARM_UP_CANDIDATES) for size in tensor.dims)} ] "
        "zero_data: true } }"
        for tensor in spec.inputs
    )
    return f'model_warmup [ {{ name: "zeros" batch_size: 1 {warm_up_inputs} }} ]'
