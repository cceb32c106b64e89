"""The training step: one iteration of G and D with their regularisation, and all the state that it changes."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gan.augment.ada import Augmentation
from gan.config import TrainingConfig
from gan.data.images import to_float
from gan.errors import SalonError
from gan.networks import precision
from gan.networks.discriminator import Discriminator
from gan.networks.generator import Generator
from gan.networks.labels import one_hot
from gan.runtime import distributed
from gan.training import ema, losses, microbatches
from gan.training.microbatches import Microbatch

Stats = dict[str, torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class Latents:
    """Latents and noise of this process's generated images."""

    z: torch.Tensor  # [n, z_dim]
    c: torch.Tensor | None  # [n, classes], one-hot
    mixed: tuple[int, torch.Tensor] | None  # from this layer on, another z
    noises: list[torch.Tensor]  # one [n, 1, side, side] a layer

    def part(self, rows: slice) -> "Latents":
        """Those of the images `rows`."""
        return Latents(
            z=self.z[rows],
            c=None if self.c is None else self.c[rows],
            mixed=self.mixed and (self.mixed[0], self.mixed[1][rows]),
            noises=[noise[rows] for noise in self.noises],
        )


class NonFiniteError(SalonError):
    """A loss or a gradient became NaN or infinite. The weights are those of the iteration before."""


