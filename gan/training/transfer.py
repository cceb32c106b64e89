"""Transfer: weights of other networks, of any shape and classes, taken where they fit (Mo et al. 2020)."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from gan.config import NetworkConfig
from gan.errors import RequestError
from gan.networks.layers import normalize_second_moment
from gan.runtime.console import table

Weights = Mapping[str, torch.Tensor]
LOADED, NEW, LEFT_OUT = "loaded", "new", "left out"  # of tensors, by load_matching


def require_mapping(path: Path, theirs: NetworkConfig, mine: NetworkConfig) -> None:
    """Raise RequestError unless the mapping networks are alike: a part of one gives ws that no layer has learned."""
    for name in ("z_dim", "w_dim", "mapping_layers"):
        if (there := getattr(theirs, name)) != (here := getattr(mine, name)):
            raise RequestError(
                f"`transfer` {path} must have this run's mapping network; {name} is {there} there, {here} here: "
                f"leave {name} out of `overrides`, and it will be {there}"
            )


def fit_classes(weights: Weights, theirs: NetworkConfig, mine: NetworkConfig) -> Weights:
    """G's weights where one of the networks has classes and the other has none; else as they are.

    Without classes before, each class begins with the ws that all images had. Without classes now, the ws begin with
    what the classes added on average.
    """
    if bool(theirs.num_classes) == bool(mine.num_classes):
        return weights
    z_dim, inputs = theirs.z_dim, theirs.z_dim + theirs.w_dim  # of the first layer, without and with classes
    weight, bias = weights["mapping.fc0.weight"], weights["mapping.fc0.bias"]
    if mine.num_classes:
        unknown = weight.new_zeros([theirs.w_dim, theirs.w_dim])
        # Equalised layers divide by the root of the number of their inputs.
        return {**weights, "mapping.fc0.weight": torch.cat([weight * (inputs / z_dim) ** 0.5, unknown], dim=1)}
    embedded = weights["mapping.embed.weight"].t() / theirs.num_classes**0.5 + weights["mapping.embed.bias"]
    mean = normalize_second_moment(embedded).mean(dim=0)  # [w_dim]
    return {
        **{name: value for name, value in weights.items() if not name.startswith("mapping.embed.")},
        "mapping.fc0.weight": weight[:, :z_dim] * (z_dim / inputs) ** 0.5,
        "mapping.fc0.bias": bias + weight[:, z_dim:] @ mean / inputs**0.5,
    }


def fit_shape(weights: Weights, theirs: NetworkConfig, mine: NetworkConfig) -> Weights:
    """G's or D's weights where images have another base or other channels; else as they are.

    The constant and D's last block are stretched over the base. Channels go through RGB: grey is its mean, and what had
    no alpha begins opaque, so that G generates, and D sees, what they did.
    """
    if theirs.base != mine.base:
        weights = _fit_base(weights, theirs.grid(4), mine.grid(4))
    if theirs.image_channels != mine.image_channels:
        last = f"synthesis.b{min(theirs.resolution, mine.resolution)}.torgb.bias"  # of those whose images are added
        weights = _fit_channels(weights, theirs.image_channels, mine.image_channels, last)
    return weights


def _fit_base(weights: Weights, there: tuple[int, int], here: tuple[int, int]) -> Weights:
    fitted = dict(weights)
    for name, value in weights.items():
        if name == "synthesis.b4.const":
            fitted[name] = _stretched(value, here)
        elif name == "b4.fc.weight":
            wide = _stretched(value.view(len(value), -1, *there), here).flatten(1)
            fitted[name] = wide * (value.shape[1] / wide.shape[1]) ** 0.5  # equalised, and as large a sum
    return fitted


def _fit_channels(weights: Weights, there: int, here: int, last: str) -> Weights:
    # `last`: the bias of the images that are added last, which makes them opaque.
    fitted = dict(weights)
    for name, value in weights.items():
        if ".torgb.weight" in name or ".torgb.bias" in name:
            matrix, offset = _channels(there, here)
            fitted[name] = torch.tensordot(matrix.to(value), value, 1)
            if name == last:
                fitted[name] += offset.to(value)
        elif ".fromrgb.weight" in name:
            matrix, offset = _channels(here, there)
            seen = torch.tensordot(value.flatten(1), matrix.to(value), 1)  # [out, here]
            fitted[name] = (seen * (here / there) ** 0.5)[:, :, None, None]  # equalised by the root of the inputs
            bias = name.replace("weight", "bias")
            fitted[bias] = weights[bias] + value.flatten(1) @ offset.to(value) / there**0.5
    return fitted


def _stretched(cells: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    # [..., h, w] -> [..., *grid]
    flat = cells.flatten(0, -3)[None]
    wide = torch.nn.functional.interpolate(flat, grid, mode="bilinear", align_corners=True)
    return wide.view(*cells.shape[:-2], *grid)


def _channels(there: int, here: int) -> tuple[torch.Tensor, torch.Tensor]:
    # The matrix [here, there] and offset [here] that turn images of so many channels into those of others.
    rgb = {1: torch.ones(3, 1), 3: torch.eye(3), 4: torch.eye(3, 4)}[there]
    own = {1: torch.full([1, 3], 1 / 3), 3: torch.eye(3), 4: torch.eye(4, 3)}[here]
    return own @ rgb, torch.eye(4)[3] if here == 4 else torch.zeros(here)


def load_matching(network: nn.Module, weights: Weights) -> dict[str, str]:
    """Copy the weights that have the name and shape of the network's, whatever architecture they are of.

    -> each tensor's name with loaded, new (as it was drawn), or left out (of `weights`).
    """
    own = network.state_dict()
    fits = {name: value for name, value in weights.items() if name in own and own[name].shape == value.shape}
    network.load_state_dict(fits, strict=False)
    outcomes = dict.fromkeys(fits, LOADED) | {name: NEW for name in own if name not in fits}
    return outcomes | {name: LEFT_OUT for name in weights if name not in own}


def describe_matching(outcomes: Mapping[str, str]) -> str:
    """A table of how many tensors of each block were loaded, are new, or were left out.

    Raises RequestError when nothing was loaded.
    """
    if LOADED not in outcomes.values():
        raise RequestError("`transfer` must name weights that fit this run's networks somewhere; nothing does")
    blocks: dict[str, Counter[str]] = {}
    for name, outcome in outcomes.items():
        # G.mapping, G.synthesis.b64, D.b64, D.mapping
        block = ".".join(name.split(".")[: 3 if ".synthesis." in name else 2])
        blocks.setdefault(block, Counter())[outcome] += 1
    kinds = [LOADED, NEW, LEFT_OUT]
    return table([[block, *(count[kind] or "-" for kind in kinds)] for block, count in blocks.items()], ["", *kinds])
