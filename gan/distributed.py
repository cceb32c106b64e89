"""Several processes that train one network, as torchrun starts them. With one process all of this does nothing.

torchrun tells each process its number in RANK, on its machine in LOCAL_RANK, and how many there are in WORLD_SIZE.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist

from gan.console import is_main as is_main
from gan.errors import RequestError, SalonError

_WITHIN_ITERATION = timedelta(minutes=10)  # the longest wait for another process's gradients
_FOR_MAIN = timedelta(days=1)  # the longest wait for what the main process alone does: checks, files, metrics

_patient: dist.ProcessGroup | None = None  # the group of `anyone`


def world_size() -> int:
    """Number of processes."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Number of this process, from 0; process 0 is the main one, which alone prints and writes."""
    return int(os.environ.get("RANK", "0"))


def describe() -> str:
    """The number of processes, to go behind the device's name in the log; nothing for one."""
    return f", in {world_size()} processes" if world_size() > 1 else ""


def restarted() -> bool:
    """Whether torchrun has started the processes again after one of them died."""
    return os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"


@contextmanager
def joined(device: torch.device) -> Iterator[None]:
    """Connect the processes: NCCL for tensors on GPUs, gloo for those on the CPU."""
    global _patient
    if world_size() == 1:
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    with _explained():
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=_WITHIN_ITERATION)
        _patient = dist.new_group(backend="gloo", timeout=_FOR_MAIN)
    yield  # after an error the others are gone: nothing is to be taken down in order
    anyone(False)
    dist.destroy_process_group()


def anyone(wish: bool) -> bool:
    """Whether any process has the wish. All must ask; it waits for them, patiently."""
    if world_size() == 1:
        return wish
    votes = torch.tensor(int(wish))
    with _explained():
        dist.all_reduce(votes, dist.ReduceOp.MAX, _patient)
    return bool(votes)


@contextmanager
def main_first() -> Iterator[None]:
    """Run the block in the others once it is done in the main process; a failure there ends them too."""
    if is_main():
        failed = True
        try:
            yield
            failed = False
        finally:
            anyone(failed)
    elif anyone(False):
        raise SalonError("the main process stopped; its message says why")
    else:
        yield


def sum_in_place(tensors: Sequence[torch.Tensor]) -> None:
    """Replace each tensor by its sum over the processes, with the same bits in all. One message carries all tensors."""
    if world_size() == 1:
        return
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    with _explained():
        dist.all_reduce(flat)
    for tensor, total in zip(tensors, torch.split(flat, [tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(total.view(tensor.shape))


def require_same(text: str, what: str) -> None:
    """Raise RequestError in all processes when `text` is not the same in all."""
    if world_size() == 1:
        return
    mine = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8).long()
    bounds = torch.cat([mine, -mine])
    with _explained():
        dist.all_reduce(bounds, dist.ReduceOp.MAX, _patient)
    largest, smallest = bounds.chunk(2)
    if not torch.equal(largest, -smallest):
        raise RequestError(f"all processes must have the same {what}; the machines' datasets or commands differ")


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        raise SalonError(
            f"process {rank()} lost another one: {reason}. torchrun --max-restarts N starts them again by itself"
        ) from error
