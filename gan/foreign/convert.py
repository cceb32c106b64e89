"""Read StyleGAN2 networks that other implementations trained, by the names that Salon gives to their weights."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gan.config import NetworkConfig
from gan.errors import RequestError
from gan.foreign import pickle_reader
from gan.foreign.pickle_values import Array, Record, RefusedError, shown
from gan.foreign.weight_names import rosinality_discriminator, rosinality_generator, tf_discriminator, tf_generator
from gan.networks.discriminator import Discriminator
from gan.networks.generator import MAPPING_LR_MULTIPLIER, Generator
from gan.ops.upfirdn2d import setup_filter

W_AVG_SAMPLES = 10_000
Weights = dict[str, NDArray[Any]]


@dataclass(kw_only=True)
class Foreign:
    """What a file holds, with Salon's names."""

    kind: str  # of the file
    G: Weights  # of the moving average
    D: Weights | None  # None: the file has none
    mbstd_group_size: int = 4
    conv_clamp: float | None = None  # limit of the activations, of mixed precision; None: there is none
    filters: list[NDArray[Any]] = field(default_factory=list)  # resampling filters, to be checked


def read(path: Path) -> Foreign:
    """Recognise the file and read its networks.

    Raises RequestError when it is none of the known kinds, or another architecture.
    """
    value = pickle_reader.load(path)
    try:
        if isinstance(value, tuple) and len(value) == 3 and all(isinstance(part, Record) for part in value):
            return _read_tensorflow(value)
        if isinstance(value, dict) and isinstance(value.get("G_ema"), Record):
            return _read_modules(value)
        if isinstance(value, dict) and isinstance(value.get("g_ema"), dict):
            return _read_rosinality(value)
    except RefusedError as error:
        raise RequestError(f"{path} {error}") from error
    except pickle_reader.DAMAGE as error:
        raise RequestError(f"{path} holds networks in an unknown form: {shown(str(error))}") from error
    raise RequestError(
        f"{path} must hold StyleGAN2 networks: a pickle of stylegan2-ada-pytorch, stylegan3 or TensorFlow StyleGAN2, "
        f"or a checkpoint of rosinality/stylegan2-pytorch; it holds a {type(value).__name__}"
    )


def build(path: Path, foreign: Foreign) -> tuple[Generator, Discriminator | None]:
    """The networks, in evaluation mode. Raises RequestError when they are not of Salon's architecture."""
    size = path.stat().st_size
    if sum(array.nbytes for array in [*foreign.G.values(), *(foreign.D or {}).values()]) > size + 2**20:
        raise RequestError(f"{path} must hold its weights; it names the same bytes many times")
    expected = setup_filter().numpy()
    for taps in foreign.filters:
        if taps.shape != (4, 4) or not np.allclose(taps / taps.sum(), np.outer(expected, expected), atol=1e-5):
            raise RequestError(f"{path} must use the resampling filter [1, 3, 3, 1]; it uses another one")
    has_w_avg = "mapping.w_avg" in foreign.G
    config = _infer_config(path, foreign)
    if not has_w_avg:
        foreign.G["mapping.w_avg"] = np.zeros([config.w_dim], np.float32)
    with torch.device("meta"):  # nothing of the announced size is made before the weights are known to have it
        shapes = Generator(config).state_dict(), Discriminator(config).state_dict()
    for label, weights, wanted in zip(("generator", "discriminator"), (foreign.G, foreign.D), shapes, strict=True):
        if weights is not None:
            _check_shapes(path, label, weights, {name: tuple(tensor.shape) for name, tensor in wanted.items()})
    G = Generator(config)
    G.load_state_dict({name: _tensor(path, name, array) for name, array in foreign.G.items()})
    G.eval().requires_grad_(False)
    if not has_w_avg:
        z = torch.randn([W_AVG_SAMPLES, config.z_dim], generator=torch.Generator().manual_seed(0))
        G.mapping.w_avg.copy_(G.mapping(z)[:, 0].mean(dim=0))
    if foreign.D is None:
        return G, None
    D = Discriminator(config)
    D.load_state_dict({name: _tensor(path, name, array) for name, array in foreign.D.items()})
    return G, D.eval().requires_grad_(False)


def cur_nimg(path: Path) -> int:
    """Images that training had seen, where the file's name tells: network-snapshot-KIMG.pkl. Else 0."""
    match = re.fullmatch(r"network-(?:final|snapshot)-(\d{1,9})", path.stem)
    return int(match[1]) * 1000 if match else 0


