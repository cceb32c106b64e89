"""The style classifier's graph in int8: weights by channel, activations by their range on images of the training set.

The head is fitted to the features of the very graph that is served, so that all held-out figures are of it. Weights
have 7 bits: sums of two products then fit into the 16 bits of CPUs without VNNI, and no CPU computes anything else.
"""

import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from eval.features.extractor import BATCH_SIZE, Extractor, as_rgb
from eval.features.registry import Network
from gan.data.images import Pixels
from gan.errors import RequestError
from gan.runtime.files import atomic, sha256
from serving.contract import CLASSIFIER, PARAMETER, ModelMetadata
from serving.export import onnx_file
from serving.style import onnx_classifier
from serving.style.head import Floats, Head
from serving.style.onnx_classifier import FEATURES

NETWORKS = ("efficientnet-lite0",)  # made for it: no activation is unbounded
OPERATORS = ("Conv", "Clip", "Add", "GlobalAveragePool")
CALIBRATION = 48  # images


class Int8Extractor(Extractor):
    """An unfinished int8 graph as an extractor: images of any sizes -> features float32 [N, D], the mean over views."""

    def __init__(self, graph: Path, network: Network, weights: Path) -> None:
        self.name, self.dim, self.has_logits = network.name, network.dim, False
        self.device, self.batch_size = torch.device("cpu"), BATCH_SIZE
        self.identity = {
            "extractor": network.name,
            "precision": "int8",
            "backend": "onnxruntime",
            "weights": sha256(weights),
            "graph": sha256(graph),
        }
        self._session = onnx_file.open_session(graph)

    def __call__(self, pixels: Pixels | Sequence[Pixels]) -> dict[str, Floats]:
        """uint8 images [H, W, 3] -> {"features": float32 [N, D]}."""
        rows = [self._session.run([FEATURES], {"image": image[None]})[0] for image in as_rgb(pixels)]
        return {"features": np.concatenate([np.empty([0, self.dim], np.float32), *rows])}


def write(network: Network, weights: Path, styles: Sequence[str], images: Sequence[Pixels], path: Path) -> None:
    """Write an unfinished int8 graph for these styles, calibrated on images [H, W, 3]. `finish` gives it its head.

    Raises RequestError for a network that is not made for int8.
    """
    from onnxruntime import quantization

    if network.name not in NETWORKS:
        raise RequestError(f"`precision` int8 needs `extractor` {', '.join(NETWORKS)}; got {network.name} instead")
    about = ModelMetadata(kind=CLASSIFIER, styles=list(styles))
    blank = Head(
        weight=np.zeros([len(styles), network.dim], np.float32),
        bias=np.zeros(len(styles), np.float32),
        strength=0.0,
        temperature=1.0,
    )

    class Images(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._images = iter(images)

        def get_next(self) -> dict[str, Any] | None:
            image = next(self._images, None)
            return None if image is None else {"image": image[None]}

    with tempfile.TemporaryDirectory() as folder, _quiet():
        plain = Path(folder) / "fp32.onnx"
        onnx_classifier.write(blank, network, weights, about, plain)
        quantization.quantize_static(
            plain,
            path,
            Images(),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=list(OPERATORS),
            nodes_to_quantize=_trunk(plain),
            per_channel=True,
            reduce_range=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )


def finish(graph: Path, head: Head, about: ModelMetadata, out: Path) -> None:
    """Write an int8 graph with its head and metadata, atomically."""
    import onnx

    model = onnx.load(graph)
    for tensor in model.graph.initializer:
        if tensor.name in ("weight", "bias"):
            tensor.CopyFrom(onnx.numpy_helper.from_array(getattr(head, tensor.name), tensor.name))
    for entry in model.metadata_props:
        if entry.key == PARAMETER:
            entry.value = about.to_json()
    with atomic(out) as temporary:
        onnx.save(model, temporary)
        onnx_file.drop_outputs(temporary, [FEATURES])
        onnx_file.check(temporary, about)


def _trunk(path: Path) -> list[str]:
    # The nodes that become int8: resize and head stay as they are.
    import onnx

    return [node.name for node in onnx.load(path).graph.node if "/trunk/" in node.name and node.op_type in OPERATORS]


@contextmanager
def _quiet() -> Iterator[None]:
    # Without the quantizer's advice to preprocess, which the export has done.
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(before)
