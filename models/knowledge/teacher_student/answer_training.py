"""Fine-tuning on answers: the next token of each answer is learned, questions are only read.

It is a task of the house's training loop, which saves and resumes. What is trained is held by name in one
dictionary, so that a checkpoint of low-rank updates is small.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from contracts.array_types import IntArray
from models.knowledge.config import StudentConfig
from models.knowledge.teacher_student.low_rank_update import add_low_rank_updates
from models.knowledge.teacher_student.training_examples import Example, plan_batches
from models.training.checkpoint import TrainingState
from models.training.device import choose_device, uses_bfloat16
from models.training.learning_rate import warm_up_then_cosine
from models.training.training_loop import derive_step_seed, take_optimizer_step

_WARMUP_SHARE = 0.1
_MAX_GRADIENT_NORM = 1.0
LENGTH_STEP = 32
"""Questions and answers are padded to multiples of it. Else nearly every batch has a shape of its own, and
the memory that the last ones left is never reused."""


class AnswerTraining:
    """The task: a causal language model, its examples, and how it is trained."""

    def __init__(
        self,
        model: nn.Module,
        training: Sequence[Example],
        held_out: Sequence[Example],
        config: StudentConfig,
    ) -> None:
        """Prepares a model for training, in place.

        Args:
            model: A causal language model of `transformers`, in float32.
            training: What is learned.
            held_out: What validates.
            config: Rank, rates and sizes.
        """
        self._model, self._config = model, config
        self._training, self._held_out = training, held_out
        if config.rank:
            add_low_rank_updates(model, rank=config.rank, seed=config.seed)
        self._device = choose_device()
        model.to(self._device)
        self._autocast = torch.autocast(
            self._device.type, torch.bfloat16, enabled=uses_bfloat16(self._device, config.precision)
        )
        trained = {
            name.replace(".", "/"): parameter
            for name, parameter in model.named_parameters()
            if parameter.requires_grad
        }
        optimizer = torch.optim.AdamW(trained.values(), lr=config.learning_rate, weight_decay=0.0)
        total_steps = config.epochs * math.ceil(len(training) / config.batch_size)
        schedule = warm_up_then_cosine(
            optimizer, warmup_steps=max(1, round(_WARMUP_SHARE * total_steps)), total_steps=total_steps
        )
        # The dictionary holds the model's own parameters: what the loop restores is in the model.
        self.state = TrainingState(nn.ParameterDict(trained), optimizer, schedule)

    def plan_epoch(self, epoch: int) -> list[IntArray]:
        """The examples of each batch."""
        generator = np.random.default_rng(derive_step_seed(self._config.seed, epoch))
        return plan_batches(self._training, self._config.batch_size, generator)

    def train_on_batch(self, rows: IntArray) -> tuple[float, float]:
        """Takes one step; returns the sum of losses over the answers' tokens, and their number."""
        self._model.train()
        batch = [self._training[row] for row in rows]
        loss_sum, num_tokens = self._sum_losses(batch)
        take_optimizer_step(
            loss_sum / num_tokens,
            self.state.optimizer,
            self.state.schedule,
            max_gradient_norm=_MAX_GRADIENT_NORM,
        )
        return float(loss_sum.detach()), float(num_tokens)

    def validate_epoch(self) -> float:
        """Minus the mean loss of a held-out answer's token."""
        self._model.eval()
        total_loss, total_tokens = 0.0, 0
        order = sorted(range(len(self._held_out)), key=lambda row: self._held_out[row].num_tokens)
        with torch.inference_mode():
            for start in range(0, len(order), self._config.batch_size):
                rows = order[start : start + self._config.batch_size]
                loss_sum, num_tokens = self._sum_losses([self._held_out[row] for row in rows])
                total_loss += float(loss_sum)
                total_tokens += num_tokens
        return -total_loss / total_tokens

    def _sum_losses(self, batch: Sequence[Example]) -> tuple[Tensor, int]:
        inputs, targets = align_examples(batch, self._device)
        num_answer_places = targets.shape[1]
        with self._autocast:
            # One place earlier predicts the next token; logits of questions are never computed.
            logits = self._model(**inputs, use_cache=False, logits_to_keep=num_answer_places + 1).logits
            losses = nn.functional.cross_entropy(
                logits[:, :-1].flatten(0, 1).float(), targets.flatten(), ignore_index=-1, reduction="sum"
            )
        return losses, int((targets >= 0).sum())


def align_examples(batch: Sequence[Example], device: torch.device) -> tuple[dict[str, Any], Tensor]:
    """Puts the examples of a batch side by side so that all answers start at the same place.

    Questions are padded on the left, answers on the right, each to a multiple of `LENGTH_STEP`.

    Returns:
        The model's inputs, each [B, Q + A], and the answers' tokens [B, A] with -1 where there is none.
    """
    question_length = _round_up(max(len(example.question) for example in batch))
    answer_length = _round_up(max(len(example.answer) for example in batch))
    shape = (len(batch), question_length + answer_length)
    input_ids, mask = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
    targets = torch.full((len(batch), answer_length), -1)
    for row, example in enumerate(batch):
        start, end = question_length - len(example.question), question_length + len(example.answer)
        input_ids[row, start:end] = torch.tensor([*example.question, *example.answer])
        mask[row, start:end] = 1
        targets[row, : len(example.answer)] = torch.tensor(example.answer)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    inputs = {"input_ids": input_ids, "attention_mask": mask, "position_ids": positions}
    return {name: tensor.to(device) for name, tensor in inputs.items()}, targets.to(device)


def _round_up(length: int) -> int:
    return math.ceil(length / LENGTH_STEP) * LENGTH_STEP
