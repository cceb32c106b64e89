"""Inception score: how sure and how varied a classifier's verdicts on generated images are. From 1 to its classes.

Salimans et al. 2016, eq. 1: exp(E KL(p(y|x) | p(y))). It knows no real images, and is low for few images: read it
beside FID, at one n.
"""

import math

import numpy as np
from scipy.special import log_softmax, logsumexp

from eval.metrics.confidence_intervals import Estimate, normal_interval
from eval.metrics.feature_stats import Array, Features, as_features


def inception_score(logits: Features | Array, splits: int = 10, *, shuffle_seed: int | None = 0) -> Estimate:
    """Mean score of `splits` parts of logits [N, k], shuffled first unless `shuffle_seed` is None.

    Fewer than 2 images a part make fewer parts, and a single image scores 1. The interval is from the spread of single
    images' divergences; that of p(y) adds nothing to first order. Raises ValueError for no logits or no split.
    """
    logits = as_features(logits)
    n, classes = len(logits), logits.dim
    if not n or splits < 1:
        raise ValueError(f"logits and splits must be at least 1; got {n} and {splits} instead")
    order = np.arange(n) if shuffle_seed is None else np.random.default_rng(shuffle_seed).permutation(n)
    parts = max(1, min(splits, n // 2))
    scores, variances = [], []
    for part in range(parts):
        log_p = log_softmax(logits.take(order[part * n // parts : (part + 1) * n // parts]), axis=1)  # [n', k]
        log_q = logsumexp(log_p, axis=0) - math.log(len(log_p))
        divergences = np.sum(np.exp(log_p) * (log_p - log_q), axis=1)  # [n']
        scores.append(math.exp(divergences.mean()))
        variances.append(scores[-1] ** 2 * float(divergences.var(ddof=min(1, len(log_p) - 1))) / len(log_p))
    se = math.sqrt(sum(variances)) / parts
    estimate = normal_interval(math.fsum(scores) / parts, se, n, f"delta method, {parts} splits")
    return estimate.clipped(1.0, classes)


def inception_score_bias(logits: Features | Array, splits: int = 10, *, shuffle_seed: int | None = 0) -> float:
    """How far the score is off for want of images, from 0 down, in the unit of the score.

    The entropy of the mean of n' verdicts is too low by sum_k Var p(k|x) / (2 n' p(k)) to first order (Miller 1955).
    Takes and raises what inception_score does.
    """
    logits = as_features(logits)
    n = len(logits)
    order = np.arange(n) if shuffle_seed is None else np.random.default_rng(shuffle_seed).permutation(n)
    parts = max(1, min(splits, n // 2))
    lost = []
    for part in range(parts):
        p = np.exp(log_softmax(logits.take(order[part * n // parts : (part + 1) * n // parts]), axis=1))  # [n', k]
        lost.append(float(np.sum(p.var(axis=0) / np.maximum(p.mean(axis=0), 1e-12))) / (2 * len(p)))
    return inception_score(logits, splits, shuffle_seed=shuffle_seed).value * math.expm1(-float(np.mean(lost)))
