"""What lets positions exchange information: a small new transformer, or the blocks of a pretrained one.

A letter of its own: X hidden size of the checkpoint.

A pretrained checkpoint may be an encoder (BERT) or a causal model (Llama, GPT-2). Both see all positions,
since the mask of visible positions replaces the causal one. Items stand where words stood. They enter by a
projection E -> X that starts at the scale of the word embeddings, and leave by one X -> E. The word
embeddings themselves are dropped.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from contracts.errors import UserError
from contracts.pretrained import find_checkpoint
from models.behavior.config import NetworkConfig

Architecture = dict[str, Any]
"""Configuration of a Hugging Face model, as its `config.json` holds it."""


def read_architecture(network: NetworkConfig, max_length: int) -> Architecture | None:
    """Reads the configuration of the pretrained checkpoint, without its vocabulary; None where there is none.

    Args:
        network: names the checkpoint.
        max_length: positions T that the blocks must take.

    Raises:
        UserError: the checkpoint cannot be read, has two towers, or has too few positions.
    """
    if network.pretrained is None:
        return None
    from transformers import AutoConfig

    with _explain_load_errors(network):
        config = AutoConfig.from_pretrained(
            find_checkpoint(network.pretrained), revision=network.pretrained_revision
        )
    if config.is_encoder_decoder:
        raise UserError(
            f"behavior.network.pretrained: '{network.pretrained}' has an encoder and a decoder; give a model "
            "that is one of them"
        )
    max_positions = getattr(config, "max_position_embeddings", max_length)
    if max_positions < max_length:
        raise UserError(
            f"behavior.max_history {max_length} is more than the {max_positions} positions of "
            f"'{network.pretrained}'; lower it or give another checkpoint"
        )
    architecture: Architecture = json.loads(config.to_json_string(use_diff=False))
    no_words = {"vocab_size": 1, "pad_token_id": None, "bos_token_id": None, "eos_token_id": None}
    return architecture | no_words


def build_backbone(network: NetworkConfig, max_length: int, architecture: Architecture | None) -> nn.Module:
    """Builds the module that maps inputs [B, T, E] and valid positions [B, T] to hidden states [B, T, E]."""
    return (
        TransformerBackbone(network)
        if architecture is None
        else PretrainedBackbone(network, max_length, architecture)
    )


class TransformerBackbone(nn.Module):
    """A bidirectional transformer, trained from nothing."""

    def __init__(self, network: NetworkConfig) -> None:
        super().__init__()
        width = network.dimension
        layer = nn.TransformerEncoderLayer(
            width, network.num_heads, 4 * width, network.dropout, "gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(layer, network.num_layers, enable_nested_tensor=False)

    def forward(self, x_BTE: Tensor, is_valid_BT: Tensor) -> Tensor:
        """Computes hidden states, [B, T, E]."""
        hidden_BTE: Tensor = self.blocks(x_BTE, src_key_padding_mask=~is_valid_BT)
        return hidden_BTE


class PretrainedBackbone(nn.Module):
    """The blocks of a Hugging Face model between two projections. Only its top layers are trained."""

    def __init__(self, network: NetworkConfig, max_length: int, architecture: Architecture) -> None:
        super().__init__()
        from transformers import AutoConfig, AutoModel

        model_options = {name: value for name, value in architecture.items() if name != "model_type"}
        config = AutoConfig.for_model(architecture["model_type"], **model_options)
        self._network, self._max_length = network, max_length
        self.model = AutoModel.from_config(config, attn_implementation="sdpa", dtype=torch.float32)
        _drop_word_layers(self.model)
        self.enter = nn.Linear(network.dimension, config.hidden_size)
        self.leave = nn.Linear(config.hidden_size, network.dimension)
        self.model.requires_grad_(False)
        layers = _find_layers(self.model)
        for layer in layers[max(len(layers) - network.trainable_layers, 0) :]:
            layer.requires_grad_(True)

    @torch.no_grad()
    def load_pretrained(self) -> None:
        """Takes over the checkpoint's weights.

        Raises:
            UserError: the checkpoint cannot be read.
        """
        from transformers import AutoModel

        network = self._network
        with _explain_load_errors(network):
            checkpoint = AutoModel.from_pretrained(
                find_checkpoint(str(network.pretrained)),
                revision=network.pretrained_revision,
                use_safetensors=True,
                trust_remote_code=False,
                dtype=torch.float32,
            )
        word_scale = float(checkpoint.get_input_embeddings().weight.std())
        nn.init.normal_(self.enter.weight, std=word_scale / network.dimension**0.5)
        nn.init.zeros_(self.enter.bias)
        _drop_word_layers(checkpoint)
        self.model.load_state_dict(checkpoint.state_dict())

    def forward(self, x_BTE: Tensor, is_valid_BT: Tensor) -> Tensor:
        """Computes hidden states, [B, T, E]."""
        length = x_BTE.shape[1]
        # Numbered so that the last column always has the same position: padding moves no behavior.
        positions_1T = torch.arange(self._max_length - length, self._max_length, device=x_BTE.device)[None]
        is_visible_B1TT = is_valid_BT[:, None, None, :].expand(-1, 1, length, -1)  # in place of a causal mask
        outputs = self.model(
            inputs_embeds=self.enter(x_BTE),
            attention_mask=is_visible_B1TT,
            position_ids=positions_1T,
            use_cache=False,
        )
        hidden_BTE: Tensor = self.leave(outputs.last_hidden_state)
        return hidden_BTE


def _drop_word_layers(model: Any) -> None:
    """Drops what works on words: their embeddings (often most of the weights) and a pooler."""
    model.set_input_embeddings(nn.Embedding(1, model.config.hidden_size))
    if hasattr(model, "pooler"):
        model.pooler = None


def _find_layers(model: nn.Module) -> nn.ModuleList:
    return max((module for module in model.modules() if isinstance(module, nn.ModuleList)), key=len)


@contextmanager
def _explain_load_errors(network: NetworkConfig) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        raise UserError(
            f"behavior.network.pretrained: cannot load '{network.pretrained}' "
            f"({str(error).splitlines()[0]}); give a "
            "folder with config.json and model.safetensors, or a model of the Hugging Face hub and access to "
            "it"
        ) from error
