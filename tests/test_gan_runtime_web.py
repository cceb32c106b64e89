"""What small web applications have in common: who is answered, what answers forbid, and how much is read."""

import asyncio
import contextlib
import resource
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from conftest import HANG, web_server
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from gan.errors import RequestError, SalonError
from gan.runtime import page, web
from gan.runtime.web import Guard


def refuse(host: str) -> Response:
    return PlainTextResponse(f"{host} is not here", 421)


@pytest.mark.parametrize(
    ("host", "known"),
    [
        *((name, True) for name in ("127.0.0.1:8080", "127.0.0.1", "localhost:8080", "LOCALHOST", "[::1]:8080")),
        *((name, True) for name in ("192.168.1.5:80", "Gallery.Example", "gallery.example:8080")),
        *((name, False) for name in ("evil.example", "127.0.0.1.evil.example:8080", "localhost.evil.example")),
        *(
            (name, False)
            for name in ("", "gallery.example:8080:1", "a@127.0.0.1", "[::1", "[evil.example]", "2130706433")
        ),
    ],
)
def test_only_known_names_and_addresses_reach_it(host, known):
    async def app(*arguments):
        raise AssertionError("is not called")

    assert Guard(app, hosts=["gallery.example"], refuse=refuse, headers={}).knows(host) is known


@pytest.fixture
def client():
    async def count(request):
        try:
            return PlainTextResponse(str(len(await web.read_body(request, 100))))
        except RequestError as error:
            return PlainTextResponse(str(error), 400)

    routes = [Route("/count", count, methods=["POST"]), web.file_route(page.PACKAGE, "page.css")]
    guard = Middleware(
        Guard, hosts=["gallery.example"], refuse=refuse, headers={"Content-Security-Policy": "default-src 'none'"}
    )
    with (
        web_server(Starlette(routes=routes, middleware=[guard])) as address,
        httpx.Client(base_url=address, trust_env=False) as found,
    ):
        yield found


def test_every_answer_forbids_what_a_page_need_not_do(client):
    answers = [
        client.get("/page.css"),
        client.get("/absent"),
        client.get("/page.css", headers={"Host": "evil.example"}),
    ]
    assert [answer.status_code for answer in answers] == [200, 404, 421]
    assert answers[2].text == "evil.example is not here"
    for answer in answers:
        assert answer.headers["content-security-policy"] == "default-src 'none'"
        assert all(answer.headers[name] == value for name, value in web.SECURITY.items())


def test_only_the_files_that_are_named_are_given(client):
    assert client.get("/page.css").headers["content-type"].startswith("text/css")
    for path in ("/page.js", "/web.py", "/..%2Fpage.css", "/%2e%2e/page.css", "//page.css"):
        assert client.get(path).status_code == 404


def test_a_long_body_is_refused(client):
    assert client.post("/count", content=b"x" * 100).text == "100"
    assert client.post("/count", content=b"x" * 101).status_code == 400
    answer = client.post("/count", content=iter([b"x" * 60, b"x" * 60]))  # in chunks, without a length
    assert answer.status_code == 400 and "at most 100 bytes" in answer.text


def test_a_port_that_is_taken():
    with web.listen("127.0.0.1", 0, "--port must be free") as listening:
        port = listening.getsockname()[1]
        with pytest.raises(RequestError, match=f"^--port must be free; 127.0.0.1:{port} cannot be used: "):
            web.listen("127.0.0.1", port, "--port must be free")


def test_a_title_is_text():
    text = page.html("<b>$x & y", head="<meta $y>", body="<p>$z</p>")
    assert "<title>&lt;b&gt;$x &amp; y</title>" in text and "<meta $y>" in text and "<p>$z</p>" in text


# The server


SLOW = web.Limits(head=3600, body=3600, read=3600)