class Learner:
    """Networks, optimizers, running means, counters and random generators: all that a checkpoint holds.

    `labels` are the classes of the dataset's images (None: unconditional); generated images draw theirs from them.
    Of several processes each holds the same state, and computes its microbatches, of at most `batch_gpu` images
    (None: all at once).
    """

    def __init__(
        self,
        config: TrainingConfig,
        device: torch.device,
        labels: NDArray[np.int64] | None = None,
        *,
        batch_gpu: int | None = None,
    ) -> None:
        self.config, self.device = config, device
        self.microbatches = microbatches.of_batch(config, batch_gpu)
        self.pl_microbatches = microbatches.of_path_lengths(config, batch_gpu)
        torch.manual_seed(config.seed)
        self.G = Generator(config.network).to(device).requires_grad_(False)
        self.D = Discriminator(config.network).to(device).requires_grad_(False)
        self.G_ema = copy.deepcopy(self.G).eval()
        for network in (self.G, self.D):  # G_ema generates as its snapshots will
            precision.apply(network, config.precision)
        self.G_optimizer = self._adam(self.G, config.pl_interval if config.pl_weight else None)
        self.D_optimizer = self._adam(self.D, config.r1_interval if config.r1_gamma else None)
        self.pl_mean = torch.zeros([], device=device)
        self.augment = Augmentation(config)
        self.labels = None if labels is None else torch.from_numpy(labels)
        self.iteration = 0
        self.cur_nimg = 0

    @property
    def members(self) -> list[int]:
        """Positions of this process's images in the global batch, in the order in which step() takes them."""
        return [int(position) for microbatch in self.microbatches for position in microbatch.positions]

    def step(self, pixels: torch.Tensor, classes: torch.Tensor) -> Stats:
        """One iteration on real images (uint8 [n, 3, H, W], int64 [n]), see `members` -> named scalars of all.

        Raises NonFiniteError before a bad gradient reaches the weights.
        """
        config = self.config
        real_img = to_float(pixels.to(self.device, non_blocking=True))
        real_c = one_hot(classes, config.network.num_classes, self.device)
        stats = self._generator_step()
        if config.pl_weight and self.iteration % config.pl_interval == 0:
            stats |= self._path_length_step()
        stats |= self._discriminator_step(real_img, real_c)
        if config.r1_gamma and self.iteration % config.r1_interval == 0:
            stats |= self._r1_step(real_img, real_c)
        self.cur_nimg += config.batch_size
        self.iteration += 1
        self.augment.update(self.iteration)
        half_life = ema.half_life(config.ema_kimg, config.ema_rampup, self.cur_nimg)
        ema.update(self.G_ema, self.G, config.batch_size, half_life)
        return stats

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next iteration depends on, as tensors and plain containers."""
        return {
            **{name: getattr(self, name).state_dict() for name in self._PARTS},
            "pl_mean": self.pl_mean,
            "augment": self.augment.state_dict(),
            "iteration": self.iteration,
            "cur_nimg": self.cur_nimg,
            "rng_cpu": torch.get_rng_state(),
            "rng_cuda": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of state_dict, exact to the bit on the same kind of device."""
        for name in self._PARTS:
            getattr(self, name).load_state_dict(state[name])
        self.pl_mean = state["pl_mean"].to(self.device)
        self.augment.load_state_dict(state.get("augment", {}))
        self.iteration, self.cur_nimg = state["iteration"], state["cur_nimg"]
        torch.set_rng_state(state["rng_cpu"])
        if self.device.type == "cuda" and state["rng_cuda"] is not None:
            torch.cuda.set_rng_state(state["rng_cuda"], self.device)

    _PARTS = ("G", "D", "G_ema", "G_optimizer", "D_optimizer")

    def _generator_step(self) -> Stats:
        self.G.requires_grad_(True)
        latents = self._draw(self.microbatches, update_w_avg=True)

        def forward(microbatch: Microbatch) -> tuple[torch.Tensor, Stats]:
            part = latents.part(microbatch.local)
            ws, c = self._map(part)
            logits = self.D(self._augment(self.G.synthesis(ws, noises=part.noises), microbatch), c)
            loss = losses.generator_loss(logits).mean()
            return loss, {"loss/G": loss, "logits/generated": logits.mean()}

        stats, norm = self._descend(self.G, self.G_optimizer, forward, self.microbatches)
        return {**stats, "gradient/G": norm}

    def _path_length_step(self) -> Stats:
        self.G.requires_grad_(True)
        latents = self._draw(self.pl_microbatches)
        noise = self._draw_path_noise(self.pl_microbatches)

        def measure(microbatch: Microbatch) -> torch.Tensor:
            part = latents.part(microbatch.local)
            ws, _ = self._map(part)
            return losses.path_lengths(self.G.synthesis(ws, noises=part.noises), ws, noise[microbatch.local])

        # The penalty needs the mean over the whole batch first. Several passes are made anew for their gradients
        # afterwards: that costs less memory than keeping them all, and comes every pl_interval iterations only.
        alone = len(self.pl_microbatches) == 1
        lengths = [
            measure(microbatch) if alone else measure(microbatch).detach() for microbatch in self.pl_microbatches
        ]
        weights = [microbatch.weight for microbatch in self.pl_microbatches]
        means = [part.detach().mean() * weight for part, weight in zip(lengths, weights, strict=True)]
        mean = torch.stack(means).sum()
        distributed.sum_in_place([mean])
        old, config = self.pl_mean, self.config

        def forward(microbatch: Microbatch) -> tuple[torch.Tensor, Stats]:
            part = lengths[0] if alone else measure(microbatch)
            penalty, self.pl_mean = losses.path_length_penalty(part, old, config.pl_decay, mean)
            stats = {"path_length/mean": part.mean(), "path_length/penalty": penalty.mean()}
            return penalty.mean() * (config.pl_weight * config.pl_interval), stats

        return self._descend(self.G, self.G_optimizer, forward, self.pl_microbatches)[0]

    def _discriminator_step(self, real_img: torch.Tensor, real_c: torch.Tensor | None) -> Stats:
        latents = self._draw(self.microbatches)
        self.D.requires_grad_(True)

        def forward(microbatch: Microbatch) -> tuple[torch.Tensor, Stats]:
            with torch.no_grad():
                part = latents.part(microbatch.local)
                ws, gen_c = self._map(part)
                gen_img = self.G.synthesis(ws, noises=part.noises)
            gen_logits = self.D(self._augment(gen_img, microbatch), gen_c)
            real = self._augment(real_img[microbatch.local], microbatch)
            real_logits = self.D(real, None if real_c is None else real_c[microbatch.local])
            real_loss, gen_loss = losses.discriminator_loss(real_logits, gen_logits)
            loss = real_loss.mean() + gen_loss.mean()
            accuracy = (real_logits > 0).float().mean()
            stats = {"loss/D": loss, "logits/real": real_logits.mean(), "accuracy/real": accuracy}
            return loss, stats | self.augment.observe(real_logits)

        stats, norm = self._descend(self.D, self.D_optimizer, forward, self.microbatches)
        return {**stats, "gradient/D": norm}

    def _r1_step(self, real_img: torch.Tensor, real_c: torch.Tensor | None) -> Stats:
        assert self.config.r1_gamma is not None
        weight = self.config.r1_gamma / 2 * self.config.r1_interval
        self.D.requires_grad_(True)

        def forward(microbatch: Microbatch) -> tuple[torch.Tensor, Stats]:
            img = real_img[microbatch.local].detach().requires_grad_(True)
            logits = self.D(self._augment(img, microbatch), None if real_c is None else real_c[microbatch.local])
            penalty = losses.r1_penalty(img, logits).mean()
            return penalty * weight, {"r1/penalty": penalty}

        return self._descend(self.D, self.D_optimizer, forward, self.microbatches)[0]

    def _draw(self, parts: list[Microbatch], *, update_w_avg: bool = False) -> Latents:
        # Every process draws for the whole batch and keeps its own rows, so that all generators stay in step and
        # nothing depends on the number of processes. The price is small: an image takes 2.7 random numbers a pixel
        # and draw, and millions of operations a pixel, so N processes lose about N thousandths of their time. A
        # layer's noise is cut down before the next is drawn. w_avg's mapping is less than 1e-4 of an image's work.
        count, rows = parts[0].total, torch.cat([microbatch.positions for microbatch in parts])
        c = None
        if self.labels is not None:
            drawn = self.labels[torch.randint(len(self.labels), [count])]
            c = one_hot(drawn, self.config.network.num_classes, self.device)
        z = torch.randn([count, self.config.network.z_dim], device=self.device)
        if update_w_avg:
            with torch.no_grad():
                self.G.mapping(z, c, update_w_avg=True)
        mixed = None
        # Style mixing (Karras et al. 2019, section 3.1): from a random layer on, the ws come from a second z.
        if torch.rand([]).item() < self.config.style_mixing_prob:
            cutoff = int(torch.randint(1, self.config.network.num_ws, []).item())
            mixed = cutoff, torch.randn_like(z)[rows]
        sides = self.G.synthesis.noise_shapes()
        noises = [torch.randn([count, 1, side, side], device=self.device)[rows] for side in sides]
        return Latents(z=z[rows], c=None if c is None else c[rows], mixed=mixed, noises=noises)

    def _draw_path_noise(self, parts: list[Microbatch]) -> torch.Tensor:
        count, rows = parts[0].total, torch.cat([microbatch.positions for microbatch in parts])
        side = self.config.network.resolution
        noise = torch.empty([count, 3, side, side], device=self.device, memory_format=torch.channels_last)
        return noise.normal_()[rows]

    def _map(self, latents: Latents) -> tuple[torch.Tensor, torch.Tensor | None]:
        ws = self.G.mapping(latents.z, latents.c)
        if latents.mixed:
            cutoff, z = latents.mixed
            ws = torch.cat([ws[:, :cutoff], self.G.mapping(z, latents.c)[:, cutoff:]], dim=1)
        return ws, latents.c

    def _augment(self, img: torch.Tensor, microbatch: Microbatch) -> torch.Tensor:
        if self.config.augment == "none" or len(microbatch.positions) == microbatch.total:
            return self.augment(img)
        # A microbatch's transforms come from a seed of its own, so that the processes' generators stay in step.
        seed = int(torch.randint(2**62, []).item()) + int(microbatch.positions[0])
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(seed)
            return self.augment(img)

    def _descend(
        self,
        network: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        forward: Callable[[Microbatch], tuple[torch.Tensor, Stats]],
        parts: list[Microbatch],
    ) -> tuple[Stats, torch.Tensor]:
        # A step down the mean of the losses, unless it or its gradient is not finite -> stats, gradient's norm.
        stats: Stats = {}
        for microbatch in parts:
            loss, values = forward(microbatch)
            torch.autograd.backward(loss * microbatch.weight)
            for name, value in values.items():
                value = value.detach() * microbatch.weight
                stats[name] = stats[name] + value if name in stats else value
        network.requires_grad_(False)
        if network is self.D:
            self._freeze()
        gradients = [p.grad for p in network.parameters() if p.grad is not None]
        # One sum instead of DDP, which hooks into a single backward pass and knows no second-order or lazy steps.
        distributed.sum_in_place([*gradients, *stats.values()])
        norm = torch.nn.utils.get_total_norm(gradients)
        for name, value in {**stats, "gradient": norm}.items():
            if not torch.isfinite(value):
                raise NonFiniteError(f"{name} became {value.item()} in iteration {self.iteration}")
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return stats, norm

    def _freeze(self) -> None:
        # Frozen blocks keep their weights, but pass gradients on (Mo et al. 2020, section 3).
        for block in self.D.blocks[: self.config.freeze_d]:
            for parameter in block.parameters():
                parameter.grad = None  # Adam leaves it alone

    def _adam(self, network: torch.nn.Module, interval: int | None) -> torch.optim.Optimizer:
        # Lazy regularisation adds a step every `interval`; lr and betas are corrected (Karras et al. 2020, appendix B).
        config = self.config
        ratio = 1.0 if interval is None else interval / (interval + 1)
        betas = (config.beta1**ratio, config.beta2**ratio)
        return torch.optim.Adam(network.parameters(), config.learning_rate * ratio, betas, eps=1e-8, fused=True)
