"""Both ways to a server, on real sockets: what goes over the wire, and which error each fault becomes."""

import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
import numpy as np
import pytest
from conftest import HANG
from tritonclient.grpc import service_pb2 as messages
from tritonclient.grpc import service_pb2_grpc as services

from gan.errors import RequestError, SalonError
from serving.client.cancel import Cancellation, Cancelled
from serving.client.retry import RetryPolicy, TooSlow, Unavailable
from serving.client.transport import connect

Z = np.arange(6, dtype=np.float32).reshape(2, 3)
CONFIG = {"name": "generator", "parameters": {"salon": {"string_value": "about"}}}


class Http(BaseHTTPRequestHandler):
    """Doubles the one tensor that it gets; `server.fault` (status, body) answers everything where it is set."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.shown.append(self.headers.get("Authorization"))
        answers = {
            "/v2": {"name": "triton", "version": "2.51.0"},
            "/v2/health/ready": {},
            "/v2/models/generator/config": CONFIG,
            "/v2/models/stats": {"model_stats": [{"name": "generator", "inference_count": 8}]},
        }
        self._answer(json.dumps(answers[self.path]).encode())

    def do_POST(self):
        self.server.shown.append(self.headers.get("Authorization"))
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/v2/repository/index":
            return self._answer(json.dumps([{"name": "generator", "version": "1", "state": "READY"}]).encode())
        assert self.path in ("/v2/models/generator/infer", "/v2/models/generator/versions/3/infer")
        length = int(self.headers["Inference-Header-Content-Length"])
        request = json.loads(body[:length])
        (tensor,), (wanted,) = request["inputs"], request["outputs"]
        assert (tensor["name"], tensor["datatype"], tensor["shape"]) == ("z", "FP32", [2, 3])
        doubled = (np.frombuffer(body[length:], np.float32) * 2).tobytes()
        output = {"name": wanted["name"], "datatype": "FP32", "shape": [2, 3]}
        output["parameters"] = {"binary_data_size": len(doubled)}
        answered = {"model_name": "generator", "model_version": self.server.answering, "outputs": [output]}
        header = json.dumps(answered).encode()
        return self._answer(header + doubled, {"Inference-Header-Content-Length": str(len(header))})

    def _answer(self, content, headers=None):
        status, content = self.server.fault or (200, content)
        if self.server.released.is_set():
            status = None  # its connections outlive a server of the standard library
        if status is None:
            self.connection.shutdown(socket.SHUT_RDWR)  # as when the server dies
            self.close_connection = True
        elif status == "silence":
            self.server.left = lambda: self.connection.recv(1) == b""
            self.server.heard.set()
            self.server.released.wait(HANG)
            self.close_connection = True
        else:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

    def log_message(self, *arguments):
        pass


class Grpc(services.GRPCInferenceServiceServicer):
    """The same over gRPC; `fault` is (code, details)."""

    def __init__(self):
        self.fault, self.heard, self.released = None, threading.Event(), threading.Event()
        self.answering, self.shown = "1", []

    def _check(self, context):
        self.shown.append(dict(context.invocation_metadata()).get("authorization"))
        if self.fault == ("silence", b""):
            left = threading.Event()
            context.add_callback(left.set)
            self.left = lambda: left.wait(HANG)
            self.heard.set()
            self.released.wait(HANG)
        elif self.fault:
            context.abort(*self.fault)

    def ModelInfer(self, request, context):
        self._check(context)
        assert (request.inputs[0].name, request.inputs[0].datatype) == ("z", "FP32")
        answer = messages.ModelInferResponse(model_name=request.model_name, model_version=self.answering)
        answer.outputs.add(name=request.outputs[0].name, datatype="FP32", shape=request.inputs[0].shape)
        answer.raw_output_contents.append((np.frombuffer(request.raw_input_contents[0], np.float32) * 2).tobytes())
        return answer

    def ServerMetadata(self, request, context):
        self._check(context)
        return messages.ServerMetadataResponse(name="triton", version="2.51.0")

    def ServerReady(self, request, context):
        self.shown.append(dict(context.invocation_metadata()).get("authorization"))
        return messages.ServerReadyResponse(ready=self.fault is None)

    def RepositoryIndex(self, request, context):
        self._check(context)
        entry = messages.RepositoryIndexResponse.ModelIndex(name="generator", version="1", state="READY")
        return messages.RepositoryIndexResponse(models=[entry])

    def ModelConfig(self, request, context):
        self._check(context)
        answer = messages.ModelConfigResponse()
        answer.config.name = "generator"
        answer.config.parameters["salon"].string_value = "about"
        return answer

    def ModelStatistics(self, request, context):
        self._check(context)
        return messages.ModelStatisticsResponse(
            model_stats=[messages.ModelStatistics(name="generator", inference_count=8)]
        )


@contextmanager
def http_server(port=0):
    server = ThreadingHTTPServer(("127.0.0.1", port), Http)
    server.daemon_threads, server.fault = True, None
    server.heard, server.released = threading.Event(), threading.Event()
    server.answering, server.shown = "1", []
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", server
    finally:
        server.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def grpc_server(port=0):
    server, servicer = grpc.server(ThreadPoolExecutor(4)), Grpc()
    services.add_GRPCInferenceServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    try:
        yield f"grpc://127.0.0.1:{port}", servicer
    finally:
        servicer.released.set()
        server.stop(None).wait()


@contextmanager
def triton_http():
    """What Triton's HTTP port does when gRPC comes in: it listens, and closes."""

    def close_all():
        with suppress(OSError):
            while True:
                connection, _ = listening.accept()
                connection.recv(65536)
                connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=close_all, daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", None
        listening.shutdown(socket.SHUT_RDWR)


