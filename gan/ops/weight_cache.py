"""Inference-time cache of tensors derived from the weights, such as transformed kernels."""

from collections.abc import Callable
from contextvars import ContextVar, Token

import torch
from torch import nn


class WeightCache:
    """Inference-time cache of tensors derived from the weights (e.g. modulated kernels), a context manager.

    Assumes constant weights while active. Re-entrant. It cannot notice that a weight changed, since optimizers need not
    count their steps: whoever enters it vouches for that.
    """

    def __init__(self) -> None:
        # The weight is kept beside its tensor, so that its id stays its own.
        self._kept: dict[tuple[int, str], tuple[torch.Tensor, torch.Tensor]] = {}
        self._tokens: list[Token[WeightCache | None]] = []

    def __enter__(self) -> None:
        self._tokens.append(_active.set(self))

    def __exit__(self, *_error: object) -> None:
        _active.reset(self._tokens.pop())

    def get(self, weight: torch.Tensor, name: str, make: Callable[[], torch.Tensor]) -> torch.Tensor:
        """make(), called only the first time for each weight and name."""
        key = id(weight), name
        if key not in self._kept:
            self._kept[key] = weight, make()
        return self._kept[key][1]


_active: ContextVar[WeightCache | None] = ContextVar("weight_cache", default=None)


def cached(weight: torch.Tensor, name: str, make: Callable[[], torch.Tensor]) -> torch.Tensor:
    """make(), or its earlier result from the active WeightCache, if `weight` is a parameter and gradients are off."""
    if torch.compiler.is_compiling():  # a graph is made once, and knows no cache
        return make()
    cache = _active.get()
    if cache is None or not isinstance(weight, nn.Parameter) or torch.is_grad_enabled():
        return make()
    return cache.get(weight, name, make)


def cast(weight: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The weight in another dtype; itself in its own."""
    return weight if weight.dtype == dtype else cached(weight, f"{dtype}", lambda: weight.to(dtype))
