"""From the features of generated and real images to results: each metric that the features give, by name.

With Inception's features the names are FID, KID and IS; with any other network's FD, KD and CS (classifier score), as
their values have nothing in common.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from eval.data.reference import NEIGHBOURS, Reference
from eval.features.extractor import Extractor
from eval.metrics import precision_recall
from eval.metrics.confidence_intervals import Estimate, Jackknife, Vector, linear_jackknife, normal_interval
from eval.metrics.feature_stats import Array, Features
from eval.metrics.frechet import IMAGES_A_DIMENSION, fd_infinity, frechet_jackknife, frechet_of_populations
from eval.metrics.inception_score import inception_score, inception_score_bias
from eval.metrics.kernel import kernel_distance
from eval.metrics.monge import PROJECTIONS, monge_distance
from eval.metrics.novelty import authenticity, ratios
from eval.metrics.precision_recall import Comparison, compare
from eval.metrics.result_key import REAL_IMAGES, Identity, digest
from gan.errors import RequestError

BLOCKS = 20  # of every jackknife
K, K_DENSITY, SPLITS = 3, 5, 10


@dataclass(frozen=True, kw_only=True)
class Result:
    """One number, what it is, how sure it is; `replicates` make differences between results paired."""

    identity: Identity
    estimate: Estimate
    noise_floor: Estimate | None = None  # the same of real images
    replicates: Jackknife | None = None
    bias: float | None = None  # of an Inception score: how far it is off for want of images, to first order
    enough_images: bool | None = None  # of a Fréchet distance: whether so many that it is not mostly bias

    @property
    def id(self) -> str:
        """Such as fid."""
        return self.identity.metric

    @property
    def name(self) -> str:
        """As people write it."""
        return NAMES.get(self.id, self.id)

    def to_dict(self) -> dict[str, Any]:
        """As JSON, with the key that people read."""
        replicates = self.replicates
        return {
            "id": self.id,
            "name": self.name,
            "key": str(self.identity),
            **asdict(self.estimate),
            "better": "higher" if self.id in HIGHER_IS_BETTER else "lower",
            "noise_floor": asdict(self.noise_floor) if self.noise_floor else None,
            "identity": self.identity.to_dict(),
            "replicates": replicates and replicates.to_dict(),
            "bias": self.bias,
            "enough_images": self.enough_images,
        }

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Result":
        """From what to_dict gave. Raises RequestError for anything else."""
        try:
            replicates, floor = fields["replicates"], fields["noise_floor"]
            if fields["identity"]["metric"] not in NAMES:  # of another package, which need not be here to compare
                _know(fields["identity"]["metric"], str(fields["name"]), fields["better"] == "higher")
            return cls(
                identity=Identity.from_dict(fields["identity"]),
                estimate=_estimate(fields),
                noise_floor=_estimate(floor) if floor else None,
                replicates=replicates and Jackknife.from_dict(replicates),
                bias=fields.get("bias"),
                enough_images=fields.get("enough_images"),
            )
        except RequestError:  # which is a ValueError too
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise RequestError(f"a result must be as salon eval writes it; {error!r} instead") from error


class FeatureSets:
    """Features of generated and real images by one extractor, and what metrics share of them."""

    def __init__(self, reference: Reference, gen: Features, logits: Callable[[], Features]) -> None:
        self.reference, self.gen, self.logits = reference, reference.project(gen), logits

    @cached_property
    def frechet(self) -> Jackknife:
        """Fréchet distance to the reference, for fid and fid_infinity."""
        return frechet_jackknife(self.gen, self.reference.moments, factor=self.reference.factor, blocks=BLOCKS)

    @property
    def enough_for_frechet(self) -> bool:
        """Whether so many images that a Fréchet distance is not mostly bias."""
        n = len(self.gen)
        return min(n, len(self.reference) or n) >= IMAGES_A_DIMENSION * self.gen.dim

    @cached_property
    def comparison(self) -> Comparison:
        """All pairs of generated images and the real ones at reference.compared, for metrics of pairs, realism and
        nearest neighbours.
        """
        neighbours = self.reference.neighbours
        real, gpu = self.reference.compared_features, self.reference.extractor.gpu
        return compare(real, self.gen, k=K, k_density=K_DENSITY, real_neighbours=neighbours, device=gpu)


@dataclass(frozen=True, kw_only=True)
class Number:
    """A number that a metric gives."""

    id: str
    name: str  # as people write it
    higher_is_better: bool = False
    other: tuple[str, str] | None = None  # id and name where the features are not Inception's; None: the same


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric by the name that requests have for it."""

    name: str
    gives: tuple[Number, ...]
    measure: Callable[[FeatureSets], list[Result]] | None = None  # None: it needs a snapshot (eval.generator_metrics)
    least_generated: int = 0  # images
    least_real: int = 0  # images
    of_statistics: bool = False  # whether mean and covariance of the real images are enough
    needs_logits: bool = False
    of_pairs: bool = False  # whether generated images are compared with each other and with real ones in pairs


