"""How often `salon curate retrain` is wrong where there is no difference, and right where there is one.

A generator that is trained in a millisecond: x = z A + m, of 4 features, whose m and A follow minibatches of its arm's
images. Its trainings differ by the order of the images alone, its images are of shared latents, and they are evaluated
against held-out images by the real metrics; curation.retrain.verdict.decide makes the verdict, as in the command.

python benchmarks/verdicts.py [--experiments 1000] [--only SCENARIO]
"""

import argparse
from collections import Counter

import numpy as np

from curation.retrain.splits import ARMS, split
from curation.retrain.verdict import HARMED, HELPED, NOTHING, UNKNOWN, UNLEARNED, decide
from eval.metric_registry import Result
from eval.metrics.feature_stats import Features
from eval.metrics.frechet import frechet_jackknife
from eval.metrics.kernel import kernel_distance
from eval.metrics.result_key import Identity

DIM, IMAGES, GENERATED, HELD_OUT, STEPS, BATCH = 4, 400, 200, 100, 40, 16
PARTS = ("extractor", "preprocess", "precision", "backend", "weights", "reference")

SCENARIOS = {  # share of outliers, whether curation finds them, share that it drops, learning rate, metric
    "no difference: 5 % dropped at random, by KD": (0, False, 0.05, 0.1, "kd"),
    "no difference: 5 % dropped at random, by FD": (0, False, 0.05, 0.1, "fd_corrected"),
    "half dropped at random": (0, False, 0.5, 0.1, "kd"),
    "nothing learned": (0, False, 0.05, 0.0, "kd"),
    "10 % outliers, dropped": (0.1, True, 0.1, 0.1, "kd"),
}


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiments", type=int, default=1000)
    parser.add_argument("--repeats", type=int, nargs="+", default=[1, 2, 3, 5])
    parser.add_argument("--only", help="a part of a scenario's name")
    arguments = parser.parse_args()
    verdicts = (HELPED, HARMED, NOTHING, UNLEARNED, UNKNOWN)
    print("| scenario | repeats |", " | ".join(verdicts), "|\n|", " --- |" * (2 + len(verdicts)))
    for name in SCENARIOS:
        for repeats in arguments.repeats if not arguments.only or arguments.only in name else []:
            counts = Counter(experiment(name, repeats, seed) for seed in range(arguments.experiments))
            shares = [f"{counts[verdict] / arguments.experiments:.1%}" for verdict in verdicts]
            print("|", name, "|", repeats, "|", " | ".join(shares), "|", flush=True)


def experiment(name: str, repeats: int, seed: int) -> str:
    """The verdict of one experiment."""
    outliers, found, dropped, rate, metric = SCENARIOS[name]
    rng = np.random.default_rng([seed, repeats])
    images = rng.normal(size=(IMAGES, DIM)) * np.linspace(2, 0.5, DIM)
    held = rng.choice(IMAGES, HELD_OUT, replace=False)
    real = images[held]
    planted = rng.random(IMAGES) < outliers
    images[planted] += 4
    gone = planted if found else rng.permutation(IMAGES) < dropped * IMAGES
    sets = split(np.flatnonzero(~gone), IMAGES, np.sort(held), repeats=repeats, seed=seed)
    z = rng.normal(size=(GENERATED, DIM))
    results: dict[str, list[Result]] = {}
    for arm in ARMS:
        trained = [train(images[sets.of(arm, r)], rate, rng) for r in range(repeats)]
        results[arm] = [evaluate(z @ factor + mean, real, metric) for mean, factor in trained]
    return decide(results, evaluate(rng.normal(1.5, 2, size=(GENERATED, DIM)), real, metric))


def train(images: np.ndarray, rate: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Mean [DIM] and factor [DIM, DIM] of a Gaussian that follows minibatches at this rate."""
    mean, cov = np.full(DIM, 1.5), 4 * np.eye(DIM)
    for _ in range(STEPS):
        batch = images[rng.integers(0, len(images), BATCH)]
        mean = mean + rate * (batch.mean(axis=0) - mean)
        cov = cov + rate * (np.cov(batch.T) - cov)
    return mean, np.linalg.cholesky(cov).T


def evaluate(images: np.ndarray, real: np.ndarray, metric: str) -> Result:
    """A set of images by a metric of Salon's."""
    identity = Identity(metric=metric, **dict.fromkeys(PARTS, ""), reference_n=len(real), n=len(images))
    if metric == "kd":
        distance = kernel_distance(images, real)
        return Result(identity=identity, estimate=distance.estimate, replicates=distance.jackknife())
    jackknife = frechet_jackknife(images, Features([real]).moments())
    return Result(identity=identity, estimate=jackknife.bias_corrected(), replicates=jackknife)


if __name__ == "__main__":
    main()
