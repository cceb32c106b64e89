"""KeepTraining: the discriminator trained on against a frozen generator (Azadi et al. 2019, section 3).

In a GAN's training D follows a G that moves, and lags behind the ratio of densities that rejection sampling needs. With
G frozen it comes closer, until it overfits its real images: the loss of held-out images tells, and the best state by
that loss is kept.
"""

import copy
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from gan import snapshot
from gan.config import TrainingConfig
from gan.data.dataset import ImageDataset
from gan.data.images import Pixels, to_float
from gan.data.loader import DrawSequence, TrainingImages, batches
from gan.errors import RequestError, SalonError
from gan.networks.labels import one_hot
from gan.runtime.files import refuse_existing
from gan.snapshot import Snapshot
from gan.training import losses

Batch = tuple[torch.Tensor, ...]  # what D is called with: images, and classes where D knows them
Generate = Callable[[Sequence[int], Sequence[int] | None], Iterable[Pixels]]  # seeds, classes -> uint8 HWC one by one

_SEED = 0
_FIRST_SEED = 2**31  # of the generated images that D learns from; those held out lie below


@dataclass(frozen=True, kw_only=True)
class KeepTrainingSettings:
    """How D is trained on."""

    learning_rate: float
    beta1: float = 0.0
    beta2: float = 0.99
    r1_gamma: float = 0.0  # weight of R1; 0: off
    r1_interval: int = 16  # steps between R1 steps
    check_interval: int = 50  # steps between measurements of the held-out loss
    patience: int = 5  # measurements without a new best before it ends
    max_steps: int = 10_000


@dataclass(frozen=True, kw_only=True)
class KeptTraining:
    """What came of it. D itself is in its best state."""

    steps: int  # done
    best_step: int  # 0: D was best as it came
    losses: list[float]  # held-out, before the first step and at each measurement

    def figures(self) -> dict[str, Any]:
        """For reports."""
        return {
            "steps": self.steps,
            "best_step": self.best_step,
            "loss_before": self.losses[0],
            "loss_after": min(self.losses),
        }


def keep_training(
    D: nn.Module,
    real: Iterator[Batch],
    gen: Iterator[Batch],
    held_out_real: list[Batch],
    held_out_gen: list[Batch],
    settings: KeepTrainingSettings,
) -> KeptTraining:
    """Train D until its held-out loss has not fallen for `patience` measurements, and leave it in the best state.

    The batches are what D is called with; those held out are not trained on. Raises SalonError when the loss is no
    longer finite.
    """
    ratio = settings.r1_interval / (settings.r1_interval + 1) if settings.r1_gamma else 1.0
    betas = (settings.beta1**ratio, settings.beta2**ratio)  # as in training (Karras et al. 2020, appendix B)
    optimizer = torch.optim.Adam(D.parameters(), settings.learning_rate * ratio, betas, eps=1e-8)
    history = [_held_out_loss(D, held_out_real, held_out_gen)]
    best, best_step, step = copy.deepcopy(D.state_dict()), 0, 0
    D.requires_grad_(True)
    while step < settings.max_steps and step < best_step + settings.patience * settings.check_interval:
        real_batch = next(real)
        _descend(optimizer, sum(loss.mean() for loss in _losses(D, real_batch, next(gen))))
        if settings.r1_gamma and step % settings.r1_interval == 0:
            img = real_batch[0].detach().requires_grad_(True)
            penalty = losses.r1_penalty(img, D(img, *real_batch[1:])).mean()
            _descend(optimizer, penalty * (settings.r1_gamma / 2 * settings.r1_interval))
        step += 1
        if step % settings.check_interval == 0:
            history.append(_held_out_loss(D, held_out_real, held_out_gen))
            if history[-1] < min(history[:-1]):
                best, best_step = copy.deepcopy(D.state_dict()), step
    D.load_state_dict(best)
    D.requires_grad_(False)
    return KeptTraining(steps=step, best_step=best_step, losses=history)


