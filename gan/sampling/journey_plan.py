"""What a journey needs, read and checked before its first frame: keys, files of ws, directions, sound."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from gan.data.classes import class_index
from gan.errors import RequestError
from gan.networks.generator import Generator
from gan.runtime.console import say
from gan.runtime.files import sha256
from gan.sampling import audio, drives, keyframes, latents, path
from gan.sampling.directions import Directions
from gan.sampling.drives import PSI, SPEED, Drive
from gan.sampling.generate import map_seeds
from gan.sampling.journey import Journey, Resolved
from gan.sampling.journey_request import JourneyRequest
from gan.sampling.keyframes import SECONDS, Key
from gan.sampling.latents import Floats
from gan.sampling.origin import refuse_for_ws
from gan.sampling.path import Timeline, Times
from gan.sampling.request import SamplingRequest
from gan.sampling.ws_file import WsFile
from gan.snapshot import Snapshot

MOST = 1_000_000  # frames


def plan(
    source: Snapshot,
    G: Generator,
    sampling: SamplingRequest,
    request: JourneyRequest,
    *,
    seeds: Sequence[int] | None = None,
    ws: Path | None = None,
    frames: int | None = None,
    fps: float = 30,
) -> Journey:
    """Read and check all that a journey needs, before its first frame.

    Its keys are those of the request's file, or `seeds`, or all rows of a file of `ws`, with `frames` from one to the
    next. Raises RequestError, which names the parameter, and in a file the key and the field.
    """
    if sum(given is not None for given in (seeds, ws, request.keyframes)) != 1:
        raise RequestError("one of `seeds`, `ws` and `keyframes` must be given, and no other")
    if request.keyframes is not None and frames is not None:
        raise RequestError("`frames` must be left out with `keyframes`, which say how many seconds each key takes")
    rate = Fraction(str(fps)).limit_denominator(1000)  # as the file of an animation has it
    if request.keyframes is None:
        of_file, seconds = None, (frames or 60) / rate
        if ws is None:
            assert seeds is not None
            keys = [Key(seed=seed, seconds=seconds) for seed in seeds]
        else:
            refuse_for_ws(sampling)
            rows = len(WsFile.open(ws, G.config.num_ws, G.config.w_dim).ws)
            keys = [Key(ws=ws, row=row, seconds=seconds) for row in range(rows)]
        if not request.loop:
            keys[-1] = replace(keys[-1], seconds=None)
    else:
        of_file = keyframes.read(request.keyframes)
        keys = list(of_file.keys)
    timeline = _timeline(keys, request.loop)
    count = round(timeline.total * rate)
    if request.audio is None and count > MOST:
        raise RequestError(f"`fps` times all seconds must be at most {MOST:,} frames; got {count:,} instead")
    chosen = _drives(request, of_file.drives if of_file else None)
    directions_file = request.directions or (of_file.directions if of_file else None)
    directions = _directions(G, directions_file, keys, chosen, request.keyframes)
    resolved = _resolved(source, G, sampling, keys, directions, request.keyframes)
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
        recipe=_recipe(request, keys, chosen if sound else {}, directions_file if directions else None, times, fps, ws),
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


def _recipe(
    request: JourneyRequest,
    keys: Sequence[Key],
    chosen: Mapping[str, Drive],
    directions: Path | None,
    times: Times,
    fps: float,
    ws: Path | None,
) -> dict[str, Any]:
    about: dict[str, Any] = {"easing": request.easing, "loop": request.loop, "fps": fps}
    if request.seconds is not None:
        about["seconds"] = request.seconds
    if chosen:
        about["drives"] = drives.as_json(chosen)
    hashed = {"keyframes": request.keyframes, "audio": request.audio, "directions": directions, "ws": ws}
    return {
        "seeds": [key.seed for key in keys if key.seed is not None],
        "rows": [] if ws is None else list(range(len(keys))),
        "frames": len(times),
        "journey": about,
        **{name: sha256(file) for name, file in hashed.items() if file is not None},
    }
