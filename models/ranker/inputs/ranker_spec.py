"""What a served ranker expects: the one file that the ranker's export and the serving room share."""

from pathlib import Path
from typing import Any, Self

import numpy as np
from pydantic import field_validator

from contracts.array_types import FloatArray
from contracts.config import Config
from contracts.errors import UserError
from models.ranker.config import RankerFeatures
from models.ranker.inputs.input_table import ANY_NUM_CANDIDATES, INPUT_TABLE, VECTOR_LENGTH, ElementType

SPEC_FILE = "spec.json"
MODEL_FILE = "ranker.onnx"
GOLDEN_FILE = "golden.npz"
WEIGHTS_FILE = "weights.safetensors"
FEATURE_SERVICE = "ranker"
"""Prefix of the Feast feature services that serve rankers' inputs."""
_RETIRED_SWITCHES = ("semantic_id", "price_relation", "event_type", "confidence")
"""Switches that rankers exported before may name; their `inputs` still say what their graphs read."""


def name_model(version: str) -> str:
    """Name of a ranker version in Triton's model repository."""
    return f"ranker_{version[:8]}"


class TensorSpec(Config):
    """One input or output of the exported graph."""

    name: str
    """Name in the graph."""
    dtype: ElementType
    """Element type."""
    dims: tuple[int, ...]
    """Dimensions without the leading batch; -1 is the number of candidates (Triton's convention)."""


class RankerSpec(Config):
    """Describes an exported ranker."""

    model_name: str
    """`name_model(version)`."""
    version: str
    """Digest of weights, features and encoding."""
    space: str | None
    """Embedding space of the item vectors; none where the ranker reads no vectors."""
    feature_service: str
    """Feast feature service with this ranker's inputs."""
    history_length: int
    """H: behaviors per user."""
    search_length: int = 0
    """Behaviors that the general search unit looks at before the graph; 0: none."""
    search_dim: int = 0
    """Leading numbers of an item vector (its first aspect) that it compares."""
    inferred_length: int
    """K: inferred behaviors per user."""
    embedding_dim: int
    """D: length of an item vector."""
    features: RankerFeatures
    """The switches it was trained with."""
    inputs: tuple[TensorSpec, ...]
    """Inputs of the graph, only those that the ranker reads."""
    outputs: tuple[TensorSpec, ...]
    """`click` and `order` (calibrated probabilities), `score` (what to sort by), each [C]. A ranker with a
    value head also has `value` (expected revenue)."""
    vocabularies: dict[str, str]
    """`item`, `category`, `brand` -> file beside the spec; row n holds the value of index n + 2."""
    price_edges: tuple[float, ...]
    """Ascending inner edges of the price buckets."""

    @field_validator("features", mode="before")
    @classmethod
    def _drop_retired_switches(cls, features: Any) -> Any:
        if not isinstance(features, dict):
            return features
        return {name: value for name, value in features.items() if name not in _RETIRED_SWITCHES}

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Reads the spec of a ranker artifact.

        Raises:
            UserError: the folder holds no ranker.
        """
        spec_path = folder / SPEC_FILE
        if not spec_path.is_file():
            raise UserError(
                f"{folder} is not a ranker artifact (no {SPEC_FILE}); run the train_ranker step first."
            )
        return cls.model_validate_json(spec_path.read_text(encoding="utf-8"))

    @property
    def fetched_length(self) -> int:
        """Behaviors per user that are asked of the feature store."""
        return max(self.history_length, self.search_length)

    @property
    def search_settings(self) -> tuple[int, int, int]:
        """How it searches histories; rankers alike in this share encoded lists. All zeros: it only cuts."""
        if not self.search_length:
            return (0, 0, 0)
        return (self.history_length, self.search_length, self.search_dim)

    @property
    def input_names(self) -> frozenset[str]:
        """Names of the inputs that the graph takes."""
        return frozenset(tensor.name for tensor in self.inputs)


def list_graph_inputs(
    features: RankerFeatures, *, history: int, inferred: int, dim: int
) -> tuple[TensorSpec, ...]:
    """Lists the inputs that a ranker with these switches reads, in the order of its graph."""
    side_lengths = {"candidate": ANY_NUM_CANDIDATES, "history": history, "inferred": inferred, "context": 1}
    tensors = []
    for row in INPUT_TABLE:
        if row.is_read_by(features):
            inner_dims = () if row.width is None else (dim if row.width == VECTOR_LENGTH else row.width,)
            tensors.append(
                TensorSpec(name=row.name, dtype=row.dtype, dims=(side_lengths[row.side], *inner_dims))
            )
    return tuple(tensors)


def list_graph_outputs(*, value: bool = False) -> tuple[TensorSpec, ...]:
    """Lists the outputs of every ranker, and with `value` that of the value head."""
    names = ("click", "order", "score", *(["value"] if value else []))
    return tuple(TensorSpec(name=name, dtype="float32", dims=(ANY_NUM_CANDIDATES,)) for name in names)


def measure_parity_gap(computed: FloatArray, expected: FloatArray) -> float:
    """Largest difference of two computations of an output.

    Above 1, where money is, the difference is taken in proportion.
    """
    return float((np.abs(computed - expected) / np.maximum(np.abs(expected), 1)).max())
