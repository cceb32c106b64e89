"""The front, asked as attackers do: what would harm Triton never reaches it, and what is in order does."""

import base64
import contextlib
import http.client
import io
import json
import shutil
import socket
import struct
from pathlib import Path

import grpc
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from conftest import HANG, until
from PIL import Image
from tritonclient.grpc import service_pb2 as messages
from tritonclient.grpc import service_pb2_grpc
from tritonclient.utils import InferenceServerException

from gan.errors import RequestError
from serving.client.client import Client
from serving.contract import read_token
from serving.server.front import gate, rules
from serving.server.front.access import Access
from serving.server.front.http_json import pack, read_json, unpack
from serving.server.front.refused import Refused
from serving.server.front.rules import ModelRule, TensorRule
from serving.server.server import serve

TOKEN = "0123456789abcdef"


@pytest.fixture(scope="module")
def guarded(installed_triton, model_repository, tmp_path_factory):
    """A server that wants a token, goes by one more name, and lets one web site ask."""
    few = tmp_path_factory.mktemp("guarded")
    for model in ("generator", "seed_to_png"):
        shutil.copytree(model_repository / model, few / model, symlinks=True)
    access = Access(token=TOKEN, hosts=("models.example",), origins=("https://salon.example",))
    with serve(few, server=installed_triton, access=access) as running:
        yield running


@pytest.fixture(autouse=True)
def afterwards(server):
    """Whatever was asked, the server serves on."""
    yield
    assert server.is_running() and server.is_ready()
    with Client(server.grpc_url) as client:
        assert len(list(client.generate([1]))) == 1


def ask(server, method, path, body=b"", headers=None, port=0):
    """-> status, headers, content."""
    connection = http.client.HTTPConnection("127.0.0.1", server.ports[port], timeout=HANG)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def stub(server):
    channel = grpc.insecure_channel(server.grpc_url.removeprefix("grpc://"), [("grpc.max_send_message_length", -1)])
    return service_pb2_grpc.GRPCInferenceServiceStub(channel)


def refused(call) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    assert caught.value.details()
    return caught.value.code()


def seed_request(**fields):
    request = messages.ModelInferRequest(model_name="seed_to_png", **fields)
    request.inputs.add(name="seed", datatype="INT64", shape=[1, 1])
    request.raw_input_contents.append(struct.pack("<q", 7))
    return request


# What is closed.


@pytest.mark.parametrize(
    "path",
    [
        "/v2/repository/models/generator/load",
        "/v2/repository/models/generator/unload",
        "/v2/systemsharedmemory/region/x/register",
        "/v2/cudasharedmemory/region/x/register",
        "/v2/models/generator/generate_stream",
        "/v2/models/generator/trace/setting",
        "/v2/trace/setting",
        "/v2/logging",
    ],
)
def test_calls_that_change_the_server_are_closed_over_http(server, path):
    load = {"parameters": {"config": "{}", "file:1/model.py": base64.b64encode(b"import os").decode()}}
    for method in ("POST", "GET"):
        status, _, content = ask(server, method, path, json.dumps(load), {"Content-Type": "text/plain"})
        assert status in (404, 405) and json.loads(content)["error"]


@pytest.mark.parametrize(
    "method, fields",
    [
        ("RepositoryModelLoad", {"model_name": "generator"}),
        ("RepositoryModelUnload", {"model_name": "generator"}),
        ("SystemSharedMemoryRegister", {"name": "x", "key": "/triton", "byte_size": 64}),
        ("SystemSharedMemoryStatus", {}),
        ("SystemSharedMemoryUnregister", {}),
        ("CudaSharedMemoryStatus", {}),
        ("LogSettings", {}),
        ("TraceSetting", {}),
    ],
)
def test_calls_that_change_the_server_are_closed_over_grpc(server, method, fields):
    request = getattr(messages, f"{method}Request")(**fields)
    assert refused(lambda: getattr(stub(server), method)(request)) == grpc.StatusCode.PERMISSION_DENIED


def test_a_stream_is_closed(server):
    with pytest.raises(grpc.RpcError):
        list(stub(server).ModelStreamInfer(iter([seed_request()])))


def test_memory_is_shared_with_nobody(server):
    regions = list(Path("/dev/shm").glob(f"triton_python_backend_shm_region_{server.id}*"))
    assert regions and all(region.stat().st_mode & 0o777 == 0o600 for region in regions)


