"""Pictures -> latents, with the generator's images of them beside the pictures, and tuned generators."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from curation.prepare.picture import Picture, read_picture
from eval import suite
from eval.features import weights
from eval.metrics import perceptual
from eval.metrics.perceptual import Perceptual
from gan import snapshot
from gan.data.classes import class_index
from gan.data.images import Pixels, to_float
from gan.data.recipe import Recipe, read
from gan.device.selection import select
from gan.errors import RequestError
from gan.networks import precision
from gan.networks.generator import Generator
from gan.projection import latent_space
from gan.projection.problem import Problem
from gan.projection.request import SearchRequest, TuningRequest
from gan.projection.search import Found, search
from gan.projection.tuning import Tuned, tune, with_noises
from gan.runtime.console import duration, say
from gan.runtime.files import sha256, write_json
from gan.sampling.generate import synthesize
from gan.sampling.marking import Marking
from gan.sampling.request import MarkingRequest
from gan.snapshot import Snapshot
from serving.project import output
from serving.project.request import PREVIEW, RESULTS, ProjectRequest

FORMAT = "salon-projection-1"
NO_LPIPS = (
    "Note: the weights of LPIPS are not here, so pictures are compared by the features of efficientnet-lite0, which "
    "are no LPIPS: distances of the two are not comparable. For LPIPS put {files} into {folder}, or name them with "
    "`weights` lpips-vgg=PATH and `weights` lpips-linear=PATH"
)


@dataclass(frozen=True, kw_only=True)
class _Setting:
    """What all pictures of a request have in common."""

    request: ProjectRequest
    search: SearchRequest
    tuning: TuningRequest
    source: Snapshot
    parent: str  # SHA-256 of the snapshot's file
    G: Generator
    measure: Perceptual
    space: latent_space.LatentSpace
    class_index: int | None
    marks: Marking

    def recipe(self, kind: str, **values: Any) -> Recipe:
        return Recipe(
            kind=kind,
            class_name=self.request.class_name,
            noise_mode="const",
            dataset=self.source.config.dataset,
            kimg=self.source.cur_nimg / 1000,
            **{"snapshot": self.parent, "rows": [0], **values},
        )


def project(
    request: ProjectRequest,
    search: SearchRequest | None = None,
    tuning: TuningRequest | None = None,
    marking: MarkingRequest | None = None,
    *,
    stopped: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Find the latents of each picture, and write them with their images -> figures, those of results.json.

    Once `stopped()`, the best so far of the picture at hand is written, and no other picture is begun. Raises
    RequestError for pictures, a snapshot or weights that cannot be used, before anything is searched.
    """
    setting = _prepare(request, search or SearchRequest(), tuning or TuningRequest(), marking or MarkingRequest())
    shape = setting.G.config.shape
    pictures = [read_picture(path, shape, request.fit, request.background) for path in request.pictures]
    figures: dict[str, Any] = {
        "format": FORMAT,
        "snapshot": str(setting.source.path),
        "snapshot_sha256": setting.parent,
        "distance_used": setting.measure.name,
        "distance_weights": setting.measure.weights,
        "pictures": [],
        "stopped": False,
    }
    for picture in pictures:
        figures["pictures"].append(_project_one(picture, setting, stopped))
        figures["stopped"] = stopped()
        write_json(request.out / RESULTS, figures)
        if figures["stopped"]:
            break
    return figures


def _prepare(
    request: ProjectRequest, search: SearchRequest, tuning: TuningRequest, marking: MarkingRequest
) -> _Setting:
    marks, device = Marking(marking), select(request.device)
    files = suite.parse_weights(request.weights)
    source = snapshot.find(request.snapshot)
    index = class_index(request.class_name, source.config.network.num_classes, source.classes)
    precision.apply(source.G_ema, "fp32")
    measure = perceptual.load(files, device, request.distance)
    if measure.name != perceptual.LPIPS and request.distance is None:
        say(NO_LPIPS.format(files=" and ".join(perceptual.LPIPS_FILES), folder=weights.folder()))
    G = source.G_ema.to(device)
    return _Setting(
        request=request,
        search=search,
        tuning=tuning,
        source=source,
        parent=sha256(source.path),
        G=G,
        measure=measure,
        space=latent_space.measure(G, index),
        class_index=index,
        marks=marks,
    )


@dataclass(frozen=True, kw_only=True)
class _Outcome:
    """What was found for one picture."""

    picture: Picture
    found: Found
    tuned: Tuned | None
    searched: Generator  # what was searched: with the noise maps that were found, where they were searched for
    own: Generator  # what shows the picture: the same, or the tuned one
    pixels: Pixels  # uint8 [H, W, C] that it shows


