"""Latents that make a generator show a picture, after Karras et al. 2020, appendix D.

Adam moves w from w_avg, under noise that fades, so that it first looks around and then settles. The loss is a
perceptual distance from the picture, and the squared difference of the pixels.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch

from gan.device.determinism import deterministic
from gan.networks.generator import Generator
from gan.projection import noise_maps
from gan.projection.latent_space import start
from gan.projection.problem import Problem
from gan.projection.request import SearchRequest
from gan.runtime.console import progress

# Shares of the steps, and factors, as Karras et al. 2020 have them.
RAMP_UP, RAMP_DOWN = 0.05, 0.25  # of the learning rate, at the beginning and at the end
NOISE_RAMP, NOISE_FACTOR = 0.75, 0.05  # of the noise on w: when it is gone, and its share of w_std at the beginning
NOISE_WEIGHT = 1e5  # of the regularization of noise maps
FRAMES = 120  # places of the search that are kept for an animation, at most

Watch = Callable[[int, torch.Tensor], None]


@dataclass(kw_only=True)
class Found:
    """The latents that a search found, and what they cost."""

    ws: torch.Tensor  # [1, num_ws, w_dim]
    noises: list[torch.Tensor] | None  # one [1, 1, height, width] a layer; None: the generator's own
    loss: float
    start: int  # which start they are of, from 0 on
    steps: int  # that were done from it
    path: list[torch.Tensor] = field(default_factory=list)  # ws on the way, for an animation


def search(
    problem: Problem,
    request: SearchRequest,
    *,
    called: str = "Search",
    stopped: Callable[[], bool] = lambda: False,
    watch: Watch | None = None,
) -> Found:
    """The ws whose image is nearest to the picture, of all starts. The generator stays as it is.

    The same request finds the same on the same device. Once `stopped()`, the best so far is given. `watch` is told
    after each step, with its number and the ws [1, num_ws, w_dim] so far; `called` names the search in the progress
    bar.
    """
    total = request.steps * request.starts
    steps = iter(progress(range(1, total + 1), called, total, unit="step"))
    found: list[Found] = []
    for number in range(request.starts):
        found.append(_descend(problem, request, number, steps, stopped, watch))
        if stopped():
            break
    return min(found, key=lambda one: one.loss)


def _descend(
    problem: Problem,
    request: SearchRequest,
    number: int,
    steps: Iterator[int],
    stopped: Callable[[], bool],
    watch: Watch | None,
) -> Found:
    # From one start, with random numbers of its own, drawn on the CPU: the same on every device.
    draws = torch.Generator().manual_seed((request.seed + number) % 2**32)
    latents = _Latents(problem, request, number, draws)
    optimizer = torch.optim.Adam([latents.free, *(latents.noises or [])], betas=(0.9, 0.999))
    best, done = latents.found(math.inf, 0), 0
    with deterministic():
        while done < request.steps and not (done and stopped()):
            t = (done + 0.5) / request.steps
            latents.keep(done, request.steps)
            scale = noise_scale(t) * problem.space.w_std
            loss = problem.loss(latents.image(scale))
            if not scale and (now := float(loss.detach())) < best.loss:  # without noise it is the loss of ws themselves
                best = latents.found(now, done)
            if latents.noises is not None:
                loss = loss + NOISE_WEIGHT * noise_maps.regularization(latents.noises)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            for group in optimizer.param_groups:
                group["lr"] = request.learning_rate * rate(t)
            optimizer.step()
            if latents.noises is not None:
                noise_maps.normalize_(latents.noises)
            done += 1
            step = next(steps)
            if watch is not None:
                watch(step, latents.ws.detach())
        with torch.no_grad():
            loss = problem.loss(latents.image(0))
    best = latents.found(float(loss), done) if float(loss) < best.loss else best
    best.steps = done
    return best


class _Latents:
    """What Adam moves: `free`, of which the ws are made, and the noise maps where they are searched for."""

    def __init__(self, problem: Problem, request: SearchRequest, number: int, draws: torch.Generator) -> None:
        self.G, self.number, self.draws = problem.G, number, draws
        w = start(self.G, problem.space, request.seed, number, problem.class_index)  # [1, w_dim]
        layers = self.G.config.num_ws if request.space == "w+" else 1
        self.free = w[:, None].repeat(1, layers, 1).requires_grad_(True)  # [1, layers, w_dim]
        self.noises = _noises(self.G, draws) if request.noise == "search" else None
        self.path: list[torch.Tensor] = []

    @property
    def ws(self) -> torch.Tensor:
        """[1, num_ws, w_dim]"""
        return self.free.expand(-1, self.G.config.num_ws, -1)

    def image(self, scale: float) -> torch.Tensor:
        """img of the ws, with noise of this deviation on `free`."""
        ws = self.ws
        if scale:
            noise = torch.randn(self.free.shape, generator=self.draws).to(self.free)
            ws = (self.free + scale * noise).expand_as(ws)
        img: torch.Tensor = self.G.synthesis(ws, "const", self.noises)
        return img

    def keep(self, done: int, steps: int) -> None:
        """Keep the ws for an animation, FRAMES times in all the steps at most."""
        if done * FRAMES >= len(self.path) * steps:
            self.path.append(self.ws.detach().cpu().clone())

    def found(self, loss: float, done: int) -> Found:
        """The latents as they are, of this loss."""
        noises = None if self.noises is None else [noise.detach().clone() for noise in self.noises]
        ws = self.ws.detach().clone()
        return Found(ws=ws, noises=noises, loss=loss, start=self.number, steps=done, path=self.path)


def rate(t: float) -> float:
    """Share of the learning rate at `t`, from 0 to 1 over the search: it rises straight and falls as a cosine."""
    down = min(1.0, (1 - t) / RAMP_DOWN)
    return (0.5 - 0.5 * math.cos(down * math.pi)) * min(1.0, t / RAMP_UP)


def noise_scale(t: float) -> float:
    """Deviation of the noise on each number of w at `t`, as a share of w_std."""
    return NOISE_FACTOR * max(0.0, 1 - t / NOISE_RAMP) ** 2


def _noises(G: Generator, draws: torch.Generator) -> list[torch.Tensor]:
    device = next(G.parameters()).device
    shapes = G.synthesis.noise_shapes()
    return [torch.randn([1, 1, *shape], generator=draws).to(device).requires_grad_(True) for shape in shapes]
