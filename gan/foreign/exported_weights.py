"""Salon's weights by the names and in the layouts of other implementations: the inverse of gan.foreign.weight_names.

[O, I, kh, kw] is ours; TensorFlow's is [kh, kw, I, O], and [I, O] for fully connected layers.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gan.foreign.weight_names import Weights
from gan.ops.upfirdn2d import setup_filter

Array = NDArray[Any]

_TF_LAYERS = {"conv0": "Conv0_up", "conv1": "Conv1", "torgb": "ToRGB"}  # of a generator's blocks above 4x4
_TF_D_LAYERS = {"fromrgb": "FromRGB", "conv0": "Conv0", "conv1": "Conv1_down", "skip": "Skip"}
_TF_D_LAYERS |= {"conv": "Conv", "fc": "Dense0"}  # of the last block
_ROSINALITY_D = {  # layer of a block -> the places of its weight and of its bias in a row of modules
    "conv0": ("conv1.0", "conv1.1"),
    "conv1": ("conv2.1", "conv2.2"),
    "skip": ("skip.1", ""),
}
_ROSINALITY_LAST = {
    "conv": ("final_conv.0", "final_conv.1"),
    "fc": ("final_linear.0", "final_linear.0"),
    "out": ("final_linear.1", "final_linear.1"),
}


def tf_generator(weights: Weights) -> dict[str, Weights]:
    """TensorFlow's variables of a generator: its own ("") and those of its parts, mapping and synthesis."""
    parts: dict[str, Weights] = {"": {}, "mapping": {}, "synthesis": {}}
    for name, array in weights.items():
        part, block, *rest = name.split(".")
        if block == "w_avg":
            parts[""]["dlatent_avg"] = array
        elif part == "mapping":
            target = f"{_tf_mapping_layer(block, 'Dense')}/{rest[0]}"
            parts["mapping"][target] = _to_tf(target, array)
        elif rest[-1] == "noise_const":
            parts["synthesis"][f"noise{_noise_index(block, rest[0])}"] = array[None, None]  # [1, 1, height, width]
        elif rest[-1] == "const":
            parts["synthesis"]["4x4/Const/const"] = array[None]  # [1, C, 4, 4]
        else:
            target = _tf_synthesis_name(block, rest)
            parts["synthesis"][target] = _to_tf(target, array)
    return parts


def tf_discriminator(weights: Weights) -> Weights:
    """TensorFlow's variables of a discriminator."""
    variables = {}
    for name, array in weights.items():
        block, layer, kind = name.split(".")
        if block == "mapping":
            target = f"{_tf_mapping_layer(layer, 'Mapping')}/{kind}"
        elif layer == "out":
            target = f"Output/{kind}"
        else:
            target = f"{_tf_block(block)}/{_TF_D_LAYERS[layer]}/{kind}"
        variables[target] = _to_tf(target, array)
    return variables


def rosinality_generator(weights: Weights) -> Weights:
    """rosinality's state dict of a generator, with its filters; mapping.w_avg lies beside it in a checkpoint."""
    state = {}
    for name, array in weights.items():
        part, block, *rest = name.split(".")
        if part == "mapping":
            if block != "w_avg":
                state[f"style.{int(block.removeprefix('fc')) + 1}.{rest[0]}"] = array  # style.0 scales z
        elif rest[-1] == "const":
            state["input.input"] = array[None]  # [1, C, 4, 4]
        elif rest[-1] == "noise_const":
            state[f"noises.noise_{_noise_index(block, rest[0])}"] = array[None, None]  # [1, 1, height, width]
        else:
            layer, kind = _rosinality_layer(block, rest[0]), rest[-1]
            if "affine" in rest:
                state[f"{layer}.conv.modulation.{kind}"] = array
            elif kind == "weight":
                state[f"{layer}.conv.weight"] = array[None]  # [1, O, I, kh, kw]
                state |= _rosinality_filter(layer, rest[0])
            elif kind == "noise_strength":
                state[f"{layer}.noise.weight"] = array.reshape(1)
            elif rest[0] == "torgb":
                state[f"{layer}.bias"] = array.reshape(1, -1, 1, 1)
            else:
                state[f"{layer}.activate.bias"] = array
    return state


def rosinality_discriminator(weights: Weights, resolution: int) -> Weights:
    """rosinality's state dict of a discriminator of square images of `resolution`, with its filters."""
    state = {}
    for name, array in weights.items():
        block, layer, kind = name.split(".")
        if layer == "fromrgb":
            place = "convs.0.0" if kind == "weight" else "convs.0.1"
        elif block == "b4":
            place = _ROSINALITY_LAST[layer][kind == "bias"]
        else:
            index = (resolution // _side(block)).bit_length()  # 1 for the block that the image enters
            place = f"convs.{index}.{_ROSINALITY_D[layer][kind == 'bias']}"
            if layer in ("conv1", "skip"):
                state[f"{place.rpartition('.')[0]}.0.kernel"] = _taps()
        state[f"{place}.{kind}"] = array
    return state


def rosinality_multiplier(channels: dict[int, int]) -> int | None:
    """The channel_multiplier with which rosinality has so many channels at each resolution; None: there is none."""
    for multiplier in (2, 1):
        if all(count == (512 if side <= 32 else 16384 * multiplier // side) for side, count in channels.items()):
            return multiplier
    return None


def _side(block: str) -> int:
    return int(block.removeprefix("b"))


def _noise_index(block: str, layer: str) -> int:
    # 0 is of 4x4, which has one layer; from there two layers a resolution.
    return 2 * (_side(block).bit_length() - 3) - (layer == "conv0")


def _tf_block(block: str) -> str:
    return f"{_side(block)}x{_side(block)}"


def _tf_mapping_layer(layer: str, prefix: str) -> str:
    return "LabelEmbed" if layer == "embed" else prefix + layer.removeprefix("fc")


def _tf_synthesis_name(block: str, rest: list[str]) -> str:
    layer = "Conv" if (block, rest[0]) == ("b4", "conv1") else _TF_LAYERS[rest[0]]
    return f"{_tf_block(block)}/{layer}/{'mod_' if 'affine' in rest else ''}{rest[-1]}"


def _to_tf(name: str, array: Array) -> Array:
    if name.endswith("/mod_bias"):
        return array.astype(np.float64) - 1  # styles are 1 + ... there; of float64 the sum is what it was
    if array.ndim == 4:
        array = array.transpose(2, 3, 1, 0)
        return array[::-1, ::-1] if "/Conv0_up/" in name else array  # its convolution flips the kernel
    return array.transpose() if array.ndim == 2 else array


def _rosinality_layer(block: str, layer: str) -> str:
    if block == "b4":
        return {"conv1": "conv1", "torgb": "to_rgb1"}[layer]
    above = _side(block).bit_length() - 4  # blocks between it and 4x4
    return f"to_rgbs.{above}" if layer == "torgb" else f"convs.{2 * above + int(layer == 'conv1')}"


def _rosinality_filter(layer: str, kind: str) -> Weights:
    # Of the layers that double the resolution, whose filter makes up for the zeros between.
    if kind == "conv0":
        return {f"{layer}.conv.blur.kernel": 4 * _taps()}
    return {f"{layer}.upsample.kernel": 4 * _taps()} if kind == "torgb" and layer != "to_rgb1" else {}


def _taps() -> Array:
    taps = setup_filter().numpy()
    return np.outer(taps, taps).astype(np.float32)
