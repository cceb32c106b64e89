"""Class indices as the networks take them."""

from collections.abc import Sequence

import torch


def one_hot(
    classes: Sequence[int] | torch.Tensor, num_classes: int, device: torch.device | None = None
) -> torch.Tensor | None:
    """Class indices [N] -> c [N, num_classes] in torch's default dtype; None for networks without classes (0).

    `device` None: where `classes` lie.
    """
    if not num_classes:
        return None
    indices = torch.as_tensor(classes, dtype=torch.int64)
    return torch.nn.functional.one_hot(indices, num_classes).to(device, torch.get_default_dtype())
