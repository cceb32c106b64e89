"""The four phases of an iteration as CUDA graphs: one launch each, where the host would need longer than the GPU.

A phase is captured whole, with its optimizer step: its gradients are born and die within it, the check of what is
finite keeps fused Adam from stepping on the device, and nothing is left for the host to do. What changes between
replays lies in memory that stays where it is: weights, optimizer states, pl_mean, ADA's p, w_avg and the real images.
G_ema and ADA's adjustment stay outside, since the host computes the average's beta and counts the interval.

Random numbers: torch registers the device's default generator with each graph and moves its offset on at each replay
by what the captured kernels draw, so that its state in a checkpoint is that of a run without graphs.

Only a GPU can show: that the capture goes through with all kernels in use, that replays equal eager iterations to the
bit, that a resumed run does, and what memory and time it takes. The bookkeeping is tested with a stand-in on a CPU.
"""

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import torch

from gan.runtime import distributed

Stats = dict[str, torch.Tensor]
WARM_UP = 2  # eager runs of a phase before its capture: lazily made states, chosen algorithms, cached constants


class Capture(Protocol):
    """How phases are run on a device."""

    def warm_up(self, phase: Callable[[], Stats]) -> Stats:
        """Run a phase that will be captured later."""

    def capture(self, phase: Callable[[], Stats]) -> tuple[Callable[[], None], Stats]:
        """Record a phase without running it -> what replays it, and the scalars that each replay fills anew."""


class Graphs:
    """Runs phases by name: eagerly at first, then as graphs."""

    def __init__(self, capture: Capture) -> None:
        self._capture = capture
        self._runs: dict[str, int] = {}
        self._captured: dict[str, tuple[Callable[[], None], Stats]] = {}

    def run(self, name: str, phase: Callable[[], Stats]) -> Stats:
        """Run a phase -> its scalars, good until the next run of the same. It must read the same memory every time."""
        if self._runs.setdefault(name, 0) < WARM_UP:
            self._runs[name] += 1
            return self._capture.warm_up(phase)
        if name not in self._captured:
            self._captured[name] = self._capture.capture(phase)
        replay, stats = self._captured[name]
        replay()
        return stats

    def reset(self) -> None:
        """Forget all graphs, after anything that they read was put elsewhere."""
        self._runs.clear()
        self._captured.clear()


class CudaCapture:
    """Captures on a CUDA device. The graphs share memory: they are replayed in one order, one at a time."""

    def __init__(self, device: torch.device, optimizers: Iterable[torch.optim.Optimizer]) -> None:
        self._device = device
        self._groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        self._pool: Any = torch.cuda.graph_pool_handle()
        self._stream: Any = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def warm_up(self, phase: Callable[[], Stats]) -> Stats:
        """On another stream than the default one, as a capture will be."""
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            stats = phase()
        current.wait_stream(self._stream)
        for value in stats.values():
            value.record_stream(current)
        return stats

    def capture(self, phase: Callable[[], Stats]) -> tuple[Callable[[], None], Stats]:
        """The optimizers are capturable meanwhile only, so that checkpoints do not tell of it."""
        graph = torch.cuda.CUDAGraph()
        for group in self._groups:
            group["capturable"] = True
        try:
            # Only this thread must keep from calls that capturing forbids: the loader pins memory in another.
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
                stats = phase()
        finally:
            for group in self._groups:
                group["capturable"] = False
        return graph.replay, stats


def refusal(device: torch.device, passes: int) -> str | None:
    """Why phases cannot be graphs there, with so many microbatches in a batch; None: they can."""
    if device.type != "cuda":
        return "they need a CUDA GPU"
    if distributed.world_size() > 1:
        return "not with several processes"
    return "not with `batch_gpu` below the batch" if passes > 1 else None
