"""Talks to Triton over gRPC: asynchronous scoring for the gateway, blocking control for deployment."""

import asyncio
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeVar

import grpc  # type: ignore[import-untyped]
import numpy as np
import numpy.typing as npt
from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.grpc.aio import InferenceServerClient as AsyncClient
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from contracts.array_types import FloatArray
from models.ranker.inputs.item_encoder import Feed
from serving.config import TritonConfig

ModelOutputs = dict[str, FloatArray]
_Answer = TypeVar("_Answer")

# A server that restarts is found within this; much less would spin.
_RETRY_PAUSE_S: Final = 0.02
# Loading a model compiles and warms it up on every instance, which may take a minute.
_TIMEOUT_S: Final = 120.0
_CHANNEL: Final = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # Without pings, a server that vanished without a word would be noticed after minutes.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.lb_policy_name", "round_robin"),
    # gRPC waits up to two minutes before it tries a server again that was away; channels share that wait by
    # default.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.use_local_subchannel_pool", 1),
]


class TritonError(Exception):
    """Triton did not answer in time, or answered with an error."""


class TritonScorer:
    """One gRPC channel for the whole process; it opens with the first call, inside the event loop.

    Several servers behind the address take turns.
    """

    def __init__(self, config: TritonConfig) -> None:
        """Notes the address."""
        self._target = make_channel_target(config)
        self._client: AsyncClient | None = None
        self._is_down = False

    async def score(
        self, model: str, feed: Feed, outputs: tuple[str, ...], *, timeout_s: float
    ) -> ModelOutputs:
        """Runs a model.

        A server that is not reachable is tried again as long as the time allows; nothing else is. Once it was
        away for all of a request's time, requests try it only once, until one gets through: they would all
        wait for nothing.

        Raises:
            TritonError: no answer within `timeout_s`, or an error.
        """
        deadline, was_unreachable = time.monotonic() + timeout_s, False
        while True:
            seconds_left = max(deadline - time.monotonic(), 0.001)
            try:
                model_outputs = await self._infer_once(model, feed, outputs, timeout_s=seconds_left)
            except InferenceServerException as error:
                is_unreachable = error.status() == str(grpc.StatusCode.UNAVAILABLE)
                if not is_unreachable or self._is_down or time.monotonic() + _RETRY_PAUSE_S >= deadline:
                    # The last try may have had no time left to find out.
                    self._is_down = is_unreachable or was_unreachable
                    raise TritonError(f"{error.status()}: {error.message()}") from error
                was_unreachable = True
            else:
                self._is_down = False
                return model_outputs
            await asyncio.sleep(_RETRY_PAUSE_S)

    async def close(self) -> None:
        """Closes the channel."""
        if self._client:
            await self._client.close()

    async def _infer_once(
        self, model: str, feed: Feed, outputs: tuple[str, ...], *, timeout_s: float
    ) -> ModelOutputs:
        if self._client is None:
            self._client = AsyncClient(self._target, channel_args=_CHANNEL)
        answer = await self._client.infer(
            model,
            _make_inputs(feed),
            outputs=[InferRequestedOutput(output_name) for output_name in outputs],
            client_timeout=timeout_s,
        )
        return {output_name: answer.as_numpy(output_name) for output_name in outputs}