SERVERS = {"http": http_server, "grpc": grpc_server}


@pytest.fixture(params=SERVERS)
def served(request):
    """A transport and the server that it leads to."""
    with SERVERS[request.param]() as (url, server), closing(connect(url)) as transport:
        assert transport.url == url
        yield transport, server


def test_arrays_go_there_and_back(served):
    transport, _ = served
    for _ in range(3):  # over one connection
        found = transport.infer("generator", {"z": Z}, ["image"], 30)
        assert list(found) == ["image"] and found["image"].dtype == np.float32
        assert np.array_equal(found["image"], 2 * Z)


def test_many_threads_share_a_transport(served):
    transport, _ = served
    with ThreadPoolExecutor(8) as pool:
        given = [np.full([2, 3], i, np.float32) for i in range(40)]
        found = pool.map(lambda z: transport.infer("generator", {"z": z}, ["image"], 30)["image"], given)
        assert all(np.array_equal(a, 2 * b) for a, b in zip(found, given, strict=True))


def test_what_the_server_says_of_itself(served):
    transport, server = served
    assert transport.server(30)["version"] == "2.51.0"
    assert transport.ready(30) is True
    assert transport.index(30) == [{"name": "generator", "version": "1", "state": "READY"}]
    assert transport.config("generator", 30)["parameters"] == CONFIG["parameters"]
    assert [(s["name"], int(s["inference_count"])) for s in transport.statistics(30)] == [("generator", 8)]
    server.fault = (400, b"")
    assert transport.ready(30) is False


def triton_error(text):
    return json.dumps({"error": text}).encode()


