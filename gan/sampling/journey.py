"""Journeys: paths through pictures of seeds and of ws, edited and driven by sound, frame by frame."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from gan.data.images import Pixels
from gan.device.determinism import deterministic
from gan.networks.generator import Generator
from gan.ops.weight_cache import WeightCache
from gan.sampling import latents, path
from gan.sampling.audio import Sound
from gan.sampling.generate import class_weights, synthesize
from gan.sampling.latents import Floats
from gan.sampling.path import Timeline, Times

CHUNK = 256  # frames whose ws are in memory


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """What a generator makes of a key."""

    ws: Floats  # [num_ws, w_dim], truncated and edited
    edit: Floats  # [num_ws, w_dim]: what edits added
    psi: float
    z: Floats | None = None  # [z_dim] of a seed; None: of a row
    class_index: int | None = None


@dataclass(frozen=True, kw_only=True)
class Journey:
    """A journey of one generator, checked by gan.sampling.journey_plan: `frames` makes it, `recipe` says how."""

    G: Generator
    keys: Sequence[Resolved]
    timeline: Timeline
    easing: str
    times: Times  # of the frames, along the path
    strengths: Times | None = None  # [N], by which the distance from w_avg grows; None: not at all
    moves: Sequence[tuple[Times, Floats]] = ()  # amounts [N] and what an amount of 1 adds, [num_ws, w_dim]
    sound: Sound | None = None
    plain: int | None = None  # frames a key, of a path that latents.loop makes
    recipe: Mapping[str, Any] = field(default_factory=dict)  # fields of gan.data.recipe.Recipe

    def __len__(self) -> int:
        return len(self.times)

    def frames(self, *, noise_mode: str = "const", batch_size: int = 8) -> Iterator[Pixels]:
        """uint8 [H, W, C], one by one."""
        cache, device = WeightCache(), next(self.G.parameters()).device
        for ws in self.ws():
            on_device = torch.from_numpy(ws).to(device)
            yield from synthesize(self.G, on_device, noise_mode=noise_mode, batch_size=batch_size, cache=cache)

    def ws(self) -> Iterator[Floats]:
        """ws [n, num_ws, w_dim] of the frames, some at a time."""
        keys = np.stack([key.ws for key in self.keys])
        if self.plain is not None:
            yield latents.loop(keys, self.plain)
            return
        for start in range(0, len(self.times), CHUNK):
            yield self._driven(self._between(keys, self.times[start : start + CHUNK]), slice(start, start + CHUNK))

    def _between(self, keys: Floats, times: Times) -> Floats:
        places = self.timeline.places(times)
        if self.easing == "smooth":
            return path.smooth(keys, self.timeline, places)
        before, after, t = places
        if self.easing == "linear":
            return path.linear(keys[before], keys[after], t)
        ws = path.spherical(keys[before], keys[after], t)
        of_seeds = np.array([key.z is not None for key in self.keys])
        chosen = np.flatnonzero(of_seeds[before] & of_seeds[after])
        if len(chosen):
            ws[chosen] = self._through_z(before[chosen], after[chosen], t[chosen])
        return ws

    def _through_z(self, before: np.ndarray, after: np.ndarray, t: Times) -> Floats:
        # Between seeds: z on the sphere that they are drawn on, mapped, and truncated and edited as far on.
        z, edit = (self._of_keys(name) for name in ("z", "edit"))
        psi = np.array([key.psi for key in self.keys])
        weights = class_weights(self._classes(), self.G)
        c = None if weights is None else path.linear(weights.numpy()[before], weights.numpy()[after], t)
        ws = _mapped(self.G, path.spherical(z[before], z[after], t), c, psi[before] + t * (psi[after] - psi[before]))
        return ws + path.linear(edit[before], edit[after], t)

    def _of_keys(self, name: str) -> Floats:
        # What keys have that are of seeds; z of the others are zeros, which are not used.
        values = [getattr(key, name) for key in self.keys]
        usual = np.zeros(self.G.config.z_dim)
        return np.stack([usual if value is None else value for value in values]).astype(np.float32)

    def _classes(self) -> list[int] | None:
        if not self.G.config.num_classes:
            return None
        return [key.class_index or 0 for key in self.keys]

    def _driven(self, ws: Floats, place: slice) -> Floats:
        if self.strengths is not None:
            average = self.G.mapping.w_avg.cpu().numpy()
            ws = average + self.strengths[place].astype(np.float32)[:, None, None] * (ws - average)
        for amounts, unit in self.moves:
            ws = ws + amounts[place].astype(np.float32)[:, None, None] * unit
        return ws


def _mapped(G: Generator, z: Floats, c: Floats | None, psi: Times) -> Floats:
    # z [N, z_dim] -> ws [N, num_ws, w_dim], one by one as map_seeds, each with its own truncation.
    device, rows = next(G.parameters()).device, []
    with torch.inference_mode(), deterministic():
        for index in range(len(z)):
            own_c = None if c is None else torch.from_numpy(c[index : index + 1]).to(device)
            own_z = torch.from_numpy(z[index : index + 1]).to(device)
            rows.append(G.mapping(own_z, own_c, truncation_psi=float(psi[index])))
    return torch.cat(rows).cpu().numpy()