def result_ids(metric: str, inception: bool) -> list[str]:
    """What a metric's results are called with Inception's or another network's features."""
    return [number.other[0] if number.other and not inception else number.id for number in METRICS[metric].gives]


def require_possible(metrics: Sequence[str], extractor: Extractor, n: int, reference_n: int | None) -> None:
    """Raise RequestError when an extractor's features, or so few or so many images, cannot give a metric.

    `reference_n` None: there are statistics of real images alone.
    """
    for metric in (METRICS[name] for name in metrics):
        if metric.needs_logits and not extractor.has_logits:
            raise RequestError(f"`metrics` {metric.name} needs an extractor with logits; {extractor.name} has none")
        if metric.of_pairs and n > precision_recall.EXACT and extractor.gpu is None:
            raise RequestError(
                f"`num_images` must be at most {precision_recall.EXACT:,} for `metrics` {metric.name}, which compares "
                f"all pairs of generated images, where there is no GPU; got {n:,} instead"
            )
        if reference_n is None:
            if n < metric.least_generated:
                raise RequestError(
                    f"`metrics` {metric.name} needs at least {metric.least_generated} generated images; got {n}"
                )
        elif n < metric.least_generated or reference_n < metric.least_real:
            raise RequestError(
                f"`metrics` {metric.name} needs at least {metric.least_generated} generated and {metric.least_real} "
                f"real images; got {n} and {reference_n}"
            )


def identity_of(metric: str, reference: Reference, n: int, options: Mapping[str, Any]) -> Identity:
    """Identity of a result of `n` images against a reference."""
    extractor = reference.extractor
    seen_as = reference.source.identity.get("channels")  # of images that are not RGB
    return Identity(
        metric=metric if extractor.is_inception else _OTHERWISE.get(metric, metric),
        **{part: extractor.identity[part] for part in ("extractor", "precision", "backend", "weights")},
        preprocess=extractor.identity["preprocess"] + (f", {seen_as}" if seen_as else ""),
        reference=digest(reference.source.identity),
        reference_n=len(reference),
        dims=reference.dims,
        n=n,
        options=options,
    )


def ratios_to_real(comparison: Comparison, reference: Reference) -> Vector:
    """How far each generated image is from the nearest real one, as a share of how far that is from its own [N]."""
    return ratios(comparison.nearest_distance, reference.neighbours.distances[comparison.nearest, 0])


def _frechet(sets: FeatureSets) -> list[Result]:
    reference, n, jackknife, enough = sets.reference, len(sets.gen), sets.frechet, sets.enough_for_frechet
    raw = Result(
        identity=identity_of("fid", reference, n, {}),
        estimate=jackknife.raw(),
        noise_floor=reference.noise_floor(n),
        replicates=jackknife,
        enough_images=enough,
    )
    identity, estimate = identity_of("fid_corrected", reference, n, {"blocks": BLOCKS}), jackknife.bias_corrected()
    return [raw, Result(identity=identity, estimate=estimate, replicates=jackknife, enough_images=enough)]


