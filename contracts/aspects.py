"""The aspects of an item embedding: vectors of unit norm side by side, each compared on its own."""

import json
from pathlib import Path

from contracts.artifacts import write_json
from contracts.errors import UserError

SPACE_FILE = "space.json"
"""In an item embeddings artifact: what its space is."""
FOLDS_FILE = "fold_embeddings.safetensors"
"""Beside it: `embeddings` float32 [folds, items, length of the first aspect], in the order of the table; fold k (by
`contracts.shards.owners` of the user id) has not learnt from the users of fold k. Absent where there are no folds."""


def describe_space(folder: Path, description: dict[str, object], aspects: dict[str, int]) -> None:
    """Writes the space's description with its aspects: name -> length, the learnt one first."""
    # A list: the keys of an object have no order.
    write_json(folder / SPACE_FILE, {**description, "aspects": [list(aspect) for aspect in aspects.items()]})


def read_aspects(item_embeddings: Path, *, length: int) -> dict[str, int]:
    """Aspects of the embeddings in an artifact, in their order; one where the artifact names none.

    Args:
        item_embeddings: The artifact.
        length: Length of its embeddings.

    Raises:
        UserError: the aspects do not add up to that length.
    """
    path = item_embeddings / SPACE_FILE
    described = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    aspects: dict[str, int] = dict(described.get("aspects", [["embedding", length]]))
    if sum(aspects.values()) != length:
        raise UserError(f"{path} names aspects {aspects}, its embeddings have {length} numbers; run embed_items again")
    return aspects
