"""Small web applications: their files, a guard around every answer, and a server with deadlines and limits."""

import asyncio
import contextlib
import functools
import ipaddress
import re
import resource
import socket
import threading
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import PurePath
from types import TracebackType
from typing import TypeVar
from urllib.parse import urlsplit

import h11
import uvicorn
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from gan.errors import RequestError, SalonError
from gan.runtime import page

Answer = TypeVar("Answer")

LOCAL = "127.0.0.1"
SECURITY = {
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
CLIENT_CLOSED_REQUEST = 499
BACKLOG = 128  # connections that wait to be accepted
AT_ONCE = 16  # of them that are accepted in one round of the event loop
OWN_FILES = 128  # open files beside the connections
MEDIA_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


class Guard:
    """Around an application: refuse names that are not its own, and say in every answer what a page of it may do.

    A site whose name its owner points at this machine (DNS rebinding) could read answers as its own. Its requests carry
    that name, whereas an address of digits cannot be pointed elsewhere, and is always taken; Starlette's
    TrustedHostMiddleware would need a list of them. `refuse` gives the answer to a host that is not known; `headers`,
    such as a Content-Security-Policy, are set in every answer beside those of SECURITY. Pages of other sites than
    `origins` may link here, but neither load from here nor make this application work.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        hosts: Collection[str],
        refuse: Callable[[str], Response],
        headers: Mapping[str, str],
        origins: Collection[str] = (),
    ) -> None:
        self.app, self.refuse, self.origins = app, refuse, origins
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

        headers = Headers(scope=scope)
        answer = self.app
        if not self.knows(host := headers.get("host", "")):
            answer = self.refuse(host)
        elif self._is_foreign(headers):
            answer = PlainTextResponse("Pages of other sites may not ask.\n", HTTPStatus.FORBIDDEN)
        await answer(scope, receive, guarded)

    def _is_foreign(self, headers: Headers) -> bool:
        # Browsers name the page in Origin, where a request may do more than look, and tell in the other two (Fetch
        # Metadata) what one without it is for; to follow a link is to "navigate".
        origin = headers.get("origin")
        if origin is not None:
            return origin not in self.origins and urlsplit(origin).netloc != headers.get("host")
        return headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") != "navigate"

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
        listening = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (OSError, UnicodeError) as error:
        detail = getattr(error, "strerror", None) or error
        raise RequestError(f"{rule}; {host}:{port} cannot be used: {detail}") from error
    # An answer after the first part of it does not wait for the other side's acknowledgement. Connections inherit it.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def until_gone(answer: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """`answer`, which is cancelled when the visitor goes before it is there. For requests whose body is not read."""

    @functools.wraps(answer)
    async def watched(request: Request) -> Response:
        try:
            return await unless_gone(request, answer(request))
        except ClientDisconnect:
            return Response(status_code=CLIENT_CLOSED_REQUEST)  # which nobody reads

    return watched


async def unless_gone(request: Request, work: Awaitable[Answer]) -> Answer:
    """What `work` gives; it is cancelled, and ClientDisconnect raised, when the visitor goes before.

    The body of the request must have been read, or be none.
    """
    working = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(request.receive))
    try:
        await asyncio.wait([working, gone], return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        for task in (working, gone):
            task.cancel()
        await asyncio.gather(working, gone, return_exceptions=True)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What the connections of a server may take. Whoever is slower is cut off."""

    connections: int = 1000  # at a time; fewer where the system allows fewer open files
    head: float = 10.0  # seconds from the beginning of a connection or request to the end of its headers
    body: float = 60.0  # seconds from there to the end of its body
    read: float = 30.0  # seconds in which a visitor reads nothing of an answer


def raise_open_files(most: int = 65536) -> int:
    """Raise the soft limit of open files up to `most` and the hard limit -> the limit. Later children inherit it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    if soft != unlimited and soft < most:
        soft = most if hard == unlimited else min(most, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return most if soft == unlimited else soft


class Server:
    """An application on a listening socket: run() answers until Ctrl-C, start() in a thread until stop().

    Nothing but its own faults is logged: an address may hold a secret, and whoever asks must not fill a disk.
    """

    def __init__(self, app: ASGIApp, listening: socket.socket, limits: Limits | None = None) -> None:
        self.listening = listening
        self._server = _Server(_Config(app, limits or Limits()))
        self._thread = threading.Thread(target=self._run_in_thread, name="salon-web", daemon=True)

    async def answer(self) -> None:
        """Answer in this event loop, until ask_to_stop()."""
        await self._server.serve([self.listening])

    def ask_to_stop(self) -> None:
        """Answer what is under way for up to 3 seconds, and no more."""
        self._server.should_exit = True

    def run(self) -> None:
        """Answer until Ctrl-C or stop()."""
        with contextlib.suppress(KeyboardInterrupt):  # which uvicorn hands on after it has closed
            self._server.run([self.listening])

    def start(self) -> None:
        """Answer in a thread, from the time this returns. Raises SalonError when the application does not start."""
        self._thread.start()
        self._server.ready.wait()
        if not self._server.started:
            raise SalonError("the web server did not start; its log says more")

    def stop(self) -> None:
        """Ask it to stop, and wait until it has."""
        self.ask_to_stop()
        if self._thread.ident:
            self._thread.join()

    def __enter__(self) -> "Server":
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def _run_in_thread(self) -> None:
        try:
            with contextlib.suppress(SystemExit):  # of uvicorn, when the application does not start
                self.run()
        finally:
            self._server.ready.set()


def serve(app: ASGIApp, listening: socket.socket, limits: Limits | None = None) -> None:
    """Answer until Ctrl-C."""
    Server(app, listening, limits).run()


class _Config(uvicorn.Config):
    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        super().__init__(
            app,
            http=_Protocol,
            ws="none",
            log_level="error",
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=3,
            backlog=AT_ONCE,  # which for asyncio is both
        )
        self.limits = limits
        # The loop needs four rounds for a connection that goes beyond: accepted, made, counted, closed.
        self.most = max(min(limits.connections, raise_open_files() - 4 * AT_ONCE - OWN_FILES), 1)


class _Server(uvicorn.Server):
    def __init__(self, config: _Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listening in sockets or ():
            listening.listen(BACKLOG)
        self.ready.set()


class _Protocol(H11Protocol):
    """A connection that keeps the limits. Where there are too many, the one that has let us wait longest goes."""

    config: _Config
    connections: "set[_Protocol]"  # type: ignore[assignment]
    waits_for: str | None = None  # "head" or "body", of which a part is missing
    since = 0.0  # when its last request began or ended, in the loop's time
    _deadline: asyncio.TimerHandle | None = None  # of what it waits for
    _reading: asyncio.TimerHandle | None = None  # of an answer that is not read

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.set_write_buffer_limits(0)  # so that what is not read is known from its first byte
        self._wait_for("head")
        if len(self.connections) > self.config.most:
            waiting = [each for each in self.connections if each.waits_for or each._is_idle()]
            self._cut(min(waiting, key=lambda each: each.since))  # of which this one is

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._wait_for(None)
        self.resume_writing()

    def handle_events(self) -> None:
        super().handle_events()
        begun = self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]
        self._wait_for("head" if begun else "body" if self.conn.their_state is h11.SEND_BODY else None)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_reading(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._reading:
            self._reading.cancel()

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _wait_for(self, part: str | None) -> None:
        if part == self.waits_for:
            return
        self.waits_for, self.since = part, self.loop.time()
        if self._deadline:
            self._deadline.cancel()
        if part and not self.transport.is_closing():
            seconds = self.config.limits.head if part == "head" else self.config.limits.body
            self._deadline = self.loop.call_later(seconds, self._cut, self)

    def _watch_reading(self, unread: int, before: int | None = None) -> None:
        if unread == before:
            self._cut(self)
        else:
            again = lambda: self._watch_reading(self.transport.get_write_buffer_size(), unread)  # noqa: E731
            self._reading = self.loop.call_later(self.config.limits.read, again)

    def _cut(self, connection: "_Protocol") -> None:
        self.connections.discard(connection)  # at once, so that it is not counted any more
        connection.transport.abort()
