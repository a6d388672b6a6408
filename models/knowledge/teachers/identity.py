"""Which model it is that answers: part of every cache key and of the KNOWLEDGE table."""

from pathlib import Path

from contracts.digests import digest_file, digest_value

_SUFFIXES = {".json", ".jinja", ".model", ".safetensors"}
"""Configuration, chat template, tokenizer and weights."""


def identify_model(model: str, revision: str | None) -> str:
    """A name that changes when the weights do.

    A local folder is named by its content (all weights are read once), a hub model by its revision; without a revision
    the hub's name has to do, though its owner may change what it means.
    """
    folder = Path(model)
    if folder.is_dir():
        files = sorted(path for path in folder.iterdir() if path.suffix in _SUFFIXES)
        return f"{folder.resolve().name}-{digest_value([(path.name, digest_file(path)) for path in files])[:8]}"
    return f"{model}@{revision}" if revision else model