def _read_modules(value: dict[str, Any]) -> Foreign:
    # stylegan2-ada-pytorch and stylegan3: pickled torch modules whose names are ours.
    foreign = Foreign(kind="stylegan2-ada-pytorch or stylegan3", G={}, D={} if value.get("D") is not None else None)
    clamps: dict[str, Any] = {}
    for key, weights in (("G_ema", foreign.G), ("D", foreign.D)):
        if weights is None:
            continue
        for prefix, module in _modules(value[key]):
            _check_module(prefix, module, foreign)
            if _last(prefix) in _CLAMPED:
                clamps[f"{key}.{prefix[:-1]}"] = module.get("conv_clamp")
            for name, array in [*_items(module, "_parameters"), *_items(module, "_buffers")]:
                if array is None:
                    continue
                if name == "resample_filter":
                    foreign.filters.append(_array(array))
                else:
                    weights[f"{prefix}{name}"] = _scale(prefix, module, _array(array))
    foreign.conv_clamp = _same_clamp(clamps)
    return foreign


_CLAMPED = ("conv0", "conv1", "conv", "torgb", "fromrgb")  # layers whose activations conv_clamp limits


def _last(prefix: str) -> str:
    # The name of a module without those that it lies in.
    return prefix.split(".")[-2] if prefix else ""


def _modules(root: Record) -> Iterator[tuple[str, dict[Any, Any]]]:
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


def _items(module: dict[Any, Any], name: str) -> list[tuple[str, Any]]:
    items = module.get(name, {})
    if not isinstance(items, dict) or not all(isinstance(key, str) for key in items):
        raise RefusedError(f"has a network without {name}")
    return list(items.items())


def _check_module(prefix: str, module: dict[Any, Any], foreign: Foreign) -> None:
    # Facts that no name and no shape tells.
    last = _last(prefix)
    activation = module.get("activation", "lrelu")
    if last.startswith(("conv", "fc", "fromrgb")) and activation != "lrelu":
        raise RefusedError(f"has the activation {shown(activation)} in {shown(prefix)}; only lrelu is known")
    if last == "mbstd":
        group, channels = module.get("group_size"), module.get("num_channels")
        if type(group) is not int or channels != 1:
            raise RefusedError("has a minibatch standard deviation of another form")
        foreign.mbstd_group_size = group
    if last == "skip" and module.get("conv_clamp") is not None:
        raise RefusedError(
            f"limits the activations of {shown(prefix)}; only those after a bias are known to be limited"
        )


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


def _scale(prefix: str, module: dict[Any, Any], array: NDArray[Any]) -> NDArray[Any]:
    # Our mapping layers have one learning rate multiplier; another one is the same function with scaled weights.
    multiplier = module.get("bias_gain", MAPPING_LR_MULTIPLIER)
    if not re.fullmatch(r"mapping\.fc\d+\.", prefix) or multiplier == MAPPING_LR_MULTIPLIER:
        return array
    return array * np.float32(multiplier / MAPPING_LR_MULTIPLIER)


def _read_tensorflow(value: tuple[Record, ...]) -> Foreign:
    # A tuple of G, D and the moving average of G.
    _G, D, G_ema = value
    options = {**_options(D), **_options(G_ema)}
    for name, wanted in _TF_OPTIONS.items():
        if name in options and options[name] != wanted:
            raise RefusedError(f"has {name} {shown(options[name])}; only {wanted} is known")
    group = _options(D).get("mbstd_group_size", 4)
    if type(group) is not int:
        raise RefusedError("has a minibatch standard deviation of another form")
    scales = [float(_options(n).get("mapping_lrmul", d)) for n, d in ((G_ema, 0.01), (D, 0.1))]
    return Foreign(
        kind="TensorFlow StyleGAN2",
        G=tf_generator(_variables(G_ema), scales[0] / MAPPING_LR_MULTIPLIER),
        D=tf_discriminator(_variables(D), scales[1] / MAPPING_LR_MULTIPLIER),
        mbstd_group_size=group,
        conv_clamp=_same_clamp({"G": _options(G_ema).get("conv_clamp"), "D": _options(D).get("conv_clamp")}),
    )


