"""config.pbtxt: Triton's configuration of a model. The message's fields are those of Triton's model_config.proto."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serving.contract import (
    DEFAULT_NAME,
    DIRECTIONS,
    ENSEMBLES,
    LIMITS,
    MAX_BATCH,
    PARAMETER,
    VERSIONS,
    ModelMetadata,
    Tensor,
    directions_parameter,
    inputs,
    limits,
    model_name,
    outputs,
    served_versions,
)

FILE = "config.pbtxt"
_FREE = 256  # pixels of a free side in warm-up


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Serving settings of all models of one export."""

    backend: str = "python"  # of Triton: python or onnxruntime
    max_batch: int = MAX_BATCH  # images
    instances: int = 1  # of each model, on each device
    tensorrt: bool = False  # let ONNX Runtime hand what it can to TensorRT
    precision: str = "fp32"  # of the generator, and of TensorRT
    response_cache: bool = False  # let a server that was started with a cache keep answers


@dataclass(frozen=True, kw_only=True)
class Description:
    """What a config.pbtxt says of a model."""

    metadata: ModelMetadata  # of its newest version
    backend: str  # of Triton; empty for an ensemble
    versions: dict[int, ModelMetadata]  # that are served; empty where it names none: it serves the newest
    parts: dict[str, int] = field(default_factory=dict)  # of an ensemble: model -> version; -1: the newest


def describe(
    metadata: ModelMetadata,
    settings: Settings,
    version: int = 1,
    earlier: Mapping[int, ModelMetadata] | None = None,
    parts: Mapping[str, int] | None = None,
    directions: Mapping[int, bytes] | None = None,
) -> str:
    """The text of a model's config.pbtxt, whose newest version is `version`.

    `earlier` versions are served beside it, for clients that began with them. An ensemble takes the versions `parts`
    of its models. `directions` are the files of those of a mapping, by version.
    """
    from google.protobuf import json_format, text_format
    from tritonclient.grpc import model_config_pb2

    fields = _fields(metadata, settings, {**(earlier or {}), version: metadata}, parts or {})
    if directions:
        fields["parameters"][DIRECTIONS] = {"string_value": directions_parameter(directions)}
    message = json_format.ParseDict(fields, model_config_pb2.ModelConfig())
    return str(text_format.MessageToString(message, as_utf8=True))


def read(path: Path) -> Description:
    """The description in a config.pbtxt. Raises ValueError where it is none of Salon's."""
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2

    try:
        message = text_format.Parse(path.read_text(encoding="utf-8"), model_config_pb2.ModelConfig())
    except text_format.ParseError as error:
        raise ValueError(f"not a description of a model: {error}") from error
    versions = message.parameters[VERSIONS].string_value
    return Description(
        metadata=ModelMetadata.from_json(message.parameters[PARAMETER].string_value),
        backend=message.backend,
        versions=served_versions(versions) if versions else {},
        parts={step.model_name: step.model_version for step in message.ensemble_scheduling.step},
    )


def read_about(path: Path) -> ModelMetadata:
    """Metadata of the model of a config.pbtxt. Raises ValueError where it is none of Salon's."""
    return read(path).metadata


def preferred_batches(max_batch: int) -> list[int]:
    """Preferred batch sizes: powers of two from 4 up, and the maximum."""
    return sorted({*(2**k for k in range(2, 16) if 2**k < max_batch), max_batch})


def _fields(
    metadata: ModelMetadata, settings: Settings, versions: Mapping[int, ModelMetadata], parts: Mapping[str, int]
) -> dict[str, Any]:
    fields = {
        "name": served_name(metadata),
        "max_batch_size": settings.max_batch,
        "version_policy": {"specific": {"versions": sorted(versions)}},  # others may lie there, half written
        "input": [_tensor(tensor) for tensor in inputs(metadata)],
        "output": [_tensor(tensor) for tensor in outputs(metadata)],
        "parameters": {
            PARAMETER: {"string_value": metadata.to_json()},
            VERSIONS: {"string_value": json.dumps({n: about.to_dict() for n, about in versions.items()})},
            LIMITS: {"string_value": json.dumps(limits(metadata))},
        },
    }
    if settings.response_cache:
        fields["response_cache"] = {"enable": True}
    if metadata.kind in ENSEMBLES:
        return fields | {"platform": "ensemble", "ensemble_scheduling": {"step": _steps(metadata, parts)}}
    # Without a queue policy: with one, Triton 2.51 lets every request wait for half a second.
    fields["dynamic_batching"] = {"preferred_batch_size": preferred_batches(settings.max_batch)}
    in_python = settings.backend == "python" or metadata.kind == "seed_to_png"
    fields["backend"] = "python" if in_python else "onnxruntime"
    kind = "KIND_CPU" if metadata.kind == "seed_to_png" else "KIND_GPU" if settings.tensorrt else "KIND_AUTO"
    fields["instance_group"] = [{"count": settings.instances, "kind": kind}]
    if not in_python:
        sizes = sorted({1, *preferred_batches(settings.max_batch)})
        fields["model_warmup"] = [_warmup(metadata, size) for size in sizes]
        if settings.tensorrt:
            accelerator = {"name": "tensorrt", "parameters": {"precision_mode": settings.precision.upper()}}
            fields["optimization"] = {"execution_accelerators": {"gpu_execution_accelerator": [accelerator]}}
    return fields


def part_names(metadata: ModelMetadata) -> list[str]:
    """Names of the models that an ensemble is made of: the generator, and the one that sees its images."""
    generator = metadata.generator or DEFAULT_NAME
    return [model_name(kind, generator) for kind in ("generator", ENSEMBLES[metadata.kind])]


def served_name(metadata: ModelMetadata) -> str:
    """Name under which the model of this metadata is served."""
    return model_name(metadata.kind, metadata.generator) if metadata.generator else metadata.kind


def _tensor(tensor: Tensor) -> dict[str, Any]:
    optional = {"optional": True} if tensor.optional else {}
    return {"name": tensor.name, "data_type": _type(tensor), "dims": list(tensor.dims), **optional}


def _type(tensor: Tensor) -> str:
    return "TYPE_STRING" if tensor.dtype == "BYTES" else f"TYPE_{tensor.dtype}"


def _warmup(metadata: ModelMetadata, size: int) -> dict[str, Any]:
    # With zeros: Triton's random bytes need not be numbers.
    tensors = {
        tensor.name: {
            "data_type": _type(tensor),
            "dims": [_FREE if side < 0 else side for side in tensor.dims],
            "zero_data": True,
        }
        for tensor in inputs(metadata)
    }
    return {"name": f"batch_{size}", "batch_size": size, "inputs": tensors}


def _steps(metadata: ModelMetadata, parts: Mapping[str, int]) -> list[dict[str, Any]]:
    # The generator's image is an output, and the input of the second model.
    first, second = part_names(metadata)
    generator_inputs = {tensor.name: tensor.name for tensor in inputs(metadata)}
    second_inputs = {
        "image": "image",
        **({"label": "label"} if metadata.kind == "generate_and_score" and metadata.num_classes else {}),
    }
    second_outputs = {tensor.name: tensor.name for tensor in outputs(metadata) if tensor.name != "image"}
    return [
        {
            "model_name": first,
            "model_version": parts.get(first, -1),
            "input_map": generator_inputs,
            "output_map": {"image": "image"},
        },
        {
            "model_name": second,
            "model_version": parts.get(second, -1),
            "input_map": second_inputs,
            "output_map": second_outputs,
        },
    ]
