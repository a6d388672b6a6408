"""The aspects of an item embedding: vectors of unit norm side by side, each compared on its own."""

import json
from collections.abc import Mapping
from pathlib import Path

from contracts.artifacts import write_json
from contracts.errors import UserError

SPACE_FILE = "space.json"
"""In an item embeddings artifact: the name of its space, the encoder and the aspects."""
FOLDS_FILE = "fold_embeddings.safetensors"
"""Beside it, where there are folds: the learned aspect once for each fold of users.

`embeddings` is float32 [folds, items, length of the first aspect], items in the order of the table. Fold k
has not learned from the users of fold k, who are found by `contracts.shards.assign_shards` of the user id."""

QUERY_ENCODER_FOLDER = "query_encoder"
"""Beside it, where the text encoder allows it: what places texts in the space without torch
(`models/knowledge/embedding/query_encoder.py`). Features and the online store carry copies."""


def write_space_description(
    item_embeddings: Path, description: Mapping[str, object], aspect_lengths: dict[str, int]
) -> None:
    """Writes the space's description with its aspects: name -> length, the learned one first."""
    # A list: the keys of an object have no order.
    named_lengths = [[name, length] for name, length in aspect_lengths.items()]
    write_json(item_embeddings / SPACE_FILE, {**description, "aspects": named_lengths})


def read_aspects(item_embeddings: Path, *, length: int) -> dict[str, int]:
    """Reads the aspects of an artifact's embeddings, in their order: name -> length.

    Args:
        item_embeddings: The artifact. One that names no aspects has a single one.
        length: Length of its embeddings.

    Raises:
        UserError: The aspects do not add up to that length.
    """
    path = item_embeddings / SPACE_FILE
    space_description = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    aspect_lengths: dict[str, int] = dict(space_description.get("aspects", [["embedding", length]]))
    if sum(aspect_lengths.values()) != length:
        raise UserError(
            f"{path} names aspects {aspect_lengths}, its embeddings have {length} numbers; "
            "run embed_items again"
        )
    return aspect_lengths
