"""Read StyleGAN2 networks that other implementations trained, by the names that Salon gives to their weights."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from gan.config import NetworkConfig
from gan.errors import RequestError
from gan.foreign import pickle_reader
from gan.foreign.pickle_values import Array, Record, RefusedError, shown
from gan.foreign.readers import (
    TF_NETWORK,
    ForeignNetwork,
    of_modules,
    of_rosinality,
    of_state_dict,
    of_tensorflow,
)
from gan.image_shape import MODES, SQUARE
from gan.networks.discriminator import Discriminator
from gan.networks.generator import Generator

W_AVG_SAMPLES = 10_000
ADA, TENSORFLOW = "stylegan2-ada-pytorch or stylegan3", "TensorFlow StyleGAN2"
ROSINALITY = "rosinality/stylegan2-pytorch"
Network = TypeVar("Network", bound=nn.Module)
Parts = dict[str, Callable[[], ForeignNetwork]]  # G_ema, G and D, as far as a file has them


@dataclass(kw_only=True)
class Foreign:
    """What a file holds."""

    kind: str  # of the file
    G_ema: ForeignNetwork  # the moving average, or the only generator
    G: ForeignNetwork | None = None  # what is averaged
    D: ForeignNetwork | None = None
    D_left_out: str | None = None  # why the file's discriminator is not taken


@dataclass(kw_only=True)
class Networks:
    """The networks of a file, in evaluation mode, without gradients, all of one config."""

    G_ema: Generator
    G: Generator | None
    D: Discriminator | None


def read(path: Path) -> Foreign:
    """Recognise the file and read its networks. A discriminator that is none of Salon's is left out.

    Raises RequestError when the file is none of the known kinds, or its generator is of another architecture.
    """
    value = pickle_reader.load(path)
    try:
        if found := _find_parts(value):
            return _read_parts(*found)
    except RefusedError as error:
        raise RequestError(f"{path} {error}") from error
    except pickle_reader.DAMAGE as error:
        raise RequestError(f"{path} holds networks in an unknown form: {shown(str(error))}") from error
    raise RequestError(
        f"{path} must hold StyleGAN2 networks: a pickle of stylegan2-ada-pytorch, stylegan3 or TensorFlow StyleGAN2, "
        f"a checkpoint of rosinality/stylegan2-pytorch, or a state dict in the names of one of the PyTorch ones; it "
        f"holds a {type(value).__name__}"
    )


def build(path: Path, foreign: Foreign) -> Networks:
    """The networks of what was read. Raises RequestError when they do not fit one config."""
    parts = {"generator": foreign.G_ema, "generator that is averaged": foreign.G, "discriminator": foreign.D}
    size = path.stat().st_size
    if sum(array.nbytes for part in parts.values() if part for array in part.weights.values()) > size + 2**20:
        raise RequestError(f"{path} must hold its weights; it names the same bytes many times")
    has_w_avg = "mapping.w_avg" in foreign.G_ema.weights
    config = _infer_config(path, foreign)
    for part in (foreign.G_ema, foreign.G):
        if part:
            part.weights.setdefault("mapping.w_avg", np.zeros([config.w_dim], np.float32))
    try:
        _check_weights("discriminator", foreign.D, Discriminator, config)
    except RefusedError as error:
        foreign.D, foreign.D_left_out = None, str(error)
        config = replace(config, D_mapping_layers=None, mbstd_group_size=ForeignNetwork.mbstd_group_size)
    try:
        for label, part in list(parts.items())[:2]:
            _check_weights(label, part, Generator, config)
    except RefusedError as error:
        raise RequestError(f"{path} must be of Salon's architecture; {error}") from error
    G_ema = _load(Generator(config), foreign.G_ema)
    G = _load(Generator(config), foreign.G) if foreign.G else None
    D = _load(Discriminator(config), foreign.D) if foreign.D else None
    if not has_w_avg:
        z = torch.randn([W_AVG_SAMPLES, config.z_dim], generator=torch.Generator().manual_seed(0))
        G_ema.mapping.w_avg.copy_(G_ema.mapping(z)[:, 0].mean(dim=0))
        if G:
            G.mapping.w_avg.copy_(G_ema.mapping.w_avg)
    return Networks(G_ema=G_ema, G=G, D=D)


def cur_nimg(path: Path) -> int:
    """Images that training had seen, where the file's name tells: network-snapshot-KIMG.pkl. Else 0."""
    match = re.fullmatch(r"network-(?:final|snapshot)-(\d{1,9})", path.stem)
    return int(match[1]) * 1000 if match else 0


