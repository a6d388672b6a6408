"""A teacher in this process: vLLM's offline engine, for the cheapest tokens of a GPU.

Answers are constrained by the agent's JSON schema (xgrammar). The instructions that all requests of an agent
share come first, so the prefix cache computes them once. All requests of a batch are in the engine together,
and each answer is handed on (and so cached) as it ends: no slow answer holds up the next, and a crash loses
only the answers under way.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import islice
from typing import Any

from contracts.errors import UserError
from models.knowledge.config import VllmTeacherConfig
from models.knowledge.teachers.chat_messages import ChatPrompt, make_chat_prompt
from models.knowledge.teachers.child_processes import kill_children_with_parent
from models.knowledge.teachers.json_answers import extract_json_object
from models.knowledge.teachers.model_identity import identify_model
from models.knowledge.teachers.schema_trial import SCHEMA_TRIAL, check_schema_trial
from models.knowledge.teachers.teacher import TeacherRequest, TeacherResponse, TokenPrice
from models.knowledge.teachers.transformers_teacher import explain_load_errors

_MACHINE_ARGS = {"tensor_parallel_size", "gpu_memory_utilization"}
"""Arguments of the engine that suit the machine and leave the cached answers valid."""
_GPU_MEMORY_UTILIZATION = 0.9
"""Share of the GPU's memory for weights and caches, where `engine_args` names no other."""
_MAX_ERROR_CHARS = 300
_REMEDY = "This engine cannot be trusted with schemas: install the versions of requirements/vllm.lock."


class _RequestRefusedError(Exception):
    """The engine did not take a request."""


class VllmTeacher:
    """Asks a model that it loads itself, at the first request that no cache answers."""

    def __init__(self, config: VllmTeacherConfig) -> None:
        self._config = config
        self.name = f"vllm-{identify_model(config.model, config.revision)}"
        included = {"temperature", "seed", "max_tokens", "max_model_len", "dtype", "chat_template_kwargs"}
        answer_args = {name: value for name, value in config.engine_args.items() if name not in _MACHINE_ARGS}
        self.sampling: dict[str, Any] = config.model_dump(include=included) | {"engine_args": answer_args}
        self.price = TokenPrice(config.price_per_million_input_tokens, config.price_per_million_output_tokens)

    def answer_batch(self, requests: Sequence[TeacherRequest]) -> Iterator[TeacherResponse]:
        """Yields each answer as it ends; `seconds` are shares of the wall time, which add up to the engine's.

        Raises:
            UserError: the model cannot be loaded, or the engine ignores schemas.
        """
        return self.answer_live(iter(requests))

    def answer_live(self, feed: Iterator[TeacherRequest]) -> Iterator[TeacherResponse]:
        """The same for a live feed: the engine holds up to `concurrency` of its requests."""
        return _run_vllm_engine(lambda: self._llm, map(make_chat_prompt, feed), self._config)

    @cached_property
    def _llm(self) -> Any:
        llm = _load_vllm_engine(self._config)
        self._reaper = kill_children_with_parent()
        (response,) = _run_vllm_engine(lambda: llm, iter([SCHEMA_TRIAL]), self._config)
        check_schema_trial(response, remedy=_REMEDY)
        return llm


