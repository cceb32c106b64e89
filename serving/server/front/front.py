"""The front, running: its ports, its event loop in a thread, and the watch over the models behind it."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from typing import Any, TypeVar

from gan.errors import RequestError
from gan.runtime import web
from serving.server.front import grpc_service
from serving.server.front.access import Access
from serving.server.front.figures import Figures
from serving.server.front.gate import Gate
from serving.server.front.http_app import HttpApp
from serving.server.front.upstream import Upstream

TRIAL = 30.0  # seconds between two trials of the models; one that fails a request is tried at once
LIMITS = web.Limits(connections=2048)  # over HTTP
GRACE = 10.0  # seconds for requests in flight when it stops

Answer = TypeVar("Answer")


class PortTaken(RequestError):
    """Another process listens on a port that the front was to have."""


class Front:
    """HTTP, gRPC and metrics on `host`, before the Triton that listens at `address` (a gRPC target).

    `ports` are those of HTTP, gRPC and metrics; 0 is any that is free. It listens at once, and answers that the
    server is starting until `open` is called. Raises PortTaken, which names the parameter.
    """

    def __init__(
        self, host: str, ports: dict[str, int], address: str, access: Access, tick: Callable[[], None] = lambda: None
    ) -> None:
        """`tick` is called every second, in the front's thread."""
        web.raise_open_files()
        self._tick = tick
        with ExitStack() as stack:
            self._sockets = {n: stack.enter_context(_listen(host, ports[n], n)) for n in ("http", "metrics")}
            stack.pop_all()
        self._ports = {name: sock.getsockname()[1] for name, sock in self._sockets.items()}
        self.dead: dict[str, str] = {}  # models that failed the last trial -> why
        self._excused: set[str] = set()  # models that failed their first one
        self._started: Future[None] = Future()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, args=[host, ports["grpc"], address, access], daemon=True)
        self._thread.start()
        self._started.result()

    @property
    def ports(self) -> list[int]:
        """Of HTTP, gRPC and metrics."""
        return [self._ports[name] for name in ("http", "grpc", "metrics")]

    @property
    def ready(self) -> bool:
        """Whether requests are passed on."""
        return self._gate.ready

    def ask(self, method: str, timeout: float = 5.0, **fields: Any) -> Any:
        """A call of Triton's -> the answer's message. Raises Refused."""
        return self._in_loop(lambda: self._gate.upstream.ask(method, timeout, **fields))

    def open(self) -> dict[str, str]:
        """Pass requests on from now on -> models that do not answer, and why. Those are not watched."""
        self._gate.figures.starts.inc()
        return self._in_loop(self._open)

    def shut(self) -> None:
        """Answer from now on that the server is starting."""
        self._gate.ready = False

    def drain(self) -> None:
        """Wait for the requests in flight, some seconds at most."""
        end = time.monotonic() + GRACE
        while self._gate.in_flight and time.monotonic() < end:
            time.sleep(0.01)

    def stop(self) -> None:
        """Finish the requests in flight, within seconds, and close the ports."""
        if self._thread.is_alive():
            with suppress(RuntimeError):  # the loop ended meanwhile
                self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    def _in_loop(self, work: Callable[[], Coroutine[Any, Any, Answer]]) -> Answer:
        return asyncio.run_coroutine_threadsafe(work(), self._loop).result()

    def _run(self, host: str, grpc_port: int, address: str, access: Access) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve(host, grpc_port, address, access))
        except BaseException as error:
            if self._started.done():
                raise
            self._started.set_exception(error)
        finally:
            for sock in self._sockets.values():
                sock.close()
            self._loop.close()

    async def _serve(self, host: str, grpc_port: int, address: str, access: Access) -> None:
        self._stopping, upstream = asyncio.Event(), Upstream(address)
        self._gate = gate = Gate(upstream, access, Figures())
        server = grpc_service.server(gate)
        try:
            self._ports["grpc"] = server.add_insecure_port(f"{_bracketed(host)}:{grpc_port}")
        except RuntimeError as error:
            raise _taken(host, grpc_port, "grpc", "Address already in use") from error
        await server.start()
        app = HttpApp(gate)
        webs = [
            web.Server(app.inference, self._sockets["http"], LIMITS),
            web.Server(app.metrics, self._sockets["metrics"], web.Limits(connections=64)),
        ]
        tasks = [asyncio.create_task(one.answer()) for one in webs]
        watching = [asyncio.create_task(self._watch(gate)), asyncio.create_task(self._every_second())]
        self._started.set_result(None)
        await self._stopping.wait()
        for task in watching:
            task.cancel()
        for one in webs:
            one.ask_to_stop()
        await server.stop(GRACE)
        await asyncio.gather(*tasks)
        await upstream.close()

    async def _open(self) -> dict[str, str]:
        upstream = self._gate.upstream
        upstream.forget()
        faults = await upstream.faults()
        self._excused, self.dead = set(faults), {}
        self._gate.suspect.clear()
        self._gate.ready = True
        return faults

    async def _every_second(self) -> None:
        while True:
            with suppress(OSError):  # such as of a full disk: the next second may be better
                self._tick()
            await asyncio.sleep(1)

    async def _watch(self, gate: Gate) -> None:
        # Tries the models now and then, and at once when an answer looks like that of a dead one.
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(gate.suspect.wait(), TRIAL)
            gate.suspect.clear()
            if not gate.ready:
                continue
            with suppress(Exception):  # Triton itself is gone, which its keeper sees
                faults = await gate.upstream.faults()
                self.dead = {name: why for name, why in faults.items() if name not in self._excused}
                gate.figures.dead.set(len(self.dead))
                gate.ready = gate.ready and not self.dead
            await asyncio.sleep(0.2)


def _listen(host: str, port: int, service: str) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family, backlog=1024)
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # which its connections inherit
        return listening
    except OSError as error:
        raise _taken(host, port, service, error.strerror or str(error)) from error


def _taken(host: str, port: int, service: str, reason: str) -> PortTaken:
    return PortTaken(
        f"`{service}_port` {port} on {host} cannot be listened on ({reason}): choose another, or 0 for any that is free"
    )


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
