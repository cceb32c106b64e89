"""Mixed precision: features and convolutions in bfloat16, all else in float32.

Weights, latents, styles, demodulation, the sum of the colours, D's last block, losses, gradients of weights and their
optimizers stay float32. bfloat16 has float32's range, so that nothing overflows and no loss needs scaling.
"""

import torch

from gan.config import PRECISIONS
from gan.errors import RequestError
from gan.networks.discriminator import Discriminator
from gan.networks.generator import Generator

_DTYPES = {"fp32": None, "bf16": torch.bfloat16}


def apply(network: Generator | Discriminator, precision: str) -> None:
    """Make a network compute in "fp32" or "bf16" from now on. Its weights stay float32.

    Raises RequestError for another precision.
    """
    if precision not in PRECISIONS:
        raise RequestError(f"`precision` must be one of {', '.join(PRECISIONS)}; got {precision} instead")
    trunk = network.synthesis if isinstance(network, Generator) else network
    trunk.trunk_dtype = _DTYPES[precision]


def bf16_is_fast(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 faster than float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def describe(device: torch.device, precision: str) -> str:
    """One line for the log: the precision, and the advice that follows from the device."""
    if precision == "bf16" and not bf16_is_fast(device):
        return "bf16, which this device computes no faster than fp32: `precision` fp32 is as fast and exact"
    if precision == "fp32" and bf16_is_fast(device):
        return "fp32; `precision` bf16 is faster here"
    return precision
