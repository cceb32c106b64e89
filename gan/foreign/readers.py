"""One network of a foreign file, from each form in which files hold networks, by Salon's names."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gan.foreign.pickle_values import Array, Record, RefusedError, shown
from gan.foreign.weight_names import rosinality_discriminator, rosinality_generator, tf_discriminator, tf_generator
from gan.networks.discriminator import DEFAULT_GROUP_SIZE
from gan.networks.generator import MAPPING_LR_MULTIPLIER
from gan.ops.upfirdn2d import setup_filter

Weights = dict[str, NDArray[Any]]


@dataclass(kw_only=True)
class ForeignNetwork:
    """A generator or discriminator as it lies in a file."""

    weights: Weights
    conv_clamp: float | None = None  # limit of the activations, of mixed precision; None: there is none
    mbstd_group_size: int | None = DEFAULT_GROUP_SIZE  # of a discriminator


def of_modules(root: Any) -> ForeignNetwork:
    """From a pickled module of stylegan2-ada-pytorch or stylegan3, whose names are Salon's. Raises RefusedError."""
    network = ForeignNetwork(weights={})
    clamps: dict[str, Any] = {}
    filters: list[NDArray[Any]] = []
    for prefix, module in _modules(root):
        _check_module(prefix, module, network)
        if _last(prefix) in _CLAMPED:
            clamps[prefix[:-1]] = module.get("conv_clamp")
        for name, array in [*_items(module, "_parameters"), *_items(module, "_buffers")]:
            if array is None:
                continue
            if name == "resample_filter":
                filters.append(_array(array))
            else:
                network.weights[f"{prefix}{name}"] = _scale(prefix, module, _array(array))
    _check_filters(filters)
    network.conv_clamp = _same_clamp(clamps)
    return network


def of_state_dict(state: Mapping[str, Any]) -> ForeignNetwork:
    """From a state dict in the names of stylegan2-ada-pytorch. Raises RefusedError."""
    weights = {name: _array(array) for name, array in state.items()}
    _check_filters([weights.pop(name) for name in list(weights) if name.endswith("resample_filter")])
    return ForeignNetwork(weights=weights)


def of_tensorflow(network: Record, *, discriminator: bool = False) -> ForeignNetwork:
    """From a network of StyleGAN2 for TensorFlow. Raises RefusedError."""
    options = network.state.get("static_kwargs", {})
    if network.name != TF_NETWORK or not isinstance(options, dict):
        raise RefusedError("holds three objects that are no TensorFlow networks")
    if discriminator and network.state.get("name") == UNTRAINED:
        raise RefusedError("is untrained: the snapshot that the file was written from had none")
    for name, wanted in _TF_OPTIONS.items():
        if name in options and options[name] != wanted:
            raise RefusedError(f"has {name} {shown(options[name])}; only {wanted} is known")
    scale = float(options.get("mapping_lrmul", 0.1 if discriminator else 0.01)) / MAPPING_LR_MULTIPLIER
    named = tf_discriminator if discriminator else tf_generator
    return ForeignNetwork(
        weights=named(_variables(network), scale),
        conv_clamp=_same_clamp({"it": options.get("conv_clamp")}),
        mbstd_group_size=_group_size(options.get("mbstd_group_size", DEFAULT_GROUP_SIZE)),
    )


def of_rosinality(state: Mapping[str, Any], *, discriminator: bool = False, w_avg: Any = None) -> ForeignNetwork:
    """From a state dict of rosinality/stylegan2-pytorch; the generator's average w lies beside it.

    Raises RefusedError.
    """
    arrays = {name: _array(array) for name, array in state.items()}
    _check_filters([arrays.pop(name) for name in list(arrays) if name.endswith(".kernel")])
    weights = rosinality_discriminator(arrays) if discriminator else rosinality_generator(arrays)
    if isinstance(w_avg, Array):
        weights["mapping.w_avg"] = _array(w_avg).reshape(-1)
    return ForeignNetwork(weights=weights)


TF_NETWORK = "dnnlib.tflib.network.Network"
UNTRAINED = "untrained"  # name of a discriminator that gan.foreign.write makes where a snapshot has none
_TF_OPTIONS: dict[str, Any] = {
    "nonlinearity": "lrelu",
    "mapping_nonlinearity": "lrelu",
    "act": "lrelu",
    "use_noise": True,
    "normalize_latents": True,
    "resample_kernel": [1, 3, 3, 1],
    "mbstd_num_features": 1,
}
_CLAMPED = ("conv0", "conv1", "conv", "torgb", "fromrgb")  # layers whose activations conv_clamp limits


