"""The state of training and one iteration of it: the part of the trainer that is mathematics."""

import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gan import ema, losses
from gan.ada import Augmentation
from gan.config import TrainingConfig
from gan.discriminator import Discriminator
from gan.errors import SalonError
from gan.generator import Generator
from gan.images import to_float

Stats = dict[str, torch.Tensor]


class NonFiniteError(SalonError):
    """A loss or a gradient became NaN or infinite. The weights are those of the iteration before."""


class Learner:
    """Networks, optimizers, running means, counters and random generators: all that a checkpoint holds.

    `labels` are the classes of the dataset's images (None: unconditional); generated images draw theirs from them.
    """

    def __init__(self, config: TrainingConfig, device: torch.device, labels: NDArray[np.int64] | None = None) -> None:
        self.config, self.device = config, device
        torch.manual_seed(config.seed)
        self.G = Generator(config.network).to(device).requires_grad_(False)
        self.D = Discriminator(config.network).to(device).requires_grad_(False)
        self.G_ema = copy.deepcopy(self.G).eval()
        self.G_optimizer = self._adam(self.G, config.pl_interval if config.pl_weight else None)
        self.D_optimizer = self._adam(self.D, config.r1_interval if config.r1_gamma else None)
        self.pl_mean = torch.zeros([], device=device)
        self.augment = Augmentation(config)
        self.labels = None if labels is None else torch.from_numpy(labels)
        self.iteration = 0
        self.cur_nimg = 0

    def step(self, pixels: torch.Tensor, classes: torch.Tensor) -> Stats:
        """One iteration on real images (uint8 [N, 3, H, W], int64 [N]) -> named scalars.

        Raises NonFiniteError before a bad gradient reaches the weights.
        """
        config = self.config
        real_img = to_float(pixels.to(self.device, non_blocking=True))
        real_c = self._one_hot(classes)
        stats = self._generator_step(len(real_img))
        if config.pl_weight and self.iteration % config.pl_interval == 0:
            stats |= self._path_length_step(max(len(real_img) // config.pl_batch_shrink, 1))
        stats |= self._discriminator_step(real_img, real_c)
        if config.r1_gamma and self.iteration % config.r1_interval == 0:
            stats |= self._r1_step(real_img, real_c)
        self.cur_nimg += len(real_img)
        self.iteration += 1
        self.augment.update(self.iteration)
        half_life = ema.half_life(config.ema_kimg, config.ema_rampup, self.cur_nimg)
        ema.update(self.G_ema, self.G, len(real_img), half_life)
        return {name: value.detach() for name, value in stats.items()}

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

    def _generator_step(self, count: int) -> Stats:
        self.G.requires_grad_(True)
        ws, c = self._draw_ws(count, update_w_avg=True)
        logits = self.D(self.augment(self.G.synthesis(ws)), c)
        loss = losses.generator_loss(logits).mean()
        stats = {"loss/G": loss, "logits/generated": logits.mean()}
        return {**stats, "gradient/G": self._descend(self.G, self.G_optimizer, loss, stats)}

    def _path_length_step(self, count: int) -> Stats:
        self.G.requires_grad_(True)
        ws, _ = self._draw_ws(count)
        img = self.G.synthesis(ws)
        lengths = losses.path_lengths(img, ws, torch.randn_like(img))
        penalty, self.pl_mean = losses.path_length_penalty(lengths, self.pl_mean, self.config.pl_decay)
        loss = penalty.mean() * (self.config.pl_weight * self.config.pl_interval)
        stats = {"path_length/mean": lengths.mean(), "path_length/penalty": penalty.mean()}
        self._descend(self.G, self.G_optimizer, loss, stats)
        return stats

    def _discriminator_step(self, real_img: torch.Tensor, real_c: torch.Tensor | None) -> Stats:
        with torch.no_grad():
            ws, gen_c = self._draw_ws(len(real_img))
            gen_img = self.G.synthesis(ws)
        self.D.requires_grad_(True)
        gen_logits = self.D(self.augment(gen_img), gen_c)
        real_logits = self.D(self.augment(real_img), real_c)
        real_loss, gen_loss = losses.discriminator_loss(real_logits, gen_logits)
        loss = real_loss.mean() + gen_loss.mean()
        stats = {"loss/D": loss, "logits/real": real_logits.mean(), "accuracy/real": (real_logits > 0).float().mean()}
        stats |= self.augment.observe(real_logits)
        return {**stats, "gradient/D": self._descend(self.D, self.D_optimizer, loss, stats)}

    def _r1_step(self, real_img: torch.Tensor, real_c: torch.Tensor | None) -> Stats:
        assert self.config.r1_gamma is not None
        self.D.requires_grad_(True)
        real_img = real_img.requires_grad_(True)
        penalty = losses.r1_penalty(real_img, self.D(self.augment(real_img), real_c)).mean()
        loss = penalty * (self.config.r1_gamma / 2 * self.config.r1_interval)
        stats = {"r1/penalty": penalty}
        self._descend(self.D, self.D_optimizer, loss, stats)
        return stats

    def _draw_ws(self, count: int, *, update_w_avg: bool = False) -> tuple[torch.Tensor, torch.Tensor | None]:
        # Style mixing (Karras et al. 2019, section 3.1): from a random layer on, the ws come from a second z.
        c = self._one_hot(self.labels[torch.randint(len(self.labels), [count])]) if self.labels is not None else None
        z_dim, num_ws = self.config.network.z_dim, self.config.network.num_ws
        ws = self.G.mapping(torch.randn([count, z_dim], device=self.device), c, update_w_avg=update_w_avg)
        if torch.rand([]).item() < self.config.style_mixing_prob:
            cutoff = int(torch.randint(1, num_ws, []).item())
            other = self.G.mapping(torch.randn([count, z_dim], device=self.device), c)
            ws = torch.cat([ws[:, :cutoff], other[:, cutoff:]], dim=1)
        return ws, c

    def _one_hot(self, classes: torch.Tensor) -> torch.Tensor | None:
        number = self.config.network.num_classes
        return torch.nn.functional.one_hot(classes, number).float().to(self.device) if number else None

    def _descend(
        self, network: torch.nn.Module, optimizer: torch.optim.Optimizer, loss: torch.Tensor, stats: Stats
    ) -> torch.Tensor:
        # Step down the loss, unless it or its gradient is not finite -> the gradient's norm.
        torch.autograd.backward(loss)
        network.requires_grad_(False)
        norm = torch.nn.utils.get_total_norm([p.grad for p in network.parameters() if p.grad is not None])
        for name, value in {**stats, "gradient": norm}.items():
            if not torch.isfinite(value):
                raise NonFiniteError(f"{name} became {value.item()} in iteration {self.iteration}")
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return norm

    def _adam(self, network: torch.nn.Module, interval: int | None) -> torch.optim.Optimizer:
        # Lazy regularisation adds a step every `interval`; lr and betas are corrected (Karras et al. 2020, appendix B).
        config = self.config
        ratio = 1.0 if interval is None else interval / (interval + 1)
        betas = (config.beta1**ratio, config.beta2**ratio)
        return torch.optim.Adam(network.parameters(), config.learning_rate * ratio, betas, eps=1e-8, fused=True)
