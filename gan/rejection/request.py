"""What a selection of seeds by the discriminator was asked for, checked before anything is loaded."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gan.errors import RequestError
from gan.runtime.files import refuse_existing

if TYPE_CHECKING:
    from gan.data.dataset import ImageDataset  # heavy: a command's --help starts without it

BUDGET = 4  # candidates an image, where neither budget nor gamma says otherwise


@dataclass(frozen=True, kw_only=True)
class Rejection:
    """How candidates are accepted; see gan.rejection.algorithms."""

    reject: str | None = None  # drs, mh or obrs; None: no rejection, and no other field is set
    budget: int | None = None  # candidates an image; None: 4, or what gamma comes to
    calibration: str = "platt"  # of the logits: platt, isotonic or none
    burn_in: int = 256  # generated images to calibrate on and to estimate DRS's maximum, and at most so many real ones
    gamma: float | None = None  # of DRS
    gamma_percentile: float | None = None  # of DRS: gamma as this percentile of F

    def __post_init__(self) -> None:
        if self.reject is None:
            fields = [field for field in dataclasses.fields(self) if getattr(self, field.name) != field.default]
            if fields:
                raise RequestError(f"`{fields[0].name}` needs `reject` drs, mh or obrs")
            return
        given = [name for name in ("budget", "gamma", "gamma_percentile") if getattr(self, name) is not None]
        if self.reject != "drs" and (wrong := [name for name in given if name != "budget"]):
            raise RequestError(f"`{wrong[0]}` needs `reject` drs; `reject` {self.reject} takes `budget` alone")
        if len(given) > 1:
            names = " and ".join(f"`{name}`" for name in given)
            raise RequestError(f"{names} exclude each other: give one of them")

    def gamma_choice(self) -> dict[str, float]:
        """What decides DRS's gamma, as DiscriminatorRejection takes it."""
        if self.gamma is not None:
            return {"gamma": self.gamma}
        if self.gamma_percentile is not None:
            return {"percentile": self.gamma_percentile}
        return {"budget": self.budget or BUDGET}


@dataclass(frozen=True, kw_only=True)
class SelectionRequest(Rejection):
    """How many seeds to accept, what the discriminator is calibrated on, and whether it is trained on before."""

    count: int | None = None  # images to accept; with rejection it must be given
    # Dataset of real images; one that is open is not hashed again. None: no calibration.
    calibration_data: "Path | ImageDataset | None" = None
    keep_training: Path | None = None  # where to write the snapshot with the D that was trained on; None: it is not
    keep_kimg: float = 20.0  # most images to train D on, thousands

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reject is None:
            return
        if self.count is None:
            raise RequestError("`reject` needs `count`, the number of images to accept")
        if self.calibration_data is None:
            if self.keep_training:
                raise RequestError("`keep_training` needs `calibration_data` DATASET, whose images D learns from")
            if self.reject == "mh":
                raise RequestError("`reject` mh needs `calibration_data` DATASET: its chains set out from real images")
            if self.calibration != "none":
                raise RequestError(
                    f"`reject` {self.reject} needs `calibration_data` DATASET, whose images calibrate the "
                    "discriminator, or `calibration` none"
                )
        if self.keep_training:
            refuse_existing([self.keep_training], parameter="keep_training")

    @property
    def needed(self) -> int:
        """Candidates that mh and obrs take."""
        return (self.count or 0) * (self.budget or BUDGET)
