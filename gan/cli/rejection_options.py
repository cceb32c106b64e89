"""The options of --reject, which generate and eval run share: the fields of gan.rejection.request.Rejection."""

from typing import Any

import click

from gan.cli.options import FiniteRange, WholeRange, together
from gan.errors import RequestError
from gan.rejection.request import BUDGET, Rejection

NAMES = ("reject", "budget", "calibration", "burn_in", "gamma", "gamma_percentile")

rejection_options = together(
    click.option(
        "--reject",
        type=click.Choice(["drs", "mh", "obrs"]),
        help="Rejection sampling by the discriminator: drs (Azadi et al. 2019), mh (Metropolis-Hastings, Turner et al. "
        "2019), or obrs (an exact budget, Verine et al. 2024).",
    ),
    click.option(
        "--budget",
        metavar="K",
        type=WholeRange(1),
        help="Candidates for each accepted image: exactly with obrs, as a chain's length with mh, about with drs. "
        f"Default: {BUDGET}.",
    ),
    click.option(
        "--calibration",
        type=click.Choice(["platt", "isotonic", "none"]),
        show_default=False,  # it stands in the text, since eval leaves it open until it is known whether to reject
        help="Calibration of the discriminator's logits, after which they are log density ratios. "
        f"Default: {Rejection.calibration}.",
    ),
    click.option(
        "--burn-in",
        metavar="NIMG",
        type=WholeRange(2),
        show_default=False,
        help="Generated images to calibrate on and to estimate drs's largest logit from. "
        f"Default: {Rejection.burn_in}.",
    ),
    click.option(
        "--gamma",
        metavar="GAMMA",
        type=FiniteRange(),
        help="DRS offset (Azadi et al. 2019, section 3). 0: exact sampling; negative: a higher acceptance rate. "
        "Excludes --budget.",
    ),
    click.option(
        "--gamma-percentile",
        metavar="PERCENT",
        type=FiniteRange(0, 100),
        help="DRS offset as a percentile of the burn-in's: so many per cent are accepted with less than even odds. "
        "Excludes --budget.",
    ),
)


def given(options: dict[str, Any]) -> dict[str, Any]:
    """Those options that were given. Raises RequestError for any of them without --reject."""
    chosen = {name: value for name, value in options.items() if value is not None}
    if chosen and "reject" not in chosen:
        raise RequestError(f"--{next(iter(chosen)).replace('_', '-')} needs --reject drs, mh or obrs")
    return chosen
