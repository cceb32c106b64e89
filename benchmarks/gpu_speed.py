"""How fast: the sections train, launches, features and fid of gpu.py."""

import json
import resource
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import contenders
import gpu_setup
import numpy as np
import torch
from contenders import Way, Work
from gpu_setup import Setup
from torch.utils._python_dispatch import TorchDispatchMode

from gan.runtime.console import table

CYCLE = 16  # iterations after which the lazy phases repeat: R1 comes once, path lengths four times
SCRIPT = str(Path(__file__).with_name("gpu.py"))
SHARES = {0: 1 / 16, 4: 3 / 16, 1: 12 / 16}  # of iterations with all phases, without R1, and with the plain two
LAUNCHES = ("cudaLaunchKernel", "cudaLaunchKernelExC", "cuLaunchKernel", "cuLaunchKernelEx", "cudaGraphLaunch")
WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize")


class OperationCount(TorchDispatchMode):
    """Counts the operations that torch dispatches, but for views."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        aliases = [argument.alias_info for argument in func._schema.arguments]
        self.total += not any(alias is not None and not alias.is_write for alias in aliases)
        return func(*args, **(kwargs or {}))


def measure(request: dict) -> dict:
    """Figures of one contender in this process, for `training` or `launches`."""
    contender, work = contenders.requested(request)
    return {"training": _training, "launches": _launches}[request["what"]](contender, work, request)


def train(setup: Setup) -> dict:
    """Training: time, rate and memory of an iteration, amortised over the lazy phases."""
    works = [
        Work(256, 32, setup.device, "bf16"),
        Work(256, 32, setup.device),
        Work(64, 64, setup.device, "bf16"),
        Work(256, 16, setup.device, "bf16", augment_p=0.5),
        Work(1024, 4, setup.device, "bf16"),
        Work(64, 16, setup.device, "bf16", preset="tiny"),
    ]
    if setup.quick:
        works = [Work(16, 4, setup.device, p, preset="tiny", augment_p=a) for p, a in (("bf16", 0.0), ("fp32", 0.5))]
        # Peers know no other preset.
        works += [Work(8, 4, setup.device, augment_p=p) for p in (0.0, 0.5) if setup.peers]
    peaks, how = _peaks(setup), setup.pick({"least": 1.5, "cycle": CYCLE}, {"least": 0.0, "cycle": 2})
    print(contenders.describe(peaks))
    rows: list[dict] = []
    for work in works:
        ours = None
        for way, environment in _ways(setup, work):
            try:
                found = way.measure(SCRIPT, environment, what="training", **how)
            except SystemExit as error:  # out of memory, or a peer that does not run here
                print(f"{_title(work):<24} {way.label}: {str(error).strip().splitlines()[-1][:120]}", flush=True)
                rows.append({"work": _title(work), "who": way.label, "failed": str(error)[-500:]})
                continue
            row = {"work": _title(work), "who": way.label, **found, "img_per_second": work.batch / found["seconds"]}
            row |= {"s_per_kimg": 1000 * found["seconds"] / work.batch}
            row |= {"of_peak": found["flops"] / found["seconds"] / peaks[work.precision]}
            ours = row["img_per_second"] if ours is None else ours
            row["times"] = ours / row["img_per_second"]
            rows.append(row)
            print(
                f"{row['work']:<20} {row['who']:<18} {1e3 * found['seconds']:8.1f} ms "
                f"{row['img_per_second']:8.1f} img/s {row['s_per_kimg']:7.2f} s/kimg "
                f"{row['of_peak']:5.0%} of peak {found['memory_gb']:5.1f} GB {row['times']:5.2f} times salon's time",
                flush=True,
            )
    return {"peaks": peaks, "rows": rows}


def launches(setup: Setup) -> dict:
    """What an iteration asks of the host: operations, launches, waits, and wall clock over the sum of kernels."""
    works = [Work(256, 32, setup.device, "bf16"), Work(64, 64, setup.device, "bf16")]
    if setup.quick:
        works = [Work(16, 4, setup.device, "fp32", preset="tiny")]
    rows = []
    for work in works:
        for way, environment in _ways(replace(setup, peers=()), work):
            rows.append({"work": _title(work), "who": way.label, **way.measure(SCRIPT, environment, what="launches")})
    names = ["operations", "launches", "waits", "warned waits", "kernels ms", "wall ms"]
    lines = [[row["work"], row["who"], *(_said(row.get(name)) for name in names)] for row in rows]
    print(table(lines, ["one iteration, amortised", "", *names]))
    return {"rows": rows}


def features(setup: Setup) -> dict:
    """Features of decoded images, in each precision."""
    from eval.features.extractor import PRECISIONS, load_extractor, relative_distance

    count, rows, exact = int(setup.pick(2048, 4)), [], None
    pixels = np.random.default_rng(0).integers(0, 256, [count, *[setup.resolution] * 2, 3], np.uint8)
    with gpu_setup.folder() as place:
        name, weights, random = gpu_setup.extractor(setup, place)
        for precision in PRECISIONS if setup.device != "cpu" else ("fp32",):
            network = load_extractor(name, weights=weights, precision=precision, device=setup.device)
            network.calibration = 0.0  # random weights prove nothing about a precision; this measures its speed alone
            found = network(pixels[:256])["features"]
            exact = found if exact is None else exact  # fp32 comes first
            moved = relative_distance(exact, found)
            rows.append(
                {"precision": precision, "rate": setup.rate(count, lambda n=network: n(pixels)), "moved": moved}
            )
    print(f"{name}{', random weights' if random else ''}, batches of {network.batch_size}")
    lines = [[row["precision"], f"{row['rate']:.1f}", f"{row['moved']:.1e}"] for row in rows]
    print(table(lines, [f"features of {setup.resolution} pixels", "img/s", "moved, of the variance"]))
    return {"extractor": name, "random_weights": random, "rows": rows}


def fid(setup: Setup) -> dict:
    """An evaluation from the snapshot to the report: FID, KID, precision and recall of many images."""
    from eval.evaluator import Evaluator
    from eval.request import EvaluationRequest
    from gan.data.collection import Collection
    from gan.device.selection import select
    from gan.errors import RequestError

    count = int(setup.pick(setup.images, 16))
    with gpu_setup.folder() as place:
        data = gpu_setup.dataset(place / "real.zip", int(setup.pick(1000, 16)), setup.resolution)
        path = gpu_setup.snapshot(setup, place / "snapshot-0.safetensors")
        name, weights, _ = gpu_setup.extractor(setup, place)
        collection = Collection.open(data)
        for precision in ("bf16", "tf32", "fp32") if setup.device != "cpu" else ("fp32",):
            request = EvaluationRequest(
                extractors=(name,),
                weights=() if weights is None else (f"{name}={weights}",),
                metrics=("fid", "kid", "pr"),
                precision=precision,
                batch_size=int(setup.pick(64, 8)),
            )
            try:
                with gpu_setup.quiet():
                    evaluator = Evaluator(collection, request, select(setup.device))
                break
            except RequestError as error:  # it does not agree with fp32 on these images
                print(error)
        start = gpu_setup.clock()
        with gpu_setup.quiet():
            evaluation = evaluator(path, place / "out", num_images=count)
        seconds = gpu_setup.clock() - start
    assert evaluation is not None
    phases = evaluation.figures["seconds"]
    said = f"{count} images of {setup.resolution} pixels, {name} in {precision}"
    print(f"{said}: {seconds:.1f} s, {count / seconds:.1f} img/s")
    print(", ".join(f"{phase} {took:.1f} s" for phase, took in phases.items()))
    return {"images": count, "extractor": name, "precision": precision, "total": seconds, "phases": phases}


def _training(contender: object, work: Work, request: dict) -> dict:
    flops = {}
    for i in SHARES:  # warms up as well
        with contenders.FlopCount() as counter:
            contender.iteration(i)
        flops[i] = counter.total
    for i in range(CYCLE + 2 if work.device != "cpu" else 0):
        contender.iteration(i)
    if work.device != "cpu":
        torch.cuda.reset_peak_memory_stats()
    cycle = lambda: [contender.iteration(i) for i in range(request["cycle"])]  # noqa: E731
    took = contenders.seconds(cycle, work.device, request["least"], 1) / request["cycle"]
    if work.device == "cpu":
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    else:
        memory = torch.cuda.max_memory_allocated() / 1e9
    return {"seconds": took, "memory_gb": memory, "flops": sum(flops[i] * share for i, share in SHARES.items())}


def _launches(contender: object, work: Work, request: dict) -> dict:
    cuda = work.device != "cpu"
    for i in range(CYCLE + 2 if cuda else 1):
        contender.iteration(i)
    totals: dict[str, float] = {}
    for i, share in SHARES.items():
        with OperationCount() as counter:
            contender.iteration(i)
        found: dict[str, float] = {"operations": counter.total}
        found["wall ms"] = 1e3 * contenders.seconds(lambda i=i: contender.iteration(i), work.device, 0.0, 1)
        if cuda:
            found |= _on_gpu(lambda i=i: contender.iteration(i))
        for name, value in found.items():
            totals[name] = totals.get(name, 0.0) + share * value
    return totals


def _on_gpu(iteration) -> dict[str, float]:
    # What the profiler and torch's own look-out for waits see of an iteration.
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    torch.cuda.synchronize()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            iteration()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        iteration()
    # The end of the profile waits too, but is no part of it.
    events = list(profiler.events())
    kernels = [
        event
        for event in events
        if event.device_type == DeviceType.CUDA
        and not getattr(event, "is_user_annotation", False)
        and "#" not in event.name
    ]
    return {
        "launches": sum(event.name in LAUNCHES for event in events),
        "waits": sum(event.name in WAITS for event in events),
        "warned waits": sum("synchronizing CUDA operation" in str(each.message) for each in caught),
        "kernels ms": sum(event.time_range.elapsed_us() for event in kernels) / 1e3,
    }


def _ways(setup: Setup, work: Work) -> Iterator[tuple[Way, dict[str, str]]]:
    # Salon by default and its variants, then the peers that can do this work.
    for variant in setup.all_variants:
        own = replace(work, learner=variant.learner)
        yield Way("salon", None, own, variant=variant.label and f", {variant.label}"), variant.environment
    for name, path in (peer.split("=", 1) for peer in setup.peers):
        if work.preset == "paper256" and not (work.augment_p and name == "rosinality"):
            yield Way(name, Path(path), work), {}


def _peaks(setup: Setup) -> dict[str, float]:
    least = 0.0 if setup.quick else 0.05
    if setup.quick:
        contenders.CONVOLUTIONS = ((2, 16, 16),)
    return {
        name: contenders.convolution_peak(setup.device, dtype, least)
        for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))
    }


def _title(work: Work) -> str:
    more = f", {work.preset}" if work.preset != "paper256" else ", ADA" if work.augment_p else ""
    return f"{work.resolution}x{work.batch} {work.precision}{more}"


def _said(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}" if value != round(value) else f"{value:.0f}"


def one(text: str) -> None:
    """Measure one contender in this process, and print its figures."""
    print(json.dumps(measure(json.loads(text))))
