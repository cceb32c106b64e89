"""Where the work runs, and how the process is set up for it."""

import os
import platform
import re

import torch

from gan.device.determinism import WORKSPACE, describe_tf32, set_tf32
from gan.device.memory import keep_freed_memory
from gan.errors import RequestError
from gan.ops import backend


def select(device: str = "auto") -> torch.device:
    """The device for "auto", "cpu", "cuda" or "cuda:N", with the process set up to use it well.

    Of several processes that torchrun started on a machine each gets a GPU of its own.
    Raises RequestError when it is not there.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if here > 1 and device.startswith("cuda"):
        if device != "cuda" or here > torch.cuda.device_count():
            raise RequestError(
                f"{here} processes on a machine need `device` cuda and as many GPUs; got `device` {device} and "
                f"{torch.cuda.device_count()} GPUs instead"
            )
        device = f"cuda:{os.environ['LOCAL_RANK']}"
    if device.startswith("cuda"):
        if not torch.cuda.is_available():
            raise RequestError(
                f"`device` {device} needs a CUDA GPU that torch can use; `salon doctor` says what is missing"
            )
        if not re.fullmatch(r"cuda(:\d+)?", device) or int(device.partition(":")[2] or 0) >= torch.cuda.device_count():
            raise RequestError(f"`device` must be cuda or cuda:0 to cuda:{torch.cuda.device_count() - 1}; got {device}")
        torch.backends.cudnn.benchmark = True
        set_tf32()
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", WORKSPACE)  # read once, at the first product
    elif device == "cpu":
        keep_freed_memory()
    else:
        raise RequestError(f"`device` must be auto, cpu, cuda or cuda:N; got {device} instead")
    return torch.device(device)


def describe(device: torch.device) -> str:
    """One line for the log: what the work runs on."""
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return (
            f"{properties.name}, {properties.total_memory / 1e9:.0f} GB; TF32 in fp32: {describe_tf32()}; "
            f"ops: {backend.status('cuda')}"
        )
    kept = "kept" if platform.libc_ver()[0] == "glibc" else "returned"
    return f"CPU, {torch.get_num_threads()} threads, freed memory {kept} by the allocator; ops: {backend.status('cpu')}"


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
