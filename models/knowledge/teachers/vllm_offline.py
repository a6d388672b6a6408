"""A teacher in this process: vLLM's offline engine, for the cheapest tokens of a GPU.

Notable: answers are constrained by the agent's JSON schema (xgrammar); the instructions that all requests of an agent
share come first, so the prefix cache computes them once; all requests of a batch are in the engine together, and each
answer is handed on (and so cached) as it ends, so that no slow answer holds up the next and a crash loses only the
answers under way.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import islice
from typing import Any

from contracts.errors import UserError
from models.knowledge.config import VllmTeacherConfig
from models.knowledge.teachers.base import Price, Request, Response
from models.knowledge.teachers.canary import CANARY, check_canary
from models.knowledge.teachers.chat import Chat, make_chat
from models.knowledge.teachers.identity import identify_model
from models.knowledge.teachers.reaper import end_children_with_us

_MAX_ERROR_CHARS = 300
_REMEDY = "This engine cannot be trusted with schemas: install the versions of requirements/vllm.lock."


class _RefusedError(Exception):
    """The engine did not take a request."""


class VllmTeacher:
    """Asks a model that it loads itself, at the first request that no cache answers."""

    def __init__(self, config: VllmTeacherConfig) -> None:
        self._config = config
        self.name = f"vllm-{identify_model(config.model, config.revision)}"
        fields = {"temperature", "seed", "max_tokens", "max_model_len", "dtype", "chat_template_kwargs", "engine_args"}
        self.sampling: dict[str, Any] = config.model_dump(include=fields)
        self.price = Price(config.price_per_million_input_tokens, config.price_per_million_output_tokens)

    def answer(self, requests: Sequence[Request]) -> Iterator[Response]:
        """Yields each answer as it ends; `seconds` are shares of the wall time, so they add up to the engine's time.

        Raises:
            UserError: the model cannot be loaded, or the engine ignores schemas.
        """
        return self.answer_live(iter(requests))

    def answer_live(self, feed: Iterator[Request]) -> Iterator[Response]:
        """The same for a live feed: the engine holds up to `concurrency` of its requests."""
        return _run(lambda: self._llm, map(make_chat, feed), self._config)

    @cached_property
    def _llm(self) -> Any:
        llm = _load(self._config)
        self._reaper = end_children_with_us()
        (response,) = _run(lambda: llm, iter([CANARY]), self._config)
        check_canary(response, remedy=_REMEDY)
        return llm


def _load(config: VllmTeacherConfig) -> Any:
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")  # nothing is reported to anybody from inside a user's cluster
    try:
        from vllm import LLM
        from vllm.exceptions import VLLMError
    except ImportError as error:
        raise UserError(
            f"teacher.kind vllm needs the environment of requirements/vllm.lock, and this is another ({error}): run "
            "the step in the vllm image or after scripts/setup.sh vllm, or use kind openai with a vLLM server."
        ) from error
    arguments: dict[str, Any] = {
        "model": config.model,
        "revision": config.revision,
        "tensor_parallel_size": config.tensor_parallel,
        "max_model_len": config.max_model_len,
        "gpu_memory_utilization": config.gpu_memory,
        "dtype": config.dtype,
        "seed": config.seed,
        "load_format": "safetensors",  # never a pickle
        "enable_prefix_caching": True,
        # Without the second, answers are cut off in white space.
        "structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True},
    }
    try:
        return LLM(**(arguments | config.engine_args))
    except (OSError, ValueError, RuntimeError, TypeError, VLLMError) as error:
        raise UserError(f"teacher: vLLM cannot load '{config.model}': {error}") from error


def _run(get_llm: Callable[[], Any], chats: Iterator[Chat], config: VllmTeacherConfig) -> Iterator[Response]:
    """Keeps the engine filled with chats and yields the answers in the order in which they end."""
    queue = enumerate(chats)  # a live feed: it may end now and go on later
    numbers: dict[str, int] = {}
    last = time.perf_counter()
    try:
        while True:
            refused = []
            for number, chat in islice(queue, config.concurrency - len(numbers)):
                try:
                    numbers[_enqueue(get_llm(), chat, config)] = number
                except _RefusedError as error:
                    refused.append(Response(number, "", error=str(error)))
            yield from refused
            if numbers:
                ended = _step(get_llm().llm_engine, numbers)
                now = time.perf_counter()
                for number, output in ended:
                    yield _read(number, output, (now - last) / len(ended))
                last = now if ended else last
            elif not refused:
                return
    finally:  # also when nobody wants the rest
        if numbers:
            get_llm().llm_engine.abort_request(list(numbers))


def _step(engine: Any, numbers: dict[str, int]) -> list[tuple[int, Any]]:
    """One more token for all; returns the outputs that are complete with it, by number of request."""
    ended = [output for output in engine.step() if output.finished and output.request_id in numbers]
    return [(numbers.pop(output.request_id), output) for output in ended]


def _enqueue(llm: Any, chat: Chat, config: VllmTeacherConfig) -> str:
    """Hands a chat to the engine and returns the id that its answer will carry.

    Raises:
        _RefusedError: the request itself is at fault, being longer than the context, say.
    """
    from vllm import SamplingParams
    from vllm.exceptions import VLLMClientError
    from vllm.sampling_params import StructuredOutputsParams

    sampling = SamplingParams(
        temperature=config.temperature,
        seed=chat.seed(config.seed) if config.temperature else None,  # seeded sampling is slower
        max_tokens=chat.max_tokens(config.max_tokens),
        structured_outputs=StructuredOutputsParams(json=chat.schema),
    )
    template = dict(config.chat_template_kwargs)
    try:
        (request_id,) = llm.enqueue_chat([chat.messages], sampling, use_tqdm=False, chat_template_kwargs=template)
    except (ValueError, VLLMClientError) as error:
        raise _RefusedError(f"vLLM refused the request: {error}"[:_MAX_ERROR_CHARS]) from error
    # The engine makes ids unique by a suffix (`7-1f0c23ab`), which its outputs don't carry.
    return str(request_id).partition("-")[0]


def _read(number: int, output: Any, seconds: float) -> Response:
    completion = output.outputs[0]
    return Response(
        number,
        completion.text,
        tokens_in=len(output.prompt_token_ids),
        tokens_out=len(completion.token_ids),
        seconds=seconds,
        truncated=completion.finish_reason == "length",
    )
