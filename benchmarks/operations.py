"""Count what a GPU would be asked to do in a training iteration or in sampling, where there is no GPU.

The work runs on tensors of device cuda that have shapes and no numbers (torch's FakeTensorMode). What the host would
have to wait for raises: a value that Python asks for, an index by a tensor on the CPU, an upload. What is counted is
each operation that torch dispatches and that is no view; a custom operator counts as one. Its bytes are those of the
tensors that it takes and gives: what memory must move at least, where its caches do not help.
"""

import contextlib
import ctypes
import functools
import json
import math
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import click
import numpy as np
import torch
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gan.config import TrainingConfig, make_config
from gan.image_shape import ImageShape
from gan.networks import precision
from gan.networks.discriminator import Discriminator
from gan.networks.generator import Generator
from gan.rejection import discriminator_logits
from gan.rejection.discriminator_logits import DiscriminatorLogits, count_references
from gan.sampling.generate import Sampler
from gan.training import learner as learners
from gan.training.learner import Learner

DEVICE = torch.device("cuda:0")


class Operations(TorchDispatchMode):
    """Counts operations, but for views and torch's own profiling; refuses what mixes the devices."""

    def __init__(self, strict: bool = True) -> None:
        super().__init__()
        self.strict = strict
        self.counts: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if func.namespace in ("profiler", "prim") or func.is_view or func is torch.ops.aten.detach.default:
            return out
        tensors = [t for t in tree_leaves((args, kwargs, out)) if isinstance(t, torch.Tensor)]
        kinds = {t.device.type for t in tensors if t.ndim or func is torch.ops.aten._to_copy.default}
        if self.strict and kinds == {"cpu", "cuda"}:
            raise RuntimeError(f"{func} takes tensors of the CPU and of the GPU: the host waits")
        self.counts[str(func)] += 1
        self.bytes[str(func)] += _moved(func, args, kwargs or {}, out)
        return out


def _moved(func, args, kwargs, out) -> int:
    # Bytes read and written. Memory that is only allocated is not, nor is what is overwritten read.
    if "empty" in str(func):
        return 0
    total = 0
    for index, argument in enumerate(func._schema.arguments):
        value = args[index] if index < len(args) else kwargs.get(argument.name)
        written = argument.alias_info is not None and argument.alias_info.is_write
        only_written = written and (argument.is_out or (index == 0 and "copy_" in str(func)))
        total += _size(value) * (2 if written and not only_written else 1)
    results = [out] if len(func._schema.returns) == 1 else out or []
    for result, value in zip(func._schema.returns, results, strict=True):
        total += _size(value) if result.alias_info is None else 0
    return total


def _size(value) -> int:
    # A tensor's bytes in memory: what is expanded lies there once.
    tensors = [t for t in tree_leaves(value) if isinstance(t, torch.Tensor)]
    return sum(
        t.element_size() * math.prod(size for size, stride in zip(t.shape, t.stride(), strict=True) if stride)
        for t in tensors
    )


@contextlib.contextmanager
def fake_cuda() -> Iterator[None]:
    """Let tensors be made on device cuda without a GPU: they have no numbers, and asking for one raises.

    A build of torch for the CPU alone must also be told that such a device exists; that holds for the whole process.
    """
    if not torch.cuda.is_available():
        _pretend()
    real = {name: functools.partial(_outside, getattr(learners, name)) for name in ("Generator", "Discriminator")}
    with warnings.catch_warnings(), mock.patch.multiple(learners, **real), FakeTensorMode(allow_non_fake_inputs=True):
        warnings.filterwarnings("ignore", "Accessing the data pointer of FakeTensor")
        # What microbatches do to the generators of a real device.
        with (
            mock.patch.object(torch.random, "fork_rng", lambda _devices: contextlib.nullcontext()),
            mock.patch.object(torch, "manual_seed", lambda _seed: None),
        ):
            yield


