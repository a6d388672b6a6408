"""The forward pass of BERT text encoders whose vector is the mean of the token vectors, as MiniLM's is.

It computes what sentence-transformers computes, for a third less processor time and without seconds of
imports: texts of like length go together, in batches that fit the processor's cache.

Shape legend: B texts, L tokens, T = B x L, D width.
"""

import json
from pathlib import Path
from typing import Final, NamedTuple, Self

import numpy as np
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.functional import gelu, layer_norm, linear, normalize, scaled_dot_product_attention

from contracts.array_types import FloatArray, IntArray
from contracts.progress import report_progress
from models.knowledge.embedding.worker_threads import open_worker_threads

_BATCH_TOKENS: Final = 1024
"""Tokens, padding included, that are encoded at once: 4,096 no longer fit the cache (+20 % time)."""
_MASKED_SCORE: Final = -1e9
_MODULE_TYPES: Final = ["Transformer", "Pooling", "Normalize"]


class _Map(NamedTuple):
    """The weight and bias of a linear map or of a layer norm."""

    weight: Tensor
    bias: Tensor


class _Layer(NamedTuple):
    """One transformer layer."""

    query_key_value: _Map
    attention_output: _Map
    attention_norm: _Map
    intermediate: _Map
    output: _Map
    output_norm: _Map


