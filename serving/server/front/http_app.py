"""The front's HTTP: KServe's paths of version 2 for what looks and what infers, and figures for Prometheus."""

from collections.abc import Callable, Coroutine
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gan.errors import RequestError
from gan.runtime import web
from serving.server.front import http_json
from serving.server.front.figures import MEDIA_TYPE
from serving.server.front.gate import LARGEST, Gate, response
from serving.server.front.refused import Refused

LARGEST_JSON = 8 * 2**20  # bytes; larger tensors are sent as bytes after the JSON
OPEN = ("/v2/health/live", "/v2/health/ready")  # without a token: a balancer asks for them

Endpoint = Callable[[Request], Coroutine[Any, Any, Response]]


class HttpApp:
    """Applications for inference and for metrics, each with a guard around it."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        model = "/v2/models/{model}"
        of_model: list[tuple[str, str, Endpoint]] = [
            ("", "GET", self._message("ModelMetadata")),
            ("/ready", "GET", self._model_ready),
            ("/config", "GET", self._config),
            ("/stats", "GET", self._message("ModelStatistics")),
            ("/infer", "POST", self._infer),
            ("/generate", "POST", self._generate),
        ]
        self.inference = self._application(
            [
                ("/v2", "GET", self._server),
                ("/v2/health/live", "GET", self._live),
                ("/v2/health/ready", "GET", self._ready),
                ("/v2/models/stats", "GET", self._message("ModelStatistics")),
                ("/v2/repository/index", "POST", self._index),
                *((f"{model}{path}", method, endpoint) for path, method, endpoint in of_model),
                *((f"{model}/versions/{{version}}{path}", method, endpoint) for path, method, endpoint in of_model),
            ]
        )
        self.metrics = self._application([("/metrics", "GET", self._metrics)])

    def _application(self, routes: list[tuple[str, str, Endpoint]]) -> Any:
        access = self._gate.access
        middleware = []
        if access.origins:
            headers = ["authorization", "content-type", http_json.LENGTH]
            middleware.append(
                Middleware(
                    CORSMiddleware,
                    allow_origins=list(access.origins),
                    allow_methods=["GET", "POST"],
                    allow_headers=headers,
                    expose_headers=[http_json.LENGTH],
                )
            )
        application = Starlette(
            routes=[Route(path, self._checked(endpoint), methods=[method]) for path, method, endpoint in routes],
            middleware=middleware,
            exception_handlers={HTTPException: _other},  # type: ignore[dict-item]
        )
        return web.Guard(
            application,
            hosts=access.hosts,
            refuse=lambda host: _error(f"this server does not go by the name {host[:80]!r}", 421),
            headers={"Cache-Control": "no-store"},
            origins=access.origins,
        )

    def _checked(self, endpoint: Endpoint) -> Endpoint:
        # Who may ask, and what goes wrong as JSON; the work ends when the client goes.
        async def answer(request: Request) -> Response:
            try:
                if request.url.path not in OPEN:
                    self._gate.access.check_token(request.headers.get("authorization"))
                return await endpoint(request)
            except Refused as error:
                self._gate.figures.refused.labels("http", error.code.name).inc()
                return _error(str(error), error.status)
            except ClientDisconnect:
                return Response(status_code=web.CLIENT_CLOSED_REQUEST)

        return answer

    async def _live(self, request: Request) -> Response:
        return Response()

    async def _ready(self, request: Request) -> Response:
        return Response(status_code=200 if self._gate.ready else 503)

    async def _metrics(self, request: Request) -> Response:
        return Response(await self._gate.metrics(), media_type=MEDIA_TYPE)

    def _message(self, method: str) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            return JSONResponse(as_json(await self._ask(method, **request.path_params)))

        return endpoint

    async def _server(self, request: Request) -> Response:
        self._gate.check_ready()
        return JSONResponse(as_json(await self._gate.upstream.metadata()))

    async def _config(self, request: Request) -> Response:
        return JSONResponse(as_json((await self._ask("ModelConfig", **request.path_params)).config))

    async def _index(self, request: Request) -> Response:
        return JSONResponse([as_json(row, defaults=False) for row in (await self._ask("RepositoryIndex")).models])

    async def _model_ready(self, request: Request) -> Response:
        ready = (await self._ask("ModelReady", **request.path_params)).ready
        return Response(status_code=200 if ready else 400)

    async def _ask(self, method: str, model: str = "", version: str = "") -> Any:
        self._gate.check_ready()
        named = {"name": model, "version": version} if model else {}
        return await self._gate.upstream.ask(method, timeout=10.0, **named)

    async def _infer(self, request: Request) -> Response:
        model, version = request.path_params["model"], request.path_params.get("version", "")
        rule = await self._gate.rule(model, version)
        length = request.headers.get(http_json.LENGTH)
        body = await self._body(request, LARGEST if length else LARGEST_JSON)
        message, as_bytes = http_json.read_infer(body, length, rule, version)
        answer = await self._infer_message(request, message)
        content, head = http_json.write_infer(answer, as_bytes)
        if head is None:
            return Response(content, media_type="application/json")
        headers = {http_json.LENGTH: str(head)}
        return Response(content, headers=headers, media_type="application/octet-stream")

    async def _generate(self, request: Request) -> Response:
        model, version = request.path_params["model"], request.path_params.get("version", "")
        rule = await self._gate.rule(model, version)
        message = http_json.read_generate(await self._body(request, LARGEST_JSON), rule, version)
        content, media_type = http_json.write_generate(await self._infer_message(request, message))
        return Response(content, media_type=media_type)

    async def _body(self, request: Request, most: int) -> bytes:
        if request.headers.get("content-encoding", "identity") != "identity":
            raise Refused("content-encoding must be left out: requests are read as they are")
        try:
            return await web.read_body(request, most)
        except RequestError as error:
            raise Refused(f"{error}; tensors may be sent as bytes, after the JSON") from error

    async def _infer_message(self, request: Request, message: Any) -> Any:
        """The model's answer; when the client goes first, what it asked for is cancelled."""
        return response(await web.unless_gone(request, self._gate.infer("http", message, None, None)))


