"""The weights of a blend. A layer is what one w of ws drives, as in style mixing.

Layer 0 is the constant and the first convolution. With k from 1 on, layer 2k-1 is the first convolution of the block of
4 * 2^k cells and the ToRGB of the block below, layer 2k the block's second convolution; the last is its ToRGB alone.
"""

from collections.abc import Mapping

import torch

from gan.config import NetworkConfig
from gan.errors import RequestError

Weights = Mapping[str, torch.Tensor]


def layers(config: NetworkConfig) -> dict[str, int]:
    """Prefix of the names of weights, such as synthesis.b8.conv0., -> the layer that they belong to."""
    found = {"synthesis.b4.const": 0}
    for k, resolution in enumerate(config.resolutions()):
        block = f"synthesis.b{resolution}"
        found |= {f"{block}.conv1.": 2 * k, f"{block}.torgb.": 2 * k + 1}
        if k:
            found[f"{block}.conv0."] = 2 * k - 1
    return found


def blended(
    a: Weights, b: Weights, config: NetworkConfig, *, from_layer: int | None, weight: float, mapping: str | None
) -> dict[str, torch.Tensor]:
    """Two generators' weights of `config` -> those with a's layers below `from_layer`, and from there on
    a + weight (b - a), exactly b at 1 and a at 0.

    `from_layer` None: all are interpolated. `mapping` a or b: whose mapping network it has, with its w_avg; None: a's
    with `from_layer`, else interpolated too. Raises RequestError for a layer that the generator has not.
    """
    if from_layer is not None and not 0 <= from_layer <= config.num_ws:
        raise RequestError(f"`from_layer` must be from 0 to {config.num_ws}, all of A; got {from_layer} instead")
    of = layers(config)
    mapping_weight = {"a": 0.0, "b": 1.0, None: weight if from_layer is None else 0.0}[mapping]

    def share(name: str) -> float:
        if name.startswith("mapping."):
            return mapping_weight
        layer = next(layer for prefix, layer in of.items() if name.startswith(prefix))
        return 0.0 if from_layer is not None and layer < from_layer else weight

    return {name: torch.lerp(value, b[name], share(name)) for name, value in a.items()}
