"""A teacher in this process: plain `transformers`, for models or machines that vLLM does not run on.

Answers are held to their schema token by token. Weights are read from safetensors only, and no code of the
model's repository is run.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from types import MappingProxyType
from typing import Any

from jinja2.exceptions import TemplateError

from contracts.errors import UserError
from models.knowledge.config import TransformersTeacherConfig
from models.knowledge.teachers.answer_logprobs import LogprobRecorder
from models.knowledge.teachers.chat_messages import make_chat_prompt
from models.knowledge.teachers.json_answers import extract_json_object
from models.knowledge.teachers.model_identity import identify_model
from models.knowledge.teachers.teacher import TeacherRequest, TeacherResponse, TokenPrice


class TransformersTeacher:
    """Asks a model that it loads itself, at the first request that no cache answers."""

    def __init__(self, config: TransformersTeacherConfig) -> None:
        self._config = config
        self.name = f"transformers-{identify_model(config.model, config.revision)}"
        # A batch's make-up decides its padding and its random numbers, and so, in small ways, its answers.
        sampling_fields = {"temperature", "seed", "max_tokens", "batch_size", "dtype", "chat_template_kwargs"}
        sampling_fields |= {"constrained"}
        self.sampling: dict[str, Any] = config.model_dump(include=sampling_fields)
        self.price = TokenPrice(config.price_per_million_input_tokens, config.price_per_million_output_tokens)

    def answer_batch(self, requests: Sequence[TeacherRequest]) -> Iterator[TeacherResponse]:
        """Yields the answers batch by batch, those of similar length together, so that little is padded.

        Raises:
            UserError: the model cannot be loaded, or has no chat template.
        """
        if not requests:
            return
        chats = [make_chat_prompt(request) for request in requests]
        prompts = [self._tokenize_messages(chat.messages) for chat in chats]
        answer_limits = [chat.limit_answer_tokens(self._config.max_tokens) for chat in chats]
        max_positions = self._max_positions
        fitting_numbers = []
        for number, (prompt, answer_limit) in enumerate(zip(prompts, answer_limits, strict=True)):
            if len(prompt) + answer_limit > max_positions:
                length = f"{len(prompt)} tokens and {answer_limit} for the answer, {max_positions} fit"
                yield TeacherResponse(number, "", error=f"the request is too long for the model: {length}")
            else:
                fitting_numbers.append(number)
        # Prompts of similar length together: little is padded. Repairs apart: they may answer longer.
        fitting_numbers.sort(key=lambda number: (chats[number].attempt, len(prompts[number])))
        for start in range(0, len(fitting_numbers), self._config.batch_size):
            batch_numbers = fitting_numbers[start : start + self._config.batch_size]
            batch_limit = max(answer_limits[number] for number in batch_numbers)
            batch_prompts = [prompts[number] for number in batch_numbers]
            schemas = [chats[number].schema for number in batch_numbers]
            for response in self._generate_batch(batch_numbers, batch_prompts, schemas, batch_limit):
                expected_keys = chats[response.number].schema["required"]
                yield response._replace(text=extract_json_object(response.text, expected_keys))

    def _tokenize_messages(self, messages: list[dict[str, str]]) -> list[int]:
        prompt_text = render_chat(
            self._tokenizer,
            messages,
            model=f"teacher.model: '{self._config.model}'",
            template_kwargs=self._config.chat_template_kwargs,
        )
        token_ids: list[int] = self._tokenizer(prompt_text, add_special_tokens=False)["input_ids"]
        return token_ids

    def _generate_batch(
        self,
        chat_numbers: Sequence[int],
        prompts: Sequence[list[int]],
        schemas: Sequence[dict[str, Any]],
        max_tokens: int,
    ) -> Iterator[TeacherResponse]:
        import torch

        start = time.perf_counter()
        recorder = LogprobRecorder() if self._config.confidence else None
        # Padded on the left, since generation goes on at the right end.
        padded_prompts = self._tokenizer.pad({"input_ids": list(prompts)}, return_tensors="pt").to(
            self._model.device
        )
        torch.manual_seed(self._config.seed)
        with torch.inference_mode():
            output_ids = self._model.generate(
                **padded_prompts,
                **self._sampling_arguments(),
                max_new_tokens=max_tokens,
                logits_processor=[*([recorder] if recorder else []), *self._constrain_answers(schemas)],
            )
        answer_ids = output_ids[:, padded_prompts["input_ids"].shape[1] :].tolist()
        seconds = (time.perf_counter() - start) / len(chat_numbers)
        logprobs = recorder.read_logprobs(output_ids) if recorder else None
        for row, (number, prompt, answer) in enumerate(zip(chat_numbers, prompts, answer_ids, strict=True)):
            response = self._read_generated_answer(number, len(prompt), answer, seconds)
            if logprobs is not None:
                answer_logprobs = logprobs[row, : response.tokens_out]
                response = response._replace(mean_logprob=float(answer_logprobs.mean()))
            yield response

    def _constrain_answers(self, schemas: Sequence[dict[str, Any]]) -> list[Any]:
        if not self._config.constrained:
            return []
        from models.knowledge.teachers.constrained_decoding import SchemaConstraint

        return [SchemaConstraint(self._token_table, schemas)]

    @cached_property
    def _token_table(self) -> Any:
        from models.knowledge.teachers.constrained_decoding import build_token_table

        return build_token_table(self._tokenizer, self._model.config.vocab_size)

    def _sampling_arguments(self) -> dict[str, Any]:
        pad_argument = {"pad_token_id": self._tokenizer.pad_token_id}
        if self._config.temperature == 0:
            return {"do_sample": False, "temperature": None, "top_p": None, "top_k": None, **pad_argument}
        return {"do_sample": True, "temperature": self._config.temperature, **pad_argument}

    def _read_generated_answer(
        self, number: int, tokens_in: int, answer_ids: list[int], seconds: float
    ) -> TeacherResponse:
        end_places = [place for place, token in enumerate(answer_ids) if token in self._end_tokens]
        kept_ids = answer_ids[: end_places[0] + 1] if end_places else answer_ids
        text = self._tokenizer.decode(kept_ids, skip_special_tokens=True)
        return TeacherResponse(number, text, tokens_in, len(kept_ids), seconds, truncated=not end_places)

    @cached_property
    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        with explain_load_errors("teacher", self._config.model):
            tokenizer = AutoTokenizer.from_pretrained(
                self._config.model,
                revision=self._config.revision,
                padding_side="left",
                trust_remote_code=False,
            )
        if not tokenizer.chat_template:
            raise UserError(
                f"teacher.model: '{self._config.model}' has no chat template; choose an instruct model."
            )
        # Padding is masked, so any token will do where the model has none for it.
        tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
        return tokenizer

    @cached_property
    def _model(self) -> Any:
        import torch
        from transformers import AutoModelForCausalLM

        device = "cuda:0" if torch.cuda.is_available() else "cpu"
        with explain_load_errors("teacher", self._config.model):
            model = AutoModelForCausalLM.from_pretrained(
                self._config.model,
                revision=self._config.revision,
                dtype=self._config.dtype,
                use_safetensors=True,
                trust_remote_code=False,
            )
            return model.to(device).eval()

    @property
    def _end_tokens(self) -> set[int]:
        end_ids = self._model.generation_config.eos_token_id
        return {*(end_ids if isinstance(end_ids, list) else [end_ids]), self._tokenizer.eos_token_id}

    @property
    def _max_positions(self) -> int:
        return int(getattr(self._model.config, "max_position_embeddings", 2**31))


def render_chat(
    tokenizer: Any,
    messages: Sequence[dict[str, str]],
    *,
    model: str,
    template_kwargs: Mapping[str, Any] = MappingProxyType({}),
) -> str:
    """Puts messages into a model's chat template, up to where its answer starts.

    Args:
        tokenizer: The model's.
        messages: The agents' messages.
        model: For errors: the setting and the model.
        template_kwargs: What else the template is told.

    Raises:
        UserError: The template refuses the messages.
    """
    try:
        prompt_text: str = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, **template_kwargs
        )
    except TemplateError as error:
        if messages[0]["role"] != "system":
            raise UserError(f"{model}: its chat template refuses the agents' messages: {error}") from error
        # Some models know no system message, or no two messages of a user in a row.
        merged_text = "\n\n".join(message["content"] for message in messages)
        merged_messages = [{"role": "user", "content": merged_text}]
        return render_chat(tokenizer, merged_messages, model=model, template_kwargs=template_kwargs)
    return prompt_text


@contextmanager
def explain_load_errors(setting: str, model: str) -> Iterator[None]:
    """Turns what a wrong name, a missing or damaged file or a lost network raises into a `UserError`."""
    try:
        yield
    except Exception as error:  # safetensors and tokenizers have errors of their own, which share no base
        fault = str(error) or type(error).__name__
        raise UserError(
            f"{setting}: transformers cannot load '{model}': {fault}. Give a hub name or a local folder of a "
            "causal language model, with safetensors and all files whole."
        ) from error
