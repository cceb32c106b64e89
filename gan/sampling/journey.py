"""Journeys: paths through pictures of seeds and of ws, edited and driven by sound, frame by frame."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gan.data.classes import class_index
from gan.data.images import Pixels
from gan.device.determinism import deterministic
from gan.errors import RequestError
from gan.networks.generator import Generator
from gan.ops.weight_cache import WeightCache
from gan.runtime.console import say
from gan.runtime.files import sha256
from gan.sampling import audio, drives, keyframes, latents, path
from gan.sampling.audio import Sound
from gan.sampling.directions import Directions
from gan.sampling.drives import PSI, SPEED, Drive
from gan.sampling.generate import class_weights, map_seeds, synthesize
from gan.sampling.journey_request import JourneyRequest
from gan.sampling.keyframes import SECONDS, Key
from gan.sampling.latents import Floats
from gan.sampling.path import Timeline, Times
from gan.sampling.request import SamplingRequest
from gan.sampling.ws_file import WsFile
from gan.snapshot import Snapshot

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
    """A journey of one generator, checked and ready: `frames` makes it, `recipe` says how."""

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


def plan(
    source: Snapshot,
    G: Generator,
    sampling: SamplingRequest,
    request: JourneyRequest,
    *,
    seeds: Sequence[int] | None = None,
    frames: int | None = None,
    fps: float = 30,
) -> Journey:
    """Read and check all that a journey needs, before its first frame.

    Its keys are those of the request's file, or `seeds`, with `frames` from one to the next. Raises RequestError, which
    names the parameter, and in a file the key and the field.
    """
    if (seeds is None) == (request.keyframes is None):
        raise RequestError("either `seeds` or `keyframes` must be given")
    if request.keyframes is not None and frames is not None:
        raise RequestError("`frames` must be left out with `keyframes`, which say how many seconds each key takes")
    rate = Fraction(str(fps)).limit_denominator(1000)  # as the file of an animation has it
    if request.keyframes is None:
        assert seeds is not None
        of_file, keys = None, [Key(seed=seed, seconds=(frames or 60) / rate) for seed in seeds]
        if not request.loop:
            keys[-1] = replace(keys[-1], seconds=None)
    else:
        of_file = keyframes.read(request.keyframes)
        keys = list(of_file.keys)
    chosen = _drives(request, of_file.drives if of_file else None)
    directions_file = request.directions or (of_file.directions if of_file else None)
    directions = _directions(G, directions_file, keys, chosen, request.keyframes)
    resolved = _resolved(source, G, sampling, keys, directions, request.keyframes)
    timeline = _timeline(keys, request.loop)
    sound = None if request.audio is None else audio.read(request.audio, request.seconds)
    times = timeline.times(rate, None if sound is None else sound.seconds)
    driven: dict[str, Any] = {}
    if sound is not None:
        said = audio.features(sound, rate, len(times))
        times, driven = _driven_by(said, chosen, times, directions, G)
    plain = request.easing == "smooth" and request.loop and sound is None
    per_key = {rate * key.seconds for key in keys if key.seconds is not None}
    return Journey(
        G=G,
        keys=resolved,
        timeline=timeline,
        easing=request.easing,
        times=times,
        sound=sound,
        plain=len(times) // len(keys) if plain and of_file is None and len(per_key) == 1 else None,
        recipe=_recipe(request, keys, chosen if sound else {}, directions_file if directions else None, times, fps),
        **driven,
    )


def _drives(request: JourneyRequest, of_file: Mapping[str, Drive] | None) -> dict[str, Drive]:
    if request.audio is None:
        if of_file is not None:
            say(f"Note: {request.keyframes} has a table [audio], which nothing drives without `audio`.")
        return {}
    return drives.chosen(of_file, drives.parse(request.drive))


def _directions(
    G: Generator, file: Path | None, keys: Sequence[Key], chosen: Mapping[str, Drive], said_in: Path | None
) -> Directions | None:
    # Those that keys or sound need; None: they need none.
    named = [drive.to for drive in chosen.values() if drive.to not in (SPEED, PSI)]
    edited = [number for number, key in enumerate(keys, 1) if key.edits]
    if not named and not edited:
        return None
    if file is None:
        who = f"`keyframes` {said_in}: key {edited[0]}: edits need" if edited else f"`drive` {named[0]} needs"
        raise RequestError(f"{who} a file of directions, `directions`")
    found = Directions.open(file, G.config.num_ws, G.config.w_dim)
    for name in named:
        found[name]  # raises where there is none
    return found


def _resolved(
    source: Snapshot,
    G: Generator,
    sampling: SamplingRequest,
    keys: Sequence[Key],
    directions: Directions | None,
    said_in: Path | None,
) -> list[Resolved]:
    # All keys are checked before the first is mapped.
    files: dict[Path, WsFile] = {}
    classes = []
    for number, key in enumerate(keys, 1):
        with _of_key(said_in, number):
            classes.append(_check(key, source, G, sampling, directions, files))
    digest = sha256(source.path)
    for file, content in files.items():
        if content.snapshot not in (None, digest):
            say(f"Note: the ws of {file} are of another snapshot; its pictures may look different here.")
    return [_resolve(G, key, index, sampling, directions, files) for key, index in zip(keys, classes, strict=True)]


def _check(
    key: Key,
    source: Snapshot,
    G: Generator,
    sampling: SamplingRequest,
    directions: Directions | None,
    files: dict[Path, WsFile],
) -> int | None:
    # -> the index of the key's class; its file of ws is then among `files`.
    config = G.config
    for name in key.edits:
        assert directions is not None
        if name not in directions.entries:
            known = ", ".join(directions.entries)
            raise RequestError(f"edits.{name} must be one of the directions {known}")
    if key.ws is None:
        own = sampling.class_name if key.class_name is None else key.class_name
        return class_index(own, config.num_classes, source.classes, "class")
    if key.ws not in files:
        files[key.ws] = WsFile.open(key.ws, config.num_ws, config.w_dim)
    if key.row >= (count := len(files[key.ws].ws)):
        raise RequestError(f"row must be from 0 to {count - 1}, as {key.ws} has; got {key.row} instead")
    return None


@contextmanager
def _of_key(said_in: Path | None, number: int) -> Iterator[None]:
    try:
        yield
    except RequestError as error:
        if said_in is None:  # the key is one of the seeds, for which the command's options hold
            raise RequestError(str(error).replace("`class`", "`class_name`")) from error
        raise RequestError(f"`keyframes` {said_in}: key {number}: {str(error).replace('`', '')}") from error


def _resolve(
    G: Generator,
    key: Key,
    index: int | None,
    sampling: SamplingRequest,
    directions: Directions | None,
    files: Mapping[Path, WsFile],
) -> Resolved:
    z = None
    if key.ws is None:
        assert key.seed is not None
        psi = sampling.truncation_psi if key.psi is None else key.psi
        classes = None if index is None else [index]
        ws = map_seeds(G, [key.seed], classes, truncation_psi=psi).cpu().numpy()
        z = latents.draw([key.seed], G.config.z_dim)[0]
    else:
        psi, ws = 1.0 if key.psi is None else key.psi, files[key.ws].ws[key.row : key.row + 1]
        if psi != 1:
            average = G.mapping.w_avg.cpu().numpy()
            ws = average + np.float32(psi) * (ws - average)
    edited = ws if directions is None else directions.edit(ws, key.edits)
    return Resolved(ws=edited[0], edit=(edited - ws)[0], psi=psi, z=z, class_index=index)


def _timeline(keys: Sequence[Key], loop: bool) -> Timeline:
    seconds = [SECONDS if key.seconds is None else key.seconds for key in keys]
    if not loop and keys[-1].seconds is None:
        seconds[-1] = Fraction(0)
    return Timeline(seconds=tuple(seconds), loop=loop)


def _driven_by(
    said: Mapping[str, Floats],
    chosen: Mapping[str, Drive],
    times: Times,
    directions: Directions | None,
    G: Generator,
) -> tuple[Times, dict[str, Any]]:
    # Features -> the times along the path, and the strengths and moves of a Journey.
    speeds, strengths, moves = np.ones(len(times)), np.ones(len(times)), []
    for feature, drive in chosen.items():
        amounts = drive.amount * said[feature].astype(np.float64)
        if drive.to == SPEED:
            speeds = speeds + amounts
        elif drive.to == PSI:
            strengths = strengths + amounts
        else:
            assert directions is not None
            nothing = np.zeros([1, G.config.num_ws, G.config.w_dim], np.float32)
            moves.append((amounts, directions.edit(nothing, {drive.to: 1.0})[0]))
    driven = {"strengths": None if (strengths == 1).all() else strengths, "moves": moves}
    return path.warped(times, speeds), driven


def _mapped(G: Generator, z: Floats, c: Floats | None, psi: Times) -> Floats:
    # z [N, z_dim] -> ws [N, num_ws, w_dim], one by one as map_seeds, each with its own truncation.
    device, rows = next(G.parameters()).device, []
    with torch.inference_mode(), deterministic():
        for index in range(len(z)):
            own_c = None if c is None else torch.from_numpy(c[index : index + 1]).to(device)
            own_z = torch.from_numpy(z[index : index + 1]).to(device)
            rows.append(G.mapping(own_z, own_c, truncation_psi=float(psi[index])))
    return torch.cat(rows).cpu().numpy()


def _recipe(
    request: JourneyRequest,
    keys: Sequence[Key],
    chosen: Mapping[str, Drive],
    directions: Path | None,
    times: Times,
    fps: float,
) -> dict[str, Any]:
    about: dict[str, Any] = {"easing": request.easing, "loop": request.loop, "fps": fps}
    if request.seconds is not None:
        about["seconds"] = request.seconds
    if chosen:
        about["drives"] = drives.as_json(chosen)
    hashed = {"keyframes": request.keyframes, "audio": request.audio, "directions": directions}
    return {
        "seeds": [key.seed for key in keys if key.seed is not None],
        "frames": len(times),
        "journey": about,
        **{name: sha256(file) for name, file in hashed.items() if file is not None},
    }
