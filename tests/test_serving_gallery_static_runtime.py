"""ONNX Runtime for browsers: downloaded, checked, kept, or taken from a folder."""

import base64
import functools
import gzip
import hashlib
import http.server
import io
import json
import os
import tarfile
import threading
from contextlib import contextmanager

import pytest
from conftest import free_port, run_salon
from test_cli import refused

from gan.errors import RequestError, SalonError
from serving.gallery.static import runtime

CONTENT = {
    "package.json": json.dumps({"name": runtime.PACKAGE, "version": runtime.VERSION}).encode(),
    f"dist/{runtime.SCRIPT}": b"export {}",
    f"dist/{runtime.BINARY}": b"\0asm" * 100,
}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache."""
    monkeypatch.setenv("SALON_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def without_npm(tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))


def archive() -> bytes:
    """A package as npm's registry has them."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as package:
        for name, content in {**CONTENT, "../outside": b"", "dist/other.wasm": b"large"}.items():
            entry = tarfile.TarInfo(f"package/{name}")
            entry.size = len(content)
            package.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


@contextmanager
def registry(folder):
    """A web server of the files in a folder -> its address."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    handler.func.log_message = lambda *_: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as host:
        thread = threading.Thread(target=host.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{host.server_address[1]}"
        finally:
            host.shutdown()
            thread.join()


def left(cache) -> list[str]:
    """What is in the cache but locks."""
    return [path.name for path in cache.iterdir() if path.suffix != ".lock"]


def test_what_is_downloaded_is_checked_and_kept(tmp_path, cache, without_npm, monkeypatch):
    content = archive()
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "package.tgz").write_bytes(content)
    with registry(tmp_path / "web") as address:
        monkeypatch.setattr(runtime, "ADDRESS", f"{address}/package.tgz")
        with pytest.raises(SalonError, match="must have the SHA-512 q0y"):
            runtime.find()
        assert left(cache) == []
        monkeypatch.setattr(runtime, "SHA512", base64.b64encode(hashlib.sha512(content).digest()).decode())
        place = runtime.find()
    assert place.parent == cache and {file.name for file in place.iterdir()} == set(runtime.FILES)
    assert (place / runtime.SCRIPT).read_bytes() == CONTENT[f"dist/{runtime.SCRIPT}"]
    assert gzip.decompress((place / runtime.FILES[1]).read_bytes()) == CONTENT[f"dist/{runtime.BINARY}"]
    assert runtime.find() == place  # though the registry has gone
    (place / runtime.SCRIPT).unlink()
    with pytest.raises(SalonError, match=r"could not be downloaded: .*refused"):
        runtime.find()


def test_without_a_network_it_is_one_line(cache, without_npm, monkeypatch, tmp_path, conditional_snapshot):
    monkeypatch.setattr(runtime, "ADDRESS", f"http://127.0.0.1:{free_port()}/package.tgz")
    outcome = run_salon("gallery", "--static", tmp_path / "site", "--snapshot", conditional_snapshot)
    assert outcome.code == 1 and outcome.out == "" and not (tmp_path / "site").exists()
    error = outcome.err.splitlines()[-1]
    assert error.startswith(f"Error: {runtime.PACKAGE} {runtime.VERSION} could not be downloaded: ")
    assert error.endswith(f"Or name an unpacked package {runtime.PACKAGE} {runtime.VERSION} with --runtime")
    assert left(cache) == []


def test_npm_without_its_registry_is_one_line(cache, monkeypatch):
    if not any(os.access(f"{folder}/npm", os.X_OK) for folder in os.get_exec_path()):
        pytest.skip("no npm")
    monkeypatch.setenv("npm_config_registry", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(SalonError, match=r"could not be downloaded: .*127\.0\.0\.1.*\. Or name an unpacked") as error:
        runtime.find()
    assert "\n" not in str(error.value) and left(cache) == []


def test_a_package_that_is_there_already(tmp_path, cache, conditional_snapshot):
    folder = tmp_path / "package"
    (folder / "dist").mkdir(parents=True)
    with pytest.raises(RequestError, match=r"`runtime` must be the npm package .*has no package.json"):
        runtime.find(folder)
    (folder / "package.json").write_text('{"name": "onnxruntime-web", "version": "1.2.3"}')
    site = ("gallery", "--static", tmp_path / "site", "--snapshot", conditional_snapshot)
    refused(run_salon(*site, "--runtime", folder), "--runtime must be the npm package", "is onnxruntime-web 1.2.3")
    for name, content in CONTENT.items():
        if name != f"dist/{runtime.SCRIPT}":
            (folder / name).write_bytes(content)
    with pytest.raises(RequestError, match=f"{runtime.SCRIPT} is missing"):
        runtime.find(folder)
    (folder / "dist" / runtime.SCRIPT).write_bytes(b"export {}")
    place = runtime.find(folder)
    assert gzip.decompress((place / runtime.FILES[1]).read_bytes()) == CONTENT[f"dist/{runtime.BINARY}"]
    (folder / "dist" / runtime.SCRIPT).write_bytes(b"other")
    assert (runtime.find(folder) / runtime.SCRIPT).read_bytes() == b"other"