def test_the_log_goes_on(server):
    # A request to be silent was obeyed by Triton; here it is none that passes.
    body = json.dumps({"log_error": False, "log_file": "/tmp/elsewhere"})
    assert ask(server, "POST", "/v2/logging", body)[0] == 404
    assert not Path("/tmp/elsewhere").exists()


# What killed the server.


@pytest.mark.parametrize("bracket", [b"[", b'{"a":'])
def test_brackets_without_end(server, bracket):
    for body in (bracket * 100_000, b'{"inputs": ' + bracket * 100_000):
        status, _, content = ask(server, "POST", "/v2/models/generator/infer", body)
        assert status == 400 and b"JSON" in content


def test_a_classification_of_bytes(server):
    seed = {"name": "seed", "datatype": "INT64", "shape": [1, 1], "data": [1]}
    body = {"inputs": [seed], "outputs": [{"name": "file", "parameters": {"classification": 3}}]}
    status, _, content = ask(server, "POST", "/v2/models/seed_to_png/infer", json.dumps(body))
    assert status == 400 and b"parameters of file must be left out; got classification" in content
    request = seed_request()
    request.outputs.add(name="file").parameters["classification"].int64_param = 3
    assert refused(lambda: stub(server).ModelInfer(request)) == grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("side", [2**40, 2**62, 2**63 - 1, -1, 0, 17])
def test_shapes_that_claim_more_than_is_sent(server, side):
    z = {"name": "z", "datatype": "FP32", "shape": [side, 8], "data": [0.0] * 8}
    status, _, content = ask(server, "POST", "/v2/models/generator/infer", json.dumps({"inputs": [z]}))
    assert status == 400 and b"shape of z must be" in content
    request = messages.ModelInferRequest(model_name="generator")
    request.inputs.add(name="z", datatype="FP32", shape=[side, 8])
    assert refused(lambda: stub(server).ModelInfer(request)) == grpc.StatusCode.INVALID_ARGUMENT


def test_pictures_of_any_size_that_are_none(server):
    request = messages.ModelInferRequest(model_name="style_classifier")
    request.inputs.add(name="image", datatype="UINT8", shape=[1, 2**31, 2**31, 3])
    request.raw_input_contents.append(b"x")
    assert refused(lambda: stub(server).ModelInfer(request)) == grpc.StatusCode.INVALID_ARGUMENT


def test_memory_of_the_server_named_in_a_request(server):
    request = seed_request()
    del request.raw_input_contents[:]
    request.inputs[0].parameters["shared_memory_region"].string_param = "triton"
    assert refused(lambda: stub(server).ModelInfer(request)) == grpc.StatusCode.INVALID_ARGUMENT


def test_a_message_of_300_mb_is_not_taken_in(server):
    def memory() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096  # the front is in this process

    before, body = memory(), bytes(300_000_000)
    own = memory() - before
    method = grpc.insecure_channel(
        server.grpc_url.removeprefix("grpc://"), [("grpc.max_send_message_length", -1)]
    ).unary_unary("/inference.GRPCInferenceService/ModelInfer")
    assert refused(lambda: method(body)) == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert memory() - before - own < 400_000_000  # the message once, in the client


def test_a_body_of_50_mb_is_not_taken_in(server):
    for headers in ({}, {"Inference-Header-Content-Length": "10"}):
        try:
            status, _, content = ask(server, "POST", "/v2/models/generator/infer", bytes(50_000_000), headers)
            assert status == 400 and b"at most" in content
        except ConnectionError:  # it did not wait for all of it
            pass


def test_what_grpc_messages_must_hold(server):
    ok = seed_request()
    assert stub(server).ModelInfer(ok).raw_output_contents
    text = messages.ModelInferRequest(model_name="seed_to_png")
    text.inputs.add(name="seed", datatype="INT64", shape=[1, 1]).contents.int64_contents.append(7)
    assert stub(server).ModelInfer(text).raw_output_contents == stub(server).ModelInfer(ok).raw_output_contents

    def changed(change):
        request = seed_request()
        change(request)
        return request

    for wrong in (
        changed(lambda r: r.inputs[0].contents.int64_contents.append(7)),  # twice
        changed(lambda r: r.raw_input_contents.append(b"")),
        changed(lambda r: r.raw_input_contents.__setitem__(0, b"1234567")),
        changed(lambda r: r.inputs.add(name="seed", datatype="INT64", shape=[1, 1])),
        changed(lambda r: r.inputs.add(name="sead", datatype="INT64", shape=[1, 1])),
        changed(lambda r: setattr(r.inputs[0], "datatype", "INT32")),
        changed(lambda r: r.inputs[0].shape.append(1)),
        changed(lambda r: r.outputs.add(name="picture")),
        changed(lambda r: setattr(r, "id", "x" * 2000)),
        changed(lambda r: setattr(r.parameters["sequence_id"], "int64_param", 1)),
        changed(lambda r: r.ClearField("inputs")),
    ):
        assert refused(lambda: stub(server).ModelInfer(wrong)) == grpc.StatusCode.INVALID_ARGUMENT  # noqa: B023
    for model, version in (("painter", ""), ("seed_to_png", "999"), ("seed_to_png", "new")):
        request = seed_request(model_version=version)
        request.model_name = model
        assert refused(lambda: stub(server).ModelInfer(request)) == grpc.StatusCode.NOT_FOUND  # noqa: B023


