"""A real server: started, ready, stopped, and gone whatever happens to the process that asked for it."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import HANG, run_salon, until

from gan.errors import RequestError, SalonError
from serving.client.client import Client
from serving.server import server as servers
from serving.server.install import Triton
from serving.server.process import REGIONS
from serving.server.server import serve

MODEL = """
import time
import triton_python_backend_utils as pb_utils

FACTOR = 2


class TritonPythonModel:
    def execute(self, requests):
        xs = [pb_utils.get_input_tensor_by_name(request, "x").as_numpy() for request in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("y", x * FACTOR)]) for x in xs]
"""
CONFIG = """
backend: "python"
max_batch_size: 4
input { name: "x" data_type: TYPE_FP32 dims: 2 }
output { name: "y" data_type: TYPE_FP32 dims: 2 }
instance_group { kind: KIND_CPU }
"""


def write_model(repository: Path, name="times", code=MODEL, config=CONFIG, version="1") -> Path:
    (repository / name / version).mkdir(parents=True)
    (repository / name / version / "model.py").write_text(code)
    (repository / name / "config.pbtxt").write_text(f'name: "{name}"{config}')
    return repository


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("repository"))


@pytest.fixture(scope="module")
def running(installed_triton, repository):
    """A server that tests only ask."""
    with serve(repository, server=installed_triton) as server:
        yield server


def post(url: str, value: object) -> dict:
    with urllib.request.urlopen(url, json.dumps(value).encode()) as answer:
        return json.loads(answer.read() or "{}")


def infer(server, model="times") -> list[float]:
    x = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.5, -2]}
    return post(f"{server.http_url}/v2/models/{model}/infer", {"inputs": [x]})["outputs"][0]["data"]


def stat(pid: int) -> list[str]:
    try:  # after the name, which may hold spaces: state, parent, process group, ...
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def processes(group: int) -> list[int]:
    """The live processes of a server, those of its Python models included."""
    of_all = {int(entry.name): stat(int(entry.name)) for entry in Path("/proc").iterdir() if entry.name.isdigit()}
    return [pid for pid, fields in of_all.items() if fields and fields[2] == str(group) and fields[0] != "Z"]


def shared_memory(id: str) -> list[Path]:
    return list(Path("/dev/shm").glob(f"{REGIONS}{id}*"))


def id_of(pid: int) -> str:
    words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    return next(word for word in words if word.startswith("--id=")).removeprefix("--id=")


def test_a_server_computes(running):
    assert infer(running) == [3, -4]
    assert running.models() == [{"name": "times", "version": "1", "state": "READY"}]
    assert running.is_ready() and running.is_running()
    assert len(processes(running.pid)) == 2  # the server's and its model's
    assert shared_memory(running.id)
    with urllib.request.urlopen(running.metrics_url) as answer:
        assert b'nv_inference_request_success{model="times"' in answer.read()


def test_it_listens_on_this_machine_only(running):
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()]
    addresses = [row[1].split(":") for row in rows if row[3] == "0A"]
    for url in (running.http_url, running.grpc_url, running.metrics_url):
        port = int(url.split(":")[2].split("/")[0])
        (address,) = [address for address, number in addresses if number == f"{port:04X}"]
        assert address in ("0100007F", "0000000000000000FFFF00000100007F")  # 127.0.0.1, as IPv4 and within IPv6
    inodes = {row[9] for row in rows}
    for pid in processes(running.pid):  # Triton itself is reached by its socket alone, which is this user's
        sockets = {str(fd.readlink()).strip("socket:[]") for fd in Path(f"/proc/{pid}/fd").iterdir()}
        assert not sockets & inodes
    assert running.folder.stat().st_mode & 0o777 == 0o700 and list(running.folder.iterdir())


def test_stopping_leaves_nothing_and_two_servers_do_not_meet(repository, running, installed_triton):
    with serve(repository, server=installed_triton) as other:
        assert infer(other) == [3, -4]
        assert other.id != running.id
    assert not other.is_running() and not other.is_ready()
    assert not processes(other.pid) and not shared_memory(other.id)
    assert infer(running) == [3, -4]


def test_it_serves_at_ipv6(repository, installed_triton):
    with serve(repository, server=installed_triton, host="::1") as server:
        assert server.http_url.startswith("http://[::1]:") and infer(server) == [3, -4]
        with Client(server.grpc_url) as client:
            assert client.status()["ready"]


def test_the_surroundings_of_the_command_do_not_matter(repository, installed_triton, monkeypatch, tmp_path):
    (tmp_path / "numpy.py").write_text("raise AssertionError('not the numpy of the server')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with serve(Path(os.path.relpath(repository)), server=installed_triton) as server:
        assert infer(server) == [3, -4]


def test_requests_in_flight_are_finished(tmp_path, installed_triton):
    begun, hold = tmp_path / "begun", tmp_path / "hold"
    slow = [f"while os.path.exists({str(hold)!r}):", f"    open({str(begun)!r}, 'w').close()", "    time.sleep(0.01)"]
    write_model(tmp_path, code="import os\n" + MODEL.replace("xs =", "\n        ".join([*slow, "xs ="])))
    with ThreadPoolExecutor() as pool, serve(tmp_path, server=installed_triton) as server:
        hold.touch()
        answer = pool.submit(infer, server)
        until(begun.exists)
        stopped = pool.submit(server.stop)
        until(lambda: not server.is_ready() or answer.done())
        assert server.is_running() and not answer.done()
        hold.unlink()
        assert answer.result() == [3, -4]
        stopped.result()


@pytest.fixture
def program(installed_triton, tmp_path_factory):
    """The server as a program that is named, as another installation would be."""
    path = tmp_path_factory.mktemp("named") / "tritonserver"
    variables = " ".join(f"{key}='{value}'" for key, value in installed_triton.variables.items() if value is not None)
    path.write_text(
        f'#!/bin/sh\nexec env {variables} {installed_triton.program} {" ".join(installed_triton.options)} "$@"\n'
    )
    path.chmod(0o755)
    return path


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=HANG) as answer:
            return answer.status == 200
    except OSError:
        return False


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 0), (signal.SIGTERM, 0), (signal.SIGKILL, -signal.SIGKILL)])
def test_nothing_outlives_the_command(repository, program, number, code):
    ports = [f"--{service}-port=0" for service in ("http", "grpc", "metrics")]
    command = ["serve", str(repository), *ports, "--tritonserver", str(program), "--json"]
    environment = {**os.environ, "http_proxy": "http://127.0.0.1:9", "no_proxy": ""}  # a proxy that is down
    words = [sys.executable, "-m", "gan", *command]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment) as salon:
        figures = json.loads(salon.stdout.readline())
        assert figures["models"] == [{"name": "times", "version": "1", "state": "READY"}]
        assert figures["tritonserver"] == str(program)
        pid, id = figures["pid"], id_of(figures["pid"])
        assert len(processes(pid)) == 2 and shared_memory(id)
        salon.send_signal(number)
        assert salon.wait() == code
        assert number == signal.SIGKILL or not processes(pid)
    until(lambda: not processes(pid) and not shared_memory(id), pause=0.05)


@contextlib.contextmanager
def served(repository, program, *options, pauses=(0.25, 0.5)):
    """`salon serve` in a process, with these pauses before it starts a server again -> process, figures."""
    ports = [f"--{service}-port=0" for service in ("http", "grpc", "metrics")]
    words = ["serve", str(repository), *ports, "--tritonserver", str(program), "--json", *options]
    code = (
        f"from gan.__main__ import main; from serving.server import server; server.PAUSES = {pauses}; main({words!r})"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdout=pipe, stderr=pipe, text=True) as salon:
        try:
            yield salon, json.loads(salon.stdout.readline())
        finally:
            salon.send_signal(signal.SIGINT)
            salon.wait()


def pid_of(salon) -> int | None:
    """The Triton that a `salon serve` runs now."""
    of = {int(entry.name): stat(int(entry.name)) for entry in Path("/proc").iterdir() if entry.name.isdigit()}
    children = [pid for pid, fields in of.items() if fields and fields[1] == str(salon.pid)]
    return next((pid for pid, fields in of.items() if fields and fields[1] in map(str, children)), None)


def test_the_command_starts_a_server_that_died_again_and_again(repository, program):
    # However soon: here right after it was ready, three times, once by the end of its supervisor.
    with served(repository, program) as (salon, figures):
        victim = figures["pid"]
        for keeper in (False, True, False):
            os.kill(int(stat(victim)[1]) if keeper else victim, signal.SIGKILL)
            until(lambda: not processes(victim), pause=0.05)  # noqa: B023
            until(lambda: pid_of(salon) not in (None, victim), salon, 0.05)  # noqa: B023
            until(lambda: answers(f"{figures['http']}/v2/health/ready"), salon)
            victim = pid_of(salon)
        salon.send_signal(signal.SIGINT)
        _, said = salon.communicate()
    assert salon.returncode == 0 and said.count("ended with code 137") == 2 and "ended with code -9" in said
    assert [f"in {pause} s." in said for pause in ("0.25", "0.5", "1")] == [True, True, False]
    assert not list(Path("/dev/shm").glob(f"{REGIONS}*{victim}*")) and not processes(victim)


def test_what_tidies_up_leaves_the_next_server_its_folder(repository, installed_triton, monkeypatch):
    begin = subprocess.Popen

    def begin_while_the_watch_looks(*words, **options):
        begun = begin(*words, **options)
        server._tick()
        return begun

    with serve(repository, server=installed_triton) as server:
        os.kill(server.pid, signal.SIGKILL)
        with pytest.raises(SalonError, match="ended with code 137"):
            server.wait()
        monkeypatch.setattr(subprocess, "Popen", begin_while_the_watch_looks)
        server.restart(0)
        assert infer(server) == [3, -4]


def test_a_server_that_never_was_ready_is_not_tried_again(repository):
    outcome = run_salon(
        "serve", repository, "--tritonserver", "/bin/false", *(f"--{s}-port=0" for s in servers.SERVICES)
    )
    assert outcome.code == 1 and "ended with code 1" in outcome.err and "again" not in outcome.err


def test_a_model_whose_process_is_gone_is_noticed_and_started_again(repository, program):
    with served(repository, program) as (salon, figures):
        (worker,) = set(processes(figures["pid"])) - {figures["pid"]}
        os.kill(worker, signal.SIGKILL)
        with pytest.raises(urllib.error.HTTPError):  # Triton itself goes on saying that it is ready
            infer(SimpleNamespace(http_url=figures["http"]))
        until(lambda: not answers(f"{figures['http']}/v2/health/ready"), salon)
        until(lambda: answers(f"{figures['http']}/v2/health/ready"), salon)
        assert infer(SimpleNamespace(http_url=figures["http"])) == [3, -4]
        salon.send_signal(signal.SIGINT)
        _, said = salon.communicate()
    assert salon.returncode == 0 and "Models do not answer any more. times: " in said


def test_nothing_outlives_the_supervisor(repository, installed_triton):
    with serve(repository, server=installed_triton) as server:
        os.kill(int(stat(server.pid)[1]), signal.SIGKILL)
        until(lambda: not processes(server.pid) and not shared_memory(server.id), pause=0.05)


def test_a_server_that_dies_is_told_of_and_another_takes_its_ports(repository, installed_triton):
    with serve(repository, server=installed_triton) as server:
        assert infer(server) == [3, -4]
        os.kill(server.pid, signal.SIGKILL)
        with pytest.raises(SalonError, match=r"(?s)ended with code 137.*Started GRPCInferenceService"):
            server.wait()
        assert not processes(server.pid) and not shared_memory(server.id)
    http, grpc, metrics = (
        int(url.split(":")[2].split("/")[0]) for url in (server.http_url, server.grpc_url, server.metrics_url)
    )
    with serve(repository, server=installed_triton, http_port=http, grpc_port=grpc, metrics_port=metrics) as another:
        assert infer(another) == [3, -4] and another.http_url == server.http_url


@pytest.mark.parametrize(
    "code, config, reason",
    [
        ("raise ValueError('the graph is corrupt')", CONFIG, "times: ValueError: the graph is corrupt. Remedy: export"),
        (MODEL, CONFIG.replace("python", "onnxruntime"), "backend 'onnxruntime'.*export with the backend python"),
        (MODEL, CONFIG + "garbage: 1", 'times: .*config.pbtxt .*no field named "garbage"'),
        (MODEL, CONFIG + "version_policy { specific { versions: 7 } }", "times: at least one version"),
    ],
)
def test_what_is_wrong_with_a_model_is_said(tmp_path, installed_triton, code, config, reason):
    write_model(write_model(tmp_path, "good"), code=code, config=config)
    with pytest.raises(RequestError, match=reason) as error:
        serve(tmp_path, server=installed_triton)
    assert "\n" not in str(error.value) and "good" not in str(error.value)


def test_a_model_that_never_loads_is_given_up(tmp_path, installed_triton, monkeypatch):
    begun, log = tmp_path / "begun", tmp_path / "log"
    for_ever = f"open({str(begun)!r}, 'w').close()\nimport time\nwhile True:\n    time.sleep(1)\n"
    write_model(write_model(tmp_path, "good"), code=for_ever + MODEL)
    seen = []

    def clock():  # 5 seconds have gone once only that model is loading, and the server has been looked at since
        seen.append(begun.exists() and "successfully loaded 'good'" in log.read_text())
        return 5.0 if any(seen[:-1]) else 0.0

    monkeypatch.setattr(servers, "time", SimpleNamespace(monotonic=clock, sleep=time.sleep))
    with pytest.raises(SalonError, match=r"not ready after 4 seconds; it is still loading times$"):
        serve(tmp_path, server=installed_triton, timeout=4, log=log)


def test_a_program_that_is_no_server_is_told_of(repository):
    for program, reason in (("/bin/false", "ended with code 1"), ("/etc/passwd", "could not be started.*\n.*denied")):
        with pytest.raises(SalonError, match=reason):
            serve(repository, server=Triton(program=Path(program), variables={}, bundled=False))


@pytest.mark.parametrize("option", ["http_port", "grpc_port", "metrics_port"])
def test_a_port_that_is_taken_is_named(repository, installed_triton, option):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(RequestError, match=f"`{option}` {port} on 127.0.0.1 .*in use.*choose"):
            serve(repository, server=installed_triton, **{option: port})


def test_new_versions_are_taken_up_where_asked_for(tmp_path, installed_triton):
    write_model(tmp_path)
    with serve(tmp_path, server=installed_triton, reload="poll") as server:
        assert infer(server) == [3, -4]
        (tmp_path / "times" / "3").mkdir()
        (tmp_path / "times" / "3" / "model.py").write_text(MODEL.replace("FACTOR = 2", "FACTOR = 8"))
        until(lambda: infer(server) == [12, -16])


def test_the_log_is_appended_to_a_file(tmp_path, repository, installed_triton):
    log = tmp_path / "server.log"
    log.write_text("failed to load 'other' version 1: of a server before\n")
    with serve(repository, server=installed_triton, log=log):
        assert "successfully loaded 'times'" in log.read_text()
    assert log.read_text().startswith("failed to load 'other'")


def test_bad_requests_are_one_line(tmp_path, repository):
    (tmp_path / "empty").mkdir()
    for arguments, reason in (
        ([tmp_path / "missing"], "missing must be a model repository; it is no folder. salon export writes one"),
        ([tmp_path / "empty"], "empty must be a model repository, with a folder and a config.pbtxt"),
        ([repository, "--tritonserver", tmp_path], "--tritonserver must be an executable program"),
        ([repository, "--host", "example"], "--host must be an IP address, such as 127.0.0.1 or ::1; got example"),
        ([repository, "--host", "fe80::g"], "--host must be an IP address"),
        (
            [repository, "--allow-origin", "https://a.example/b"],
            "--allow-origin must be a site such as https://me.example",
        ),
        ([repository, "--token-file", tmp_path / "none"], "--token-file must be a file with a token"),
        ([repository, "--token-file", __file__], "must hold one token"),
        ([repository, "--http-port", 9, "--grpc-port", 9], "--http-port and --grpc-port must differ; got [9, 9, 8002]"),
        ([tmp_path / "missing", "--http-port", 0, "--grpc-port", 0], "missing must be a model repository"),
        ([repository, "--http-port", 8002], "--http-port and --metrics-port must differ"),
        ([repository, "--log", tmp_path / "none" / "log", "--tritonserver", "true"], "--log must be a file"),
    ):
        outcome = run_salon("serve", *arguments)
        assert outcome.code == 2 and outcome.out == ""
        assert outcome.err.startswith("Error: ") and outcome.err.count("\n") == 1
        assert reason in outcome.err


def test_the_installed_server_serves_this_machine_only(repository):
    bundled = Triton(program=Path("tritonserver"), variables={}, bundled=True)
    for host in ("0.0.0.0", "192.0.2.1", "::"):
        with pytest.raises(RequestError, match=r"`host` must be 127\.0\.0\.1 with the server that Salon installs"):
            serve(repository, server=bundled, host=host)
        servers.check_host(host, Triton(program=Path("tritonserver"), variables={}, bundled=False))
    for host in ("127.0.0.1", "127.0.0.2", "::1"):
        servers.check_host(host, bundled)
