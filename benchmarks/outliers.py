"""Planted outliers: how well each way of scoring finds photographs, cartoons and noise among paintings.

    python benchmarks/outliers.py --data FOLDER
    python benchmarks/outliers.py --data FOLDER --kimg 0 --seeds 5

FOLDER holds wikiart_styles8/{Impressionism,photo,cartoon}, monet and photo. 5 % of outliers, a third of each kind, are
dealt at random into the folders Impressionism and monet, which are the strata. d-low takes a discriminator of the
preset `tiny` that learns from everything at 32 pixels for --kimg: a short run.
With --label so many outliers and five times as many paintings are labelled, which choose the weights of content and
style; the row of these weights, and of equal ones beside it, is of the images that are not labelled.
"""

import shutil
import tempfile
from pathlib import Path

import click
import numpy as np
import torch
from PIL import Image

from curation.child_manifest import stratum_numbers
from curation.decide import fusion_weights, quotas
from curation.prepare.pipeline import collect
from curation.prepare.request import PrepareRequest
from curation.score import density, discriminator_scores
from curation.score.methods import BY_FEATURES, FEATURES, of_features
from curation.score.request import STYLE
from eval.data.feature_cache import features_of
from eval.features.extractor import load_extractor
from gan.config import make_config
from gan.data.collection import Collection
from gan.image_shape import ImageShape
from gan.runtime.console import table
from gan.snapshot import Snapshot, load
from gan.training.run_dir import Run
from gan.training.training_loop import TrainingOptions, train

SHARE = 0.05
PHOTOGRAPHS = {"photographs": "wikiart_styles8/photo", "landscapes": "photo"}  # the latter show what Monet painted
CPU = torch.device("cpu")


def plant(data: Path, folder: Path, photographs: list[str], seed: int) -> None:
    """Copy paintings and outliers to `folder`; the names of outliers begin with their kind."""
    rng = np.random.default_rng(seed)
    strata = [folder / "Impressionism", folder / "monet"]
    count = 0
    for stratum, source in zip(strata, ("wikiart_styles8/Impressionism", "monet"), strict=True):
        stratum.mkdir(parents=True)
        for number, file in enumerate(sorted((data / source).iterdir())):
            shutil.copy(file, stratum / f"painting-{number:04d}{file.suffix}")
            count += 1
    third = round(count * SHARE / (1 - SHARE) / 3)
    pools = {"photo": [file for name in photographs for file in sorted((data / name).iterdir())]}
    pools["cartoon"] = sorted((data / "wikiart_styles8/cartoon").iterdir())
    for kind, pool in pools.items():
        for number in rng.choice(len(pool), third, replace=False):
            target = strata[rng.integers(2)] / f"{kind}-{number:04d}{pool[number].suffix}"
            shutil.copy(pool[number], target)
    for number in range(third):
        side = int(rng.choice([256, 400, 500]))
        noise = rng.normal(128, rng.uniform(20, 70), [side, side, 3]).clip(0, 255).astype(np.uint8)
        Image.fromarray(noise).save(strata[rng.integers(2)] / f"noise-{number:04d}.png")


def prepare(source: Path, out: Path, resolution: int) -> Collection:
    """The dataset at a resolution, with its manifest."""
    collect(
        PrepareRequest(
            sources=(source,),
            out=out,
            resolution=resolution,
            format="png",
            labels="folders",
            workers=1,
            keep_duplicates=True,
        )
    )
    return Collection.open(out)


def auroc(scores: np.ndarray, outlier: np.ndarray) -> float:
    """Probability that an outlier scores below a painting."""
    from scipy.stats import rankdata

    ranks = rankdata(-scores)[outlier]
    return float((ranks.sum() - len(ranks) * (len(ranks) + 1) / 2) / (len(ranks) * (~outlier).sum()))


def fused(scores: list[np.ndarray], strata: np.ndarray) -> np.ndarray:
    """The mean over methods of each image's rank in its stratum."""
    ranks = np.empty(len(strata))
    for number in np.unique(strata):
        members = strata == number
        ranks[members] = quotas.fuse([values[members] for values in scores])
    return ranks


def weighed(
    content: np.ndarray, style: np.ndarray, outlier: np.ndarray, label: int, seed: int
) -> tuple[fusion_weights.Choice, np.ndarray, np.ndarray]:
    """The weights that `label` outliers and five times as many paintings choose, the ranks by them, who is labelled."""
    rng = np.random.default_rng(seed)
    some = [rng.choice(np.flatnonzero(of), n, replace=False) for of, n in ((outlier, label), (~outlier, 5 * label))]
    places = np.concatenate(some)
    choice = fusion_weights.choose(content[places], style[places], outlier[places])
    labelled = np.isin(np.arange(len(outlier)), places)
    return choice, (1 - choice.style) * content + choice.style * style, labelled