def _frechet_infinity(sets: FeatureSets) -> list[Result]:
    reference, n, jackknife = sets.reference, len(sets.gen), sets.frechet
    limit = fd_infinity(sets.gen, reference.moments, factor=reference.factor)
    method = "line over 1/n through 1, 2 and 3 parts; se of the jackknife"
    # To first order it moves as the distance itself does.
    replicates = replace(jackknife, value=limit, left_out=jackknife.left_out - jackknife.value + limit)
    return [
        Result(
            identity=identity_of("fid_infinity", reference, n, {"parts": 3, "blocks": BLOCKS}),
            estimate=normal_interval(limit, jackknife.se, n, method, freedom=len(jackknife.sizes) - 1),
            replicates=replicates,
            enough_images=sets.enough_for_frechet,
        )
    ]


def _frechet_of_populations(sets: FeatureSets) -> list[Result]:
    estimate = frechet_of_populations(sets.gen, sets.reference.features, sets.frechet, BLOCKS)
    identity = identity_of("fid_population", sets.reference, len(sets.gen), {"blocks": BLOCKS})
    return [Result(identity=identity, estimate=estimate, enough_images=sets.enough_for_frechet)]


def _monge(sets: FeatureSets) -> list[Result]:
    jackknife = monge_distance(sets.gen, sets.reference.features, blocks=BLOCKS)
    identity = identity_of("mind", sets.reference, len(sets.gen), {"projections": PROJECTIONS, "blocks": BLOCKS})
    return [Result(identity=identity, estimate=jackknife.raw(), replicates=jackknife)]


def _kernel(sets: FeatureSets) -> list[Result]:
    reference = sets.reference
    distance = kernel_distance(sets.gen, reference.features, within_b=reference.within, device=reference.extractor.gpu)
    identity = identity_of("kid", sets.reference, len(sets.gen), {"degree": 3, "gamma": None, "coef0": 1})
    return [Result(identity=identity, estimate=distance.estimate, replicates=distance.jackknife(BLOCKS))]


def _inception_score(sets: FeatureSets) -> list[Result]:
    identity = identity_of("is", sets.reference, len(sets.gen), {"splits": SPLITS})
    logits = sets.logits()
    estimate, bias = inception_score(logits, SPLITS), inception_score_bias(logits, SPLITS)
    return [Result(identity=identity, estimate=estimate, bias=bias)]


def _precision_recall(sets: FeatureSets) -> list[Result]:
    comparison = sets.comparison
    # Means over generated images, and over real ones. Differences take the balls as they are.
    means = {"precision": comparison.precise.counts > 0, "recall": comparison.recalled.counts > 0}
    return _by_neighbours(sets, comparison.precision_recall(), means, K)


def _density_coverage(sets: FeatureSets) -> list[Result]:
    comparison = sets.comparison
    means = {"density": comparison.dense.counts / K_DENSITY, "coverage": comparison.coverage.counts > 0}
    return _by_neighbours(sets, comparison.density_coverage(), means, K_DENSITY)


def _by_neighbours(
    sets: FeatureSets, estimates: Mapping[str, Estimate], means: Mapping[str, Array], k: int
) -> list[Result]:
    return [
        Result(
            identity=identity_of(name, sets.reference, len(sets.gen), {"k": k, **_compared(sets.reference)}),
            estimate=estimate,
            replicates=linear_jackknife(estimate.value, np.asarray(means[name], np.float64), BLOCKS),
        )
        for name, estimate in estimates.items()
    ]


def _compared(reference: Reference) -> dict[str, int]:
    # The option that the values have where not all real images are compared.
    return {} if reference.compares_all else {REAL_IMAGES: len(reference.compared)}


def _authenticity(sets: FeatureSets) -> list[Result]:
    shares = ratios_to_real(sets.comparison, sets.reference)
    estimate = authenticity(shares)
    identity = identity_of("authenticity", sets.reference, len(sets.gen), _compared(sets.reference))
    replicates = linear_jackknife(estimate.value, (shares > 1).astype(np.float64), BLOCKS)
    return [Result(identity=identity, estimate=estimate, replicates=replicates)]


