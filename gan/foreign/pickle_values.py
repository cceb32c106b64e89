"""Plain-data stand-ins for the objects of an untrusted pickle: records without methods, arrays with checked layouts.

REBUILD, MAPPINGS, STORAGES and the rest are the whole list of names that a file may mention. Nothing is looked up by
such a name but in these tables; nothing is imported, and no method of a class from a file exists to be called.
"""

import re
from collections.abc import Callable
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

NESTED = "torch.storage._load_from_bytes"  # its argument is a torch file
MAX_DIMENSIONS = 8
MAX_EXTENT = 2**48  # of a size or a stride, so that sums of products stay small
KEY_TYPES = (str, bytes, int, float, bool, type(None))  # what hashes in constant time


class RefusedError(ValueError):
    """The file holds what is not accepted, or contradicts itself. The message continues after the file's name."""


class Global:
    """A name that the file mentions, and that is on the list."""

    def __init__(self, name: str) -> None:
        self.name = name


class Record:
    """An object of a foreign class: the name of its class, its arguments and its state, and nothing that runs."""

    def __init__(self, name: str, args: tuple[Any, ...] = (), state: dict[Any, Any] | None = None) -> None:
        self.name, self.args = name, args
        self.state: dict[Any, Any] = {} if state is None else state


class Storage:
    """`count` numbers of a type. The bytes may come later than the first mention."""

    def __init__(self, dtype: np.dtype[Any], count: int, raw: memoryview | None = None) -> None:
        if not _is_extent(count):
            raise RefusedError("holds a storage of an impossible size")
        self.dtype, self.count = dtype, count
        self.raw: memoryview | None = None
        if raw is not None:
            self.fill(raw)

    def fill(self, raw: memoryview) -> None:
        """Set the bytes. Raises RefusedError when they are not as many as were announced."""
        if raw.nbytes != self.count * self.dtype.itemsize:
            raise RefusedError(f"announces {self.count * self.dtype.itemsize} bytes of numbers and holds {raw.nbytes}")
        self.raw = raw


class Array:
    """A tensor or a numpy array: a view of a storage, in elements."""

    def __init__(self) -> None:
        self.storage: Storage | None = None
        self.shape: tuple[int, ...] = ()
        self.strides: tuple[int, ...] = ()
        self.offset = 0

    def place(self, storage: Any, offset: Any, shape: Any, strides: Any) -> "Array":
        """Lay the view out. Raises RefusedError when it overlaps itself or reaches beyond the storage."""
        if not isinstance(storage, Storage) or self.storage is not None:
            raise RefusedError("holds an array that is built from something else than numbers")
        check_layout(shape, strides, offset, storage.count)
        self.storage, self.shape, self.strides, self.offset = storage, shape, strides, offset
        return self

    def read(self) -> NDArray[Any]:
        """The numbers, without a copy and not to be written."""
        if self.storage is None or self.storage.raw is None or 0 in self.shape:
            raise RefusedError("holds an array without contents")
        size = self.storage.dtype.itemsize
        strides = tuple(stride * size if n > 1 else size for stride, n in zip(self.strides, self.shape, strict=True))
        view: NDArray[Any] = np.ndarray(
            self.shape, self.storage.dtype, self.storage.raw, offset=self.offset * size, strides=strides
        )
        return view


def shown(value: object) -> str:
    """A value from a file, fit for one line of a message: plain ones as they are, of others the type alone."""
    text = str(value) if isinstance(value, KEY_TYPES) else f"a {type(value).__name__}"
    line = "".join(c if c.isprintable() else "?" for c in text[:81])
    return line if len(line) <= 80 else line[:80] + "..."


def allowed(module: str, name: str) -> Global:
    """The name, if it is on the list. Raises RefusedError with the name if not."""
    full = f"{module}.{name}"
    if full in REBUILD or full == NESTED or full in MAPPINGS or full in STORAGES or full in _INERT or is_record(full):
        return Global(full)
    raise RefusedError(f"holds {shown(full)}; only tensors, arrays, plain containers and StyleGAN2's networks are read")


def is_record(name: str) -> bool:
    """Whether objects of the class `name` become records."""
    return _RECORDS.fullmatch(name) is not None


def check_layout(shape: Any, strides: Any, offset: Any, count: int) -> None:
    """Raise RefusedError unless each element of the view is another one of the `count` elements."""
    if not _are_extents(shape) or not _are_extents(strides) or len(shape) != len(strides) or not _is_extent(offset):
        raise RefusedError("holds an array with an impossible shape or stride")
    if 0 in shape:
        return
    reach = 0
    for stride, n in sorted((stride, n) for stride, n in zip(strides, shape, strict=True) if n > 1):
        if stride <= reach:
            raise RefusedError(f"holds an array that overlaps itself: shape {shape}, strides {strides}")
        reach += stride * (n - 1)
    if offset + reach >= count:
        raise RefusedError(f"holds an array of shape {shape} that reaches beyond its storage of {count} numbers")


def _are_extents(values: Any) -> TypeGuard[tuple[int, ...]]:
    return isinstance(values, tuple) and len(values) <= MAX_DIMENSIONS and all(map(_is_extent, values))


def _is_extent(value: Any) -> TypeGuard[int]:
    return type(value) is int and 0 <= value <= MAX_EXTENT


