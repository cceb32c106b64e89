"""What other implementations of StyleGAN2 call the weights, and how they lay them out.

[O, I, kh, kw] is ours; TensorFlow's is [kh, kw, I, O], and [I, O] for fully connected layers.
"""

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

Weights = dict[str, NDArray[Any]]
Rules = tuple[tuple[str, str], ...]

_TF_LAYERS: Rules = (
    (r"/", "."),
    (r"\b(\d+)x\1\b", r"b\1"),
    (r"\.Conv0(_up)?\.", ".conv0."),
    (r"\.Conv1(_down)?\.", ".conv1."),
    (r"\.ToRGB\.", ".torgb."),
    (r"\.FromRGB\.", ".fromrgb."),
    (r"\.Skip\.", ".skip."),
    (r"\.mod_(weight|bias)$", r".affine.\1"),
)
_TF_G: Rules = (
    *_TF_LAYERS,
    (r"^dlatent_avg$", "mapping.w_avg"),
    (r"^mapping\.Dense(\d+)\.", r"mapping.fc\1."),
    (r"^mapping\.LabelEmbed\.", "mapping.embed."),
    (r"^synthesis\.b4\.Const\.const$", "synthesis.b4.const"),
    (r"^synthesis\.b4\.Conv\.", "synthesis.b4.conv1."),
)
_TF_D: Rules = (
    *_TF_LAYERS,
    (r"^b4\.Conv\.", "b4.conv."),
    (r"^b4\.Dense0\.", "b4.fc."),
    (r"^Output\.", "b4.out."),
    (r"^LabelEmbed\.", "mapping.embed."),
    (r"^Mapping(\d+)\.", r"mapping.fc\1."),
)
_ROSINALITY_LAYER: Rules = (
    (r"\.conv\.weight$", ".weight"),
    (r"\.conv\.modulation\.", ".affine."),
    (r"\.noise\.weight$", ".noise_strength"),
    (r"\.activate\.bias$", ".bias"),
)
_ROSINALITY_G: Rules = (
    (r"^input\.input$", "synthesis.b4.const"),
    (r"^conv1\.", "synthesis.b4.conv1."),
    (r"^to_rgb1\.", "synthesis.b4.torgb."),
    *_ROSINALITY_LAYER,
)
_ROSINALITY_D: Rules = (
    (r"\.conv1\.0\.weight$", ".conv0.weight"),
    (r"\.conv1\.1\.bias$", ".conv0.bias"),
    (r"\.conv2\.1\.weight$", ".conv1.weight"),
    (r"\.conv2\.2\.bias$", ".conv1.bias"),
    (r"\.skip\.1\.weight$", ".skip.weight"),
    (r"^final_conv\.0\.weight$", "b4.conv.weight"),
    (r"^final_conv\.1\.bias$", "b4.conv.bias"),
    (r"^final_linear\.0\.", "b4.fc."),
    (r"^final_linear\.1\.", "b4.out."),
)


def tf_generator(variables: Weights, mapping_scale: float) -> Weights:
    """TensorFlow's variables of a generator by our names. `mapping_scale` multiplies the mapping layers' weights."""
    weights = {}
    for name, array in variables.items():
        if match := re.fullmatch(r"synthesis/noise(\d{1,2})", name):
            weights[_noise_name(int(match[1]))] = array.reshape(array.shape[-2:])
        else:
            weights[_rename(name, _TF_G)] = _from_tf(name, array)
    return _scale_mapping(weights, mapping_scale)


def tf_discriminator(variables: Weights, mapping_scale: float) -> Weights:
    """TensorFlow's variables of a discriminator by our names."""
    weights = {_rename(name, _TF_D): _from_tf(name, array) for name, array in variables.items()}
    return _scale_mapping(weights, mapping_scale)


def rosinality_generator(state: Weights) -> Weights:
    """rosinality's state dict of a generator by our names."""
    weights = {}
    for name, array in state.items():
        if match := re.fullmatch(r"noises\.noise_(\d{1,2})", name):
            weights[_noise_name(int(match[1]))] = array.reshape(array.shape[-2:])
            continue
        new = re.sub(r"^style\.(\d{1,2})\.", lambda m: f"mapping.fc{int(m[1]) - 1}.", name)
        new = re.sub(r"^convs\.(\d{1,2})\.", lambda m: f"synthesis.b{8 << int(m[1]) // 2}.conv{int(m[1]) % 2}.", new)
        new = re.sub(r"^to_rgbs\.(\d{1,2})\.", lambda m: f"synthesis.b{8 << int(m[1])}.torgb.", new)
        new = _rename(new, _ROSINALITY_G)
        if array.ndim in (4, 5) and new.endswith((".weight", ".const")):
            array = array[0]  # [1, O, I, kh, kw], [1, C, 4, 4]
        elif new.endswith(".bias"):
            array = array.reshape(-1)  # [1, 3, 1, 1]
        elif new.endswith(".noise_strength"):
            array = array.reshape(())
        weights[new] = array
    return weights


def rosinality_discriminator(state: Weights) -> Weights:
    """rosinality's state dict of a discriminator by our names."""
    blocks = {int(m[1]) for name in state if (m := re.match(r"convs\.(\d{1,2})\.", name))}
    resolution = 4 << max(blocks, default=0)
    weights = {}
    for name, array in state.items():
        new = re.sub(r"^convs\.0\.([01])\.", f"b{resolution}.fromrgb.", name)
        new = re.sub(r"^convs\.(\d{1,2})\.", lambda m: f"b{resolution >> int(m[1]) - 1}.", new)
        weights[_rename(new, _ROSINALITY_D)] = array
    return weights


def _rename(name: str, rules: Rules) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def _noise_name(index: int) -> str:
    # 0 is of 4x4, which has one layer; from there two layers a resolution.
    return f"synthesis.b{4 << (index + 1) // 2}.conv{(index + 1) % 2 if index else 1}.noise_const"


def _from_tf(name: str, array: NDArray[Any]) -> NDArray[Any]:
    if name.endswith("/mod_bias"):
        return array + np.float32(1)  # styles are 1 + ... there
    if name.endswith("/Const/const"):
        return array.reshape(array.shape[1:])  # [1, C, 4, 4]
    if array.ndim == 4:
        if name.endswith("/Conv0_up/weight"):
            array = array[::-1, ::-1]  # its transposed convolution flips the kernel
        return array.transpose(3, 2, 0, 1)
    return array.transpose() if array.ndim == 2 else array


def _scale_mapping(weights: Weights, scale: float) -> Weights:
    if scale == 1:
        return weights
    return {
        name: array * np.float32(scale) if re.match(r"mapping\.fc\d+\.", name) else array
        for name, array in weights.items()
    }