def _load_vllm_engine(config: VllmTeacherConfig) -> Any:
    # Nothing is reported to anybody from inside a user's cluster.
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    try:
        from vllm import LLM
        from vllm.exceptions import VLLMError
    except ImportError as error:
        raise UserError(
            f"teacher.kind vllm needs the environment of requirements/vllm.lock, this is another ({error}): "
            "run the step in the vllm image or after scripts/setup.sh vllm, or use kind openai with a server."
        ) from error
    arguments: dict[str, Any] = {
        "model": config.model,
        "revision": config.revision,
        "max_model_len": limit_positions(config),
        "gpu_memory_utilization": _GPU_MEMORY_UTILIZATION,
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


def limit_positions(config: VllmTeacherConfig) -> int:
    """`max_model_len`, or what a model of fewer positions has: the engine refuses more."""
    from transformers import AutoConfig

    with explain_load_errors("teacher", config.model):
        model_config = AutoConfig.from_pretrained(
            config.model, revision=config.revision, trust_remote_code=False
        )
    text_config = model_config.get_text_config()
    rope = getattr(text_config, "rope_parameters", None) or getattr(text_config, "rope_scaling", None) or {}
    num_positions = getattr(text_config, "max_position_embeddings", None)
    # Scaled positions are the engine's to compute.
    if num_positions is None or rope.get("rope_type", "default") != "default":
        return config.max_model_len
    return min(config.max_model_len, int(num_positions))


def _run_vllm_engine(
    get_llm: Callable[[], Any], chats: Iterator[ChatPrompt], config: VllmTeacherConfig
) -> Iterator[TeacherResponse]:
    """Keeps the engine filled with chats and yields the answers in the order in which they end."""
    chat_queue = enumerate(chats)  # a live feed: it may end now and go on later
    numbers_by_id: dict[str, int] = {}
    last_time = time.perf_counter()
    try:
        while True:
            refused_responses = []
            for number, chat in islice(chat_queue, config.concurrency - len(numbers_by_id)):
                try:
                    numbers_by_id[_enqueue_chat(get_llm(), chat, config)] = number
                except _RequestRefusedError as error:
                    refused_responses.append(TeacherResponse(number, "", error=str(error)))
            yield from refused_responses
            if numbers_by_id:
                ended_outputs = _step_vllm_engine(get_llm().llm_engine, numbers_by_id)
                now = time.perf_counter()
                for number, output in ended_outputs:
                    yield _read_engine_output(number, output, (now - last_time) / len(ended_outputs))
                last_time = now if ended_outputs else last_time
            elif not refused_responses:
                return
    finally:  # also when nobody wants the rest
        if numbers_by_id:
            get_llm().llm_engine.abort_request(list(numbers_by_id))


def _step_vllm_engine(engine: Any, numbers_by_id: dict[str, int]) -> list[tuple[int, Any]]:
    """One more token for all; returns the outputs that are complete with it, by number of request."""
    ended_outputs = [
        output for output in engine.step() if output.finished and output.request_id in numbers_by_id
    ]
    return [(numbers_by_id.pop(output.request_id), output) for output in ended_outputs]


def _enqueue_chat(llm: Any, chat: ChatPrompt, config: VllmTeacherConfig) -> str:
    """Hands a chat to the engine and returns the id that its answer will carry.

    Raises:
        _RequestRefusedError: the request itself is at fault, being longer than the context, say.
    """
    from vllm import SamplingParams
    from vllm.exceptions import VLLMClientError
    from vllm.sampling_params import StructuredOutputsParams

    sampling_params = SamplingParams(
        temperature=config.temperature,
        seed=chat.derive_sampling_seed(config.seed)
        if config.temperature
        else None,  # seeded sampling is slower
        max_tokens=chat.limit_answer_tokens(config.max_tokens),
        logprobs=0 if config.confidence else None,  # 0: of the chosen token alone
        structured_outputs=StructuredOutputsParams(json=chat.schema),
    )
    template_kwargs = dict(config.chat_template_kwargs)
    try:
        (request_id,) = llm.enqueue_chat(
            [chat.messages], sampling_params, use_tqdm=False, chat_template_kwargs=template_kwargs
        )
    except (ValueError, VLLMClientError) as error:
        raise _RequestRefusedError(f"vLLM refused the request: {error}"[:_MAX_ERROR_CHARS]) from error
    # The engine makes ids unique by a suffix (`7-1f0c23ab`), which its outputs don't carry.
    return str(request_id).partition("-")[0]


def _read_engine_output(number: int, output: Any, seconds: float) -> TeacherResponse:
    completion = output.outputs[0]
    logprob_sum = completion.cumulative_logprob
    return TeacherResponse(
        number,
        extract_json_object(completion.text),  # a thinking model may think first where `engine_args` let it
        tokens_in=len(output.prompt_token_ids),
        tokens_out=len(completion.token_ids),
        seconds=seconds,
        truncated=completion.finish_reason == "length",
        mean_logprob=None if logprob_sum is None else logprob_sum / max(len(completion.token_ids), 1),
    )
