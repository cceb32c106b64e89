"""Whether what a GPU computes repeats to the bit, and where it may round to TF32."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

# CUBLAS_WORKSPACE_CONFIG under which cuBLAS repeats: eight buffers of 4 MiB, as on newer GPUs anyway
WORKSPACE = ":4096:8"


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
