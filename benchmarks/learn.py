"""Planted dirt: what the clicks of a truthful reviewer are worth beside thresholds on the default score.

    python benchmarks/learn.py --data FOLDER
    python benchmarks/learn.py --images 13000 --clicks 200 --kind both --draws 1

FOLDER holds wikiart_styles8 (folders by style), monet and photo. Into paintings of three styles and Monet's are planted
5 % of dirt: paintings in a frame, photographed or plain, of many widths and colours; photographs of all kinds and of
landscapes; or both, half each. The reviewer first sees the default score's ten lowest and ten drawn at random, as on
salon curate review --next, then always the 20 images that were proposed. `--features FOLDER` keeps the datasets for
another run; features lie in Salon's cache.

With `--images` the paintings are so many synthetic ones of all styles and genres, prepared at 64 pixels; in place of
the photographs are planted what `salon synthetic --outliers` makes: text, charts, colour bars, noise, negatives.
"""

import tempfile
from pathlib import Path

import click
import numpy as np
import torch
from check import framed
from outliers import auroc, prepare
from PIL import Image, ImageOps

from curation.decide import quotas, verdict_model
from curation.score import density
from eval.data.feature_cache import features_of
from eval.features.extractor import load_extractor
from eval.metrics.confidence_intervals import normal_interval
from gan.data.collection import Collection
from gan.data.synthetic_scenes import GENRES, write_paintings
from gan.data.synthetic_styles import STYLES
from gan.runtime.console import table

SHARE = 0.05
BATCH = 20  # clicks between two proposals
MADE, PREPARED = 96, 64  # px, of synthetic paintings
PAINTINGS = (
    *("wikiart_styles8/Impressionism", "wikiart_styles8/Naturalism", "wikiart_styles8/Rococo"),
    "monet",
)
PHOTOGRAPHS = ("wikiart_styles8/photo", "photo")
FRAMES = 120  # paintings that are also made with a frame
KINDS = {"frames": ("frames",), "photographs": ("photographs",), "both": ("frames", "photographs")}
CPU = torch.device("cpu")
Rng = np.random.Generator


def bordered(image: Image.Image, rng: Rng) -> Image.Image:
    """The picture in a carved frame, or in a plain border of uneven widths and any colour."""
    if rng.random() < 0.5:
        return framed(image, rng)
    widths = (min(image.size) * rng.uniform(0.04, 0.16) * rng.uniform(0.8, 1.2, 4)).round().astype(int)
    return ImageOps.expand(image, tuple(widths.tolist()), tuple(rng.integers(0, 256, 3).tolist()))


def pool(name: str, files: list[Path], work: Path, rng: Rng | None, resolution: int) -> tuple[np.ndarray, np.ndarray]:
    """Features of these files, with a border where there is an `rng`, and the numbers of the files."""
    archive = work / f"{name}.zip"
    if not archive.exists():
        folder = work / name
        for number, file in enumerate(files):
            with Image.open(file) as image:
                picture = image.convert("RGB")
            picture.thumbnail((512, 512))
            target = folder / file.parent.name / f"{number:05d}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            (bordered(picture, rng) if rng else picture).save(target)
        prepare(folder, archive, resolution)
    collection = Collection.open(archive)
    numbers = np.array([int(source.split("/")[-1].split(".")[0]) for source in collection.column("source")])
    order = np.argsort(numbers)
    extractor = load_extractor("efficientnet-lite0", device=CPU)
    return features_of(collection.dataset, collection.indices[order], extractor), numbers[order]


def real(data: Path) -> dict[str, list[Path]]:
    """Files of paintings and of photographs."""
    return {
        name: [file for folder in folders for file in sorted((data / folder).iterdir())]
        for name, folders in (("paintings", PAINTINGS), ("photographs", PHOTOGRAPHS))
    }


def synthetic(images: int, folder: Path) -> dict[str, list[Path]]:
    """Files of so many paintings, and, as photographs, of SHARE as many images that are none."""
    made = {"paintings": (images, 0), "photographs": (dirt_of(images),) * 2}
    for seed, (name, (count, outliers)) in enumerate(made.items()):
        write_paintings(folder / name, count, MADE, seed, [*GENRES], [*STYLES], outliers)
    return {name: sorted((folder / name).rglob("*.jpg")) for name in made}


