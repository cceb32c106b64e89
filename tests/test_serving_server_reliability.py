"""A real server under ill treatment: it answers what is malformed with an error, and goes on serving."""

import contextlib
import gzip
import http.client
import json
import shutil
import socket
import struct
import threading
import urllib.parse

import numpy as np
import pytest
import tritonclient.grpc
from conftest import HANG, run_salon, until
from tritonclient.utils import InferenceServerException

from gan import snapshot
from gan.sampling import latents
from serving.client.client import Client
from serving.contract import MAX_BATCH

Z = 8  # z_dim of the tiny runs
HEADER = "Inference-Header-Content-Length"
NAN, INFINITY = float("nan"), float("inf")


@pytest.fixture(scope="module")
def good(server):
    """A request that is in order, and what it gives."""
    with Client(server.grpc_url) as client:
        return list(client.generate([1, 2]))


def numbers(name, values, shape=None, datatype="FP32"):
    array = np.asarray(values)
    return {"name": name, "shape": list(shape or array.shape), "datatype": datatype, "data": array.ravel().tolist()}


def z(rows=1, columns=Z):
    return numbers("z", np.zeros([rows, columns]))


def psi(value=1.0, rows=1):
    return numbers("truncation_psi", np.full([rows, 1], value))


def text(*inputs, **more):
    return json.dumps({"inputs": inputs, **more}).encode(), {}


def binary(name, array, other, claimed=None, datatype="FP32"):
    """A request with one tensor as bytes: JSON cannot say NaN."""
    content = array.tobytes()
    size = len(content) if claimed is None else claimed
    parameters = {"binary_data_size": size}
    tensor = {"name": name, "shape": list(array.shape), "datatype": datatype, "parameters": parameters}
    head = json.dumps({"inputs": [tensor, *other]}).encode()
    return head + content, {HEADER: str(len(head))}


def floats(value, shape=(1, Z)):
    return np.full(shape, value, np.float32)