HTTP_FAULTS = {
    "at fault": (
        (400, triton_error("[request id: 7] unexpected shape\n for 'z'.")),
        RequestError,
        "unexpected shape for",
    ),
    "unknown": ((404, triton_error("unknown model")), RequestError, "unknown model"),
    "too long": ((413, b"<html>too large</html>"), RequestError, "too large"),
    "no reason": ((400, b""), RequestError, "Bad Request"),
    "no token": ((401, triton_error("a token is missing")), RequestError, "a token is missing; it wants a token"),
    "wrong token": ((403, b""), RequestError, "name its file with `token_file`, or set SALON_TOKEN"),
    "busy": ((503, triton_error("Exceeds maximum queue size")), Unavailable, "Exceeds maximum queue size"),
    "proxy": ((502, b""), Unavailable, "Bad Gateway"),
    "failed": ((500, triton_error("bad alloc")), SalonError, "failed: bad alloc"),
    "process died": ((500, triton_error("Stub process 'generator_0_0' is not healthy.")), Unavailable, "not healthy"),
    "died": ((None, b""), Unavailable, "not available"),
    "another server": ((200, b"<html>welcome</html>"), SalonError, "none of Triton's"),
}
GRPC_FAULTS = {
    "at fault": (("INVALID_ARGUMENT", "unexpected shape"), RequestError, "refused the request: unexpected shape"),
    "unknown": (("NOT_FOUND", "unknown model"), RequestError, "unknown model"),
    "another server": (("UNIMPLEMENTED", "no method"), RequestError, "no method"),
    "no token": (("UNAUTHENTICATED", "a token is missing"), RequestError, "a token is missing; it wants a token"),
    "wrong token": (("PERMISSION_DENIED", ""), RequestError, "name its file with `token_file`, or set SALON_TOKEN"),
    "busy": (("UNAVAILABLE", "Exceeds maximum queue size"), Unavailable, "Exceeds maximum queue size"),
    "stopping": (("CANCELLED", "stopping"), Unavailable, "stopping"),
    "failed": (("INTERNAL", "bad alloc"), SalonError, "failed: bad alloc"),
    "process died": (("INTERNAL", "Stub process 'generator_0_0' is not healthy."), Unavailable, "not healthy"),
    "says nothing": (("UNKNOWN", ""), SalonError, "no reason given"),
}


@pytest.mark.parametrize("way, name", [*(("http", n) for n in HTTP_FAULTS), *(("grpc", n) for n in GRPC_FAULTS)])
def test_every_fault_becomes_one_clear_line(way, name):
    fault, kind, words = (HTTP_FAULTS if way == "http" else GRPC_FAULTS)[name]
    with SERVERS[way]() as (url, server), closing(connect(url)) as transport:
        server.fault = fault if way == "http" else (grpc.StatusCode[fault[0]], fault[1])
        calls = [
            lambda: transport.infer("generator", {"z": Z}, ["image"], 30),
            lambda: transport.config("generator", 30),
        ]
        for call in [*calls, lambda: transport.index(30), lambda: transport.server(30)]:
            with pytest.raises(kind) as caught:
                call()
            assert type(caught.value) is kind and "\n" not in str(caught.value)
            assert words in str(caught.value) and url in str(caught.value) and "request id" not in str(caught.value)
        server.fault = None
        assert np.array_equal(transport.infer("generator", {"z": Z}, ["image"], 30)["image"], 2 * Z)


def test_no_answer_in_time(served):
    transport, server = served
    server.fault = ("silence", b"")
    with pytest.raises(TooSlow, match="did not answer in time") as caught:
        transport.infer("generator", {"z": Z}, ["image"], 0.2)
    assert not isinstance(caught.value, Unavailable)
    server.fault = None  # what comes late is not taken for the next answer
    assert np.array_equal(transport.infer("generator", {"z": Z}, ["image"], 30)["image"], 2 * Z)


def test_the_time_that_is_told_is_the_one_that_was_given(served):
    transport, server = served
    policy, attempts = RetryPolicy(timeout=0.4, retries=3), []
    server.fault = ("silence", b"")
    with pytest.raises(SalonError, match=r"did not answer within 0\.4 s; raise `timeout`, or lower `concurrency`"):
        policy.ask(lambda left: transport.infer("generator", {"z": Z}, ["image"], left / 2), threading.Event())

    def away_at_first(left):
        attempts.append(left)
        if len(attempts) == 1:
            raise Unavailable("the server is not available: starting")
        return transport.infer("generator", {"z": Z}, ["image"], left / 2)

    with pytest.raises(SalonError, match=r"within 8 s; before that, the server is not available: starting"):
        RetryPolicy(timeout=8, retries=3).ask(lambda left: away_at_first(0.2), threading.Event())


