"""The command doctor: what a newcomer would otherwise find out by failing, each finding with its remedy."""

import importlib.metadata
import importlib.util
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import click
from packaging.requirements import Requirement

from gan.cli.command import Command
from gan.cli.options import json_option
from gan.errors import BoundError
from gan.runtime import plugins
from gan.runtime.console import result, table
from gan.runtime.files import cache_folder
from gan.runtime.parallel import lack_of_processes

OK, NOTE, FAILED = "ok", "note", "FAILED"
SHARED_MEMORY = 32  # MiB in /dev/shm that a server of some models takes
GPU_PROVIDERS = {"CUDA", "Tensorrt", "NvTensorRTRTX", "ROCM", "MIGraphX"}  # of ONNX Runtime
INSTALL = "make install, or: pip install -c constraints.txt -e ."


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `remedy` is empty where nothing needs doing."""

    status: str  # OK, NOTE (works without it) or FAILED
    name: str
    found: str
    remedy: str = ""


@click.command(cls=Command)
@json_option
def doctor(as_json: bool) -> None:
    """Say whether this machine is ready: versions, GPU, compilers, op implementations, weights, server, disk.

    Ends with exit code 3 when something that Salon needs is missing.

    \b
    salon doctor
    salon doctor --json
    """
    findings = examine()
    rows = [(f.status, f.name, f.found) for f in findings]
    remedies = [f"{f.name}: {f.remedy}" for f in findings if f.remedy]
    text = table(rows) + ("\n\nRemedies\n" + "\n".join(remedies) if remedies else "")
    result(text, {"findings": [vars(f) for f in findings]}, as_json)
    if failed := [f.name for f in findings if f.status == FAILED]:
        raise BoundError(f"not ready: {', '.join(failed)}")


def examine() -> list[Finding]:
    """Look at everything that Salon depends on."""
    of_torch = _torch()
    return [
        _python(),
        of_torch,
        *_packages(),
        *(
            Finding(OK, name, f"adds {', '.join(f'the {own}' for own in offered)}")
            for name, offered in plugins.packages().items()
        ),
        _onnx_runtime(of_torch.status == OK and _torch_has_gpu()),
        *([*_gpu(), _cpu(), *_ops()] if of_torch.status == OK else []),
        _workers(),
        _shared_memory(),
        _program("C++ compiler", ["c++", "--version"], "Only native ops need it: apt install g++"),
        _program("CUDA compiler", ["nvcc", "--version"], "Nothing needs it but SALON_GPU_OPS=cuda, a comparison"),
        _weights(),
        _program(
            "Triton server", ["tritonserver", "--version"], "Only production needs it: salon serve installs its own"
        ),
        _disk(),
    ]


def _python() -> Finding:
    found = platform.python_version()
    if sys.version_info < (3, 11):  # noqa: UP036  # reached when run from a checkout
        return Finding(FAILED, "Python", found, "Salon needs Python 3.11 or newer: make a new .venv with one")
    return Finding(OK, "Python", found)


def _torch() -> Finding:
    try:
        import torch
    except (ImportError, OSError) as error:
        return Finding(FAILED, "torch", f"cannot be imported: {error}", INSTALL)
    return Finding(OK, "torch", f"{torch.__version__}, CUDA {torch.version.cuda or 'none (a CPU build)'}")


def _torch_has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _packages() -> list[Finding]:
    try:
        requirements = [Requirement(line) for line in importlib.metadata.requires("salon") or []]
    except importlib.metadata.PackageNotFoundError:
        return [Finding(FAILED, "salon", "not installed", INSTALL)]
    findings = []
    for requirement in requirements:
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):  # it belongs to an extra
            continue
        name, minimum = requirement.name, str(requirement.specifier).removeprefix(">=")
        try:
            version = importlib.metadata.version(name)
            if not requirement.specifier.contains(version, prereleases=True):
                findings.append(Finding(FAILED, name, f"{version}, but {minimum} or newer is needed", INSTALL))
            elif name != "torch":
                findings.append(Finding(OK, name, version))
        except importlib.metadata.PackageNotFoundError:
            findings.append(Finding(FAILED, name, "missing", INSTALL))
    found = importlib.util.find_spec("tensorboard")
    remedy = "" if found else "Curves in a browser: pip install 'salon[tensorboard]'"
    return [*findings, Finding(OK if found else NOTE, "tensorboard", "installed" if found else "missing", remedy)]


def _onnx_runtime(gpu: bool) -> Finding:
    installed = []
    for name in ("onnxruntime", "onnxruntime-gpu"):
        try:
            installed.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    if len(installed) == 2:
        remedy = "Both share one import name. pip uninstall onnxruntime onnxruntime-gpu, then install one of them"
        return Finding(FAILED, "ONNX Runtime", " and ".join(installed), remedy)
    if installed:
        return _onnx_providers(installed[0], gpu)
    return Finding(
        NOTE, "ONNX Runtime", "missing", "Only serving needs it: pip install 'salon[onnx-cpu]' or '[onnx-gpu]'"
    )


def _onnx_providers(installed: str, gpu: bool) -> Finding:
    try:
        import onnxruntime
    except (ImportError, OSError) as error:
        return Finding(FAILED, "ONNX Runtime", f"{installed} cannot be imported: {error}", "Install it again")
    names = [name.removesuffix("ExecutionProvider") for name in onnxruntime.get_available_providers()]
    found = f"{installed}, providers: {', '.join(names)}"
    if gpu and not GPU_PROVIDERS & set(names):
        remedy = "It leaves the GPU idle: pip uninstall onnxruntime, then pip install 'salon[onnx-gpu]'"
        return Finding(NOTE, "ONNX Runtime", found, remedy)
    return Finding(OK, "ONNX Runtime", found)


def _gpu() -> list[Finding]:
    import torch

    if torch.cuda.is_available():
        findings = []
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            capability = f"sm_{properties.major}{properties.minor}"
            fits = capability in torch.cuda.get_arch_list() or any(
                arch.startswith(f"sm_{properties.major}") for arch in torch.cuda.get_arch_list()
            )
            remedy = "" if fits else f"this torch was not built for {capability}: install a build that lists it"
            found = f"{properties.name}, {properties.total_memory / 1e9:.0f} GB, {capability}"
            findings.append(Finding(OK if fits else FAILED, f"GPU {index}", found, remedy))
        return findings
    if shutil.which("nvidia-smi"):
        driver = _output(["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"])
        if driver:
            remedy = "torch cannot use it: install a CUDA build of torch that fits the driver (see pytorch.org)"
            return [Finding(FAILED, "GPU", f"{driver.splitlines()[0]}, unused", remedy)]
    return [Finding(NOTE, "GPU", "none", "Training at 256 pixels and above wants one; the tiny preset does without")]


def _cpu() -> Finding:
    import torch

    from gan.device.memory import keep_freed_memory
    from gan.device.selection import cores

    kept = "kept" if keep_freed_memory() else "returned (no glibc)"
    level = torch.backends.cpu.get_cpu_capability()
    return Finding(OK, "CPU", f"{cores()} cores, {level}, torch uses {torch.get_num_threads()}; freed memory is {kept}")


def _workers() -> Finding:
    if reason := lack_of_processes():
        remedy = "Images are decoded without them, slower: let /dev/shm be writable (docker run --shm-size 1g)"
        return Finding(NOTE, "worker processes", reason, remedy)
    return Finding(OK, "worker processes", "can be started")


def _shared_memory() -> Finding:
    try:
        free = shutil.disk_usage("/dev/shm").free >> 20
    except OSError as error:
        return Finding(NOTE, "shared memory", f"no /dev/shm: {error.strerror}", "salon serve needs it")
    if free < SHARED_MEMORY:
        remedy = "salon serve needs more: mount -o remount,size=1G /dev/shm; in a container docker run --shm-size 1g"
        return Finding(NOTE, "shared memory", f"{free} MiB free in /dev/shm", remedy)
    return Finding(OK, "shared memory", f"{free} MiB free in /dev/shm")


def _ops() -> list[Finding]:
    import torch

    from gan.ops import backend

    remedies = {"cpu": "Training on a CPU is slower without it: apt install g++"}
    if torch.cuda.is_available():
        remedies["cuda"] = (
            "Training on a GPU is slower so: Triton comes with torch's CUDA wheels and needs a C compiler"
        )
    findings = []
    for kind, remedy in remedies.items():
        here = backend.fast(kind)
        findings.append(Finding(OK if here else NOTE, f"gan.ops, {kind}", backend.status(kind), "" if here else remedy))
    return findings


def _weights() -> Finding:
    folder = cache_folder()
    files = [file for file in (folder / "weights").glob("*") if file.is_file()]
    if files:
        return Finding(OK, "weights", f"{len(files)} files in {folder / 'weights'}")
    return Finding(
        NOTE, "weights", f"none in {folder / 'weights'}", "Only evaluation will need them; training does not"
    )


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    found = f"{free:.1f} GB free in {Path.cwd()}"
    if free < 1:
        return Finding(FAILED, "disk", found, "A run needs about 1 GB: make room, or choose another folder")
    return Finding(OK, "disk", found)


def _program(name: str, command: list[str], remedy: str) -> Finding:
    lines = [line for line in _output(command).splitlines() if line.strip()]
    if not lines:
        return Finding(NOTE, name, "missing", remedy)
    version = next((line for line in lines if "release" in line), lines[0])
    return Finding(OK, name, version.strip())


def _output(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
