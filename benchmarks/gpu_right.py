"""Whether it is right: the sections operators, repeat, resume and learn of gpu.py."""

import copy
import hashlib
import itertools
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import gpu_setup
import torch
from gpu_setup import Setup

from gan.image_shape import ImageShape
from gan.runtime.console import table

LIMITS = {torch.float32: 5e-5, torch.bfloat16: 3e-2}  # relative error that counts as right
SCENES = 400  # synthetic pictures to learn from, where no folder is given

Function = Callable[..., torch.Tensor]


def operators(setup: Setup) -> dict:
    """Values, first and second gradients of every operator against float64 on the CPU; G and D too."""
    from gan.device.determinism import tf32
    from gan.device.selection import select

    target, rows = select(setup.device), []
    with tf32(False):
        for name, function, shapes in _cases(setup):
            for dtype, layout in itertools.product(LIMITS, ("contiguous", "channels last", "strided")):
                if name == "sample2d" and dtype != torch.float32:
                    continue  # it rounds its locations too; the augmentation samples float32
                errors = _errors(function, shapes, dtype, layout, target)
                rows.append(
                    {"operator": name, "dtype": str(dtype).removeprefix("torch."), "layout": layout}
                    | dict(zip(("value", "first", "second"), errors, strict=True))
                    | {"right": all(error <= LIMITS[dtype] for error in errors)}
                )
        rows += _of_networks(setup, target)
    worst_rows = {}
    for row in rows:  # the worst layout of each
        key = row["operator"], row["dtype"]
        if key not in worst_rows or _worst(row) > _worst(worst_rows[key]):
            worst_rows[key] = row
    lines = [
        [*key, *(f"{row[part]:.0e}" for part in ("value", "first", "second")), "" if row["right"] else "WRONG"]
        for key, row in worst_rows.items()
    ]
    print(table(lines, ["operator, relative error", "", "value", "first", "second gradient", ""]))
    return {"rows": rows, "right": all(row["right"] for row in rows)}


def resume(setup: Setup) -> dict:
    """Kill a training, let the same command go on, and compare its weights with those of one that was not killed."""
    from gan.training import checkpoint

    tiny = ("--preset", "tiny", "--device", setup.device, "--deterministic", "--kimg-per-tick", 0.016, "--workers", 0)
    tiny += ("--network-snapshot-ticks", 1, "--image-snapshot-minutes", 0, "--keep", 0)
    tiny += ("--total-kimg", setup.pick(1.6, 0.048), "--set", "batch_size=8")
    if setup.quick:
        tiny += ("--set", "channel_max=8", "--set", "channel_base=128", "--set", "mapping_layers=2")
    with gpu_setup.folder() as place:
        data = gpu_setup.dataset(place / "set.zip", 64, int(setup.pick(64, 16)))
        command = ("train", "--data", data, "--out", place, *tiny)
        whole = Path(gpu_setup.salon(*command, "--name", "whole")["run"])
        killed = place / "killed"
        arguments = [sys.executable, "-m", "gan", *map(str, command), "--name", "killed"]
        process = subprocess.Popen(arguments, cwd=gpu_setup.ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and len(checkpoint.list_newest_first(killed / "checkpoints")) < 2:
            time.sleep(0.01)
        process.kill()
        code = process.wait()
        kimg = [int(path.stem.split("-")[1]) / 1000 for path in checkpoint.list_newest_first(killed / "checkpoints")]
        gpu_setup.salon(*command, "--name", "killed")
        ends = [
            checkpoint.load(checkpoint.list_newest_first(run / "checkpoints")[0])["learner"] for run in (whole, killed)
        ]
    names = [name for name in ends[0]["G_ema"] if ends[0]["G_ema"][name].is_floating_point()]
    apart = max(float((ends[0]["G_ema"][n] - ends[1]["G_ema"][n]).abs().max()) for n in names)
    equal = all(torch.equal(ends[0][part][n], ends[1][part][n]) for part in ("G", "D", "G_ema") for n in ends[0][part])
    print(
        f"ended with {code} at {max(kimg, default=0)} kimg; the same command went on: "
        + ("weights equal to the bit" if equal else f"WRONG: weights differ, by {apart:.1e} at most")
    )
    return {"exit_code": code, "killed_kimg": max(kimg, default=0), "equal": equal, "largest": apart, "right": equal}


def repeat(setup: Setup) -> dict:
    """Rejection sampling twice, each time from KeepTraining on: the same seeds, the same figures, the same pictures?"""
    found = []
    with gpu_setup.folder() as place:
        path = gpu_setup.snapshot(setup, place / "snapshot-0.safetensors")
        data = gpu_setup.dataset(place / "set.zip", int(setup.pick(512, 48)), setup.resolution)
        for turn in ("first", "second"):
            out = place / turn
            options = ("--reject", "drs", "--count", setup.pick(32, 4), "--burn-in", setup.pick(128, 12), "--budget", 2)
            options += ("--keep-training", place / f"{turn}.safetensors", "--keep-kimg", setup.pick(2, 0.064))
            options += ("--data", data, "--device", setup.device, "--out", out)
            figures = gpu_setup.salon("generate", path, *options)
            rejection = figures["rejection"]
            rejection["keep_training"].pop("snapshot")
            files = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(out.iterdir())}
            found.append({"seeds": figures["seeds"], "rejection": rejection, "files": files})
    equal = {part: found[0][part] == found[1][part] for part in found[0]}
    print(", ".join(f"{part} {'equal' if same else 'NOT EQUAL'}" for part, same in equal.items()))
    print(f"maximum of drs: {' and '.join(str(each['rejection']['maximum']) for each in found)}")
    return {"equal": equal, "rejection": [each["rejection"] for each in found], "right": all(equal.values())}


