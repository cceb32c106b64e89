"""Several processes that train one network, as torchrun starts them. With one process all of this does nothing.

torchrun tells each process its number in RANK, on its machine in LOCAL_RANK, and how many there are in WORLD_SIZE.
"""

import os
import re
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from gan.errors import RequestError, SalonError
from gan.runtime.console import is_main as is_main

_WITHIN_ITERATION = timedelta(minutes=10)  # the longest wait for another process's gradients
_FOR_MAIN = timedelta(days=1)  # the longest wait for what the main process alone does: checks, files, metrics

_slow_group: dist.ProcessGroup | None = None  # of `anyone`, which may wait for long
_alone = False


def world_size() -> int:
    """Number of processes."""
    return 1 if _alone else int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def alone() -> Iterator[None]:
    """Let the main process do in the block what otherwise all share, such as a metric in a hook of training."""
    global _alone
    _alone = True
    try:
        yield
    finally:
        _alone = False


def local_world_size() -> int:
    """Number of processes on this machine."""
    return 1 if _alone else int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


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
    global _slow_group
    if world_size() == 1:
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    with _explained():
        dist.init_process_group(
            backend, store=_fresh_store(), rank=rank(), world_size=world_size(), timeout=_WITHIN_ITERATION
        )
        _slow_group = dist.new_group(backend="gloo", timeout=_FOR_MAIN)
    yield  # after an error the others are gone: nothing is to be taken down in order
    anyone(False)
    dist.destroy_process_group()


def anyone(wish: bool) -> bool:
    """Whether any process has the wish. All must ask; it waits for them, for up to a day."""
    if world_size() == 1:
        return wish
    votes = torch.tensor(int(wish))
    with _explained():
        dist.all_reduce(votes, dist.ReduceOp.MAX, _slow_group)
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


def from_main(text: str) -> str:
    """The main process's text, in all of them."""
    if world_size() == 1:
        return text
    content = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)
    size = torch.tensor(len(content))
    with _explained():
        dist.broadcast(size, 0, _slow_group)
        content = content if is_main() else torch.empty(int(size), dtype=torch.uint8)
        dist.broadcast(content, 0, _slow_group)
    return bytes(content.tolist()).decode()


def require_same(text: str, description: str) -> None:
    """Raise RequestError, which names `description`, in all processes when `text` is not the same in all."""
    if anyone(from_main(text) != text):
        raise RequestError(f"all processes must have the same {description}; the machines' datasets or commands differ")


def _fresh_store() -> Store:
    # torchrun keeps one store over all restarts, with the addresses of processes that are dead, and processes cannot
    # tell by their own count of restarts which attempt is the latest. So the main one gives each that calls a new
    # prefix, by the name that it calls with, until all have thanked.
    store: Store = next(rendezvous("env://", timeout=_WITHIN_ITERATION))[0]
    name, deadline = uuid.uuid4().hex, time.monotonic() + _WITHIN_ITERATION.total_seconds()
    if not is_main():
        store.set(f"caller/{rank()}", name)
        prefix = store.get(f"prefix/{name}").decode()
        store.add(prefix, 1)
        return PrefixStore(prefix, store)
    while store.add(name, 0) < world_size() - 1:
        for caller in (f"caller/{other}" for other in range(1, world_size())):
            if store.check([caller]):
                store.set(f"prefix/{store.get(caller).decode()}", name)
        if time.monotonic() > deadline:
            raise RuntimeError(f"only {store.add(name, 0) + 1} of {world_size()} processes came")
        time.sleep(0.02)
    return PrefixStore(name, store)


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        reason = re.sub(r"\[[^]]*\.cc:\d+\] *", "", str(error).strip()).splitlines()[0].split(". ")[0]
        raise SalonError(
            f"process {rank()} lost another one: {reason}. torchrun --max-restarts N starts all again by itself"
        ) from error
