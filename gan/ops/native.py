"""Build and load the native code of this package: C++ for the CPU, CUDA for GPUs.

The code has a plain C interface and knows nothing of torch, so no version of torch can break it. It is compiled at
first use for this machine's processor or GPU by ninja, and cached under a key of the source, the compiler and the
target. Where that does not work, the reason is kept for the log, and the operators use torch alone.
"""

import ctypes
import hashlib
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
from functools import cache
from pathlib import Path

import torch

from gan.errors import SalonError
from gan.runtime.files import atomic, cache_folder
from gan.runtime.lock import lock

HERE = Path(__file__).parent
HEADER = HERE / "bfloat16.h"
CPU_SOURCES = [HERE / name for name in ("winograd.cpp", "bias_act.cpp", "upfirdn2d.cpp")]
CUDA_SOURCES = [HERE / "cuda.cu"]
# Not -ffast-math: linking with it would change how the whole process rounds tiny numbers.
FAST_MATH = ("-fassociative-math", "-fno-signed-zeros", "-fno-trapping-math", "-fno-math-errno", "-ffp-contract=fast")
CPU_FLAGS = ("-O3", "-march=native", *FAST_MATH, "-std=c++17", "-fopenmp", "-fPIC")
CUDA_FLAGS = ("-O3", "-std=c++17", "-Xcompiler", "-fPIC")
SWITCH = "SALON_NATIVE"  # set to 0 to do without
LIBRARY = "ops.so"  # in the folder of a build


def library(kind: str = "cpu") -> ctypes.CDLL | None:
    """The native library for "cpu" or "cuda", or None where it cannot be had; status() says why."""
    return _load(kind)[0]


def status(kind: str = "cpu") -> str:
    """One line for logs: which form of the operators is in use, and why."""
    return _load(kind)[1]


def call(name: str, *arguments: torch.Tensor | int | float | None) -> None:
    """Call a function of the library for the tensors' device: tensors as pointers, whole numbers as long.

    The number of threads, or for CUDA the current stream, comes last. Raises SalonError when CUDA refuses.
    """
    device = next(argument.device for argument in arguments if isinstance(argument, torch.Tensor))
    function = getattr(library(device.type), name)
    converted = [_converted(argument) for argument in arguments]
    if device.type == "cpu":
        function(*converted, ctypes.c_int(torch.get_num_threads()))
        return
    with torch.cuda.device(device):
        if error := function(*converted, ctypes.c_void_p(torch.cuda.current_stream(device).cuda_stream)):
            raise SalonError(f"{name} failed with CUDA's error {error}; {SWITCH}=0 does without native code")


def build(compiler: str, flags: tuple[str, ...], sources: list[Path], target: str) -> Path:
    """Compile to a library in the cache, once for each compiler, source and target -> its path.

    Objects lie beside it in a folder for the compiler, the flags and the target, each under a hash of what it was made
    from, so that only changed sources are compiled, and several at a time. The folder has the log, build.log.
    Raises OSError, CalledProcessError or SalonError, which names the compiler's first error and the log.
    """
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, timeout=60, check=True).stdout
    key = _hash(*flags, version, platform.machine(), target)
    objects = {f"{source.stem}-{_hash(source.read_text(), HEADER.read_text())}.o": source for source in sources}
    folder = cache_folder() / "native"
    path = folder / f"ops-{_hash(key, *objects)}.so"
    if not path.exists():
        (folder / key).mkdir(parents=True, exist_ok=True)
        with lock(folder / key / ".lock"):  # whoever waited finds all done, and ninja nothing to do
            _run_ninja(folder / key, compiler, flags, objects)
            with atomic(path) as temporary:
                shutil.copyfile(folder / key / LIBRARY, temporary)
    return path


