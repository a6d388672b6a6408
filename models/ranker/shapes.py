"""Gives the reshapes of an exported graph constant shapes.

Where two dimensions vary the exporter computes each new shape from the data, in every run and by some six nodes: more
than half of a ranker's graph, and for one request more time than its attention takes.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import NodeProto, helper, numpy_helper

from models.ranker.encoding import Feed

Shape = tuple[int, ...]

_COPIED, _REST = 0, -1
"""In ONNX: the input's dimension at this place; whatever is left."""


def settle_shapes(path: Path, feeds: Sequence[Feed]) -> None:
    """Rewrites a graph; reshapes that need more than one varying dimension of their own are left as they are.

    Args:
        path: The ONNX file.
        feeds: Two feeds that differ in every dimension that may vary; what is equal for both is taken for constant.
    """
    model = onnx.load(path)
    reshapes = [node for node in model.graph.node if node.op_type == "Reshape"]
    runs = [_observe(model, reshapes, feed) for feed in feeds]
    for node in reshapes:
        found = _constant_shape(*([run[name] for run in runs] for name in (node.input[0], node.output[0])))
        if found.count(_REST) <= 1:
            name = f"{node.name}_shape"
            shape = numpy_helper.from_array(np.array(found, np.int64))
            model.graph.node.insert(0, helper.make_node("Constant", [], [name], value=shape))
            node.input[1] = name
    _drop_unused(model.graph)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def _drop_unused(graph: onnx.GraphProto) -> None:
    """Takes out the nodes whose results nobody reads; a graph lists its nodes in the order of their work."""
    used = {tensor.name for tensor in graph.output}
    kept = []
    for node in reversed(graph.node):
        if used & set(node.output):
            kept.append(node)
            used |= set(node.input)
    del graph.node[:]
    graph.node.extend(reversed(kept))


def _observe(model: onnx.ModelProto, nodes: Sequence[NodeProto], feed: Feed) -> dict[str, Shape]:
    """Shapes of what goes into and comes out of the nodes."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    names = sorted({name for node in nodes for name in (node.input[0], node.output[0])})
    known = {tensor.name for tensor in (*model.graph.input, *model.graph.output)}
    watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in known)
    session = onnxruntime.InferenceSession(watched.SerializeToString(), providers=["CPUExecutionProvider"])
    given = {name: values.shape for name, values in feed.items()}
    wanted = [name for name in names if name not in given]
    return given | {name: values.shape for name, values in zip(wanted, session.run(wanted, feed), strict=True)}


def _constant_shape(before: Sequence[Shape], after: Sequence[Shape]) -> list[int]:
    """A shape that turns each of `before` into its `after`."""
    found = []
    for axis, sizes in enumerate(zip(*after, strict=True)):
        same_axis = [shape[axis] if axis < len(shape) else None for shape in before]
        if len(set(sizes)) == 1:
            found.append(sizes[0])
        else:
            found.append(_COPIED if list(sizes) == same_axis else _REST)
    return found
