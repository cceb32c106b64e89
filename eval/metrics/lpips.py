"""LPIPS: how different two images look, by VGG16's features (Zhang et al. 2018). From 0 up."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import nn

from gan.errors import RequestError
from gan.runtime.file_kinds import why_unreadable

# Convolutions of each stage by their place in torchvision's vgg16.features; a pooling lies before all but the first.
STAGES = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))
SMALLEST = 2 ** (len(STAGES) - 1)  # side in pixels that the poolings leave one of
# ImageNet's mean and deviation for img in [-1, 1], as the authors of LPIPS round them.
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
LARGEST = 256  # pixels a side that judged images have at most (Karras et al. 2019, 2020)


class Lpips(nn.Module):
    """Distance [N] of img pairs, float32 NCHW in [-1, 1] but not clamped.

    Features are never rounded to pixels: at small steps rounding would be all that is seen.
    """

    shift: torch.Tensor
    scale: torch.Tensor

    def __init__(self, vgg: Mapping[str, torch.Tensor], linear: Mapping[str, torch.Tensor]) -> None:
        """From VGG16's weights in torchvision's names and the heads' as `lin0.model.1.weight`.

        Raises RequestError for a tensor that is missing or of another shape.
        """
        super().__init__()
        self.stages = [[_convolution(vgg, f"features.{index}") for index in stage] for stage in STAGES]
        self.convolutions = nn.ModuleList(convolution for stage in self.stages for convolution in stage)
        for index, stage in enumerate(self.stages):
            weight = _tensor(linear, f"lin{index}.model.1.weight", (1, stage[-1].out_channels, 1, 1))
            self.register_buffer(f"linear{index}", weight)
        self.register_buffer("shift", torch.tensor(SHIFT).reshape(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor(SCALE).reshape(1, 3, 1, 1))
        self.eval().requires_grad_(False)

    @classmethod
    def load(cls, vgg_path: Path, linear_path: Path) -> "Lpips":
        """Read both files as tensors alone. Raises RequestError when one is missing or is something else."""
        vgg = _read(vgg_path, "VGG16's weights as torchvision saves them (vgg16-397923af.pth)")
        return cls(vgg, _read(linear_path, "the linear heads of LPIPS 0.1 for VGG (vgg.pth)"))

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """[N, 3, H, W] twice -> [N] (Zhang et al. 2018, eq. 1). Raises ValueError for other shapes or under 16 px."""
        if a.shape != b.shape or a.ndim != 4 or a.shape[1] != 3 or min(a.shape[2:]) < SMALLEST:
            raise ValueError(
                f"both images must be [N, 3, H, W] of {SMALLEST} or more pixels; got {list(a.shape)} and "
                f"{list(b.shape)} instead"
            )
        features = self.features(torch.cat([a, b]))
        return self.between([x[: len(a)] for x in features], [x[len(a) :] for x in features])

    def features(self, img: torch.Tensor) -> list[torch.Tensor]:
        """[N, 3, H, W] -> features of each stage [N, C, h, w], of length one along the channels."""
        x = (img.float() - self.shift) / self.scale
        x = x.contiguous(memory_format=torch.channels_last)
        features = []
        for index, stage in enumerate(self.stages):
            x = nn.functional.max_pool2d(x, 2) if index else x
            for convolution in stage:
                x = nn.functional.relu(convolution(x))
            features.append(of_length_one(x))
        return features

    def between(self, a: Sequence[torch.Tensor], b: Sequence[torch.Tensor]) -> torch.Tensor:
        """Distance [N] of images by their features; those of one image may stand beside N."""
        distance = torch.zeros(max(len(a[0]), len(b[0])), device=a[0].device)
        for index, (of_a, of_b) in enumerate(zip(a, b, strict=True)):
            weight = getattr(self, f"linear{index}")
            difference = (of_a - of_b).square()  # [N, C, h, w]
            distance = distance + nn.functional.conv2d(difference, weight).mean(dim=(1, 2, 3))
        return distance


def of_length_one(x: torch.Tensor) -> torch.Tensor:
    """Features [N, C, h, w] divided by their length along the channels; where all are zero, they and gradients stay."""
    squares = x.square().sum(dim=1, keepdim=True)
    return x / (squares.clamp_min(1e-30).sqrt() + 1e-10)  # the root's own gradient at zero is infinite


def as_judged(img: torch.Tensor) -> torch.Tensor:
    """img [N, C, H, W] -> [N, 3, h, w] of at most 256 pixels a side, averaged down: grey thrice, alpha over white."""
    longest = max(img.shape[2:])
    if longest > LARGEST:
        size = [round(side * LARGEST / longest) for side in img.shape[2:]]
        img = nn.functional.interpolate(img, size, mode="area")
    if img.shape[1] == 4:  # over white, as gan.data.images.to_rgb
        alpha = ((img[:, 3:] + 1) / 2).clamp(0, 1)
        img = img[:, :3] * alpha + (1 - alpha)
    return img.expand(-1, 3, -1, -1)


def _convolution(weights: Mapping[str, torch.Tensor], name: str) -> nn.Conv2d:
    weight = _tensor(weights, f"{name}.weight", (None, None, 3, 3))
    convolution = nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1)
    bias = _tensor(weights, f"{name}.bias", (weight.shape[0],))
    convolution.load_state_dict({"weight": weight, "bias": bias})
    return convolution.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def _tensor(weights: Mapping[str, torch.Tensor], name: str, shape: tuple[int | None, ...]) -> torch.Tensor:
    tensor = weights.get(name)
    if not isinstance(tensor, torch.Tensor):
        raise RequestError(f"the weights of LPIPS must hold {name}; it is missing")
    if len(tensor.shape) != len(shape) or any(s not in (None, t) for s, t in zip(shape, tensor.shape, strict=True)):
        raise RequestError(f"{name} must have the shape {list(shape)}; got {list(tensor.shape)} instead")
    return tensor.float()


def _read(path: Path, what: str) -> Mapping[str, torch.Tensor]:
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, UnpicklingError) as error:
        raise RequestError(f"{path} must be {what}; got: {why_unreadable(path, error)}") from error
    if not isinstance(weights, Mapping):
        raise RequestError(f"{path} must be {what}; got {type(weights).__name__} instead")
    return weights
