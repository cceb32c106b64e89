"""ONNX graphs in Triton's Python backend, for servers without the ONNX Runtime backend: runs the model.onnx beside it.

It stands alone: the server's Python has numpy and onnxruntime, and no Salon. Its settings stand in
config.pbtxt. Requests that Triton batched are computed together on a GPU. On a CPU images are computed one by one, as
gan.sampling.generate does: batches are no faster there, and no image depends on what else is asked for.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils

Arrays = dict[str, np.ndarray[Any, Any]]


class TritonPythonModel:
    """One instance of a model."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the graph. Triton calls it once."""
        config = json.loads(args["model_config"])
        self._inputs = [tensor["name"] for tensor in config["input"]]
        self._outputs = [tensor["name"] for tensor in config["output"]]
        self._limits = json.loads(config["parameters"]["limits"]["string_value"])
        self._on_gpu = args["model_instance_kind"] == "GPU"
        instances = sum(group.get("count", 1) for group in config["instance_group"])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = max((os.cpu_count() or 1) // instances, 1)
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            Path(__file__).with_name("model.onnx"),
            options,
            providers=[*(["CUDAExecutionProvider"] if self._on_gpu else []), "CPUExecutionProvider"],
        )

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request with its tensors, or with an error of its own."""
        feeds = [self._feed(request) for request in requests]
        faults = [self._fault(feed) for feed in feeds]
        valid = [feed for feed, fault in zip(feeds, faults, strict=True) if fault is None]
        answers = iter(self._answer(valid) if valid else [])
        return [
            pb_utils.InferenceResponse(error=pb_utils.TritonError(fault, pb_utils.TritonError.INVALID_ARG))
            if fault
            else pb_utils.InferenceResponse([pb_utils.Tensor(name, array) for name, array in next(answers).items()])
            for fault in faults
        ]

    def _feed(self, request: Any) -> Arrays:
        tensors = {name: pb_utils.get_input_tensor_by_name(request, name) for name in self._inputs}
        return {name: tensor.as_numpy() for name, tensor in tensors.items() if tensor is not None}

    def _fault(self, feed: Arrays) -> str | None:
        if missing := [name for name in self._inputs if name not in feed]:
            return f"{missing[0]} must be given; it is missing"
        if empty := [name for name, array in feed.items() if not array.size]:
            return f"{empty[0]} must not be empty; its shape is {list(feed[empty[0]].shape)}"
        for name, (low, high) in self._limits.items():
            wrong = feed[name][~((feed[name] >= low) & (feed[name] <= high))]  # also what is no number
            if wrong.size:
                return f"{name} must be numbers from {low:.10g} to {high:.10g}; got {wrong.flat[0]:.10g} instead"
        return None

    def _answer(self, feeds: list[Arrays]) -> list[Arrays]:
        batch = {name: np.concatenate([feed[name] for feed in feeds]) for name in self._inputs}
        rows = len(batch[self._inputs[0]])
        step = rows if self._on_gpu else 1
        parts = [
            self._session.run(self._outputs, {name: array[at : at + step] for name, array in batch.items()})
            for at in range(0, rows, step)
        ]
        outputs = [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]
        ends = np.cumsum([len(feed[self._inputs[0]]) for feed in feeds])[:-1]
        split = zip(*(np.split(array, ends) for array in outputs), strict=True)
        return [dict(zip(self._outputs, arrays, strict=True)) for arrays in split]