INFER = "/v2/models/generator/infer"
MALFORMED = {
    "no body": (INFER, (b"", {})),
    "no JSON": (INFER, (b"paint me something", {})),
    "half of a JSON": (INFER, (text(z(), psi())[0][:-20], {})),
    "no inputs": (INFER, (b"{}", {})),
    "inputs that are no list": (INFER, (b'{"inputs": 3}', {})),
    "inputs without names": (INFER, (b'{"inputs": [{}]}', {})),
    "z missing": (INFER, text(psi())),
    "psi missing": (INFER, text(z())),
    "z twice": (INFER, text(z(), z(), psi())),
    "an input that is not known": (INFER, text(z(), psi(), numbers("seed", [[1]], datatype="INT64"))),
    "too few numbers in z": (INFER, text(z(columns=Z - 1), psi())),
    "too many dimensions": (INFER, text(numbers("z", np.zeros([1, 1, Z])), psi())),
    "no batch dimension": (INFER, text(numbers("z", np.zeros([Z])), psi())),
    "less data than the shape says": (INFER, text(numbers("z", np.zeros([1, 2]), [1, Z]), psi())),
    "more data than the shape says": (INFER, text(numbers("z", np.zeros([2, Z]), [1, Z]), psi())),
    "a shape beyond all memory": (INFER, text(numbers("z", np.zeros([1, Z]), [2**40, Z]), psi())),
    "a shape beyond all numbers": (INFER, text(numbers("z", np.zeros([1, Z]), [2**62, Z]), psi())),
    "a negative shape": (INFER, text(numbers("z", np.zeros([1, Z]), [-1, Z]), psi())),
    "doubles": (INFER, text(numbers("z", np.zeros([1, Z]), datatype="FP64"), psi())),
    "a type that does not exist": (INFER, text(numbers("z", np.zeros([1, Z]), datatype="FLOAT"), psi())),
    "words for numbers": (INFER, text({**z(), "data": ["a"] * Z}, psi())),
    "different batches": (INFER, text(z(2), psi(rows=1))),
    "a batch of none": (INFER, text(z(0), psi(rows=0))),
    "a batch above the maximum": (INFER, text(z(MAX_BATCH + 1), psi(rows=MAX_BATCH + 1))),
    "psi above its range": (INFER, text(z(), psi(2.5))),
    "psi below its range": (INFER, text(z(), psi(-2.5))),
    "psi that is no number": (INFER, binary("truncation_psi", floats(NAN, (1, 1)), [z()])),
    "z that is no number": (INFER, binary("z", floats(NAN), [psi()])),
    "z that is infinite": (INFER, binary("z", floats(INFINITY), [psi()])),
    "z that no normal draws": (INFER, binary("z", floats(1e30), [psi()])),
    "fewer bytes than they are said to be": (INFER, binary("z", floats(0), [psi()], claimed=4 * Z + 8)),
    "a header longer than the request": (INFER, (text(z(), psi())[0], {HEADER: "1000000"})),
    "a header of no length": (INFER, (text(z(), psi())[0], {HEADER: "many"})),
    "an output that is not known": (INFER, text(z(), psi(), outputs=[{"name": "video"}])),
    "memory that is not shared": (
        INFER,
        text({**z(), "parameters": {"shared_memory_region": "x", "shared_memory_byte_size": 4 * Z}}, psi()),
    ),
    "a compression that is none": (INFER, (b"\x00" * 100, {"Content-Encoding": "gzip"})),
    "a compression that is not known": (INFER, (gzip.compress(b"{}"), {"Content-Encoding": "br"})),
    "brackets without end": (INFER, (b"[" * 100_000, {})),
    "50 MB of zeros": (INFER, (bytes(50_000_000), {})),
    "a model that is not known": ("/v2/models/painter/infer", text(z(), psi())),
    "a version that is not known": ("/v2/models/generator/versions/999/infer", text(z(), psi())),
    "a version that is no number": ("/v2/models/generator/versions/new/infer", text(z(), psi())),
    "a path that is not known": ("/v2/paint", text(z(), psi())),
    "ws that are no numbers": ("/v2/models/synthesis/infer", binary("ws", floats(NAN, (1, 6, Z)), [])),
    "ws of other layers": ("/v2/models/synthesis/infer", binary("ws", floats(0, (1, 99, Z)), [])),
    "a seed below 0": ("/v2/models/seed_to_png/infer", text(numbers("seed", [[-1]], datatype="INT64"))),
    "a seed above the last": ("/v2/models/seed_to_png/infer", text(numbers("seed", [[2**32]], datatype="INT64"))),
    "a format that is not known": (
        "/v2/models/seed_to_png/infer",
        text(
            numbers("seed", [[1]], datatype="INT64"),
            {"name": "format", "shape": [1, 1], "datatype": "BYTES", "data": ["gif"]},
        ),
    ),
    "a class that is not known": (
        "/v2/models/times/infer",
        text(z(), psi(), numbers("label", [[99]], datatype="INT64")),
    ),
    "pictures of floats": (
        "/v2/models/style_classifier/infer",
        text(numbers("image", np.zeros([1, 4, 4, 3]))),
    ),
    "pictures of two colours": (
        "/v2/models/style_classifier/infer",
        text(numbers("image", np.zeros([1, 4, 4, 2], int), datatype="UINT8")),
    ),
    "pictures without pixels": (
        "/v2/models/style_classifier/infer",
        text(numbers("image", np.zeros([1, 0, 0, 3], int), datatype="UINT8")),
    ),
    "an ensemble beyond the range": ("/v2/models/generate_and_score/infer", text(z(), psi(9))),
}


def post(server, path, body, headers):
    address = urllib.parse.urlsplit(server.http_url)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=HANG)
    try:
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def still_serves(server, good):
    assert server.is_running() and server.is_ready()
    with Client(server.grpc_url) as client:
        assert all(np.array_equal(a, b) for a, b in zip(client.generate([1, 2]), good, strict=True))


def test_a_request_in_order_is_answered(server):
    status, answer = post(server, INFER, *text(z(), psi()))
    assert status == 200 and json.loads(answer)["outputs"][0]["name"] == "image"
    assert post(server, INFER, *binary("z", floats(0), [psi()]))[0] == 200


@pytest.mark.parametrize("kind", MALFORMED)
def test_a_malformed_request_gets_an_error_and_the_server_goes_on(server, good, kind):
    path, (body, headers) = MALFORMED[kind]
    try:
        status, answer = post(server, path, body, headers)
    except (ConnectionError, http.client.HTTPException):
        pass  # it may close the connection on what is no request at all
    else:
        assert 400 <= status < 500, answer[:300]
        if answer:
            assert json.loads(answer)["error"]
    still_serves(server, good)


