"""Talking to Triton over gRPC: asynchronous scoring for the gateway, blocking control for deployment."""

import asyncio
import time
from collections.abc import Mapping

import grpc  # type: ignore[import-untyped]
import numpy as np
import numpy.typing as npt
from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.grpc.aio import InferenceServerClient as AsyncClient
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from models.ranker.encoding import Feed
from serving.config import TritonConfig

Outputs = dict[str, npt.NDArray[np.float32]]

_RETRY_PAUSE_S = 0.02
_CHANNEL = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.lb_policy_name", "round_robin"),
    # gRPC waits up to two minutes before it tries a server again that was away; channels share that wait by default.
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
        self._address = address(config)
        self._client: AsyncClient | None = None
        self._is_down = False

    async def score(self, model: str, feed: Feed, outputs: tuple[str, ...], *, timeout_s: float) -> Outputs:
        """Runs a model.

        A server that is not reachable is tried again as long as the time allows; nothing else is. Once it was away for
        all of a request's time, requests try it only once, until one gets through: they would all wait for nothing.

        Raises:
            TritonError: no answer within `timeout_s`, or an error.
        """
        deadline, was_away = time.monotonic() + timeout_s, False
        while True:
            try:
                found = await self._infer(model, feed, outputs, timeout_s=max(deadline - time.monotonic(), 0.001))
            except InferenceServerException as error:
                unreachable = error.status() == str(grpc.StatusCode.UNAVAILABLE)
                if not unreachable or self._is_down or time.monotonic() + _RETRY_PAUSE_S >= deadline:
                    # The last try may have had no time left to find out.
                    self._is_down = unreachable or was_away
                    raise TritonError(f"{error.status()}: {error.message()}") from error
                was_away = True
            else:
                self._is_down = False
                return found
            await asyncio.sleep(_RETRY_PAUSE_S)

    async def close(self) -> None:
        """Closes the channel."""
        if self._client:
            await self._client.close()

    async def _infer(self, model: str, feed: Feed, outputs: tuple[str, ...], *, timeout_s: float) -> Outputs:
        if self._client is None:
            self._client = AsyncClient(self._address, channel_args=_CHANNEL)
        answer = await self._client.infer(
            model, _inputs(feed), outputs=[InferRequestedOutput(name) for name in outputs], client_timeout=timeout_s
        )
        return {name: answer.as_numpy(name) for name in outputs}


class TritonControl:
    """Loads, unloads and checks models on every server; for deployment, not for requests."""

    def __init__(self, config: TritonConfig) -> None:
        """Opens the channels (lazily: no call is made)."""
        self._clients = [InferenceServerClient(server, channel_args=_CHANNEL) for server in servers(config)]
        self._timeout_s = config.start_timeout_s

    def is_live(self) -> bool:
        """Are all servers there?"""
        try:
            return all(client.is_server_live(client_timeout=2) for client in self._clients)
        except InferenceServerException:
            return False

    def load(self, model: str) -> None:
        """Loads a model, warm-up included, and checks that it is ready.

        Raises:
            TritonError: it could not be loaded.
        """
        for client in self._clients:
            try:
                client.load_model(model, client_timeout=self._timeout_s)
                ready = client.is_model_ready(model, client_timeout=self._timeout_s)
            except InferenceServerException as error:
                raise TritonError(f"Triton could not load '{model}': {error.message()}") from error
            if not ready:
                raise TritonError(f"Triton loaded '{model}', but it is not ready")

    def unload(self, model: str) -> None:
        """Unloads a model."""
        for client in self._clients:
            client.unload_model(model, client_timeout=self._timeout_s)

    def loaded(self) -> set[str]:
        """Names of the models that are ready somewhere."""
        indices = [client.get_model_repository_index(client_timeout=self._timeout_s) for client in self._clients]
        return {model.name for index in indices for model in index.models if model.state == "READY"}

    def run(self, model: str, feed: Mapping[str, npt.NDArray[np.generic]], outputs: tuple[str, ...]) -> list[Outputs]:
        """Runs a model once on each server."""
        wanted = [InferRequestedOutput(name) for name in outputs]
        answers = [
            client.infer(model, _inputs(feed), outputs=wanted, client_timeout=self._timeout_s)
            for client in self._clients
        ]
        return [{name: answer.as_numpy(name) for name in outputs} for answer in answers]

    def close(self) -> None:
        """Closes the channels."""
        for client in self._clients:
            client.close()


def servers(config: TritonConfig) -> tuple[str, ...]:
    """gRPC address of each server."""
    return config.addresses or (f"{config.host}:{config.grpc_port}",)


def address(config: TritonConfig) -> str:
    """What a channel to all servers is opened with (gRPC's naming)."""
    return f"ipv4:{','.join(config.addresses)}" if config.addresses else servers(config)[0]


def _inputs(feed: Mapping[str, npt.NDArray[np.generic]]) -> list[InferInput]:
    return [
        InferInput(name, list(values.shape), np_to_triton_dtype(values.dtype)).set_data_from_numpy(values)
        for name, values in feed.items()
    ]
