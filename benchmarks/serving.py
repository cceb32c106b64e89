"""What Triton adds to ONNX Runtime in this process: latency of one picture and throughput of clients; minutes of load.

python benchmarks/serving.py --preset auto --resolution 256
python benchmarks/serving.py --preset tiny --resolution 64 --soak 300
"""

import sys

sys.path.pop(0)  # this folder, in which the package `serving` would be this file

import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import torch

from gan import snapshot
from gan.config import PRESETS, make_config
from gan.networks.discriminator import Discriminator
from gan.networks.generator import Generator
from gan.runtime.console import say, table
from gan.sampling.latents import draw
from serving.client.client import Client
from serving.export import onnx_file
from serving.export.export import export
from serving.export.request import ExportRequest
from serving.server.install import find
from serving.server.server import Server, serve

BATCHES = (1, 4, 16)


def untrained(folder: Path, preset: str, resolution: int) -> Path:
    """A snapshot with random weights, on which the time to paint does not depend."""
    config = make_config(preset=preset, resolution=resolution, num_classes=0, dataset="none", overrides={})
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


def memory(server: Server) -> float:
    """MB of the server and its models' processes, each page counted once (Linux)."""
    group = Path(f"/proc/{server.pid}/stat").read_text().split()[4]
    total = 0
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            if status.read_text().rsplit(")", 1)[1].split()[2] == group:
                lines = (status.parent / "smaps_rollup").read_text().splitlines()
                total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        except OSError:
            continue  # it has just ended
    return total / 1024


def soak(server: Server, seconds: float, clients: int) -> None:
    """Load in ten parts, with what memory is after each."""
    count_pictures(server.grpc_url, clients, 10)  # until everything is allocated once
    rows = [("start", 0, 0, f"{memory(server):.0f}")]
    for part in range(1, 11):
        pictures, took, errors = count_pictures(server.grpc_url, clients, seconds / 10)
        rows.append((f"{part * seconds / 10:.0f} s", pictures, len(errors), f"{memory(server):.0f}"))
        say(f"{pictures / took:.1f} images/s, {len(errors)} errors {errors[:1]}")
    print(table(rows, ["after", "images", "errors", "memory, MB"]))


@click.command(help=__doc__)
@click.option("--preset", type=click.Choice([*PRESETS, "auto"]), default="auto", show_default=True)
@click.option("--resolution", default=256, show_default=True)
@click.option("--rounds", default=20, show_default=True, help="Pictures for the latency.")
@click.option("--seconds", default=30.0, show_default=True, help="Of load by eight clients.")
@click.option("--soak", "soak_seconds", default=0.0, help="Seconds of load by sixteen clients, in place of the rest.")
def main(preset: str, resolution: int, rounds: int, seconds: float, soak_seconds: float) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        export(ExportRequest(snapshot=untrained(folder, preset, resolution), out=folder / "models", models="generator"))
        with serve(folder / "models", server=find()) as server:
            if soak_seconds:
                soak(server, soak_seconds, 16)
                return
            session = onnx_file.open_session(folder / "models" / "generator" / "1" / "model.onnx")
            z_dim = session.get_inputs()[0].shape[1]

            def here(seed: int, batch: int = 1) -> None:
                feed = {"z": draw([seed] * batch, z_dim), "truncation_psi": np.ones([batch, 1], np.float32)}
                session.run(["image"], feed)

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
    one, other = (statistics.median(times) * 1000 for times in (alone, served))
    print(f"\n{preset}, {resolution}x{resolution}, torch {torch.__version__}, {len(errors)} errors")
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
