"""Images at addresses: buckets of a real S3 server, and files of a real web server that fails now and then."""

import http.server
import json
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from conftest import run_salon
from fsspec.registry import _registry
from moto.server import ThreadedMotoServer
from test_curation_prepare_archives import tar, zipped
from test_curation_prepare_parquet import embedded, hugging_face
from test_curation_prepare_pipeline import fill, hidden, image, request, rows
from test_curation_prepare_video import film, greys
from test_gan_data_decode import encoded, textured

from curation.prepare import remote
from curation.prepare.pipeline import collect
from gan.data import manifest
from gan.errors import ImageError, RequestError

LARGE = 50_000_000  # bytes that the web server would send
FILES = {
    "a/1.png": image(1),
    "a/2.png": image(2),
    "a-b/3.png": image(3),  # "-" comes before "/"
    "b/._3.png": b"of the system",
    ".git/4.png": image(4),
    "b/empty.png": b"",
    "b/text.png": b"text",
    "c.tar": tar({"d/5.png": image(5), "6.png": image(6)}),
    "c/a b?#%41.png": image(7),
    "notes.txt": b"ignored",
    "z.zip": b"text",
}


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """A server that speaks S3, on this machine."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client of that server, which is where S3 is; its bucket "art" has FILES in "paintings"."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {
        "ACCESS_KEY_ID": "fake",
        "SECRET_ACCESS_KEY": "fake",
        "DEFAULT_REGION": "us-east-1",
        "ENDPOINT_URL": endpoint,
        "EC2_METADATA_DISABLED": "true",
        "SHARED_CREDENTIALS_FILE": "/nowhere",
        "CONFIG_FILE": "/nowhere",
    }.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    client = boto3.client("s3")
    client.create_bucket(Bucket="art")
    for name, content in FILES.items():
        client.put_object(Bucket="art", Key=f"paintings/{name}", Body=content)
    client.put_object(Bucket="art", Key="paintings/folder/", Body=b"")
    return client


class Web(http.server.ThreadingHTTPServer):
    """A web server of `files`. Those in `failures` first fail so many times, by a status or by an end too soon (0)."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.files: dict[str, bytes] = {}
        self.failures: dict[str, list[int]] = {}
        self.asked: Counter[str] = Counter()
        self.sent = 0
        self.closed = threading.Event()

    def url(self, path: str, user: str = "") -> str:
        """The address of a file."""
        return f"http://{user}127.0.0.1:{self.server_port}/{path}"


class _Answer(http.server.BaseHTTPRequestHandler):
    server: Web

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        path, _, query = self.path.lstrip("/").partition("?")
        self.server.asked[path] += 1
        if path == "secret.png" and (query != "token=abc" or "Authorization" not in self.headers):
            return self.send_error(403)
        failure = self.server.failures.get(path, [])
        if failure and failure[0]:
            return self.send_error(failure.pop(0))
        if path == "endless.png":
            return self._send_endlessly()
        if path not in self.server.files:
            return self.send_error(404)
        content = self.server.files[path]
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if failure and failure.pop(0) == 0 else content)
        return None

    def _send_endlessly(self) -> None:
        self.send_response(200)
        self.end_headers()
        try:
            while self.server.sent < LARGE:
                self.server.sent += self.wfile.write(bytes(100_000))
        except OSError:
            pass
        self.server.closed.set()


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server = Web()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_bucket_is_read_as_a_folder_is(tmp_path: Path, s3: Any) -> None:
    local = collect(request(fill(tmp_path / "paintings", FILES), tmp_path / "local.zip", labels="folders"))
    assert local["images"] == 6
    for address in ("s3://art/paintings", "s3://art/paintings/"):
        out = tmp_path / "out/d.zip"
        figures = collect(request([address], out, labels="folders", workers=2, overwrite=True))
        assert [row["file_sha256"] for row in rows(out).values()] == [
            row["file_sha256"] for row in rows(tmp_path / "local.zip").values()
        ]
        same = ("fingerprint", "images", "labels", "ignored", "duplicates", "unlabelled", "quarantined", "bytes_in")
        assert {name: figures[name] for name in same} == {name: local[name] for name in same}
        assert figures["parameters"]["sources"] == [address]
        here, there = rows(tmp_path / "local.zip"), rows(out)
        assert [name.replace("s3://art/", "", 1) for name in there] == list(here)
        assert there["s3://art/paintings/b/empty.png"]["reason"] == "empty"
        assert hidden(tmp_path / "out") == []


def test_one_object_and_an_archive_in_a_bucket(tmp_path: Path, s3: Any) -> None:
    collect(request(["s3://art/paintings/a/2.png", "s3://art/paintings/c.tar"], tmp_path / "d.zip"))
    archive = "s3://art/paintings/c.tar"
    assert list(rows(tmp_path / "d.zip")) == ["s3://art/paintings/a/2.png", f"{archive}/6.png", f"{archive}/d/5.png"]
    s3.put_object(Bucket="art", Key="named/without", Body=image(8))  # it has to be asked for
    collect(request(["s3://art/named/without"], tmp_path / "e.zip"))
    assert list(rows(tmp_path / "e.zip")) == ["s3://art/named/without"]


