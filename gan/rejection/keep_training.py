"""KeepTraining: the discriminator trained on against a frozen generator (Azadi et al. 2019, section 3).

In a GAN's training D follows a G that moves, and lags behind the ratio of densities that rejection sampling needs. With
G frozen it comes closer, until it learns its real images by heart: the loss of held-out images tells, and the best
state by that loss is kept.
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
from gan.data.dataset import ImageDataset
from gan.data.images import Pixels, to_float
from gan.data.loader import DrawSequence, TrainingImages, batches
from gan.errors import RequestError, SalonError
from gan.networks.labels import one_hot
from gan.snapshot import Snapshot
from gan.training import losses

Batch = tuple[torch.Tensor, ...]  # what D is called with: images, and classes where D knows them
Paint = Callable[[Sequence[int], Sequence[int] | None], Iterable[Pixels]]  # seeds, classes -> uint8 HWC one by one

_SEED = 0
_FIRST_SEED = 2**31  # of the generated images that D learns from; those held out lie below


@dataclass(frozen=True, kw_only=True)
class Settings:
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
    settings: Settings,
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
    paint: Paint,
    *,
    max_kimg: float,
) -> KeptTraining:
    """Train the D of a snapshot, in place, on the images `learn` of a dataset; the images `stop` end it.

    `paint` gives a pixels image a seed, as they will be sampled. Batches, Adam, R1 and mirroring are the run's;
    nothing is augmented. Deterministic. Raises RequestError when `stop` is too small for a group of minibatch standard
    deviation.
    """
    D, config = source.D, source.config
    assert D is not None
    batch_size = config.batch_size
    settings = Settings(
        learning_rate=config.learning_rate,
        beta1=config.beta1,
        beta2=config.beta2,
        r1_gamma=config.r1_gamma or 0.0,
        r1_interval=config.r1_interval,
        check_interval=max(len(learn) // batch_size, 1),  # an epoch
        max_steps=max(round(max_kimg * 1000 / batch_size), 1),
    )
    group = min(config.network.mbstd_group_size, batch_size)
    held_out = stop[: len(stop) // group * group]
    if not len(held_out):
        raise RequestError(f"--data must hold out at least {group} images for --keep-training; got {len(stop)} instead")
    device = next(D.parameters()).device
    images = TrainingImages(dataset)

    def batch(pixels: torch.Tensor, classes: torch.Tensor) -> Batch:  # NCHW, uint8; [N]
        img = to_float(pixels.to(device))
        c = one_hot(classes, config.network.num_classes, device)
        return (img,) if c is None else (img, c)

    def painted(seeds: range, classes: torch.Tensor) -> Batch:
        known = classes.tolist() if config.network.num_classes else None
        pixels = torch.from_numpy(np.stack(list(paint(seeds, known))))
        return batch(pixels.permute(0, 3, 1, 2), classes)  # NHWC -> NCHW

    def gen() -> Iterator[Batch]:
        rng = np.random.default_rng(_SEED)
        for start in itertools.count(_FIRST_SEED, batch_size):
            drawn = [dataset.label(int(i)) for i in rng.choice(learn, batch_size)]
            yield painted(range(start, start + batch_size), torch.tensor(drawn))

    def read(indices: NDArray[np.int64]) -> Batch:
        rows = [images[int(i), False] for i in indices]
        return batch(torch.stack([pixels for pixels, _ in rows]), torch.tensor([label for _, label in rows]))

    draws = DrawSequence(learn, batch_size, seed=_SEED, mirror=config.mirror)
    real = (batch(*pair) for pair in batches(images, draws, workers=0, pin_memory=False))
    starts = range(0, len(held_out), batch_size)
    held_out_real = [read(held_out[start : start + batch_size]) for start in starts]
    held_out_gen = []
    for start in starts:
        some = held_out[start : start + batch_size]
        seeds = range(_FIRST_SEED - len(held_out) + start, _FIRST_SEED - len(held_out) + start + len(some))
        held_out_gen.append(painted(seeds, torch.tensor([dataset.label(int(i)) for i in some])))
    return keep_training(D, real, gen(), held_out_real, held_out_gen, settings)


def write(path: Path, source: Snapshot) -> None:
    """Write a snapshot with the D that was trained on. Never over a file. Raises RequestError where one exists."""
    refuse_existing(path)
    snapshot.save(path, source.G_ema, source.D, source.config, source.cur_nimg, source.classes)


def refuse_existing(path: Path) -> None:
    """Raise RequestError where `path` exists: a trained discriminator replaces no file, with --overwrite neither."""
    if path.exists():
        raise RequestError(f"--keep-training must name a new file; {path} exists: choose another name")


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
