"""The front's gRPC: calls that look pass as they are, inference is checked, and all others are closed."""

from collections.abc import Callable, Coroutine
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2 as messages

from serving.server.front.gate import LARGEST, Gate
from serving.server.front.refused import Refused
from serving.server.front.upstream import SERVICE

LOOKING = (  # calls that change nothing
    *("ServerLive", "ServerMetadata", "ModelReady", "ModelMetadata", "ModelConfig", "ModelStatistics"),
    "RepositoryIndex",
)
HANDSHAKE = 10.0  # seconds that a connection has to begin
IDLE = 600.0  # seconds without a call after which a connection is closed

Handler = Callable[[bytes, Any], Coroutine[Any, Any, bytes]]  # of a message and a grpc.aio.ServicerContext


class GrpcService(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Handlers of all calls, by name, from bytes to bytes."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def service(self, details: Any) -> Any:
        """The handler of a call."""
        service, _, name = details.method.lstrip("/").partition("/")
        authorization = dict(details.invocation_metadata or ()).get("authorization")
        handler: Handler = self._closed(details.method)
        if service == SERVICE and name == "ServerReady":
            handler, authorization = self._ready, None
        elif service == SERVICE and name == "ModelInfer":
            handler = self._infer
        elif service == SERVICE and name in LOOKING:
            handler = self._looking(name)

        async def answer(message: bytes, context: Any) -> bytes:
            try:
                if name not in ("ServerReady", "ServerLive"):
                    self._gate.access.check_token(authorization)
                return await handler(message, context)
            except Refused as error:
                self._gate.figures.refused.labels("grpc", error.code.name).inc()
                await context.abort(error.code, str(error))
                raise AssertionError("abort raises") from error

        return grpc.unary_unary_rpc_method_handler(answer)

    async def _infer(self, message: bytes, context: Any) -> bytes:
        request = messages.ModelInferRequest()
        try:
            request.ParseFromString(message)
        except DecodeError as error:
            raise Refused("the request must be a ModelInferRequest") from error
        return await self._gate.infer("grpc", request, message, context.time_remaining())

    async def _ready(self, message: bytes, context: Any) -> bytes:
        return bytes(messages.ServerReadyResponse(ready=self._gate.ready).SerializeToString())

    def _looking(self, name: str) -> Handler:
        async def handler(message: bytes, context: Any) -> bytes:
            if name == "ServerLive":
                return bytes(messages.ServerLiveResponse(live=True).SerializeToString())
            self._gate.check_ready()
            if name == "ServerMetadata":
                return bytes((await self._gate.upstream.metadata()).SerializeToString())
            return await self._gate.upstream.call(name, message, context.time_remaining())

        return handler

    def _closed(self, method: str) -> Handler:
        async def handler(message: bytes, context: Any) -> bytes:
            raise Refused(f"{method[:80]} is closed here", grpc.StatusCode.PERMISSION_DENIED)

        return handler


def server(gate: Gate) -> grpc.aio.Server:
    """A gRPC server, not yet started."""
    return grpc.aio.server(
        handlers=[GrpcService(gate)],
        maximum_concurrent_rpcs=512,
        options=[
            ("grpc.so_reuseport", 0),  # else two servers share a port without a word
            ("grpc.max_send_message_length", -1),
            ("grpc.max_receive_message_length", LARGEST),
            ("grpc.server_handshake_timeout_ms", int(HANDSHAKE * 1000)),
            ("grpc.max_connection_idle_ms", int(IDLE * 1000)),
            ("grpc.max_metadata_size", 16 * 1024),
        ],
    )
