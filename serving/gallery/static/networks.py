"""Mapping and synthesis of a snapshot as ONNX files for a page, with weights of half the size where that shows nowhere.

Axis legend: ws [N, L, w_dim]; image uint8 NHWC.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gan.runtime.console import say
from gan.snapshot import Snapshot
from serving.contract import ModelMetadata, inputs
from serving.export import networks
from serving.export.generator_graph import ImageFromWs, MappingGraph, SynthesisGraph
from serving.export.parity import BOUNDS, Reference, make_reference

if TYPE_CHECKING:
    import onnx

COMPARED = 16  # images
HALVED = 1024  # values that a tensor has at least, where it is stored in half the size
MOST = 1  # levels that halved weights may be off in these images, so that all others stay within two
FILES = {"mapping": "mapping.onnx", "synthesis": "synthesis.onnx"}


def write(source: Snapshot, digest: str, out: Path) -> str:
    """Write FILES into the folder `out` -> the precision of the weights in them, "fp16" or "fp32".

    They compute in float32 either way. `digest` is the SHA-256 of the snapshot's file. Raises SalonError when a graph
    does not compute what PyTorch does.
    """
    G = source.G_ema
    reference = make_reference(G, COMPARED, None)
    modules = {"mapping": MappingGraph(G), "synthesis": ImageFromWs(SynthesisGraph(G.synthesis))}
    given = {"mapping": ("ws",), "synthesis": ("image", "img")}
    about = {kind: networks.describe(source, digest, kind, "generator") for kind in FILES}
    for kind, name in FILES.items():
        networks.write(modules[kind], given[kind], about[kind], out / name, reference, BOUNDS["fp32"])
    off = 0
    for kinds in (tuple(FILES), ("synthesis",)):  # the mapping's are few, and the whole image follows from them
        halved = {kind: out / f"half-{FILES[kind]}" for kind in kinds}
        for kind in kinds:
            _halve(out / FILES[kind], halved[kind])
        off = _off({kind: halved.get(kind, out / name) for kind, name in FILES.items()}, about["mapping"], reference)
        for kind in kinds:
            if off <= MOST:
                halved[kind].replace(out / FILES[kind])
            else:
                halved[kind].unlink()
        if off <= MOST:
            return "fp16"
    say(f"Weights stay in fp32: in fp16 images would be {off} levels off")
    return "fp32"


def _off(files: dict[str, Path], mapping: ModelMetadata, reference: Reference) -> int:
    # Levels by which images are off at most.
    to_ws, to_image = (
        networks.runner(files[kind], (name,)) for kind, name in (("mapping", "ws"), ("synthesis", "image"))
    )
    names, largest = [tensor.name for tensor in inputs(mapping)], 0
    for row in range(len(reference)):
        ws = to_ws({name: reference.tensors[name][row : row + 1] for name in names})
        image = to_image(ws)["image"].astype(int)
        largest = max(largest, int(np.abs(image - reference.tensors["image"][row : row + 1]).max()))
    return largest


def _halve(path: Path, out: Path) -> None:
    # Large tensors are stored as float16 and cast to float32 by a node of the graph, once, when it is loaded.
    import onnx

    model = onnx.load(path)
    casts = [_stored_as_half(tensor) for tensor in model.graph.initializer if _is_large(tensor)]
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, out)


def _is_large(tensor: "onnx.TensorProto") -> bool:
    import onnx

    values = onnx.numpy_helper.to_array(tensor)
    # Beyond float16's largest number they would become infinite.
    return tensor.data_type == onnx.TensorProto.FLOAT and values.size >= HALVED and bool(np.abs(values).max() < 65000)


def _stored_as_half(tensor: "onnx.TensorProto") -> "onnx.NodeProto":
    import onnx

    name, values = tensor.name, onnx.numpy_helper.to_array(tensor)
    tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), f"{name}_half"))
    return onnx.helper.make_node("Cast", [tensor.name], [name], to=onnx.TensorProto.FLOAT)
