"""Writes a space's query encoder: what `query_encoder.py` loads.

The graph is put together node by node from the weights. A tracer would need seconds for it, and every run of
`embed_items` exports.

Shape legend: B texts, L tokens, D width of the text encoder, H heads.
"""

import json
import math
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from contracts.array_types import FloatArray
from contracts.artifacts import write_json
from contracts.pretrained import digest_weights, find_checkpoint
from models.knowledge.config import EmbeddingConfig
from models.knowledge.embedding.bert_encoder import is_mean_pooled_bert, load_bert_weights
from models.knowledge.embedding.embedding_space import EmbeddingSpace
from models.knowledge.embedding.exact_words import WORD_PATTERN
from models.knowledge.embedding.item_views import KNOWLEDGE_VIEWS
from models.knowledge.embedding.query_encoder import (
    DESCRIPTION_FILE,
    GRAPH_FILE,
    TOKENIZER_FILE,
    WordDirections,
)
from models.knowledge.embedding.text_encoder import CHARS_PER_TOKEN, TextEncoder

_WEIGHTS_FILE: Final = "query_encoder.weights"
_OPSET: Final = 20
"""The first one with Gelu."""
_TITLE: Final = "title"
"""The view that holds a query: it is read as an item of which only the title is known."""
_MASKED_SCORE: Final = -1e9
_MIN_NORM: Final = 1e-12

AnyArray = npt.NDArray[Any]


def export_query_encoder(
    space: EmbeddingSpace, encoder: TextEncoder, config: EmbeddingConfig, *, name: str, out: Path
) -> bool:
    """Writes the query encoder of a space into a new folder.

    Args:
        space: The maps.
        encoder: The text encoder of its views.
        config: The configuration of the space.
        name: The space's name.
        out: The folder.

    Returns:
        Whether there is one now: only a local BERT with mean pooling, as the default encoder is, can be
        written.
    """
    checkpoint = Path(find_checkpoint(config.encoder))
    if not is_mean_pooled_bert(checkpoint) or digest_weights(str(checkpoint)) != encoder.digest:
        return False
    out.mkdir(parents=True)
    words = [
        WordDirections(
            kind,
            vectorizer.longest_run,
            re.compile(WORD_PATTERN),
            {word: row for row, word in enumerate(vectorizer.vocabulary)},
            vectorizer.weights[:, None] * vectorizer.axes,
        )
        for kind, vectorizer in space.input_builder.word_vectorizers.items()
        if vectorizer.axes.size
    ]
    shutil.copyfile(checkpoint / "tokenizer.json", out / TOKENIZER_FILE)
    graph = _GraphWriter()
    title_vectors = _add_text_encoder(graph, checkpoint)
    _add_projection(graph, space, title_vectors, [directions.kind for directions in words])
    graph.save_model(out / GRAPH_FILE, word_lengths={w.kind: w.axes.shape[1] for w in words})
    description = {
        "space": name,
        # A list: the keys of an object have no order.
        "aspects": [list(aspect) for aspect in space.aspect_lengths.items()],
        "max_tokens": min(config.max_tokens, _read_bert_config(checkpoint)["max_position_embeddings"]),
        "tokenized_chars": CHARS_PER_TOKEN * config.max_tokens,
        "words": [directions.save_folder(out) for directions in words],
    }
    write_json(out / DESCRIPTION_FILE, description)
    return True


