"""Starting from another architecture's weights: what has the same name and shape is taken, the rest starts anew."""

from collections import Counter
from collections.abc import Mapping

import torch
from torch import nn

from gan.errors import RequestError
from gan.runtime.console import table

LOADED, NEW, LEFT_OUT = "loaded", "new", "left out"


def load_matching(network: nn.Module, weights: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """Copy what fits -> tensor's name: loaded, new (as it was drawn), or left out (of `weights`)."""
    own = network.state_dict()
    fits = {name: value for name, value in weights.items() if name in own and own[name].shape == value.shape}
    network.load_state_dict(fits, strict=False)
    found = dict.fromkeys(fits, LOADED) | {name: NEW for name in own if name not in fits}
    return found | {name: LEFT_OUT for name in weights if name not in own}


def describe(outcomes: Mapping[str, str]) -> str:
    """A table of how many tensors of each block were loaded, are new, or were left out.

    Raises RequestError when nothing was loaded.
    """
    if LOADED not in outcomes.values():
        raise RequestError("--transfer must name weights that fit this run's networks somewhere; nothing does")
    blocks: dict[str, Counter[str]] = {}
    for name, outcome in outcomes.items():
        # G.mapping, G.synthesis.b64, D.b64, D.mapping
        block = ".".join(name.split(".")[: 3 if ".synthesis." in name else 2])
        blocks.setdefault(block, Counter())[outcome] += 1
    kinds = [LOADED, NEW, LEFT_OUT]
    return table([[block, *(count[kind] or "-" for kind in kinds)] for block, count in blocks.items()], ["", *kinds])