def learn(setup: Setup) -> dict:
    """Train on pictures for some minutes at 64 pixels: FD before and after, and image grids of both."""
    from eval.evaluator import Evaluator
    from eval.request import EvaluationRequest
    from gan.data.collection import Collection
    from gan.device.selection import select

    out = Path(setup.out).resolve()
    out.mkdir(parents=True, exist_ok=True)
    side, count = int(setup.pick(64, 16)), int(setup.pick(5000, 24))
    with gpu_setup.folder() as place:
        pictures = Path(setup.data).resolve() if setup.data else place / "pictures"
        if not setup.data:
            kinds = ("--genres", "landscape,still_life,portrait", "--styles", "impressionism,cubism")
            gpu_setup.salon("synthetic", pictures, "--count", setup.pick(SCENES, 24), "--size", side * 2, *kinds)
        data = place / "pictures.zip"
        gpu_setup.salon("prepare", pictures, "--out", data, "--resolution", side)
        command = ["train", "--data", data, "--out", place, "--name", "run", "--device", setup.device, "--mirror"]
        command += ["--augment", "ada", "--image-snapshot-minutes", 1]
        command += ["--preset", "tiny"] if setup.quick else ["--preset", "paper256", "--precision", "bf16"]
        command += ["--workers", setup.pick(min(8, max(1, (os.cpu_count() or 1) - 1)), 0)]
        before = gpu_setup.salon(*command, "--total-kimg", 0.001)  # one iteration
        shutil.copy(before["sheet"], out / "learn-before.jpg")
        more = 0.05 if setup.quick else 100_000
        after = gpu_setup.salon(*command, "--total-kimg", more, stop_after=None if setup.quick else 60 * setup.minutes)
        shutil.copy(after["sheet"], out / "learn-after.jpg")
        name, weights, random = gpu_setup.extractor(setup, place)
        request = EvaluationRequest(
            extractors=(name,), weights=() if weights is None else (f"{name}={weights}",), metrics=("fid",)
        )
        with gpu_setup.quiet():
            collection = Collection.open(data)
            evaluator = Evaluator(collection, request, select(setup.device))
            found = {}
            for moment, run in (("before", before), ("after", after)):
                evaluation = evaluator(Path(run["snapshot"]), place / moment, num_images=count)
                assert evaluation is not None
                found[moment] = evaluation.results[0].estimate.value
        images = len(collection.dataset)
    rate = 1000 * (after["kimg"] - before["kimg"]) / max(after["seconds"] - before["seconds"], 1e-9)
    said = f"{name}{', random weights' if random else ''}, {count} images"
    print(
        f"{images} pictures of {side} pixels, {after['kimg']:.1f} kimg in {after['seconds']:.0f} s ({rate:.0f} img/s)"
    )
    print(f"FD ({said}): {found['before']:.2f} before, {found['after']:.2f} after; grids: {out / 'learn-after.jpg'}")
    return {
        "images": images,
        "kimg": after["kimg"],
        "seconds": after["seconds"],
        "rate": rate,
        "extractor": said,
    } | found


