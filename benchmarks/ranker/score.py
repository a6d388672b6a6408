"""Scoring one request: the exported graph on one thread, beside its own bare matrix products.

The bare products are the graph's MatMul and Gemm nodes, taken out with the shapes that they have for the same
feed and run by the same engine, their constant sides constant: what no implementation of this network can do
without. Weights are random: they do not change the time. Graph and products are timed block by block in
turns, so that other work on the machine hits both, and the shortest time of each block counts.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper

from benchmarks.ranker.long import time_search
from benchmarks.shared.generated_tables import normalize_rows
from benchmarks.shared.measured_process import measure_seconds
from benchmarks.shared.results import Row, make_row
from models.ranker.config import RankerConfig
from models.ranker.export.export_ranker import write_graph
from models.ranker.inputs.input_table import ANY_NUM_CANDIDATES
from models.ranker.inputs.item_encoder import NUM_EVENT_TYPES, Feed
from models.ranker.inputs.ranker_spec import (
    FEATURE_SERVICE,
    RankerSpec,
    TensorSpec,
    list_graph_inputs,
    list_graph_outputs,
)
from models.ranker.network.ranker_network import Ranker

NUM_CANDIDATES, HISTORY, INFERRED, LONG_HISTORY = 200, 50, 20, 10_000
ASPECTS = (256, 128, 32, 64)
"""Of the default embedding configuration: learned, words, brand, knowledge."""
SIZES = {"item": 10_000, "category": 500, "brand": 2_000, "price": 34}
_FIELDS = {"ids": "item", "categories": "category", "brands": "brand", "price_buckets": "price"}
_BLOCKS, _RUNS = 5, 40


def measure_scoring(*, quick: bool) -> list[Row]:
    """All rows of scoring."""
    torch.set_num_threads(1)
    num_runs = _RUNS // 4 if quick else _RUNS
    with TemporaryDirectory() as folder:
        graph_s, products_s = _time_graph_and_products(Path(folder) / "ranker.onnx", num_runs)
    search_s = time_search(LONG_HISTORY, ASPECTS[0], NUM_CANDIDATES)
    data = (
        f"{NUM_CANDIDATES} candidates, {HISTORY} behaviors, {len(ASPECTS)} aspects, one thread, "
        f"random weights, {INFERRED} inferred behaviors"
    )
    long_data = f"{LONG_HISTORY:,} over {HISTORY} behaviors, {NUM_CANDIDATES} candidates, one thread"
    product_ratios = [ours_s / bare_s for ours_s, bare_s in zip(graph_s, products_s, strict=True)]
    long_ratio = 1 + search_s / min(graph_s)
    make_lower_row = partial(make_row, better="lower")
    return [
        make_lower_row("ranker.score.ms", [1000 * seconds for seconds in graph_s], unit="ms", data=data),
        make_lower_row("ranker.score.over_matmul_ratio", product_ratios, unit="ratio", data=data),
        make_lower_row("ranker.score.long_history_ratio", long_ratio, unit="ratio", data=long_data),
    ]


def _time_graph_and_products(path: Path, num_runs: int) -> tuple[list[float], list[float]]:
    """Shortest seconds of the graph and of its bare products, in each block."""
    spec = export_untrained(RankerConfig(history_length=HISTORY, inferred_length=INFERRED), path)
    feed = draw_random_feed(spec, np.random.default_rng(0))
    run_graph = _make_runner(onnx.load(path), feed)
    run_products = _make_runner(*build_bare_products(onnx.load(path), feed))
    graph_s, products_s = [], []
    for _ in range(_BLOCKS):
        graph_s.append(min(measure_seconds(run_graph) for _ in range(num_runs)))
        products_s.append(min(measure_seconds(run_products) for _ in range(num_runs)))
    return graph_s, products_s


def export_untrained(config: RankerConfig, path: Path) -> RankerSpec:
    """Exports a ranker with random weights."""
    torch.manual_seed(0)
    network = Ranker(config, SIZES, ASPECTS).eval()
    input_lengths = {
        "history": config.history_length,
        "inferred": config.inferred_length,
        "dim": sum(ASPECTS),
    }
    spec = RankerSpec(
        model_name="untrained",
        version="untrained",
        space="random",
        feature_service=FEATURE_SERVICE,
        history_length=config.history_length,
        inferred_length=config.inferred_length,
        embedding_dim=sum(ASPECTS),
        features=config.features,
        inputs=list_graph_inputs(config.features, **input_lengths),
        outputs=list_graph_outputs(),
        vocabularies={},
        price_edges=(),
    )
    write_graph(network, spec, path)
    return spec


def draw_random_feed(spec: RankerSpec, rng: np.random.Generator) -> Feed:
    """A full request: no padding anywhere."""
    return {tensor.name: _draw_random_values(tensor, rng) for tensor in spec.inputs}


def _draw_random_values(tensor: TensorSpec, rng: np.random.Generator) -> Any:
    tensor_shape = [1, *(NUM_CANDIDATES if size == ANY_NUM_CANDIDATES else size for size in tensor.dims)]
    field_name = tensor.name.partition("_")[2]
    if field_name == "vectors":
        aspect_vectors = [
            normalize_rows(rng.standard_normal((*tensor_shape[:-1], length), dtype=np.float32))
            for length in ASPECTS
        ]
        return np.concatenate(aspect_vectors, -1).astype(tensor.dtype)
    if tensor.dtype == "float32":
        return (1.0 if field_name == "scores" else 1e7) * rng.random(tensor_shape, dtype=np.float32)
    vocabulary_size = SIZES[_FIELDS[field_name]] if field_name in _FIELDS else NUM_EVENT_TYPES
    return rng.integers(2, vocabulary_size, tensor_shape)


def build_bare_products(model: onnx.ModelProto, feed: Feed) -> tuple[onnx.ModelProto, Feed]:
    """The matrix products of a graph alone, with random inputs of the shapes that a feed gives."""
    product_nodes = [node for node in model.graph.node if node.op_type in ("MatMul", "Gemm", "Einsum")]
    constant_tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    side_names = {name for node in product_nodes for name in node.input}
    varying_names = sorted(side_names - constant_tensors.keys())
    value_shapes = observe_shapes(model, varying_names, feed)
    float_type = TensorProto.FLOAT
    product_graph = helper.make_graph(
        product_nodes,
        "products",
        [helper.make_tensor_value_info(name, float_type, value_shapes[name]) for name in varying_names],
        [helper.make_tensor_value_info(node.output[0], float_type, None) for node in product_nodes],
        [constant_tensors[name] for name in side_names & constant_tensors.keys()],
    )
    product_model = helper.make_model(
        product_graph, opset_imports=model.opset_import, ir_version=model.ir_version
    )
    rng = np.random.default_rng(0)
    return product_model, {
        name: rng.standard_normal(value_shapes[name], dtype=np.float32) for name in varying_names
    }


def observe_shapes(model: onnx.ModelProto, names: list[str], feed: Feed) -> dict[str, tuple[int, ...]]:
    """Shapes of values inside a graph."""
    watched_model = onnx.ModelProto()
    watched_model.CopyFrom(model)
    del watched_model.graph.output[:]
    watched_model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    inner_values = _open_session(watched_model).run(names, feed)
    return {name: inner_value.shape for name, inner_value in zip(names, inner_values, strict=True)}


def _open_session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    session_options = onnxruntime.SessionOptions()
    session_options.intra_op_num_threads = 1
    graph_bytes = model.SerializeToString()
    return onnxruntime.InferenceSession(graph_bytes, session_options, providers=["CPUExecutionProvider"])


def _make_runner(model: onnx.ModelProto, feed: Feed) -> Callable[[], object]:
    graph_session = _open_session(model)
    return lambda: graph_session.run(None, feed)
