"""Which requests for inference are in order: everything that Triton would have to trust is checked here.

Triton 2.51 allocates what a shape claims, and dies of a classification of bytes and of some regions of shared memory;
here a shape must be one that the model has, and hold exactly what was sent, and parameters are refused.
"""

import math
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from grpc import StatusCode

from serving.server.front.refused import Refused

DTYPES = {
    "BOOL": np.dtype(np.bool_),
    **{name.upper(): np.dtype(name) for name in ("uint8", "uint16", "uint32", "uint64")},
    **{name.upper(): np.dtype(name) for name in ("int8", "int16", "int32", "int64")},
    "FP16": np.dtype(np.float16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
}
BYTES = "BYTES"
CONTENTS = {  # datatype -> field of InferTensorContents; FP16 has none
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "INT64": "int64_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    BYTES: "bytes_contents",
}
MOST_ITEMS = 2**28  # in one tensor; far below where products of sides overflow
LONGEST_TEXT = 1000  # bytes in an item of BYTES, and characters in an id


@dataclass(frozen=True)
class TensorRule:
    """What a tensor of a model must be. `dims` are without the batch; -1 is free."""

    dtype: str
    dims: tuple[int, ...]
    optional: bool = False


@dataclass(frozen=True)
class ModelRule:
    """What a model of the server takes and gives. `max_batch` 0: it has no batch dimension."""

    name: str
    max_batch: int
    inputs: Mapping[str, TensorRule]
    outputs: Mapping[str, TensorRule]
    is_ensemble: bool = False

    @classmethod
    def of(cls, config: Any) -> "ModelRule":
        """The rule that follows from a ModelConfig of Triton's."""

        def tensors(fields: Iterable[Any]) -> dict[str, TensorRule]:
            return {field.name: _tensor(field) for field in fields}

        return cls(
            config.name,
            config.max_batch_size,
            tensors(config.input),
            tensors(config.output),
            config.platform == "ensemble",
        )


def _tensor(field: Any) -> TensorRule:
    dtype = type(field).DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_number[field.data_type].name
    dtype = dtype.removeprefix("TYPE_").replace("STRING", BYTES)
    return TensorRule(dtype, tuple(field.dims), bool(getattr(field, "optional", False)))


def check(request: Any, model: ModelRule) -> None:
    """Raises Refused when a ModelInferRequest is not one that `model` can take."""
    if request.parameters:
        raise Refused(f"parameters must be left out; got {_names(request.parameters)}")
    if len(request.id) > LONGEST_TEXT:
        raise Refused(f"id must have at most {LONGEST_TEXT} characters; got {len(request.id)}")
    _check_names("input", [tensor.name for tensor in request.inputs], model.inputs, model.name)
    _check_names("output", [tensor.name for tensor in request.outputs], model.outputs, model.name)
    if missing := [n for n, rule in model.inputs.items() if not rule.optional and n not in _sent(request)]:
        raise Refused(f"{' and '.join(missing)} must be given; {model.name} takes {', '.join(model.inputs)}")
    for output in request.outputs:
        if output.parameters:
            raise Refused(f"parameters of {output.name} must be left out; got {_names(output.parameters)}")
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise Refused(f"raw_input_contents must be one for each input; got {len(raw)} for {len(request.inputs)}")
    batches = set()
    for index, tensor in enumerate(request.inputs):
        check_shape(tensor.name, tensor.datatype, tensor.shape, model)
        if tensor.parameters:
            raise Refused(f"parameters of {tensor.name} must be left out; got {_names(tensor.parameters)}")
        _check_content(tensor, raw[index] if raw else None)
        batches.add(tensor.shape[0])
    if model.max_batch and len(batches) > 1:
        raise Refused(f"all inputs must have one number of rows; got {', '.join(map(str, sorted(batches)))}")


def check_shape(name: str, dtype: str, shape: Iterable[int], model: ModelRule) -> None:
    """Raises Refused when `shape`, batch included, and `dtype` are not those of the model's input `name`."""
    rule, shape = model.inputs[name], list(shape)
    if dtype != rule.dtype:
        raise Refused(f"datatype of {name} must be {rule.dtype}; got {dtype[:20]!r} instead")
    wanted = [*([f"1 to {model.max_batch}"] if model.max_batch else []), *("any" if s < 0 else s for s in rule.dims)]
    sides = shape[1:] if model.max_batch else shape
    fits = len(shape) == len(wanted) and all(
        side >= 1 if dim < 0 else side == dim for side, dim in zip(sides, rule.dims, strict=True)
    )
    if not fits or (model.max_batch and not 1 <= shape[0] <= model.max_batch) or math.prod(shape) > MOST_ITEMS:
        raise Refused(f"shape of {name} must be [{', '.join(map(str, wanted))}]; got {str(shape)[:80]} instead")


def _check_content(tensor: Any, raw: bytes | None) -> None:
    # Exactly one content, of exactly the length that the (checked) shape says.
    count, field = math.prod(tensor.shape), CONTENTS.get(tensor.datatype)
    filled = {name.name: value for name, value in tensor.contents.ListFields()}
    if raw is None:
        if set(filled) - {field} or len(filled.get(field, ())) != count:
            raise Refused(f"{tensor.name} must hold {count} items of {tensor.datatype}")
        texts = filled[field] if tensor.datatype == BYTES else ()
    elif filled:
        raise Refused(f"{tensor.name} must be in contents or in raw_input_contents, not in both")
    elif tensor.datatype == BYTES:
        texts = split_bytes(raw, count, tensor.name)
    else:
        texts, needed = (), count * DTYPES[tensor.datatype].itemsize
        if len(raw) != needed:
            raise Refused(f"{tensor.name} must hold {needed} bytes for its shape; got {len(raw)}")
    if any(len(text) > LONGEST_TEXT for text in texts):
        raise Refused(f"{tensor.name} must hold at most {LONGEST_TEXT} bytes an item")


def split_bytes(raw: bytes, count: int, name: str) -> list[bytes]:
    """The items of a BYTES tensor, each after its length as four bytes. Raises Refused when there are not `count`."""
    items, at = list[bytes](), 0
    while at + 4 <= len(raw) and len(items) < count:
        (length,) = struct.unpack_from("<I", raw, at)
        items.append(raw[at + 4 : at + 4 + length])
        at += 4 + length
    if at != len(raw) or len(items) != count:
        raise Refused(f"{name} must hold {count} items, each after its length in four bytes")
    return items


def join_bytes(items: Iterable[bytes]) -> bytes:
    """The inverse of split_bytes."""
    return b"".join(struct.pack("<I", len(item)) + item for item in items)


def unknown(what: str, name: str, known: Iterable[str]) -> Refused:
    """That there is no such model, or version."""
    return Refused(f"{what} must be one of {', '.join(known) or 'none'}; got {name[:80]!r}", StatusCode.NOT_FOUND)


def _check_names(what: str, names: list[str], known: Mapping[str, object], model: str) -> None:
    if wrong := [name for name in names if name not in known]:
        raise Refused(f"{what} of {model} must be one of {', '.join(known)}; got {wrong[0][:80]!r} instead")
    if len(set(names)) < len(names):
        raise Refused(f"each {what} of {model} must be named once; got {', '.join(names)[:200]}")


def _sent(request: Any) -> set[str]:
    return {tensor.name for tensor in request.inputs}


def _names(parameters: Mapping[str, object]) -> str:
    return ", ".join(sorted(parameters))[:80]
