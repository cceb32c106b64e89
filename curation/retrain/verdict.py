"""Whether curation helped: differences between the arms with their intervals, and the rule that makes a word of them.

The arms' images come from the same latents and are compared with the same held-out images, so differences are paired.
"""

from collections.abc import Mapping, Sequence

from curation.retrain.splits import ARMS
from eval.compare_groups import trainings
from eval.metric_registry import HIGHER_IS_BETTER, Result
from eval.metrics.confidence_intervals import Estimate
from eval.metrics.training_seeds import TwoChances, in_quadrature

HELPED, NOTHING, HARMED = "helped", "did nothing", "harmed"
UNLEARNED, UNKNOWN = "not enough learned", "no verdict"
HEADLINES = {
    HELPED: "Curation helped",
    NOTHING: "Curation did nothing that can be told from chance",
    HARMED: "Curation harmed",
    UNLEARNED: "The generator has not learned enough",
    UNKNOWN: "No verdict",
}
CONTRASTS = (("curated", "full"), ("curated", "random"), ("random", "full"))
RULE = (
    "With one repeat there is no verdict: one training of each arm says nothing of the chance of training. The "
    "generator has not learned enough when no arm is better than noise with the colours and the spectrum of the "
    "training images. Else curation helped if the curated arm is better than the full arm and better than the random "
    "arm, each by a 95 % interval of the difference that excludes zero; it harmed if it is worse than either of them "
    "by such an interval; and if neither, it did nothing that can be told from chance. The intervals hold the chance "
    "of the generated images (paired, as the arms share their latents) and that of training (Welch's interval by the "
    "spread between repeats). An experiment without any difference ends in 'harmed' 5 times in 100 at most, and in "
    "'helped' 2.5 times. All arms share the checkpoint that they start from and the held-out images; others of these "
    "may answer otherwise."
)

Repeats = Mapping[str, Sequence[Result]]  # of one metric, by arm; the r-th of all arms are of one repeat


def contrast(a: Sequence[Result], b: Sequence[Result]) -> TwoChances:
    """a - b of one metric, of the same latents and reference."""
    return trainings(a).minus(trainings(b), paired=True)


def above_noise(results: Sequence[Result], noise: Result) -> Estimate:
    """An arm minus noise, which no training has made, so that it has the chance of its images alone."""
    value = trainings(results).mean().both
    return in_quadrature(value, noise.estimate, value.value - noise.estimate.value)


def better(difference: Estimate, metric: str) -> int:
    """1 where the first of the two is surely better, -1 where it is surely worse, 0 where chance may have done it."""
    sign = 1 if metric in HIGHER_IS_BETTER else -1
    if difference.low > 0:
        return sign
    return -sign if difference.high < 0 else 0


def decide(repeats: Repeats, noise: Result) -> str:
    """The verdict by RULE, from the arms' results of the metric that decides."""
    metric = noise.id
    if min(len(repeats[arm]) for arm in ARMS) < 2:
        return UNKNOWN
    if not any(better(above_noise(repeats[arm], noise), metric) > 0 for arm in ARMS):
        return UNLEARNED
    outcomes = [better(contrast(repeats["curated"], repeats[arm]).both, metric) for arm in ("full", "random")]
    if min(outcomes) < 0:
        return HARMED
    return HELPED if min(outcomes) > 0 else NOTHING


def deciding_metric(ids: Sequence[str], *, enough: bool) -> str:
    """The metric that decides: the corrected Fréchet distance, given `enough` images, else the kernel distance."""
    order = ("fid_corrected", "fd_corrected") if enough else ("kid", "kd")
    return next(id for id in order if id in ids)
