"""What follows from weights alone, computed once while image after image is painted with the same weights."""

from collections.abc import Callable
from contextvars import ContextVar, Token

import torch
from torch import nn


class Frozen:
    """Within it, weights do not change, and what follows from them is kept; it may be entered again and again.

    Nothing tells when a weight did change (optimizers need not count their steps), so whoever paints says it.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[int, str], tuple[torch.Tensor, torch.Tensor]] = {}  # the weight is kept for its id
        self._tokens: list[Token[Frozen | None]] = []

    def __enter__(self) -> None:
        self._tokens.append(_active.set(self))

    def __exit__(self, *_error: object) -> None:
        _active.reset(self._tokens.pop())

    def get(self, weight: torch.Tensor, name: str, make: Callable[[], torch.Tensor]) -> torch.Tensor:
        """make(), called once for each parameter and name."""
        key = id(weight), name
        if key not in self._kept:
            self._kept[key] = weight, make()
        return self._kept[key][1]


_active: ContextVar[Frozen | None] = ContextVar("frozen", default=None)


def derived(weight: torch.Tensor, name: str, make: Callable[[], torch.Tensor]) -> torch.Tensor:
    """make(), or what it gave before where the parameter `weight` is frozen and no gradient is asked for."""
    frozen = _active.get()
    if frozen is None or not isinstance(weight, nn.Parameter) or torch.is_grad_enabled():
        return make()
    return frozen.get(weight, name, make)


def cast(weight: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The weight in another dtype; itself in its own."""
    return weight if weight.dtype == dtype else derived(weight, f"{dtype}", lambda: weight.to(dtype))
