"""How often 95 % intervals hold what they are of, by simulation: normal features of two populations, drawn anew.

python benchmarks/coverage.py --images 200 --images 1000 --draws 400
python benchmarks/coverage.py --images 4000 --draws 100

Fréchet distances are of their closed form; where the interval takes the dataset as fixed, so is the truth. What has no
closed form (kernel distance, precision, recall, density, coverage, Monge distance, scores) is of its mean over draws.
"""

import sys

sys.path.pop(0)  # this folder

from collections import defaultdict

import click
import numpy as np

from eval.metrics.confidence_intervals import Estimate
from eval.metrics.feature_stats import Features, Moments
from eval.metrics.frechet import frechet_distance, frechet_estimate, frechet_of_populations
from eval.metrics.inception_score import inception_score
from eval.metrics.kernel import kid
from eval.metrics.monge import monge_distance
from eval.metrics.precision_recall import compare
from gan.runtime.console import progress, say, table

CLASSES = 10


class Populations:
    """Two normal populations of features in `dim` dimensions: the generated one is shifted and less varied."""

    def __init__(self, dim: int, shift: float, scale: float) -> None:
        self.dim, self.scale = dim, scale
        rng = np.random.default_rng(0)
        self.spread = np.linspace(1.5, 0.5, dim)  # standard deviations
        self.basis = np.linalg.qr(rng.standard_normal([dim, dim]))[0]
        self.mean = np.r_[shift, np.zeros(dim - 1)]

    def real(self, rng: np.random.Generator, n: int) -> np.ndarray:
        return (rng.standard_normal([n, self.dim]) * self.spread) @ self.basis

    def generated(self, rng: np.random.Generator, n: int) -> np.ndarray:
        return (rng.standard_normal([n, self.dim]) * self.spread * self.scale + self.mean) @ self.basis

    def moments(self, generated: bool) -> Moments:
        scale, mean = (self.scale, self.mean @ self.basis) if generated else (1.0, np.zeros(self.dim))
        return Moments.of(mean, self.basis.T @ np.diag((self.spread * scale) ** 2) @ self.basis)


def draw(populations: Populations, n: int, fixed: Features, seed: int) -> dict[str, tuple[Estimate, float | None]]:
    """Name -> (estimate, its truth where there is a closed form), of one draw of n on either side."""
    rng = np.random.default_rng([seed, n])
    real, gen = populations.real(rng, n), populations.generated(rng, n)
    reference = Features([real]).moments()
    to_reference = frechet_distance(populations.moments(True), reference)
    truth = frechet_distance(populations.moments(True), populations.moments(False))
    frechet = frechet_estimate(gen, reference, infinity=True)
    comparison = compare(real, gen)
    logits = gen[:, :CLASSES] * 3
    return {
        "FD, corrected": (frechet["bias_corrected"], to_reference),
        "FD∞": (frechet["fd_infinity"], to_reference),
        "FD, corrected, of the populations": (frechet["bias_corrected"], truth),
        "FD of the populations": (frechet_of_populations(gen, real), truth),
        "KD": (kid(gen, real), None),
        "Monge distance to one dataset": (monge_distance(gen, fixed, projections=200).raw(), None),
        **{name.capitalize(): (each, None) for name, each in comparison.precision_recall().items()},
        **{name.capitalize(): (each, None) for name, each in comparison.density_coverage().items()},
        "Score": (inception_score(logits), None),
    }


@click.command(help=__doc__)
@click.option("--images", multiple=True, type=int, default=(200, 1000), show_default=True, help="On either side.")
@click.option("--draws", default=200, show_default=True)
@click.option("--dim", default=16, show_default=True, help="Dimensions of the features.")
@click.option("--shift", default=1.0, show_default=True, help="Of the generated population.")
@click.option("--scale", default=0.9, show_default=True, help="Of its standard deviations.")
def main(images: tuple[int, ...], draws: int, dim: int, shift: float, scale: float) -> None:
    populations = Populations(dim, shift, scale)
    rows = defaultdict(list)
    for n in images:
        fixed = Features([populations.real(np.random.default_rng([7, n]), n)])
        found = defaultdict(list)
        for seed in progress(range(draws), f"{n} images", draws, "draw"):
            for name, each in draw(populations, n, fixed, seed).items():
                found[name].append(each)
        for name, pairs in found.items():
            values = np.array([estimate.value for estimate, _ in pairs])
            truths = np.array([values.mean() if truth is None else truth for _, truth in pairs])
            held = np.mean([e.low <= t <= e.high for (e, _), t in zip(pairs, truths, strict=True)])
            width = np.mean([e.se for e, _ in pairs]) / (values - truths).std()
            rows[name].append(f"{held:.3f} ({width:.2f})")
    say(table([[name, *cells] for name, cells in rows.items()], ["held (se / its true size)", *map(str, images)]))


if __name__ == "__main__":
    main()
