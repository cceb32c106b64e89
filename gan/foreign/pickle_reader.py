"""Reads untrusted pickles and torch files: tensors, arrays, numbers and plain containers, within bounds of memory.

Nothing in a file is executed or imported. pickle.Unpickler with a find_class of its own would be shorter, but bounds
neither the memory nor the work that a hostile file asks for; hence an interpreter of our own.

A torch file is a ZIP (since torch 1.6), or a row of pickles with the bytes of the storages behind them; the latter also
lies inside of pickles of tensors, once for each storage.
"""

import io
import struct
import zipfile
from pathlib import Path
from typing import IO, Any

from gan.errors import RequestError
from gan.foreign.pickle_interpreter import Budget, Machine
from gan.foreign.pickle_values import STORAGES, Global, RefusedError, Storage, shown
from gan.runtime.file_kinds import foreign_kind

MAX_FILE_BYTES = 4 * 2**30
TORCH_MAGIC = 0x1950A86A20F9469CFC6C  # the first value of a torch file of before version 1.6
TORCH_PROTOCOL = 1001
DAMAGE = (  # what our own code and the standard library raise on bytes that make no sense
    *(ValueError, TypeError, LookupError, ArithmeticError, AttributeError, EOFError, RuntimeError, MemoryError),
    *(struct.error, zipfile.BadZipFile),
)


def load(path: Path) -> Any:
    """What a pickle or a torch file holds, as plain values, Record and Array.

    Raises RequestError with the name of whatever is refused, and for a damaged file.
    """
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise RefusedError(f"has {size} bytes; at most {MAX_FILE_BYTES} are read")
        with open(path, "rb") as file:
            if file.read(4) == b"PK\x03\x04":
                return _load_zip(file, size)
        return _load_stream(path.read_bytes(), Budget(size))
    except OSError as error:
        raise RequestError(f"{path} must be a readable file; got {error.strerror or error} instead") from error
    except (RefusedError, *DAMAGE) as error:
        if kind := foreign_kind(path):
            raise RequestError(f"{path} must hold networks; it is {kind}") from error
        if isinstance(error, RefusedError):
            raise RequestError(f"{path} {error}") from error
        why = "" if isinstance(error, LookupError) else f": {shown(str(error)) or type(error).__name__}"
        raise RequestError(f"{path} is damaged or no pickle{why}") from error


def _load_stream(content: bytes, budget: Budget) -> Any:
    # A pickle, or the older form of a torch file, which starts with a pickled number.
    stream = io.BytesIO(content)
    value = Machine(stream, budget, nested=lambda raw: _load_storages(io.BytesIO(raw), raw, budget)).run()
    if type(value) is not int or value != TORCH_MAGIC:
        return value
    stream.seek(0)
    return _load_storages(stream, content, budget)


def _load_storages(stream: io.BytesIO, content: bytes, budget: Budget) -> Any:
    # Pickles of: the magic number, the format's version, facts on the system, the value, the storages' keys. Then for
    # each key the count of its numbers (int64), and the numbers.
    magic, version, system = (Machine(stream, budget).run() for _ in range(3))
    if (magic, version) != (TORCH_MAGIC, TORCH_PROTOCOL) or system.get("little_endian") is not True:
        raise RefusedError("is no torch file, or one of another kind of machine")
    storages: dict[str, Storage] = {}

    def reference(identity: Any) -> Storage:
        kind, key, count = _parse_identity(identity)
        storage = storages.setdefault(key, Storage(STORAGES[kind], count))
        if (storage.dtype, storage.count) != (STORAGES[kind], count):
            raise RefusedError(f"refers to storage {shown(key)} in two ways")
        return storage

    value = Machine(stream, budget, reference=reference).run()
    keys = Machine(stream, budget).run()
    if not isinstance(keys, list) or sorted(keys) != sorted(storages):
        raise RefusedError("lists other storages than it refers to")
    position = stream.tell()
    for key in keys:
        storage = storages[key]
        (count,) = struct.unpack_from("<q", content, position)
        if count != storage.count:
            raise RefusedError(f"announces a storage of {storage.count} numbers and holds {count}")
        start, position = position + 8, position + 8 + count * storage.dtype.itemsize
        storage.fill(memoryview(content)[start:position])
    return value


def _load_zip(file: IO[bytes], size: int) -> Any:
    # NAME/data.pkl, and NAME/data/KEY for each storage, none of them compressed.
    with zipfile.ZipFile(file) as archive:
        members = {info.filename: info for info in archive.infolist()}
        if len(members) < len(archive.infolist()) or sum(info.file_size for info in members.values()) > size:
            raise RefusedError("is a ZIP whose members are larger than itself")
        if any(info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 for info in members.values()):
            raise RefusedError("is a ZIP with compressed or encrypted members; torch files have none")
        roots = [name.removesuffix("data.pkl") for name in members if name.endswith("/data.pkl")]
        if len(roots) != 1:
            raise RefusedError("is a ZIP, but no torch file: it must hold one data.pkl")
        if members.get(f"{roots[0]}byteorder") and archive.read(f"{roots[0]}byteorder") != b"little":
            raise RefusedError("is of another kind of machine: its bytes are swapped")
        storages: dict[str, Storage] = {}

        def reference(identity: Any) -> Storage:
            kind, key, count = _parse_identity(identity)
            if key not in storages:
                member = members.get(f"{roots[0]}data/{key}")
                if member is None:
                    raise RefusedError(f"refers to storage {shown(key)}, which it does not hold")
                storages[key] = Storage(STORAGES[kind], count, memoryview(archive.read(member)))
            if (storages[key].dtype, storages[key].count) != (STORAGES[kind], count):
                raise RefusedError(f"refers to storage {shown(key)} in two ways")
            return storages[key]

        return Machine(io.BytesIO(archive.read(f"{roots[0]}data.pkl")), Budget(size), reference=reference).run()


def _parse_identity(identity: Any) -> tuple[str, str, int]:
    # -> name of the storage's type, key, count of numbers
    if not isinstance(identity, tuple) or len(identity) not in (5, 6) or any(identity[5:]):
        raise RefusedError("refers to something that is no storage (a persistent id)")
    word, kind, key, _device, count = identity[:5]
    known = isinstance(kind, Global) and kind.name in STORAGES
    if word != "storage" or not known or not isinstance(key, str) or type(count) is not int:
        raise RefusedError("refers to something that is no storage (a persistent id)")
    return kind.name, key, count
