"""Whether training stays finite, found out on the device and read when the host asks."""

import torch

from gan.errors import SalonError


class NonFiniteError(SalonError):
    """A loss or a gradient became NaN or infinite. The weights are those of the iteration before."""


class FiniteCheck:
    """Watches the statistics of each phase of an iteration. All that changes lies on the device, and never moves.

    `found_inf`, float32 [], becomes 1 with the first value that is not finite, and stays so: a fused Adam that has it
    as its attribute of that name steps no more.
    """

    def __init__(self, device: torch.device) -> None:
        self.found_inf = torch.zeros([], dtype=torch.float32, device=device)
        self._one = torch.ones([], dtype=torch.float32, device=device)
        self._bad_iterations = torch.zeros([], dtype=torch.float64, device=device)
        self._records: dict[tuple[str, ...], torch.Tensor] = {}  # names -> values, until and with the first bad ones

    def watch(self, values: dict[str, torch.Tensor]) -> None:
        """Take in the scalars of a phase."""
        names, stacked = tuple(values), torch.stack([value.detach() for value in values.values()])
        record = self._records.setdefault(names, stacked)
        if record is stacked:
            self._records[names] = stacked.clone()
        else:
            torch.where(self.found_inf > 0, record, stacked, out=record)
        # The check of torch's own loss scaling: one kernel; it also multiplies by one.
        torch._amp_foreach_non_finite_check_and_unscale_([stacked], self.found_inf, self._one)

    def end_iteration(self) -> None:
        """Count an iteration."""
        self._bad_iterations.add_(self.found_inf)

    def require(self, iteration: int) -> None:
        """Raise NonFiniteError, with the name and the iteration of the first bad value, if there was any. Waits.

        `iteration` is the number of those that have ended.
        """
        if not self.found_inf.item():
            return
        first = iteration - int(self._bad_iterations.item())
        for names, record in self._records.items():
            for name, value in zip(names, record.tolist(), strict=True):
                if not -float("inf") < value < float("inf"):
                    raise NonFiniteError(f"{name} became {value} in iteration {first}")
        raise AssertionError("a value was not finite, and none is recorded")

    def reset(self) -> None:
        """Forget what was found."""
        self.found_inf.zero_()
        self._bad_iterations.zero_()
