"""config.pbtxt: Triton's configuration of a model. The message's fields are those of Triton's model_config.proto."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.contract import LIMITS, MAX_BATCH, PARAMETER, ModelMetadata, Tensor, inputs, limits, model_name, outputs

FILE = "config.pbtxt"
ENSEMBLES = {"generate_and_score": "discriminator", "generate_and_classify": "style_classifier"}  # -> second member
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


def describe(metadata: ModelMetadata, settings: Settings) -> str:
    """The text of a model's config.pbtxt."""
    from google.protobuf import json_format, text_format
    from tritonclient.grpc import model_config_pb2

    message = json_format.ParseDict(_fields(metadata, settings), model_config_pb2.ModelConfig())
    return str(text_format.MessageToString(message, as_utf8=True))


def read_about(path: Path) -> ModelMetadata:
    """Metadata of the model of a config.pbtxt. Raises ValueError where it is none of Salon's."""
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2

    try:
        message = text_format.Parse(path.read_text(encoding="utf-8"), model_config_pb2.ModelConfig())
    except text_format.ParseError as error:
        raise ValueError(f"not a description of a model: {error}") from error
    return ModelMetadata.from_json(message.parameters[PARAMETER].string_value)


def preferred_batches(max_batch: int) -> list[int]:
    """Preferred batch sizes: powers of two from 4 up, and the maximum."""
    return sorted({*(2**k for k in range(2, 16) if 2**k < max_batch), max_batch})


def _fields(metadata: ModelMetadata, settings: Settings) -> dict[str, Any]:
    fields = {
        "name": served_name(metadata),
        "max_batch_size": settings.max_batch,
        "version_policy": {"latest": {"num_versions": 1}},
        "input": [_tensor(tensor) for tensor in inputs(metadata)],
        "output": [_tensor(tensor) for tensor in outputs(metadata)],
        "parameters": {
            PARAMETER: {"string_value": metadata.to_json()},
            LIMITS: {"string_value": json.dumps(limits(metadata))},
        },
    }
    if settings.response_cache:
        fields["response_cache"] = {"enable": True}
    if metadata.kind in ENSEMBLES:
        return fields | {"platform": "ensemble", "ensemble_scheduling": {"step": _steps(metadata)}}
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


def _steps(metadata: ModelMetadata) -> list[dict[str, Any]]:
    # The generator's image is an output, and the input of the second model.
    assert metadata.generator is not None
    second = ENSEMBLES[metadata.kind]
    generator_inputs = {tensor.name: tensor.name for tensor in inputs(metadata)}
    second_inputs = {
        "image": "image",
        **({"label": "label"} if second == "discriminator" and metadata.num_classes else {}),
    }
    second_outputs = {tensor.name: tensor.name for tensor in outputs(metadata) if tensor.name != "image"}
    return [
        {
            "model_name": model_name("generator", metadata.generator),
            "model_version": -1,
            "input_map": generator_inputs,
            "output_map": {"image": "image"},
        },
        {
            "model_name": model_name(second, metadata.generator),
            "model_version": -1,
            "input_map": second_inputs,
            "output_map": second_outputs,
        },
    ]
