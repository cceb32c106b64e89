"""The StyleGAN2 generator: mapping network and skip-architecture synthesis network (Karras et al. 2019, 2020).

Parameter names are those of the StyleGAN2-ADA family, so that weights can be exchanged by name.
"""

from collections.abc import Sequence

import torch
from torch import nn

from gan.config import NOISE_MODES, NetworkConfig
from gan.networks import modulation
from gan.networks.equalised import Equalised
from gan.networks.layers import FullyConnected, clamped, normalize_second_moment
from gan.ops.add_image import add_image
from gan.ops.bias_act import bias_act
from gan.ops.conv1x1 import conv1x1
from gan.ops.modulated_conv2d import EPSILON, demodulation, modulated_conv2d, within_float16
from gan.ops.upfirdn2d import setup_filter, upsample2d

MAPPING_LR_MULTIPLIER = 0.01
W_AVG_BETA = 0.995


class Mapping(nn.Module):
    """z [N, z_dim] and class weights c [N, classes] -> w, one for each of `num_ws` layers: [N, num_ws, w_dim].

    With z_dim = 0 (the discriminator's) only c is mapped; with num_ws = 0 the result is [N, w_dim].
    """

    w_avg: torch.Tensor

    def __init__(self, z_dim: int, num_classes: int, w_dim: int, num_ws: int, layers: int) -> None:
        super().__init__()
        self.z_dim, self.num_classes, self.num_ws, self.layers = z_dim, num_classes, num_ws, layers
        if num_classes:
            self.embed = FullyConnected(num_classes, w_dim)
        features = [z_dim + (w_dim if num_classes else 0)] + [w_dim] * layers
        for index in range(layers):
            layer = FullyConnected(
                features[index], features[index + 1], act="lrelu", lr_multiplier=MAPPING_LR_MULTIPLIER
            )
            setattr(self, f"fc{index}", layer)
        if num_ws:
            self.register_buffer("w_avg", torch.zeros([w_dim]))

    def forward(
        self,
        z: torch.Tensor | None,
        c: torch.Tensor | None = None,
        *,
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
        update_w_avg: bool = False,
    ) -> torch.Tensor:
        """Truncation (Karras et al. 2019, section B) pulls the first `truncation_cutoff` ws (all: None) to w_avg."""
        x = self.w(z, c)
        if not self.num_ws:
            return x
        if update_w_avg:
            self.update_w_avg(x)
        ws = x.unsqueeze(1).repeat(1, self.num_ws, 1)  # [N, num_ws, w_dim]
        if truncation_psi != 1:
            cutoff = self.num_ws if truncation_cutoff is None else truncation_cutoff
            ws[:, :cutoff] = self.w_avg.lerp(ws[:, :cutoff], truncation_psi)
        return ws

    def w(self, z: torch.Tensor | None, c: torch.Tensor | None = None) -> torch.Tensor:
        """The w of each image, [N, w_dim], which all layers get."""
        parts = [] if z is None else [normalize_second_moment(z)]
        if self.num_classes:
            assert c is not None
            parts.append(normalize_second_moment(self.embed(c)))
        x = torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]
        for index in range(self.layers):
            x = getattr(self, f"fc{index}")(x)
        return x

    def update_w_avg(self, w: torch.Tensor) -> None:
        """Move w_avg towards the mean of w [N, w_dim]."""
        torch.lerp(w.detach().mean(dim=0), self.w_avg, W_AVG_BETA, out=self.w_avg)