class TritonControl:
    """Loads, unloads and checks models on every server; for deployment, not for requests."""

    def __init__(self, config: TritonConfig) -> None:
        """Opens the channels (lazily: no call is made)."""
        self._config = config
        self._clients_by_server = _open_clients(list_servers(config))

    def join_new_servers(self) -> bool:
        """Takes in the servers that started since, as an autoscaler starts them; were there any?"""
        new_servers = set(list_servers(self._config)) - self._clients_by_server.keys()
        self._clients_by_server |= _open_clients(sorted(new_servers))
        return bool(new_servers)

    def is_live(self) -> bool:
        """Are all servers there?"""
        try:
            return all(client.is_server_live(client_timeout=2) for client in self._clients_by_server.values())
        except InferenceServerException:
            return False

    def load_model(self, model: str) -> None:
        """Loads a model, warm-up included, and checks that it is ready.

        Raises:
            TritonError: it could not be loaded.
        """

        def load(client: InferenceServerClient) -> None:
            client.load_model(model, client_timeout=_TIMEOUT_S)
            if not client.is_model_ready(model, client_timeout=_TIMEOUT_S):
                raise TritonError(f"Triton loaded '{model}', but it is not ready")

        self._ask_each(f"load '{model}'", load)

    def unload_model(self, model: str) -> None:
        """Unloads a model.

        Raises:
            TritonError: a server did not do it.
        """
        self._ask_each(
            f"unload '{model}'", lambda client: client.unload_model(model, client_timeout=_TIMEOUT_S)
        )

    def list_loaded_models(self) -> set[str]:
        """Names of the models that are ready somewhere.

        Raises:
            TritonError: a server did not tell.
        """
        indices = self._ask_each(
            "list its models", lambda client: client.get_model_repository_index(client_timeout=_TIMEOUT_S)
        )
        return {entry.name for index in indices for entry in index.models if entry.state == "READY"}

    def run_on_each_server(
        self, model: str, feed: Mapping[str, npt.NDArray[np.generic]], outputs: tuple[str, ...]
    ) -> list[ModelOutputs]:
        """Runs a model once on each server.

        Raises:
            TritonError: a server did not answer, or with an error.
        """
        requested_outputs = [InferRequestedOutput(output_name) for output_name in outputs]
        answers = self._ask_each(
            f"run '{model}'",
            lambda client: client.infer(
                model, _make_inputs(feed), outputs=requested_outputs, client_timeout=_TIMEOUT_S
            ),
        )
        return [{output_name: answer.as_numpy(output_name) for output_name in outputs} for answer in answers]

    def close(self) -> None:
        """Closes the channels."""
        for client in self._clients_by_server.values():
            client.close()

    def _ask_each(self, what: str, ask: Callable[[InferenceServerClient], _Answer]) -> list[_Answer]:
        """Asks one server after the other; a failure names the server."""
        answers = []
        for server, client in self._clients_by_server.items():
            try:
                answers.append(ask(client))
            except InferenceServerException as error:
                raise TritonError(f"Triton at {server} could not {what}: {error.message()}") from error
        return answers


def list_servers(config: TritonConfig) -> tuple[str, ...]:
    """gRPC address of each server; a host name may stand for several (a headless service)."""
    if config.addresses:
        return config.addresses
    try:
        found = socket.getaddrinfo(
            config.host, config.grpc_port, family=socket.AF_INET, type=socket.SOCK_STREAM
        )
    except OSError:
        # Whoever calls it says that nobody answers there.
        return (f"{config.host}:{config.grpc_port}",)
    ips = {str(address[0]) for *_, address in found}
    return tuple(f"{ip}:{config.grpc_port}" for ip in sorted(ips))


def _open_clients(servers: Iterable[str]) -> dict[str, InferenceServerClient]:
    return {server: InferenceServerClient(server, channel_args=_CHANNEL) for server in servers}


def make_channel_target(config: TritonConfig) -> str:
    """What a channel to all servers is opened with (gRPC's naming)."""
    if config.addresses:
        return f"ipv4:{','.join(config.addresses)}"
    # By its name, so that gRPC asks for the addresses again when servers come and go.
    return f"{config.host}:{config.grpc_port}"


def _make_inputs(feed: Mapping[str, npt.NDArray[np.generic]]) -> list[InferInput]:
    return [
        InferInput(input_name, list(values.shape), np_to_triton_dtype(values.dtype)).set_data_from_numpy(
            values
        )
        for input_name, values in feed.items()
    ]