# What REDUCE may do, by name. Arguments that do not fit end in TypeError or ValueError: the file is damaged.


def _dtype(code: Any, align: Any = False, copy: Any = True) -> np.dtype[Any]:
    if not isinstance(code, str) or code not in _DTYPES:
        raise RefusedError(f"holds a numpy array of {shown(code) if isinstance(code, str) else 'objects'}")
    return np.dtype("<" + code)


def check_dtype_state(state: Any) -> None:
    """Raise RefusedError for a dtype with fields, metadata or another byte order than the usual one."""
    if not isinstance(state, tuple) or len(state) != 8 or state[1] not in ("<", "|") or any(state[2:5]):
        raise RefusedError("holds a numpy dtype with fields, metadata or swapped bytes")


def build_array(array: Array, state: Any) -> None:
    """Fill an array that numpy's _reconstruct announced."""
    if not isinstance(state, tuple) or len(state) != 5:
        raise RefusedError("holds a numpy array in an unknown form")
    _version, shape, dtype, fortran, raw = state
    _from_bytes(array, raw, dtype, shape, "F" if fortran is True else "C")


def _from_bytes(array: Array, raw: Any, dtype: Any, shape: Any, order: Any) -> Array:
    if not isinstance(dtype, np.dtype) or not isinstance(raw, (bytes, bytearray)):
        raise RefusedError("holds a numpy array of objects")
    if not _are_extents(shape):
        raise RefusedError("holds an array with an impossible shape or stride")
    storage = Storage(dtype, len(raw) // dtype.itemsize, memoryview(raw))
    strides: list[int] = []
    count = 1
    for n in shape if order == "F" else reversed(shape):
        strides.append(count)
        count *= n
    if count != storage.count:
        raise RefusedError(f"holds an array of {shown(count)} numbers with the bytes of {storage.count}")
    return array.place(storage, 0, shape, tuple(strides if order == "F" else reversed(strides)))


def _reconstruct(kind: Any, shape: Any, code: Any) -> Array:
    if not isinstance(kind, Global) or kind.name != "numpy.ndarray":
        raise RefusedError("holds a numpy array of an unknown class")
    return Array()


def _frombuffer(raw: Any, dtype: Any, shape: Any, order: Any) -> Array:
    return _from_bytes(Array(), raw, dtype, shape, order)


def _scalar(dtype: Any, raw: Any) -> Any:
    return _from_bytes(Array(), raw, dtype, (), "C").read().item()


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_rest: Any) -> Array:
    return Array().place(storage, offset, shape, strides)


def _parameter(tensor: Any, *_rest: Any) -> Any:
    return tensor


def _encode(text: Any, encoding: Any) -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise RefusedError("holds a call of _codecs.encode with something else than bytes")
    return text.encode("latin-1")


def _set(items: Any = ()) -> set[Any]:
    if not isinstance(items, list | tuple) or not all(isinstance(item, KEY_TYPES) for item in items):
        raise RefusedError("holds a set of something else than plain values")
    return set(items)


def _size(items: Any) -> tuple[Any, ...]:
    if not isinstance(items, tuple):
        raise RefusedError("holds a torch.Size of something else than numbers")
    return items


def _device(*args: Any) -> str:
    return "cpu"


def _persistent(meta: Any) -> Record:
    # The source code that lies beside the state is not even kept.
    name, state = meta["class_name"], meta["state"]
    if not isinstance(name, str) or not isinstance(state, dict):
        raise RefusedError("holds a network without a name or a state")
    return Record(name, (), state)


_NUMPY: dict[str, Callable[..., Any]] = {
    "multiarray._reconstruct": _reconstruct,
    "multiarray.scalar": _scalar,
    "numeric._frombuffer": _frombuffer,
}
REBUILD: dict[str, Callable[..., Any]] = {
    **{f"numpy.{core}.{name}": function for core in ("core", "_core") for name, function in _NUMPY.items()},
    "numpy.dtype": _dtype,
    "_codecs.encode": _encode,
    "builtins.set": _set,
    "__builtin__.set": _set,
    "torch.Size": _size,
    "torch.device": _device,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch_utils.persistence._reconstruct_persistent_obj": _persistent,
}
MAPPINGS = {"collections.OrderedDict", "dnnlib.util.EasyDict", "dnnlib.EasyDict"}  # become dicts
STORAGES: dict[str, np.dtype[Any]] = {
    "torch.DoubleStorage": np.dtype("<f8"),
    "torch.FloatStorage": np.dtype("<f4"),
    "torch.HalfStorage": np.dtype("<f2"),
    "torch.LongStorage": np.dtype("<i8"),
    "torch.IntStorage": np.dtype("<i4"),
    "torch.ShortStorage": np.dtype("<i2"),
    "torch.CharStorage": np.dtype("<i1"),
    "torch.ByteStorage": np.dtype("<u1"),
    "torch.BoolStorage": np.dtype("?"),
}
_DTYPES = {"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"}
_INERT = {"numpy.ndarray", *(f"torch.{name}" for name in ("float16", "float32", "float64", "int64", "bool"))}
_RECORDS = re.compile(
    r"(training\.(networks|networks_stylegan2|networks_stylegan3|augment)|torch\.nn\.modules\.\w+)\.[A-Za-z_]\w*"
    r"|dnnlib\.tflib\.network\.Network|argparse\.Namespace",
    re.ASCII,
)
