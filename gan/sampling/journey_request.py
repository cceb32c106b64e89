"""What a journey is asked for, beside its seeds. Without torch."""

from dataclasses import dataclass
from pathlib import Path

from gan.errors import RequestError

EASINGS = ("linear", "spherical", "smooth")


@dataclass(frozen=True, kw_only=True)
class JourneyRequest:
    """What an animation passes through, how, and what sound drives it."""

    keyframes: Path | None = None  # TOML (see gan.sampling.keyframes); None: seeds
    easing: str = "smooth"  # linear; spherical: in z between seeds, else in each w; smooth: a Catmull-Rom spline
    loop: bool = True  # back to the first key
    audio: Path | None = None  # a file of sound that drives the animation and is in it; None: silent
    seconds: float | None = None  # of the sound that are used; None: all
    drive: tuple[str, ...] = ()  # FEATURE=TARGET or FEATURE=TARGET:AMOUNT (see gan.sampling.drives)
    directions: Path | None = None  # file of the directions that keys and sound name; None: the one that keyframes name

    def __post_init__(self) -> None:
        if self.easing not in EASINGS:
            raise RequestError(f"`easing` must be one of {', '.join(EASINGS)}; got {self.easing} instead")
        if self.audio is None:
            for name, given in (("seconds", self.seconds is not None), ("drive", bool(self.drive))):
                if given:
                    raise RequestError(f"`{name}` needs `audio`, the sound that it is about")
        if self.seconds is not None and not 0 < self.seconds < float("inf"):
            raise RequestError(f"`seconds` must be above 0; got {self.seconds} instead")

    @property
    def asked(self) -> bool:
        """Whether anything of it is asked for; else the animation is a plain loop through seeds."""
        return self != JourneyRequest()
