"""What a served ranker expects: the one file that the ranker's export and the serving room share."""

from pathlib import Path
from typing import Literal, Self

import numpy as np
import numpy.typing as npt

from contracts.config import Config
from contracts.errors import UserError
from models.ranker.config import FeatureConfig

SPEC_FILE = "spec.json"
MODEL_FILE = "ranker.onnx"
GOLDEN_FILE = "golden.npz"
WEIGHTS_FILE = "weights.safetensors"
DYNAMIC = -1
NUM_STATISTICS = 3
"""Numbers per candidate of `models/ranker/statistics.py`."""


def model_name_of(version: str) -> str:
    """Name of a ranker version in Triton's model repository."""
    return f"ranker_{version[:8]}"


class TensorSpec(Config):
    """One input or output of the exported graph."""

    name: str
    """Name in the graph."""
    dtype: Literal["int64", "float32", "float16"]
    """Element type."""
    dims: tuple[int, ...]
    """Dimensions without the leading batch; -1 is the number of candidates (Triton's convention)."""


class RankerSpec(Config):
    """Describes an exported ranker."""

    model_name: str
    """`model_name_of(version)`."""
    version: str
    """Digest of weights, features and encoding."""
    space: str | None
    """Embedding space of the item vectors; none where the ranker reads no vectors."""
    feature_service: str
    """Feast feature service with this ranker's inputs."""
    history_length: int
    """H: behaviours per user."""
    search_length: int = 0
    """Behaviours that the general search unit looks at before the graph; 0: none."""
    search_dim: int = 0
    """Leading numbers of an item vector (its first aspect) that it compares."""
    inferred_length: int
    """K: inferred behaviours per user."""
    embedding_dim: int
    """D: length of an item vector."""
    features: FeatureConfig
    """The switches it was trained with."""
    inputs: tuple[TensorSpec, ...]
    """Inputs of the graph, only those that the ranker reads."""
    outputs: tuple[TensorSpec, ...]
    """`click` and `order` (calibrated probabilities), `score` (what to sort by) and, of a ranker with a value head,
    `value` (expected revenue), each [C]."""
    vocabularies: dict[str, str]
    """`item`, `category`, `brand` -> file beside the spec; row n holds the value of index n + 2."""
    price_edges: tuple[float, ...]
    """Ascending inner edges of the price buckets."""

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Reads the spec of a ranker artifact.

        Raises:
            UserError: the folder holds no ranker.
        """
        path = folder / SPEC_FILE
        if not path.is_file():
            raise UserError(f"{folder} is not a ranker artifact (no {SPEC_FILE}); run the train_ranker step first.")
        return cls.model_validate_json(path.read_text(encoding="utf-8"))

    @property
    def reach(self) -> int:
        """Behaviours per user that are asked for."""
        return max(self.history_length, self.search_length)

    @property
    def reading(self) -> tuple[int, int, int]:
        """How lists are encoded for it: rankers that are alike in this can share them. All zeros: cut, not searched."""
        return (self.history_length, self.search_length, self.search_dim) if self.search_length else (0, 0, 0)

    @property
    def input_names(self) -> frozenset[str]:
        """Names of the inputs that the graph takes."""
        return frozenset(tensor.name for tensor in self.inputs)


def input_specs(features: FeatureConfig, *, history: int, inferred: int, dim: int) -> tuple[TensorSpec, ...]:
    """The inputs that a ranker with these switches reads."""
    sides = {"candidate": DYNAMIC, "history": history}
    item = {
        "ids": features.item_id,
        "categories": features.category,
        "brands": features.brand,
        "price_buckets": features.price or features.price_relation,
    }
    found = [
        TensorSpec(name=f"{side}_{name}", dtype="int64", dims=(length,))
        for side, length in sides.items()
        for name, used in item.items()
        # A history's ids also say where it ends.
        if used or (side == "history" and name == "ids")
    ]
    if features.vectors:
        found += [_vectors(side, length, dim) for side, length in sides.items()]
    if features.recency:
        found.append(_floats("history_ages_s", history))
    if features.event_type:
        found.append(TensorSpec(name="history_types", dtype="int64", dims=(history,)))
    if features.context:
        found += [TensorSpec(name=f"context_{name}", dtype="int64", dims=(1,)) for name in ("hour", "weekday")]
    if features.statistics:
        found.append(_floats("candidate_statistics", DYNAMIC, NUM_STATISTICS))
    if features.inferred:
        found.append(_floats("inferred_scores", inferred))
        if features.item_id:
            found.append(TensorSpec(name="inferred_ids", dtype="int64", dims=(inferred,)))
        if features.vectors:
            found.append(_vectors("inferred", inferred, dim))
    if features.confidences:
        found.append(_floats("candidate_confidences", DYNAMIC))
    return tuple(found)


def output_specs(*, value: bool = False) -> tuple[TensorSpec, ...]:
    """The outputs of every ranker, and of one with a value head."""
    names = ("click", "order", "score", *(["value"] if value else []))
    return tuple(_floats(name, DYNAMIC) for name in names)


def parity_gap(found: npt.NDArray[np.float32], expected: npt.NDArray[np.float32]) -> float:
    """Largest difference of two computations of an output; of what is above 1, as money is, in proportion to it."""
    return float((np.abs(found - expected) / np.maximum(np.abs(expected), 1)).max())


def _vectors(side: str, length: int, dim: int) -> TensorSpec:
    # Nearly all bytes of a request; the graph computes in float32.
    return TensorSpec(name=f"{side}_vectors", dtype="float16", dims=(length, dim))


def _floats(name: str, *dims: int) -> TensorSpec:
    return TensorSpec(name=name, dtype="float32", dims=dims)
