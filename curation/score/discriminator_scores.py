"""Discriminator logits of real images: the baseline `d-low`.

A discriminator's logit estimates log p_data / p_generated: an outlier that the generator never makes scores high, and
what it makes too often scores low. Minibatch standard deviation makes a logit depend on the other images of the
minibatch, so each image's logit is averaged over several random minibatches.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from gan.data.dataset import ImageDataset
from gan.data.images import to_float
from gan.errors import RequestError
from gan.networks.discriminator import Discriminator
from gan.networks.labels import one_hot
from gan.snapshot import Snapshot

Scores = NDArray[np.float64]
Indices = NDArray[np.int64]

GROUPINGS = 4  # random orders of the images, for each snapshot
BATCH = 64  # images in a pass, rounded down to whole groups


def logits(
    D: Discriminator, dataset: ImageDataset, indices: Indices, device: torch.device, *, seed: int, groupings: int
) -> Scores:
    """Logits of the images at `indices` [n], in `groupings` random orders -> float64 [groupings, n].

    In each order neighbours form the groups of minibatch standard deviation. The last group is filled up with images
    from the beginning, whose second logit is left out.
    """
    group = D.scoring_group_size
    batch = BATCH // group * group or group
    values = np.empty([groupings, len(indices)])
    for grouping in range(groupings):
        order = np.random.default_rng([seed, grouping]).permutation(len(indices))
        filled = np.resize(order, -(-len(order) // group) * group)
        for start in range(0, len(filled), batch):
            places = filled[start : start + batch]
            pixels = np.stack([dataset.pixels(int(indices[i])) for i in places])  # NCHW
            c = one_hot([dataset.label(int(indices[i])) for i in places], D.config.num_classes, device)
            with torch.inference_mode():
                features = D.features(to_float(torch.from_numpy(pixels).to(device)))
                batch_logits = D.logits(features, c, group_size=group)  # [N, 1]
            fresh = min(len(places), len(order) - start)
            values[grouping, places[:fresh]] = batch_logits[:fresh, 0].double().cpu().numpy()
    return values


def d_low(
    snapshots: Sequence[Snapshot], dataset: ImageDataset, indices: Indices, device: torch.device, *, seed: int
) -> tuple[Scores, Scores]:
    """Mean and standard error of the logits over snapshots and groupings, each [n]: the baseline.

    Raises RequestError for a snapshot without a discriminator, of another resolution or of other classes.
    """
    per_snapshot = []
    for number, snapshot in enumerate(snapshots):
        if snapshot.D is None:
            raise RequestError(f"{snapshot.path} must hold a discriminator; it was imported from a file without one")
        shape = snapshot.config.network.shape
        if shape != dataset.shape:
            raise RequestError(f"{snapshot.path} must be of images of {dataset.shape}; it has {shape}")
        dataset.require_classes(snapshot.config.network.num_classes, snapshot.classes, "dataset")
        D = snapshot.D.to(device)
        per_snapshot.append(logits(D, dataset, indices, device, seed=seed + 1000 * number, groupings=GROUPINGS))
    return mean_and_error(np.concatenate(per_snapshot))


def mean_and_error(values: Scores) -> tuple[Scores, Scores]:
    """Mean and standard error over the first axis of [K, N], K > 1."""
    return values.mean(axis=0), values.std(axis=0, ddof=1) / np.sqrt(len(values))
