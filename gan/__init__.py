"""Train a StyleGAN2 generator and sample from it.

    import gan

    source = gan.load_snapshot("runs")
    images = list(gan.generate(source.G_ema, range(4)))  # uint8 [H, W, 3] each

Public are the names of `__all__`, each loaded when it is first used, and these rooms: `gan.config`, `gan.device`,
`gan.snapshot` and `gan.errors`; `gan.data`, `gan.networks` and the operators that they are made of, `gan.ops`;
`gan.training` and `gan.augment`; `gan.sampling`, `gan.directions`, `gan.projection` and `gan.rejection`; `gan.foreign`.
This package imports none of its neighbours; they import it.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gan.config import TrainingConfig
    from gan.data.collection import Collection
    from gan.data.dataset import ImageDataset
    from gan.data.manifest import Manifest
    from gan.networks.discriminator import Discriminator
    from gan.networks.generator import Generator
    from gan.sampling.generate import generate
    from gan.snapshot import find as load_snapshot
    from gan.training.training_loop import train

__version__ = "0.1.0"
__all__ = [
    "Collection",
    "Discriminator",
    "Generator",
    "ImageDataset",
    "Manifest",
    "TrainingConfig",
    "generate",
    "load_snapshot",
    "train",
]

_PLACES = {  # where each is, so that a command's --help loads none of them
    "Collection": "gan.data.collection:Collection",
    "Discriminator": "gan.networks.discriminator:Discriminator",
    "Generator": "gan.networks.generator:Generator",
    "ImageDataset": "gan.data.dataset:ImageDataset",
    "Manifest": "gan.data.manifest:Manifest",
    "TrainingConfig": "gan.config:TrainingConfig",
    "generate": "gan.sampling.generate:generate",
    "load_snapshot": "gan.snapshot:find",
    "train": "gan.training.training_loop:train",
}

if not TYPE_CHECKING:  # type checkers are to see the names above, and no others

    def __getattr__(name: str) -> object:
        if name not in _PLACES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module, attribute = _PLACES[name].split(":")
        return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