@contextlib.contextmanager
def served(app, limits=SLOW):
    """An application on `web.Server` in a thread -> its address (host, port)."""
    with web.listen("127.0.0.1", 0, "a port must be free") as listening:
        address = listening.getsockname()
        with web.Server(app, listening, limits):
            yield address


def hello(*routes: Route) -> Starlette:
    return Starlette(routes=[Route("/", lambda request: PlainTextResponse("hello")), *routes])


def get(address) -> str:
    return httpx.get(f"http://{address[0]}:{address[1]}/", trust_env=False, timeout=HANG).text


def ended(connection: socket.socket) -> bool:
    """Wait for the other side to end a connection; what it said before does not count."""
    connection.settimeout(HANG)
    with contextlib.suppress(ConnectionResetError):
        while connection.recv(1 << 16):
            pass
    return True


def test_a_server_in_a_thread_ends_when_it_is_told():
    with served(hello()) as address:
        assert get(address) == "hello"
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(address)


def test_an_application_that_does_not_start_is_told():
    @contextlib.asynccontextmanager
    async def fails(app):
        raise ValueError("no disk")
        yield

    app = Starlette(lifespan=fails)
    with pytest.raises(SalonError, match="did not start"), served(app):
        raise AssertionError("is not reached")


@pytest.mark.parametrize(
    ("said", "limits"),
    [
        (b"", web.Limits(head=0.1, body=3600)),
        (b"GET / HTT", web.Limits(head=0.1, body=3600)),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\nGET", web.Limits(head=0.1, body=3600)),  # after an answer
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nabc", web.Limits(head=3600, body=0.1)),
    ],
)
def test_whoever_does_not_finish_a_request_is_cut_off(said, limits):
    async def read(request):
        return PlainTextResponse(str(len(await request.body())))

    app = Starlette(routes=[Route("/", read, methods=["GET", "POST"])])
    with served(app, limits) as address, socket.create_connection(address) as connection:
        connection.sendall(said)
        assert ended(connection)


def test_slow_parts_are_taken_within_the_deadlines():
    async def read(request):
        return PlainTextResponse(str(len(await request.body())))

    with (
        served(Starlette(routes=[Route("/", read, methods=["POST"])])) as address,
        socket.create_connection(address) as connection,
        connection.makefile("rb") as answers,
    ):
        for _ in range(2):  # of one connection
            for part in (b"POST / HTTP/1.1\r\n", b"Host: localhost\r\nContent-Length: 4\r\n\r\n", b"ab", b"cd"):
                connection.sendall(part)
            answer = [answers.readline()]
            while answer[-1] != b"\r\n":
                answer.append(answers.readline())
            assert b"200 OK" in answer[0] and answers.read(1) == b"4"


