"""Images in a bucket of Google Cloud Storage: a real server of its interface, on this machine."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from conftest import run_salon
from gcp_storage_emulator.server import create_server
from test_curation_prepare_archives import tar
from test_curation_prepare_pipeline import fill, hidden, image, request, rows

from curation.prepare import remote
from curation.prepare.pipeline import collect
from gan.data import manifest
from gan.errors import ImageError, RequestError

FILES = {
    "a/1.png": image(1),
    "a/2.png": image(2),
    "a-b/3.png": image(3),  # "-" comes before "/"
    "b/again.png": image(1),
    "b/empty.png": b"",
    "b/text.png": b"text",
    "c.tar": tar({"d/5.png": image(5), "6.png": image(6)}),
    "c/a b%41.png": image(7),
    "notes.txt": b"ignored",
}
ENOUGH = {f"{number % 20}-{number}.png": image(number % 20) for number in range(21)}  # for a density


def put(endpoint: str, bucket: str, name: str, content: bytes) -> None:
    """Upload an object in one request, as the server's own interface has it."""
    told = b"Content-Type: application/json\r\n\r\n" + json.dumps({"name": name}).encode()
    held = b"Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: binary\r\n\r\n" + content
    body = b"--PART\r\n" + told + b"\r\n--PART\r\n" + held + b"\r\n--PART--\r\n"
    address = f"{endpoint}/upload/storage/v1/b/{bucket}/o?uploadType=multipart"
    with urlopen(Request(address, body, {"Content-Type": "multipart/related; boundary=PART"})):
        pass


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """A server that speaks Google Cloud Storage; its bucket "art" has FILES in "paintings"."""
    server = create_server("127.0.0.1", 0, in_memory=True, default_bucket="art")
    server.start()
    address = f"http://127.0.0.1:{server._api._httpd.server_port}"
    for name, content in {**FILES, "folder/": b""}.items():
        put(address, "art", f"paintings/{name}", content)
    for name, content in ENOUGH.items():
        put(address, "art", f"enough/{name}", content)
    yield address
    server.stop()


@pytest.fixture
def gs(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The same, which is where gs:// is."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", endpoint)
    monkeypatch.setenv("FSSPEC_GS_TOKEN", "anon")
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")  # else it asks by gRPC, and waits for a minute
    yield endpoint
    remote._filesystem("gs://art").clear_instance_cache()


def test_a_bucket_is_read_as_a_folder_is(tmp_path: Path, gs: str) -> None:
    local = collect(request(fill(tmp_path / "paintings", FILES), tmp_path / "local.zip", labels="folders"))
    assert (local["images"], local["quarantined"]) == (6, {"empty": 1, "not an image": 1})
    for address in ("gs://art/paintings", "gs://art/paintings/"):
        out = tmp_path / "out/d.zip"
        figures = collect(request([address], out, labels="folders", workers=2, overwrite=True))
        same = ("fingerprint", "images", "labels", "ignored", "duplicates", "unlabelled", "quarantined", "bytes_in")
        assert {name: figures[name] for name in same} == {name: local[name] for name in same}
        here, there = rows(tmp_path / "local.zip"), rows(out)
        assert [name.replace("gs://art/", "", 1) for name in there] == list(here)
        assert [row["file_sha256"] for row in there.values()] == [row["file_sha256"] for row in here.values()]
        assert there["gs://art/paintings/b/empty.png"]["reason"] == "empty"
        assert hidden(tmp_path / "out") == []


def test_what_is_prepared_from_a_bucket_is_checked_and_scored_as_from_a_folder(tmp_path: Path, gs: str) -> None:
    told: dict[str, list[dict[str, Any]]] = {}
    for name, source in {"local": fill(tmp_path / "enough", ENOUGH), "bucket": "gs://art/enough"}.items():
        data, checked, scored = (tmp_path / f"{name}.{end}" for end in ("zip", "checked", "scored"))
        for command in (
            ("prepare", source, "--resolution", 16, "--workers", 1, "--keep-duplicates", "--out", data),
            ("curate", "check", data, "--out", checked),
            ("curate", "score", data, "--manifest", checked, "--out", scored),
        ):
            outcome = run_salon(*command, "--json")
            assert outcome.code == 0, outcome.err
            figures = json.loads(outcome.out)
            same = ("fingerprint", "images", "flags", "duplicate_groups", "scored")
            told.setdefault(name, []).append({key: figures[key] for key in same if key in figures})
        read = manifest.read(scored).rows
        told[name].append({key: read.column(key).to_pylist() for key in ("name", "copy_of", "score_density", "flags")})
    assert told["local"] == told["bucket"]
    assert told["bucket"][2]["scored"] == 21 and told["bucket"][1]["duplicate_groups"] == 1


def test_one_object_and_an_archive_in_a_bucket(tmp_path: Path, gs: str) -> None:
    archive = "gs://art/paintings/c.tar"
    collect(request(["gs://art/paintings/a/2.png", archive], tmp_path / "d.zip"))
    assert list(rows(tmp_path / "d.zip")) == ["gs://art/paintings/a/2.png", f"{archive}/6.png", f"{archive}/d/5.png"]


def test_parts_of_an_object(gs: str) -> None:
    address, content = "gs://art/paintings/a/1.png", FILES["a/1.png"]
    assert remote.read(address, len(content)) == content and remote.read_head(address, 9) == content[:9]
    assert remote.read("gs://art/paintings/b/empty.png", 10) == b""
    with pytest.raises(ImageError, match="too large"):
        remote.read(address, len(content) - 1)
    with pytest.raises(ImageError, match="not found"):
        remote.read("gs://art/none.png", 10)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("gs://nobody/paintings", "gs://nobody/paintings is not: not found"),
        ("gs://art/nowhere", "gs://art/nowhere is not: not found"),
        ("gs://art/no.tar", r"gs://art/no\.tar is not: not found"),
    ],
)
def test_a_source_that_cannot_be_had_is_one_line(tmp_path: Path, gs: str, address: str, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        collect(request([address], tmp_path / "d.zip"))  # type: ignore[list-item]
    assert list(tmp_path.iterdir()) == []