async def _other(request: Request, error: HTTPException) -> Response:
    return _error(f"{request.method} {request.url.path[:80]}: {error.detail}", error.status_code)


def _error(text: str, status: int) -> Response:
    return JSONResponse({"error": text}, status)


def as_json(message: Any, *, defaults: bool = True) -> dict[str, Any]:
    """A protobuf message as Triton writes it in JSON: names as they are, 64-bit integers as numbers, enums by name.

    `defaults`: whether fields that are not set are written too, other messages and parts of a oneof excepted.
    """
    found = dict[str, Any]()
    for field in message.DESCRIPTOR.fields:
        if field.message_type or field.containing_oneof:
            if not (len(getattr(message, field.name)) if field.is_repeated else message.HasField(field.name)):
                if defaults and field.is_repeated and not _is_map(field):
                    found[field.name] = []
                continue
        elif not defaults and not getattr(message, field.name):
            continue
        value = getattr(message, field.name)
        if _is_map(field):
            of_message = field.message_type.fields_by_name["value"].message_type
            found[field.name] = {k: as_json(v, defaults=False) if of_message else v for k, v in value.items()}
        elif field.is_repeated:
            found[field.name] = [_plain(field, item, defaults) for item in value]
        else:
            found[field.name] = _plain(field, value, defaults)
    return found


def _is_map(field: FieldDescriptor) -> bool:
    return bool(field.message_type and field.message_type.GetOptions().map_entry)


def _plain(field: FieldDescriptor, value: Any, defaults: bool) -> Any:
    if field.message_type:
        return as_json(value, defaults=defaults)
    if field.enum_type:
        return field.enum_type.values_by_number[value].name
    return value.decode(errors="replace") if isinstance(value, bytes) else value