class SynthesisLayer(Equalised):
    """Modulated 3x3 convolution, noise, bias, leaky ReLU; `up` doubles the resolution."""

    noise_const: torch.Tensor
    resample_filter: torch.Tensor
    demodulated = True
    clamp: float | None = None  # config.conv_clamp

    def __init__(self, inputs: int, outputs: int, w_dim: int, grid: tuple[int, int], *, up: bool) -> None:
        super().__init__()
        self.grid, self.up = grid, up  # height and width of what comes out
        self.transposed = up
        self.affine = FullyConnected(w_dim, inputs, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn([outputs, inputs, 3, 3]))
        self.noise_strength = nn.Parameter(torch.zeros([]))
        self.bias = nn.Parameter(torch.zeros([outputs]))
        self.register_buffer("noise_const", torch.randn(grid))
        self.register_buffer("resample_filter", setup_filter(), persistent=False)

    def factors(self) -> dict[str, float]:
        """Its kernel is only cast: demodulation scales what comes out."""
        return {"weight": 1.0}

    def modulate(self, w: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """w [N, w_dim] -> styles [N, in] and the scale of what comes out, [N, out]."""
        styles: torch.Tensor = self.affine(w)
        return styles, demodulation(self.weight, styles)

    def forward(
        self, x: torch.Tensor, styles: torch.Tensor, scale: torch.Tensor, noise: torch.Tensor | None
    ) -> torch.Tensor:
        """`noise` is broadcast against [N, 1, *grid]."""
        weight: torch.Tensor = self.weight
        # The second half of the modulation is fused into bias_act: one pass over the features instead of four.
        if x.dtype == torch.float16:
            weight, styles, factor = within_float16(weight, styles)
            scale = scale * factor
        elif self.prepared is not None:
            weight = self.prepared["weight"]
        x = modulated_conv2d(x, weight, styles, self.resample_filter, up=self.up)
        if noise is not None:
            noise = noise.reshape(-1, 1, *self.grid)
        strength = None if noise is None else self.noise_strength
        return clamped(bias_act(x, self.bias, "lrelu", scale=scale, noise=noise, strength=strength), self.clamp)


class ToRGB(Equalised):
    """Modulated 1x1 convolution to the image's channels, without demodulation or activation."""

    clamp: float | None = None  # config.conv_clamp
    in_trunk = False  # its kernels are cast when they are modulated

    def __init__(self, inputs: int, w_dim: int, channels: int) -> None:
        super().__init__()
        self.affine = FullyConnected(w_dim, inputs, bias_init=1.0, gain=1 / inputs**0.5)
        self.weight = nn.Parameter(torch.randn([channels, inputs, 1, 1]))
        self.bias = nn.Parameter(torch.zeros([channels]))

    def factors(self) -> dict[str, float]:
        """The styles have its constant."""
        return {"weight": 1.0}

    def modulate(self, w: torch.Tensor) -> torch.Tensor:
        """w [N, w_dim] -> the kernel of each image, [N, C, in]."""
        styles: torch.Tensor = self.affine(w)
        return styles[:, None] * self.weight.flatten(1)

    def forward(self, x: torch.Tensor, kernels: torch.Tensor, below: torch.Tensor | None) -> torch.Tensor:
        """The colours of x, whose images have `kernels` [N, C, in], added to those of the resolution below."""
        factor = None
        if x.dtype == torch.float16:  # kernels whose sums of products are at most the largest feature
            factor = kernels.abs().sum(dim=2, keepdim=True) + EPSILON  # [N, C, 1]
            kernels = kernels / factor
        y = conv1x1(x, kernels.to(x.dtype))
        y = y if factor is None else y * factor[:, :, None]
        if below is not None and self.clamp is None:
            return add_image(below, y, self.bias)
        y = clamped(y + self.bias[:, None, None], self.clamp)
        return y if below is None else below + y


class SynthesisBlock(nn.Module):
    """The layers of one resolution. The first block starts from a learned constant instead of conv0."""

    resample_filter: torch.Tensor

    def __init__(self, inputs: int, outputs: int, w_dim: int, grid: tuple[int, int], channels: int) -> None:
        super().__init__()
        if inputs:
            self.conv0 = SynthesisLayer(inputs, outputs, w_dim, grid, up=True)
        else:
            self.const = nn.Parameter(torch.randn([outputs, *grid]))
        self.conv1 = SynthesisLayer(outputs, outputs, w_dim, grid, up=False)
        self.torgb = ToRGB(outputs, w_dim, channels)
        self.layers = [self.conv0, self.conv1] if inputs else [self.conv1]
        self.register_buffer("resample_filter", setup_filter(), persistent=False)

    def forward(
        self,
        x: torch.Tensor | None,
        img: torch.Tensor | None,
        modulations: Sequence[tuple[torch.Tensor, torch.Tensor]],
        kernels: torch.Tensor,
        noises: Sequence[torch.Tensor | None],
        dtype: torch.dtype,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Features (of `dtype`) and image of the block below (None in the first), and what modulates its layers."""
        if x is None:
            x = self.const.expand(kernels.shape[0], -1, -1, -1).to(dtype, memory_format=torch.channels_last)
        for layer, (styles, scale), noise in zip(self.layers, modulations, noises, strict=True):
            x = layer(x, styles, scale, noise)
        assert x is not None
        return x, self.torgb(x, kernels, None if img is None else upsample2d(img, self.resample_filter))


class Synthesis(Equalised):
    """ws [N, num_ws, w_dim] -> img float32 [N, C, H, W] of config.shape, about [-1, 1]."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.blocks = []
        below = 0
        for resolution in config.resolutions():
            channels = config.channels(resolution)
            block = SynthesisBlock(below, channels, config.w_dim, config.grid(resolution), config.image_channels)
            setattr(self, f"b{resolution}", block)
            layers: list[SynthesisLayer | ToRGB] = [*block.layers, block.torgb]
            for layer in layers:
                layer.clamp = config.conv_clamp
            self.blocks.append(block)
            below = channels
        self.layers = [layer for block in self.blocks for layer in block.layers]
        self.torgbs = [block.torgb for block in self.blocks]
        self.num_ws = config.num_ws
        self.trunk_dtype: torch.dtype | None = None  # of features and convolutions; None: that of the weights

    def noise_shapes(self) -> list[tuple[int, int]]:
        """Height and width of the noise input of each layer, in order."""
        return [layer.grid for layer in self.layers]

    def factors(self) -> dict[str, float]:
        """It has none of its own."""
        return {}

    def prepare(self) -> None:
        """What modulates all layers at once."""
        assert self.prepared is not None
        groups: dict[str, Sequence[torch.Tensor]] = {}
        for name, layers in (("layers", self.layers), ("torgbs", self.torgbs)):
            for part in ("weight", "bias"):
                groups[f"{name} {part}"] = [_of(layer.affine, part) for layer in layers]
        groups["squares"] = [_of(layer, "squares") for layer in self.layers]
        groups["kernels"] = [_of(torgb, "weight").flatten(1) for torgb in self.torgbs]
        self.prepared |= zip([*groups, "zero"], modulation.padded(*groups.values()), strict=True)

    def modulate(
        self, ws: torch.Tensor, dtype: torch.dtype
    ) -> tuple[list[tuple[torch.Tensor, torch.Tensor]], list[torch.Tensor]]:
        """ws -> styles and scale of each convolution (see SynthesisLayer.modulate), and the kernels of each ToRGB."""
        # The last w is ToRGB's alone; the others share theirs with the first layer of the next block.
        layer_ws, torgb_ws = ws[:, :-1], ws[:, 1::2]
        if self.prepared is None:
            modulations = [layer.modulate(w) for layer, w in zip(self.layers, layer_ws.unbind(1), strict=True)]
            return modulations, [torgb.modulate(w) for torgb, w in zip(self.torgbs, torgb_ws.unbind(1), strict=True)]
        p = self.prepared
        styles = modulation.affine(layer_ws, p["layers weight"], p["layers bias"])
        scales = modulation.demodulation(styles, p["squares"])
        colours = modulation.affine(torgb_ws, p["torgbs weight"], p["torgbs bias"])
        kernels = colours[:, :, None] * p["kernels"][:, None]  # [L, N, C, I]
        if dtype != torch.float16:  # which ToRGB scales first
            kernels = kernels.to(dtype, memory_format=torch.contiguous_format)
        outputs, inputs = zip(*(layer.weight.shape[:2] for layer in self.layers), strict=True)
        widths = [torgb.weight.shape[1] for torgb in self.torgbs]
        own_styles = modulation.narrowed(styles, inputs, p["zero"])
        own_scales = modulation.narrowed(scales, outputs, p["zero"])
        own_kernels = modulation.narrowed(kernels, widths, p["zero"])
        return list(zip(own_styles, own_scales, strict=True)), list(own_kernels)

    def forward(
        self, ws: torch.Tensor, noise_mode: str = "random", noises: Sequence[torch.Tensor] | None = None
    ) -> torch.Tensor:
        """`noise_mode`: "random" draws from the global generator, "const" uses the stored noise, "none" is without.

        `noises`, one [N, 1, height, width] a layer (see noise_shapes), stands in for them.
        """
        if noise_mode not in NOISE_MODES:
            raise ValueError(f"noise_mode must be one of {', '.join(NOISE_MODES)}; got {noise_mode!r} instead")
        dtype = self.trunk_dtype or ws.dtype
        modulations, kernels = self.modulate(ws, dtype)
        x = img = None
        first = 0
        for block, kernel in zip(self.blocks, kernels, strict=True):
            which = slice(first, first + len(block.layers))
            block_noises: Sequence[torch.Tensor | None]
            if noises is not None:
                block_noises = noises[which]
            elif noise_mode == "random":
                block_noises = [torch.randn([ws.shape[0], 1, *layer.grid], device=ws.device) for layer in block.layers]
            else:
                block_noises = [layer.noise_const if noise_mode == "const" else None for layer in block.layers]
            x, img = block(x, img, modulations[which], kernel, block_noises, dtype)
            first = which.stop
        assert isinstance(img, torch.Tensor)
        return img


def _of(layer: Equalised, name: str) -> torch.Tensor:
    assert layer.prepared is not None
    return layer.prepared[name]


class Generator(nn.Module):
    """z [N, z_dim] (and c [N, classes]) -> img [N, C, H, W] of config.shape."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.mapping = Mapping(config.z_dim, config.num_classes, config.w_dim, config.num_ws, config.mapping_layers)
        self.synthesis = Synthesis(config)

    def forward(
        self,
        z: torch.Tensor,
        c: torch.Tensor | None = None,
        *,
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
        noise_mode: str = "random",
        noises: Sequence[torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """See Mapping.forward and Synthesis.forward for the options."""
        ws = self.mapping(z, c, truncation_psi=truncation_psi, truncation_cutoff=truncation_cutoff)
        img: torch.Tensor = self.synthesis(ws, noise_mode, noises)
        return img
