"""Discriminators as judges of real images: a run's own, one trained on the densest images, and cross-fitted ones.

A discriminator's logit estimates log p_data / p_generated: an outlier that the generator never makes scores high, and
what it makes too often scores low. `d-low` is there as a baseline, not as advice. Minibatch standard deviation makes a
logit depend on the other images of the batch, so each image is judged among several random companions.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from curation.score.image_checks import robust_z
from gan import snapshot
from gan.config import TrainingConfig
from gan.data.dataset import ImageDataset
from gan.data.images import to_float
from gan.errors import RequestError
from gan.networks.discriminator import Discriminator
from gan.networks.labels import one_hot
from gan.runtime import distributed
from gan.snapshot import Snapshot
from gan.training.request import TrainingOptions
from gan.training.run_dir import Run
from gan.training.training_loop import train

Scores = NDArray[np.float64]
Indices = NDArray[np.int64]

GROUPINGS = 4  # random companies in which each image is judged, for each snapshot
CORE = 0.85  # share of the densest images that d-core learns from
FOLDS = 3
BATCH = 64


def logits(
    D: Discriminator, dataset: ImageDataset, indices: Indices, device: torch.device, *, seed: int, groupings: int
) -> Scores:
    """Logits of the images at `indices`, each in `groupings` random companies -> float64 [groupings, n].

    The last group of a company is filled up with images from its beginning, whose second logit is left out.
    """
    group = D.config.mbstd_group_size
    found = np.empty([groupings, len(indices)])
    for grouping in range(groupings):
        order = np.random.default_rng([seed, grouping]).permutation(len(indices))
        filled = np.resize(order, -(-len(order) // group) * group)
        for start in range(0, len(filled), BATCH // group * group or group):
            some = filled[start : start + (BATCH // group * group or group)]
            pixels = np.stack([dataset.pixels(int(indices[i])) for i in some])
            c = one_hot([dataset.label(int(indices[i])) for i in some], D.config.num_classes, device)
            with torch.inference_mode():
                values = D(to_float(torch.from_numpy(pixels).to(device)), c)
            fresh = min(len(some), len(order) - start)
            found[grouping, some[:fresh]] = values[:fresh, 0].double().cpu().numpy()
    return found


def d_low(
    snapshots: Sequence[Snapshot], dataset: ImageDataset, indices: Indices, device: torch.device, *, seed: int
) -> tuple[Scores, Scores]:
    """Mean and standard error of the logits over snapshots and groupings: the baseline.

    Raises RequestError for a snapshot without a discriminator or of another resolution.
    """
    found = []
    for number, one in enumerate(snapshots):
        if one.D is None:
            raise RequestError(f"{one.path} must hold a discriminator; it was imported from a file without one")
        if one.config.network.resolution != dataset.resolution:
            raise RequestError(
                f"{one.path} must be of {dataset.resolution} pixels; it has {one.config.network.resolution}"
            )
        one_seed = seed + 1000 * number
        found.append(logits(one.D.to(device), dataset, indices, device, seed=one_seed, groupings=GROUPINGS))
    return mean_and_error(np.concatenate(found))


def d_core(
    folder: Path,
    config: TrainingConfig,
    kimg: float,
    dataset: ImageDataset,
    indices: Indices,
    typical: Scores,
    device: torch.device,
) -> tuple[Scores, Scores]:
    """Logits of a discriminator that learned from the densest CORE by `typical` (higher is denser), and judges all."""
    core = np.sort(indices[np.argsort(-typical, kind="stable")[: max(1, round(CORE * len(indices)))]])
    return d_low(trained(folder / "core", config, kimg, dataset, core, device), dataset, indices, device, seed=0)


def d_cross(
    folder: Path, config: TrainingConfig, kimg: float, dataset: ImageDataset, indices: Indices, device: torch.device
) -> tuple[Scores, Scores]:
    """Cross-fitted: FOLDS discriminators, each judging the images that it never saw, as robust z of its fold."""
    fold = np.random.default_rng(config.seed).permutation(len(indices)) % FOLDS
    mean, error = np.empty(len(indices)), np.empty(len(indices))
    for number in range(FOLDS):
        held = fold == number
        judges = trained(folder / f"fold{number}", config, kimg, dataset, indices[~held], device)
        values, errors = d_low(judges, dataset, indices[held], device, seed=number)
        scale = 1.4826 * np.median(np.abs(values - np.median(values)))
        mean[held], error[held] = robust_z(values), errors / max(scale, 1e-12)
    return mean, error


def trained(
    folder: Path, config: TrainingConfig, kimg: float, dataset: ImageDataset, indices: Indices, device: torch.device
) -> list[Snapshot]:
    """Train with the trainer, or go on where `folder` stopped -> the newest snapshot."""
    options = TrainingOptions(total_kimg=kimg, kimg_per_tick=max(kimg / 4, 0.001), image_snapshot_minutes=0, workers=0)
    summary = train(Run(folder), config, options, dataset, indices, device)
    distributed.anyone(False)  # the main process has written it
    if not summary["finished"]:
        raise RequestError(f"training was stopped; the same command goes on from {summary['kimg']:.1f} kimg")
    return [snapshot.load(Path(summary["snapshot"]))]


def mean_and_error(values: Scores) -> tuple[Scores, Scores]:
    """Mean and standard error over the first axis of [K, N]; of one value the error is unknown, NaN."""
    if len(values) == 1:
        return values[0], np.full(values.shape[1], np.nan)
    return values.mean(axis=0), values.std(axis=0, ddof=1) / np.sqrt(len(values))
