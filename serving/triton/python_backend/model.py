"""Triton python backend that runs a ranker's ONNX graph.

Triton loads this file by itself: it imports nothing of ours.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

# The embedded interpreter takes no PYTHONPATH, and the installation beneath it may hold a numpy that the
# backend cannot use: then outputs arrive empty, without an error.
sys.path[:0] = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path not in sys.path]

import onnxruntime  # noqa: E402
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]  # noqa: E402


class TritonPythonModel:
    """One instance of the model."""

    def initialize(self, args: dict[str, str]) -> None:
        """Opens the graph beside this file.

        Args:
            args: Triton's description of the model and of this instance.
        """
        parameters = json.loads(args["model_config"])["parameters"]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(parameters["intra_op_thread_count"]["string_value"])
        options.inter_op_num_threads = int(parameters["inter_op_thread_count"]["string_value"])
        graph_path = Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        self._session = onnxruntime.InferenceSession(graph_path, options, providers=["CPUExecutionProvider"])
        self._inputs = [tensor.name for tensor in self._session.get_inputs()]
        self._outputs = [tensor.name for tensor in self._session.get_outputs()]

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answers each request of a batch by itself: their candidate counts differ."""
        return [self._answer_request(request) for request in requests]

    def _answer_request(self, request: Any) -> Any:
        feed = {name: pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in self._inputs}
        try:
            outputs = self._session.run(self._outputs, feed)
        except Exception as error:  # A bad request must not take the instance down.
            return pb_utils.InferenceResponse(output_tensors=[], error=pb_utils.TritonError(str(error)))
        tensors = [pb_utils.Tensor(name, values) for name, values in zip(self._outputs, outputs, strict=True)]
        return pb_utils.InferenceResponse(output_tensors=tensors)
