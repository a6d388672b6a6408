"""Writes a trained ranker as what is served: ONNX graph, weights, spec, vocabularies and golden rows."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from safetensors.torch import save_file
from torch import Tensor, nn

from contracts.artifacts import write_text
from contracts.digests import digest_file, digest_value
from models.ranker.config import RankerConfig
from models.ranker.encoding import Feed, ItemEncoder
from models.ranker.network import Ranker
from models.ranker.shapes import settle_shapes
from models.ranker.spec import (
    DYNAMIC,
    GOLDEN_FILE,
    MODEL_FILE,
    SPEC_FILE,
    WEIGHTS_FILE,
    RankerSpec,
    TensorSpec,
    input_specs,
    model_name_of,
    output_specs,
    parity_gap,
)

_OPSET = 18
_TOLERANCE = 1e-4
_QUANTIZED_TOLERANCE = 0.1
"""Probabilities of a quantised graph; one that were wrong would differ by more."""
_SIZES = ((2, 3), (5, 7))
"""Batch and candidates of the feeds that tell which dimensions of a graph vary."""


class _Graph(nn.Module):
    """The network with its inputs in the spec's order, as the exporter wants them."""

    def __init__(self, network: Ranker, names: tuple[str, ...]) -> None:
        super().__init__()
        self.network, self.names = network, names

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        single = (values.float() if values.dtype == torch.float16 else values for values in tensors)
        scored: tuple[Tensor, ...] = self.network(dict(zip(self.names, single, strict=True)))
        return scored


def export_ranker(
    network: Ranker, encoder: ItemEncoder, config: RankerConfig, *, space: str | None, vector_dim: int, folder: Path
) -> RankerSpec:
    """Writes weights, vocabularies, spec and graph into `folder`."""
    network.eval()
    state = {name: value.contiguous() for name, value in network.state_dict().items()}
    save_file(state, folder / WEIGHTS_FILE)
    files = encoder.save(folder)
    content = [digest_file(folder / name) for name in (WEIGHTS_FILE, *sorted(files.values()))]
    edges = tuple(float(edge) for edge in encoder.price_edges)
    version = digest_value([content, edges, config.model_dump(mode="json"), space])
    spec = RankerSpec(
        model_name=model_name_of(version),
        version=version,
        space=space if config.features.vectors else None,
        feature_service=config.feature_service,
        history_length=config.history_length,
        search_length=config.search_length,
        search_dim=network.aspects[0] if network.lens is None else vector_dim,
        inferred_length=config.inferred_length,
        embedding_dim=vector_dim,
        features=config.features,
        inputs=input_specs(
            config.features, history=config.history_length, inferred=config.inferred_length, dim=vector_dim
        ),
        outputs=output_specs(value=config.value_head),
        vocabularies=files,
        price_edges=edges,
    )
    write_text(folder / SPEC_FILE, spec.model_dump_json(indent=1))
    write_graph(network, spec, folder / MODEL_FILE)
    if config.quantized:
        quantize(folder / MODEL_FILE)
    return spec


def write_graph(network: Ranker, spec: RankerSpec, path: Path) -> None:
    """Writes the network as an ONNX graph with the inputs and outputs that the spec names."""
    names = tuple(tensor.name for tensor in spec.inputs)
    outputs = [tensor.name for tensor in spec.outputs]
    axes = {tensor.name: _dynamic_axes(tensor) for tensor in (*spec.inputs, *spec.outputs)}
    with warnings.catch_warnings():
        # The TorchScript exporter needs no further package; its notice of deprecation is no news to the user.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _Graph(network, names),
            tuple(torch.from_numpy(values) for values in _example(spec, batch=2, candidates=3).values()),
            str(path),
            input_names=list(names),
            output_names=outputs,
            dynamic_axes=axes,
            opset_version=_OPSET,
            dynamo=False,
        )
    settle_shapes(path, [_example(spec, batch=batch, candidates=candidates) for batch, candidates in _SIZES])


def quantize(path: Path) -> None:
    """Turns the weights of a graph's matrix products into 8-bit integers, in place; inputs are scaled as they come."""
    exact = path.with_suffix(".float.onnx")
    path.rename(exact)
    quantize_dynamic(exact, path, op_types_to_quantize=["MatMul", "Gemm"], weight_type=QuantType.QInt8)
    exact.unlink()


def _dynamic_axes(tensor: TensorSpec) -> dict[int, str]:
    return {0: "batch"} | {axis: "candidates" for axis, size in enumerate(tensor.dims, start=1) if size == DYNAMIC}


def _example(spec: RankerSpec, *, batch: int, candidates: int) -> Feed:
    def ones(tensor: TensorSpec) -> npt.NDArray[Any]:
        return np.ones([batch, *(candidates if size == DYNAMIC else size for size in tensor.dims)], tensor.dtype)

    return {tensor.name: ones(tensor) for tensor in spec.inputs}


def write_golden_rows(network: Ranker, spec: RankerSpec, feed: Feed, folder: Path, *, quantized: bool = False) -> None:
    """Writes `golden.npz`: a feed (`input_*`) and what the graph makes of it (`output_*`), after checking it by torch.

    The graph must agree with torch on the whole feed and on a single list with a single candidate; a quantised one
    roughly.
    """
    tolerance = _QUANTIZED_TOLERANCE if quantized else _TOLERANCE
    session = onnxruntime.InferenceSession(folder / MODEL_FILE, providers=["CPUExecutionProvider"])
    # One by one, as requests come: a quantised graph takes its scales from all that it is given at once.
    rows = [{name: values[row : row + 1] for name, values in feed.items()} for row in range(len(feed["history_ids"]))]
    found = [np.concatenate(parts) for parts in zip(*(session.run(None, row) for row in rows), strict=True)]
    _assert_equal(found, _run_torch(network, spec, feed), tolerance)
    one = {
        tensor.name: feed[tensor.name][:1, :1] if DYNAMIC in tensor.dims else feed[tensor.name][:1]
        for tensor in spec.inputs
    }
    _assert_equal(session.run(None, one), _run_torch(network, spec, one), tolerance)
    outputs = {f"output_{tensor.name}": values for tensor, values in zip(spec.outputs, found, strict=True)}
    np.savez_compressed(
        folder / GOLDEN_FILE, allow_pickle=False, **{f"input_{k}": v for k, v in feed.items()}, **outputs
    )


def _run_torch(network: Ranker, spec: RankerSpec, feed: Feed) -> list[npt.NDArray[np.float32]]:
    names = tuple(tensor.name for tensor in spec.inputs)
    inputs = [torch.from_numpy(np.ascontiguousarray(feed[name])) for name in names]
    with torch.inference_mode():
        return [values.numpy() for values in _Graph(network.eval(), names)(*inputs)]


def _assert_equal(
    found: list[npt.NDArray[np.float32]], expected: list[npt.NDArray[np.float32]], tolerance: float
) -> None:
    gap = max(parity_gap(a, b) for a, b in zip(found, expected, strict=True))
    assert gap < tolerance, f"the exported graph differs from torch by {gap:.2e}, more than {tolerance:.0e}"
