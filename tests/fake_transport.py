"""A server without a server: small models in numpy, in the place of serving.client.transport's transports."""

import json
import threading
from dataclasses import dataclass, field

import numpy as np
from conftest import HANG

from gan.errors import RequestError
from serving.client.retry import Unavailable
from serving.contract import (
    CLASSIFIER,
    DEFAULT_NAME,
    MAX_BATCH,
    PARAMETER,
    VERSIONS,
    ModelMetadata,
    inputs,
    model_name,
    outputs,
)

STYLES = ["Cubism", "Impressionism", "Rococo"]
KINDS = ("generator", "mapping", "synthesis", CLASSIFIER, "generate_and_score", "generate_and_classify")


def about(kind, generator=DEFAULT_NAME, classes=()):
    """What a model of a painter of 16x16 images says of itself."""
    styles = STYLES if kind in (CLASSIFIER, "generate_and_classify") else []
    sizes = {"z_dim": 8, "w_dim": 8, "num_ws": 6, "resolution": 16}
    named = {"num_classes": len(classes), "classes": list(classes)}
    return ModelMetadata(
        kind=kind, generator=generator, snapshot="5a1017", cur_nimg=32, styles=styles, **sizes, **named
    )


def picture(w):
    """w [8] -> the picture that is painted from it, uint8 [16, 16, 3]."""
    wave = np.outer(np.cos(np.arange(16) * w[0]), np.sin(np.arange(16) * w[1] + w[2]))
    return (127.5 + 127 * wave[:, :, None] * np.cos(w[3:6])).astype(np.uint8)


def judge(image):
    """uint8 [H, W, 3] -> probabilities [3], from the mean of each colour."""
    scores = np.exp(image.mean((0, 1)) / 64)
    return (scores / scores.sum()).astype(np.float32)


@dataclass
class FakeTransport:
    """Serves `models` by name. `away` answers are "not available" before the first that is given."""

    url: str = "grpc://fake:1"
    models: dict = field(default_factory=lambda: {model_name(kind): about(kind) for kind in KINDS})
    version: int = 1  # of all models
    max_batch: int | None = None  # of all models; None: not told
    earlier: dict = field(default_factory=dict)  # name -> {version: metadata} that is served beside it
    away: int = 0
    asked: list = field(default_factory=list)  # of infer: model, inputs, outputs, in the order in which they came
    asked_versions: set = field(default_factory=set)
    delay: threading.Event | None = None  # infer waits for it
    closed: bool = False

    def infer(self, model, arrays, wanted, timeout, version=None, cancel=None):
        self.asked.append((model, arrays, wanted))
        self.asked_versions.add(version)
        if self.delay:
            assert self.delay.wait(HANG)
        self._available()
        if model not in self.models:
            raise RequestError(f"no model {model}")
        if version not in (None, *self._versions(model)):
            raise RequestError(f"Request for unknown model: '{model}' version {version} is not found")
        about, count = self.models[model], len(next(iter(arrays.values())))
        assert set(arrays) == {tensor.name for tensor in inputs(about)} and 1 <= count <= (self.max_batch or MAX_BATCH)
        for tensor in inputs(about):
            array = arrays[tensor.name]
            fits = zip(tensor.dims, array.shape[1:], strict=True)
            assert len(array) == count and all(wanted in (-1, found) for wanted, found in fits)
            assert array.dtype == {"FP32": np.float32, "INT64": np.int64, "UINT8": np.uint8}[tensor.dtype]
        assert set(wanted) <= {tensor.name for tensor in outputs(about)}
        found = self._compute(about, arrays)
        return {name: found[name] for name in wanted}

    def _compute(self, about, arrays):
        if about.kind == CLASSIFIER:
            return {"probabilities": np.stack([judge(image) for image in arrays["image"]])}
        if about.kind == "synthesis":
            w = arrays["ws"].mean(1)
        else:
            w = arrays["z"] * arrays["truncation_psi"] + arrays.get("label", 0)
        images = np.stack([picture(row) for row in w])
        return {
            "ws": np.repeat(w[:, None], 6, axis=1).astype(np.float32),
            "image": images,
            "logit": w[:, :1].astype(np.float32),
            "probabilities": np.stack([judge(image) for image in images]),
        }

    def server(self, timeout):
        self._available()
        return {"name": "triton", "version": "2.51.0", "extensions": []}

    def ready(self, timeout):
        return True

    def index(self, timeout):
        self._available()
        return [
            {"name": name, "version": str(version), "state": "READY"}
            for name in self.models
            for version in self._versions(name)
        ]

    def _versions(self, model):
        return {**self.earlier.get(model, {}), self.version: self.models[model]}

    def config(self, model, timeout):
        self._available()
        if model not in self.models:
            raise RequestError(f"no model {model}")
        about = self.models[model]
        parameters = {PARAMETER: about.to_json()} if about else {}
        if self.earlier:
            parameters[VERSIONS] = json.dumps({v: told.to_dict() for v, told in self._versions(model).items()})
        batch = {"max_batch_size": self.max_batch} if self.max_batch else {}
        return {"name": model, **batch, "parameters": {key: {"string_value": text} for key, text in parameters.items()}}

    def statistics(self, timeout):
        counted = {"success": {"count": "2", "ns": "5000000"}, "fail": {}, "queue": {"count": "2", "ns": "3000000"}}
        return [{"name": "generator", "version": "1", "inference_count": "8", "inference_stats": counted}]

    def close(self):
        self.closed = True

    def _available(self):
        if self.away:
            self.away -= 1
            raise Unavailable(f"{self.url} is not available")