class _GraphWriter:
    """Collects the nodes of a graph; each method returns the name of what it adds."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []

    def add_weight(self, values: AnyArray) -> str:
        """Adds a constant."""
        name = f"weight_{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def add_integers(self, *values: int) -> str:
        """Adds a constant of integers, such as a shape."""
        return self.add_weight(np.array(values, np.int64))

    def add_node(self, operation: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Adds an operation with one output."""
        name = output or f"value_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operation, list(inputs), [name], **attributes))
        return name

    def add_linear(self, values: str, weight: AnyArray, bias: AnyArray) -> str:
        """Adds `values @ weight.T + bias`, the weight as torch keeps it."""
        product = self.add_node("MatMul", values, self.add_weight(weight.T))
        return self.add_node("Add", product, self.add_weight(bias))

    def add_layer_norm(self, values: str, weight: AnyArray, bias: AnyArray, epsilon: float) -> str:
        """Adds a layer norm over the last axis."""
        weights = self.add_weight(weight), self.add_weight(bias)
        return self.add_node("LayerNormalization", values, *weights, axis=-1, epsilon=epsilon)

    def add_unit_norm(self, vectors: str, *, output: str | None = None) -> str:
        """Adds what `item_views.normalize_rows` does."""
        norms = self.add_node("ReduceL2", vectors, self.add_integers(-1), keepdims=1)
        safe_norms = self.add_node("Max", norms, self.add_weight(np.array(_MIN_NORM, np.float32)))
        return self.add_node("Div", vectors, safe_norms, output=output)

    def save_model(self, path: Path, *, word_lengths: dict[str, int]) -> None:
        """Writes the model with its inputs: tokens and the vectors of each kind of words."""
        inputs = [
            helper.make_tensor_value_info("token_ids", TensorProto.INT64, ["texts", "tokens"]),
            helper.make_tensor_value_info("is_token", TensorProto.FLOAT, ["texts", "tokens"]),
            *(
                helper.make_tensor_value_info(kind, TensorProto.FLOAT, ["texts", length])
                for kind, length in word_lengths.items()
            ),
        ]
        outputs = [helper.make_tensor_value_info("learned", TensorProto.FLOAT, ["texts", None])]
        graph = helper.make_graph(self._nodes, "query_encoder", inputs, outputs, self._weights)
        opset = helper.make_opsetid("", _OPSET)
        model = helper.make_model(
            graph, opset_imports=[opset], ir_version=helper.find_min_ir_version_for([opset])
        )
        # Weights in a file of their own are mapped: processes share them, and loading takes half the time.
        onnx.save_model(model, path, save_as_external_data=True, location=_WEIGHTS_FILE)
        # It is written for its owner alone, and a gateway may run as somebody else.
        (path.parent / _WEIGHTS_FILE).chmod(path.stat().st_mode)


