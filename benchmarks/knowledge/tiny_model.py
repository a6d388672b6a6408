"""A tiny chat model with random weights: language-model teachers run anywhere, without a download.

    python -m benchmarks.knowledge.tiny_model FOLDER

Its tokens are the 256 bytes and three marks, so that any text can be asked and any schema answered. What it
writes is noise, but with manners: its output layer leans toward letters and, where a grammar allows one,
toward the quote that ends a string, so that constrained answers stay short and are never cut off.
"""

import sys
from pathlib import Path
from typing import Any

SPECIAL = ("<|pad|>", "<|im_start|>", "<|im_end|>")
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_WIDTH = 64
_LEANINGS = {'"': 3.0, "}": 2.0, "]": 2.0, "\\": -8.0, " ": -2.0}
"""By how much (in log odds, roughly) a byte is likelier than another; `\\` and blanks lead to answers of no
value."""


def make_tiny_model(folder: Path, *, max_positions: int = 32_768, seed: int = 0) -> Path:
    """Writes the model's configuration, safetensors and tokenizer into `folder`."""
    tokenizer = _build_tokenizer()
    tokenizer.save_pretrained(folder)
    _build_model(tokenizer, max_positions, seed).save_pretrained(folder)
    return folder


def _build_tokenizer() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: number for number, token in enumerate((*SPECIAL, *_list_byte_symbols().values()))}
    byte_tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    byte_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    byte_tokenizer.decoder = decoders.ByteLevel()
    pad_token, _, end_token = SPECIAL
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=byte_tokenizer,
        pad_token=pad_token,
        eos_token=end_token,
        additional_special_tokens=[SPECIAL[1]],
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def _list_byte_symbols() -> dict[int, str]:
    """The visible character that stands for each byte in byte-level vocabularies (GPT-2's table)."""
    visible_bytes = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden_bytes = [byte for byte in range(256) if byte not in visible_bytes]
    return {byte: chr(byte) for byte in visible_bytes} | {
        byte: chr(256 + byte_place) for byte_place, byte in enumerate(hidden_bytes)
    }


def _build_model(tokenizer: Any, max_positions: int, seed: int) -> Any:
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(seed)
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(tokenizer),
            hidden_size=_WIDTH,
            intermediate_size=2 * _WIDTH,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=max_positions,
            tie_word_embeddings=False,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
    with torch.no_grad():
        # The first dimension is nearly constant, so its output weights are the tokens' leanings.
        model.model.embed_tokens.weight[:, 0] = 1.0
        weight_scale = 1 / _WIDTH**0.5  # of a vector that lies along one axis, after the last normalization
        model.lm_head.weight[:, 0] = weight_scale * torch.tensor(_compute_leanings(tokenizer))
    return model.to(torch.float32)


def _compute_leanings(tokenizer: Any) -> list[float]:
    token_leanings = [-8.0] * len(tokenizer)
    for byte in range(32, 127):
        token_leanings[len(SPECIAL) + list(_list_byte_symbols()).index(byte)] = _LEANINGS.get(chr(byte), 0.0)
    token_leanings[tokenizer.eos_token_id] = 2.0
    return token_leanings


if __name__ == "__main__":
    make_tiny_model(Path(sys.argv[1]))
