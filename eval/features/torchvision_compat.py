"""torchvision, imported where it otherwise would not be, and torch-fidelity, which needs it."""

from functools import cache
from importlib import import_module
from types import ModuleType

import torch

# Without its compiled operators (a torchvision built for CUDA beside a torch built for the CPU) torchvision still gives
# fake kernels to these two, which then do not exist. Nothing here calls them: declaring them is enough.
_MISSING = ("nms", "qnms")


@cache
def torchvision() -> ModuleType:
    """The package torchvision, whether or not its compiled operators fit the torch that is installed."""
    try:
        return import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        _declare_missing()
        return import_module("torchvision")


@cache
def torch_fidelity() -> ModuleType:
    """The package torch-fidelity, with all of its modules."""
    torchvision()
    return import_module("torch_fidelity")


@cache
def _declare_missing() -> torch.library.Library:
    # -> the library, which must live as long as what it declares
    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for name in _MISSING:
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")  # type: ignore[no-untyped-call]
    return library