def _cases(setup: Setup) -> list[tuple[str, Function, list[tuple[int, ...]]]]:
    # Name, function of tensors, their shapes; the first is the image.
    from gan.ops.bias_act import bias_act
    from gan.ops.conv2d_resample import conv2d_resample
    from gan.ops.modulated_conv2d import demodulation, modulated_conv2d
    from gan.ops.sample2d import sample2d
    from gan.ops.upfirdn2d import downsample2d, setup_filter, upfirdn2d, upsample2d

    n, c, h, w = setup.pick((5, 37, 33, 29), (2, 3, 5, 7))
    image, weight = (n, c, h, w), (c, c, 3, 3)
    taps = setup_filter()

    def f(x: torch.Tensor) -> torch.Tensor:
        return taps.to(x.device)

    def at(x: torch.Tensor) -> torch.Tensor:
        generator = torch.Generator().manual_seed(1)
        return (torch.rand(len(x), h, w, 2, generator=generator) * (max(h, w) + 2) - 1).to(x.device, torch.float32)

    def modulated(x: torch.Tensor, weight: torch.Tensor, styles: torch.Tensor, up: bool) -> torch.Tensor:
        y = modulated_conv2d(x, weight, styles, f(x) if up else None, up=up)
        return bias_act(y, scale=demodulation(weight, styles))  # no kink, at which a rounding changes gradients

    everything = [image, (c,), (n, c), (n, 1, h, w)]
    return [
        ("bias_act", lambda x, b, s, z: bias_act(x, b, "lrelu", scale=s, noise=z), everything),
        ("bias_act, a bias alone", lambda x, b: bias_act(x, b), [image, (c,)]),
        ("bias_act, one noise", lambda x, z: bias_act(x, None, "lrelu", 0.7, noise=z), [image, (1, 1, h, w)]),
        ("upfirdn2d", lambda x: upfirdn2d(x, f(x), padding=(2, 1)), [image]),
        ("upfirdn2d, cropped", lambda x: upfirdn2d(x, f(x), up=2, down=2, padding=(-1, 4), gain=2.0), [image]),
        ("upsample2d", lambda x: upsample2d(x, f(x)), [image]),
        ("downsample2d", lambda x: downsample2d(x, f(x)), [image]),
        ("convolution", lambda x, k: conv2d_resample(x, k.to(x.dtype)), [image, weight]),
        ("convolution, up", lambda x, k: conv2d_resample(x, k.to(x.dtype), f(x), up=True), [image, weight]),
        (
            "convolution, down",
            lambda x, k: conv2d_resample(x, k.to(x.dtype), f(x), down=True),
            [(n, c, 2 * h, 2 * w), weight],
        ),
        ("modulated convolution", lambda x, k, s: modulated(x, k, s, False), [image, weight, (n, c)]),
        ("modulated convolution, up", lambda x, k, s: modulated(x, k, s, True), [image, weight, (n, c)]),
        ("sample2d", lambda x: sample2d(x, at(x)), [image]),
        ("upfirdn2d, no image", lambda x: upfirdn2d(x, f(x), padding=(2, 1)), [(0, c, h, w)]),
        ("bias_act, no image", lambda x, b: bias_act(x, b, "lrelu"), [(0, c, h, w), (c,)]),
    ]


