"""One network of a snapshot as an ONNX file, compared with PyTorch, with the metadata that goes into it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from gan import __version__
from gan.image_shape import SQUARE
from gan.snapshot import Snapshot
from serving.contract import ModelMetadata, inputs
from serving.export import onnx_file
from serving.export.parity import Bounds, Reference, Run


def describe(source: Snapshot, digest: str, kind: str, name: str, styles: Sequence[str] = ()) -> ModelMetadata:
    """Metadata of a model of the snapshot, whose file has the SHA-256 `digest`; `name` is the generator's."""
    network = source.config.network
    square = network.base == SQUARE
    return ModelMetadata(
        kind=kind,
        generator=name,
        z_dim=network.z_dim,
        w_dim=network.w_dim,
        num_ws=network.num_ws,
        resolution=network.resolution,
        width=None if square else network.shape.width,
        height=None if square else network.shape.height,
        channels=network.image_channels,
        num_classes=network.num_classes,
        classes=source.classes or [],
        snapshot=digest,
        cur_nimg=source.cur_nimg,
        styles=list(styles),
        salon=__version__,
    )


def write(
    module: nn.Module,
    given: tuple[str, ...],
    about: ModelMetadata,
    path: Path,
    reference: Reference,
    bounds: Bounds,
    opset: int = onnx_file.OPSET,
) -> float:
    """Write a module that gives `given`, without img -> the largest difference of its float tensors from PyTorch's.

    Raises SalonError where it is out of `bounds`.
    """
    beside = ("img",) if "img" in given else ()
    names = tuple(tensor.name for tensor in inputs(about))
    tensors = reference.tensors
    # Two images: with one, an exporter may take the batch for a constant.
    examples = [torch.from_numpy(np.resize(tensors[n], [2, *tensors[n].shape[1:]])) for n in names]
    onnx_file.write(module, examples, about, path, beside, opset)
    onnx_file.check(path, about, opset)
    difference = reference.compare(runner(path, given), about, names, given, bounds)
    if beside:
        onnx_file.drop_outputs(path, beside)
        reference.compare(runner(path, ("image",)), about, names, ("image",), bounds)
    return difference


def runner(path: Path, given: Sequence[str]) -> Run:
    """What runs an ONNX file, from inputs to the outputs `given`, by name."""
    session = onnx_file.open_session(path)
    return lambda feed: dict(zip(given, session.run(list(given), feed), strict=True))
