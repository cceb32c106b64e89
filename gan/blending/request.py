"""What a blend is asked for."""

from dataclasses import dataclass
from pathlib import Path

from gan.errors import RequestError
from gan.runtime.files import refuse_existing

MAPPINGS = ("a", "b")


@dataclass(frozen=True, kw_only=True)
class BlendRequest:
    """Two generators, and how to blend them: into a snapshot, onto a sheet that shows the choice, or both.

    Raises RequestError for values that are out of range or do not go together, and files that may not be replaced.
    """

    a: Path  # snapshot, run or folder of runs, whose layers are the first
    b: Path  # whose layers are the last
    from_layer: int | None = None  # the first layer of b; None: all are interpolated by `weight`
    weight: float | None = None  # of b, 0 to 1, in the layers from from_layer on; None: 1
    mapping: str | None = None  # a or b; None: a's with from_layer, else interpolated as all the rest
    unrelated: bool = False  # blend what is not known to be of one lineage
    out: Path | None = None  # snapshot to write
    sheet: Path | None = None  # picture to write: every layer to blend from, or weights from 0 to 1
    seeds: str = "0-3"  # of the sheet's rows
    class_name: str | None = None  # of the sheet
    truncation_psi: float = 1.0  # of the sheet
    device: str = "auto"  # auto, cpu, cuda or cuda:N
    overwrite: bool = False  # whether `out` and `sheet` may be replaced

    def __post_init__(self) -> None:
        if self.out is None and self.sheet is None:
            raise RequestError("`out` or `sheet` must be given: a snapshot to write, or a picture of what to choose")
        if self.out is not None and self.from_layer is None and self.weight is None:
            raise RequestError("`from_layer` or `weight` must be given for `out`; `sheet` alone shows what to choose")
        if self.from_layer is not None and self.from_layer < 0:
            raise RequestError(f"`from_layer` must be 0 or more; got {self.from_layer} instead")
        if self.weight is not None and not 0 <= self.weight <= 1:
            raise RequestError(f"`weight` must be from 0, all of A, to 1, all of B; got {self.weight} instead")
        if self.mapping not in (None, *MAPPINGS):
            raise RequestError(f"`mapping` must be a or b; got {self.mapping} instead")
        if self.out is not None and self.out.suffix != ".safetensors":
            raise RequestError(f"`out` must end in .safetensors; got {self.out} instead")
        if self.sheet is not None:
            from gan.data.images import check_suffix  # here, so that help starts without Pillow

            check_suffix(self.sheet, "sheet")
            refuse_existing([self.sheet], self.overwrite, parameter="sheet")
        if self.out is not None:
            refuse_existing([self.out], self.overwrite)

    @property
    def over_weights(self) -> bool:
        """Whether the sheet's columns are weights; else they are layers."""
        return self.weight is not None and self.from_layer is None