def dirt_of(paintings: int) -> int:
    """How much is SHARE of it and so many paintings together."""
    return round(paintings * SHARE / (1 - SHARE))


def pools(files: dict[str, list[Path]], work: Path, frames: int, resolution: int) -> dict[str, np.ndarray]:
    """Features of paintings and of photographs, and of some of the paintings in frames; `framed` has their places."""
    work.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    chosen = np.sort(rng.choice(len(files["paintings"]), frames, replace=False))
    framed_files = [files["paintings"][i] for i in chosen]
    folders = [file.parent.name for file in files["paintings"]]
    return {
        "frames": pool("frames", framed_files, work, rng, resolution)[0],
        "framed": chosen,
        "photographs": pool("photographs", files["photographs"], work, None, resolution)[0],
        "paintings": pool("paintings", files["paintings"], work, None, resolution)[0],
        "strata": np.unique(folders, return_inverse=True)[1],
    }


def plant(pool: dict[str, np.ndarray], kinds: tuple[str, ...], rng: Rng) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features of paintings and dirt [N, D], which of them are dirt, and their strata, which photographs are dealt."""
    features, strata = pool["paintings"].copy(), pool["strata"]
    each = round(dirt_of(len(features)) / len(kinds))
    dirt = np.zeros(len(features), bool)
    if "frames" in kinds:
        some = rng.choice(len(pool["framed"]), each, replace=False)
        features[pool["framed"][some]] = pool["frames"][some]
        dirt[pool["framed"][some]] = True
    if "photographs" in kinds:
        some = rng.choice(len(pool["photographs"]), each, replace=False)
        features = np.concatenate([features, pool["photographs"][some]])
        dirt = np.r_[dirt, np.ones(each, bool)]
        strata = np.r_[strata, rng.choice(strata, each)]
    return features, dirt, strata


def default_score(features: np.ndarray, strata: np.ndarray, seed: int) -> np.ndarray:
    """Ranks [N] by density and knn, as salon curate prune fuses them."""
    state = density.fit(features, strata, seed=seed, extractor="efficientnet-lite0")
    found = density.score(state, features, density.pool_small(strata), fitted=True)
    return quotas.fuse([values for values, _ in found.values()])


def look(x: np.ndarray, dirt: np.ndarray, default: np.ndarray, clicks: int, rng: Rng, seed: int) -> np.ndarray:
    """Places [clicks] of what the reviewer looked at, in their order."""
    free = np.ones(len(dirt), bool)
    lowest = np.argsort(default, kind="stable")[: BATCH // 2]
    judged = np.r_[lowest, rng.choice(np.setdiff1d(np.arange(len(dirt)), lowest), BATCH - len(lowest), replace=False)]
    while len(judged) < clicks:
        free[judged] = False
        if dirt[judged].sum() < verdict_model.MIN_OF_A_KIND:  # nothing can be learned yet: the page goes on as it began
            order = np.argsort(default, kind="stable")
            lowest = order[free[order]][: BATCH // 2]
            others = rng.choice(np.setdiff1d(np.flatnonzero(free), lowest), BATCH - len(lowest), replace=False)
            judged = np.r_[judged, lowest, others]
            continue
        keep = verdict_model.learned(x[judged], ~dirt[judged], x, seed)[0]
        judged = np.r_[judged, verdict_model.propose(x, keep, free, BATCH)]
    return judged


def with_verdicts(score: np.ndarray, judged: np.ndarray, dirt: np.ndarray) -> np.ndarray:
    """The score with what the reviewer dropped at its low end, and what they kept at its high end."""
    score = score.copy()
    score[judged] = np.where(dirt[judged], -np.inf, np.inf)
    return score


def at_its_number(score: np.ndarray, dirt: np.ndarray) -> float:
    """Precision, and so recall, when as many are dropped as there is dirt."""
    return float(dirt[np.argsort(score, kind="stable")[: dirt.sum()]].mean())


def recall_at(score: np.ndarray, dirt: np.ndarray, precision: float) -> float:
    """The largest share of the dirt that a threshold with this precision drops, or a higher one."""
    found = np.cumsum(dirt[np.argsort(score, kind="stable")])
    right = found / np.arange(1, len(dirt) + 1) >= precision
    return float(found[right].max(initial=0) / dirt.sum())


def measured(pool: dict[str, np.ndarray], kinds: tuple[str, ...], clicks: int, seed: int) -> dict[str, float]:
    """Figures of one draw."""
    rng = np.random.default_rng(seed)
    features, dirt, strata = plant(pool, kinds, rng)
    default = default_score(features, strata, seed)
    x = verdict_model.inputs(features, default)
    judged = look(x, dirt, default, clicks, rng, seed)
    model = verdict_model.fit(x, judged, ~dirt[judged], seed=seed)
    looked = np.argsort(default, kind="stable")[:clicks]
    unseen = np.setdiff1d(np.arange(len(dirt)), judged)
    precision = at_its_number(default, dirt)
    learned = with_verdicts(model.keep, judged, dirt)
    figures = verdict_model.held_out_figures(model.held_out, ~dirt[judged])
    return {
        "no click: precision and recall, as many dropped as dirt": precision,
        "lowest looked at, as many as clicks: the same": at_its_number(with_verdicts(default, looked, dirt), dirt),
        "learned: the same": at_its_number(learned, dirt),
        "lowest looked at: recall at the precision of no click": recall_at(
            with_verdicts(default, looked, dirt), dirt, precision
        ),
        "learned: recall at the precision of no click": recall_at(learned, dirt, precision),
        "learned: times the recall of no click": recall_at(learned, dirt, precision) / precision,
        "AUROC, unseen, no click": auroc(default[unseen], dirt[unseen]),
        "AUROC, unseen, learned": auroc(model.keep[unseen], dirt[unseen]),
        "recall, unseen, no click": recall_at(default[unseen], dirt[unseen], precision),
        "recall, unseen, learned": recall_at(model.keep[unseen], dirt[unseen], precision),
        "dirt among clicks": float(dirt[judged].mean()),
        "Brier score, unseen": float(np.square(model.keep[unseen] - ~dirt[unseen]).mean()),
        "Brier score, unseen, base rate": float(dirt[unseen].mean() * (1 - dirt[unseen].mean())),
        "held-out error": figures["error"],
        "held-out error, base rate": figures["error_base"],
    }


@click.command(help=__doc__)
@click.option("--data", type=click.Path(path_type=Path))
@click.option("--images", type=click.IntRange(100), help="Synthetic paintings, in place of --data.")
@click.option("--clicks", type=click.IntRange(BATCH), default=100, show_default=True)
@click.option("--kind", "names", type=click.Choice([*KINDS]), multiple=True, default=[*KINDS], help="Dirt; repeatable.")
@click.option("--draws", default=4, show_default=True, help="Draws of dirt for each kind.")
@click.option("--features", type=click.Path(path_type=Path), help="Folder that keeps the datasets.")
@click.option("--threads", default=2, show_default=True)
def main(
    data: Path | None,
    images: int | None,
    clicks: int,
    names: tuple[str, ...],
    draws: int,
    features: Path | None,
    threads: int,
) -> None:
    if (data is None) == (images is None):
        raise click.UsageError("give --data or --images")
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as temporary:
        work = features or Path(temporary)
        if images is not None:
            pool = pools(synthetic(images, work / "made"), work, dirt_of(images), PREPARED)
        else:
            assert data is not None
            pool = pools(real(data), work, FRAMES, 256)
    columns: dict[str, list[str]] = {}
    for name in names:
        found = [measured(pool, KINDS[name], clicks, seed) for seed in range(draws)]
        for figure in found[0]:
            values = np.array([each[figure] for each in found])
            if draws == 1:
                columns.setdefault(figure, []).append(f"{values[0]:.3f}")
                continue
            error = float(values.std(ddof=1) / draws**0.5)
            mean = normal_interval(float(values.mean()), error, draws, "draws", draws - 1)
            mean = mean if "times" in figure else mean.clipped(0, 1)
            columns.setdefault(figure, []).append(f"{mean.value:.3f} [{mean.low:.3f}, {mean.high:.3f}]")
        print(f"{name}: done", flush=True)
    print(table([(figure, *cells) for figure, cells in columns.items()], [f"{draws} draws", *names]))


if __name__ == "__main__":
    main()
