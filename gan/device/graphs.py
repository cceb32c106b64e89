"""Work that is the same every time, as CUDA graphs: one launch each, where the host would need longer than the GPU.

Work is captured whole, by name: each phase of a training iteration with its optimizer step, and a batch of images from
its latents on. What changes between replays lies in memory that stays where it is.

Random numbers: torch registers the device's default generator with each graph and moves its offset on at each replay
by what the captured kernels draw, so that its state in a checkpoint is that of a run without graphs.

Only a GPU can show: that the capture goes through with all kernels in use, that replays equal eager runs to the bit,
that a resumed training does, and what memory and time it takes. The bookkeeping is tested with a stand-in on a CPU.
"""

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import torch

from gan.runtime import distributed

Tensors = dict[str, torch.Tensor]
Work = Callable[[], Tensors]
WARM_UP = 2  # eager runs of work before its capture: lazily made states, chosen algorithms, cached constants


class Capture(Protocol):
    """How work is run on a device."""

    def warm_up(self, work: Work) -> Tensors:
        """Run work that will be captured later."""

    def capture(self, work: Work) -> tuple[Callable[[], None], Tensors]:
        """Record work without running it -> what replays it, and the tensors that each replay fills anew."""


class Graphs:
    """Runs work by name: eagerly at first, then as graphs."""

    def __init__(self, capture: Capture) -> None:
        self._capture = capture
        self._runs: dict[str, int] = {}
        self._captured: dict[str, tuple[Callable[[], None], Tensors]] = {}

    def run(self, name: str, work: Work) -> Tensors:
        """Run work -> its tensors, good until the next run of the same. It must read the same memory every time."""
        if self._runs.setdefault(name, 0) < WARM_UP:
            self._runs[name] += 1
            return self._capture.warm_up(work)
        if name not in self._captured:
            self._captured[name] = self._capture.capture(work)
        replay, tensors = self._captured[name]
        replay()
        return tensors

    def reset(self) -> None:
        """Forget all graphs, after anything that they read was put elsewhere."""
        self._runs.clear()
        self._captured.clear()


class CudaCapture:
    """Captures on a CUDA device, with the steps of `optimizers`. The graphs share memory: they are replayed in one
    order, one at a time.
    """

    def __init__(self, device: torch.device, optimizers: Iterable[torch.optim.Optimizer] = ()) -> None:
        self._device = device
        self._groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        self._pool: Any = torch.cuda.graph_pool_handle()
        self._stream: Any = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def warm_up(self, work: Work) -> Tensors:
        """On another stream than the default one, as a capture will be."""
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            tensors = work()
        current.wait_stream(self._stream)
        for value in tensors.values():
            value.record_stream(current)
        return tensors

    def capture(self, work: Work) -> tuple[Callable[[], None], Tensors]:
        """The optimizers are capturable meanwhile only, so that checkpoints do not tell of it."""
        graph = torch.cuda.CUDAGraph()
        for group in self._groups:
            group["capturable"] = True
        try:
            # Only this thread must keep from calls that capturing forbids: the loader pins memory in another.
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
                tensors = work()
        finally:
            for group in self._groups:
                group["capturable"] = False
        return graph.replay, tensors


def describe(reason: str | None) -> str:
    """One line for the log, of what refusal() gave."""
    return f"CUDA graphs: no, {reason}" if reason else "CUDA graphs: yes"


def refusal(device: torch.device, passes: int = 0) -> str | None:
    """Why there can be no graphs; None: there can. Of training `passes` are the microbatches in a batch."""
    if device.type != "cuda":
        return "they need a CUDA GPU"
    if passes and distributed.world_size() > 1:
        return "not with several processes"
    return "not with `batch_gpu` below the batch" if passes > 1 else None
