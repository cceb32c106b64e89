"""Which seeds a discriminator accepts: candidates are generated, get their logits, and are accepted or not.

One seed is one candidate, and the same request accepts the same seeds, also on a GPU. Everything that is generated but
is no candidate has seeds of its own, from the highest downwards.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gan.data.dataset import ImageDataset
from gan.device.determinism import deterministic
from gan.errors import RequestError
from gan.networks.discriminator import Discriminator
from gan.rejection import algorithms, calibration, keep_training
from gan.rejection.algorithms import Array
from gan.rejection.discriminator_logits import DiscriminatorLogits, Logits, count_references
from gan.rejection.keep_training import Generate
from gan.rejection.request import SelectionRequest
from gan.runtime.console import progress, say
from gan.runtime.parallel import delayed
from gan.sampling.latents import MAX_SEED
from gan.snapshot import Snapshot

Classes = Callable[[Sequence[int]], list[int] | None]  # seeds -> the class of each; None: without classes
ChunksOfLogits = Callable[[Sequence[int], int], Iterator[Array]]  # seeds, and how many at a time

_MOST = 1000  # candidates an image that DRS tries before it gives up
_CHUNK = 64  # candidates of DRS at a time


@deterministic()
def choose(
    source: Snapshot,
    generate: Generate,
    classes: Classes,
    candidates: Sequence[int] | None,
    request: SelectionRequest,
    *,
    class_index: int | None = None,
) -> tuple[list[int], dict[str, Any]]:
    """Accept seeds -> the seeds in the order of the candidates, and figures for the report.

    `generate` makes images as those of the accepted seeds will be made, and `classes` says of what class each is.
    Candidates are all seeds from 0 on where they are None. Where there is a `class_index`, only real images of
    that class count. D joins G_ema on its device, and is trained on there when that is asked for.
    Raises RequestError when the request does not fit the snapshot, the dataset or the candidates.
    """
    seeds: Sequence[int] = range(MAX_SEED // 2) if candidates is None else candidates
    D = _require_discriminator(source, request, seeds)
    figures: dict[str, Any] = {"method": request.reject}
    dataset = None if request.calibration_data is None else _open(request.calibration_data, source, figures)
    number = source.config.network.num_classes
    real = np.empty(0, np.int64) if dataset is None else _shuffled(dataset, class_index, number, source.classes)
    if request.keep_training:
        assert dataset is not None
        real = _keep_training(source, dataset, real, generate, request, figures)
    discriminator = _Logits(D, generate, classes)
    gen_logits, real_logits = np.empty(0), np.empty(0)
    if request.reject == "drs" or request.calibration != "none":
        gen_logits = discriminator.of_seeds(discriminator.own(request.burn_in), "Logits of the burn-in")
    if dataset is not None:
        real_logits = discriminator.of_images(dataset, real[: request.burn_in])
    calibrate = _calibrate(request, real_logits, gen_logits, figures)

    def logits(seeds: Sequence[int], size: int) -> Iterator[Array]:
        return map(calibrate, discriminator.in_chunks(seeds, size, "Logits of candidates"))

    if request.reject == "drs":
        accepted, examined = _accept_stream(request, seeds, logits, calibrate(gen_logits), figures)
    else:
        accepted, examined = _accept_budget(request, seeds, logits, calibrate(real_logits), figures), request.needed
    figures |= {"candidates": examined, "accepted": len(accepted), "acceptance": len(accepted) / examined}
    return accepted, figures


class _Logits:
    # D's logits of seeds and of real images.

    def __init__(self, D: Discriminator, generate: Generate, classes: Classes) -> None:
        self._generate, self._classes, self._conditional = generate, classes, D.config.num_classes > 0
        # A GPU is given the next chunk before the last one is waited for.
        self._ahead = 0 if next(D.parameters()).device.type == "cpu" else 1
        self._own = iter(range(MAX_SEED, MAX_SEED // 2, -1))  # seeds that are no candidates
        references = self.own(count_references(D))
        of_references = classes(references)
        self._logits = DiscriminatorLogits(D, list(generate(references, of_references)), of_references)

    def own(self, count: int) -> list[int]:
        return list(islice(self._own, count))

    def of_seeds(self, seeds: Sequence[int], description: str) -> Array:
        return self._start(seeds, description).result()

    def in_chunks(self, seeds: Sequence[int], size: int, description: str) -> Iterator[Array]:
        chunks = (self._start(seeds[i : i + size], description) for i in range(0, len(seeds), size))
        return (chunk.result() for chunk in delayed(chunks, self._ahead))

    def of_images(self, dataset: ImageDataset, indices: NDArray[np.int64]) -> Array:
        pixels = (dataset.image(int(index)) for index in indices)
        classes = [dataset.label(int(index)) for index in indices] if self._conditional else None
        return self._logits(progress(pixels, "Logits of real images", len(indices)), classes)

    def _start(self, seeds: Sequence[int], description: str) -> Logits:
        classes = self._classes(seeds)
        return self._logits.start(progress(self._generate(seeds, classes), description, len(seeds)), classes)


def _require_discriminator(source: Snapshot, request: SelectionRequest, seeds: Sequence[int]) -> Discriminator:
    if request.reject != "drs" and len(seeds) < request.needed:
        assert request.count
        raise RequestError(
            f"`seeds` must name at least {request.needed} candidates for `count` {request.count} and `budget` "
            f"{request.needed // request.count}; got {len(seeds)} instead"
        )
    if source.D is None:
        raise RequestError(f"`reject` needs a discriminator; {source.path} was imported without one")
    return source.D.to(next(source.G_ema.parameters()).device)


def _open(data: Path | ImageDataset, source: Snapshot, figures: dict[str, Any]) -> ImageDataset:
    dataset = data if isinstance(data, ImageDataset) else ImageDataset(data)
    path = dataset.path
    if dataset.shape != (wanted := source.config.network.shape):
        raise RequestError(
            f"`calibration_data` must hold images of {wanted}, as {source.path} generates them; {path} has "
            f"{dataset.shape}"
        )
    figures["trained_on_data"] = dataset.fingerprint() == source.config.dataset
    if figures["trained_on_data"]:
        say(
            f"The discriminator was trained on {path}, and may be surer of these images than of others: "
            "images that it has not seen calibrate it better"
        )
    return dataset


def _shuffled(
    dataset: ImageDataset, class_index: int | None, number: int, names: list[str] | None = None
) -> NDArray[np.int64]:
    order = np.random.default_rng(0).permutation(len(dataset))
    if class_index is None or (names and dataset.classes):
        dataset.require_classes(number, names, "calibration_data")
    if class_index is None:
        return order
    chosen = order[[dataset.labels is not None and dataset.label(int(i)) == class_index for i in order]]
    if not len(chosen):
        raise RequestError(
            f"`calibration_data` {dataset.path} must hold images of the class {class_index}; it has none"
        )
    return chosen


def _keep_training(
    source: Snapshot,
    dataset: ImageDataset,
    real: NDArray[np.int64],
    generate: Generate,
    request: SelectionRequest,
    figures: dict[str, Any],
) -> NDArray[np.int64]:
    # -> indices of the real images that this D has not seen
    assert request.keep_training is not None
    learn, stop, rest = np.split(real, [len(real) * 3 // 5, len(real) * 4 // 5])
    say(f"Training the discriminator on {len(learn)} images, for at most {request.keep_kimg:g} kimg")
    kept = keep_training.keep_training_on_images(source, dataset, learn, stop, generate, max_kimg=request.keep_kimg)
    keep_training.write(request.keep_training, source)
    figures["keep_training"] = {**kept.figures(), "snapshot": str(request.keep_training)}
    return rest


def _calibrate(
    request: SelectionRequest, real_logits: Array, gen_logits: Array, figures: dict[str, Any]
) -> calibration.Calibrator:
    if request.calibration == "none":
        return calibration.Identity()
    fitted = calibration.fit_and_test(request.calibration, real_logits, gen_logits)
    figures["calibration"] = {"method": request.calibration, **fitted.figures()}
    if isinstance(fitted.calibrate, calibration.Platt) and fitted.calibrate.slope <= 0:
        say(
            "The discriminator's logits are higher for generated images than for real ones, so that it accepts the "
            "wrong ones: `keep_training` FILE may help"
        )
    return fitted.calibrate


def _accept_stream(
    request: SelectionRequest,
    seeds: Sequence[int],
    logits: ChunksOfLogits,
    burn_in: Array,
    figures: dict[str, Any],
) -> tuple[list[int], int]:
    # DRS -> accepted seeds, and how many candidates it took
    drs = algorithms.DiscriminatorRejection(burn_in, **request.gamma_choice())
    count = request.count or 0
    accepted: list[int] = []
    most = min(len(seeds), count * _MOST)
    for start, chunk_logits in zip(range(0, most, _CHUNK), logits(seeds[:most], _CHUNK), strict=False):
        chunk = seeds[start : min(start + _CHUNK, most)]
        for place in np.flatnonzero(algorithms.uniforms(chunk) < drs.probabilities(chunk_logits)).tolist():
            accepted.append(chunk[place])
            if len(accepted) == count:
                figures |= {"maximum": drs.maximum, "maximum_raised": drs.raised, "gamma": drs.gamma}
                return accepted, start + place + 1
    raise RequestError(
        f"`reject` drs accepted {len(accepted)} of {most} candidates, and `count` asks for {count}: raise the rate "
        "with a lower `gamma`, `gamma_percentile` or `budget`, or name more candidates with `seeds`"
    )


def _accept_budget(
    request: SelectionRequest,
    seeds: Sequence[int],
    logits: ChunksOfLogits,
    real_logits: Array,
    figures: dict[str, Any],
) -> list[int]:
    # Metropolis-Hastings and OBRS -> the accepted seeds, of as many candidates as the request needs
    candidates, count = seeds[: request.needed], request.count or 0
    (candidate_logits,) = logits(candidates, len(candidates))
    if request.reject == "mh":
        places, figures["restarted"] = _end_chains(candidates, candidate_logits, real_logits, count)
    else:
        probabilities = algorithms.budgeted_probabilities(candidate_logits, len(candidates) / count)
        places = algorithms.draw(probabilities, float(algorithms.uniforms(candidates[:1])[0]))
    return [candidates[place] for place in places.tolist()]


def _end_chains(seeds: Sequence[int], logits: Array, real_logits: Array, count: int) -> tuple[NDArray[np.int64], int]:
    # -> places of the chains' last states among the candidates, and how many chains never left their real image
    start = np.random.default_rng(0).choice(real_logits, count)
    shape = count, len(seeds) // count
    uniform = algorithms.uniforms(seeds).reshape(shape)
    column, restarted = algorithms.metropolis_hastings(logits.reshape(shape), start, uniform)
    return np.arange(count) * shape[1] + column, int(restarted.sum())
