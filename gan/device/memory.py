"""Memory of the device: what is free, what was used, and copies to and from the CPU."""

import ctypes
import math
import os
import platform
import re
import resource
from collections.abc import Callable
from pathlib import Path

import torch

# glibc's mallopt parameters (malloc.h)
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
SHARE = 0.25  # of the free memory that is taken at a time


def free_memory(device: torch.device) -> int:
    """Bytes that can be allocated on the device: of a GPU what the driver and torch have free, else what Linux has.

    0 where the system does not say.
    """
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # by torch, for itself
        return torch.cuda.mem_get_info(device)[0] + kept
    try:
        available = re.search(r"^MemAvailable:\s*(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(available[1]) * 1024 if available else 0


def fitting(most: int, needed: Callable[[int], int], device: torch.device) -> int:
    """How many things at a time: `most`, halved until they need no more than a share of the free memory; 1 or more.

    `needed` gives the bytes for so many. Halved, so that what is computed hangs on the free memory only where that is
    scarce.
    """
    free = free_memory(device) or math.inf
    while most > 1 and needed(most) > SHARE * free:
        most //= 2
    return most


def peak_memory(device: torch.device) -> float:
    """Most memory used so far, in GB: the GPU's for CUDA, else the process's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def keep_freed_memory() -> bool:
    """Make the C allocator keep what is freed, and torch use huge pages; False where glibc is not the C library.

    Otherwise each large activation is mapped, page-faulted and unmapped anew, which costs a CPU more than the
    arithmetic. Has effect on what is allocated from now on.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    libc = ctypes.CDLL(None)
    settings = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1), (_TOP_PAD, 64 << 20))
    return all(libc.mallopt(parameter, value) == 1 for parameter, value in settings)


def upload(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A CPU tensor on `device`, without waiting for what a GPU has to do yet."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


class Download:
    """A tensor on its way to the CPU: its copy starts now, behind what a GPU has to do yet; result() waits for it."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self._tensor, self._copied = tensor, None
        if tensor.is_cuda:
            self._tensor = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            self._tensor.copy_(tensor, non_blocking=True)
            self._copied = torch.cuda.current_stream(tensor.device).record_event()

    def result(self) -> torch.Tensor:
        """The tensor on the CPU."""
        if self._copied is not None:
            self._copied.synchronize()
        return self._tensor
