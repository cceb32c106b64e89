"""The training step: one iteration of G and D with their regularisation, and all the state that it changes."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gan.augment.ada import Augmentation
from gan.config import TrainingConfig
from gan.data.images import to_float
from gan.device.graphs import Capture, CudaCapture, Graphs, refusal
from gan.networks import precision
from gan.networks.discriminator import Discriminator
from gan.networks.equalised import prepared
from gan.networks.generator import Generator
from gan.networks.labels import one_hot
from gan.runtime import distributed
from gan.training import ema, losses, microbatches
from gan.training.adam import Adam
from gan.training.finite import FiniteCheck
from gan.training.finite import NonFiniteError as NonFiniteError
from gan.training.latents import LatentSampler
from gan.training.loss_scale import LossScale, of_phases
from gan.training.microbatches import Microbatch
from gan.training.power_averages import PowerAverages

Stats = dict[str, torch.Tensor]


class Learner:
    """Networks, optimizers, running means, counters and random generators: all that a checkpoint holds.

    `labels` are the classes of the dataset's images (None: unconditional); generated images draw theirs from them.
    Of several processes each holds the same state, and computes its microbatches, of at most `batch_gpu` images
    (None: all at once).

    Where it is not `synchronous` (None: on a GPU), an iteration asks the device nothing: it draws on the device,
    computes what a host would skip, and what became not finite is only told by require_finite. The distributions of all
    draws are the same, but the numbers are others. With `graphs` its phases are CUDA graphs where they can be. With
    `post_hoc_ema` it has `averages` of G besides G_ema, which change nothing else.
    """

    def __init__(
        self,
        config: TrainingConfig,
        device: torch.device,
        labels: NDArray[np.int64] | None = None,
        *,
        batch_gpu: int | None = None,
        synchronous: bool | None = None,
        graphs: bool = False,
        post_hoc_ema: bool = False,
    ) -> None:
        self.config, self.device = config, device
        self.synchronous = device.type == "cpu" if synchronous is None else synchronous
        self.microbatches = microbatches.of_batch(config, batch_gpu)
        self.pl_microbatches = microbatches.of_path_lengths(config, batch_gpu)
        torch.manual_seed(config.seed)
        self.G = Generator(config.network).to(device).requires_grad_(False)
        self.D = Discriminator(config.network).to(device).requires_grad_(False)
        self.G_ema = copy.deepcopy(self.G).eval()
        self.averages = PowerAverages(self.G) if post_hoc_ema else None
        for network in (self.G, self.D):  # G_ema generates as its snapshots will
            precision.apply(network, config.precision)
        self.G_optimizer = self._adam(self.G, config.pl_interval if config.pl_weight else None)
        self.D_optimizer = self._adam(self.D, config.r1_interval if config.r1_gamma else None)
        self.pl_mean = torch.zeros([], device=device)
        self.finite = FiniteCheck(device)
        self.loss_scales: dict[str, LossScale] = of_phases(device) if config.precision == "fp16" else {}
        self.augment = Augmentation(config, device, synchronous=self.synchronous)
        self.latents = LatentSampler(
            self.G, config, device, labels, [self.microbatches, self.pl_microbatches], synchronous=self.synchronous
        )
        self.iteration = 0
        self.cur_nimg = 0
        self._augmented = 0  # microbatches since the iteration began
        self._graphs: Graphs | None = None
        self._inputs: tuple[torch.Tensor, torch.Tensor | None] | None = None  # of the graphs: real images and classes
        if graphs:
            self.use_graphs()

    @property
    def members(self) -> list[int]:
        """Positions of this process's images in the global batch, in the order in which step() takes them."""
        return [int(position) for microbatch in self.microbatches for position in microbatch.positions]

    def step(self, pixels: torch.Tensor, classes: torch.Tensor) -> Stats:
        """One iteration on real images (uint8 [n, 3, H, W], int64 [n]), see `members` -> named scalars of all.

        With graphs (see use_graphs) the scalars are good until the next iteration.
        A bad gradient never reaches the weights. Raises NonFiniteError at once where it is synchronous.
        """
        config = self.config
        real_img = to_float(pixels.to(self.device, non_blocking=True))
        real_c = None
        if config.network.num_classes:
            real_c = one_hot(classes.to(self.device, non_blocking=True), config.network.num_classes)
        self._augmented = 0
        if self._graphs:
            real_img, real_c = self._keep(real_img, real_c)
        stats = dict(self._run("G", self._generator_step))
        if config.pl_weight and self.iteration % config.pl_interval == 0:
            stats |= self._run("path length", self._path_length_step)
        stats |= self._run("D", lambda: self._discriminator_step(real_img, real_c))
        if config.r1_gamma and self.iteration % config.r1_interval == 0:
            stats |= self._run("R1", lambda: self._r1_step(real_img, real_c))
        self.finite.end_iteration()
        half_life = ema.half_life(config.ema_kimg, config.ema_rampup, self.cur_nimg)
        ema.update(self.G_ema, self.G, config.batch_size, half_life)
        self.cur_nimg += config.batch_size
        if self.averages:
            self.averages.update(config.batch_size, self.cur_nimg)
        self.iteration += 1
        self.augment.update(self.iteration)
        return stats

    def use_graphs(self, capture: Capture | None = None) -> str | None:
        """Run the phases as CUDA graphs from now on, by `capture` where given -> why not, if it cannot be."""
        passes = len(self.microbatches)
        reason = None if capture else refusal(self.device, max(passes, len(self.pl_microbatches)))
        if reason is None:
            self._graphs = Graphs(capture or CudaCapture(self.device, [self.G_optimizer, self.D_optimizer]))
        return reason

    def _run(self, name: str, phase: Callable[[], Stats]) -> Stats:
        return self._graphs.run(name, phase) if self._graphs else phase()

    def _keep(self, real_img: torch.Tensor, real_c: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor | None]:
        # The same in memory that stays.
        if self._inputs is None:
            self._inputs = real_img.clone(), None if real_c is None else real_c.clone()
        for kept, value in zip(self._inputs, (real_img, real_c), strict=True):
            if kept is not None and value is not None:
                kept.copy_(value)
        return self._inputs

    def require_finite(self) -> None:
        """Raise NonFiniteError if a loss or a gradient has become NaN or infinite; the weights are those before."""
        self.finite.require(self.iteration)

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next iteration depends on, as tensors and plain containers."""
        return {
            **{name: getattr(self, name).state_dict() for name in self._PARTS},
            "pl_mean": self.pl_mean,
            "augment": self.augment.state_dict(),
            "loss_scales": {name: scale.state_dict() for name, scale in self.loss_scales.items()},
            "iteration": self.iteration,
            "cur_nimg": self.cur_nimg,
            "rng_cpu": torch.get_rng_state(),
            "rng_cuda": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
            **({"averages": self.averages.state_dict()} if self.averages else {}),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of state_dict, exact to the bit on the same kind of device.

        Averages that the state lacks begin now.
        """
        for name in self._PARTS:
            getattr(self, name).load_state_dict(state[name])
        self.pl_mean.copy_(state["pl_mean"])
        self.finite.reset()
        if self._graphs:
            self._graphs.reset()
        self.augment.load_state_dict(state.get("augment", {}))
        for name, scale in self.loss_scales.items():
            if found := state.get("loss_scales", {}).get(name):
                scale.load_state_dict(found)
        self.iteration, self.cur_nimg = state["iteration"], state["cur_nimg"]
        if self.averages and "averages" in state:
            self.averages.load_state_dict(state["averages"])
        elif self.averages:
            self.averages.restart(self.cur_nimg)
        torch.set_rng_state(state["rng_cpu"])
        if self.device.type == "cuda" and state["rng_cuda"] is not None:
            torch.cuda.set_rng_state(state["rng_cuda"], self.device)

    _PARTS = ("G", "D", "G_ema", "G_optimizer", "D_optimizer")

    def _generator_step(self) -> Stats:
        self.G.requires_grad_(True)
        latents = self.latents.draw(self.microbatches)

        def forward(microbatch: Microbatch) -> tuple[torch.Tensor, Stats]:
            part = latents.part(microbatch.local)
            ws, c = self.latents.map(part)
            logits = self.D(self._augment(self.G.synthesis(ws, noises=part.noises), microbatch), c)
            loss = losses.generator_loss(logits).mean()
            return loss, {"loss/G": loss, "logits/generated": logits.mean()}

        with self._prepared(self.G, self.D):
            stats, norm = self._descend("G", self.G, self.G_optimizer, forward, self.microbatches)
        return {**stats, "gradient/G": norm}

    def _path_length_step(self) -> Stats:
        self.G.requires_grad_(True)
        with self._prepared(self.G):
            return self._penalize_path_lengths()

    def _penalize_path_lengths(self) -> Stats:
        scale = self.loss_scales.get("path_length")
        latents = self.latents.draw(self.pl_microbatches)
        noise = self.latents.path_noise(self.pl_microbatches)

        def measure(microbatch: Microbatch) -> torch.Tensor:
            part = latents.part(microbatch.local)
            ws, _ = self.latents.map(part)
            img = self.G.synthesis(ws, noises=part.noises)
            return losses.path_lengths(img, ws, noise[microbatch.local], scale.scale if scale else None)

        # The penalty needs the mean over the whole batch first. Several passes are made anew for their gradients
        # afterwards: that costs less memory than keeping them all, and comes every pl_interval iterations only.
        alone = len(self.pl_microbatches) == 1
        lengths = [
            measure(microbatch) if alone else measure(microbatch).detach() for microbatch in self.pl_microbatches
        ]
        means = [
            part.detach().mean() if microbatch.weight == 1 else part.detach().mean() * microbatch.weight
            for part, microbatch in zip(lengths, self.pl_microbatches, strict=True)
        ]
        mean = means[0] if alone else torch.stack(means).sum()
        distributed.sum_in_place([mean])
        old, config = self.pl_mean.clone(), self.config

        def forward(microbatch: Microbatch) -> tuple[torch.Tensor, Stats]:
            part = lengths[0] if alone else measure(microbatch)
            penalty, new = losses.path_length_penalty(part, old, config.pl_decay, mean)
            self.pl_mean.copy_(new)
            loss = penalty.mean()
            stats = {"path_length/mean": part.mean(), "path_length/penalty": loss}
            return loss * (config.pl_weight * config.pl_interval), stats

        stats, _ = self._descend("path_length", self.G, self.G_optimizer, forward, self.pl_microbatches)
        if scale:
            self.pl_mean.copy_(torch.where(scale.found_inf > 0, old, self.pl_mean))
        return stats

    def _discriminator_step(self, real_img: torch.Tensor, real_c: torch.Tensor | None) -> Stats:
        latents = self.latents.draw(self.microbatches)
        self.D.requires_grad_(True)

        def forward(microbatch: Microbatch) -> tuple[torch.Tensor, Stats]:
            with torch.no_grad():
                part = latents.part(microbatch.local)
                ws, gen_c = self.latents.map(part)
                gen_img = self.G.synthesis(ws, noises=part.noises)
            real, c = real_img[microbatch.local], None if real_c is None else real_c[microbatch.local]
            gen_logits, real_logits = self._discriminate(microbatch, gen_img, gen_c, real, c)
            real_loss, gen_loss = losses.discriminator_loss(real_logits, gen_logits)
            loss = real_loss.mean() + gen_loss.mean()
            accuracy = (real_logits > 0).mean(dtype=torch.float32)
            stats = {"loss/D": loss, "logits/real": real_logits.mean(), "accuracy/real": accuracy}
            return loss, stats | self.augment.observe(real_logits)

        with self._prepared(self.G, self.D):
            stats, norm = self._descend("D", self.D, self.D_optimizer, forward, self.microbatches)
        return {**stats, "gradient/D": norm}

    def _discriminate(
        self,
        microbatch: Microbatch,
        gen_img: torch.Tensor,
        gen_c: torch.Tensor | None,
        real_img: torch.Tensor,
        real_c: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        # -> D's logits of generated and of real images, of whatever shape
        group = self.config.network.mbstd_group_size
        if self.synchronous or group is None or len(gen_img) < group:
            gen_logits = self.D(self._augment(gen_img, microbatch), gen_c)
            return gen_logits, self.D(self._augment(real_img, microbatch), real_c)
        # In one pass: half as many launches. A group is a column of a batch [group, -1]; columns of one kind stay so.
        pixels = [part.permute(0, 2, 3, 1).view(group, -1, *part.shape[2:], 3) for part in (gen_img, real_img)]
        img = torch.stack(pixels, dim=1).flatten(0, 2).permute(0, 3, 1, 2)  # its channels last
        c = None
        if gen_c is not None and real_c is not None:
            c = torch.stack([part.view(group, -1, part.shape[1]) for part in (gen_c, real_c)], dim=1).flatten(0, 2)
        gen_logits, real_logits = self.D(self._augment(img, microbatch), c).view(group, 2, -1).unbind(dim=1)
        return gen_logits, real_logits

    def _r1_step(self, real_img: torch.Tensor, real_c: torch.Tensor | None) -> Stats:
        assert self.config.r1_gamma is not None
        weight, scale = self.config.r1_gamma / 2 * self.config.r1_interval, self.loss_scales.get("r1")
        self.D.requires_grad_(True)

        def forward(microbatch: Microbatch) -> tuple[torch.Tensor, Stats]:
            img = real_img[microbatch.local].detach().requires_grad_(True)
            logits = self.D(self._augment(img, microbatch), None if real_c is None else real_c[microbatch.local])
            penalty = losses.r1_penalty(img, logits, scale.scale if scale else None).mean()
            return penalty * weight, {"r1/penalty": penalty}

        with self._prepared(self.D):
            return self._descend("r1", self.D, self.D_optimizer, forward, self.microbatches)[0]

    @contextmanager
    def _prepared(self, *networks: torch.nn.Module) -> Iterator[None]:
        # All weights of a phase are scaled and cast at once where many small kernels cost more than the work.
        trunk = self.G.synthesis.trunk_dtype
        # G casts to float16 with scales of its own.
        pairs = ((self.G, None if trunk == torch.float16 else trunk), (self.D, self.D.trunk_dtype))
        with nullcontext() if self.synchronous else prepared(*(pair for pair in pairs if pair[0] in networks)):
            yield

    def _augment(self, img: torch.Tensor, microbatch: Microbatch) -> torch.Tensor:
        if self.config.augment == "none" or len(microbatch.positions) == microbatch.total:
            return self.augment(img)
        # A microbatch's transforms come from a seed of its own, so that the processes' generators stay in step.
        first = int(microbatch.positions[0])
        if self.synchronous:
            seed = int(torch.randint(2**62, []).item()) + first
        else:
            self._augmented += 1
            entropy = [self.config.seed, self.iteration, self._augmented, first]
            seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(seed)
            return self.augment(img)

    def _descend(
        self,
        phase: str,
        network: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        forward: Callable[[Microbatch], tuple[torch.Tensor, Stats]],
        parts: list[Microbatch],
    ) -> tuple[Stats, torch.Tensor]:
        # A step down the mean of the losses, unless it or its gradient is not finite -> stats, gradient's norm.
        stats: Stats = {}
        scale = self.loss_scales.get(phase)
        factor = scale.factor if scale else None
        for microbatch in parts:
            loss, values = forward(microbatch)
            weight = microbatch.weight
            loss = loss if weight == 1 else loss * weight
            torch.autograd.backward(loss if factor is None else loss * factor)
            for name, value in values.items():
                value = value.detach() if weight == 1 else value.detach() * weight
                stats[name] = stats[name] + value if name in stats else value
        network.requires_grad_(False)
        if network is self.D:
            self._freeze()
        gradients = [p.grad for p in network.parameters() if p.grad is not None]
        # One sum instead of DDP, which hooks into a single backward pass and knows no second-order or lazy steps.
        distributed.sum_in_place([*gradients, *stats.values()])
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        watched = {**stats, "gradient": norm}
        if scale:
            watched |= scale.check(watched if scale.order > 1 else {"gradient": norm})
        self.finite.watch(watched)
        if self.synchronous:
            self.require_finite()
        found_inf = None if self.synchronous else self.finite.found_inf
        if scale and factor is not None:
            found_inf = torch.maximum(self.finite.found_inf, scale.found_inf)
            norm = norm / factor
            stats[f"loss_scale/{phase}"] = scale.scale.clone()
        optimizer.grad_scale, optimizer.found_inf = factor, found_inf  # type: ignore[attr-defined]  # of fused Adam
        optimizer.step()
        if scale:
            scale.update()
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
        return Adam(network.parameters(), config.learning_rate * ratio, betas, eps=1e-8, fused=True)
