"""Gives the reshapes of an exported graph constant shapes.

Where two dimensions vary the exporter computes each new shape from the data, in every run and by some six
nodes. That is more than half of a ranker's graph, and for one request more time than its attention takes.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import NodeProto, helper, numpy_helper

from models.ranker.inputs.item_encoder import Feed

Shape = tuple[int, ...]

_COPIED, _REST = 0, -1
"""In ONNX: the input's dimension at this place; whatever is left."""


def fix_reshape_shapes(graph_path: Path, feeds: Sequence[Feed]) -> None:
    """Rewrites a graph; reshapes that need more than one varying dimension of their own are left as they are.

    Args:
        graph_path: The ONNX file.
        feeds: Two feeds that differ in every dimension that may vary; what is equal for both is taken for
            constant.
    """
    model = onnx.load(graph_path)
    reshapes = [node for node in model.graph.node if node.op_type == "Reshape"]
    shapes_by_feed = [_observe_shapes(model, reshapes, feed) for feed in feeds]
    for node in reshapes:
        input_shapes = [shapes[node.input[0]] for shapes in shapes_by_feed]
        output_shapes = [shapes[node.output[0]] for shapes in shapes_by_feed]
        constant_shape = _find_constant_shape(input_shapes, output_shapes)
        if constant_shape.count(_REST) <= 1:
            constant_name = f"{node.name}_shape"
            constant = numpy_helper.from_array(np.array(constant_shape, np.int64))
            model.graph.node.insert(0, helper.make_node("Constant", [], [constant_name], value=constant))
            node.input[1] = constant_name
    _drop_unused_nodes(model.graph)
    onnx.checker.check_model(model)
    onnx.save(model, graph_path)


def _drop_unused_nodes(graph: onnx.GraphProto) -> None:
    """Takes out the nodes whose results nobody reads; a graph lists its nodes in the order of their work."""
    used_names = {tensor.name for tensor in graph.output}
    used_nodes = []
    for node in reversed(graph.node):
        if used_names & set(node.output):
            used_nodes.append(node)
            used_names |= set(node.input)
    del graph.node[:]
    graph.node.extend(reversed(used_nodes))


def _observe_shapes(model: onnx.ModelProto, nodes: Sequence[NodeProto], feed: Feed) -> dict[str, Shape]:
    """Shapes of what goes into and comes out of the nodes."""
    watched_model = onnx.ModelProto()
    watched_model.CopyFrom(model)
    watched_names = sorted({name for node in nodes for name in (node.input[0], node.output[0])})
    public_names = {tensor.name for tensor in (*model.graph.input, *model.graph.output)}
    watched_model.graph.output.extend(
        onnx.ValueInfoProto(name=name) for name in watched_names if name not in public_names
    )
    session = onnxruntime.InferenceSession(
        watched_model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    fed_shapes = {name: values.shape for name, values in feed.items()}
    computed_names = [name for name in watched_names if name not in fed_shapes]
    computed_values = session.run(computed_names, feed)
    return fed_shapes | {
        name: values.shape for name, values in zip(computed_names, computed_values, strict=True)
    }


def _find_constant_shape(input_shapes: Sequence[Shape], output_shapes: Sequence[Shape]) -> list[int]:
    """A shape that turns each input into its output."""
    constant_shape = []
    for axis, sizes in enumerate(zip(*output_shapes, strict=True)):
        input_sizes = [shape[axis] if axis < len(shape) else None for shape in input_shapes]
        if len(set(sizes)) == 1:
            constant_shape.append(sizes[0])
        else:
            constant_shape.append(_COPIED if list(sizes) == input_sizes else _REST)
    return constant_shape
