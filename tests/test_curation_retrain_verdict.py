"""The verdict on a curation: its rule, and how often it is wrong where there is no difference, by simulation."""

from dataclasses import replace

import numpy as np
import pytest

from curation.retrain.results import _strata, sentence, signed
from curation.retrain.verdict import HARMED, HELPED, NOTHING, UNKNOWN, UNLEARNED, decide
from eval.metric_registry import Result
from eval.metrics.confidence_intervals import Jackknife, normal_interval
from eval.metrics.result_key import Identity

BLOCKS = 20
NAMES = ("extractor", "preprocess", "precision", "backend", "weights", "reference")
KEY = Identity(metric="kd", **dict.fromkeys(NAMES, ""), reference_n=100, n=100)


def result(value: float, influence: np.ndarray, metric: str = "kd") -> Result:
    """A metric's value, to which each block of images adds its `influence` [BLOCKS]."""
    left_out = value - (influence - influence.mean()) / (BLOCKS - 1)
    jackknife = Jackknife(value=value, left_out=left_out, sizes=np.full(BLOCKS, 5))
    return Result(
        identity=replace(KEY, metric=metric), estimate=normal_interval(value, 0.1, 100, ""), replicates=jackknife
    )


def experiment(
    rng: np.random.Generator,
    means: tuple[float, float, float],
    spread: tuple[float, float, float],
    repeats: int,
    images: float,
    metric: str = "kd",
) -> dict[str, list[Result]]:
    """What trainings give whose metric has `means` and standard deviations `spread`, arm by arm, evaluated by images
    whose chance has the standard deviation `images` in each arm; a part of it is the same in all, as of one latent."""
    arms, common = {}, rng.normal(0, 1, BLOCKS)
    for arm, mean, deviation in zip(("curated", "full", "random"), means, spread, strict=True):
        own = rng.normal(0, 1, BLOCKS)
        arms[arm] = []
        for _ in range(repeats):
            influence = images * BLOCKS**0.5 * (common + own + rng.normal(0, 1, BLOCKS)) / 3**0.5
            arms[arm].append(result(float(mean + rng.normal(0, deviation) + influence.mean()), influence, metric))
    return arms


EVERYWHERE = (1.0, 1.0, 1.0)
FAR = result(100.0, np.random.default_rng(0).normal(0, 0.1, BLOCKS))  # noise that every arm beats


FLOOR = Result(identity=KEY, estimate=normal_interval(0.5, 0.0, 100, ""))


def decided(means, *, noise: float = 100.0, repeats: int = 3, metric: str = "kd", spread: float = 0.01) -> str:
    arms = experiment(np.random.default_rng(1), means, (spread,) * 3, repeats, 0.01, metric)
    return decide(arms, result(noise, np.random.default_rng(2).normal(0, 0.01, BLOCKS), metric))


@pytest.mark.parametrize(
    ("means", "verdict"),
    [
        ((1, 2, 2), HELPED),
        ((1, 2, 1), NOTHING),  # better than everything, and so is any smaller set
        ((1, 1, 2), NOTHING),
        ((1, 1, 1), NOTHING),
        ((2, 1, 2), HARMED),
        ((1.5, 2, 1), HARMED),  # dropping at random would have been better
    ],
)
def test_the_rule(means, verdict):
    assert decided(means) == verdict
    assert decided(tuple(-mean for mean in means), noise=-100, metric="recall") == verdict  # where higher is better


@pytest.mark.parametrize("means", [(1, 9, 9), (9, 1, 1), (1, 1, 1)])
def test_one_repeat_gives_no_verdict_whatever_the_figures(means):
    assert decided(means, repeats=1) == UNKNOWN == decided(means, repeats=1, noise=0)
    arms = experiment(np.random.default_rng(1), means, EVERYWHERE, 1, 0.01)
    text = sentence(UNKNOWN, arms, FAR)
    assert text.startswith("No verdict: one repeat says nothing of the chance of training. By KD ")
    for arm in ("full", "random"):
        apart = arms["curated"][0].estimate.value - arms[arm][0].estimate.value
        assert signed(apart) in text
    two = experiment(np.random.default_rng(1), means, EVERYWHERE, 2, 0.01)
    assert decide({**two, "random": two["random"][:1]}, FAR) == UNKNOWN


def test_a_generator_that_does_not_beat_noise_has_not_learned_enough():
    assert decided((1, 2, 2), noise=1.0) == UNLEARNED  # the best arm is as good as noise
    assert decided((1, 2, 2), noise=0.5) == UNLEARNED
    assert decided((1, 2, 2), noise=1.5) == HELPED  # one arm that has learned is enough
    assert decided((2, 1, 2), noise=1.5) == HARMED
    assert decided((1, 2, 2), noise=1.5, spread=2.0) == UNLEARNED  # better on average, perhaps by chance
    arms = experiment(np.random.default_rng(1), (1, 2, 2), (0.01,) * 3, 3, 0.01)
    text = sentence(UNLEARNED, arms, FLOOR)
    assert "The generator has not learned enough: by KD no arm is better than noise" in text
    assert "curated +0.497" in text and "random +1.49" in text


@pytest.mark.parametrize(
    ("repeats", "spread", "images", "count"),
    [(3, (1, 1, 1), 0.0, 1000), (2, (4, 1, 1), 0.5, 200), (3, (4, 1, 1), 0.5, 200), (5, (1, 3, 3), 1.0, 200)],
)
def test_where_there_is_no_difference_helped_is_rare(repeats, spread, images, count):
    # benchmarks/verdicts.py does this with a generator that is trained.
    rng = np.random.default_rng(6)
    verdicts = [decide(experiment(rng, (0, 0, 0), spread, repeats, images), FAR) for _ in range(count)]
    chance = [3 * (share * (1 - share) / count) ** 0.5 for share in (0.025, 0.05)]
    assert verdicts.count(HELPED) / count <= 0.025 + chance[0]
    assert verdicts.count(HARMED) / count <= 0.05 + chance[1]
    assert set(verdicts) <= {HELPED, NOTHING, HARMED}


def test_a_difference_of_several_deviations_is_found_by_three_repeats():
    rng = np.random.default_rng(7)
    verdicts = [decide(experiment(rng, (0, 6, 6), EVERYWHERE, 3, 0.2), FAR) for _ in range(60)]
    assert verdicts.count(HELPED) > 48


def test_strata_of_which_too_few_images_are_compared_have_no_row():
    recall = {
        "value": 0.5,
        "replicates": Jackknife(value=0.5, left_out=np.array([0.4, 0.6]), sizes=np.ones(2)).to_dict(),
    }
    evaluation = {"strata": [{"name": name, "n_real": 3, "recall": recall if name == "b" else None} for name in "ab"]}
    assert [row["name"] for row in _strata({arm: [evaluation] for arm in ("curated", "full", "random")})] == ["b"]