def _project_one(picture: Picture, setting: _Setting, stopped: Callable[[], bool]) -> dict[str, Any]:
    begun, request, name = time.monotonic(), setting.request, picture.path.stem
    target, every = _img(picture.pixels).to(setting.space.w_avg), request.preview_every
    preview = output.Preview(request.out / f"{name}{PREVIEW}", picture.pixels, setting.G, setting.recipe("projection"))

    def watch(step: int, ws: torch.Tensor) -> None:
        if every and step % every == 0:
            preview(ws)

    problem = Problem(setting.G, target, setting.measure.toward, setting.class_index, setting.space)
    found = search(problem, setting.search, called=f"{name}: search", stopped=stopped, watch=watch)
    searched = setting.G if found.noises is None else with_noises(setting.G, found.noises)
    tuned = None
    if setting.tuning.tune and not stopped():
        problem = Problem(searched, target, setting.measure.toward, setting.class_index, setting.space)
        seed, called = setting.search.seed, f"{name}: tuning"
        tuned = tune(problem, found.ws, setting.tuning, seed=seed, called=called, stopped=stopped)
    own = tuned.G if tuned else searched
    (pixels,) = synthesize(own, found.ws)
    outcome = _Outcome(picture=picture, found=found, tuned=tuned, searched=searched, own=own, pixels=pixels)
    figures = _figures(outcome, problem, setting)
    files = _write(outcome, figures, setting)
    said = f"{'distance' if figures['lpips'] is None else 'LPIPS'} {figures['distance']:.3f}"
    seconds = time.monotonic() - begun
    say(f"{name}: {said}, pixels {figures['pixel_error']:.1f} levels off, in {duration(seconds)}")
    return {**figures, "files": [str(file) for file in files], "seconds": seconds}


def _figures(outcome: _Outcome, problem: Problem, setting: _Setting) -> dict[str, Any]:
    # Of the image as its file has it.
    with torch.no_grad():
        img = _img(outcome.pixels).to(problem.target)
        distance = float(setting.measure.toward(problem.target)(img))
        loss = float(problem.loss(img))
    picture = outcome.picture
    return {
        "picture": str(picture.path),
        "picture_sha256": picture.sha256,
        "lpips": distance if setting.measure.name == perceptual.LPIPS else None,
        "distance": distance,
        "distance_used": setting.measure.name,
        "pixel_error": float(np.abs(outcome.pixels.astype(int) - picture.pixels.astype(int)).mean()),
        "loss": loss,
        "space": setting.search.space,
        "noise": setting.search.noise,
        "steps": outcome.found.steps,
        "start": outcome.found.start,
        "tuned_steps": outcome.tuned.steps if outcome.tuned else 0,
    }


def _write(outcome: _Outcome, figures: dict[str, Any], setting: _Setting) -> list[Path]:
    # The snapshot first, whose hash the latents name; then the latents, whose hash the recipes name.
    picture = outcome.picture
    result = output.Result(setting.request.out, picture.path.stem, setting.marks)
    digest = setting.parent
    if outcome.own is not setting.G:
        told = ("space", "noise", "steps", "tuned_steps", "distance_used")
        lineage = {"made_by": "projection", "parent": setting.parent, "picture": picture.sha256}
        digest = result.save_snapshot(outcome.own, setting.source, {**lineage, **{key: figures[key] for key in told}})
    about = {"images": [picture.path.name], "parent": setting.parent, **figures}
    ws = result.save_latents(outcome.found.ws.cpu().numpy(), digest, about)
    composite = setting.recipe("projection", snapshot=digest, ws=ws)
    recipe = setting.recipe("image", snapshot=digest, ws=ws)
    result.save_images(picture.pixels, outcome.pixels, recipe, composite, _said(picture.path))
    if setting.request.video:
        result.save_video(picture.pixels, _frames(outcome), composite)
    result.finish()
    return result.files


def _said(path: Path) -> Recipe | None:
    # The recipe of a picture that was itself generated: its fitted copy goes on to say so.
    try:
        provenance = read(path)
    except RequestError:  # of another format, which no mark is written to
        return None
    return provenance.recipe or (Recipe(kind="image", model="unknown") if provenance.marked else None)


def _frames(outcome: _Outcome) -> Iterator[Pixels]:
    # Images on the way, uint8 [H, W, C].
    found, tuned = outcome.found, outcome.tuned
    yield from synthesize(outcome.searched, torch.cat([*found.path, found.ws.cpu()]).to(found.ws))
    if tuned is not None:
        yield from tuned.path
        yield outcome.pixels


def _img(pixels: Pixels) -> torch.Tensor:
    # uint8 [H, W, C] -> float32 [1, C, H, W] in [-1, 1]
    return to_float(torch.from_numpy(pixels.copy())).permute(2, 0, 1)[None].contiguous()
