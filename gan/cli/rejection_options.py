"""The options of --reject, which generate and eval run share, and how they come to what carries them out."""

from typing import Any

import click

from gan.cli.options import FiniteRange, WholeRange, together
from gan.errors import RequestError

NAMES = ("reject", "budget", "calibration", "burn_in", "gamma", "gamma_percentile")


# How images are rejected. What is not given is None, and has the default that its help names.
rejection_options = together(
    click.option(
        "--reject",
        type=click.Choice(["drs", "mh", "obrs"]),
        help="Take only candidates that the discriminator accepts: discriminator rejection sampling (Azadi et al. "
        "2019), Metropolis-Hastings (Turner et al. 2019), or with an exact budget (Verine et al. 2024).",
    ),
    click.option(
        "--budget",
        metavar="K",
        type=WholeRange(1),
        help="Candidates for each accepted image: exactly with obrs, as a chain's length with mh, about with drs. "
        "Default: 4.",
    ),
    click.option(
        "--calibration",
        type=click.Choice(["platt", "isotonic", "none"]),
        help="How the discriminator's logits become log densities' ratios. Default: platt.",
    ),
    click.option(
        "--burn-in",
        metavar="NIMG",
        type=WholeRange(2),
        help="Generated images to calibrate on and to estimate drs's largest logit from. Default: 256.",
    ),
    click.option(
        "--gamma", metavar="GAMMA", type=FiniteRange(), help="Of drs, in place of --budget: 0 is exact, less more."
    ),
    click.option(
        "--gamma-percentile",
        metavar="PERCENT",
        type=FiniteRange(0, 100),
        help="Of drs, in place of --budget: so many per cent get less than even odds.",
    ),
)


def given(options: dict[str, Any]) -> dict[str, Any]:
    """Those options that were given. Raises RequestError for any of them without --reject."""
    found = {name: value for name, value in options.items() if value is not None}
    if found and "reject" not in found:
        raise RequestError(f"--{next(iter(found)).replace('_', '-')} needs --reject drs, mh or obrs")
    return found
