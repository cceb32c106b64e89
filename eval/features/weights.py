"""Where the weights of pretrained networks lie, and how they are read: nothing in a file is executed.

A file is looked for at the path that the user gives, then in `$SALON_CACHE/weights`. It is fetched only on request.
"""

import shutil
import struct
import urllib.error
import urllib.request
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from gan.errors import RequestError, SalonError
from gan.runtime.console import say
from gan.runtime.file_kinds import why_unreadable
from gan.runtime.files import atomic, cache_folder, sha256

State = dict[str, torch.Tensor]
_NO_PICKLE = (LookupError, AttributeError, TypeError, AssertionError, struct.error)  # what any other file ends in


@dataclass(frozen=True, kw_only=True)
class WeightsFile:
    """A published file of weights: its name, its address, and what its SHA-256 begins with where that is known."""

    name: str
    url: str
    sha256: str = ""


def folder() -> Path:
    """Where files of weights are looked for."""
    return cache_folder() / "weights"


def find(network: str, file: WeightsFile, given: Path | None, *, fetch: bool = False) -> Path:
    """The file with a network's weights: `given`, or the one in folder(), fetched into it where `fetch` allows that.

    Raises RequestError that says which file to put where, when there is none.
    """
    if given is not None:
        if not given.is_file():
            raise RequestError(f"`weights` of {network} must be an existing file; got {given} instead")
        return given
    path = folder() / file.name
    if not path.is_file():
        if not fetch:
            raise RequestError(
                f"{network} needs its weights: put {file.name} ({file.url}) into {folder()}, or name it with `weights`"
            )
        _fetch(file, path)
    return path


def read(path: Path, file: WeightsFile, digest: str) -> State:
    """The state dict in a file: safetensors, or torch's format with tensors alone.

    `digest` is the file's SHA-256. A TorchScript archive, which is a program, is opened only where its digest is the
    published one. Raises RequestError for anything else.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        if _is_torchscript(path):
            if not (len(file.sha256) == 64 and digest == file.sha256):
                raise RequestError(f"{path} is a program (TorchScript) and not the published {file.name}: not opened")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                return dict(torch.jit.load(str(path), map_location="cpu").state_dict())  # type: ignore[no-untyped-call]
        state = torch.load(path, map_location="cpu", weights_only=True)
    except RequestError:  # which is a ValueError too
        raise
    except (OSError, EOFError, ValueError, RuntimeError, UnpicklingError, SafetensorError, *_NO_PICKLE) as error:
        reason = why_unreadable(path, error)
        raise RequestError(f"{path} must hold tensors and nothing else; it is refused: {reason}") from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise RequestError(f"{path} must hold one dict of named tensors; got {type(state).__name__} instead")
    return dict(state)


def fill(module: torch.nn.Module, state: State, path: Path, network: str) -> None:
    """Put a state dict into a module. Raises RequestError when it is another network's."""
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise foreign(path, network, error) from error


def foreign(path: Path, network: str, error: Exception) -> RequestError:
    """The error to raise where a file holds another network's weights: the first thing that does not fit."""
    lines = str(error).splitlines() or [type(error).__name__]
    return RequestError(f"{path} must hold the weights of {network}; {lines[min(1, len(lines) - 1)].strip()[:200]}")


def _is_torchscript(path: Path) -> bool:
    # Such an archive has its code beside the tensors.
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _fetch(file: WeightsFile, path: Path) -> None:
    say(f"Fetching {file.url}")
    with atomic(path) as temporary:
        try:
            with urllib.request.urlopen(file.url, timeout=60) as source, open(temporary, "wb") as target:
                shutil.copyfileobj(source, target)
        except (urllib.error.URLError, TimeoutError) as error:
            raise SalonError(f"{file.url} could not be fetched: {error}. Put the file into {folder()}") from error
        if not sha256(temporary).startswith(file.sha256):
            raise SalonError(f"{file.url} must have a SHA-256 that begins with {file.sha256}; it does not")
