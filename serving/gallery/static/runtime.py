"""ONNX Runtime for browsers, as the npm package onnxruntime-web has it: what runs a generator in a page.

It is downloaded once, by npm where that is installed, which knows the user's registry, and else from npm's own. The
archive has to have the SHA-512 below; nothing in it is executed here.
"""

import base64
import gzip
import hashlib
import json
import shutil
import subprocess
import tarfile
import tempfile
import urllib.request
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from gan.errors import RequestError, SalonError
from gan.runtime.console import say
from gan.runtime.files import atomic, cache_folder, remove_stale_partials
from gan.runtime.lock import lock

PACKAGE = "onnxruntime-web"
VERSION = "1.30.0"
SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="  # as npm writes it
ADDRESS = f"https://registry.npmjs.org/{PACKAGE}/-/{PACKAGE}-{VERSION}.tgz"
SCRIPT = "ort.wasm.bundle.min.mjs"
BINARY = "ort-wasm-simd-threaded.wasm"  # the page runs it in one thread, which needs no headers of the host's
FILES = (SCRIPT, f"{BINARY}.gz")  # compressed, a quarter of its size: many hosts send it as it is
LICENSES = ("LICENSE", "ThirdPartyNotices.txt")  # of ONNX Runtime, which its Python package has and npm's has not
REMEDY = f"name an unpacked package {PACKAGE} {VERSION} with `runtime`"

Read = Callable[[str], bytes]  # name in the package -> content


def find(folder: Path | None = None) -> Path:
    """A folder with FILES, in the cache: of the package unpacked in `folder`, else of the one that is downloaded once.

    Raises RequestError when `folder` is no such package, SalonError when it cannot be downloaded, with the remedy.
    """
    if folder is not None:
        return _of_folder(folder)
    place = cache_folder() / f"{PACKAGE}-{VERSION}"
    with _alone(place):
        if not _whole(place):
            say(f"Downloading {PACKAGE} {VERSION} of npm into {place}: 33 MB, once")
            with tempfile.TemporaryDirectory(dir=place.parent) as scratch:
                archive = _download(Path(scratch))
                _check(archive)
                with tarfile.open(archive) as package:
                    _keep(lambda name: _member(package, f"package/{name}"), place)
    return place


def copy_licenses(out: Path) -> None:
    """Lay ONNX Runtime's license and the notices of what it is made of into the folder `out`."""
    import onnxruntime

    for name in LICENSES:
        source = Path(onnxruntime.__file__).with_name(name)
        if source.is_file():
            shutil.copyfile(source, out / name)
        else:
            say(
                f"Warning: this onnxruntime has no {name}, which belongs beside the files of {PACKAGE}: add it yourself"
            )


def _of_folder(folder: Path) -> Path:
    wanted = f"the npm package {PACKAGE} {VERSION}, unpacked"
    try:
        package = json.loads((folder / "package.json").read_text(encoding="utf-8"))
        name, version = package["name"], package["version"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise RequestError(f"`runtime` must be {wanted}; {folder} has no package.json of one") from error
    if (name, version) != (PACKAGE, VERSION):
        raise RequestError(f"`runtime` must be {wanted}; {folder} is {name} {version}")
    try:
        digest = hashlib.sha256((folder / "dist" / BINARY).read_bytes() + (folder / "dist" / SCRIPT).read_bytes())
        place = cache_folder() / f"{PACKAGE}-{VERSION}-{digest.hexdigest()[:8]}"
        with _alone(place):
            if not _whole(place):
                _keep(lambda name: (folder / name).read_bytes(), place)
    except FileNotFoundError as error:
        raise RequestError(f"`runtime` must be {wanted}; {error.filename} is missing") from error
    return place


def _whole(place: Path) -> bool:
    return all((place / name).is_file() for name in FILES)


def _alone(place: Path) -> AbstractContextManager[object]:
    # One process at a time makes it.
    place.parent.mkdir(parents=True, exist_ok=True)
    return lock(place.with_name(f".{place.name}.lock"))


def _keep(read: Read, place: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)  # half of which somebody deleted
    remove_stale_partials(place.parent)
    with atomic(place) as temporary:
        temporary.mkdir()
        (temporary / SCRIPT).write_bytes(read(f"dist/{SCRIPT}"))
        (temporary / f"{BINARY}.gz").write_bytes(gzip.compress(read(f"dist/{BINARY}"), mtime=0))


def _download(scratch: Path) -> Path:
    archive = scratch / ADDRESS.rpartition("/")[2]
    npm = shutil.which("npm")
    if npm is None:
        try:
            with urllib.request.urlopen(ADDRESS, timeout=60) as source, open(archive, "wb") as target:
                shutil.copyfileobj(source, target)
        except OSError as error:
            raise _unreachable(str(getattr(error, "reason", error))) from error
        return archive
    command = [npm, "pack", f"{PACKAGE}@{VERSION}", "--pack-destination", str(scratch), "--ignore-scripts"]
    command += ["--fetch-retries=1", "--fetch-retry-mintimeout=1000"]  # by itself it tries for a minute
    ended = subprocess.run(command, cwd=scratch, capture_output=True, text=True)
    if ended.returncode or not archive.is_file():
        errors = [line.removeprefix("npm error ") for line in ended.stderr.splitlines() if "npm error " in line]
        told = [line for line in errors if not line.startswith(("code ", "errno ", "syscall ", " "))]
        raise _unreachable([*told, *errors, f"exit code {ended.returncode}"][0])
    return archive


def _unreachable(reason: str) -> SalonError:
    return SalonError(f"{PACKAGE} {VERSION} could not be downloaded: {reason.rstrip('.')}. Or {REMEDY}")


def _check(archive: Path) -> None:
    with open(archive, "rb") as file:
        digest = base64.b64encode(hashlib.file_digest(file, "sha512").digest()).decode()
    if digest != SHA512:
        raise SalonError(f"{PACKAGE} {VERSION} must have the SHA-512 {SHA512}; what was downloaded has {digest}")


def _member(package: tarfile.TarFile, name: str) -> bytes:
    file = package.extractfile(name)
    assert file is not None  # the digest says so
    return file.read()
