"""What features of a sound drive: the speed along a path, the strength of truncation, amounts along directions.

Without torch. A feature is from 0 to 1 in each frame (see gan.sampling.audio).
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from gan.errors import RequestError

FEATURES = ("onset", "low", "mid", "high")
SPEED, PSI, NOTHING = "speed", "psi", "none"
USUAL = {SPEED: 2.0, PSI: 0.2}  # amounts; along a direction 1
LIMITS = {SPEED: (0.0, 100.0), PSI: (-2.0, 2.0)}  # of amounts; along a direction -100 to 100


@dataclass(frozen=True, kw_only=True)
class Drive:
    """What one feature drives, and how far where it is 1.

    speed: so many times the usual speed is added, and what is left of the time goes slower, so that the keys' seconds
    hold on average. psi: the distance of ws from their average grows by this share. A direction: standard deviations.
    """

    to: str  # speed, psi or the name of a direction
    amount: float


# Where nothing is said: onsets push the journey on, and bass makes it a little more extreme.
DEFAULT = {"onset": Drive(to=SPEED, amount=USUAL[SPEED]), "low": Drive(to=PSI, amount=USUAL[PSI])}


def of_table(table: object) -> dict[str, Drive]:
    """From [audio] of a keyframe file: feature = "target", or {to = "target", amount = 1.0}.

    Raises RequestError, which names the field, for anything else.
    """
    if not isinstance(table, dict):
        raise RequestError(f"audio must be a table, [audio]; got {table!r} instead")
    found: dict[str, Drive] = {}
    for feature, value in table.items():
        if feature not in FEATURES:
            raise RequestError(f"audio: there is no field {feature}; known are {', '.join(FEATURES)}")
        given = value if isinstance(value, dict) else {"to": value}
        if not isinstance(given.get("to"), str) or not given["to"] or set(given) - {"to", "amount"}:
            raise RequestError(
                f'audio: {feature} must be speed, psi, none or a direction, or {{to = "psi", amount = 0.3}}; '
                f"got {value!r} instead"
            )
        if given["to"] != NOTHING:
            found[feature] = _drive(given["to"], given.get("amount"), f"audio: {feature}")
    return found


def parse(texts: Iterable[str], parameter: str = "drive") -> dict[str, Drive | None]:
    """["low=psi:0.3", "mid=smile", "high=none"] -> what each feature drives; None: nothing.

    Raises RequestError, which names `parameter`, for anything else.
    """
    found: dict[str, Drive | None] = {}
    for text in texts:
        feature, _, rest = text.partition("=")
        to, colon, number = rest.partition(":")
        if feature not in FEATURES or not to:
            raise RequestError(
                f"`{parameter}` must be FEATURE=TARGET or FEATURE=TARGET:AMOUNT, with a feature of "
                f"{', '.join(FEATURES)}; got {text} instead"
            )
        try:
            amount = float(number) if colon else None
        except ValueError:
            amount = math.nan
        found[feature] = None if to == NOTHING else _drive(to, amount, f"`{parameter}` {feature}")
    return found


def chosen(of_file: Mapping[str, Drive] | None, of_options: Mapping[str, Drive | None]) -> dict[str, Drive]:
    """What drives what: as options say, else as the file says, else as usual where neither says anything."""
    base: Mapping[str, Drive] = of_file if of_file is not None else ({} if of_options else DEFAULT)
    merged: dict[str, Drive | None] = {**base, **of_options}
    return {feature: merged[feature] for feature in FEATURES if merged.get(feature)}  # type: ignore[misc]


def as_json(found: Mapping[str, Drive]) -> dict[str, Any]:
    """For a recipe."""
    return {feature: {"to": drive.to, "amount": drive.amount} for feature, drive in found.items()}


def _drive(to: str, amount: object, name: str) -> Drive:
    least, most = LIMITS.get(to, (-100.0, 100.0))
    value = USUAL.get(to, 1.0) if amount is None else amount
    if type(value) not in (int, float) or not least <= value <= most:  # type: ignore[operator]
        raise RequestError(f"{name} must have an amount from {least:g} to {most:g} for {to}; got {value!r} instead")
    return Drive(to=to, amount=float(value))  # type: ignore[arg-type]
