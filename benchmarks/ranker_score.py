"""Scoring one request: the exported graph on one thread, beside its own bare matrix products.

The bare products are the graph's MatMul and Gemm nodes, taken out with the shapes that they have for the same feed
and run by the same engine, their constant sides constant: what no implementation of this network can do without.
Weights are random: they do not change the time. The variants are timed block by block in turns, so that other work on
the machine hits all of them, and the shortest time of each block counts.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper

from benchmarks.ranker_long import search_seconds
from benchmarks.results import Row, make_row
from models.ranker.config import FeatureConfig, RankerConfig
from models.ranker.encoding import NUM_EVENT_TYPES, Feed
from models.ranker.export import write_graph
from models.ranker.network import Ranker
from models.ranker.spec import DYNAMIC, RankerSpec, TensorSpec, input_specs, output_specs

COMMAND = "make bench-ranker"
NUM_CANDIDATES, HISTORY, INFERRED, LONG_HISTORY = 200, 50, 20, 10_000
ASPECTS = (256, 128, 32, 64)
"""Of the default embedding configuration: learnt, words, brand, knowledge."""
SIZES = {"item": 10_000, "category": 500, "brand": 2_000, "price": 34}
_FIELDS = {"ids": "item", "categories": "category", "brands": "brand", "price_buckets": "price"}
_BLOCKS, _RUNS = 5, 40

Run = Callable[[], object]


def measure(*, quick: bool) -> list[Row]:
    """All rows of scoring."""
    torch.set_num_threads(1)
    runs = _RUNS // 4 if quick else _RUNS
    with TemporaryDirectory() as folder:
        found = _time(dict(_variants(Path(folder))), runs)
    searching = search_seconds(LONG_HISTORY, ASPECTS[0], NUM_CANDIDATES)
    ratio = 1 + searching / min(found["full"])
    data = f"{LONG_HISTORY:,} over {HISTORY} behaviours, {NUM_CANDIDATES} candidates, search and graph, one thread"
    return [*_rows(found), _row("ranker.score.long_history_ratio", [ratio], "ratio", data)]


def _variants(folder: Path) -> Iterator[tuple[str, Run]]:
    """Name -> one scoring."""
    for name, features in {"full": FeatureConfig(), "without_inferred": FeatureConfig(inferred=False)}.items():
        config = RankerConfig(features=features, history_length=HISTORY, inferred_length=INFERRED)
        spec = export_untrained(config, folder / f"{name}.onnx")
        feed = random_feed(spec, np.random.default_rng(0))
        yield name, _runner(onnx.load(folder / f"{name}.onnx"), feed)
        yield f"{name}_products", _runner(*bare_products(onnx.load(folder / f"{name}.onnx"), feed))


def _rows(found: Mapping[str, list[float]]) -> Iterator[Row]:
    what = f"{NUM_CANDIDATES} candidates, {HISTORY} behaviours, {len(ASPECTS)} aspects, one thread, random weights"
    notes = {"full": f", {INFERRED} inferred behaviours", "without_inferred": ", no inferred behaviours"}
    for name, note in notes.items():
        prefix = "ranker.score" if name == "full" else f"ranker.score.{name}"
        ratios = [ours / bare for ours, bare in zip(found[name], found[f"{name}_products"], strict=True)]
        yield _row(f"{prefix}.ms", [1000 * value for value in found[name]], "ms", what + note)
        yield _row(f"{prefix}.over_matmul_ratio", ratios, "ratio", what + note)


def _row(row_id: str, values: list[float], unit: str, data: str) -> Row:
    return make_row(row_id, values, unit=unit, better="lower", data=data, command=COMMAND)


def _time(variants: Mapping[str, Run], num_runs: int) -> dict[str, list[float]]:
    """Shortest seconds of each variant in each block."""
    found: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(_BLOCKS):
        for name, run in variants.items():
            found[name].append(min(_seconds(run) for _ in range(num_runs)))
    return found


def _seconds(run: Run) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def export_untrained(config: RankerConfig, path: Path) -> RankerSpec:
    """Exports a ranker with random weights."""
    torch.manual_seed(0)
    network = Ranker(config, SIZES, ASPECTS).eval()
    lengths = {"history": config.history_length, "inferred": config.inferred_length, "dim": sum(ASPECTS)}
    spec = RankerSpec(
        model_name="untrained",
        version="untrained",
        space="random",
        feature_service=config.feature_service,
        history_length=config.history_length,
        inferred_length=config.inferred_length,
        embedding_dim=sum(ASPECTS),
        features=config.features,
        inputs=input_specs(config.features, **lengths),
        outputs=output_specs(),
        vocabularies={},
        price_edges=(),
    )
    write_graph(network, spec, path)
    return spec


def random_feed(spec: RankerSpec, rng: np.random.Generator) -> Feed:
    """A full request: no padding anywhere."""
    return {tensor.name: _random(tensor, rng) for tensor in spec.inputs}


def _random(tensor: TensorSpec, rng: np.random.Generator) -> Any:
    shape = [1, *(NUM_CANDIDATES if size == DYNAMIC else size for size in tensor.dims)]
    field = tensor.name.partition("_")[2]
    if field == "vectors":
        parts = [rng.standard_normal((*shape[:-1], length), dtype=np.float32) for length in ASPECTS]
        unit = np.concatenate([part / np.linalg.norm(part, axis=-1, keepdims=True) for part in parts], -1)
        return unit.astype(tensor.dtype)
    if tensor.dtype == "float32":
        scale = 1.0 if field == "scores" else 1e7
        return scale * rng.random(shape, dtype=np.float32)
    return rng.integers(2, SIZES[_FIELDS[field]] if field in _FIELDS else NUM_EVENT_TYPES, shape)


def bare_products(model: onnx.ModelProto, feed: Feed) -> tuple[onnx.ModelProto, Feed]:
    """The matrix products of a graph on their own, and random inputs of the shapes that they have for a feed."""
    products = [node for node in model.graph.node if node.op_type in ("MatMul", "Gemm", "Einsum")]
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    given = sorted({name for node in products for name in node.input if name not in constants})
    shapes = observe(model, given, feed)
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shapes[name]) for name in given]
    outputs = [helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, None) for node in products]
    used = [constants[name] for name in {name for node in products for name in node.input} & constants.keys()]
    graph = helper.make_graph(products, "products", inputs, outputs, used)
    made = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    rng = np.random.default_rng(0)
    return made, {name: rng.standard_normal(shapes[name], dtype=np.float32) for name in given}


def observe(model: onnx.ModelProto, names: list[str], feed: Feed) -> dict[str, tuple[int, ...]]:
    """Shapes of values inside a graph."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    del watched.graph.output[:]
    watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    found = _session(watched).run(names, feed)
    return {name: values.shape for name, values in zip(names, found, strict=True)}


def _session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _runner(model: onnx.ModelProto, feed: Feed) -> Run:
    session = _session(model)
    return lambda: session.run(None, feed)