def _find_parts(value: Any) -> tuple[str, Parts] | None:
    # -> the kind of the file, and how its networks are read
    if isinstance(value, tuple) and len(value) == 3 and all(isinstance(part, Record) for part in value):
        G, D, G_ema = value
        return TENSORFLOW, _parts(of_tensorflow, G_ema, G, partial(of_tensorflow, D, discriminator=True))
    if isinstance(value, Record):
        is_tf = value.name == TF_NETWORK
        return (TENSORFLOW, _parts(of_tensorflow, value)) if is_tf else (ADA, _parts(of_modules, value))
    if not isinstance(value, dict):
        return None
    G_ema, G, D = (value.get(name) for name in ("G_ema", "G", "D"))
    if isinstance(G_ema, Record) or isinstance(G, Record):
        return ADA, _parts(of_modules, G_ema, G, None if D is None else partial(of_modules, D))
    if isinstance(G_ema, dict) or isinstance(G, dict):
        return ADA, _parts(of_state_dict, G_ema, G, None if D is None else partial(of_state_dict, D))
    if isinstance(value.get("g_ema"), dict) or isinstance(value.get("g"), dict):
        D = value.get("d")
        read_D = partial(of_rosinality, D, discriminator=True) if isinstance(D, dict) else None
        read_G = partial(of_rosinality, w_avg=value.get("latent_avg"))
        return ROSINALITY, _parts(read_G, value.get("g_ema"), value.get("g"), read_D)
    if value and all(isinstance(name, str) and isinstance(array, Array) for name, array in value.items()):
        return _find_parts_of_state_dict(value)
    return None


def _find_parts_of_state_dict(state: dict[str, Any]) -> tuple[str, Parts]:
    # Of one network, or of several with their names before those of the weights.
    groups: dict[str, dict[str, Any]] = {}
    for name, array in state.items():
        head, _, rest = name.removeprefix("module.").partition(".")
        known = head in ("G_ema", "G", "D")
        groups.setdefault(head if known else "G_ema", {})[rest if known else name.removeprefix("module.")] = array
    if "input.input" in groups.get("G_ema", {}):
        return ROSINALITY, _parts(of_rosinality, groups["G_ema"])
    D = groups.get("D")
    return ADA, _parts(of_state_dict, groups.get("G_ema"), groups.get("G"), partial(of_state_dict, D) if D else None)


def _parts(
    read_G: Callable[[Any], ForeignNetwork],
    G_ema: Any,
    G: Any = None,
    read_D: Callable[[], ForeignNetwork] | None = None,
) -> Parts:
    only = G_ema or G
    if not only:
        raise RefusedError("must hold a generator; it holds none")
    parts: Parts = {"G_ema": partial(read_G, only)}
    if G and G is not only:
        parts["G"] = partial(read_G, G)
    if read_D:
        parts["D"] = read_D
    return parts


def _read_parts(kind: str, parts: Parts) -> Foreign:
    foreign = Foreign(kind=kind, G_ema=parts["G_ema"](), G=parts["G"]() if "G" in parts else None)
    for part in (foreign.G_ema, foreign.G):
        if part:
            _require_generator(part.weights)
    clamp = foreign.G_ema.conv_clamp
    if foreign.G and foreign.G.conv_clamp != clamp:
        raise RefusedError(f"has conv_clamp {clamp} in G_ema and {foreign.G.conv_clamp} in G")
    try:
        D = parts["D"]() if "D" in parts else None
        if D:
            _require_discriminator(D.weights)
            if D.conv_clamp != clamp:
                raise RefusedError(f"has conv_clamp {D.conv_clamp}, and the generator {clamp}")
        foreign.D = D
    except (RefusedError, *pickle_reader.DAMAGE) as error:
        foreign.D_left_out = f"it {error if isinstance(error, RefusedError) else shown(str(error))}"
    return foreign