# Who may ask.


@pytest.mark.parametrize(
    "headers, status",
    [
        ({}, 200),
        ({"Host": "localhost:1234"}, 200),
        ({"Host": "[::1]:8000"}, 200),
        ({"Host": "evil.example"}, 421),
        ({"Host": "evil.example:8000", "Origin": "http://evil.example:8000"}, 421),  # a name that points here
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Host": "127.0.0.1:8000", "Origin": "http://127.0.0.1:8000", "Sec-Fetch-Site": "same-origin"}, 200),
    ],
)
def test_pages_of_others_get_nothing(server, headers, status):
    answer, got, content = ask(server, "GET", "/v2", headers=headers)
    assert answer == status and "access-control-allow-origin" not in got
    assert status == 200 or content
    assert ask(server, "GET", "/metrics", headers=headers, port=2)[0] == status


def test_one_s_own_site_may_ask(guarded):
    origin, token = "https://salon.example", {"Authorization": f"Bearer {TOKEN}"}
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
    }
    status, headers, _ = ask(guarded, "OPTIONS", "/v2/models/generator/infer", headers=asked)
    assert status == 200 and headers["access-control-allow-origin"] == origin
    status, headers, _ = ask(guarded, "GET", "/v2", headers={"Origin": origin, "Host": "models.example", **token})
    assert status == 200 and headers["access-control-allow-origin"] == origin
    asked["Origin"] = "https://evil.example"
    assert ask(guarded, "OPTIONS", "/v2/models/generator/infer", headers=asked)[0] == 403


@pytest.mark.parametrize("given", [None, "Bearer wrong", TOKEN, "Bearer ", "bearer " + TOKEN, "Bearer \xe9"])
def test_without_the_token_nothing_is_told(guarded, given):
    headers = {} if given is None else {"Authorization": given}
    for path, port in (("/v2", 0), ("/v2/models/generator", 0), ("/metrics", 2)):
        assert ask(guarded, "GET", path, headers=headers, port=port)[0] == 401
    assert ask(guarded, "GET", "/v2/health/ready", headers=headers)[0] == 200
    if given is None or given.isascii():
        metadata = [] if given is None else [("authorization", given)]
        call = lambda: stub(guarded).ModelInfer(seed_request(), metadata=metadata)  # noqa: E731
        assert refused(call) == grpc.StatusCode.UNAUTHENTICATED
        assert refused(lambda: stub(guarded).ServerMetadata(messages.ServerMetadataRequest(), metadata=metadata))
    assert stub(guarded).ServerReady(messages.ServerReadyRequest()).ready


def test_with_the_token_all_is(guarded):
    metadata = [("authorization", f"Bearer {TOKEN}")]
    assert stub(guarded).ModelInfer(seed_request(), metadata=metadata).raw_output_contents
    headers = {"Authorization": f"Bearer {TOKEN}"}
    assert ask(guarded, "POST", "/v2/models/seed_to_png/generate", b'{"seed": 7}', headers)[0] == 200
    assert ask(guarded, "GET", "/metrics", headers=headers, port=2)[0] == 200


def test_a_token_is_a_word_in_a_file(tmp_path):
    file = tmp_path / "token"
    file.write_text(f"  {TOKEN}\n")
    assert read_token(file) == TOKEN
    for content in ("", "short", "two words that are long enough", "x" * 20 + "\u00e9"):
        file.write_text(content)
        with pytest.raises(RequestError, match=r"`token_file` .*must"):
            Access(token=read_token(file))


# What is in order.


