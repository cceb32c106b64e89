"""What small web applications have in common: who is answered, what answers forbid, and how much is read."""

import httpx
import pytest
from conftest import web_server
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from gan.errors import RequestError
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
