"""A generator fine-tuned around ws until it shows a picture there: pivotal tuning (Roich et al. 2021)."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from gan.data.images import Pixels, to_pixels
from gan.device.determinism import deterministic
from gan.networks.generator import Generator
from gan.projection.problem import Problem, image_loss
from gan.projection.request import TuningRequest
from gan.runtime.console import progress
from gan.sampling.generate import map_seeds

RADIUS = 1.0  # distance from the pivot at which the other images are held, in w_std
FRAMES = 30  # images on the way that are kept for an animation, at most


@dataclass(kw_only=True)
class Tuned:
    """A generator that was tuned, and how far."""

    G: Generator  # without gradients
    steps: int  # that were done
    path: list[Pixels] = field(default_factory=list)  # images of the pivot on the way, uint8 [H, W, C]


def with_noises(G: Generator, noises: Sequence[torch.Tensor]) -> Generator:
    """A copy of a generator that has these noise maps, [1, 1, height, width] a layer, in the place of its own."""
    own = copy.deepcopy(G)
    for layer, noise in zip(own.synthesis.layers, noises, strict=True):
        layer.noise_const.copy_(noise[0, 0])
    return own


def tune(
    problem: Problem,
    ws: torch.Tensor,
    request: TuningRequest,
    *,
    seed: int = 0,
    called: str = "Tuning",
    stopped: Callable[[], bool] = lambda: False,
) -> Tuned:
    """A copy of the generator whose synthesis network shows the picture at the pivot `ws` [1, num_ws, w_dim].

    The copy's images near the pivot are held to the generator's own, which stays as it is. `seed` is that of these
    images. Once `stopped()`, the copy is given as it is then; `called` names the tuning in the progress bar.
    """
    tuned = copy.deepcopy(problem.G)
    parameters = list(tuned.synthesis.requires_grad_(True).parameters())
    optimizer = torch.optim.Adam(parameters, lr=request.tune_learning_rate, betas=(0.9, 0.999))
    path: list[Pixels] = []
    done = 0
    with deterministic():
        for step in progress(range(request.tune), called, request.tune, unit="step"):
            if step and stopped():
                break
            img = tuned.synthesis(ws, "const")
            if step * FRAMES >= len(path) * request.tune:
                path.append(to_pixels(img)[0])
            loss = problem.loss(img)
            if request.locality:
                loss = loss + request.locality * _moved(tuned, problem, _near(problem, ws, (seed + step) % 2**32))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            done = step + 1
    return Tuned(G=tuned.requires_grad_(False), steps=done, path=path)


def _near(problem: Problem, ws: torch.Tensor, seed: int) -> torch.Tensor:
    # Roich et al. 2021, section 3.2: from the pivot a fixed distance towards the w of a random z, in each layer.
    classes = None if problem.class_index is None else [problem.class_index]
    step = map_seeds(problem.G, [seed], classes) - ws
    near: torch.Tensor = ws + RADIUS * problem.space.w_std * step / step.norm(dim=2, keepdim=True).clamp_min(1e-12)
    return near


def _moved(tuned: Generator, problem: Problem, near: torch.Tensor) -> torch.Tensor:
    # How far the tuned generator's image of these ws is from the generator's own.
    with torch.no_grad():
        before = problem.G.synthesis(near, "const")
    return image_loss(tuned.synthesis(near, "const"), before, problem.toward(before))
