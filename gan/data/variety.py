"""Whether a dataset has enough to learn from."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gan.data.dataset import ImageDataset
from gan.data.images import to_image

FEW = 500  # images below which a generator mostly repeats them, whatever augments them
_SAMPLE = 64  # images that are looked at
_SIDE = 8  # of the thumbnails that are compared, in pixels
_ALIKE = 4  # mean standard deviation of their pixels below which images are all alike, of 255; of paintings it is 50


def doubts(dataset: ImageDataset, indices: NDArray[np.int64]) -> list[str]:
    """What to know of the images `indices`, int64 [K], before training on them; a line each, mostly none."""
    lines = []
    if len(indices) < FEW:
        lines.append(f"{len(indices)} images are few: the generator will show little else than these")
    if len(indices) > 1 and deviation(dataset, indices) < _ALIKE:
        lines.append("The images are all alike: the generator will learn one image")
    return lines


def deviation(dataset: ImageDataset, indices: NDArray[np.int64]) -> float:
    """Mean standard deviation, over pixels, of a sample's thumbnails; in [0, 127.5]."""
    sample = indices[np.linspace(0, len(indices) - 1, min(len(indices), _SAMPLE)).astype(int)]
    thumbnails = [to_image(dataset.image(index)).resize((_SIDE, _SIDE), Image.Resampling.BOX) for index in sample]
    return float(np.stack([np.asarray(thumbnail) for thumbnail in thumbnails]).std(axis=0).mean())
