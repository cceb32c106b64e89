"""The averages of G that any width of average is made of afterwards: two widths, stored at a few times of a run.

RUN/averages/averages-NIMG.safetensors holds both after NIMG images. Their times are the multiples of an interval that
doubles as the run gets longer, so that they are never more than POINTS; which are kept follows from NIMG alone, whether
or not the run was interrupted.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from torch import nn

from gan.errors import RequestError
from gan.runtime.files import atomic, require_format, utf8_path
from gan.training.power_function import decay, gamma_of

FORMAT = "salon-averages-1"
WIDTHS = (0.05, 0.10)  # as EDM2, section 3.2
POINTS = 16  # stored times at most
FIRST_INTERVAL = 1000  # images
_NAME = re.compile(r"averages-(\d{10})\.safetensors")


class PowerAverages:
    """The parameters of a module, averaged in WIDTHS over all images since `start_nimg`."""

    def __init__(self, module: nn.Module, start_nimg: int = 0) -> None:
        self._module, self.start_nimg = module, start_nimg
        self._gammas = {width: gamma_of(width) for width in WIDTHS}
        self.averages = {
            width: {name: value.detach().clone() for name, value in module.named_parameters()} for width in WIDTHS
        }

    @torch.no_grad()
    def update(self, batch_size: int, cur_nimg: int) -> None:
        """Add the module's parameters as they are after an iteration, of `cur_nimg` images by now."""
        for width, average in self.averages.items():
            kept = decay(self._gammas[width], batch_size, cur_nimg - self.start_nimg)
            torch._foreach_lerp_(list(average.values()), list(self._module.parameters()), 1 - kept)

    def restart(self, cur_nimg: int) -> None:
        """Begin anew, with the module's parameters as they are; the next update leaves none of them."""
        self.start_nimg = cur_nimg
        for average in self.averages.values():
            for name, value in self._module.named_parameters():
                average[name].copy_(value.detach())

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"start_nimg": self.start_nimg, **{f"{width:g}": average for width, average in self.averages.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of state_dict."""
        self.start_nimg = state["start_nimg"]
        for width, average in self.averages.items():
            for name, value in state[f"{width:g}"].items():
                average[name].copy_(value)


def interval(seen: int) -> int:
    """Images from one stored time to the next, once so many were seen."""
    images = FIRST_INTERVAL
    while seen > POINTS * images:
        images *= 2
    return images


def is_kept(seen: int, batch_size: int, now: int) -> bool:
    """Whether the averages after `seen` images are among those that are stored when there are `now`."""
    return seen // interval(now) > (seen - batch_size) // interval(now)


def keep(folder: Path, averages: PowerAverages, batch_size: int, cur_nimg: int) -> None:
    """Store the averages where their time has come, and remove those that are not wanted any more."""
    seen = cur_nimg - averages.start_nimg
    if not is_kept(seen, batch_size, seen):
        return
    folder.mkdir(exist_ok=True)
    tensors = {
        f"{width:g}.{name}": value.cpu().contiguous()
        for width, average in averages.averages.items()
        for name, value in average.items()
    }
    metadata = {"format": FORMAT, "start_nimg": str(averages.start_nimg), "batch_size": str(batch_size)}
    with atomic(folder / f"averages-{cur_nimg:010d}.safetensors") as temporary:
        temporary.write_bytes(serialize(tensors, metadata))
    for nimg, path in list_oldest_first(folder):
        if not is_kept(nimg - averages.start_nimg, batch_size, seen):
            path.unlink()


def rewind(folder: Path, averages: PowerAverages, cur_nimg: int) -> None:
    """Remove what was stored after `cur_nimg` images, as training does that again, or of averages begun elsewhere."""
    for nimg, path in list_oldest_first(folder):
        if nimg > cur_nimg or nimg <= averages.start_nimg or start_of(path) != averages.start_nimg:
            path.unlink()


def list_oldest_first(folder: Path) -> list[tuple[int, Path]]:
    """(images, file) of what is stored."""
    found = [(match, path) for path in folder.glob("averages-*.safetensors") if (match := _NAME.fullmatch(path.name))]
    return sorted((int(match[1]), path) for match, path in found)


def start_of(path: Path) -> int:
    """Images that had been seen when the averages in a file began; -1 where it cannot be read."""
    try:
        with utf8_path(path) as name, safe_open(name, framework="pt") as file:
            return int(file.metadata()["start_nimg"])
    except (OSError, SafetensorError, KeyError, TypeError):
        return -1


def read(path: Path) -> Iterator[tuple[float, str, torch.Tensor]]:
    """(width, name, value) of all averages in a file. Raises RequestError for another, or a damaged one."""
    try:
        with utf8_path(path) as name, safe_open(name, framework="pt") as file:
            require_format(path, "averages of salon train", (file.metadata() or {}).get("format"), FORMAT)
            for key in file.keys():  # noqa: SIM118  # no mapping
                width = next(width for width in WIDTHS if key.startswith(f"{width:g}."))
                yield width, key.removeprefix(f"{width:g}."), file.get_tensor(key)
    except (OSError, SafetensorError, StopIteration) as error:
        raise RequestError(f"{path} cannot be read, or is damaged; remove it, and the others are used") from error
