"""KServe's HTTP messages of inference <-> those of gRPC: JSON, with tensors in it or as bytes after it.

The extensions that are read are Triton's binary tensor data and generate. Nothing of a request is believed but what
serving.server.front.rules checks afterwards.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from tritonclient.grpc import service_pb2 as messages

from serving.server.front.refused import Refused
from serving.server.front.rules import BYTES, DTYPES, ModelRule, check_shape, join_bytes, split_bytes

LENGTH = "Inference-Header-Content-Length"  # bytes of JSON, where tensors follow it
IMAGES = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"RIFF": "image/webp"}  # how files of images begin


def read_json(body: bytes) -> dict[str, Any]:
    """A JSON object. Raises Refused for anything else: other values, NaN, brackets without end."""

    def no_number(text: str) -> None:
        raise ValueError(f"{text} is no number")

    try:
        value = json.loads(body, parse_constant=no_number)
    except (ValueError, RecursionError) as error:
        raise Refused(f"the request must be JSON; {error if isinstance(error, ValueError) else 'too deep'}") from error
    if not isinstance(value, dict):
        raise Refused("the request must be a JSON object")
    return value


def read_infer(body: bytes, length: str | None, model: ModelRule, version: str) -> tuple[Any, dict[str, bool]]:
    """A body of .../infer -> ModelInferRequest, and for each output that is asked for whether it is wanted as bytes.

    `length` is the header LENGTH. Raises Refused for what is no such message; rules.check sees to the rest.
    """
    head = len(body) if length is None else _whole(length, LENGTH, len(body))
    message, rest = read_json(body[:head]), memoryview(body)[head:]
    request = messages.ModelInferRequest(model_name=model.name, model_version=version, id=_text(message, "id", ""))
    parameters = _mapping(message, "parameters")
    as_bytes = parameters.pop("binary_data_output", False) is True
    _refuse_rest("the request", parameters)
    for tensor in _list(message, "inputs"):
        name, datatype = _text(tensor, "name"), _text(tensor, "datatype")
        if name not in model.inputs:
            raise Refused(f"input of {model.name} must be one of {', '.join(model.inputs)}; got {name[:80]!r} instead")
        shape = tensor.get("shape")
        if not isinstance(shape, list) or not all(type(side) is int and abs(side) < 2**31 for side in shape):
            raise Refused(f"shape of {name} must be a list of whole numbers")
        check_shape(name, datatype, shape, model)  # before its content is looked at
        own = _mapping(tensor, "parameters")
        size = own.pop("binary_data_size", None)
        _refuse_rest(name, own)
        if size is None:
            raw = pack(tensor.get("data"), datatype, math.prod(shape), name)
        else:
            end = _whole(size, f"binary_data_size of {name}", len(rest))
            raw, rest = bytes(rest[:end]), rest[end:]
        request.inputs.add(name=name, datatype=datatype, shape=shape)
        request.raw_input_contents.append(raw)
    if len(rest):
        raise Refused(f"{len(rest)} bytes follow the tensors that the request names")
    wanted = {}
    for output in _list(message, "outputs") if "outputs" in message else []:
        own, name = _mapping(output, "parameters"), _text(output, "name")
        wanted[name] = own.pop("binary_data", as_bytes) is True
        _refuse_rest(name, own)
        request.outputs.add(name=name)
    return request, wanted or dict.fromkeys(model.outputs, as_bytes)


def write_infer(response: Any, as_bytes: Mapping[str, bool]) -> tuple[bytes, int | None]:
    """ModelInferResponse -> body, and the length of its JSON where bytes follow it, which is the header LENGTH."""
    outputs, tail = [], []
    for tensor, raw in zip(response.outputs, response.raw_output_contents, strict=True):
        about: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
        if as_bytes.get(tensor.name):
            about["parameters"] = {"binary_data_size": len(raw)}
            tail.append(raw)
        else:
            about["data"] = unpack(raw, tensor.datatype, math.prod(tensor.shape), tensor.name)
        outputs.append(about)
    message = {"model_name": response.model_name, "model_version": response.model_version, "outputs": outputs}
    if response.id:
        message["id"] = response.id
    head = json.dumps(message).encode()
    return b"".join([head, *tail]), len(head) if tail else None


def read_generate(body: bytes, model: ModelRule, version: str) -> Any:
    """A body of .../generate, {"NAME OF AN INPUT": value, ...} for one row -> ModelInferRequest. Raises Refused."""
    request = messages.ModelInferRequest(model_name=model.name, model_version=version)
    for name, value in read_json(body).items():
        rule = model.inputs.get(name)
        if rule is None:
            raise Refused(f"{model.name} takes {', '.join(model.inputs)}; got {name[:80]!r}")
        shape = [*([1] if model.max_batch else []), *rule.dims]
        if -1 in shape:
            shape = [*([1] if model.max_batch else []), *_shape(value)]
        raw = pack(value if isinstance(value, list) else [value], rule.dtype, math.prod(shape), name)
        request.inputs.add(name=name, datatype=rule.dtype, shape=shape)
        request.raw_input_contents.append(raw)
    return request


def write_generate(response: Any) -> tuple[bytes, str]:
    """ModelInferResponse of one row -> body and media type: the image itself where the only output is its file."""
    tensors = list(zip(response.outputs, response.raw_output_contents, strict=True))
    if len(tensors) == 1 and tensors[0][0].datatype == BYTES:
        (content,) = split_bytes(tensors[0][1], 1, tensors[0][0].name)
        for beginning, media_type in IMAGES.items():
            if content.startswith(beginning):
                return content, media_type
    message: dict[str, Any] = {"model_name": response.model_name, "model_version": response.model_version}
    for tensor, raw in tensors:
        data = unpack(raw, tensor.datatype, math.prod(tensor.shape), tensor.name)
        message[tensor.name] = data[0] if len(data) == 1 else data
    return json.dumps(message).encode(), "application/json"


def pack(data: object, datatype: str, count: int, name: str) -> bytes:
    """Items of a tensor as JSON has them, in lists of any depth -> their bytes. Raises Refused when they do not fit."""
    if not isinstance(data, list):
        raise Refused(f"{name} must have a list as data")
    if datatype == BYTES:
        texts = _flat(data, name)
        if len(texts) != count or not all(isinstance(text, str) for text in texts):
            raise Refused(f"{name} must hold {count} texts")
        return join_bytes(text.encode("utf-8", "surrogatepass") for text in texts)
    dtype = DTYPES[datatype]
    try:
        values = np.array(data)
    except ValueError as error:  # lists of different lengths, or too deep
        raise Refused(f"data of {name} must be numbers in lists of one length") from error
    kinds = {"b": "b", "f": "iuf"}.get(dtype.kind, "iu")
    if values.size != count or (count and values.dtype.kind not in kinds):
        what = {"b": "true or false", "f": "numbers"}.get(dtype.kind, "whole numbers")
        raise Refused(f"{name} must hold {count} {what}")
    with np.errstate(over="ignore"):
        packed = values.astype(dtype)
    if dtype.kind in "iu" and (packed != values).any():
        raise Refused(f"{name} must hold numbers within {datatype}")
    return packed.tobytes()


def unpack(raw: bytes, datatype: str, count: int, name: str) -> list[Any]:
    """The inverse of pack, flat. Raises Refused for bytes that no text of JSON can hold."""
    if datatype != BYTES:
        values = np.frombuffer(raw, DTYPES[datatype])
        if datatype.startswith("FP") and not np.isfinite(values).all():
            raise Refused(f"{name} holds what is no number, which JSON cannot say: ask for it with binary_data")
        return list(values.tolist())
    try:
        return [item.decode() for item in split_bytes(raw, count, name)]
    except UnicodeDecodeError as error:
        raise Refused(f"{name} is no text: ask for it with binary_data, or as base64 where the model can") from error


def _flat(data: list[Any], name: str) -> list[Any]:
    found, waiting = list[Any](), [data]
    while waiting:
        for item in waiting.pop():
            (waiting if isinstance(item, list) else found).append(item)
    if len(found) > 1 and any(isinstance(item, list) for item in data):
        raise Refused(f"{name} must have a flat list as data")  # whose order is plain
    return found


def _shape(value: object) -> list[int]:
    try:
        return list(np.array(value).shape)
    except ValueError as error:
        raise Refused("data must be in lists of one length") from error


def _text(message: Mapping[str, Any], name: str, default: str | None = None) -> str:
    value = message.get(name, default)
    if not isinstance(value, str):
        raise Refused(f"{name} must be a text")
    return value


def _list(message: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    value = message.get(name)
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise Refused(f"{name} must be a list of objects")
    return value


def _mapping(message: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = message.get(name, {})
    if not isinstance(value, dict):
        raise Refused(f"{name} must be an object")
    return dict(value)


def _refuse_rest(what: str, parameters: Mapping[str, Any]) -> None:
    if parameters:
        raise Refused(f"parameters of {what} must be left out; got {', '.join(sorted(parameters))[:80]}")


def _whole(value: object, name: str, most: int) -> int:
    text = str(value)
    if isinstance(value, bool) or not (text.isascii() and text.isdigit() and len(text) < 12 and int(text) <= most):
        raise Refused(f"{name} must be a whole number up to the {most} bytes that were sent; got {text[:20]!r} instead")
    return int(text)