@pytest.mark.parametrize("port", ["http_url", "grpc_url"])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00\xff" * 5000,
        b"POST " + INFER.encode() + b' HTTP/1.1\r\nContent-Length: 5000\r\n\r\n{"inputs"',
        b"GET",
    ],
    ids=["silence", "noise", "half a request", "half a line"],
)
def test_connections_that_break_off_are_let_go(server, good, port, content):
    address = urllib.parse.urlsplit(getattr(server, port))
    with (
        socket.create_connection((address.hostname, address.port), timeout=HANG) as connection,
        contextlib.suppress(OSError),
    ):
        connection.sendall(content)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, not a goodbye
    still_serves(server, good)


@pytest.mark.parametrize(
    "model, name, array, version",
    [
        ("generator", "z", floats(NAN), ""),
        ("generator", "z", floats(0, (1, 3)), ""),
        ("generator", "z", floats(0, (MAX_BATCH + 1, Z)), ""),
        ("generator", "w", floats(0), ""),
        ("generator", "z", floats(0), "7777"),
        ("painter", "z", floats(0), ""),
    ],
)
def test_the_same_by_grpc(server, good, model, name, array, version):
    tensors = []
    for label, values in ((name, array), ("truncation_psi", np.ones([len(array), 1], np.float32))):
        tensor = tritonclient.grpc.InferInput(label, values.shape, "FP32")
        tensor.set_data_from_numpy(values)
        tensors.append(tensor)
    client = tritonclient.grpc.InferenceServerClient(server.grpc_url.removeprefix("grpc://"))
    with contextlib.closing(client), pytest.raises(InferenceServerException) as caught:
        client.infer(model, tensors, version)
    assert caught.value.message()
    still_serves(server, good)


class Load:
    """Clients that ask for pictures until told to stop; what they got and what went wrong."""

    def __init__(self, url, expected, clients=3):
        self.errors, self.answers, self._changed = [], 0, threading.Condition()
        self._stop, self._url, self._expected = threading.Event(), url, expected
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def _ask(self):
        with Client(self._url, retries=0) as client:
            while not self._stop.is_set():
                try:
                    (image,) = client.generate([1])
                    assert any(np.array_equal(image, one) for one in self._expected), "neither version's picture"
                except Exception as error:
                    with self._changed:
                        self.errors.append(error)
                        self._changed.notify_all()
                    return
                with self._changed:
                    self.answers += 1
                    self._changed.notify_all()

    def wait_for_answers(self, count):
        """Wait for so many answers more, or until something goes wrong."""
        with self._changed:
            enough = self.answers + count
            assert self._changed.wait_for(lambda: self.answers >= enough or self.errors, HANG)

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *fault):
        self._stop.set()
        for thread in self._threads:
            thread.join()


def test_a_reload_under_load_drops_no_request_and_a_corrupt_version_changes_nothing(triton, tiny_run, tmp_path):
    repository = tmp_path / "models"
    one = ("export", "--out", repository, "--models", "generator")
    assert run_salon(*one, "--snapshot", tiny_run).code == 0
    server = triton(repository, reload="poll")
    with Client(server.grpc_url) as client:
        (first,) = client.generate([1])
    other = snapshot.find(tiny_run)
    other.G_ema.synthesis.b4.const.add_(1)
    snapshot.save(tmp_path / "other.safetensors", other.G_ema, other.D, other.config, other.cur_nimg, other.classes)
    assert run_salon(*one, "--snapshot", tmp_path / "other.safetensors").code == 0
    z = latents.draw([1], Z)
    second = paint(repository / "generator" / "2" / "model.onnx", z)
    with Load(server.grpc_url, [first, second]) as load:
        until(lambda: np.array_equal(picture(server), second) or load.errors, pause=0.1)
        load.wait_for_answers(20)
    assert not load.errors and not np.array_equal(first, second)
    # A version that somebody else put there, and that is broken: only what was exported is loaded.
    shutil.copytree(repository / "generator" / "2", repository / "generator" / "3")
    (repository / "generator" / "3" / "model.onnx").write_bytes(b"\x08\x08" + bytes(1000))
    with Load(server.grpc_url, [second]) as load:
        load.wait_for_answers(20)
    assert not load.errors
    server.stop()


def picture(server):
    with Client(server.grpc_url) as client:
        (image,) = client.generate([1])
    return image


def paint(graph, z):
    import onnxruntime

    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    return session.run(["image"], {"z": z, "truncation_psi": np.ones([1, 1], np.float32)})[0][0]
