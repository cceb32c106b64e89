"""DiffAugment (Zhao et al. 2020): colour, translation and cutout of every image, without any adjustment.

Random numbers come from torch's global generator of the images' device.
"""

import torch

SHIFT = 0.125  # largest translation, as a share of the image
CUTOUT = 0.5  # sides of the rectangle that is cut out, as a share of the image's


def diff_augment(img: torch.Tensor) -> torch.Tensor:
    """Augment [N, C, H, W] in [-1, 1] -> the same shape. Differentiates to any order."""
    with img.device:
        return cut_out(translate(recolour(img)))


def recolour(img: torch.Tensor) -> torch.Tensor:
    """Brightness by up to 0.5, saturation by 0 to 2 about each pixel's grey, contrast by 0.5 to 1.5 about the mean.

    An alpha stays as it is.
    """
    if img.shape[1] == 4:
        return torch.cat([recolour(img[:, :3]), img[:, 3:]], dim=1)
    brightness, saturation, contrast = torch.rand(3, len(img), 1, 1, 1).to(img.device, img.dtype).unbind()
    img = img + (brightness - 0.5)
    grey = img.mean(1, keepdim=True)
    img = grey + (img - grey) * (2 * saturation)
    mean = img.mean([1, 2, 3], keepdim=True)
    return mean + (img - mean) * (contrast + 0.5)


def translate(img: torch.Tensor) -> torch.Tensor:
    """Shift by whole pixels, up to an eighth of the image each way; zeros come in."""
    rows, row_inside = _shifted(len(img), img.shape[2])
    columns, column_inside = _shifted(len(img), img.shape[3])
    index = (rows[:, :, None] * img.shape[3] + columns[:, None, :]).flatten(1)[:, None].to(img.device)  # [N, 1, H*W]
    inside = (row_inside[:, :, None] & column_inside[:, None, :])[:, None].to(img.device)
    moved = img.flatten(2).gather(2, index.expand(-1, img.shape[1], -1)).view(img.shape)
    return moved.masked_fill(~inside, 0)


def cut_out(img: torch.Tensor) -> torch.Tensor:
    """Zero a rectangle of half the image's sides at a random place, as far as it lies in the image."""
    sides = []
    for size in img.shape[2:]:
        side = int(size * CUTOUT + 0.5)
        first = torch.randint(size + 1 - side % 2, [len(img), 1]) - side // 2
        pixels = torch.arange(size)
        sides.append((pixels >= first) & (pixels < first + side))  # [N, size]
    y, x = sides
    return img.masked_fill((y[:, :, None] & x[:, None, :])[:, None].to(img.device), 0)


def _shifted(n: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    # -> the source of each pixel along an axis [N, size], clamped, and whether it lies in the image
    reach = int(size * SHIFT + 0.5)
    source = torch.arange(size) - torch.randint(-reach, reach + 1, [n, 1])
    return source.clamp(0, size - 1), (source >= 0) & (source < size)
