"""How probable a model found each token that it wrote, before any schema ruled tokens out."""

import torch


class LogprobRecorder:
    """A logits processor of one batch: it changes nothing and keeps one number a token.

    It stands before the processor that holds answers to a schema: what the schema forces is no merit.
    """

    def __init__(self) -> None:
        self._last: torch.Tensor | None = None
        """[B, V] log-probabilities of the step whose tokens are not chosen yet."""
        self._kept: list[torch.Tensor] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Keeps the log-probabilities of the tokens chosen last.

        Args:
            input_ids: [B, T] prompts and answers so far.
            scores: [B, V] logits of the next token.

        Returns:
            [B, V] the same logits.
        """
        self._keep_chosen(input_ids)
        self._last = torch.log_softmax(scores.float(), dim=-1)
        return scores

    def read_logprobs(self, output_ids: torch.Tensor) -> torch.Tensor:
        """[B, N] of all generated tokens, once generation has ended with `output_ids` [B, T]."""
        self._keep_chosen(output_ids)
        self._last = None
        return torch.stack(self._kept, dim=1)

    def _keep_chosen(self, input_ids: torch.Tensor) -> None:
        if self._last is not None:
            self._kept.append(self._last.gather(1, input_ids[:, -1:]).squeeze(1))
