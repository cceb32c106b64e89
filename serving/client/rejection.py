"""Rejection sampling with a served discriminator: which candidates' seeds are accepted."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from gan.errors import RequestError
from gan.rejection import algorithms
from gan.runtime.console import progress
from gan.sampling.latents import MAX_SEED
from serving.client.client import Client


def choose(
    client: Client,
    candidates: Sequence[int] | None,
    count: int,
    budget: int,
    truncation_psi: float = 1.0,
    label: int | str | None = None,
) -> tuple[list[int], dict[str, Any]]:
    """Accepted seeds, `count` of `count * budget`, in the order of the candidates, and figures for the report.

    Optimal budgeted rejection (Verine et al. 2024) on the logits as they are; candidates are all seeds from 0 on where
    they are None. Raises RequestError when there are too few, or the server has no discriminator.
    """
    needed = count * budget
    seeds: Sequence[int] = range(MAX_SEED) if candidates is None else candidates
    if len(seeds) < needed:
        raise RequestError(
            f"`seeds` must name at least {needed} candidates for `count` {count} and `budget` {budget}; "
            f"got {len(seeds)} instead"
        )
    seeds = seeds[:needed]
    scores = progress(client.score(seeds, truncation_psi, label), "Logits of candidates", needed)
    logits = np.array(list(scores), np.float64)
    probabilities = algorithms.budgeted_probabilities(logits, budget)
    chosen = algorithms.draw(probabilities, float(algorithms.uniforms(seeds[:1])[0]))
    accepted = [seeds[index] for index in chosen.tolist()]
    figures = {
        "method": "obrs",
        "candidates": needed,
        "accepted": len(accepted),
        "acceptance": len(accepted) / needed,
        "logit_mean": float(logits.mean()),
        "logit_mean_accepted": float(logits[chosen].mean()),
    }
    return accepted, figures