def test_whoever_does_not_read_an_answer_is_cut_off():
    given_up = threading.Event()

    async def endless():
        try:
            while True:
                yield b"x" * (1 << 20)
                await asyncio.sleep(0)
        finally:
            given_up.set()

    app = hello(Route("/endless", lambda request: StreamingResponse(endless())))
    with served(app, web.Limits(read=0.1)) as address, socket.create_connection(address) as connection:
        connection.sendall(b"GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert given_up.wait(HANG)


def test_a_slow_reader_has_the_whole_answer():
    large = Route("/large", lambda request: Response(b"x" * (16 << 20)))
    with served(hello(large), web.Limits(read=0.05)) as address, socket.create_connection(address) as connection:
        connection.sendall(b"GET /large HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert sum(map(len, iter(lambda: connection.recv(1 << 18), b""))) > 16 << 20


def test_half_open_connections_make_room_for_requests():
    with served(hello(), replace(SLOW, connections=20)) as address, contextlib.ExitStack() as held:
        halves = [held.enter_context(socket.create_connection(address)) for _ in range(20)]
        for half in halves[:10]:
            half.sendall(b"GET / HTTP/1.1\r\n")
        assert get(address) == "hello"
        assert ended(halves[0])  # the oldest
        halves[-1].sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert halves[-1].recv(1 << 16).startswith(b"HTTP/1.1 200")


def test_requests_under_way_make_no_room_for_others():
    begun, done = threading.Semaphore(0), asyncio.Event()

    async def wait(request):
        begun.release()
        await done.wait()
        return PlainTextResponse("done")

    async def end(request):
        done.set()
        return PlainTextResponse("ended")

    app = hello(Route("/wait", wait), Route("/end", end))
    with served(app, replace(SLOW, connections=3)) as address, contextlib.ExitStack() as held:
        connections = [held.enter_context(socket.create_connection(address)) for _ in range(3)]
        for connection in connections[:2]:
            connection.sendall(b"GET /wait HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert begun.acquire(timeout=HANG) and begun.acquire(timeout=HANG)
        for _ in range(4):
            assert get(address) == "hello"  # in the place of the third
        connections[2] = held.enter_context(socket.create_connection(address))
        connections[2].sendall(b"GET /end HTTP/1.1\r\nHost: localhost\r\n\r\n")
        for connection in connections[:2]:
            assert b"".join(iter(lambda held=connection: held.recv(1 << 16), b"")).endswith(b"done")


PROGRAM = """
import resource, sys, time
from starlette.responses import PlainTextResponse
from gan.runtime import web
async def app(scope, receive, send):
    time.sleep(0.05)
    await PlainTextResponse("hello")(scope, receive, send)
hard = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
with web.listen("127.0.0.1", 0, "a port must be free") as listening:
    print(listening.getsockname()[1], flush=True)
    web.serve(app, listening, web.Limits(head=3600))
"""


@pytest.mark.parametrize("hard", [300, 4096])  # files that the system allows
def test_half_open_connections_beyond_the_limit_of_open_files(hard):
    root = Path(__file__).parents[1]
    command = [sys.executable, "-c", PROGRAM, str(hard)]
    with (
        subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running,
        contextlib.ExitStack() as held,
    ):
        try:
            address = ("127.0.0.1", int(running.stdout.readline()))
            with ThreadPoolExecutor(2) as busy:
                asked = [busy.submit(lambda: [get(address) for _ in range(10)]) for _ in range(2)]
                for _ in range(400):  # who come faster than they are accepted
                    held.enter_context(socket.create_connection(address)).sendall(b"GET / HTTP/1.1\r\n")
            assert [each.result() for each in asked] == [["hello"] * 10] * 2
            assert get(address) == "hello"
            for _ in range(20):  # no line for what is no request
                with socket.create_connection(address) as connection:
                    connection.sendall(b"what?\r\n\r\n")
                    assert ended(connection)
        finally:
            running.send_signal(signal.SIGINT)
        assert running.communicate(timeout=HANG)[1] == ""
        assert running.returncode == 0


def test_open_files_are_raised_as_far_as_the_system_lets():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
        assert web.raise_open_files(300) == 300 == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        assert web.raise_open_files(200) == 300  # is never lowered
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_work_ends_when_its_visitor_goes():
    begun, ended_early = threading.Event(), threading.Event()

    @web.until_gone
    async def wait(request):
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended_early.set()
            raise

    @web.until_gone
    async def fail(request):
        raise RequestError("as it is")

    refused = {RequestError: lambda request, error: PlainTextResponse(str(error), 400)}
    routes = [Route("/", web.until_gone(answer_hello)), Route("/wait", wait), Route("/fail", fail)]
    with served(Starlette(routes=routes, exception_handlers=refused)) as address:
        assert get(address) == "hello"
        assert httpx.get(f"http://{address[0]}:{address[1]}/fail", trust_env=False).text == "as it is"
        with socket.create_connection(address) as connection:
            connection.sendall(b"GET /wait HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert begun.wait(HANG)
        assert ended_early.wait(HANG)


async def answer_hello(request):
    return PlainTextResponse("hello")
