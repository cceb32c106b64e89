"""The StyleGAN2 generator: mapping network and skip-architecture synthesis network (Karras et al. 2019, 2020).

Parameter names are those of the StyleGAN2-ADA family, so that weights can be exchanged by name.
"""

from collections.abc import Sequence

import torch
from torch import nn

from gan.config import NetworkConfig
from gan.networks.equalised import Equalised
from gan.networks.layers import FullyConnected, clamped, normalize_second_moment
from gan.ops.bias_act import bias_act
from gan.ops.modulated_conv2d import demodulation, modulated_conv2d, within_float16
from gan.ops.upfirdn2d import setup_filter, upsample2d

NOISE_MODES = ("const", "random", "none")
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
        x = torch.cat(parts, dim=1)
        for index in range(self.layers):
            x = getattr(self, f"fc{index}")(x)
        return x

    def update_w_avg(self, w: torch.Tensor) -> None:
        """Move w_avg towards the mean of w [N, w_dim]."""
        self.w_avg.copy_(w.detach().mean(dim=0).lerp(self.w_avg, W_AVG_BETA))


class SynthesisLayer(Equalised):
    """Modulated 3x3 convolution, noise, bias, leaky ReLU; `up` doubles the resolution."""

    noise_const: torch.Tensor
    resample_filter: torch.Tensor
    demodulated = True
    clamp: float | None = None  # config.conv_clamp

    def __init__(self, inputs: int, outputs: int, w_dim: int, resolution: int, *, up: bool) -> None:
        super().__init__()
        self.resolution, self.up = resolution, up
        self.affine = FullyConnected(w_dim, inputs, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn([outputs, inputs, 3, 3]))
        self.noise_strength = nn.Parameter(torch.zeros([]))
        self.bias = nn.Parameter(torch.zeros([outputs]))
        self.register_buffer("noise_const", torch.randn([resolution, resolution]))
        self.register_buffer("resample_filter", setup_filter(), persistent=False)

    def factors(self) -> dict[str, float]:
        """Its kernel is only cast: demodulation scales what comes out."""
        return {"weight": 1.0}

    def forward(self, x: torch.Tensor, w: torch.Tensor, noise: torch.Tensor | None) -> torch.Tensor:
        """`noise` is broadcast against [N, 1, resolution, resolution]."""
        styles: torch.Tensor = self.affine(w)
        weight: torch.Tensor = self.weight
        # The second half of the modulation is fused into bias_act: one pass over the features instead of four.
        scale = demodulation(weight, styles, None if self.prepared is None else self.prepared["squares"])
        if x.dtype == torch.float16:
            weight, styles, factor = within_float16(weight, styles)
            scale = scale * factor
        elif self.prepared is not None:
            weight = self.prepared["weight"]
        x = modulated_conv2d(x, weight, styles, self.resample_filter, up=self.up)
        if noise is not None:
            noise = noise.reshape(-1, 1, self.resolution, self.resolution)
        strength = None if noise is None else self.noise_strength
        return clamped(bias_act(x, self.bias, "lrelu", scale=scale, noise=noise, strength=strength), self.clamp)