def _require_generator(weights: Mapping[str, Any]) -> None:
    if any(name.startswith(("synthesis.input.", "synthesis.L0_")) for name in weights):
        raise RefusedError("holds a StyleGAN3 generator (stylegan3-t or stylegan3-r); only StyleGAN2 is read")
    if not {"synthesis.b4.const", "synthesis.b4.conv1.affine.weight", "mapping.fc0.weight"} <= weights.keys():
        raise RefusedError(
            f"must hold a StyleGAN2 generator (config E or F); it has {shown(next(iter(weights), 'nothing'))} instead"
        )
    if weights["synthesis.b4.const"].shape[-2:] != SQUARE:
        raise RefusedError("generates images that are not square; only generators of square images are read")
    if "synthesis.b4.torgb.weight" not in weights:
        name = "resnet" if "synthesis.b8.skip.weight" in weights else "orig"
        raise RefusedError(f"has a generator of the architecture {name}; only skip is known")


def _require_discriminator(weights: Mapping[str, Any]) -> None:
    if not any(".skip." in name for name in weights):
        several = sum(name.endswith("fromrgb.weight") for name in weights) > 1
        name = "skip" if several else "orig, as that of the reference's config cifar"
        raise RefusedError(f"is of the architecture {name}; only resnet is known")


def _infer_config(path: Path, foreign: Foreign) -> NetworkConfig:
    G, D = foreign.G_ema.weights, foreign.D
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
    image_channels = len(G["synthesis.b4.torgb.weight"])
    if image_channels not in MODES:
        raise RequestError(
            f"{path} must generate images of 1 (grey), 3 (RGB) or 4 (RGBA) channels; got {image_channels}"
        )
    w_dim = int(G["synthesis.b4.conv1.affine.weight"].shape[-1])
    num_classes = int(G["mapping.embed.weight"].shape[-1]) if "mapping.embed.weight" in G else 0
    layers, D_layers = (
        sum(bool(re.fullmatch(r"mapping\.fc\d+\.weight", name)) for name in weights)
        for weights in (G, D.weights if D else {})
    )
    return NetworkConfig(
        resolution=max(channels),
        num_classes=num_classes,
        z_dim=int(G["mapping.fc0.weight"].shape[-1]) - (w_dim if num_classes else 0),
        w_dim=w_dim,
        mapping_layers=layers,
        D_mapping_layers=D_layers if num_classes and D and D_layers != layers else None,
        channel_base=base,
        channel_max=largest,
        mbstd_group_size=D.mbstd_group_size if D else ForeignNetwork.mbstd_group_size,
        conv_clamp=foreign.G_ema.conv_clamp,
        image_channels=image_channels,
    )


def _check_weights(
    label: str, part: ForeignNetwork | None, network: Callable[[NetworkConfig], nn.Module], config: NetworkConfig
) -> None:
    # Raises RefusedError when the weights are not those of a network with this config.
    if part is None:
        return
    with torch.device("meta"):  # nothing of the announced size is made before the weights are known to have it
        wanted = {name: tuple(tensor.shape) for name, tensor in network(config).state_dict().items()}
    for name, shape in wanted.items():
        if name not in part.weights:
            raise RefusedError(f"its {label} lacks {name}")
        array = part.weights[name]
        if array.shape != shape:
            raise RefusedError(f"its {label} has {name} of shape {array.shape}, not {shape}")
        if array.dtype.kind != "f" or not np.isfinite(array).all():
            raise RefusedError(f"its {label} has numbers in {name} that are not finite")
    if more := sorted(set(part.weights) - set(wanted)):
        raise RefusedError(f"its {label} has {shown(more[0])}, which is none")


def _load(network: Network, part: ForeignNetwork) -> Network:
    tensors = {name: torch.from_numpy(np.array(array, np.float32)) for name, array in part.weights.items()}
    network.load_state_dict(tensors)
    return network.eval().requires_grad_(False)