def test_a_video_in_a_bucket(tmp_path: Path, s3: Any) -> None:
    s3.put_object(Bucket="art", Key="films/a/film.mp4", Body=film(greys(15)))
    s3.put_object(Bucket="art", Key="films/1.png", Body=image(1))
    figures = collect(request(["s3://art/films"], tmp_path / "d.zip"))
    assert (figures["images"], figures["videos_ignored"]) == (1, 1)
    for source in ("s3://art/films", "s3://art/films/a/film.mp4"):
        collect(request([source], tmp_path / "d.zip", video_every=1, overwrite=True))
        names = [f"s3://art/films/a/film.mp4/00h00m0{second}.000s" for second in range(2)]
        assert set(names) <= set(rows(tmp_path / "d.zip")) <= {*names, "s3://art/films/1.png"}
    with pytest.raises(RequestError, match=r"s3://art/films/a/film\.mp4 is a video; add `video_every`"):
        collect(request(["s3://art/films/a/film.mp4"], None))


def test_the_command_reads_a_bucket(tmp_path: Path, s3: Any) -> None:
    command = ("prepare", "s3://art/paintings", "--resolution", 16, "--workers", 1)
    outcome = run_salon(*command, "--dry-run", "--limit", 3)
    assert outcome.code == 0 and "3 images kept of 3 found" in outcome.out, outcome.err
    outcome = run_salon(*command, "--out", tmp_path / "d.zip")
    assert outcome.code == 0 and "empty: 1 (s3://art/paintings/b/empty.png)" in outcome.out
    (tmp_path / "list.txt").write_text("# of two\n\ns3://art/paintings/a\ns3://art/nothing.png\n")
    outcome = run_salon("prepare", tmp_path / "list.txt", *command[2:], "--out", tmp_path / "e.zip")
    assert outcome.code == 0 and "not found: 1 (s3://art/nothing.png)" in outcome.out


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("s3://nobody/paintings", "s3://nobody/paintings is not: not found"),
        ("s3://art/nowhere", "s3://art/nowhere is not: not found: there is nothing"),
        ("s3://art/no.tar", r"s3://art/no\.tar is not: not found"),
        ("s3://art/paintings/z.zip", r"got s3://art/paintings/z\.zip instead, which is none or is damaged"),
        ("ftp://host/1.png", r"must be addresses such as .*; got ftp:// instead"),
        ("s3://", "must be addresses such as .*; got s3:// instead"),
        ("paintings", "`sources` must be paths, and addresses as texts"),
        (Path("s3://art/paintings"), "`sources` must be paths, and addresses as texts"),
    ],
)
def test_a_source_that_cannot_be_had_is_one_line(tmp_path: Path, s3: Any, address: str, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        collect(request([address], tmp_path / "d.zip"))  # type: ignore[list-item]
    assert list(tmp_path.iterdir()) == []


def test_without_a_package_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(_registry, "gs", raising=False)  # where another test has loaded it
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(RequestError, match=r"`sources` gs:// needs pip install 'salon\[gs\]'"):
        collect(request(["gs://bucket/folder"], tmp_path / "d.zip"))  # type: ignore[list-item]
    assert list(tmp_path.iterdir()) == []


def test_missing_credentials_are_one_line(tmp_path: Path, s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    remote._filesystem("s3://art").clear_instance_cache()
    with pytest.raises(RequestError, match=r"no access: there are no credentials\. For access, set AWS_PROFILE, or"):
        collect(request(["s3://art/paintings"], tmp_path / "d.zip"))
    remote._filesystem("s3://art").clear_instance_cache()


def test_a_list_of_web_addresses(tmp_path: Path, web: Web) -> None:
    web.files = {
        "a/1.png": image(1),
        "a/shard.tar": tar({"2.png": image(2)}),
        "b/3.zip": zipped({"x/3.png": image(3)}),
        "b/4.parquet": hugging_face(tmp_path / "4.parquet", embedded(4), [0]).read_bytes(),
        "secret.png": image(5),
    }
    secret = web.url("secret.png?token=abc#part", user="ada:lovelace@")
    names = ("a/1.png", "a/shard.tar", "b/3.zip", "b/4.parquet", "none.png", "none.tar", "secret.png")
    lines = [web.url(name) for name in names]
    lists = fill(tmp_path / "in", {"list.txt": "\n".join(["# images", *lines, "", secret]).encode()})
    figures = collect(request(lists / "list.txt", tmp_path / "out/d.zip", workers=2))
    assert (figures["images"], figures["quarantined"]) == (5, {"no access": 1, "not found": 2})
    found = rows(tmp_path / "out/d.zip")
    assert [web.url(name) for name in names if name not in ("a/shard.tar", "b/3.zip", "b/4.parquet")] == [
        name for name in found if not name.startswith(tuple(web.url(name + "/") for name in names))
    ]
    assert {web.url("a/shard.tar/2.png"), web.url("b/3.zip/x/3.png"), web.url("b/4.parquet/4.png")} <= set(found)
    written = (tmp_path / "out/d.report.json").read_text() + json.dumps(
        manifest.read(tmp_path / "out/d.manifest").rows.to_pylist()
    )
    assert "secret.png" in written and not any(word in written for word in ("token", "lovelace", "ada"))
    assert {entry["detail"] for entry in figures["quarantined_images"]} == {"HTTP 404", "HTTP 403", "none.tar"}


def test_nothing_beyond_the_limit_is_fetched(tmp_path: Path, web: Web, s3: Any) -> None:
    web.files = {f"{number}.png": image(number) for number in range(9)} | {"10.tar": tar({"x.png": image(10)})}
    addresses = [web.url(name) for name in web.files]
    lists = fill(tmp_path, {"list.txt": "\n".join([*addresses, "s3://art/paintings"]).encode()})
    figures = collect(request(lists / "list.txt", tmp_path / "d.zip", limit=2, labels="none"))
    assert (figures["images"], figures["found"]) == (2, 2)
    assert web.asked == {"0.png": 1, "1.png": 1}
    figures = collect(request(["s3://art/paintings"], tmp_path / "e.zip", limit=1))
    assert figures["bytes_in"] == len(FILES["a-b/3.png"] if sorted(FILES)[0] == "a-b/3.png" else FILES["a/1.png"])


def test_sizes_at_addresses_are_read_from_the_first_bytes(tmp_path: Path, web: Web, s3: Any) -> None:
    header = b"\xff\xfe\xff\xff" + bytes(0xFFFD)  # a comment of JPEG, as long as it can be
    jpeg = encoded(textured((30, 20)), "JPEG")
    web.files = {"a.jpg": jpeg + bytes(10**6), "late.jpg": jpeg[:2] + 2 * header + jpeg[2:], "b.jpg": jpeg[:10]}
    lists = fill(tmp_path, {"list.txt": "\n".join(map(web.url, [*web.files, "none.jpg"])).encode()})
    figures = collect(request(lists / "list.txt", tmp_path / "d.zip", shape="auto", keep_duplicates=True))
    assert (figures["width"], figures["height"], figures["images"]) == (24, 16, 2)
    assert (figures["look"]["looked_at"], figures["look"]["of"]) == (2, 4)
    assert web.asked == {"a.jpg": 2, "late.jpg": 3, "b.jpg": 2, "none.jpg": 2}
    assert len(remote.read_head(web.url("a.jpg"), 99)) == 99
    s3.put_object(Bucket="art", Key="wide/1.jpg", Body=web.files["a.jpg"])
    assert collect(request(["s3://art/wide"], None, shape="auto"))["width"] == 24


def test_no_more_than_the_limit_of_bytes_is_fetched(web: Web, s3: Any) -> None:
    with pytest.raises(ImageError, match="too large"):
        remote.read(web.url("endless.png"), 300_000)
    assert web.closed.wait(60) and web.sent < LARGE
    assert len(remote.read("s3://art/paintings/a/1.png", len(FILES["a/1.png"]))) == len(FILES["a/1.png"])
    with pytest.raises(ImageError, match="too large"):
        remote.read("s3://art/paintings/a/1.png", len(FILES["a/1.png"]) - 1)


def test_faults_that_pass_are_waited_out(tmp_path: Path, web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "PAUSES", (0, 0, 0))
    web.files = {"1.png": image(1), "2.tar": tar({"2.png": image(2)}), "3.png": image(3), "4.png": image(4)}
    web.failures = {"1.png": [503, 0, 429], "2.tar": [0, 500], "3.png": [503] * 4, "4.png": [400]}
    assert remote.read(web.url("1.png"), 10**6) == image(1)
    remote.download(web.url("2.tar"), tmp_path / "2.tar")
    assert (tmp_path / "2.tar").read_bytes() == web.files["2.tar"]
    with pytest.raises(ImageError, match=r"^not reachable: HTTP 503$"):
        remote.read(web.url("3.png"), 10**6)
    with pytest.raises(ImageError, match=r"^not reachable: HTTP 400$"):
        remote.read(web.url("4.png"), 10**6)
    assert web.asked == {"1.png": 4, "2.tar": 3, "3.png": 4, "4.png": 1}
    web.failures = {"2.tar": [0] * 4}
    with pytest.raises(ImageError, match="not reachable"):
        remote.download(web.url("2.tar"), tmp_path / "3.tar")
    assert not (tmp_path / "3.tar").exists()
    with pytest.raises(ImageError, match="not reachable: ClientConnectorError"):
        remote.read("http://127.0.0.1:1/1.png", 10)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"http://127.0.0.1:1/1.png\npaintings/1.png", r"got 'paintings/1\.png'; it is line 2 of .*list\.txt"),
        (b"file:///etc/passwd", "got file:// instead; it is line 1 of"),
        (b"http://[half/1.png", "got http:// instead; it is line 1 of"),
        (b"\xff", "must be a list of addresses; it cannot be read"),
        (b"# none", "must hold at least one image that can be used; got none: no files at all"),
    ],
)
def test_a_list_that_is_none_is_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        collect(request(fill(tmp_path, {"list.txt": content}) / "list.txt", None))
