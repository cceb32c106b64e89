"""Which seeds --reject accepts: candidates are painted and judged, and accepted or not.

One seed is one candidate, and the same request accepts the same seeds. Everything that is painted but is no candidate
has seeds of its own, from the highest downwards.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gan.data.dataset import ImageDataset
from gan.errors import RequestError
from gan.networks.discriminator import Discriminator
from gan.rejection import algorithms, calibration, keep_training
from gan.rejection.algorithms import Array
from gan.rejection.discriminator_logits import DiscriminatorLogits, count_references
from gan.rejection.keep_training import Paint
from gan.runtime.console import progress, say
from gan.sampling.latents import MAX_SEED
from gan.snapshot import Snapshot

Classes = Callable[[Sequence[int]], list[int] | None]  # seeds -> the class of each; None: without classes

_BUDGET = 4
_MOST = 1000  # candidates an image that DRS tries before it gives up
_CHUNK = 64  # candidates of DRS at a time


@dataclass(frozen=True, kw_only=True)
class Request:
    """What --reject was asked for."""

    reject: str  # drs, mh or obrs
    count: int  # images to accept
    budget: int | None = None  # candidates an image; None: 4, or what gamma comes to
    data: Path | ImageDataset | None = None  # dataset of real images; one that is open is not hashed again
    calibration: str = "platt"  # platt, isotonic or none
    burn_in: int = 256  # generated images to calibrate on and to estimate DRS's maximum, and at most so many real ones
    gamma: float | None = None  # of DRS
    gamma_percentile: float | None = None  # of DRS
    keep_training: Path | None = None  # where to write the snapshot with the D that was trained on
    keep_kimg: float = 20.0  # most images to train D on, thousands

    def __post_init__(self) -> None:
        given = [name for name in ("budget", "gamma", "gamma_percentile") if getattr(self, name) is not None]
        if self.reject != "drs" and (wrong := [name for name in given if name != "budget"]):
            raise RequestError(f"{_option(wrong[0])} needs --reject drs; --reject {self.reject} takes --budget alone")
        if len(given) > 1:
            raise RequestError(f"{' and '.join(map(_option, given))} exclude each other: give one of them")
        if self.data is None:
            if self.keep_training:
                raise RequestError("--keep-training needs --data DATASET, whose images D learns from")
            if self.reject == "mh":
                raise RequestError("--reject mh needs --data DATASET: its chains set out from real images")
            if self.calibration != "none":
                raise RequestError(
                    f"--reject {self.reject} needs --data DATASET, whose images calibrate the discriminator, "
                    "or --calibration none"
                )
        if self.keep_training:
            keep_training.refuse_existing(self.keep_training)

    def gamma_choice(self) -> dict[str, float]:
        """What decides DRS's gamma, as DiscriminatorRejection takes it."""
        if self.gamma is not None:
            return {"gamma": self.gamma}
        if self.gamma_percentile is not None:
            return {"percentile": self.gamma_percentile}
        return {"budget": self.budget or _BUDGET}

    @property
    def needed(self) -> int:
        """Candidates that mh and obrs take."""
        return self.count * (self.budget or _BUDGET)