class ToRGB(Equalised):
    """Modulated 1x1 convolution to the three colours, without demodulation or activation."""

    clamp: float | None = None  # config.conv_clamp

    def __init__(self, inputs: int, w_dim: int) -> None:
        super().__init__()
        self.affine = FullyConnected(w_dim, inputs, bias_init=1.0, gain=1 / inputs**0.5)
        self.weight = nn.Parameter(torch.randn([3, inputs, 1, 1]))
        self.bias = nn.Parameter(torch.zeros([3]))

    def factors(self) -> dict[str, float]:
        """Its kernel is only cast: the styles have its constant."""
        return {"weight": 1.0}

    def forward(self, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        styles: torch.Tensor = self.affine(w)
        weight: torch.Tensor = self.weight if self.prepared is None else self.prepared["weight"]
        scale = None
        if x.dtype == torch.float16:
            weight, styles, factor = within_float16(weight, styles)
            scale = factor.expand(-1, len(weight))
        y = modulated_conv2d(x, weight, styles)
        return clamped(bias_act(y.to(self.bias.dtype), self.bias, scale=scale), self.clamp)


class SynthesisBlock(nn.Module):
    """The layers of one resolution. The first block starts from a learned constant instead of conv0."""

    resample_filter: torch.Tensor

    def __init__(self, inputs: int, outputs: int, w_dim: int, resolution: int) -> None:
        super().__init__()
        if inputs:
            self.conv0 = SynthesisLayer(inputs, outputs, w_dim, resolution, up=True)
        else:
            self.const = nn.Parameter(torch.randn([outputs, resolution, resolution]))
        self.conv1 = SynthesisLayer(outputs, outputs, w_dim, resolution, up=False)
        self.torgb = ToRGB(outputs, w_dim)
        self.layers = [self.conv0, self.conv1] if inputs else [self.conv1]
        self.register_buffer("resample_filter", setup_filter(), persistent=False)

    def forward(
        self,
        x: torch.Tensor | None,
        img: torch.Tensor | None,
        ws: Sequence[torch.Tensor],
        noises: Sequence[torch.Tensor | None],
        dtype: torch.dtype,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Features (of `dtype`) and image of the block below (None in the first), a w for each layer and for ToRGB."""
        if x is None:
            x = self.const.to(dtype).expand(ws[0].shape[0], -1, -1, -1)
            x = x.contiguous(memory_format=torch.channels_last)
        for layer, w, noise in zip(self.layers, ws[: len(self.layers)], noises, strict=True):
            x = layer(x, w, noise)
        assert x is not None
        y = self.torgb(x, ws[len(self.layers)])
        return x, y if img is None else upsample2d(img, self.resample_filter) + y


class Synthesis(nn.Module):
    """ws [N, num_ws, w_dim] -> img float32 [N, 3, resolution, resolution], about [-1, 1]."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.blocks = []
        below = 0
        for resolution in config.resolutions():
            channels = config.channels(resolution)
            block = SynthesisBlock(below, channels, config.w_dim, resolution)
            setattr(self, f"b{resolution}", block)
            layers: list[SynthesisLayer | ToRGB] = [*block.layers, block.torgb]
            for layer in layers:
                layer.clamp = config.conv_clamp
            self.blocks.append(block)
            below = channels
        self.num_ws = config.num_ws
        self.trunk_dtype: torch.dtype | None = None  # of features and convolutions; None: that of the weights

    def noise_shapes(self) -> list[int]:
        """Side of the square noise input of each layer, in order."""
        return [layer.resolution for block in self.blocks for layer in block.layers]

    def forward(
        self, ws: torch.Tensor, noise_mode: str = "random", noises: Sequence[torch.Tensor] | None = None
    ) -> torch.Tensor:
        """`noise_mode`: "random" draws from the global generator, "const" uses the stored noise, "none" is without.

        `noises`, one [N, 1, side, side] a layer (see noise_shapes), stands in for them.
        """
        if noise_mode not in NOISE_MODES:
            raise ValueError(f"noise_mode must be one of {', '.join(NOISE_MODES)}; got {noise_mode!r} instead")
        dtype = self.trunk_dtype or ws.dtype
        x = img = None
        index = layer_index = 0
        for block in self.blocks:
            count = len(block.layers)
            block_noises: Sequence[torch.Tensor | None]
            if noises is not None:
                block_noises = noises[layer_index : layer_index + count]
            elif noise_mode == "random":
                block_noises = [
                    torch.randn([ws.shape[0], 1, layer.resolution, layer.resolution], device=ws.device)
                    for layer in block.layers
                ]
            else:
                block_noises = [layer.noise_const if noise_mode == "const" else None for layer in block.layers]
            # ToRGB shares its w with the first layer of the next block.
            x, img = block(x, img, ws[:, index : index + count + 1].unbind(dim=1), block_noises, dtype)
            index, layer_index = index + count, layer_index + count
        assert isinstance(img, torch.Tensor)
        return img


class Generator(nn.Module):
    """z [N, z_dim] (and c [N, classes]) -> img [N, 3, resolution, resolution]."""

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
