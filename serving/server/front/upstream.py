"""Triton behind the front, over gRPC on a socket that this user alone may open."""

import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2 as messages

from serving.server.front.refused import Refused
from serving.server.front.rules import BYTES, DTYPES, ModelRule, join_bytes, unknown

SERVICE = "inference.GRPCInferenceService"
EXTENSIONS = ("model_configuration", "binary_tensor_data", "statistics", "generate")
READY = "READY"  # state of a model's version
FRESH = 1.0  # seconds that what is known of a model is believed
TRIAL_TIMEOUT = 30.0  # seconds; a model that is busy for longer is not thereby dead
TRIAL_SIDE = 32  # for sides that are free
_DEAD = (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNKNOWN)
_CHANNEL = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
]


class Upstream:
    """Calls of Triton. Belongs to the event loop in which it is made.

    Every call raises Refused with Triton's own code and message.
    """

    def __init__(self, address: str) -> None:
        self._channel = grpc.aio.insecure_channel(address, _CHANNEL)
        self._methods: dict[str, Callable[..., Awaitable[bytes]]] = {}
        self._rules: dict[tuple[str, str], tuple[float, ModelRule]] = {}

    async def call(self, method: str, message: bytes, timeout: float | None = None) -> bytes:
        """A call of the service, message and answer as bytes. Cancelling it cancels Triton's work on it."""
        if method not in self._methods:
            self._methods[method] = self._channel.unary_unary(method if "/" in method else f"/{SERVICE}/{method}")
        try:
            return await self._methods[method](message, timeout=timeout)
        except grpc.aio.AioRpcError as error:
            raise Refused(error.details() or error.code().name, error.code()) from error

    async def ask(self, method: str, timeout: float | None = 10.0, **fields: Any) -> Any:
        """The same with fields of the request's message -> the answer's message."""
        request, answer = getattr(messages, f"{method}Request"), getattr(messages, f"{method}Response")
        found = answer()
        found.ParseFromString(await self.call(method, request(**fields).SerializeToString(), timeout))
        return found

    async def metadata(self) -> Any:
        """What the server says of itself, with the extensions that the front lets through."""
        found = await self.ask("ServerMetadata")
        open_ones = [name for name in found.extensions if name in EXTENSIONS]
        del found.extensions[:]
        found.extensions.extend(open_ones)
        return found

    async def models(self) -> list[Any]:
        """Every version of every model that there is: name, version, state, reason."""
        return list((await self.ask("RepositoryIndex")).models)

    async def rule(self, name: str, version: str) -> ModelRule:
        """What a model takes; version "" is the newest. Raises Refused for one that the server does not have."""
        known = self._rules.get((name, version))
        if known is None or known[0] < time.monotonic() - FRESH:
            rows = await self.models()
            if name not in {row.name for row in rows}:
                raise unknown("model", name, sorted({row.name for row in rows}))
            versions = [row.version for row in rows if row.name == name and row.state == READY]
            if version and version not in versions:
                raise unknown(f"version of {name}", version, versions)
            rule = ModelRule.of((await self.ask("ModelConfig", name=name, version=version)).config)
            known = self._rules[name, version] = time.monotonic(), rule
        return known[1]

    async def rules(self) -> list[ModelRule]:
        """Of all models that are ready."""
        return [await self.rule(name, "") for name in sorted({m.name for m in await self.models() if m.state == READY})]

    async def faults(self) -> dict[str, str]:
        """Models that do not answer -> why, as a trial with one row of zeros for each finds it.

        A process of Triton's Python backend that was killed is seen by nothing else: its model stays "ready".
        """
        found = {rule.name: await self._try(rule) for rule in await self.rules()}
        return {name: reason for name, reason in found.items() if reason}

    def forget(self) -> None:
        """Believe nothing any more that is known of models: another server is behind the socket."""
        self._rules.clear()

    async def _try(self, rule: ModelRule) -> str:
        try:
            await self.call("ModelInfer", trial(rule).SerializeToString(), TRIAL_TIMEOUT)
        except Refused as error:
            return str(error) if error.code in _DEAD else ""
        return ""

    async def ready(self) -> bool:
        """Whether the server says that it and all of its models are ready."""
        try:
            return bool((await self.ask("ServerReady", timeout=5)).ready)
        except Refused:
            return False

    async def close(self) -> None:
        """Let go of the connection."""
        await self._channel.close()


def trial(rule: ModelRule) -> Any:
    """A ModelInferRequest of one row of zeros, which every model of Salon's answers."""
    request = messages.ModelInferRequest(model_name=rule.name)
    for name, tensor in rule.inputs.items():
        if tensor.optional:
            continue
        dims = [TRIAL_SIDE if side < 0 else side for side in tensor.dims]
        shape = [*([1] if rule.max_batch else []), *dims]
        count = int(np.prod(shape))
        raw = join_bytes([b""] * count) if tensor.dtype == BYTES else bytes(count * DTYPES[tensor.dtype].itemsize)
        request.inputs.add(name=name, datatype=tensor.dtype, shape=shape)
        request.raw_input_contents.append(raw)
    return request
