"""Write a snapshot's networks in the forms of other implementations: tensors and plain values, and no code.

"stylegan3-pkl" is the pickle of StyleGAN2 for TensorFlow, three networks as names and arrays. The loaders of
stylegan2-ada-pytorch and stylegan3 make their own networks of it; pickles of their own modules hold source code, which
Salon neither has nor writes. "rosinality" is the checkpoint of rosinality/stylegan2-pytorch.
"""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from gan.config import NetworkConfig
from gan.errors import RequestError, SalonError
from gan.foreign import convert, exported_weights, pickle_writer
from gan.foreign.pickle_writer import Instance
from gan.foreign.readers import UNTRAINED
from gan.foreign.weight_names import Weights
from gan.image_shape import SQUARE
from gan.networks.discriminator import Discriminator
from gan.networks.generator import MAPPING_LR_MULTIPLIER, W_AVG_BETA, Generator
from gan.runtime.files import atomic, sha256
from gan.sampling import latents
from gan.snapshot import Snapshot

FORMS = ("stylegan3-pkl", "rosinality")
MAX_DIFFERENCE = 1e-4  # of images, as a share of the largest value
COMPARED = 4  # images
_TF_VERSION = 4  # of the format of TensorFlow's networks


def write(source: Snapshot, path: Path, form: str) -> dict[str, Any]:
    """Write the networks of a snapshot to `path` in one of FORMS -> figures. An existing file is replaced.

    The file is read back and its images compared before it is there. Raises RequestError for an unknown form, or a
    snapshot that it cannot hold; SalonError where what was written gives other images.
    """
    if form not in FORMS:
        raise RequestError(f"`format` must be one of {', '.join(FORMS)}; got {form} instead")
    _require_held(source.config.network, form)
    with atomic(path) as temporary:
        (_write_tensorflow if form == "stylegan3-pkl" else _write_rosinality)(source, temporary)
        difference = _difference(source, temporary)
        if not difference <= MAX_DIFFERENCE:
            raise _differs(source.config.network, form, difference)
    return {
        "snapshot": str(source.path),
        "sha256": sha256(source.path),
        "cur_nimg": source.cur_nimg,
        "out": str(path),
        "format": form,
        "discriminator": source.D is not None,
        "difference": difference,
        "channel_multiplier": _multiplier(source.config.network) if form == "rosinality" else None,
    }


def _require_held(config: NetworkConfig, form: str) -> None:
    # What no file of the form, or no reader of it, can hold.
    if config.base != SQUARE:
        raise RequestError(f"`format` {form} holds generators of square images alone; this one's are {config.shape}")
    if form != "rosinality":
        return
    if config.image_channels != 3:
        raise RequestError(f"`format` rosinality holds generators of RGB images alone; this one's are {config.shape}")
    if config.num_classes:
        raise RequestError(f"`format` rosinality has no classes, and this generator has {config.num_classes}")
    if config.z_dim != config.w_dim:
        raise RequestError(
            f"`format` rosinality needs a z_dim that is w_dim; this generator has {config.z_dim} and {config.w_dim}"
        )
    if _multiplier(config) is None:
        raise RequestError(
            "`format` rosinality needs `channel_max` 512 and `channel_base` 16384 or 32768; "
            f"this generator has {config.channel_max} and {config.channel_base}"
        )


def _multiplier(config: NetworkConfig) -> int | None:
    return exported_weights.rosinality_multiplier({side: config.channels(side) for side in config.resolutions()})


def _write_tensorflow(source: Snapshot, path: Path) -> None:
    G_ema = _tf_generator(source.G_ema, "Gs")
    G = G_ema if source.G is None else _tf_generator(source.G, "G")
    with open(path, "wb") as file:
        pickle_writer.dump((G, _tf_discriminator(source), G_ema), file)