def test_other_people_s_clients_get_what_they_ask_for(server):
    host = f"127.0.0.1:{server.ports[0]}"
    with contextlib.closing(tritonclient.http.InferenceServerClient(host)) as client:
        arrays = {"z": np.zeros([2, 8], np.float32), "truncation_psi": np.ones([2, 1], np.float32)}
        answers = []
        for binary in (True, False):
            inputs = [tritonclient.http.InferInput(n, list(a.shape), "FP32") for n, a in arrays.items()]
            for tensor, array in zip(inputs, arrays.values(), strict=True):
                tensor.set_data_from_numpy(array, binary_data=binary)
            wanted = [tritonclient.http.InferRequestedOutput("image", binary_data=binary)]
            answers.append(client.infer("generator", inputs, outputs=wanted, request_id="mine"))
        images = [answer.as_numpy("image") for answer in answers]
        assert images[0].shape == (2, 16, 16, 3) and np.array_equal(*images)
        assert answers[0].get_response()["id"] == "mine" and answers[0].get_response()["model_version"] == "1"
        assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("generator")
        assert client.get_server_metadata()["extensions"] == ["model_configuration", "binary_tensor_data", "statistics"]
        assert client.get_model_metadata("generator")["inputs"][0]["shape"] == [-1, 8]
        config = client.get_model_config("generator", "1")
        assert config["max_batch_size"] == 16 and config["input"][0]["dims"] == [8]
        assert json.loads(config["parameters"]["salon"]["string_value"])["kind"] == "generator"
        stats = client.get_inference_statistics("generator")["model_stats"]
        assert stats[0]["inference_stats"]["success"]["count"] >= 2
        assert {"name": "generator", "version": "1", "state": "READY"} in client.get_model_repository_index()
        with pytest.raises(InferenceServerException):
            client.load_model("generator")
        # The same over gRPC.
        rpc = tritonclient.grpc.InferenceServerClient(server.grpc_url.removeprefix("grpc://"))
        with contextlib.closing(rpc):
            inputs = [tritonclient.grpc.InferInput(n, list(a.shape), "FP32") for n, a in arrays.items()]
            for tensor, array in zip(inputs, arrays.values(), strict=True):
                tensor.set_data_from_numpy(array)
            assert np.array_equal(rpc.infer("generator", inputs).as_numpy("image"), images[0])
            assert rpc.is_model_ready("generator") and rpc.get_model_metadata("generator").name == "generator"


def test_one_output_of_an_ensemble_may_be_asked_for(server):
    # Triton itself fails: the image, which is not asked for, is what the discriminator needs.
    inputs = [
        {"name": "z", "shape": [1, 8], "datatype": "FP32", "data": [0] * 8},
        {"name": "truncation_psi", "shape": [1, 1], "datatype": "FP32", "data": [1]},
    ]
    answers = []
    for outputs in ({}, {"outputs": [{"name": "logit"}]}):
        body = json.dumps({"inputs": inputs, **outputs})
        status, _, content = ask(server, "POST", "/v2/models/generate_and_score/infer", body)
        assert status == 200
        answers.append({output["name"]: output["data"] for output in json.loads(content)["outputs"]})
    assert set(answers[0]) == {"image", "logit"} and answers[1] == {"logit": answers[0]["logit"]}


def test_an_image_is_one_line_of_curl(server):
    status, headers, content = ask(server, "POST", "/v2/models/seed_to_png/generate", b'{"seed": 7}')
    assert status == 200 and headers["content-type"] == "image/png"
    with Client(server.grpc_url) as client:
        (image,) = client.generate([7])
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(content))), image)
    body = b'{"seed": 7, "format": "webp", "truncation_psi": 0.5}'
    assert ask(server, "POST", "/v2/models/seed_to_png/versions/1/generate", body)[1]["content-type"] == "image/webp"
    status, headers, content = ask(
        server, "POST", "/v2/models/mapping/generate", b'{"z": [0,0,0,0,0,0,0,0], "truncation_psi": 1}'
    )
    assert status == 200 and len(json.loads(content)["ws"]) == 6 * 8
    for wrong, word in (
        (b'{"seed": "seven"}', "seed"),
        (b'{"sead": 7}', "sead"),
        (b"[]", "object"),
        (b'{"seed": [7, 8]}', "seed"),
        (b"{}", "seed"),
    ):
        status, _, content = ask(server, "POST", "/v2/models/seed_to_png/generate", wrong)
        assert status == 400 and word in json.loads(content)["error"]


