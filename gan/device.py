"""Where the work runs, and how the process is set up for it."""

import ctypes
import os
import platform
import re
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from gan.errors import RequestError
from gan.ops import backend

# glibc's mallopt parameters (malloc.h)
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
WORKSPACE = (
    ":4096:8"  # CUBLAS_WORKSPACE_CONFIG under which cuBLAS repeats: eight buffers of 4 MiB, as on newer GPUs anyway
)


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


def set_tf32() -> None:
    """Let GPUs round the factors of float32 convolutions to TensorFloat-32, and of matrix products not.

    These are torch's defaults, set here so that no later version or other code decides: convolutions are nearly all of
    the arithmetic, and an image differs by 5e-4 from full float32.
    """
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cuda.matmul.allow_tf32 = False


def tf32_in_use() -> dict[str, bool]:
    """Whether float32 convolutions and matrix products of a GPU are rounded to TensorFloat-32, for the provenance."""
    return {"convolutions": torch.backends.cudnn.allow_tf32, "matmul": torch.backends.cuda.matmul.allow_tf32}


def describe_tf32() -> str:
    """Which operations tf32_in_use() names, in words."""
    return ", ".join(name for name, allowed in tf32_in_use().items() if allowed) or "none"


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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


def peak_memory(device: torch.device) -> float:
    """Most memory used so far, in GB: the GPU's for CUDA, else the process's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


@contextmanager
def deterministic(*, strict: bool = False) -> Iterator[None]:
    """Whatever is computed within gives the same bits in every run on the same kind of GPU, with the same versions.

    No algorithm is chosen by the time that it took just now, and no sum is taken in the order in which threads arrive.
    An operation of torch's that has no such form raises RuntimeError where `strict`, and only warns otherwise. The
    setting is the whole process's while any thread is within, and strict while any of them is. A CPU computes the same
    with and without it.
    """
    with _lock:
        if not _within:
            _before.append(_settings())
        _within.append(strict)
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", WORKSPACE)
        _follow()
    try:
        yield
    finally:
        with _lock:
            _within.remove(strict)
            _follow()


_lock = threading.Lock()
_within: list[bool] = []  # of each that is within deterministic(): whether it is strict
_before: list[tuple[bool, bool, bool, bool, bool]] = []  # the settings before the first of them


def _settings() -> tuple[bool, bool, bool, bool, bool]:
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.backends.cudnn.deterministic,
        torch.backends.cudnn.benchmark,
        torch.utils.deterministic.fill_uninitialized_memory,  # type: ignore[attr-defined]
    )


def _follow() -> None:
    if not _within:
        _set(*_before.pop())
        return
    enabled, warn_only = _before[0][:2]
    strict = any(_within) or (enabled and not warn_only)
    # Nothing reads what was not written: to fill it with NaN first, as torch would, only costs time.
    _set(True, not strict, True, False, False)


def _set(enabled: bool, warn_only: bool, deterministic: bool, benchmark: bool, fill: bool) -> None:
    # Not use_deterministic_algorithms, which imports the compiler: two seconds.
    torch.set_deterministic_debug_mode(("default", "warn", "error")[enabled + (enabled and not warn_only)])
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = deterministic, benchmark
    torch.utils.deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Convolutions and products of float32 within may round their factors to TF32 (10 bits) on a GPU, or must not.

    The setting is the whole process's: one thread at a time may be within.
    """
    cudnn, cublas = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, cublas.allow_tf32
    cudnn.allow_tf32 = cublas.allow_tf32 = allowed
    try:
        yield
    finally:
        cudnn.allow_tf32, cublas.allow_tf32 = before


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