METRICS = {
    metric.name: metric
    for metric in (
        Metric(
            name="fid",
            gives=(
                Number(id="fid", name="FID", other=("fd", "FD")),
                Number(id="fid_corrected", name="FID, bias-corrected", other=("fd_corrected", "FD, bias-corrected")),
            ),
            measure=_frechet,
            least_generated=3,
            least_real=4,
            of_statistics=True,
        ),
        Metric(
            name="fid_infinity",
            gives=(Number(id="fid_infinity", name="FID∞", other=("fd_infinity", "FD∞")),),
            measure=_frechet_infinity,
            least_generated=9,
            least_real=4,
            of_statistics=True,
        ),
        Metric(
            name="fid_population",
            gives=(
                Number(
                    id="fid_population", name="FID of the populations", other=("fd_population", "FD of the populations")
                ),
            ),
            measure=_frechet_of_populations,
            least_generated=3,
            least_real=4,
        ),
        Metric(
            name="kid",
            gives=(Number(id="kid", name="KID", other=("kd", "KD")),),
            measure=_kernel,
            least_generated=3,
            least_real=3,
        ),
        Metric(
            name="mind",
            gives=(Number(id="mind", name="MIND", other=("md", "Monge distance")),),
            measure=_monge,
            least_generated=3,
            least_real=3,
        ),
        Metric(
            name="pr",
            gives=(
                Number(id="precision", name="Precision", higher_is_better=True),
                Number(id="recall", name="Recall", higher_is_better=True),
            ),
            measure=_precision_recall,
            least_generated=K + 1,
            least_real=NEIGHBOURS + 1,
            of_pairs=True,
        ),
        Metric(
            name="dc",
            gives=(
                Number(id="density", name="Density", higher_is_better=True),
                Number(id="coverage", name="Coverage", higher_is_better=True),
            ),
            measure=_density_coverage,
            least_generated=K + 1,
            least_real=NEIGHBOURS + 1,
            of_pairs=True,
        ),
        Metric(
            name="authenticity",
            gives=(Number(id="authenticity", name="Authenticity", higher_is_better=True),),
            measure=_authenticity,
            least_generated=K + 1,
            least_real=NEIGHBOURS + 1,
            of_pairs=True,
        ),
        Metric(
            name="is",
            gives=(Number(id="is", name="IS", higher_is_better=True, other=("cs", "Classifier score")),),
            measure=_inception_score,
            least_generated=1,
            needs_logits=True,
            of_statistics=True,
        ),
        Metric(name="ppl", gives=(Number(id="ppl", name="PPL"),), of_statistics=True),
        Metric(name="ls", gives=(Number(id="ls", name="Separability"),)),
    )
}
OF_PAIRS = tuple(metric.name for metric in METRICS.values() if metric.of_pairs)
OF_GENERATORS = tuple(metric.name for metric in METRICS.values() if not metric.measure)  # these need a snapshot

_NUMBERS = [number for metric in METRICS.values() for number in metric.gives]
_OTHERWISE = {number.id: number.other[0] for number in _NUMBERS if number.other}
NAMES = {number.id: number.name for number in _NUMBERS} | dict(number.other for number in _NUMBERS if number.other)
HIGHER_IS_BETTER = {
    id for number in _NUMBERS if number.higher_is_better for id in (number.id, *(number.other or ())[:1])
}


def of_features() -> list[str]:
    """The metrics that features give; the others need a snapshot."""
    return [metric.name for metric in METRICS.values() if metric.measure]


def register(metric: Metric) -> None:
    """Make a metric of another package known by its name. Raises ValueError for a name that is taken."""
    if metric.name in METRICS:
        raise ValueError(f"name must be a new one; {metric.name} is registered already")
    METRICS[metric.name] = metric
    for number in metric.gives:
        _know(number.id, number.name, number.higher_is_better)


def _know(id: str, name: str, higher_is_better: bool) -> None:
    NAMES[id] = name
    if higher_is_better:
        HIGHER_IS_BETTER.add(id)


def _estimate(fields: Mapping[str, Any]) -> Estimate:
    return Estimate(**{name: fields[name] for name in ("value", "se", "low", "high", "n", "method")})
