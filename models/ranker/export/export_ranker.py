"""Writes a trained ranker as what is served: ONNX graph, weights, spec, vocabularies and golden rows."""

import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from contracts.array_types import FloatArray
from contracts.artifacts import write_text
from contracts.digests import digest_file, digest_value
from models.ranker.config import RankerConfig
from models.ranker.export.constant_shapes import fix_reshape_shapes
from models.ranker.inputs.input_table import ANY_NUM_CANDIDATES
from models.ranker.inputs.item_encoder import Feed, ItemEncoder
from models.ranker.inputs.ranker_spec import (
    FEATURE_SERVICE,
    GOLDEN_FILE,
    MODEL_FILE,
    SPEC_FILE,
    WEIGHTS_FILE,
    RankerSpec,
    TensorSpec,
    list_graph_inputs,
    list_graph_outputs,
    measure_parity_gap,
    name_model,
)
from models.ranker.network.ranker_network import Ranker

_OPSET = 18
_TOLERANCE = 1e-4
_PROBE_SIZES = ((2, 3), (5, 7))
"""Batch and candidates of the feeds that tell which dimensions of a graph vary."""


class _GraphModule(nn.Module):
    """The network with its inputs in the spec's order, as the exporter wants them."""

    def __init__(self, network: Ranker, spec: RankerSpec) -> None:
        super().__init__()
        self.network, self.input_names = network, tuple(tensor.name for tensor in spec.inputs)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        single = (values.float() if values.dtype == torch.float16 else values for values in tensors)
        outputs: tuple[Tensor, ...] = self.network(dict(zip(self.input_names, single, strict=True)))
        return outputs


def export_ranker(
    network: Ranker,
    encoder: ItemEncoder,
    config: RankerConfig,
    *,
    space: str | None,
    vector_dim: int,
    folder: Path,
) -> RankerSpec:
    """Writes weights, vocabularies, spec and graph into `folder`."""
    network.eval()
    weights = {name: value.contiguous() for name, value in network.state_dict().items()}
    save_file(weights, folder / WEIGHTS_FILE)
    vocabulary_files = encoder.save_vocabularies(folder)
    content = [digest_file(folder / name) for name in (WEIGHTS_FILE, *sorted(vocabulary_files.values()))]
    price_edges = tuple(float(edge) for edge in encoder.price_edges)
    # Weights alone do not tell rankers apart: the config says what is read, the space what vectors mean.
    version = digest_value([content, price_edges, config.model_dump(mode="json"), space])
    spec = RankerSpec(
        model_name=name_model(version),
        version=version,
        space=space if config.features.reads_vectors else None,
        feature_service=FEATURE_SERVICE,
        history_length=config.history_length,
        search_length=config.search_length,
        search_dim=network.aspects[0],
        inferred_length=config.inferred_length,
        embedding_dim=vector_dim,
        features=config.features,
        inputs=list_graph_inputs(
            config.features, history=config.history_length, inferred=config.inferred_length, dim=vector_dim
        ),
        outputs=list_graph_outputs(value=config.has_value_head),
        vocabularies=vocabulary_files,
        price_edges=price_edges,
    )
    write_text(folder / SPEC_FILE, spec.model_dump_json(indent=1))
    write_graph(network, spec, folder / MODEL_FILE)
    return spec


def write_graph(network: Ranker, spec: RankerSpec, graph_path: Path) -> None:
    """Writes the network as an ONNX graph with the inputs and outputs that the spec names."""
    example_feed = _make_example_feed(spec, batch=2, candidates=3)
    with warnings.catch_warnings():
        # The TorchScript exporter needs no further package; its notice of deprecation is no news to the user.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _GraphModule(network, spec),
            tuple(torch.from_numpy(values) for values in example_feed.values()),
            str(graph_path),
            input_names=[tensor.name for tensor in spec.inputs],
            output_names=[tensor.name for tensor in spec.outputs],
            dynamic_axes={
                tensor.name: _list_dynamic_axes(tensor) for tensor in (*spec.inputs, *spec.outputs)
            },
            opset_version=_OPSET,
            dynamo=False,
        )
    probe_feeds = [_make_example_feed(spec, batch=batch, candidates=count) for batch, count in _PROBE_SIZES]
    fix_reshape_shapes(graph_path, probe_feeds)


def _list_dynamic_axes(tensor: TensorSpec) -> dict[int, str]:
    return {0: "batch"} | {
        axis: "candidates" for axis, size in enumerate(tensor.dims, start=1) if size == ANY_NUM_CANDIDATES
    }


def _make_example_feed(spec: RankerSpec, *, batch: int, candidates: int) -> Feed:
    feed: Feed = {}
    for tensor in spec.inputs:
        inner_shape = [candidates if size == ANY_NUM_CANDIDATES else size for size in tensor.dims]
        feed[tensor.name] = np.ones([batch, *inner_shape], tensor.dtype)
    return feed


def write_golden_rows(network: Ranker, spec: RankerSpec, feed: Feed, folder: Path) -> None:
    """Writes `golden.npz`: a feed (`input_*`) and what the graph makes of it (`output_*`).

    First the graph must agree with torch, on the whole feed and on a single list with a single candidate.
    """
    session = onnxruntime.InferenceSession(folder / MODEL_FILE, providers=["CPUExecutionProvider"])
    # One by one, as requests come.
    requests = [
        {name: values[row : row + 1] for name, values in feed.items()}
        for row in range(len(feed["history_ids"]))
    ]
    answers = [session.run(None, request) for request in requests]
    outputs = [np.concatenate(values) for values in zip(*answers, strict=True)]
    _assert_parity(outputs, _run_torch(network, spec, feed))
    # A size that the exporter took for constant would show with one list and one candidate.
    single_feed = {
        tensor.name: feed[tensor.name][:1, :1] if ANY_NUM_CANDIDATES in tensor.dims else feed[tensor.name][:1]
        for tensor in spec.inputs
    }
    _assert_parity(session.run(None, single_feed), _run_torch(network, spec, single_feed))
    golden_inputs = {f"input_{name}": values for name, values in feed.items()}
    golden_outputs = {
        f"output_{tensor.name}": values for tensor, values in zip(spec.outputs, outputs, strict=True)
    }
    np.savez_compressed(folder / GOLDEN_FILE, allow_pickle=False, **golden_inputs, **golden_outputs)


def _run_torch(network: Ranker, spec: RankerSpec, feed: Feed) -> list[FloatArray]:
    inputs = [torch.from_numpy(np.ascontiguousarray(feed[tensor.name])) for tensor in spec.inputs]
    with torch.inference_mode():
        return [values.numpy() for values in _GraphModule(network.eval(), spec)(*inputs)]


def _assert_parity(computed: list[FloatArray], expected: list[FloatArray]) -> None:
    gap = max(measure_parity_gap(*outputs) for outputs in zip(computed, expected, strict=True))
    assert gap < _TOLERANCE, f"the exported graph differs from torch by {gap:.2e}, more than {_TOLERANCE:.0e}"
