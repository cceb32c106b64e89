"""Build and load the native code of this package.

The code has a plain C interface and knows nothing of torch, so no version of torch can break it. It is compiled at
first use for this machine's processor, and cached under a key of the source, the compiler and the processor. Where
that does not work, the reason is kept for the log, and the operators use torch alone.
"""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
from functools import cache
from pathlib import Path

import torch

from gan.errors import SalonError
from gan.files import atomic, cache_folder

HERE = Path(__file__).parent
SOURCES = [HERE / name for name in ("winograd.cpp", "bias_act.cpp", "upfirdn2d.cpp")]
HEADER = HERE / "numbers.h"
# Not -ffast-math: linking with it would change how the whole process rounds tiny numbers.
FAST_MATH = ("-fassociative-math", "-fno-signed-zeros", "-fno-trapping-math", "-fno-math-errno", "-ffp-contract=fast")
FLAGS = ("-O3", "-march=native", *FAST_MATH, "-std=c++17", "-fopenmp", "-shared", "-fPIC")
SWITCH = "SALON_NATIVE"  # set to 0 to do without


def library() -> ctypes.CDLL | None:
    """The native library, or None where it cannot be had; status() says why."""
    return _load()[0]


def status() -> str:
    """One line for logs: which form of the operators is in use, and why."""
    return _load()[1]


@cache
def _load() -> tuple[ctypes.CDLL | None, str]:
    if os.environ.get(SWITCH) == "0":
        return None, f"torch alone ({SWITCH}=0)"
    compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if not compiler:
        return None, "torch alone (no C++ compiler: install g++ for faster CPU training)"
    try:
        path = _build(compiler)
        return ctypes.CDLL(str(path)), f"native on the CPU ({path.name}), torch elsewhere"
    except (OSError, SalonError, subprocess.SubprocessError) as error:
        reason = str(getattr(error, "stderr", "") or error).strip().splitlines()
        return None, f"torch alone (the native code could not be built: {reason[0] if reason else error})"


def call(name: str, *arguments: torch.Tensor | int | float | None) -> None:
    """Call a function of the library: tensors as pointers, whole numbers as long; the number of threads comes last."""
    found = library()
    assert found is not None
    converted = [_converted(argument) for argument in arguments]
    getattr(found, name)(*converted, ctypes.c_int(torch.get_num_threads()))


def _converted(argument: torch.Tensor | int | float | None) -> object:
    if isinstance(argument, torch.Tensor):
        return ctypes.c_void_p(argument.data_ptr())
    if argument is None:
        return ctypes.c_void_p(None)
    return ctypes.c_float(argument) if isinstance(argument, float) else ctypes.c_long(argument)


def _build(compiler: str) -> Path:
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, timeout=60, check=True).stdout
    key = "\n".join(
        [*(file.read_text() for file in (*SOURCES, HEADER)), *FLAGS, version, platform.machine(), _processor()]
    )
    path = cache_folder() / "native" / f"ops-{hashlib.sha256(key.encode()).hexdigest()[:12]}.so"
    if not path.exists():
        with atomic(path) as temporary:
            command = [compiler, *FLAGS, *map(str, SOURCES), "-o", str(temporary)]
            subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
    return path


def _processor() -> str:
    # The instruction sets that -march=native would use.
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")