_TF_OPTIONS: dict[str, Any] = {
    "nonlinearity": "lrelu",
    "mapping_nonlinearity": "lrelu",
    "act": "lrelu",
    "use_noise": True,
    "normalize_latents": True,
    "resample_kernel": [1, 3, 3, 1],
    "mbstd_num_features": 1,
}


def _options(network: Record) -> dict[Any, Any]:
    options = network.state.get("static_kwargs", {})
    if network.name != "dnnlib.tflib.network.Network" or not isinstance(options, dict):
        raise RefusedError("holds three objects that are no TensorFlow networks")
    return options


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


def _read_rosinality(value: dict[str, Any]) -> Foreign:
    foreign = Foreign(kind="rosinality/stylegan2-pytorch", G={}, D=None)
    G = {name: _array(array) for name, array in value["g_ema"].items()}
    D = {name: _array(array) for name, array in value["d"].items()} if isinstance(value.get("d"), dict) else None
    for weights in (G, D or {}):
        kernels = [name for name in weights if name.endswith(".kernel")]
        foreign.filters += [weights.pop(name) for name in kernels]
    foreign.G = rosinality_generator(G)
    if isinstance(value.get("latent_avg"), Array):
        foreign.G["mapping.w_avg"] = _array(value["latent_avg"]).reshape(-1)
    foreign.D = None if D is None else rosinality_discriminator(D)
    return foreign


def _array(value: Any) -> NDArray[Any]:
    if isinstance(value, Array):
        return value.read()
    if isinstance(value, int | float):
        return np.asarray(value, np.float32)
    raise RefusedError(f"has a {type(value).__name__} where weights belong")


def _infer_config(path: Path, foreign: Foreign) -> NetworkConfig:
    G, D = foreign.G, foreign.D or {}
    if "synthesis.b4.const" not in G or "synthesis.b4.conv1.affine.weight" not in G or "mapping.fc0.weight" not in G:
        name = next(iter(G), "nothing")
        raise RequestError(f"{path} must hold a StyleGAN2 generator (config E or F); it has {shown(name)} instead")
    channels = {
        int(match[1]): array.shape[0]
        for name, array in G.items()
        if (match := re.fullmatch(r"synthesis\.b(\d{1,4})\.conv1\.weight", name))
    }
    base, largest = max(r * c for r, c in channels.items()), max(channels.values())
    if any(min(base // resolution, largest) != count for resolution, count in channels.items()):
        raise RequestError(
            f"{path} must have min(channel_base / resolution, channel_max) channels at each resolution; "
            f"it has {', '.join(f'{c} at {r}' for r, c in sorted(channels.items()))}"
        )
    w_dim = int(G["synthesis.b4.conv1.affine.weight"].shape[-1])
    num_classes = int(G["mapping.embed.weight"].shape[-1]) if "mapping.embed.weight" in G else 0
    layers, D_layers = (sum(bool(re.fullmatch(r"mapping\.fc\d+\.weight", n)) for n in w) for w in (G, D))
    return NetworkConfig(
        resolution=max(channels),
        num_classes=num_classes,
        z_dim=int(G["mapping.fc0.weight"].shape[-1]) - (w_dim if num_classes else 0),
        w_dim=w_dim,
        mapping_layers=layers,
        D_mapping_layers=D_layers if num_classes and foreign.D is not None and D_layers != layers else None,
        channel_base=base,
        channel_max=largest,
        mbstd_group_size=foreign.mbstd_group_size,
        conv_clamp=foreign.conv_clamp,
    )


def _check_shapes(path: Path, label: str, weights: Weights, wanted: dict[str, tuple[int, ...]]) -> None:
    for name, shape in wanted.items():
        if name not in weights:
            raise RequestError(f"{path} must be of Salon's architecture; its {label} lacks {name}")
        if weights[name].shape != shape:
            raise RequestError(
                f"{path} must be of Salon's architecture; its {label} has {name} of shape {weights[name].shape}, "
                f"not {shape}"
            )
    if more := sorted(set(weights) - set(wanted)):
        raise RequestError(f"{path} must be of Salon's architecture; its {label} has {shown(more[0])}, which is none")


def _tensor(path: Path, name: str, array: NDArray[Any]) -> torch.Tensor:
    if array.dtype.kind != "f" or not np.isfinite(array).all():
        raise RequestError(f"{path} must hold finite numbers; {name} does not")
    return torch.from_numpy(np.array(array, np.float32))