def _errors(
    function: Function, shapes: list[tuple[int, ...]], dtype: torch.dtype, layout: str, device: torch.device
) -> list[float]:
    # Of value, first and second gradients: the norm of the difference from float64 on the CPU over the norm of that.
    generator = torch.Generator().manual_seed(0)
    given = [torch.randn(shape, generator=generator) for shape in shapes]
    given[0] = given[0].to(dtype).float()  # what both start from
    expected = _derivatives(function, [x.double() for x in given], generator)
    inputs = [x.to(device) for x in given]
    inputs[0] = inputs[0].to(dtype)
    if layout == "channels last":
        inputs[0] = inputs[0].contiguous(memory_format=torch.channels_last)
    elif layout == "strided":
        wide = torch.zeros([*inputs[0].shape[:3], 2 * inputs[0].shape[3]], device=device, dtype=dtype)
        wide[..., ::2] = inputs[0]
        inputs[0] = wide[..., ::2]
    found = _derivatives(function, inputs, torch.Generator().manual_seed(0), skip=shapes)
    errors = []
    for theirs, ours in zip(expected, found, strict=True):
        pairs = [(a, b.double().cpu()) for a, b in zip(theirs, ours, strict=True) if a.numel()]
        errors.append(max((float((a - b).norm() / a.norm().clamp_min(1e-3)) for a, b in pairs), default=0.0))
    return errors


def _derivatives(
    function: Function,
    inputs: list[torch.Tensor],
    generator: torch.Generator,
    skip: list[tuple[int, ...]] | None = None,
) -> list[list[torch.Tensor]]:
    # [value], gradients, gradients of these; all along the same random directions.
    for shape in skip or ():
        torch.randn(shape, generator=generator)  # where the other generator stands

    def direction(like: torch.Tensor) -> torch.Tensor:
        return torch.randn(like.shape, generator=generator).to(like.device, like.dtype)

    inputs = [x.detach().requires_grad_(True) for x in inputs]
    value = function(*inputs)
    along = direction(value).requires_grad_(True)
    first = torch.autograd.grad(value, inputs, along, create_graph=True)
    total = sum(
        ((g * direction(g)).double().sum() for g in first), torch.zeros([], dtype=torch.float64).to(value.device)
    )
    second = torch.autograd.grad(total, [along, *inputs], allow_unused=True)
    parts = [[value], list(first), [torch.zeros(1) if g is None else g for g in second]]
    return [[x.detach() for x in part] for part in parts]


def _of_networks(setup: Setup, device: torch.device) -> list[dict]:
    # The largest relative differences of images and logits from those of float64 on the CPU.
    from gan.config import make_config
    from gan.networks.discriminator import Discriminator
    from gan.networks.generator import Generator

    torch.manual_seed(0)
    config = make_config(
        preset=setup.preset,
        shape=ImageShape(setup.resolution, setup.resolution),
        num_classes=0,
        dataset="none",
        overrides={},
    ).network
    G, D, z = Generator(config).eval(), Discriminator(config).eval(), torch.randn(4, config.z_dim)
    img = G(z, noise_mode="const").detach()
    rows = []
    for name, network, given in (("G", lambda n, x: n(x, noise_mode="const"), z), ("D", lambda n, x: n(x), img)):
        made = {"G": G, "D": D}[name]
        with torch.no_grad():
            found = network(copy.deepcopy(made).to(device), given.to(device)).double().cpu()
            expected = network(copy.deepcopy(made).double(), given.double())
        error = float((found - expected).abs().max() / expected.abs().max())
        rows.append({"operator": name, "dtype": "float32", "layout": "contiguous", "value": error})
        rows[-1] |= {"first": float("nan"), "second": float("nan"), "right": error <= LIMITS[torch.float32]}
    return rows


def _worst(row: dict) -> float:
    return max(row[part] for part in ("value", "first", "second"))