def trained(folder: Path, kimg: float, collection: Collection) -> Snapshot:
    """The snapshot of a short run on all images."""
    dataset = collection.dataset
    config = make_config(
        preset="tiny",
        shape=ImageShape(32, 32),
        num_classes=0,
        dataset=collection.fingerprint,
        overrides={"mirror": True},
    )
    options = TrainingOptions(total_kimg=kimg, kimg_per_tick=max(kimg / 4, 0.001), image_snapshot_minutes=0, workers=0)
    return load(Path(train(Run(folder), config, options, dataset, collection.indices, CPU)["snapshot"]))


def score(collection: Collection, small: Collection, folder: Path, kimg: float, seed: int) -> dict[str, np.ndarray]:
    """Scores of every image by each method."""
    strata = stratum_numbers(collection, "label")
    by_method = {}
    for kind, name in (("content", "efficientnet-lite0"), ("style", STYLE)):
        extractor = load_extractor(name, device=CPU)
        features = features_of(collection.dataset, collection.indices, extractor)
        state = density.fit(features, strata, seed=seed, extractor=extractor.key, standardized=kind == "style")
        for method, (values, _) in density.score(state, features, strata, fitted=True).items():
            by_method[of_features(method, kind)] = values
    content, style = ([by_method[of_features(m, kind)] for m in BY_FEATURES] for kind in FEATURES["both"])
    scores = {"content: density + knn (default)": fused(content, strata), "style: density + knn": fused(style, strata)}
    scores |= {"both": fused(content + style, strata), **by_method}
    if kimg:
        snapshot = trained(folder / "run", kimg, small)
        scores["d-low"] = discriminator_scores.d_low([snapshot], small.dataset, small.indices, CPU, seed=seed)[0]
    return scores


def figures(scores: np.ndarray, kinds: np.ndarray, among: np.ndarray) -> list[float]:
    """AUROC, precision where as many are dropped as there are outliers, and AUROC of each kind; of a mask's images."""
    scores, kinds = scores[among], kinds[among]
    outlier = kinds != "painting"
    lowest = np.argsort(scores, kind="stable")[: outlier.sum()]
    of_kinds = [~outlier | (kinds == kind) for kind in ("photo", "cartoon", "noise")]
    return [
        auroc(scores, outlier),
        float(outlier[lowest].mean()),
        *(auroc(scores[mask], outlier[mask]) for mask in of_kinds),
    ]


def _mean(values: tuple[float, ...]) -> str:
    # With the half of its 95 % interval over the draws.
    from scipy.stats import t

    if len(values) < 2:
        return f"{values[0]:.3f}"
    half = t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return f"{np.mean(values):.3f} ± {half:.3f}"


@click.command(help=__doc__)
@click.option("--data", required=True, type=click.Path(path_type=Path))
@click.option("--seeds", default=3, show_default=True, help="Draws of outliers to average over.")
@click.option("--kimg", default=10.0, show_default=True, help="Training for d-low; first draw only. 0: none.")
@click.option("--label", default=0, show_default=True, help="Outliers that are labelled to choose weights. 0: none.")
@click.option("--threads", default=2, show_default=True)
def main(data: Path, seeds: int, kimg: float, label: int, threads: int) -> None:
    torch.set_num_threads(threads)
    for name, photographs in {**{n: [p] for n, p in PHOTOGRAPHS.items()}, "both": [*PHOTOGRAPHS.values()]}.items():
        rows: dict[str, list[list[float]]] = {}
        for seed in range(seeds):
            with tempfile.TemporaryDirectory() as temporary:
                folder = Path(temporary)
                plant(data, folder / "pictures", photographs, seed)
                collection = prepare(folder / "pictures", folder / "large.zip", 256)
                small = prepare(folder / "pictures", folder / "small.zip", 32)
                kinds = np.array([source.split("/")[-1].split("-")[0] for source in collection.column("source")])
                outlier = kinds != "painting"
                train = kimg if seed == 0 and name == "both" else 0
                found = score(collection, small, folder, train, seed)
                told = {method: figures(scores, kinds, np.ones(len(kinds), bool)) for method, scores in found.items()}
                if label:
                    sides = found["content: density + knn (default)"], found["style: density + knn"]
                    choice, ranks, labelled = weighed(*sides, outlier, label, seed)
                    told[f"{6 * label} labelled: weights by them"] = figures(ranks, kinds, ~labelled)
                    told[f"{6 * label} labelled: equal weights"] = figures(found["both"], kinds, ~labelled)
                    held_out, equal = choice.held_out, choice.equal
                    print(
                        f"{name}, draw {seed}: content {1 - choice.style:g}, style {choice.style:g}; average precision "
                        f"{held_out.value:.3f} ({held_out.low:.3f} to {held_out.high:.3f}), equal {equal.value:.3f}"
                    )
                for method, numbers in told.items():
                    rows.setdefault(method, []).append(numbers)
        header = [f"photographs: {name}", "AUROC", "precision", "photo", "cartoon", "noise", "draws"]
        lines = [[m, *map(_mean, zip(*drawn, strict=True)), str(len(drawn))] for m, drawn in rows.items()]
        print(table(lines, header) + "\n", flush=True)


if __name__ == "__main__":
    main()