def test_a_version_is_asked_for_and_another_one_is_no_answer(served):
    transport, server = served
    server.answering = "3"
    assert np.array_equal(transport.infer("generator", {"z": Z}, ["image"], 30, 3)["image"], 2 * Z)
    server.answering = "4"
    with pytest.raises(SalonError, match="version 4 of generator answered instead of 3"):
        transport.infer("generator", {"z": Z}, ["image"], 30, 3)
    transport.infer("generator", {"z": Z}, ["image"], 30)


@pytest.mark.parametrize("way", SERVERS)
def test_a_token_is_shown_with_every_call(way):
    for token in ("s3cret-Token", None):
        with SERVERS[way]() as (url, server), closing(connect(url, token)) as transport:
            transport.infer("generator", {"z": Z}, ["image"], 30)
            transport.config("generator", 30)
            for call in (transport.server, transport.ready, transport.index, transport.statistics):
                call(30)
            assert server.shown == [token and f"Bearer {token}"] * 6


def test_closing_ends_a_request_under_way(served):
    transport, server = served
    server.fault = ("silence", b"")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(transport.infer, "generator", {"z": Z}, ["image"], 600)
        assert server.heard.wait(HANG)
        transport.close()
        with pytest.raises(Unavailable):
            waiting.result(HANG)


def test_cancelling_ends_a_request_under_way_and_lets_none_begin(served):
    transport, server = served
    server.fault = ("silence", b"")
    cancel = Cancellation()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(transport.infer, "generator", {"z": Z}, ["image"], 600, cancel=cancel)
        assert server.heard.wait(HANG)
        cancel.cancel()
        with pytest.raises(Cancelled):
            waiting.result(HANG)
        assert not isinstance(waiting.exception(), Unavailable)  # which would be tried again
    assert server.left()  # the server knows
    server.fault = None
    with pytest.raises(Cancelled):
        transport.infer("generator", {"z": Z}, ["image"], 30, cancel=cancel)
    assert np.array_equal(transport.infer("generator", {"z": Z}, ["image"], 30, cancel=Cancellation())["image"], 2 * Z)


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_nobody_there(scheme):
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))  # taken, but nobody listens
        with (
            closing(connect(f"{scheme}://127.0.0.1:{probe.getsockname()[1]}")) as transport,
            pytest.raises(Unavailable, match=r"Connection refused.*; start a server with `salon serve`.*`url`"),
        ):
            transport.server(30)


@pytest.mark.parametrize(
    "server, way, other", [(http_server, "http", "grpc"), (triton_http, "http", "grpc"), (grpc_server, "grpc", "http")]
)
def test_the_port_of_the_other_protocol_is_told(server, way, other):
    with (
        server() as (url, _),
        closing(connect(url.replace(way, other))) as transport,
        pytest.raises(SalonError, match=r"usual ports are http://HOST:8000 and grpc://HOST:8001"),
    ):
        transport.server(30)


@pytest.mark.parametrize("way", SERVERS)
def test_a_server_that_comes_back_is_found(way):
    with SERVERS[way]() as (url, _):
        transport = connect(url)
        transport.server(30)
    with closing(transport):
        with pytest.raises(Unavailable):
            transport.server(30)
        with SERVERS[way](port=int(url.rpartition(":")[2])):
            assert RetryPolicy().ask(transport.server, threading.Event())["version"] == "2.51.0"
            transport.close()


@pytest.mark.parametrize("url", ["", "127.0.0.1:8001", "ftp://host:1", "http://host:0", "http://host:99999", "grpc://"])
def test_what_is_no_url(url):
    with pytest.raises(RequestError, match="`url` must be grpc://HOST:PORT or http://HOST:PORT"):
        connect(url)


def test_ports_may_be_left_out_and_encryption_asked_for():
    for url in ("grpc://host", "http://host/", "grpcs://host:1", "https://host", "http://[::1]:8000"):
        with closing(connect(url)) as transport:
            assert transport.url == url