def _tf_generator(G: Generator, name: str) -> Instance:
    config = G.config
    own, mapping, synthesis = exported_weights.tf_generator(_weights(G)).values()
    options = {
        **_tf_options(config),
        "latent_size": config.z_dim,
        "dlatent_size": config.w_dim,
        "mapping_layers": config.mapping_layers,
        "mapping_nonlinearity": "lrelu",
        "mapping_lrmul": MAPPING_LR_MULTIPLIER,
        "w_avg_beta": W_AVG_BETA,
        "architecture": "skip",
        "use_noise": True,
    }
    parts = {"mapping": _tf_network("mapping", {}, mapping), "synthesis": _tf_network("synthesis", {}, synthesis)}
    return _tf_network(name, options, own, parts)


def _tf_discriminator(source: Snapshot) -> Instance:
    # Every reader wants one. Where the snapshot has none it is new, and its name says so to `salon import`.
    config, D = source.config.network, source.D
    if D is None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            D = Discriminator(config)
    layers = config.mapping_layers if config.D_mapping_layers is None else config.D_mapping_layers
    options = {
        **_tf_options(config),
        "mapping_layers": layers if config.num_classes else 0,
        "mapping_lrmul": MAPPING_LR_MULTIPLIER,
        "architecture": "resnet",
        "mbstd_group_size": config.mbstd_group_size,
        "mbstd_num_features": 1,
    }
    return _tf_network("D" if source.D else UNTRAINED, options, exported_weights.tf_discriminator(_weights(D)))


def _tf_options(config: NetworkConfig) -> dict[str, Any]:
    # That both networks have. Readers double fmap_base; an odd channel_base gives the same channels as one less.
    return {
        "num_channels": config.image_channels,
        "resolution": config.resolution,
        "label_size": config.num_classes,
        "fmap_base": config.channel_base // 2,
        "fmap_max": config.channel_max,
        "nonlinearity": "lrelu",
        "resample_kernel": [1, 3, 3, 1],
        "num_fp16_res": 0,
        "conv_clamp": config.conv_clamp,
    }


def _tf_network(
    name: str, options: dict[str, Any], variables: Weights, parts: dict[str, Instance] | None = None
) -> Instance:
    state = {
        "version": _TF_VERSION,
        "name": name,
        "static_kwargs": options,
        "components": parts or {},
        "variables": list(variables.items()),
    }
    return Instance(module="dnnlib.tflib.network", name="Network", state=state)


def _write_rosinality(source: Snapshot, path: Path) -> None:
    g_ema = _tensors(exported_weights.rosinality_generator(_weights(source.G_ema)))
    g = g_ema if source.G is None else _tensors(exported_weights.rosinality_generator(_weights(source.G)))
    content = {"g": g, "g_ema": g_ema, "latent_avg": source.G_ema.mapping.w_avg.detach().clone()}
    if source.D is not None:
        state = exported_weights.rosinality_discriminator(_weights(source.D), source.config.network.resolution)
        content["d"] = _tensors(state)
    with open(path, "wb") as file:  # given a path, torch would write its temporary name into the file
        torch.save(content, file)


def _weights(network: nn.Module) -> Weights:
    return {name: tensor.detach().cpu().numpy() for name, tensor in network.state_dict().items()}


def _tensors(weights: Weights) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array.copy()) for name, array in weights.items()}


def _difference(source: Snapshot, path: Path) -> float:
    # Of images of the snapshot and of the file as `salon import` reads it; 1 is the largest value of an image.
    G = convert.build(path, convert.read(path)).G_ema
    config = source.config.network
    z = torch.from_numpy(latents.draw(range(COMPARED), config.z_dim))
    c = None
    if config.num_classes:
        c = nn.functional.one_hot(torch.arange(COMPARED) % config.num_classes, config.num_classes).float()
    with torch.no_grad():
        ours, read = (network(z, c, truncation_psi=0.7, noise_mode="const") for network in (source.G_ema, G))
    return float((ours - read).abs().max() / ours.abs().max().clamp(min=1))


def _differs(config: NetworkConfig, form: str, difference: float) -> SalonError:
    if form == "rosinality" and config.conv_clamp is not None:
        return RequestError(
            f"`format` rosinality has no conv_clamp, and this generator's of {config.conv_clamp:g} is at work: without "
            f"it images differ by {difference:.1g} of their range"
        )
    return SalonError(f"the file in `format` {form} gives other images, by {difference:.1g} of their range")
