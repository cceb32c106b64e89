"""Small web applications: their files, a guard around every answer, and a server that ends with Ctrl-C."""

import contextlib
import ipaddress
import re
import socket
from collections.abc import Callable, Collection, Mapping
from pathlib import PurePath

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gan.errors import RequestError
from gan.runtime import page

LOCAL = "127.0.0.1"
SECURITY = {
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
MEDIA_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


class Guard:
    """Around an application: refuse names that are not its own, and say in every answer what a page of it may do.

    A site whose name its owner points at this machine (DNS rebinding) could read answers as its own. Its requests carry
    that name, whereas an address of digits cannot be pointed elsewhere, and is always taken; Starlette's
    TrustedHostMiddleware would need a list of them. `refuse` gives the answer to a host that is not known; `headers`,
    such as a Content-Security-Policy, are set in every answer beside those of SECURITY.
    """

    def __init__(
        self, app: ASGIApp, *, hosts: Collection[str], refuse: Callable[[str], Response], headers: Mapping[str, str]
    ) -> None:
        self.app, self.refuse = app, refuse
        self.hosts = {"localhost", *(host.lower() for host in hosts)}
        self.headers = {**SECURITY, **headers}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self.headers)
            await send(message)

        host = Headers(scope=scope).get("host", "")
        answer = self.app if self.knows(host) else self.refuse(host)
        await answer(scope, receive, guarded)

    def knows(self, host: str) -> bool:
        """Whether a Host header is of this application: a known name or an address, with or without a port."""
        match = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([^:\[\]]+))(?::\d+)?", host)
        if not match:
            return False
        name = match[1] or match[2].lower()
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self.hosts
        return True


def file_route(package: str, name: str) -> Route:
    """/NAME: a package's file, which is asked for anew each time."""
    return text_route(f"/{name}", page.read(package, name), MEDIA_TYPES[PurePath(name).suffix])


def text_route(path: str, text: str, media_type: str = "text/html") -> Route:
    """A text that does not change while the application runs."""

    def answer(request: Request) -> Response:
        return Response(text, media_type=media_type, headers={"Cache-Control": "no-cache"})

    return Route(path, answer)


async def read_body(request: Request, limit: int) -> bytes:
    """The body of a request. Raises RequestError when it has more than `limit` bytes, which are not read."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise RequestError(f"a request must have at most {limit} bytes")
    return body


def listen(host: str, port: int, rule: str) -> socket.socket:
    """A listening socket; port 0 is any that is free. Raises RequestError, which begins with `rule`."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (OSError, UnicodeError) as error:
        detail = getattr(error, "strerror", None) or error
        raise RequestError(f"{rule}; {host}:{port} cannot be used: {detail}") from error


def serve(app: ASGIApp, listening: socket.socket) -> None:
    """Answer until Ctrl-C, without a word: an address may hold a secret."""
    import uvicorn

    config = uvicorn.Config(
        app, log_level="warning", proxy_headers=False, server_header=False, ws="none", timeout_graceful_shutdown=3
    )
    with contextlib.suppress(KeyboardInterrupt):  # which uvicorn hands on after it has closed
        uvicorn.Server(config).run([listening])
