"""What the benchmarks compare: Salon and checkouts of its peers, each made to do the same work, fp32, no augmentation.

A contender is made from a Work and has `iteration(i)`, which runs training iteration i with the lazy phases due in it,
`generate(z)`, which paints z [N, 512] -> img [N, 3, R, R] without gradients, and `ops`, named operators. The peers'
networks and losses run unmodified from their checkouts; their own loops do not.
"""

import copy
import importlib
import json
import os
import subprocess
import sys
import time
import types
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median

import click
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

R1_INTERVAL, PL_INTERVAL = 16, 4
# Images, channels and side of the 3x3 convolutions that the peak is found among: sizes that StyleGAN2 consists of.
CONVOLUTIONS: tuple[tuple[int, int, int], ...] = ((8, 256, 64), (8, 512, 32), (16, 512, 16), (8, 128, 128))


@dataclass(frozen=True)
class Work:
    """One size of the same work: paper256 widths, losses and lazy intervals of StyleGAN2."""

    resolution: int
    batch: int
    device: str = "cpu"
    precision: str = "fp32"  # of Salon; on a GPU also of ada, as its own mixed precision
    preset: str = "paper256"  # of Salon; peers know this one alone
    augment_p: float = 0.0  # probability of each augmentation of ADA's preset bgc; rosinality has none
    learner: tuple[tuple[str, object], ...] = ()  # further arguments of Salon's Learner


class Salon:
    """This checkout."""

    def __init__(self, work: Work) -> None:
        from gan.config import make_config
        from gan.device.selection import select
        from gan.image_shape import ImageShape
        from gan.networks import precision
        from gan.ops.bias_act import bias_act
        from gan.ops.modulated_conv2d import demodulation, modulated_conv2d
        from gan.ops.upfirdn2d import downsample2d, setup_filter, upfirdn2d, upsample2d
        from gan.ops.weight_cache import WeightCache
        from gan.training.learner import Learner

        target = select(work.device)
        overrides = {"batch_size": work.batch, "r1_gamma": 1.0, "precision": work.precision}
        if work.augment_p:
            overrides |= {"augment": "ada", "augment_p": work.augment_p}
        config = make_config(
            preset=work.preset,
            shape=ImageShape(work.resolution, work.resolution),
            num_classes=0,
            dataset="none",
            overrides=overrides,
        )
        self.learner = Learner(config, target, **{"graphs": True, **dict(work.learner)})
        precision.apply(self.learner.G_ema, work.precision)
        self.weight_cache = WeightCache()
        shape = [work.batch, 3, work.resolution, work.resolution]
        self.pixels = torch.randint(0, 256, shape, dtype=torch.uint8, device=target)  # where the trainer keeps them
        self.classes = torch.zeros(work.batch, dtype=torch.long, device=target)
        f = setup_filter().to(target)
        self.ops: dict[str, Callable[..., torch.Tensor]] = {
            "upfirdn2d up 2": lambda x: upsample2d(x, f),
            "upfirdn2d down 2": lambda x: downsample2d(x, f),
            "upfirdn2d blur": lambda x: upfirdn2d(x, f, padding=(2, 1)),
            "bias + leaky ReLU": lambda x, b: bias_act(x, b, "lrelu"),
            "modulated conv": lambda x, w, s: bias_act(modulated_conv2d(x, w, s), scale=demodulation(w, s)),
            "modulated conv up 2": lambda x, w, s: bias_act(
                modulated_conv2d(x, w, s, f, up=True), scale=demodulation(w, s)
            ),
        }

    def iteration(self, i: int) -> None:
        self.learner.iteration = i
        self.learner.step(self.pixels, self.classes)

    def generate(self, z: torch.Tensor) -> torch.Tensor:
        with torch.no_grad(), self.weight_cache:  # as fast as inference mode, in which convolutions are not counted
            return self.learner.G_ema(z, noise_mode="const")