def count(learner: Learner, iteration: int, *, strict: bool = True) -> Operations:
    """Operations of one iteration, and their bytes. Within fake_cuda, for a learner of DEVICE.

    Without `strict`, uploads are let through: the first iteration makes constants that stay.
    """
    n = len(learner.members)
    pixels = torch.zeros([n, *learner.config.network.shape.chw], dtype=torch.uint8, device=DEVICE)
    classes = torch.zeros([n], dtype=torch.int64, device=DEVICE)
    learner.iteration = iteration
    with Operations(strict) as operations:
        learner.step(pixels, classes)
    return operations


def count_kinds(learner: Learner) -> dict[str, Operations]:
    """The same of each kind of iteration that the config's intervals bring; the first one warms up, uncounted."""
    kinds: dict[str, int] = {}
    for i in range(1, learner.config.pl_interval * learner.config.r1_interval + 1):
        due = [name for name, interval in _lazy(learner).items() if i % interval == 0]
        kinds.setdefault(" and ".join(due) or "plain", i)
    count(learner, 0, strict=False)
    return {kind: count(learner, i) for kind, i in kinds.items()}


def count_sampling(config: TrainingConfig, batch_size: int) -> dict[str, Operations]:
    """Operations of a batch of images from its latents on, and of the discriminator's logits of a batch of pixels.

    Within fake_cuda. The second batch counts: the first one makes what is kept of the weights.
    """
    G, D = (_outside(kind, config.network).requires_grad_(False).to(DEVICE) for kind in (Generator, Discriminator))
    for network in (G, D):
        precision.apply(network, config.precision)
    sampler = Sampler(G, noise_mode="random", batch_size=batch_size)
    c = (config.network.num_classes,) if config.network.num_classes else ()
    shapes = [(config.network.z_dim,), *([c] if c else []), *((1, *shape) for shape in G.synthesis.noise_shapes())]
    sampler._inputs = [torch.zeros([batch_size, *shape], device=DEVICE) for shape in shapes]
    pixels = np.zeros([batch_size, *config.network.shape.hwc], np.uint8)
    there = lambda tensor, device: torch.zeros(tensor.shape, dtype=tensor.dtype, device=device)  # noqa: E731
    counts = {}
    with (
        mock.patch.multiple(discriminator_logits, upload=there, fitting=lambda *_: batch_size),
        torch.inference_mode(),
        sampler._cache,
    ):
        number = count_references(D)
        references = np.zeros([number, *pixels.shape[1:]], np.uint8)
        logits_of = DiscriminatorLogits(D, references, [0] * number)
        classes = torch.zeros([batch_size, *c], device=DEVICE) if c else None
        for name, work in (("images", sampler._batch), ("logits", lambda: logits_of._logits(pixels, classes))):
            work()
            with Operations() as operations:
                work()
            counts[name] = operations
    return counts


def _whole(learner: Learner) -> Operations:
    # What the lazy phases need once, the others need, too.
    count(learner, 1, strict=False)
    return count(learner, 0)


def amortised(learner: Learner, totals: dict[str, float]) -> float:
    """The mean of an iteration, from those of each kind."""
    numbers = range(learner.config.pl_interval * learner.config.r1_interval)
    due = ([name for name, interval in _lazy(learner).items() if i % interval == 0] for i in numbers)
    return sum(totals[" and ".join(names) or "plain"] for names in due) / len(numbers)


def _lazy(learner: Learner) -> dict[str, int]:
    config = learner.config
    due = {"path length": config.pl_interval if config.pl_weight else 0}
    due["R1"] = config.r1_interval if config.r1_gamma else 0
    return {name: interval for name, interval in due.items() if interval}


def _outside(make, config):
    # Networks of real numbers, which .to(DEVICE) turns into fake ones: torch cannot move fake parameters.
    with unset_fake_temporarily():
        return make(config)


