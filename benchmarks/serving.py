"""What Triton adds to ONNX Runtime in this process, and the front to Triton; throughput of clients; hours of load.

python benchmarks/serving.py --preset auto --resolution 256
python benchmarks/serving.py --preset tiny --resolution 64 --soak 300
"""

import sys

sys.path.pop(0)  # this folder, in which the package `serving` would be this file

import json
import random
import signal
import socket
import statistics
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click
import grpc
import numpy as np
import torch
from tritonclient.grpc import service_pb2, service_pb2_grpc

from gan import snapshot
from gan.config import PRESETS, make_config
from gan.image_shape import ImageShape
from gan.networks.discriminator import Discriminator
from gan.networks.generator import Generator
from gan.runtime.console import say, table
from gan.sampling.latents import draw, mix
from serving.client.client import Client
from serving.export import onnx_file
from serving.export.export import export
from serving.export.request import ExportRequest
from serving.server import process
from serving.server.install import find
from serving.server.server import serve

BATCHES = (1, 4, 16)


def untrained(folder: Path, preset: str, resolution: int) -> Path:
    """A snapshot with random weights, on which the time to paint does not depend."""
    config = make_config(
        preset=preset, shape=ImageShape(resolution, resolution), num_classes=0, dataset="none", overrides={}
    )
    torch.manual_seed(0)
    path = snapshot.path_for(folder, 0)
    snapshot.save(path, Generator(config.network), Discriminator(config.network), config, 0, None)
    return path


def measure_latency(here: Callable[[int], None], there: Callable[[int], None], rounds: int) -> list[list[float]]:
    """Seconds for one picture in turn, in this process and through the server."""
    took: list[list[float]] = [[], []]
    for index in range(rounds + 2):
        for paint, times in zip((here, there), took, strict=True):
            start = time.perf_counter()
            paint(index)
            times.append(time.perf_counter() - start)
    return [times[2:] for times in took]


def asking(target: str, metadata: Sequence[tuple[str, str]] = ()) -> Callable[[int], None]:
    """A call that asks the generator at a gRPC target for one image, without more around it."""
    channel = grpc.insecure_channel(target, [("grpc.max_receive_message_length", -1)])
    infer = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer
    config = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelConfig
    z_dim = config(service_pb2.ModelConfigRequest(name="generator")).config.input[0].dims[0]

    def ask(seed: int) -> None:
        request = service_pb2.ModelInferRequest(model_name="generator")
        for name, array in (("z", draw([seed], z_dim)), ("truncation_psi", np.ones([1, 1], np.float32))):
            request.inputs.add(name=name, datatype="FP32", shape=array.shape)
            request.raw_input_contents.append(array.tobytes())
        assert infer(request, metadata=metadata).raw_output_contents

    return ask


