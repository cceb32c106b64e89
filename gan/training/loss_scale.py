"""Dynamic loss scaling for float16 (Micikevicius et al. 2018, section 3.2), on the device: nothing waits for it.

A loss times a large scale has gradients that float16 does not round to zero. When one of them overflows, the step is
skipped and the scale halves; after INTERVAL good steps in a row it doubles. Scales are powers of two, which cancel to
the bit.
"""

from typing import Any

import torch

INITIAL = 2.0**16
INTERVAL = 2000  # good steps in a row until the scale doubles
FLOOR = 2.0**-14  # a gradient that overflows at this scale is an error


class LossScale:
    """The scale of a phase's loss. All that changes lies on the device, and never moves.

    `order` 1: the loss is multiplied by the scale. `order` 2, of a loss that is a square of gradients: those gradients
    are taken times the scale and divided by it before they are squared, and the loss is multiplied by its square, so
    that the second pass has the magnitudes of the first.
    """

    def __init__(self, device: torch.device, *, order: int = 1) -> None:
        self.order = order
        self.scale = torch.full([], INITIAL ** (1 / order), dtype=torch.float32, device=device)
        self.found_inf = torch.zeros([], dtype=torch.float32, device=device)  # 1: the last step is skipped
        self._good = torch.zeros([], dtype=torch.int32, device=device)  # steps in a row
        self._one = torch.ones([], dtype=torch.float32, device=device)

    @property
    def factor(self) -> torch.Tensor:
        """Of the loss, and so of its gradients; float32 []."""
        return self.scale**self.order

    def check(self, values: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Decide by the phase's scalars, inf or NaN where a gradient overflowed, whether its step is skipped.

        -> the same as far as they are errors: zero instead, unless the scale can shrink no more.
        """
        stacked = torch.stack([value.detach() for value in values.values()]).float()
        errors = torch.where(self.scale > FLOOR, 0.0, stacked)
        self.found_inf.zero_()
        torch._amp_foreach_non_finite_check_and_unscale_([stacked], self.found_inf, self._one)
        return dict(zip(values, errors.unbind(), strict=True))

    def update(self) -> None:
        """After the step, or what would have been one."""
        torch._amp_update_scale_(self.scale, self._good, self.found_inf, 2.0, 0.5, INTERVAL)

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on."""
        return {"scale": self.scale, "good": self._good}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of state_dict."""
        self.scale.copy_(state["scale"])
        self._good.copy_(state["good"])


def of_phases(device: torch.device) -> dict[str, LossScale]:
    """One for each phase of an iteration, by its name."""
    orders = {"G": 1, "path_length": 2, "D": 1, "r1": 2}
    return {name: LossScale(device, order=order) for name, order in orders.items()}
