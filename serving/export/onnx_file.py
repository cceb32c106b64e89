"""ONNX files: written from torch modules, checked, and opened in ONNX Runtime."""

import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from gan.errors import RequestError, SalonError
from gan.ops.weight_cache import WeightCache
from serving.contract import PARAMETER, ModelMetadata, inputs, outputs
from serving.export.request import OPSET as OPSET

if TYPE_CHECKING:
    import onnx
    import onnxruntime

BATCH = "batch"  # name of the symbolic first dimension
LARGEST = 2_000_000_000  # bytes of weights that fit into one file; protobuf ends at 2 GiB


def write(
    module: nn.Module,
    examples: Sequence[torch.Tensor],
    about: ModelMetadata,
    path: Path,
    beside: Sequence[str],
    opset: int = OPSET,
) -> None:
    """Write a module that takes and gives the contract's tensors, and after them those named `beside`.

    The batch is free in all of them, and what the contract leaves free.
    """
    import onnx

    ours = [*inputs(about), *outputs(about)]
    free = {tensor.name: [axis for axis, side in enumerate(tensor.dims, 1) if side < 0] for tensor in ours}
    axes = {name: {0: BATCH, **{axis: f"{name}_{axis}" for axis in free.get(name, [])}} for name in [*free, *beside]}
    with (
        tempfile.TemporaryDirectory(dir=path.parent) as folder,
        warnings.catch_warnings(),
        torch.inference_mode(),
        WeightCache(),
    ):
        traced = Path(folder) / path.name  # beside which torch lays the weights of a large one, each in a file
        warnings.simplefilter("ignore")  # of the tracing exporter's own future, and of shapes that do not change
        module.eval()(*examples)  # fills the cache: tensors derived from the weights become constants of the graph
        torch.onnx.export(
            module,
            tuple(examples),
            str(traced),
            dynamo=False,  # the other one needs onnxscript
            opset_version=opset,
            input_names=[tensor.name for tensor in inputs(about)],
            output_names=[*(tensor.name for tensor in outputs(about)), *beside],
            dynamic_axes=axes,
        )
        onnx.shape_inference.infer_shapes_path(traced)  # torch loses sides of the outputs where the batch is free
        model = onnx.load(traced)
    del model.graph.value_info[:]
    _lift_constants(model.graph)
    model.metadata_props.add(key=PARAMETER, value=about.to_json())
    _save(model, path)


def _lift_constants(graph: "onnx.GraphProto") -> None:
    # To where all weights are, and _save counts them.
    for node in [node for node in graph.node if node.op_type == "Constant" and node.attribute[0].name == "value"]:
        tensor = graph.initializer.add()
        tensor.CopyFrom(node.attribute[0].t)
        tensor.name = node.output[0]
        graph.node.remove(node)


def drop_outputs(path: Path, names: Sequence[str]) -> None:
    """Take outputs away from a file; what the others need stays as it is."""
    import onnx

    model = onnx.load(path)
    for output in [output for output in model.graph.output if output.name in names]:
        model.graph.output.remove(output)
    _save(model, path)


def convert(path: Path, opset: int) -> None:
    """Write a file of opset 18 or above in another opset. check() says whether this has all of its operators."""
    import onnx

    model = onnx.load(path)
    for entry in model.opset_import:
        if entry.domain == "":
            entry.version = opset
    if opset < 18:  # where the axes of a mean were no input yet
        constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        for node in model.graph.node:
            if node.op_type == "ReduceMean" and len(node.input) == 2 and node.input[1] in constants:
                node.attribute.append(onnx.helper.make_attribute("axes", constants[node.input.pop()].tolist()))
    _save(model, path)


def opset_of(path: Path) -> int:
    """The opset that a file is in."""
    import onnx

    return _opset(onnx.load(path, load_external_data=False))


def _opset(model: "onnx.ModelProto") -> int:
    return next(int(entry.version) for entry in model.opset_import if entry.domain == "")


def check(path: Path, about: ModelMetadata, opset: int = OPSET) -> None:
    """Raise SalonError unless the file is valid, in the opset, and has the contract's tensors for any batch."""
    import onnx

    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise SalonError(f"the exported {about.kind} is no valid ONNX: {error}") from error
    model = onnx.load(path, load_external_data=False)
    if (found_opset := _opset(model)) != opset:
        raise SalonError(f"the exported {about.kind} must be in opset {opset}; it is in {found_opset}")
    for ours, found in ((inputs(about), model.graph.input), (outputs(about), model.graph.output)):
        shapes = {value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim] for value in found}
        for tensor in ours:
            batch, *rest = shapes.get(tensor.name, [None])
            fits = len(rest) == len(tensor.dims) and all(
                isinstance(side, str) if wanted < 0 else side == wanted
                for side, wanted in zip(rest, tensor.dims, strict=True)
            )
            if not isinstance(batch, str) or not fits:
                raise SalonError(
                    f"{tensor.name} of the exported {about.kind} must be [{BATCH}, {', '.join(map(str, tensor.dims))}] "
                    f"with a free batch; got {shapes.get(tensor.name)} instead"
                )


def read_about(path: Path) -> ModelMetadata:
    """What an ONNX file of Salon says of itself. Raises RequestError for any other file."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(path, load_external_data=False)
        return ModelMetadata.from_json({entry.key: entry.value for entry in model.metadata_props}[PARAMETER])
    except (OSError, DecodeError, KeyError, ValueError) as error:
        reason = getattr(error, "strerror", None) or ("none of its metadata" if isinstance(error, KeyError) else error)
        raise RequestError(f"{path} must be an ONNX file that Salon wrote; got {reason} instead") from error


def open_session(path: Path) -> "onnxruntime.InferenceSession":
    """The file in ONNX Runtime, on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _save(model: "onnx.ModelProto", path: Path) -> None:
    import onnx

    weights = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    beside = path.with_name(f"{path.name}.data")
    beside.unlink(missing_ok=True)  # onnx would append to it
    external: dict[str, Any] = {"save_as_external_data": True, "location": beside.name}
    onnx.save(model, path, **(external if weights > LARGEST else {}))