class BertEncoder:
    """Encodes texts by a BERT of a sentence-transformers folder, on the processor."""

    precision = "float32"

    def __init__(self, folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        weights = load_bert_weights(folder)
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._num_heads = int(config["num_attention_heads"])
        self._epsilon = float(config["layer_norm_eps"])
        self._word_vectors = weights["embeddings.word_embeddings.weight"]
        # No text has a second segment, so the vector of the first one is part of every position.
        first_segment = weights["embeddings.token_type_embeddings.weight"][0]
        self._position_vectors = weights["embeddings.position_embeddings.weight"] + first_segment
        self._input_norm = _read_map(weights, "embeddings.LayerNorm")
        self._layers = [_read_layer(weights, number) for number in range(config["num_hidden_layers"])]
        self.width = self._word_vectors.shape[1]

    @classmethod
    def load_folder(cls, folder: Path) -> Self | None:
        """Loads an encoder, or returns None where the folder holds another kind of model."""
        return cls(folder) if is_mean_pooled_bert(folder) else None

    def encode(self, texts: list[str], *, max_tokens: int) -> FloatArray:
        """Returns unit vectors [N, D] of N texts, cut to `max_tokens`."""
        self._tokenizer.enable_truncation(min(max_tokens, len(self._position_vectors)))
        token_ids = [encoding.ids for encoding in self._tokenizer.encode_batch_fast(texts)]
        lengths = np.array([len(ids) for ids in token_ids], np.int64)
        longest_first = np.argsort(-lengths, kind="stable")
        vectors = np.empty((len(texts), self.width), np.float32)
        batches = []
        start = 0
        while start < len(texts):
            batch_size = max(_BATCH_TOKENS // int(lengths[longest_first[start]]), 1)
            batches.append(longest_first[start : start + batch_size])
            start += batch_size

        def encode_rows(rows: IntArray) -> FloatArray:
            return self._encode_batch([token_ids[row] for row in rows], lengths[rows]).numpy()

        num_done = 0
        with open_worker_threads() as pool:
            for rows, batch_vectors in zip(batches, pool.map(encode_rows, batches), strict=True):
                vectors[rows] = batch_vectors
                num_done += len(rows)
                report_progress("encode texts", num_done, len(texts), "texts")
        return vectors

    @torch.inference_mode()
    def _encode_batch(self, token_ids: list[list[int]], lengths: IntArray) -> Tensor:
        num_texts, num_tokens = len(token_ids), int(lengths.max())
        is_token = np.arange(num_tokens) < lengths[:, None]
        tokens = np.zeros((num_texts, num_tokens), np.int64)
        tokens[is_token] = np.concatenate(token_ids)
        mask = None
        if not is_token.all():
            mask = torch.from_numpy(np.where(is_token, 0, _MASKED_SCORE).astype(np.float32))[:, None, None]
        embedded_BLD = self._word_vectors[torch.from_numpy(tokens)] + self._position_vectors[:num_tokens]
        states_TD = self._normalize_layer(embedded_BLD.flatten(0, 1), self._input_norm)
        for layer in self._layers:
            states_TD = self._apply_layer(layer, states_TD, num_texts, mask)
        states_BLD = states_TD.view(num_texts, num_tokens, self.width)
        # The mean's divisor is left out: it does not change the direction.
        return normalize((states_BLD * torch.from_numpy(is_token)[:, :, None]).sum(1), dim=-1)

    def _apply_layer(self, layer: _Layer, states_TD: Tensor, num_texts: int, mask: Tensor | None) -> Tensor:
        query, key, value = (
            part.reshape(num_texts, -1, self._num_heads, self.width // self._num_heads).transpose(1, 2)
            for part in linear(states_TD, *layer.query_key_value).chunk(3, dim=-1)
        )
        attended = scaled_dot_product_attention(query, key, value, attn_mask=mask)
        attended_TD = linear(attended.transpose(1, 2).reshape(states_TD.shape), *layer.attention_output)
        states_TD = self._normalize_layer(attended_TD + states_TD, layer.attention_norm)
        output_TD = linear(gelu(linear(states_TD, *layer.intermediate)), *layer.output)
        return self._normalize_layer(output_TD + states_TD, layer.output_norm)

    def _normalize_layer(self, states: Tensor, norm: _Map) -> Tensor:
        return layer_norm(states, (self.width,), norm.weight, norm.bias, self._epsilon)


def is_mean_pooled_bert(folder: Path) -> bool:
    """Says whether a folder holds what this module computes: any difference is left to the library."""
    files = ["modules.json", "config.json", "1_Pooling/config.json", "model.safetensors", "tokenizer.json"]
    if not all((folder / name).is_file() for name in files):
        return False
    modules, config, pooling = (json.loads((folder / name).read_text(encoding="utf-8")) for name in files[:3])
    pooling_modes = {name for name, is_used in pooling.items() if name.startswith("pooling_mode") and is_used}
    return (
        [module["type"].rsplit(".", 1)[-1] for module in modules] == _MODULE_TYPES
        and pooling_modes in ({"pooling_mode_mean_tokens"}, {"pooling_mode"})
        and pooling.get("pooling_mode", "mean") == "mean"
        and config.get("model_type") == "bert"
        and config.get("hidden_act") == "gelu"
        and config.get("position_embedding_type", "absolute") == "absolute"
    )


def load_bert_weights(folder: Path) -> dict[str, Tensor]:
    """Loads the weights of a BERT in single precision, by their names in its checkpoint."""
    tensors = load_file(folder / "model.safetensors")
    return {name.removeprefix("bert."): values.float() for name, values in tensors.items()}


def _read_layer(weights: dict[str, Tensor], number: int) -> _Layer:
    prefix = f"encoder.layer.{number}."
    parts = [_read_map(weights, f"{prefix}attention.self.{name}") for name in ("query", "key", "value")]
    # One product instead of three.
    query_key_value = _Map(
        torch.cat([part.weight for part in parts]), torch.cat([part.bias for part in parts])
    )
    names = (
        "attention.output.dense",
        "attention.output.LayerNorm",
        "intermediate.dense",
        "output.dense",
        "output.LayerNorm",
    )
    return _Layer(query_key_value, *(_read_map(weights, prefix + name) for name in names))


def _read_map(weights: dict[str, Tensor], name: str) -> _Map:
    return _Map(weights[f"{name}.weight"], weights[f"{name}.bias"])
