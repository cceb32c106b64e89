"""What a newcomer would otherwise find out by failing, each finding with its remedy."""

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement

from gan.runtime import plugins
from gan.runtime.files import cache_folder
from gan.runtime.parallel import lack_of_processes

OK, NOTE, FAILED = "ok", "note", "FAILED"
SHARED_MEMORY = 32  # MiB in /dev/shm that a server of some models takes
GPU_PROVIDERS = {"CUDA", "Tensorrt", "NvTensorRTRTX", "ROCM", "MIGraphX"}  # of ONNX Runtime
INSTALL = "make install, or: pip install -c constraints.txt -e ."
EXTRAS = {  # that a user may want -> what for
    "tensorboard": "curves of a training in a browser",
    "serve": "serving with Triton",
    "query": "asking a served generator, and the gallery",
    "openvino": "a faster style classifier on Intel's CPUs",
    "map": "maps of datasets",
    "faiss": "neighbours among more than 100,000 images",
    "s3": "images in S3",
    "gs": "images in Google Cloud Storage",
    "http": "images by their web addresses",
    "ray": "preparing and scoring on many machines",
    "c2pa": "signed Content Credentials",
    "hub": "sharing generators and datasets by a hub",
}
Command = tuple[str, ...]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `remedy` is empty where nothing needs doing, `commands` where a person must act."""

    status: str  # OK, NOTE (works without it) or FAILED
    name: str
    found: str
    remedy: str = ""
    commands: tuple[Command, ...] = ()  # that carry the remedy out, each a program with its arguments


def examine() -> list[Finding]:
    """Look at everything that Salon depends on."""
    of_torch = _torch()
    return [
        _python(),
        of_torch,
        *_packages(),
        *_plugins(),
        _onnx_runtime(of_torch.status == OK and _torch_has_gpu()),
        *([*_gpu(), _cpu(), *_ops()] if of_torch.status == OK else []),
        _workers(),
        _shared_memory(),
        _program("C++ compiler", ["c++", "--version"], "Only native ops need it: apt install g++", _apt_install("g++")),
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


def _plugins() -> list[Finding]:
    return [
        Finding(OK, package, f"adds {', '.join(f'the {own}' for own in offered)}")
        for package, offered in plugins.packages().items()
    ]


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
                found = f"{version}, but {minimum} or newer is needed"
                findings.append(Finding(FAILED, name, found, INSTALL, pip_install(f"{name}{requirement.specifier}")))
            elif name != "torch":
                findings.append(Finding(OK, name, version))
        except importlib.metadata.PackageNotFoundError:
            command = pip_install(f"{name}{requirement.specifier}")
            findings.append(Finding(FAILED, name, "missing", INSTALL, command))
    return [*findings, *(_extra(name, purpose, requirements) for name, purpose in EXTRAS.items())]


def _extra(name: str, purpose: str, requirements: list[Requirement]) -> Finding:
    missing = []
    for requirement in requirements:
        marker = requirement.marker
        if marker and marker.evaluate({"extra": name}) and not marker.evaluate({"extra": ""}):
            try:
                importlib.metadata.version(requirement.name)
            except importlib.metadata.PackageNotFoundError:
                extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
                missing.append(f"{requirement.name}{extras}{requirement.specifier}")
    if not missing:
        return Finding(OK, f"extra {name}", f"installed: {purpose}")
    remedy = f"Only {purpose}: pip install 'salon[{name}]'"
    return Finding(NOTE, f"extra {name}", f"missing: {', '.join(missing)}", remedy, pip_install(*missing))


def pip_install(*requirements: str) -> tuple[Command, ...]:
    """The command that installs requirements into this environment; by the versions of a checkout's constraints.txt,
    where Salon is installed from one.
    """
    constraints = _checkout() / "constraints.txt"
    pinned = ("-c", str(constraints)) if constraints.is_file() else ()
    return ((sys.executable, "-m", "pip", "install", *pinned, *requirements),)


def _checkout() -> Path:
    # Where an editable install is of; else a folder without constraints.txt.
    try:
        direct = importlib.metadata.distribution("salon").read_text("direct_url.json")
    except importlib.metadata.PackageNotFoundError:
        direct = None
    address = json.loads(direct)["url"] if direct else ""
    return Path(address.removeprefix("file://")) if address.startswith("file://") else Path(os.devnull)


def _apt_install(package: str) -> tuple[Command, ...]:
    # Where the system has apt, and this user may use it.
    sudo = () if os.geteuid() == 0 else ("sudo",)
    there = all(shutil.which(program) for program in (*sudo, "apt-get"))
    return ((*sudo, "apt-get", "install", "-y", package),) if there else ()


def _onnx_runtime(gpu: bool) -> Finding:
    installed = []
    for name in ("onnxruntime", "onnxruntime-gpu"):
        try:
            installed.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    if len(installed) == 2:
        remedy = "Both share one import name. pip uninstall onnxruntime onnxruntime-gpu, then install one of them"
        one = "onnxruntime-gpu" if gpu else "onnxruntime"
        uninstall = (sys.executable, "-m", "pip", "uninstall", "-y", "onnxruntime", "onnxruntime-gpu")
        return Finding(FAILED, "ONNX Runtime", " and ".join(installed), remedy, (uninstall, *pip_install(one)))
    if installed:
        return _onnx_providers(installed[0], gpu)
    remedy = "Only serving needs it: pip install 'salon[onnx-cpu]' or '[onnx-gpu]'"
    return Finding(
        NOTE, "ONNX Runtime", "missing", remedy, pip_install("onnx", "onnxruntime-gpu" if gpu else "onnxruntime")
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
        uninstall = (sys.executable, "-m", "pip", "uninstall", "-y", "onnxruntime")
        return Finding(NOTE, "ONNX Runtime", found, remedy, (uninstall, *pip_install("onnxruntime-gpu")))
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


def _program(name: str, command: list[str], remedy: str, commands: tuple[Command, ...] = ()) -> Finding:
    lines = [line for line in _output(command).splitlines() if line.strip()]
    if not lines:
        return Finding(NOTE, name, "missing", remedy, commands)
    version = next((line for line in lines if "release" in line), lines[0])
    return Finding(OK, name, version.strip())


def _output(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
