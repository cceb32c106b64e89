"""Mixed precision: features and convolutions in bfloat16 or float16, all else in float32.

Weights, latents, styles, demodulation, the sum of the colours, D's last block, losses, gradients of weights and their
optimizers stay float32. bfloat16 has float32's range, so that nothing overflows and no loss needs scaling. float16, for
GPUs without bfloat16, has more digits and less range: its activations are limited (`conv_clamp` of NetworkConfig), the
factors of its modulated convolutions are scaled (gan.ops.modulated_conv2d.within_float16), and so are losses in
training (gan.training.loss_scale).
"""

import torch

from gan.config import PRECISIONS
from gan.errors import RequestError
from gan.networks.discriminator import Discriminator
from gan.networks.generator import Generator

_DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def apply(network: Generator | Discriminator, precision: str) -> None:
    """Make a network compute in "fp32", "bf16" or "fp16" from now on. Its weights stay float32.

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


def fp16_is_fast(device: torch.device) -> bool:
    """Whether the device multiplies float16 faster than float32: by tensor cores."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (7, 0)


def describe(device: torch.device, precision: str) -> str:
    """One line for the log: the precision, and the advice that follows from the device."""
    if precision == "fp16" and bf16_is_fast(device):
        return "fp16; `precision` bf16 is as fast here, and no step is skipped for an overflow"
    fast = {"bf16": bf16_is_fast(device), "fp16": fp16_is_fast(device)}
    if precision != "fp32" and not fast[precision]:
        return f"{precision}, which this device computes no faster than fp32: `precision` fp32 is as fast and exact"
    faster = [name for name in fast if fast[name]]
    return f"fp32; `precision` {faster[0]} is faster here" if precision == "fp32" and faster else precision