def choose(
    source: Snapshot,
    paint: Paint,
    classes: Classes,
    candidates: Sequence[int] | None,
    options: dict[str, Any],
    *,
    class_index: int | None = None,
) -> tuple[list[int], dict[str, Any]]:
    """Accept seeds -> the seeds in the order of the candidates, and figures for the report.

    `paint` paints as the accepted seeds will be, and `classes` says of what class each is; `options` are the fields of
    Request. Candidates are all seeds from 0 on where they are None. Where there is a `class_index`, only real images of
    that class count. D joins G_ema on its device, and is trained on there when that is asked for.
    Raises RequestError when the request does not fit the snapshot, the dataset or the candidates.
    """
    request = Request(**options)
    seeds: Sequence[int] = range(MAX_SEED // 2) if candidates is None else candidates
    if request.reject != "drs" and len(seeds) < request.needed:
        raise RequestError(
            f"--seeds must name at least {request.needed} candidates for --count {request.count} and --budget "
            f"{request.needed // request.count}; got {len(seeds)} instead"
        )
    if source.D is None:
        raise RequestError(f"--reject needs a discriminator; {source.path} was imported without one")
    source.D.to(next(source.G_ema.parameters()).device)
    figures: dict[str, Any] = {"method": request.reject}
    dataset = None if request.data is None else _open(request.data, source, figures)
    number = source.config.network.num_classes
    real = np.empty(0, np.int64) if dataset is None else _shuffled(dataset, class_index, number)
    if request.keep_training:
        assert dataset is not None
        learn, stop, real = np.split(real, [len(real) * 3 // 5, len(real) * 4 // 5])
        say(f"Training the discriminator on {len(learn)} images, for at most {request.keep_kimg:g} kimg")
        kept = keep_training.keep_training_on_images(source, dataset, learn, stop, paint, max_kimg=request.keep_kimg)
        keep_training.write(request.keep_training, source)
        figures["keep_training"] = {**kept.figures(), "snapshot": str(request.keep_training)}
    judge = _Judge(source.D, paint, classes)
    gen_logits, real_logits = np.empty(0), np.empty(0)
    if request.reject == "drs" or request.calibration != "none":
        gen_logits = judge.seeds(judge.own(request.burn_in), "Judging the burn-in")
    if dataset is not None:
        real_logits = judge.images(dataset, real[: request.burn_in])
    calibrate = _calibrate(request, real_logits, gen_logits, figures)
    if request.reject == "drs":
        drs = algorithms.DiscriminatorRejection(calibrate(gen_logits), **request.gamma_choice())
        accepted, examined = _stream(
            drs, seeds, request.count, lambda some: calibrate(judge.seeds(some, "Judging candidates"))
        )
        figures |= {"maximum": drs.maximum, "maximum_raised": drs.raised, "gamma": drs.gamma}
    else:
        some = seeds[: request.needed]
        logits, examined = calibrate(judge.seeds(some, "Judging candidates")), len(some)
        if request.reject == "mh":
            chosen, figures["restarted"] = _end_chains(some, logits, calibrate(real_logits), request.count)
        else:
            probability = algorithms.budgeted_probabilities(logits, len(some) / request.count)
            chosen = algorithms.draw(probability, float(algorithms.uniforms(some[:1])[0]))
        accepted = [some[place] for place in chosen.tolist()]
    figures |= {"candidates": examined, "accepted": len(accepted), "acceptance": len(accepted) / examined}
    return accepted, figures


class _Judge:
    # D on seeds and on images.

    def __init__(self, D: Discriminator, paint: Paint, classes: Classes) -> None:
        self._paint, self._classes, self._conditional = paint, classes, D.config.num_classes > 0
        self._own = iter(range(MAX_SEED, MAX_SEED // 2, -1))  # seeds that are no candidates
        references = self.own(count_references(D))
        of_references = classes(references)
        self._critic = DiscriminatorLogits(D, list(paint(references, of_references)), of_references)

    def own(self, count: int) -> list[int]:
        return list(islice(self._own, count))

    def seeds(self, seeds: Sequence[int], what: str) -> Array:
        classes = self._classes(seeds)
        return self._critic(progress(self._paint(seeds, classes), what, len(seeds)), classes)

    def images(self, dataset: ImageDataset, indices: NDArray[np.int64]) -> Array:
        pixels = (dataset.pixels(int(index)).transpose(1, 2, 0) for index in indices)  # CHW -> HWC
        classes = [dataset.label(int(index)) for index in indices] if self._conditional else None
        return self._critic(progress(pixels, "Judging real images", len(indices)), classes)


def _open(data: Path | ImageDataset, source: Snapshot, figures: dict[str, Any]) -> ImageDataset:
    dataset = data if isinstance(data, ImageDataset) else ImageDataset(data)
    path = dataset.path
    if dataset.resolution != (wanted := source.config.network.resolution):
        raise RequestError(
            f"--data must hold images of {wanted}x{wanted}, as {source.path} paints them; {path} has "
            f"{dataset.resolution}x{dataset.resolution}"
        )
    figures["trained_on_data"] = dataset.fingerprint() == source.config.dataset
    if figures["trained_on_data"]:
        say(
            f"The discriminator was trained on {path}, and may be surer of these images than of others: "
            "images that it has not seen calibrate it better"
        )
    return dataset


def _shuffled(dataset: ImageDataset, class_index: int | None, number: int) -> NDArray[np.int64]:
    order = np.random.default_rng(0).permutation(len(dataset))
    if class_index is None:
        if number and not 0 < dataset.num_classes <= number:
            raise RequestError(f"--data must hold images of {number} classes; {dataset.path} has {dataset.num_classes}")
        return order
    chosen = order[[dataset.labels is not None and dataset.label(int(i)) == class_index for i in order]]
    if not len(chosen):
        raise RequestError(f"--data {dataset.path} must hold images of the class {class_index}; it has none")
    return chosen


def _calibrate(
    request: Request, real_logits: Array, gen_logits: Array, figures: dict[str, Any]
) -> calibration.Calibrator:
    if request.calibration == "none":
        return calibration.Identity()
    fitted = calibration.fit_and_test(request.calibration, real_logits, gen_logits)
    figures["calibration"] = {"method": request.calibration, **fitted.figures()}
    if isinstance(fitted.calibrate, calibration.Platt) and fitted.calibrate.slope <= 0:
        say(
            "The discriminator rates generated images above real ones, so that its choice is upside down: "
            "--keep-training FILE may help"
        )
    return fitted.calibrate


def _stream(
    drs: algorithms.DiscriminatorRejection, seeds: Sequence[int], count: int, judge: Callable[[Sequence[int]], Array]
) -> tuple[list[int], int]:
    # -> accepted seeds, and how many candidates it took
    accepted: list[int] = []
    most = min(len(seeds), count * _MOST)
    for start in range(0, most, _CHUNK):
        some = seeds[start : min(start + _CHUNK, most)]
        for place in np.flatnonzero(algorithms.uniforms(some) < drs.probabilities(judge(some))).tolist():
            accepted.append(some[place])
            if len(accepted) == count:
                return accepted, start + place + 1
    raise RequestError(
        f"--reject drs accepted {len(accepted)} of {most} candidates, and --count asks for {count}: raise the rate "
        "with a lower --gamma, --gamma-percentile or --budget, or name more candidates with --seeds"
    )


def _end_chains(seeds: Sequence[int], logits: Array, real_logits: Array, count: int) -> tuple[NDArray[np.int64], int]:
    # -> places of the chains' last states among the candidates, and how many chains never left their real image
    start = np.random.default_rng(0).choice(real_logits, count)
    shape = count, len(seeds) // count
    uniform = algorithms.uniforms(seeds).reshape(shape)
    column, restarted = algorithms.metropolis_hastings(logits.reshape(shape), start, uniform)
    return np.arange(count) * shape[1] + column, int(restarted.sum())


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