def keep_training_on_images(
    source: Snapshot,
    dataset: ImageDataset,
    learn: NDArray[np.int64],
    stop: NDArray[np.int64],
    generate: Generate,
    *,
    max_kimg: float,
) -> KeptTraining:
    """Train the D of a snapshot, in place, on the images `learn` of a dataset; the loss of the images `stop` ends it.

    Generated images are made by `generate`, as they will be sampled. Batches, Adam, R1 and mirroring are the run's;
    nothing is augmented. Deterministic. Raises RequestError when `stop` is too small for a group of minibatch standard
    deviation.
    """
    D, config = source.D, source.config
    assert D is not None
    settings = KeepTrainingSettings(
        learning_rate=config.learning_rate,
        beta1=config.beta1,
        beta2=config.beta2,
        r1_gamma=config.r1_gamma or 0.0,
        r1_interval=config.r1_interval,
        check_interval=max(len(learn) // config.batch_size, 1),  # an epoch
        max_steps=max(round(max_kimg * 1000 / config.batch_size), 1),
    )
    group = config.network.group_size(config.batch_size)
    held_out = stop[: len(stop) // group * group]
    if not len(held_out):
        raise RequestError(
            f"`calibration_data` must hold out at least {group} images for `keep_training`; got {len(stop)} instead"
        )
    images = _Batches(config, dataset, generate, next(D.parameters()).device)
    return keep_training(
        D, images.stream_real(learn), images.stream_generated(learn), *images.held_out(held_out), settings
    )


class _Batches:
    # Real images of a dataset, and generated ones of the same classes, as D is called with them.

    def __init__(self, config: TrainingConfig, dataset: ImageDataset, generate: Generate, device: torch.device) -> None:
        self.config, self.dataset, self.generate, self.device = config, dataset, generate, device
        self.images = TrainingImages(dataset)

    def stream_real(self, indices: NDArray[np.int64]) -> Iterator[Batch]:
        draws = DrawSequence(indices, self.config.batch_size, seed=_SEED, mirror=self.config.mirror)
        return (self._batch(*pair) for pair in batches(self.images, draws, workers=0, pin_memory=False))

    def stream_generated(self, indices: NDArray[np.int64]) -> Iterator[Batch]:
        rng, batch_size = np.random.default_rng(_SEED), self.config.batch_size
        for start in itertools.count(_FIRST_SEED, batch_size):
            yield self._generated(range(start, start + batch_size), rng.choice(indices, batch_size))

    def held_out(self, indices: NDArray[np.int64]) -> tuple[list[Batch], list[Batch]]:
        real, generated = [], []
        for start in range(0, len(indices), self.config.batch_size):
            part = indices[start : start + self.config.batch_size]
            first_seed = _FIRST_SEED - len(indices) + start
            rows = [self.images[int(i), False] for i in part]
            pixels, labels = torch.stack([image for image, _ in rows]), torch.tensor([label for _, label in rows])
            real.append(self._batch(pixels, labels))
            generated.append(self._generated(range(first_seed, first_seed + len(part)), part))
        return real, generated

    def _generated(self, seeds: range, indices: NDArray[np.int64]) -> Batch:
        # Of the classes of these real images.
        classes = [self.dataset.label(int(i)) for i in indices]
        pixels = np.stack(list(self.generate(seeds, classes if self.config.network.num_classes else None)))
        return self._batch(torch.from_numpy(pixels).permute(0, 3, 1, 2), torch.tensor(classes))  # NHWC -> NCHW

    def _batch(self, pixels: torch.Tensor, classes: torch.Tensor) -> Batch:  # uint8 [N, 3, H, W], int64 [N]
        img = to_float(pixels.to(self.device))
        c = one_hot(classes, self.config.network.num_classes, self.device)
        return (img,) if c is None else (img, c)


def write(path: Path, source: Snapshot) -> None:
    """Write a snapshot with the D that was trained on, never over a file. Raises RequestError where one exists."""
    refuse_existing([path], parameter="keep_training")
    snapshot.save(path, source.G_ema, source.D, source.config, source.cur_nimg, source.classes)


def _losses(D: nn.Module, real: Batch, gen: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    return losses.discriminator_loss(D(*real), D(*gen))


def _held_out_loss(D: nn.Module, real: list[Batch], gen: list[Batch]) -> float:
    # Of real and generated images alike, whatever their numbers; batches may differ in size.
    with torch.no_grad():
        pairs = [_losses(D, r, g) for r, g in zip(real, gen, strict=True)]
        value = float(sum(torch.cat(kind).mean() for kind in zip(*pairs, strict=True)))
    if not value < float("inf"):
        raise SalonError(f"the held-out loss became {value}; train D on with a lower learning rate")
    return value


def _descend(optimizer: torch.optim.Optimizer, loss: Any) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
