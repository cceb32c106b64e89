"""Perceptual path length: how far an image moves, as seen, for a small step of its latent. From 0 up; low is smooth.

Karras et al. 2019, section 4.1: both latent spaces, whole paths or their start, faces cropped. Karras et al. 2020
settle on W, the start, no crop, which are the defaults here. Values of different settings are not comparable.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from eval.metrics.confidence_intervals import Estimate, Vector, bootstrap
from eval.metrics.lpips import as_judged
from gan.device.determinism import deterministic
from gan.networks.generator import Generator
from gan.runtime.console import progress
from gan.sampling.generate import class_weights, latents

SPACES = ("z", "w")
SAMPLINGS = ("end", "full")
PERCENTILES = (1, 99)  # what lies beyond is left out

Distance = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def path_length(distances: Vector) -> Estimate:
    """Mean of distances [N] between the 1st and the 99th percentile (Karras et al. 2019), with bootstrap's interval."""
    return bootstrap(distances, _mean_within_percentiles)


def path_distances(
    G: Generator,
    *,
    lpips: Distance,
    space: str = "w",
    sampling: str = "end",
    crop: bool = False,
    num_samples: int = 50_000,
    epsilon: float = 1e-4,
    seed: int = 0,
    batch_size: int = 8,
    classes: Sequence[int] | None = None,
) -> Vector:
    """d(G(path(t)), G(path(t + epsilon))) / epsilon^2 of `num_samples` paths [N] (Karras et al. 2019, eq. 2 and 3).

    Path i leads from the image of seed + 2i to that of seed + 2i + 1: through Z along a great circle, through W
    straight. `sampling`: "end" looks at its start, t = 0, and "full" anywhere along it. `crop` keeps what holds the
    face in aligned portraits. `lpips` is given float img, above 256 pixels averaged down to 256, never uint8.
    `classes`: one a path; drawn evenly where it is None and G has classes. Raises ValueError for another space or
    sampling.
    """
    if space not in SPACES or sampling not in SAMPLINGS:
        raise ValueError(f"space must be z or w, and sampling end or full; got {space!r} and {sampling!r} instead")
    if num_samples < 1 or epsilon <= 0:
        raise ValueError(f"num_samples and epsilon must be positive; got {num_samples} and {epsilon} instead")
    rng = np.random.default_rng(seed)
    positions = torch.from_numpy(rng.random(num_samples) if sampling == "full" else np.zeros(num_samples))
    if classes is None and G.config.num_classes:
        classes = rng.integers(0, G.config.num_classes, num_samples).tolist()
    device = next(G.parameters()).device
    distances = []
    for first in progress(range(0, num_samples, batch_size), "Path length", unit="batch"):
        end = min(first + batch_size, num_samples)
        c = class_weights(None if classes is None else classes[first:end], G)
        z = latents(range(seed + 2 * first, seed + 2 * end), G.config.z_dim)
        z = z.reshape(end - first, 2, -1)  # [n, 2, z_dim]
        with torch.inference_mode(), deterministic():
            ws = _steps(
                G, z.to(device), None if c is None else c.to(device), positions[first:end].to(device), epsilon, space
            )
            img = _seen(G.synthesis(ws.flatten(0, 1), "const"), crop)
            starts, ends = img.chunk(2)
            distances.append(lpips(starts, ends).double().cpu().numpy() / epsilon**2)
    result: Vector = np.concatenate(distances)
    return result


def slerp(a: torch.Tensor, b: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """Unit vectors between the directions of a and b [N, d] at t [N, 1], along the great circle (Shoemake 1985)."""
    a, b = a / a.norm(dim=1, keepdim=True), b / b.norm(dim=1, keepdim=True)
    angle = torch.acos((a * b).sum(dim=1, keepdim=True).clamp(-1, 1))
    across = b - a * (a * b).sum(dim=1, keepdim=True)
    across = across / across.norm(dim=1, keepdim=True)
    point: torch.Tensor = a * torch.cos(t * angle) + across * torch.sin(t * angle)
    return point


def _steps(
    G: Generator, z: torch.Tensor, c: torch.Tensor | None, t: torch.Tensor, epsilon: float, space: str
) -> torch.Tensor:
    # Ends z [n, 2, z_dim] of paths, t [n] float64 -> ws of both ends of a step on each [2, n, num_ws, w_dim]
    ends = [t, t + epsilon]
    if space == "z":
        a, b = z.double().unbind(1)
        return torch.stack([G.mapping(slerp(a, b, at[:, None]).float(), c) for at in ends])
    a, b = (G.mapping(end, c).double() for end in z.unbind(1))
    return torch.stack([torch.lerp(a, b, at[:, None, None]).float() for at in ends])


def _seen(img: torch.Tensor, crop: bool) -> torch.Tensor:
    # Karras et al. 2019: of faces rows 3/8 to 7/8 and columns 2/8 to 6/8.
    if crop:
        height, width = img.shape[2:]
        img = img[:, :, height * 3 // 8 : height * 7 // 8, width * 2 // 8 : width * 6 // 8]
    return as_judged(img)


def _mean_within_percentiles(distances: Vector) -> float:
    low = np.percentile(distances, PERCENTILES[0], method="lower")
    high = np.percentile(distances, PERCENTILES[1], method="higher")
    return float(distances[(low <= distances) & (distances <= high)].mean())
