"""A teacher in this process: plain `transformers`, for models or machines that vLLM does not run on.

Nothing constrains the answers: invalid ones are repaired once and then quarantined, so expect to lose more of them than
with the other teachers. Weights are read from safetensors only, and no code of the model's repository is run.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from contracts.errors import UserError
from models.knowledge.config import TransformersTeacherConfig
from models.knowledge.teachers.base import Price, Request, Response
from models.knowledge.teachers.chat import bare_json, make_chat
from models.knowledge.teachers.identity import identify_model


class TransformersTeacher:
    """Asks a model that it loads itself, at the first request that no cache answers."""

    def __init__(self, config: TransformersTeacherConfig) -> None:
        self._config = config
        self.name = f"transformers-{identify_model(config.model, config.revision)}"
        # A batch's make-up decides its padding and its random numbers, and so, in small ways, its answers.
        fields = {"temperature", "seed", "max_tokens", "batch_size", "dtype", "chat_template_kwargs"}
        self.sampling: dict[str, Any] = config.model_dump(include=fields)
        self.price = Price(config.price_per_million_input_tokens, config.price_per_million_output_tokens)

    def answer(self, requests: Sequence[Request]) -> Iterator[Response]:
        """Yields the answers batch by batch, those of similar length together, so that little is padded.

        Raises:
            UserError: the model cannot be loaded, or has no chat template.
        """
        if not requests:
            return
        chats = [make_chat(request) for request in requests]
        prompts = [self._render(chat.messages) for chat in chats]
        room = self._max_positions
        fitting = []
        for number, chat in enumerate(chats):
            if len(prompts[number]) + chat.max_tokens(self._config.max_tokens) > room:
                length = f"{len(prompts[number])} tokens and {chat.max_tokens(self._config.max_tokens)} for the answer"
                yield Response(number, "", error=f"the request is too long for the model: {length}, {room} fit")
            else:
                fitting.append(number)
        fitting.sort(key=lambda number: (chats[number].attempt, len(prompts[number])))
        for start in range(0, len(fitting), self._config.batch_size):
            part = fitting[start : start + self._config.batch_size]
            max_tokens = max(chats[number].max_tokens(self._config.max_tokens) for number in part)
            yield from self._generate(part, [prompts[number] for number in part], max_tokens)

    def _render(self, messages: list[dict[str, str]]) -> list[int]:
        kwargs = dict(self._config.chat_template_kwargs)
        text = self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **kwargs)
        tokens: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return tokens

    def _generate(self, part: Sequence[int], prompts: Sequence[list[int]], max_tokens: int) -> Iterator[Response]:
        import torch

        start = time.perf_counter()
        padded = self._tokenizer.pad({"input_ids": list(prompts)}, return_tensors="pt").to(self._model.device)
        torch.manual_seed(self._config.seed)
        with torch.inference_mode():
            output = self._model.generate(**padded, **self._sampling_arguments(), max_new_tokens=max_tokens)
        answers = output[:, padded["input_ids"].shape[1] :].tolist()
        seconds = (time.perf_counter() - start) / len(part)
        for number, prompt, answer in zip(part, prompts, answers, strict=True):
            yield self._read(number, len(prompt), answer, seconds)

    def _sampling_arguments(self) -> dict[str, Any]:
        pad = {"pad_token_id": self._tokenizer.pad_token_id}
        if self._config.temperature == 0:
            return {"do_sample": False, "temperature": None, "top_p": None, "top_k": None, **pad}
        return {"do_sample": True, "temperature": self._config.temperature, **pad}

    def _read(self, number: int, tokens_in: int, answer: list[int], seconds: float) -> Response:
        ends = [place for place, token in enumerate(answer) if token in self._end_tokens]
        kept = answer[: ends[0] + 1] if ends else answer
        text = self._tokenizer.decode(kept, skip_special_tokens=True)
        return Response(number, bare_json(text), tokens_in, len(kept), seconds, truncated=not ends)

    @cached_property
    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        with _loading(self._config.model):
            tokenizer = AutoTokenizer.from_pretrained(
                self._config.model, revision=self._config.revision, padding_side="left"
            )
        if not tokenizer.chat_template:
            raise UserError(f"teacher.model: '{self._config.model}' has no chat template; choose an instruct model.")
        tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
        return tokenizer

    @cached_property
    def _model(self) -> Any:
        import torch
        from transformers import AutoModelForCausalLM

        device = self._config.device
        if device == "auto":
            device = "cuda:0" if torch.cuda.is_available() else "cpu"
        with _loading(self._config.model):
            model = AutoModelForCausalLM.from_pretrained(
                self._config.model, revision=self._config.revision, dtype=self._config.dtype, use_safetensors=True
            )
            return model.to(device).eval()

    @property
    def _end_tokens(self) -> set[int]:
        end = self._model.generation_config.eos_token_id
        return {*(end if isinstance(end, list) else [end]), self._tokenizer.eos_token_id}

    @property
    def _max_positions(self) -> int:
        return int(getattr(self._model.config, "max_position_embeddings", 2**31))


@contextmanager
def _loading(model: str) -> Iterator[None]:
    """Turns what a wrong name, a missing file or a lost network raises into a `UserError`."""
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"teacher: transformers cannot load '{model}': {error}") from error
