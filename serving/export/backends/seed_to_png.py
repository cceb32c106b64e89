"""Bytes of an image file from a seed, in Triton's Python backend: z is drawn here, and the generator gives the image.

The generator is asked in this model's own version, which is that of one export.

It stands alone: the server's Python has numpy and Pillow, and no Salon. draw() is gan.sampling.latents.draw, and
encode() gan.data.images.encode; tests compare them. gan.data.xmp lies beside it as salon_xmp.py.
"""

import asyncio
import base64
import io
import json
from typing import Any

import numpy as np
import salon_xmp
import triton_python_backend_utils as pb_utils
from PIL import Image

Array = np.ndarray[Any, Any]
BASE64 = ";base64"
LOADING, PAUSE = 100, 0.1  # attempts until the generator is ready, and seconds between two
OPTIONS: dict[str, dict[str, Any]] = {
    "png": {},
    "jpeg": {"quality": 95, "subsampling": 0, "optimize": True},
    "webp": {"lossless": True, "quality": 95, "method": 4},
}


def draw(seeds: Array, z_dim: int) -> Array:
    """z float32 [N, z_dim] of seeds [N]."""
    return np.stack([np.random.RandomState(seed).standard_normal(z_dim) for seed in seeds]).astype(np.float32)


def encode(pixels: Array, format: str, recipe: dict[str, Any]) -> bytes:
    """Bytes of the file of an image uint8 [H, W, C], with its recipe, or their base64 where the format ends so."""
    name = format.removesuffix(BASE64)
    buffer = io.BytesIO()
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    options = OPTIONS[name] | salon_xmp.save_options(recipe, name)
    if image.mode == "RGBA" and name == "jpeg":
        colour, alpha = pixels[..., :3].astype(np.int64), pixels[..., 3:].astype(np.int64)
        image = Image.fromarray(((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8))
    elif image.mode == "RGBA" and name == "webp":
        options = {**options, "exact": True}
    image.save(buffer, name.upper(), **options)
    return buffer.getvalue() if name == format else base64.b64encode(buffer.getvalue())


class TritonPythonModel:
    """One instance of a model."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the settings of config.pbtxt. Triton calls it once."""
        config = json.loads(args["model_config"])
        parameters = config["parameters"]
        metadata = json.loads(parameters["salon"]["string_value"])
        self._limits = json.loads(parameters["limits"]["string_value"])
        self._generator, self._z_dim = metadata["generator"], metadata["z_dim"]
        self._version = int(args["model_version"])
        self._recipe = {
            "kind": "image",
            "noise_mode": "const",
            "model": f"{self._generator} {self._version}",
            "snapshot": metadata["snapshot"],
            "salon": metadata["salon"],
        }
        self._classes = metadata["classes"]
        self._required = [tensor["name"] for tensor in config["input"] if not tensor.get("optional")]

    async def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request with its files, or with an error of its own. The generator may batch what they ask."""
        return await asyncio.gather(*(self._answer(request) for request in requests))

    async def _answer(self, request: Any) -> Any:
        try:
            return pb_utils.InferenceResponse([pb_utils.Tensor("file", await self._files(request))])
        except pb_utils.TritonModelException as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error)))
        except ValueError as error:
            fault = pb_utils.TritonError(str(error), pb_utils.TritonError.INVALID_ARG)
            return pb_utils.InferenceResponse(error=fault)

    async def _files(self, request: Any) -> Array:
        given = {name: self._numbers(request, name) for name in self._limits}
        seeds = given.pop("seed")
        formats = self._formats(request, len(seeds))
        if given["truncation_psi"] is None:
            given["truncation_psi"] = np.ones([len(seeds), 1], np.float32)
        inputs = {"z": draw(seeds[:, 0], self._z_dim), **given}
        asked = pb_utils.InferenceRequest(
            model_name=self._generator,
            model_version=self._version,
            requested_output_names=["image"],
            inputs=[pb_utils.Tensor(name, array) for name, array in inputs.items()],
            preferred_memory=pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_CPU, 0),
        )
        generated = await asked.async_exec()
        for _ in range(LOADING):  # a server that takes up a new version may have this model before the generator
            if not generated.has_error() or "is not ready" not in generated.error().message():
                break
            await asyncio.sleep(PAUSE)
            generated = await asked.async_exec()
        if generated.has_error():
            raise pb_utils.TritonModelException(f"{self._generator} could not generate: {generated.error().message()}")
        image = pb_utils.get_output_tensor_by_name(generated, "image").as_numpy()
        files = []
        for row, (pixels, format) in enumerate(zip(image, formats, strict=True)):
            psi = float(f"{given['truncation_psi'][row, 0]:.7g}")  # of 32 bits
            recipe = {**self._recipe, "seeds": [int(seeds[row, 0])], "truncation_psi": psi}
            if "label" in given:
                label = int(given["label"][row, 0])
                recipe["class_name"] = self._classes[label] if self._classes else str(label)
            files.append([encode(pixels, format, recipe)])
        return np.array(files, np.object_)

    def _numbers(self, request: Any, name: str) -> Any:
        tensor = pb_utils.get_input_tensor_by_name(request, name)
        if tensor is None:
            if name in self._required:  # Triton only counts the inputs, and takes an optional one for it
                raise ValueError(f"{name} must be given; it is missing")
            return None
        numbers, (low, high) = tensor.as_numpy(), self._limits[name]
        wrong = numbers[~((numbers >= low) & (numbers <= high))]  # also what is no number
        if wrong.size:
            raise ValueError(f"{name} must be numbers from {low:.10g} to {high:.10g}; got {wrong.flat[0]:.10g} instead")
        return numbers

    def _formats(self, request: Any, count: int) -> list[str]:
        tensor = pb_utils.get_input_tensor_by_name(request, "format")
        if tensor is None:
            return ["png"] * count
        formats = [value.decode(errors="replace") for value in tensor.as_numpy()[:, 0]]
        for format in formats:
            if format.removesuffix(BASE64) not in OPTIONS:
                known = ", ".join(OPTIONS)
                raise ValueError(f"format must be one of {known}, also with {BASE64} after it; got {format} instead")
        return formats
