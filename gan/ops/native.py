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

from gan.errors import SalonError
from gan.files import atomic, cache_folder

SOURCE = Path(__file__).with_name("native.cpp")
FLAGS = ("-O3", "-march=native", "-ffast-math", "-std=c++17", "-fopenmp", "-shared", "-fPIC")
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
        return ctypes.CDLL(str(path)), f"native for float32 on the CPU ({path.name}), torch elsewhere"
    except (OSError, SalonError, subprocess.SubprocessError) as error:
        reason = str(getattr(error, "stderr", "") or error).strip().splitlines()
        return None, f"torch alone (the native code could not be built: {reason[0] if reason else error})"


def _build(compiler: str) -> Path:
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, timeout=60, check=True).stdout
    key = "\n".join([SOURCE.read_text(), *FLAGS, version, platform.machine(), _processor()])
    path = cache_folder() / "native" / f"ops-{hashlib.sha256(key.encode()).hexdigest()[:12]}.so"
    if not path.exists():
        with atomic(path) as temporary:
            command = [compiler, *FLAGS, str(SOURCE), "-o", str(temporary)]
            subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
    return path


def _processor() -> str:
    # The instruction sets that -march=native would use.
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")
