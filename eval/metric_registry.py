"""From the features of generated and real images to results: each metric that the features give, by name.

With Inception's features the names are FID, KID and IS; with any other network's FD, KD and CS (classifier score), as
their values have nothing in common.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from eval.data.reference import NEIGHBOURS, Reference
from eval.features.extractor import Extractor
from eval.metrics.confidence_intervals import Estimate, Jackknife, linear_jackknife
from eval.metrics.feature_stats import Array, Features
from eval.metrics.frechet import frechet_jackknife
from eval.metrics.inception_score import inception_score
from eval.metrics.kernel import kernel_distance
from eval.metrics.precision_recall import Comparison, compare
from eval.metrics.result_key import Identity, digest
from gan.errors import RequestError

BLOCKS = 20  # of every jackknife
K, K_DENSITY, SPLITS = 3, 5, 10
OF_FEATURES = ("fid", "kid", "pr", "dc", "is")
OF_GENERATORS = ("ppl", "ls")  # these need a snapshot
METRICS = (*OF_FEATURES, *OF_GENERATORS)

NAMES = {
    **{"fid": "FID", "fid_corrected": "FID, bias-corrected", "fd": "FD", "fd_corrected": "FD, bias-corrected"},
    **{"kid": "KID", "kd": "KD", "is": "IS", "cs": "Classifier score"},
    **{"precision": "Precision", "recall": "Recall", "density": "Density", "coverage": "Coverage"},
    **{"ppl": "PPL", "ls": "Separability"},
}
HIGHER_IS_BETTER = {"is", "cs", "precision", "recall", "density", "coverage"}
_GIVES = {"pr": ("precision", "recall"), "dc": ("density", "coverage")}
_OTHERWISE = {"fid": "fd", "fid_corrected": "fd_corrected", "kid": "kd", "is": "cs"}


@dataclass(frozen=True, kw_only=True)
class Result:
    """One number, what it is, how sure it is; `replicates` make differences between results paired."""

    identity: Identity
    estimate: Estimate
    noise_floor: Estimate | None = None  # the same of real images
    replicates: Jackknife | None = None

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
        }

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Result":
        """From what to_dict gave. Raises RequestError for anything else."""
        try:
            replicates, floor = fields["replicates"], fields["noise_floor"]
            return cls(
                identity=Identity.from_dict(fields["identity"]),
                estimate=_estimate(fields),
                noise_floor=_estimate(floor) if floor else None,
                replicates=replicates and Jackknife.from_dict(replicates),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise RequestError(f"a result must be as salon eval writes it; {error!r} instead") from error


def require_known(metrics: list[str]) -> None:
    """Raise RequestError for an unknown metric, or none."""
    if not metrics or any(metric not in METRICS for metric in metrics):
        wrong = next((metric for metric in metrics if metric not in METRICS), "none")
        raise RequestError(f"--metrics must be some of {','.join(METRICS)}; got {wrong} instead")


def result_ids(metric: str, inception: bool) -> list[str]:
    """What a metric's results are called with Inception's or another network's features."""
    ids = [metric, "fid_corrected"] if metric == "fid" else list(_GIVES.get(metric, [metric]))
    return ids if inception else [_OTHERWISE.get(id, id) for id in ids]


def require_possible(metrics: list[str], extractor: Extractor, n: int, reference_n: int) -> None:
    """Raise RequestError when an extractor's features, or so few images, cannot give a metric."""
    if "is" in metrics and not extractor.has_logits:
        raise RequestError(f"--metrics is needs an extractor with logits; {extractor.name} has none")
    needed = {"fid": (3, 4), "kid": (3, 3), "pr": (K + 1, NEIGHBOURS + 1), "dc": (2, NEIGHBOURS + 1), "is": (1, 0)}
    for metric in metrics:
        least, least_reference = needed.get(metric, (0, 0))
        if n < least or reference_n < least_reference:
            raise RequestError(
                f"--metrics {metric} needs at least {least} generated and {least_reference} real images; "
                f"got {n} and {reference_n}"
            )


def identity_of(metric: str, reference: Reference, n: int, options: Mapping[str, Any]) -> Identity:
    """Identity of a result of `n` images against a reference."""
    extractor = reference.extractor
    return Identity(
        metric=metric if extractor.is_inception else _OTHERWISE.get(metric, metric),
        **{part: extractor.identity[part] for part in ("extractor", "preprocess", "precision", "backend", "weights")},
        reference=digest(reference.source.identity),
        reference_n=len(reference),
        n=n,
        options=options,
    )


def measure(
    metric: str, reference: Reference, gen: Features, logits: Features | None, comparison: Comparison | None
) -> list[Result]:
    """One metric of OF_FEATURES; `comparison` is of `compare_sets`, for pr and dc."""
    if metric == "fid":
        return _frechet(reference, gen)
    if metric == "kid":
        distance = kernel_distance(gen, reference.features, within_b=reference.within)
        identity = identity_of("kid", reference, len(gen), {"degree": 3, "gamma": None, "coef0": 1})
        return [Result(identity=identity, estimate=distance.estimate, replicates=distance.jackknife(BLOCKS))]
    if metric == "is":
        assert logits is not None
        identity = identity_of("is", reference, len(gen), {"splits": SPLITS})
        return [Result(identity=identity, estimate=inception_score(logits, SPLITS))]
    assert comparison is not None
    judged: dict[str, Array]
    if metric == "pr":
        estimates, options = comparison.precision_recall(), {"k": K}
        # Means over generated images, and over real ones. Differences take the balls as they are.
        judged = {"precision": comparison.precise.counts > 0, "recall": comparison.recalled.counts > 0}
    else:
        estimates, options = comparison.density_coverage(), {"k": K_DENSITY}
        judged = {"density": comparison.dense.counts / K_DENSITY, "coverage": comparison.coverage.counts > 0}
    return [
        Result(
            identity=identity_of(name, reference, len(gen), options),
            estimate=estimate,
            replicates=linear_jackknife(estimate.value, np.asarray(judged[name], np.float64), BLOCKS),
        )
        for name, estimate in estimates.items()
    ]


def compare_sets(reference: Reference, gen: Features) -> Comparison:
    """All pairs of generated and real images, for pr, dc, realism and nearest neighbours."""
    return compare(reference.features, gen, k=K, k_density=K_DENSITY, real_neighbours=reference.neighbours)


def _frechet(reference: Reference, gen: Features) -> list[Result]:
    n = len(gen)
    jackknife = frechet_jackknife(gen, reference.moments, factor=reference.factor, blocks=BLOCKS)
    floor = reference.noise_floor(n)
    raw = Result(
        identity=identity_of("fid", reference, n, {}),
        estimate=jackknife.raw(),
        noise_floor=floor,
        replicates=jackknife,
    )
    identity = identity_of("fid_corrected", reference, n, {"blocks": BLOCKS})
    return [raw, Result(identity=identity, estimate=jackknife.bias_corrected(), replicates=jackknife)]


def _estimate(fields: Mapping[str, Any]) -> Estimate:
    return Estimate(**{name: fields[name] for name in ("value", "se", "low", "high", "n", "method")})