def _modules(root: Any) -> Iterator[tuple[str, dict[Any, Any]]]:
    # -> (prefix of its names, state) of each module. Each is visited once: no circle, no module in two places.
    seen: set[int] = set()
    waiting = [("", root)]
    while waiting:
        prefix, record = waiting.pop()
        if not isinstance(record, Record) or id(record) in seen:
            raise RefusedError(f"has a network whose part {shown(prefix)} is no module, or one that is used twice")
        seen.add(id(record))
        yield prefix, record.state
        waiting += [(f"{prefix}{name}.", part) for name, part in _items(record.state, "_modules") if part is not None]


def _last(prefix: str) -> str:
    # The name of a module without those that it lies in.
    return prefix.split(".")[-2] if prefix else ""


def _items(module: dict[Any, Any], name: str) -> list[tuple[str, Any]]:
    items = module.get(name, {})
    if not isinstance(items, dict) or not all(isinstance(key, str) for key in items):
        raise RefusedError(f"has a network without {name}")
    return list(items.items())


def _check_module(prefix: str, module: dict[Any, Any], network: ForeignNetwork) -> None:
    # Facts that no name and no shape tells.
    last = _last(prefix)
    activation = module.get("activation", "lrelu")
    if last.startswith(("conv", "fc", "fromrgb")) and activation != "lrelu":
        raise RefusedError(f"has the activation {shown(activation)} in {shown(prefix)}; only lrelu is known")
    if last == "mbstd":
        if module.get("num_channels") != 1:
            raise RefusedError("has a minibatch standard deviation of another form")
        network.mbstd_group_size = _group_size(module.get("group_size", 0))
    if last == "skip" and module.get("conv_clamp") is not None:
        raise RefusedError(
            f"limits the activations of {shown(prefix)}; only those after a bias are known to be limited"
        )


def _group_size(value: Any) -> int | None:
    if value is not None and (type(value) is not int or value < 1):
        raise RefusedError("has a minibatch standard deviation of another form")
    return value


def _same_clamp(clamps: dict[str, Any]) -> float | None:
    # The limit that all layers have, by their names.
    if not clamps:
        return None
    (first, clamp), *others = clamps.items()
    for name, other in others:
        if other != clamp:
            raise RefusedError(f"has conv_clamp {shown(clamp)} in {shown(first)} and {shown(other)} in {shown(name)}")
    if clamp is None or (isinstance(clamp, int | float) and 0 < clamp < float("inf")):
        return None if clamp is None else float(clamp)
    raise RefusedError(f"has conv_clamp {shown(clamp)}; it must be above 0 and finite")


def _check_filters(filters: list[NDArray[Any]]) -> None:
    expected = setup_filter().numpy()
    for taps in filters:
        if taps.shape != (4, 4) or not np.allclose(taps / taps.sum(), np.outer(expected, expected), atol=1e-5):
            raise RefusedError("must use the resampling filter [1, 3, 3, 1]; it uses another one")


def _scale(prefix: str, module: dict[Any, Any], array: NDArray[Any]) -> NDArray[Any]:
    # Our mapping layers have one learning rate multiplier; another one is the same function with scaled weights.
    multiplier = module.get("bias_gain", MAPPING_LR_MULTIPLIER)
    if not re.fullmatch(r"mapping\.fc\d+\.", prefix) or multiplier == MAPPING_LR_MULTIPLIER:
        return array
    return array * np.float32(multiplier / MAPPING_LR_MULTIPLIER)


def _variables(network: Record, prefix: str = "", depth: int = 0) -> Weights:
    variables = {}
    for name, value in network.state["variables"]:
        if str(name) != "lod":  # of progressive growing; unused
            variables[f"{prefix}{name}"] = _array(value)
    components = network.state.get("components", {})
    for name, part in components.items():
        if depth > 1 or not isinstance(part, Record):
            raise RefusedError(f"has a network with an unknown component {shown(name)}")
        variables.update(_variables(part, f"{prefix}{name}/", depth + 1))
    return variables


def _array(value: Any) -> NDArray[Any]:
    if isinstance(value, Array):
        return value.read()
    if isinstance(value, int | float):
        return np.asarray(value, np.float32)
    raise RefusedError(f"has a {type(value).__name__} where weights belong")
