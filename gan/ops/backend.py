"""Which kernels compute an operator: Triton's on a GPU, the C++ library's on a CPU, else operations of torch's own.

Triton comes with torch's CUDA wheels and compiles at first use. The environment variable SALON_GPU_OPS chooses others:
"cuda" for cuda.cu, which nvcc compiles, and "torch" for neither. cuda.cu is there only to be compared with, until
figures of a GPU have decided. SALON_NATIVE=0 leaves everything to torch, on CPU and GPU.
"""

import os
from functools import cache
from types import ModuleType

import torch

from gan.errors import SalonError
from gan.ops import native, native_kernels

SWITCH = "SALON_GPU_OPS"
CHOICES = ("triton", "cuda", "torch")
DTYPES = (torch.float32, torch.bfloat16, torch.float16)  # that Triton's kernels are for


def kernels(x: torch.Tensor, *others: torch.Tensor | None) -> ModuleType | None:
    """The module of kernels that serves an image [N, C, H, W], with others in float32; None: torch alone.

    Raises SalonError when SALON_GPU_OPS has no such value.
    """
    if x.numel() and all(other is None or other.dtype == torch.float32 for other in others):
        return _serves(x)
    return None


def _serves(x: torch.Tensor) -> ModuleType | None:
    kind = x.device.type
    if kind == "cuda" and choice() == "triton":
        module, dtypes, _ = _triton()
        return module if x.dtype in dtypes else None
    served = kind in ("cpu", "cuda") and x.dtype in native_kernels.NAMES
    return native_kernels if served and library(kind) else None


def library(kind: str) -> bool:
    """Whether the compiled library of native.py serves "cpu" or "cuda"."""
    if kind == "cuda" and choice() != "cuda":
        return False
    return native.library(kind) is not None


def choice() -> str:
    """The value of SALON_GPU_OPS."""
    value = os.environ.get(SWITCH, CHOICES[0])
    if value not in CHOICES:
        raise SalonError(f"{SWITCH} must be one of {', '.join(CHOICES)}; got {value!r} instead")
    return value


def fast(kind: str) -> bool:
    """Whether kernels of any sort serve "cpu" or "cuda"; status() names them."""
    return library(kind) or (kind == "cuda" and _triton()[0] is not None)


def status(kind: str) -> str:
    """One line for logs: which kernels serve "cpu" or "cuda", and where it is torch alone, why."""
    if kind == "cpu" or choice() == "cuda":
        return native.status(kind)
    return _triton()[2]


@cache
def _triton() -> tuple[ModuleType | None, tuple[torch.dtype, ...], str]:
    # The kernels, the dtypes that they work with here, and the line for logs.
    if choice() != "triton":
        return None, (), f"torch alone ({SWITCH}={choice()})"
    if os.environ.get(native.SWITCH) == "0":
        return None, (), f"torch alone ({native.SWITCH}=0)"
    try:
        import triton

        from gan.ops import triton_kernels as found
    except ImportError as error:
        return None, (), f"torch alone (no Triton: {error})"
    reason = ""
    dtypes = []
    for dtype in DTYPES:
        try:
            _try_out(found, dtype)
            dtypes.append(dtype)
        except Exception as error:  # Triton's compiler, a missing C compiler and drivers each raise their own
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
    if not dtypes:
        return None, (), f"torch alone (Triton {triton.__version__} does not work here: {reason})"
    names = ", ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
    return found, tuple(dtypes), f"Triton {triton.__version__} ({names})"


def _try_out(module: ModuleType, dtype: torch.dtype) -> None:
    x = torch.linspace(-1, 1, 64, device="cuda").reshape(1, 2, 4, 8).to(dtype)
    b = torch.tensor([0.5, -0.5], device="cuda")
    y = module.pointwise(x, None, None, None, b, 0.2, 1.0)
    expected = torch.nn.functional.leaky_relu(x.float() + b[:, None, None], 0.2)
    if not torch.allclose(y.float(), expected, atol=1e-2):
        raise SalonError("its results are wrong")