def _run_ninja(folder: Path, compiler: str, flags: tuple[str, ...], objects: dict[str, Path]) -> None:
    # An object's name has the hash of its source, which therefore is no input: its time means nothing.
    command = _quoted(compiler, *flags)
    lines = [
        *("rule compile", f"  command = {command} -c $source -o $out"),
        *("rule link", f"  command = {command} -shared $in -o $out"),
        *(f"build {name}: compile\n  source = {_quoted(str(source))}" for name, source in objects.items()),
        f"build {LIBRARY}: link {' '.join(objects)}",
    ]
    (folder / "build.ninja").write_text("\n".join([*lines, ""]))
    done = subprocess.run([_ninja(), "-v"], cwd=folder, capture_output=True, text=True, timeout=600)
    (folder / "build.log").write_text(done.stdout + done.stderr)
    if done.returncode:
        said = [line for line in (done.stdout + done.stderr).splitlines() if "error" in line.lower()]
        reason = said[0] if said else f"ninja ended with {done.returncode}"
        raise SalonError(f"{reason.strip()}; all of it in {folder / 'build.log'}")


def _ninja() -> str:
    # The package's own program, whose version is known; else the system's.
    if importlib.util.find_spec("ninja"):
        import ninja

        return str(Path(ninja.BIN_DIR) / "ninja")
    if program := shutil.which("ninja"):
        return program
    raise SalonError("no ninja: pip install ninja")


def _quoted(*words: str) -> str:
    return shlex.join(words).replace("$", "$$")  # for the shell, and then for ninja


def _hash(*texts: str) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:12]


@cache
def _load(kind: str) -> tuple[ctypes.CDLL | None, str]:
    if os.environ.get(SWITCH) == "0":
        return None, f"torch alone ({SWITCH}=0)"
    if kind == "cpu":
        compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
        remedy = "no C++ compiler: install g++ for faster CPU training"
    else:
        compiler, remedy = shutil.which("nvcc"), "no nvcc: install the CUDA toolkit for faster GPU training"
    if not compiler:
        return None, f"torch alone ({remedy})"
    try:
        if kind == "cpu":
            path = build(compiler, CPU_FLAGS, CPU_SOURCES, _processor())
            return ctypes.CDLL(str(path)), f"native on the CPU ({path.name}), torch elsewhere"
        target = "sm_{}{}".format(*torch.cuda.get_device_capability())
        path = build(compiler, (*CUDA_FLAGS, f"-arch={target}"), CUDA_SOURCES, target)
        found = ctypes.CDLL(str(path))
        _try_out(found)
        return found, f"native for {target} ({path.name})"
    except (OSError, RuntimeError, SalonError, subprocess.SubprocessError) as error:
        reason = str(getattr(error, "stderr", "") or error).strip().splitlines()
        return None, f"torch alone (the native code could not be built: {reason[0] if reason else error})"


def _try_out(found: ctypes.CDLL) -> None:
    # A driver older than the compiler, or another's GPU, shows only when something runs.
    x, b = torch.linspace(-1, 1, 64, device="cuda").reshape(1, 2, 4, 8), torch.tensor([0.5, -0.5], device="cuda")
    x = x.contiguous(memory_format=torch.channels_last)
    y = torch.empty_like(x)
    arguments = [_converted(argument) for argument in (x, None, None, 0, b, y, 1, 32, 2, 0.2, 1.0)]
    error = found.salon_bias_act_float32(*arguments, ctypes.c_void_p(torch.cuda.current_stream().cuda_stream))
    expected = torch.nn.functional.leaky_relu(x + b[:, None, None], 0.2)
    if error or not torch.allclose(y, expected, atol=1e-6):
        raise SalonError(f"it was built and does not run on this GPU (CUDA's error {error})")


def _converted(argument: torch.Tensor | int | float | None) -> object:
    if isinstance(argument, torch.Tensor):
        return ctypes.c_void_p(argument.data_ptr())
    if argument is None:
        return ctypes.c_void_p(None)
    return ctypes.c_float(argument) if isinstance(argument, float) else ctypes.c_long(argument)


def _processor() -> str:
    # The instruction sets that -march=native would use.
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")