def test_figures_are_counted(server):
    def count(name):
        _, _, content = ask(server, "GET", "/metrics", port=2)
        return sum(float(line.split()[-1]) for line in content.decode().splitlines() if line.startswith(name))

    names = (
        'salon_requests_total{code="OK",model="seed_to_png",protocol="http"}',
        'salon_refused_total{code="INVALID_ARGUMENT",protocol="http"}',
        'salon_request_seconds_count{model="seed_to_png"}',
        'nv_inference_request_success{model="seed_to_png"',
    )
    before = [count(name) for name in names]
    ask(server, "POST", "/v2/models/seed_to_png/generate", b'{"seed": 7}')
    ask(server, "POST", "/v2/models/seed_to_png/generate", b'{"sead": 7}')
    assert [count(name) - old for name, old in zip(names, before, strict=True)] == [1, 1, 1, 1]


def test_a_client_that_leaves_is_not_worked_for(server, monkeypatch):
    # The queue is closed, so that the request waits; its slot is free again once its client has gone.
    inside = server._front._gate
    monkeypatch.setattr(inside, "_slots", gate.asyncio.Semaphore(0))
    for leave in ("http", "grpc"):
        if leave == "http":
            connection = http.client.HTTPConnection("127.0.0.1", server.ports[0])
            connection.request("POST", "/v2/models/seed_to_png/generate", b'{"seed": 7}')
            until(lambda: inside.in_flight)
            connection.close()
        else:
            call = stub(server).ModelInfer.future(seed_request())
            until(lambda: inside.in_flight)
            call.cancel()
        until(lambda: not inside.in_flight)


def test_a_crowd_is_told_to_come_later(server, monkeypatch):
    monkeypatch.setattr(gate, "WAITING", 0)
    assert ask(server, "POST", "/v2/models/seed_to_png/generate", b'{"seed": 7}')[0] == 429
    assert refused(lambda: stub(server).ModelInfer(seed_request())) == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_thousands_of_connections_that_say_nothing_do_not_stop_it(server):
    with contextlib.ExitStack() as stack:
        for number in range(1100):
            stack.enter_context(socket.create_connection(("127.0.0.1", server.ports[number % 2]), timeout=HANG))
        assert ask(server, "GET", "/v2/health/ready")[0] == 200
        with Client(server.grpc_url) as client:
            assert len(list(client.generate([1, 2]))) == 2


# The rules by themselves.

RULE = ModelRule("m", 4, {"x": TensorRule("INT8", (2,)), "t": TensorRule("BYTES", (1,), optional=True)}, {})


def test_bytes_are_split_as_they_were_joined():
    items = [b"", b"abc", b"\xff" * 300]
    joined = rules.join_bytes(items)
    assert rules.split_bytes(joined, 3, "t") == items
    for wrong, count in ((joined[:-1], 3), (joined, 2), (joined, 4), (b"\xff\xff\xff\x7f", 1), (joined + b"\0", 3)):
        with pytest.raises(Refused):
            rules.split_bytes(wrong, count, "t")


def test_json_values_become_the_bytes_of_their_type():
    assert pack([[1, -2]], "INT8", 2, "x") == b"\x01\xfe"
    assert pack([True], "BOOL", 1, "x") == b"\x01"
    assert unpack(pack([1.5, 2], "FP16", 2, "x"), "FP16", 2, "x") == [1.5, 2]
    assert unpack(pack(["a", "\u00e9"], "BYTES", 2, "t"), "BYTES", 2, "t") == ["a", "\u00e9"]
    for data, datatype, count in (
        ([128, 0], "INT8", 2),
        ([1.5, 0], "INT8", 2),
        (["1", "2"], "INT8", 2),
        ([1], "INT8", 2),
        ([[1], [1, 2]], "INT8", 3),
        ([2**70], "INT64", 1),
        ([-1], "UINT8", 1),
        ([1], "BOOL", 1),
        (["1"], "FP32", 1),
        ([None], "FP32", 1),
        ([1], "BYTES", 1),
        ("a", "BYTES", 1),
        ({"a": 1}, "FP32", 1),
        ([[["a"], "b"]], "BYTES", 2),
    ):
        with pytest.raises(Refused):
            pack(data, datatype, count, "x")
    with pytest.raises(Refused, match="binary_data"):
        unpack(struct.pack("<f", float("nan")), "FP32", 1, "x")
    with pytest.raises(Refused, match="binary_data"):
        unpack(rules.join_bytes([b"\xff"]), "BYTES", 1, "x")


@pytest.mark.parametrize("body", [b"", b"[]", b"3", b'{"a": NaN}', b'{"a": Infinity}', b"\xff", b"{} {}"])
def test_json_is_an_object(body):
    with pytest.raises(Refused, match="JSON"):
        read_json(body)
