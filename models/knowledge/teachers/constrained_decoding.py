"""Holds plain `transformers` to an answer's JSON schema: tokens that would break it get no probability.

llguidance reads the schemas and says which tokens may follow; vLLM uses the same library. Blanks between
the parts of an answer are not allowed: small models fill their answers with them.
"""

from collections.abc import Sequence
from typing import Any, Final

import llguidance
import llguidance.hf
import llguidance.numpy
import numpy as np
import torch

from contracts.errors import UserError

_NUMBER_STEP: Final = 0.01
"""No answer needs a finer number: the only ones are confidences from 0 to 1."""


class SchemaConstraint:
    """The logits processor of one batch: a schema for each row."""

    def __init__(self, token_table: llguidance.LLTokenizer, schemas: Sequence[dict[str, Any]]) -> None:
        """Compiles the schemas.

        Args:
            token_table: see `build_token_table`.
            schemas: the JSON schema of each row's answer.

        Raises:
            UserError: a schema holds what cannot be constrained.
        """
        self._end_token = token_table.eos_token
        self._matchers = [llguidance.LLMatcher(token_table, _compile_schema(schema)) for schema in schemas]
        for matcher in self._matchers:
            if matcher.is_error():
                raise UserError(
                    f"the schema of an answer cannot be constrained: {matcher.get_error()}; set "
                    "teacher.constrained to false"
                )
        self._bits = llguidance.numpy.allocate_token_bitmask(len(schemas), token_table.vocab_size)
        self._is_first_token = True

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Rules out the tokens that cannot follow.

        Args:
            input_ids: [B, T] prompts and answers so far.
            scores: [B, V] logits of the next token.

        Returns:
            [B, V] the logits; minus infinity where a token would break the schema.
        """
        for row, matcher in enumerate(self._matchers):
            if not self._is_first_token and not matcher.is_stopped():
                matcher.consume_token(int(input_ids[row, -1]))
            if not matcher.is_stopped():
                llguidance.numpy.fill_next_token_bitmask(matcher, self._bits, row)
        self._is_first_token = False
        is_allowed = np.unpackbits(self._bits.view(np.uint8), axis=1, bitorder="little")
        allowed = torch.zeros(scores.shape, dtype=torch.bool)
        num_known = min(scores.shape[1], is_allowed.shape[1])
        allowed[:, :num_known] = torch.from_numpy(is_allowed[:, :num_known].astype(bool))
        for row, matcher in enumerate(self._matchers):
            if matcher.is_stopped():
                allowed[row] = False
                allowed[row, self._end_token] = True
        return scores.masked_fill(~allowed.to(scores.device), float("-inf"))


def build_token_table(tokenizer: Any, num_logits: int) -> llguidance.LLTokenizer:
    """Reads a model's tokens, which takes about a second.

    Args:
        tokenizer: a fast tokenizer of `transformers`.
        num_logits: V, tokens that the model scores: more or fewer than the tokenizer knows.

    Raises:
        UserError: the tokenizer is not a fast one.
    """
    try:
        return llguidance.hf.from_tokenizer(tokenizer, max(num_logits, len(tokenizer)))
    except ValueError as error:
        raise UserError(
            f"the tokenizer of the model cannot be constrained ({error}); set teacher.constrained to false"
        ) from error


def _compile_schema(schema: dict[str, Any]) -> str:
    return llguidance.LLMatcher.grammar_from_json_schema(
        _bound_digits(schema), overrides={"whitespace_flexible": False}
    )


def _bound_digits(node: Any) -> Any:
    """A copy of a schema whose numbers end: a small model may repeat the digits of one up to its limit."""
    if isinstance(node, list):
        return [_bound_digits(child) for child in node]
    if not isinstance(node, dict):
        return node
    bounded_node = {key: _bound_digits(child) for key, child in node.items()}
    if node.get("type") == "number":
        bounded_node.setdefault("multipleOf", _NUMBER_STEP)
    return bounded_node
