"""Whether curation helped: differences between the arms with their intervals, and the rule that makes a word of them.

The arms' images come from the same latents and are compared with the same held-out images, so differences are paired.
"""

import math
from collections.abc import Sequence

import numpy as np

from eval.metric_registry import HIGHER_IS_BETTER, Result
from eval.metrics.confidence_intervals import Estimate, Jackknife, normal_interval

HELPED, NOTHING, HARMED = "helped", "did nothing", "harmed"
CONTRASTS = (("curated", "full"), ("curated", "random"), ("random", "full"))
RULE = (
    "Curation helped if the curated arm is better than the full arm and better than the random arm, each by a 95 % "
    "interval of the paired difference that excludes zero. It harmed if it is worse than either of them by such an "
    "interval. Else it did nothing that can be told from chance. As far as the intervals hold all chance, an "
    "experiment without any difference ends in 'harmed' 5 times in 100 at most, and in 'helped' 2.5 times."
)


def contrast(a: Sequence[Result], b: Sequence[Result]) -> Estimate:
    """a - b of one metric, over repeats: a[r] and b[r] are of the same latents, reference and repeat."""
    pairs = []
    for first, second in zip(a, b, strict=True):
        assert first.replicates is not None and second.replicates is not None
        pairs.append(first.replicates - second.replicates)
    return pooled(pairs, corrected=a[0].id.endswith("_corrected"))


def pooled(repeats: Sequence[Jackknife], *, corrected: bool = False) -> Estimate:
    """The mean of one statistic over repeats, all of which have the same blocks.

    Two kinds of chance add up: that of the images, by the jackknife of the mean, and from two repeats on that of
    training, by their spread. The degrees of freedom are Welch's and Satterthwaite's (1946). The repeats' own chance of
    images is in both, so the interval errs to the wide side. With one repeat the chance of training is unknown.
    """
    mean = Jackknife(
        value=float(np.mean([repeat.value for repeat in repeats])),
        left_out=np.mean([repeat.left_out for repeat in repeats], axis=0),
        sizes=repeats[0].sizes,
    )
    images = mean.bias_corrected() if corrected else mean.raw()
    if len(repeats) == 1:
        return images
    values = [repeat.corrected if corrected else repeat.value for repeat in repeats]
    training = float(np.std(values, ddof=1)) / math.sqrt(len(repeats))
    se = math.hypot(images.se, training)
    parts = training**4 / (len(repeats) - 1) + images.se**4 / (len(mean.sizes) - 1)
    freedom = se**4 / parts if parts else math.inf
    return normal_interval(images.value, se, images.n, f"{images.method}; {len(repeats)} repeats", freedom)


def better(difference: Estimate, metric: str) -> int:
    """1 where the first of the two is surely better, -1 where it is surely worse, 0 where chance may have done it."""
    sign = 1 if metric in HIGHER_IS_BETTER else -1
    if difference.low > 0:
        return sign
    return -sign if difference.high < 0 else 0


def decide(against_full: Estimate, against_random: Estimate, metric: str) -> str:
    """HELPED, NOTHING or HARMED, by RULE: from curated - full and curated - random of the metric that decides."""
    outcomes = (better(against_full, metric), better(against_random, metric))
    if min(outcomes) < 0:
        return HARMED
    return HELPED if min(outcomes) > 0 else NOTHING


def deciding_metric(ids: Sequence[str], *, enough: bool) -> str:
    """The metric that decides: the corrected Fréchet distance, given `enough` images, else the kernel distance."""
    order = ("fid_corrected", "fd_corrected") if enough else ("kid", "kd")
    return next(id for id in order if id in ids)
