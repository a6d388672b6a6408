import re

import fsspec
import pytest
from pydantic import ValidationError

from contracts.artifacts import write_text
from contracts.errors import UserError
from models.ranker.inputs.ranker_spec import MODEL_FILE, SPEC_FILE
from serving.config import TritonConfig
from serving.triton.model_repository import delete_models, publish_model, render_model_config


def test_the_config_names_every_tensor_with_its_type_and_dims(spec):
    text = render_model_config(spec, TritonConfig(backend="onnxruntime", instances=3, threads=2))
    assert 'name: "ranker_0123abcd"' in text
    assert 'backend: "onnxruntime"' in text
    assert "max_batch_size: 64" in text
    assert "dynamic_batching { max_queue_delay_microseconds: 0 }" in text
    assert "count: 3 kind: KIND_CPU" in text
    assert 'key: "intra_op_thread_count" value: { string_value: "2" }' in text
    assert 'input [ { name: "candidate_ids" data_type: TYPE_INT64 dims: [ -1 ] } ]' in text
    assert 'input [ { name: "history_vectors" data_type: TYPE_FP16 dims: [ 4, 3 ] } ]' in text
    assert 'output [ { name: "score" data_type: TYPE_FP32 dims: [ -1 ] } ]' in text
    assert len(re.findall(r"^input ", text, re.M)) == len(spec.inputs)


def test_instances_run_where_the_config_says(spec):
    text = render_model_config(spec, TritonConfig(backend="onnxruntime", device="gpu", instances=2))
    assert "count: 2 kind: KIND_GPU" in text
    with pytest.raises(ValidationError, match="device = gpu needs backend = onnxruntime"):
        TritonConfig(device="gpu")


def test_the_warm_up_has_no_open_dimension(spec):
    warm_up = render_model_config(spec, TritonConfig()).split("model_warmup")[1]
    assert warm_up.count("zero_data: true") == len(spec.inputs)
    assert "-1" not in warm_up


def test_a_published_model_is_whole_and_can_be_published_again(spec, tmp_path):
    artifact = tmp_path / "artifact"
    artifact.mkdir()
    write_text(artifact / SPEC_FILE, spec.model_dump_json())
    (artifact / MODEL_FILE).write_bytes(b"graph")
    for backend, files in (("python", {"model.onnx", "model.py"}), ("onnxruntime", {"model.onnx"})):
        publish_model(artifact, tmp_path / "models", TritonConfig(backend=backend))
        version = tmp_path / "models" / spec.model_name / "1"
        assert {path.name for path in version.iterdir()} == files
        assert [path.name for path in (tmp_path / "models").iterdir()] == [spec.model_name]


@pytest.mark.parametrize("scheme", ["memory://{}", "file://{}", "{}"])
def test_a_published_model_goes_to_an_object_store_as_well(spec, tmp_path, scheme):
    artifact = tmp_path / "artifact"
    artifact.mkdir()
    write_text(artifact / SPEC_FILE, spec.model_dump_json())
    url = scheme.format(tmp_path / "remote")
    for graph in (b"first", b"second"):
        (artifact / MODEL_FILE).write_bytes(graph)
        publish_model(artifact, tmp_path / "models", TritonConfig(repository=url))
    store, folder = fsspec.core.url_to_fs(f"{url}/{spec.model_name}")
    published_files = {path.removeprefix(folder).strip("/") for path in store.find(folder)}
    assert published_files == {"config.pbtxt", "1/model.onnx", "1/model.py"}
    assert store.cat_file(f"{folder}/1/model.onnx") == b"second"


def test_something_else_is_no_ranker(tmp_path):
    with pytest.raises(UserError, match="not a ranker artifact"):
        publish_model(tmp_path, tmp_path / "models", TritonConfig())


def test_old_rankers_are_deleted_and_nothing_else(spec, tmp_path):
    repository, remote = tmp_path / "models", tmp_path / "bucket"
    config = TritonConfig(repository=f"file://{remote}")
    for name in ("ranker_00000001", "ranker_00000002", "ranker_00000003", "somebody_elses", "ranker_x"):
        for folder in (repository, remote):
            (folder / name / "1").mkdir(parents=True)
    assert delete_models(repository, config, keep={"ranker_00000003"}) == [
        "ranker_00000001",
        "ranker_00000002",
    ]
    kept = {"ranker_00000003", "ranker_x", "somebody_elses"}
    assert {path.name for path in repository.iterdir()} == kept
    assert {path.name for path in remote.iterdir()} == kept
