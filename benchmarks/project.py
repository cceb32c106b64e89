"""How near `salon project` comes, and what it takes: python benchmarks/project.py --snapshot SNAPSHOT [PICTURE...].

Projected are images of the generator's own, one a seed, and the pictures: by LPIPS, where its weights are, in w and in
w+, then with the generator tuned around w+, each with the core seconds of one thread (CPU time, not the clock's).
`elsewhere` is how far tuning moved images of other seeds, by LPIPS.
"""

import resource
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
import torch

from curation.prepare.picture import read_picture
from eval import suite
from eval.metrics import perceptual
from gan import snapshot
from gan.data.images import Pixels, to_float
from gan.networks.generator import Generator
from gan.projection import latent_space
from gan.projection.problem import Problem
from gan.projection.request import SearchRequest, TuningRequest
from gan.projection.search import search
from gan.projection.tuning import tune
from gan.runtime.console import say, table
from gan.sampling.generate import generate, synthesize
from gan.sampling.latents import parse_numbers

OTHERS = range(1000, 1004)  # seeds of images that tuning is to leave as they are


@click.command()
@click.argument("pictures", nargs=-1, type=click.Path(path_type=Path))
@click.option("--snapshot", "path", required=True, type=click.Path(path_type=Path))
@click.option("--seeds", default="0-3", show_default=True)
@click.option("--steps", default=200, show_default=True)
@click.option("--tune", "tune_steps", default=100, show_default=True)
@click.option("--tune-learning-rate", default=TuningRequest.tune_learning_rate, show_default=True)
@click.option("--distance", type=click.Choice(perceptual.DISTANCES), help="What is searched by; default: LPIPS.")
@click.option("--weights", multiple=True, help="NAME=PATH, as salon project takes them.")
def main(
    pictures: Sequence[Path],
    path: Path,
    seeds: str,
    steps: int,
    tune_steps: int,
    tune_learning_rate: float,
    distance: str | None,
    weights: Sequence[str],
) -> None:
    """Project images of a generator's own and pictures."""
    torch.set_num_threads(1)
    files, device = suite.parse_weights(weights), torch.device("cpu")
    judge = perceptual.load(files, device)
    searched = judge if distance in (None, judge.name) else perceptual.load({}, device, distance)
    G = snapshot.find(path).G_ema
    space = latent_space.measure(G)
    numbers = parse_numbers(seeds)
    targets = dict(zip((f"seed {n}" for n in numbers), generate(G, numbers), strict=True))
    targets |= {one.name: read_picture(one, G.config.shape).pixels for one in pictures}
    header = ["picture", "way", judge.name, "levels off", "core seconds", "elsewhere"]
    rows: list[tuple[str, str, float, float, float, float]] = []

    def add(name: str, way: str, made_by: Generator, ws: torch.Tensor, seconds: float) -> None:
        distance, levels = measured(judge, made_by, ws, targets[name])
        moved = 0.0 if made_by is G else elsewhere(judge, G, made_by)
        rows.append((name, way, distance, levels, seconds, moved))
        say(f"{name}, {way}: {judge.name} {distance:.4f}, {levels:.2f} levels off, {seconds:.1f} core seconds")

    for name, target in targets.items():
        problem = Problem(G, img(target), searched.toward, space=space)
        for latents in ("w", "w+"):
            before = core_seconds()
            found = search(problem, SearchRequest(space=latents, steps=steps), called=f"{name} {latents}")
            add(name, latents, G, found.ws, core_seconds() - before)
        before = core_seconds()
        request = TuningRequest(tune=tune_steps, tune_learning_rate=tune_learning_rate)
        tuned = tune(problem, found.ws, request, called=f"{name} tuned").G
        add(name, "tuned", tuned, found.ws, core_seconds() - before)
    shown = [(*row[:2], *(f"{value:.4f}" for value in row[2:])) for row in rows]
    print(table(shown, header))
    for way in ("w", "w+", "tuned"):
        own = [row for row in rows if row[1] == way and row[0].startswith("seed ")]
        mean = np.mean([row[4] for row in own])
        print(
            f"{way}: {judge.name} of its own images at most {max(row[2] for row in own):.4f}; {mean:.1f} core seconds"
        )


def measured(judge: perceptual.Perceptual, G: Generator, ws: torch.Tensor, target: Pixels) -> tuple[float, float]:
    """Distance of the image as its file has it, and its mean difference in levels of 255."""
    (pixels,) = synthesize(G, ws)
    with torch.no_grad():
        distance = float(judge.toward(img(target))(img(pixels)))
    return distance, float(np.abs(pixels.astype(int) - target).mean())


def elsewhere(judge: perceptual.Perceptual, G: Generator, tuned: Generator) -> float:
    """Mean distance of the two generators' images of other seeds."""
    pairs = zip(generate(G, OTHERS), generate(tuned, OTHERS), strict=True)
    with torch.no_grad():
        return float(np.mean([float(judge.toward(img(a))(img(b))) for a, b in pairs]))


def img(pixels: Pixels) -> torch.Tensor:
    """uint8 [H, W, C] -> float32 [1, C, H, W] in [-1, 1]."""
    return to_float(torch.from_numpy(pixels.copy())).permute(2, 0, 1)[None]


def core_seconds() -> float:
    """CPU time of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
