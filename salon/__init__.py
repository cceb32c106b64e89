"""Salon in a few calls: what its commands do, for a script or a notebook.

    import salon

    salon.prepare("paintings", "paintings64.zip", resolution=64)
    salon.train("paintings64.zip", "runs", preset="tiny", total_kimg=100)
    G = salon.load("runs")  # the newest snapshot
    images = G.generate(range(4), truncation_psi=0.7)  # uint8 [4, 64, 64, 3]
    edited = G.edit(range(4), {"pc1": 2}, G.find_directions())
    ws = G.project("cottage.jpg", "projected", space="w+")
    print(salon.evaluate("runs", "paintings64.zip", "evaluation", num_images=2000)["fd"].value)
    salon.curate("paintings64.zip", "curated.manifest")

Paths are text or pathlib's. Further keywords are the fields of the request that each function names, which are the
command's options. Behind these calls are gan, eval, curation and serving, whose parts can be taken one by one.

A fault in what is asked raises RequestError, a ValueError that names the parameter.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gan.errors import RequestError, SalonError
    from gan.sampling.directions import Directions
    from salon.generator import Generator, load
    from salon.steps import curate, evaluate, prepare, train

__all__ = ["Directions", "Generator", "RequestError", "SalonError", "curate", "evaluate", "load", "prepare", "train"]

_PLACES = {  # where each is, so that `import salon` is quick
    "Directions": "gan.sampling.directions",
    "Generator": "salon.generator",
    "RequestError": "gan.errors",
    "SalonError": "gan.errors",
    "curate": "salon.steps",
    "evaluate": "salon.steps",
    "load": "salon.generator",
    "prepare": "salon.steps",
    "train": "salon.steps",
}

if not TYPE_CHECKING:  # type checkers are to see the names above, and no others

    def __getattr__(name: str) -> object:
        if name not in _PLACES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