def _read_bert_config(checkpoint: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    return config


def _add_text_encoder(graph: _GraphWriter, checkpoint: Path) -> str:
    """Adds what `bert_encoder.py` computes: unit vectors [B, D] of tokens [B, L]."""
    config = _read_bert_config(checkpoint)
    weights = {name: values.numpy() for name, values in load_bert_weights(checkpoint).items()}
    epsilon = float(config["layer_norm_eps"])
    # No text has a second segment, so the vector of the first one is part of every position.
    first_segment = weights["embeddings.token_type_embeddings.weight"][0]
    positions = graph.add_weight(weights["embeddings.position_embeddings.weight"] + first_segment)
    word_vectors = graph.add_node(
        "Gather", graph.add_weight(weights["embeddings.word_embeddings.weight"]), "token_ids"
    )
    num_tokens = graph.add_node("Shape", "token_ids", start=1, end=2)
    zero = graph.add_integers(0)
    embedded = graph.add_node("Add", word_vectors, graph.add_node("Slice", positions, zero, num_tokens, zero))
    states = graph.add_layer_norm(embedded, *_take_map(weights, "embeddings.LayerNorm"), epsilon)
    is_padding = graph.add_node("Sub", graph.add_weight(np.array(1, np.float32)), "is_token")
    masked_scores = graph.add_node("Mul", is_padding, graph.add_weight(np.array(_MASKED_SCORE, np.float32)))
    mask = graph.add_node("Unsqueeze", masked_scores, graph.add_integers(1, 2))
    num_heads = int(config["num_attention_heads"])
    for number in range(config["num_hidden_layers"]):
        prefix = f"encoder.layer.{number}."
        layer = {
            name.removeprefix(prefix): values for name, values in weights.items() if name.startswith(prefix)
        }
        attended = _add_attention(graph, layer, states, mask, num_heads)
        attended = graph.add_linear(attended, *_take_map(layer, "attention.output.dense"))
        states = graph.add_layer_norm(
            graph.add_node("Add", attended, states), *_take_map(layer, "attention.output.LayerNorm"), epsilon
        )
        hidden = graph.add_node("Gelu", graph.add_linear(states, *_take_map(layer, "intermediate.dense")))
        output = graph.add_linear(hidden, *_take_map(layer, "output.dense"))
        states = graph.add_layer_norm(
            graph.add_node("Add", output, states), *_take_map(layer, "output.LayerNorm"), epsilon
        )
    token_weights = graph.add_node("Unsqueeze", "is_token", graph.add_integers(2))
    counted_states = graph.add_node("Mul", states, token_weights)
    # The mean's divisor is left out: it does not change the direction.
    return graph.add_unit_norm(graph.add_node("ReduceSum", counted_states, graph.add_integers(1), keepdims=0))


def _add_attention(
    graph: _GraphWriter, layer: dict[str, FloatArray], states: str, mask: str, num_heads: int
) -> str:
    """Adds the self-attention of one layer, before its output map."""
    width = layer["attention.self.query.weight"].shape[0]
    split_shape = graph.add_integers(0, 0, num_heads, width // num_heads)
    sides = {}
    for side, axes in {"query": (0, 2, 1, 3), "key": (0, 2, 3, 1), "value": (0, 2, 1, 3)}.items():
        weight, bias = _take_map(layer, f"attention.self.{side}")
        if side == "query":
            # The scores' scale costs nothing here.
            scale = math.sqrt(width // num_heads)
            weight, bias = weight / scale, bias / scale
        split_values = graph.add_node("Reshape", graph.add_linear(states, weight, bias), split_shape)
        sides[side] = graph.add_node("Transpose", split_values, perm=axes)
    scores = graph.add_node("Add", graph.add_node("MatMul", sides["query"], sides["key"]), mask)
    attended = graph.add_node("MatMul", graph.add_node("Softmax", scores, axis=-1), sides["value"])
    joined = graph.add_node("Transpose", attended, perm=(0, 2, 1, 3))
    return graph.add_node("Reshape", joined, graph.add_integers(0, 0, width))


def _take_map(weights: dict[str, FloatArray], name: str) -> tuple[FloatArray, FloatArray]:
    return weights[f"{name}.weight"], weights[f"{name}.bias"]


def _add_projection(
    graph: _GraphWriter, space: EmbeddingSpace, title_vectors: str, word_kinds: Sequence[str]
) -> None:
    """Adds the map from title and words to the learned aspect, the graph's output `learned`."""
    whitener = space.input_builder.whiteners[_TITLE]
    centered = graph.add_node("Sub", title_vectors, graph.add_weight(whitener.mean))
    whitened = graph.add_unit_norm(graph.add_node("MatMul", centered, graph.add_weight(whitener.axes)))
    inputs = graph.add_node("Concat", whitened, *word_kinds, axis=1)
    # Without knowledge there is no student, and the projection itself reads raw texts alone.
    projection = space.student or space.projection
    state = {name: values.numpy() for name, values in projection.state_dict().items()}
    # The other views are zeros, so their columns are left out.
    columns = _locate_columns(space, [_TITLE, *word_kinds])
    linear = graph.add_node("MatMul", inputs, graph.add_weight(state["linear.weight"][:, columns].T))
    hidden = graph.add_linear(inputs, state["hidden.weight"][:, columns], state["hidden.bias"])
    correction = graph.add_linear(
        graph.add_node("Gelu", hidden), state["correction.weight"], state["correction.bias"]
    )
    graph.add_unit_norm(graph.add_node("Add", linear, correction), output="learned")


def _locate_columns(space: EmbeddingSpace, names: Sequence[str]) -> list[int]:
    """Returns the columns that these views and words have in the projection's inputs."""
    builder = space.input_builder
    order = [name for name in builder.whiteners if name not in KNOWLEDGE_VIEWS] + list(
        builder.word_vectorizers
    )
    stops = np.cumsum([builder.axis_counts[name] for name in order]).tolist()
    ranges = {
        name: range(stop - builder.axis_counts[name], stop) for name, stop in zip(order, stops, strict=True)
    }
    return [column for name in names for column in ranges[name]]
