"""What "auto" stands for: precision by the device, augmentation by the number of images. A run keeps what it has."""

import itertools
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gan.config import PRECISIONS, TrainingConfig
from gan.networks import precision
from gan.runtime.files import read_json
from gan.training.run_dir import Run

if TYPE_CHECKING:
    import torch

AUTO = "auto"
# Up to here the authors of ADA promise significantly better results of it (github.com/NVlabs/stylegan2-ada). Their
# paper still finds CIFAR-10, 50,000 images, a benchmark of limited data (Karras et al. 2020): FID 2.42, before 5.59.
ADA_BELOW = 30_000
# What presets were in version 0.1, where they differed: their runs go on.
FIRST_PRESETS: dict[str, dict[str, Any]] = {
    "auto": {"mapping_layers": 8},
    "config-f": {"r1_gamma": None},
    "paper256": {"r1_gamma": None, "mbstd_group_size": 4},
}
_VALUES = {"precision": PRECISIONS, "augment": ("none", "ada")}  # that auto may have stood for when a run began


def choose(automatic: Collection[str], images: int, device: "torch.device | None") -> dict[str, tuple[str, str]]:
    """Each of the fields `automatic` of a TrainingConfig -> its value, and why.

    `images` is the number of images to learn from; `device` None counts as a CPU.
    """
    chosen = {}
    if "precision" in automatic:
        if device is None or device.type == "cpu":
            chosen["precision"] = "fp32", "on a CPU"
        elif precision.bf16_is_fast(device):
            chosen["precision"] = "bf16", "which this GPU computes faster than fp32"
        elif precision.fp16_is_fast(device):
            chosen["precision"] = "fp16", "which this GPU computes faster than fp32, and bf16 it does not"
        else:
            chosen["precision"] = "fp32", "since this GPU computes neither bf16 nor fp16 faster"
    if "augment" in automatic:
        if images < ADA_BELOW:
            chosen["augment"] = "ada", f"since {images:,} images are fewer than {ADA_BELOW:,}"
        else:
            chosen["augment"] = "none", f"since {images:,} images are no fewer than {ADA_BELOW:,}"
    return chosen


def of_run(
    config_of: Callable[[dict[str, Any], bool], TrainingConfig],
    chosen: dict[str, Any],
    path_of: Callable[[TrainingConfig], Path],
) -> TrainingConfig:
    """The config with the `chosen` values of "auto", or that of the run which the same request began with others.

    That was on another device, or by a version of Salon in which other values were the defaults: those of version 0.1
    where `config_of` is told so. `path_of` is the folder of a config's run.
    """
    config = config_of(chosen, False)
    values = [dict(zip(chosen, other, strict=True)) for other in itertools.product(*(_VALUES[name] for name in chosen))]
    others = (config_of(other, first) for first in (False, True) for other in values)
    for candidate in (config, *others):
        file = Run(path_of(candidate)).config_file
        if file.exists() and not candidate.differences(TrainingConfig.from_dict(read_json(file))):
            return candidate
    return config