class Ada:
    """NVlabs/stylegan2-ada-pytorch."""

    def __init__(self, work: Work, path: Path) -> None:
        sys.path.insert(0, str(path))
        networks, loss = (importlib.import_module(f"training.{name}") for name in ("networks", "loss"))
        upfirdn2d, bias_act = (importlib.import_module(f"torch_utils.ops.{name}") for name in ("upfirdn2d", "bias_act"))
        self.work, self.device = work, torch.device(work.device)
        shape = {"c_dim": 0, "img_resolution": work.resolution, "img_channels": 3}
        mixed = work.precision != "fp32" and work.device != "cpu"
        fp16 = {"num_fp16_res": 4, "conv_clamp": 256} if mixed else {"num_fp16_res": 0, "conv_clamp": None}
        widths = {"channel_base": 16384, "channel_max": 512, **fp16}
        self.G = networks.Generator(
            z_dim=512, w_dim=512, mapping_kwargs={"num_layers": 8}, synthesis_kwargs=widths, **shape
        )
        self.D = networks.Discriminator(epilogue_kwargs={"mbstd_group_size": 4}, **widths, **shape)
        for network in (self.G, self.D):
            network.train().requires_grad_(False).to(self.device)
        self.G_ema = copy.deepcopy(self.G).eval()
        parts = (self.device, self.G.mapping, self.G.synthesis, self.D)
        pipe = None
        if work.augment_p:
            bgc = ("xflip", "rotate90", "xint", "scale", "rotate", "aniso", "xfrac")
            bgc += ("brightness", "contrast", "lumaflip", "hue", "saturation")
            pipe = importlib.import_module("training.augment").AugmentPipe(**dict.fromkeys(bgc, 1))
            pipe = pipe.train().requires_grad_(False).to(self.device)
            pipe.p.fill_(work.augment_p)
        self.loss = loss.StyleGAN2Loss(*parts, augment_pipe=pipe, style_mixing_prob=0.9, r1_gamma=1.0, pl_weight=2.0)
        self.optimizers = {"G": _adam(self.G, PL_INTERVAL), "D": _adam(self.D, R1_INTERVAL)}
        self.real = torch.randn(work.batch, 3, work.resolution, work.resolution, device=self.device).clamp(-1, 1)
        self.c = torch.zeros(work.batch, 0, device=self.device)
        f = upfirdn2d.setup_filter([1, 3, 3, 1]).to(self.device)
        convolve = networks.modulated_conv2d
        up = {"up": 2, "padding": 1, "resample_filter": f, "flip_weight": False, "fused_modconv": True}
        self.ops = {
            "upfirdn2d up 2": lambda x: upfirdn2d.upfirdn2d(x, f, up=2, padding=[2, 1, 2, 1], gain=4),
            "upfirdn2d down 2": lambda x: upfirdn2d.upfirdn2d(x, f, down=2, padding=[1, 1, 1, 1]),
            "upfirdn2d blur": lambda x: upfirdn2d.upfirdn2d(x, f, padding=[2, 1, 2, 1]),
            "bias + leaky ReLU": lambda x, b: bias_act.bias_act(x, b, act="lrelu"),
            "modulated conv": lambda x, w, s: convolve(x, w, s, padding=1, fused_modconv=True),
            "modulated conv up 2": lambda x, w, s: convolve(x, w, s, **up),
        }

    def iteration(self, i: int) -> None:
        self._phase("Gmain", 1)
        if i % PL_INTERVAL == 0:
            self._phase("Greg", PL_INTERVAL)
        self._phase("Dmain", 1)
        if i % R1_INTERVAL == 0:
            self._phase("Dreg", R1_INTERVAL)
        beta = 0.5 ** (self.work.batch / 20_000)
        with torch.no_grad():
            for old, new in zip(self.G_ema.parameters(), self.G.parameters(), strict=True):
                old.copy_(new.lerp(old, beta))
            for old, new in zip(self.G_ema.buffers(), self.G.buffers(), strict=True):
                old.copy_(new)

    def generate(self, z: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return self.G_ema(z, self.c[:1].expand(len(z), -1), noise_mode="const")

    def _phase(self, phase: str, gain: int) -> None:
        network, optimizer = (self.G if phase[0] == "G" else self.D), self.optimizers[phase[0]]
        z = torch.randn(self.work.batch, 512, device=self.device)
        optimizer.zero_grad(set_to_none=True)
        network.requires_grad_(True)
        self.loss.accumulate_gradients(
            phase=phase, real_img=self.real, real_c=self.c, gen_z=z, gen_c=self.c, sync=True, gain=gain
        )
        network.requires_grad_(False)
        for parameter in network.parameters():
            if parameter.grad is not None:
                torch.nan_to_num(parameter.grad, nan=0, posinf=1e5, neginf=-1e5, out=parameter.grad)
        optimizer.step()


class Rosinality:
    """rosinality/stylegan2-pytorch. Its CUDA ops would be compiled at import, unused on a CPU: that is switched off."""

    def __init__(self, work: Work, path: Path) -> None:
        from torch.utils import cpp_extension

        if work.device == "cpu":
            cpp_extension.load = lambda *_args, **_options: None
        for name in ("torchvision", "torchvision.transforms", "torchvision.utils", "lmdb", "wandb"):  # unused here
            sys.modules[name] = types.ModuleType(name)
        torchvision = sys.modules["torchvision"]
        torchvision.transforms, torchvision.utils = (sys.modules[f"torchvision.{n}"] for n in ("transforms", "utils"))
        sys.path.insert(0, str(path))
        model, self.t, op = (importlib.import_module(name) for name in ("model", "train", "op"))
        self.work, self.device = work, torch.device(work.device)
        make = lambda: model.Generator(work.resolution, 512, 8, channel_multiplier=1).to(self.device)  # noqa: E731
        self.G, self.G_ema = make(), make().eval()
        self.D = model.Discriminator(work.resolution, channel_multiplier=1).to(self.device)
        self.optimizers = {"G": _adam(self.G, PL_INTERVAL), "D": _adam(self.D, R1_INTERVAL)}
        self.real = torch.randn(work.batch, 3, work.resolution, work.resolution, device=self.device).clamp(-1, 1)
        self.mean_path_length: torch.Tensor | int = 0
        kernel = model.make_kernel([1, 3, 3, 1]).to(self.device)
        self.ops = {
            "upfirdn2d up 2": lambda x: op.upfirdn2d(x, kernel * 4, up=2, pad=(2, 1)),
            "upfirdn2d down 2": lambda x: op.upfirdn2d(x, kernel, down=2, pad=(1, 1)),
            "upfirdn2d blur": lambda x: op.upfirdn2d(x, kernel, pad=(2, 1)),
            "bias + leaky ReLU": lambda x, b: op.fused_leaky_relu(x, b),
        }

    def iteration(self, i: int) -> None:
        t, work = self.t, self.work
        noise = lambda n: t.mixing_noise(n, 512, 0.9, self.device)  # noqa: E731
        t.requires_grad(self.G, False)
        t.requires_grad(self.D, True)
        gen_img, _ = self.G(noise(work.batch))
        self._step("D", t.d_logistic_loss(self.D(self.real), self.D(gen_img)))
        if i % R1_INTERVAL == 0:
            real = self.real.clone().requires_grad_(True)
            logits = self.D(real)
            self._step("D", t.d_r1_loss(logits, real) * (R1_INTERVAL / 2) + 0 * logits[0].sum())
        t.requires_grad(self.G, True)
        t.requires_grad(self.D, False)
        gen_img, _ = self.G(noise(work.batch))
        self._step("G", t.g_nonsaturating_loss(self.D(gen_img)))
        if i % PL_INTERVAL == 0:
            gen_img, latents = self.G(noise(max(1, work.batch // 2)), return_latents=True)
            loss, self.mean_path_length, _ = t.g_path_regularize(gen_img, latents, self.mean_path_length)
            self._step("G", 2 * PL_INTERVAL * loss + 0 * gen_img[0, 0, 0, 0])
        t.accumulate(self.G_ema, self.G, 0.5 ** (work.batch / 20_000))

    def generate(self, z: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            img: torch.Tensor = self.G_ema([z], randomize_noise=False)[0]
            return img

    def _step(self, key: str, loss: torch.Tensor) -> None:
        optimizer = self.optimizers[key]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


PEERS = {"ada": Ada, "rosinality": Rosinality}
# What Salon does to the allocator by itself, as environment variables for a peer ("tuned").
TUNED = {
    "THP_MEM_ALLOC_ENABLE": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
    "MALLOC_TOP_PAD_": str(64 << 20),
}


def make(name: str, path: Path | None, work: Work) -> "Salon | Ada | Rosinality":
    """The contender of that name: "salon", or one of PEERS in the checkout at `path`."""
    torch.manual_seed(0)
    return Salon(work) if path is None else PEERS[name](work, path)


class FlopCount(TorchDispatchMode):
    """Counts the FLOPs of convolutions and matrix products, in backward passes of any order too."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if count := flop_registry.get(func._overloadpacket):
            self.total += count(*args, **(kwargs or {}), out_val=out)
        return out


def synchronize(device: str) -> None:
    """Wait for a GPU, so that a clock can be read."""
    if device != "cpu":
        torch.cuda.synchronize()


def seconds(function: Callable[[], object], device: str, least: float, repeats: int = 3) -> float:
    """Median duration of `repeats` calls or more, over `least` seconds or more; of several, the first is left out."""
    if repeats > 1:
        function()
    synchronize(device)
    times: list[float] = []
    while len(times) < repeats or sum(times) < least:
        start = time.perf_counter()
        function()
        synchronize(device)
        times.append(time.perf_counter() - start)
    return median(times)


def convolution_peak(device: str, dtype: torch.dtype = torch.float32, least: float = 0.5) -> float:
    """FLOP/s of the fastest of CONVOLUTIONS, each measured for `least` seconds or more."""
    best = 0.0
    for n, c, side in CONVOLUTIONS:
        for layout in (torch.channels_last, torch.contiguous_format):
            x = torch.randn(n, c, side, side, device=device, dtype=dtype).contiguous(memory_format=layout)
            w = torch.randn(c, c, 3, 3, device=device, dtype=dtype).contiguous(memory_format=layout)
            with torch.inference_mode():
                took = seconds(lambda x=x, w=w: torch.nn.functional.conv2d(x, w, padding=1), device, least)
            best = max(best, 2 * n * c * c * 9 * side * side / took)
    return best


@dataclass(frozen=True)
class Way:
    """A contender as it is measured: in its own process, for its allocator's sake."""

    name: str
    path: Path | None
    work: Work
    tuned: bool = False
    variant: str = ""  # what is otherwise than by default, for the label

    @property
    def label(self) -> str:
        return f"{self.name} {self.work.precision}" + (", tuned" if self.tuned else "") + self.variant

    def measure(self, script: str, environment: dict[str, str] | None = None, **options: object) -> dict:
        """Run `script --one` -> the figures that it prints as JSON."""
        request = json.dumps(
            {"name": self.name, "path": self.path and str(self.path), "work": asdict(self.work)} | options
        )
        extra = {**(TUNED if self.tuned else {}), **(environment or {})}
        command = [sys.executable, script, "--one", request]
        done = subprocess.run(command, env={**os.environ, **extra}, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{self.label} failed:\n{done.stderr[-2000:]}")
        figures: dict = json.loads(done.stdout.splitlines()[-1])
        return figures


def ways(work: Work, peers: tuple[str, ...]) -> list[Way]:
    """Salon in both precisions, then each peer: on a CPU as it comes and tuned, on a GPU in both precisions too."""
    mixed = replace(work, precision="bf16")
    found = [Way("salon", None, work), Way("salon", None, mixed)]
    for name, path in (peer.split("=", 1) for peer in peers):
        found.append(Way(name, Path(path), work))
        if work.device == "cpu":
            found.append(Way(name, Path(path), work, tuned=True))
        elif name == "ada":
            found.append(Way(name, Path(path), mixed))
    return found


def options(script: str, work: str | None = None) -> Callable:
    """The command line that the benchmarks share: --work (where `work` is its default), --peer, --device, --one."""

    def decorate(function: Callable) -> Callable:
        found = [
            click.option("--peer", "peers", multiple=True, metavar="NAME=PATH", help=f"One of {', '.join(PEERS)}."),
            click.option("--device", default="cpu", show_default=True),
            click.option("--one", help="Measure one contender in this process (JSON; used by the script itself)."),
        ]
        if work:
            found.append(
                click.option(
                    "--work", "size", default=work, show_default=True, metavar="RxN", help="Resolution and batch."
                )
            )
        for option in found:
            function = option(function)
        return click.command(help=script)(function)

    return decorate


def requested(request: dict) -> tuple["Salon | Ada | Rosinality", Work]:
    """The contender and the work that `--one` names."""
    work = Work(**request["work"])
    return make(request["name"], request["path"] and Path(request["path"]), work), work


def peaks(device: str) -> dict[str, float]:
    """FLOP/s of torch's convolutions in each precision."""
    if device == "cpu":
        from gan.device.selection import select

        select(device)
    return {"fp32": convolution_peak(device), "bf16": convolution_peak(device, torch.bfloat16)}


def describe(peaks: dict[str, float]) -> str:
    return "convolution peak " + ", ".join(f"{name} {peak / 1e9:.0f} GFLOP/s" for name, peak in peaks.items())


def _adam(network: torch.nn.Module, interval: int) -> torch.optim.Optimizer:
    ratio = interval / (interval + 1)
    return torch.optim.Adam(network.parameters(), lr=0.0025 * ratio, betas=(0.0, 0.99**ratio), eps=1e-8)
