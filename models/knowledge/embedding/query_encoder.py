"""Places texts among the items of a space as `embed_queries.py` says, without torch: the gateway loads this.

The text encoder and the map to the learned aspect are one ONNX graph. The words are looked up here: a text
has few, and their directions are read from a mapped file, so that worker processes share its pages.
`query_encoder_export.py` writes the folder.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

from contracts.array_types import FloatArray, IntArray
from contracts.errors import UserError
from contracts.tables import MAX_CONTEXT_LENGTH
from models.knowledge.writing_systems import fold_widths, split_unspaced_runs

GRAPH_FILE: Final = "query_encoder.onnx"
TOKENIZER_FILE: Final = "tokenizer.json"
DESCRIPTION_FILE: Final = "query_encoder.json"
_BATCH_SIZE: Final = 32
_MIN_NORM: Final = 1e-12


class WordDirections(NamedTuple):
    """The words of one kind and their directions: `exact_words.WordVectorizer` without scikit-learn."""

    kind: str
    longest_run: int
    """Words in a row that count as one more."""
    word_pattern: re.Pattern[str]
    rows: dict[str, int]
    """Word -> its row."""
    axes: FloatArray
    """[V, A] directions, weighted by inverse document frequency."""

    @classmethod
    def load_folder(cls, folder: Path, *, kind: str, longest_run: int, word_pattern: str) -> Self:
        """Reads what `save_folder` wrote."""
        words = json.loads((folder / f"{kind}.json").read_text(encoding="utf-8"))
        axes = np.load(folder / f"{kind}.npy", mmap_mode="r", allow_pickle=False)
        return cls(kind, longest_run, re.compile(word_pattern), {w: row for row, w in enumerate(words)}, axes)

    def save_folder(self, folder: Path) -> dict[str, object]:
        """Writes words and directions; returns the rest of what `load_folder` wants."""
        (folder / f"{self.kind}.json").write_text(json.dumps(list(self.rows)), encoding="utf-8")
        np.save(folder / f"{self.kind}.npy", self.axes, allow_pickle=False)
        return {
            "kind": self.kind,
            "longest_run": self.longest_run,
            "word_pattern": self.word_pattern.pattern,
        }

    def place_texts(self, texts: Sequence[str]) -> FloatArray:
        """Returns unit vectors [Q, A]; zeros where no word is known."""
        vectors = np.zeros((len(texts), self.axes.shape[1]), np.float32)
        for number, text in enumerate(texts):
            # The sum's length is lost with the norm, and so is that of tf-idf.
            vectors[number] = self.axes[self._find_rows(text)].sum(axis=0)
        return _normalize_rows(vectors)

    def _find_rows(self, text: str) -> list[int]:
        # As `exact_words.py` splits titles.
        words = list(split_unspaced_runs(self.word_pattern.findall(fold_widths(text))))
        runs = {
            " ".join(words[start : start + length])
            for length in range(1, self.longest_run + 1)
            for start in range(len(words) - length + 1)
        }
        return sorted(self.rows[run] for run in runs if run in self.rows)


class QueryEncoder:
    """Turns texts into vectors of one embedding space."""

    def __init__(self, folder: Path, *, threads: int | None = None) -> None:
        """Loads an encoder.

        Args:
            folder: What `query_encoder_export.py` wrote.
            threads: Of ONNX Runtime; by default one a core.

        Raises:
            UserError: The folder holds no query encoder.
        """
        description_path = folder / DESCRIPTION_FILE
        if not description_path.is_file():
            raise UserError(f"{folder} holds no query encoder (no {DESCRIPTION_FILE})")
        description: dict[str, Any] = json.loads(description_path.read_text(encoding="utf-8"))
        self.space: str = description["space"]
        self._aspects: dict[str, int] = dict(description["aspects"])
        self.dim = sum(self._aspects.values())
        """D of the vectors."""
        self._tokenized_chars: int = description["tokenized_chars"]
        self._words = [WordDirections.load_folder(folder, **fields) for fields in description["words"]]
        self._tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_FILE))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(description["max_tokens"])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        self._session = onnxruntime.InferenceSession(
            folder / GRAPH_FILE, options, providers=["CPUExecutionProvider"]
        )

    def encode_texts(self, texts: Sequence[str]) -> FloatArray:
        """Returns the vectors [Q, D] of texts; a blank one has zeros."""
        vectors = np.zeros((len(texts), self.dim), np.float32)
        cut_texts = [text[:MAX_CONTEXT_LENGTH] for text in texts]
        rows = np.array([row for row, text in enumerate(cut_texts) if text.strip()], np.int64)
        encodings = self._tokenizer.encode_batch_fast(
            [cut_texts[row][: self._tokenized_chars] for row in rows]
        )
        token_ids = [np.array(encoding.ids, np.int64) for encoding in encodings]
        # Texts of like length go together: padding costs as much as words.
        order = np.argsort([len(ids) for ids in token_ids], kind="stable")
        for start in range(0, len(order), _BATCH_SIZE):
            batch = order[start : start + _BATCH_SIZE]
            batch_texts = [cut_texts[row] for row in rows[batch]]
            vectors[rows[batch]] = self._encode_batch([token_ids[number] for number in batch], batch_texts)
        return vectors

    def _encode_batch(self, token_ids: list[IntArray], texts: list[str]) -> FloatArray:
        lengths = np.array([len(ids) for ids in token_ids])
        is_token = np.arange(lengths.max()) < lengths[:, None]
        padded_ids = np.zeros(is_token.shape, np.int64)
        padded_ids[is_token] = np.concatenate(token_ids)
        word_vectors = {words.kind: words.place_texts(texts) for words in self._words}
        feed = {"token_ids": padded_ids, "is_token": is_token.astype(np.float32), **word_vectors}
        (learned_vectors,) = self._session.run(None, feed)
        # What a text does not tell (brand, knowledge) is zero, as in an item that lacks it.
        aspect_vectors = [
            _normalize_rows(word_vectors[name][:, :length])
            if name in word_vectors
            else np.zeros((len(texts), length), np.float32)
            for name, length in list(self._aspects.items())[1:]
        ]
        return np.concatenate([learned_vectors, *aspect_vectors], axis=1)


def _normalize_rows(vectors: FloatArray) -> FloatArray:
    """As `item_views.normalize_rows`, whose module the gateway does not load."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, _MIN_NORM), np.float32)