def count_pictures(url: str, clients: int, seconds: float) -> tuple[int, float, list[str]]:
    """Pictures that so many clients get -> number, seconds, errors. Each asks for four at a time."""
    done, errors = [0] * clients, list[str]()
    end = time.monotonic() + seconds

    def ask(number: int) -> None:
        try:
            with Client(url, concurrency=1, retries=0) as client:
                while time.monotonic() < end:
                    done[number] += len(list(client.generate(range(number, number + 4))))
        except Exception as error:
            errors.append(repr(error))

    start = time.monotonic()
    threads = [threading.Thread(target=ask, args=[number]) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(done), time.monotonic() - start, errors


def memory(pid: int) -> float:
    """MB of a process and of all that it started, each page counted once (Linux)."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has just ended
            parents[int(status.parent.name)] = int(status.read_text().rsplit(")", 1)[1].split()[1])
    family, total = [pid], 0
    for member in family:
        family += [child for child, parent in parents.items() if parent == member]
        with suppress(OSError):
            lines = Path(f"/proc/{member}/smaps_rollup").read_text().splitlines()
            total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


@contextmanager
def started(*words: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """A command of Salon that serves -> its process id, and what it printed; stopped at the end."""
    command = [sys.executable, "-m", "gan", *words, "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as running:
        assert running.stdout is not None
        try:
            yield running.pid, json.loads(running.stdout.readline())
        finally:
            running.send_signal(signal.SIGTERM)


class Visitor:
    """Somebody who asks server and gallery for one thing after another, in a random order."""

    def __init__(self, number: int, served: dict[str, Any], page: str) -> None:
        self.rng, self.done, self.errors = random.Random(number), 0, list[str]()
        self.slowest = (0.0, "")  # seconds of a view, and which
        self._served, self._page = served, page
        self._client = Client(served["grpc"], concurrency=2, retries=0)
        self._views = [self.wall, self.mix, self.file, self.scene, self.image, self.journey, self.figures]
        self._views += [self.wrong, self.leaves, self.says_nothing]

    def ask(self) -> None:
        """One view. What should not have happened is kept in `errors`."""
        view, start = self.rng.choice(self._views), time.monotonic()
        try:
            view()
            self.done += 1
        except Exception as error:
            self.errors.append(f"{view.__name__}: {error!r}")
        self.slowest = max(self.slowest, (time.monotonic() - start, view.__name__))

    def seed(self) -> int:
        return self.rng.randrange(2**31)

    def wall(self) -> None:
        assert len(list(self._client.generate([self.seed() for _ in range(4)]))) == 4

    def mix(self) -> None:
        ws = self._client.map_seeds([self.seed(), self.seed()])
        assert len(list(self._client.synthesize(mix(ws[:1], ws[1:], [0, 1])))) == 1

    def file(self) -> None:
        body = json.dumps({"seed": self.seed(), "format": self.rng.choice(["png", "webp"])}).encode()
        assert len(self.get(f"{self._served['http']}/v2/models/seed_to_png/generate", body)) > 100

    def scene(self) -> None:
        self.get(f"{self._page}scene?view=wall&seed={self.seed()}&count=4")

    def image(self) -> None:
        self.get(f"{self._page}image?seed={self.seed()}&format={self.rng.choice(['png', 'jpeg', 'webp'])}")

    def journey(self) -> None:
        self.get(f"{self._page}journey?view=journey&seed={self.seed()}&to={self.seed()}&count=4&format=webp")

    def figures(self) -> None:
        self.get(self._served["metrics"])
        assert self._client.status()["ready"]

    def wrong(self) -> None:
        bodies = [b"[" * 50_000, b'{"seed": -1}', b'{"sead": 1}', bytes(1_000_000)]
        with suppress(urllib.error.HTTPError, ConnectionError):
            self.get(f"{self._served['http']}/v2/models/seed_to_png/generate", self.rng.choice(bodies))
            raise AssertionError("a wrong request was answered")

    def leaves(self) -> None:
        address = urllib.parse.urlsplit(self.rng.choice([self._served["http"], self._page]))
        with socket.create_connection((address.hostname, address.port), timeout=60) as connection:
            path = "/v2/models/seed_to_png/generate" if address.path == "" else "/scene"
            body = b'{"seed": 1}'
            head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body)

    def says_nothing(self) -> None:
        address = urllib.parse.urlsplit(self.rng.choice([self._served["http"], self._served["grpc"], self._page]))
        with socket.create_connection((address.hostname, address.port), timeout=60):
            pass

    def get(self, url: str, body: bytes | None = None) -> bytes:
        with urllib.request.urlopen(url, body, timeout=120) as answer:
            return bytes(answer.read())

    def close(self) -> None:
        self._client.close()


def soak(repository: Path, seconds: float, clients: int, pause: float) -> None:
    """`salon serve` and `salon gallery` under mixed views, in ten parts, with what their memory is after each."""
    ports = [f"--{service}-port=0" for service in ("http", "grpc", "metrics")]
    log = repository.parent / "server.log"
    with (
        started("serve", str(repository), *ports, "--log", str(log)) as (server, served),
        started("gallery", "--url", served["grpc"], "--port", "0", "--rate", "1000000/min") as (gallery, page),
    ):
        visitors = [Visitor(number, served, page["address"]) for number in range(clients)]
        end = [time.monotonic() + 10]  # until everything is allocated once

        def visit(visitor: Visitor) -> None:
            while time.monotonic() < end[0]:
                visitor.ask()
                time.sleep(pause)

        rows = []
        for part in range(11):
            before = sum(visitor.done for visitor in visitors)
            with ThreadPoolExecutor(clients) as pool:
                list(pool.map(visit, visitors))
            done, errors = sum(v.done for v in visitors) - before, [e for v in visitors for e in v.errors]
            sizes = [f"{memory(pid):.0f}" for pid in (server, served["pid"], gallery)]
            rows.append([f"{part * seconds / 10:.0f} s", done, len(errors), *sizes, log.stat().st_size >> 10])
            say(f"{rows[-1]} {errors[:2]}, slowest {max(visitor.slowest for visitor in visitors)}")
            end[0] = time.monotonic() + seconds / 10
        for visitor in visitors:
            visitor.close()
    header = ["after", "views", "errors", "serve, MB", "of it Triton, MB", "gallery, MB", "log, KB"]
    print(table(rows, header))


@click.command(help=__doc__)
@click.option("--preset", type=click.Choice([*PRESETS, "auto"]), default="auto", show_default=True)
@click.option("--resolution", default=256, show_default=True)
@click.option("--rounds", default=20, show_default=True, help="Pictures for the latency.")
@click.option("--seconds", default=30.0, show_default=True, help="Of load by eight clients.")
@click.option("--soak", "soak_seconds", default=0.0, help="Seconds of mixed views by eight visitors, instead.")
@click.option("--pause", default=0.0, help="Seconds between two views of a visitor.")
def main(preset: str, resolution: int, rounds: int, seconds: float, soak_seconds: float, pause: float) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        snapshot_file, models = untrained(folder, preset, resolution), None if soak_seconds else "generator"
        export(ExportRequest(snapshot=snapshot_file, out=folder / "models", models=models))
        if soak_seconds:
            soak(folder / "models", soak_seconds, 8, pause)
            return
        with serve(folder / "models", server=find()) as server:
            session = onnx_file.open_session(folder / "models" / "generator" / "1" / "model.onnx")
            z_dim = session.get_inputs()[0].shape[1]

            def here(seed: int, batch: int = 1) -> None:
                feed = {"z": draw([seed] * batch, z_dim), "truncation_psi": np.ones([batch, 1], np.float32)}
                session.run(["image"], feed)

            inside, outside = asking(process.target(server.folder)), asking(server.grpc_url.removeprefix("grpc://"))
            behind, before = measure_latency(inside, outside, 5 * rounds)
            with Client(server.grpc_url, concurrency=1) as client:
                alone, served = measure_latency(here, lambda seed: list(client.generate([seed])), rounds)
            rates = {}
            for batch in BATCHES:
                start = time.perf_counter()
                count = max(rounds // batch, 2)
                for seed in range(count):
                    here(seed, batch)
                rates[batch] = count * batch / (time.perf_counter() - start)
            pictures, took, errors = count_pictures(server.grpc_url, 8, seconds)
    best = max(rates.values())
    one, other, direct, front = (statistics.median(times) * 1000 for times in (alone, served, behind, before))
    print(f"\n{preset}, {resolution}x{resolution}, torch {torch.__version__}, {len(errors)} errors")
    print(f"the front before Triton: {front:.2f} ms an image, {direct:.2f} ms without, {front / direct:.3f} times")
    print(
        table(
            [
                ("one picture", f"{one:.1f} ms", f"{other:.1f} ms", f"{other / one:.2f} times"),
                (
                    "many pictures",
                    " ".join(f"{rate:.2f}" for rate in rates.values()) + " images/s",
                    f"{pictures / took:.2f} images/s",
                    f"{pictures / took / best:.2f} of the best",
                ),
            ],
            ["", f"ONNX Runtime (batches of {', '.join(map(str, BATCHES))})", "Triton (8 clients)", "ratio"],
        )
    )


if __name__ == "__main__":
    main()