@functools.cache
def _pretend() -> list[object]:
    # Autograd asks torch's C++ for a guard of the device and whether it was built for CUDA; see c10/core/impl and
    # ATen/detail/AcceleratorHooksInterface.h. -> what must stay alive
    libraries = Path(torch.__file__).parent / "lib"
    c10, cpu = (ctypes.CDLL(str(libraries / f"lib{name}.so")) for name in ("c10", "torch_cpu"))
    guards = (ctypes.c_void_p * 22).in_dll(c10, "_ZN3c104impl26device_guard_impl_registryE")
    cuda, lazy = 1, 17  # as c10::DeviceType numbers them
    guards[cuda] = guards[cuda] or guards[lazy]  # a guard of no device is what torch replaces by one that does nothing
    torch._C._ensureCUDADeviceGuardSet()
    get_hooks = cpu._ZN2at6detail12getCUDAHooksEv
    get_hooks.restype = ctypes.POINTER(ctypes.c_void_p)
    hooks = get_hooks()
    offset = 2 * ctypes.sizeof(ctypes.c_void_p)  # of a table of virtual functions from where it is pointed to
    table = (ctypes.c_void_p * 64).from_buffer_copy(ctypes.string_at(hooks[0] - offset, 64 * 8))
    yes = ctypes.CFUNCTYPE(ctypes.c_bool, ctypes.c_void_p)(lambda _hooks: True)
    is_built, has_primary_context = 4, 6
    table[is_built] = table[has_primary_context] = ctypes.cast(yes, ctypes.c_void_p).value
    hooks[0] = ctypes.addressof(table) + offset
    if str(torch._C._accelerator_getAccelerator()) != "cuda":
        raise RuntimeError(f"torch {torch.__version__} cannot be made to believe in a GPU")
    return [table, yes]


@click.command(help=__doc__)
@click.option("--preset", default="paper256", show_default=True)
@click.option("--resolution", default=256, show_default=True)
@click.option("--set", "configs", multiple=True, metavar="JSON", help="Fields of the config to count; repeat.")
@click.option("--sampling", is_flag=True, help="Count a batch of generated images, and of logits, as well.")
@click.option("--whole", is_flag=True, help="Count only an iteration of all phases.")
@click.option("--most", default=0, show_default=True, help="Print so many of the commonest operations.")
@click.option("--bytes", "with_bytes", is_flag=True, help="Bytes moved, too, and the time that they take at least.")
@click.option("--bandwidth", default=4.8, show_default=True, metavar="TB/S", help="Of the GPU's memory; an H200's.")
def main(
    preset: str,
    resolution: int,
    configs: tuple[str, ...],
    sampling: bool,
    whole: bool,
    most: int,
    with_bytes: bool,
    bandwidth: float,
) -> None:
    for text in configs or ('{"batch_size": 32, "precision": "bf16"}',):
        fields = json.loads(text)
        batch_gpu, classes = fields.pop("batch_gpu", None), fields.pop("num_classes", 0)
        config = make_config(
            preset=preset,
            shape=ImageShape(resolution, resolution),
            num_classes=classes,
            dataset="none",
            overrides=fields,
        )
        labels = np.arange(classes) if classes else None
        with fake_cuda():
            learner = Learner(config, DEVICE, labels, batch_gpu=batch_gpu)
            kinds = {"whole": _whole(learner)} if whole else count_kinds(learner)
            if sampling:
                kinds |= count_sampling(config, config.batch_size)
        report = {"config": json.loads(text), **_totals(learner, {k: ops.counts for k, ops in kinds.items()}, whole)}
        if with_bytes:
            moved = _totals(learner, {k: ops.bytes for k, ops in kinds.items()}, whole)
            report["gigabytes"] = {kind: round(total / 1e9, 3) for kind, total in moved.items()}
            report["milliseconds"] = {kind: round(total / bandwidth / 1e9, 3) for kind, total in moved.items()}
        print(json.dumps(report))
        for kind, ops in kinds.items():
            for name, times in ops.counts.most_common(most):
                print(f"  {kind:<12} {times:5d} {name}")
            if with_bytes:
                for name, moved_by in ops.bytes.most_common(most):
                    print(f"  {kind:<12} {moved_by / 1e9:8.3f} GB {ops.counts[name]:5d} {name}")


def _totals(learner: Learner, kinds: dict[str, Counter[str]], whole: bool) -> dict[str, float]:
    totals: dict[str, float] = {kind: found.total() for kind, found in kinds.items()}
    return totals if whole else {**totals, "amortised": round(amortised(learner, totals), 1)}


if __name__ == "__main__":
    main()
