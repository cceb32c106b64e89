"""The style check: which share of images is of the target style, by a classifier whose own errors are counted in."""

import statistics
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from eval.data.thumbnails import QUALITY, THUMBNAIL
from eval.metrics.confidence_intervals import wilson
from gan.data.images import Pixels, encode, for_display
from gan.errors import RequestError
from gan.sampling.latents import Floats
from serving.contract import ModelMetadata
from serving.style.prevalence import Errors, corrected

SHOWN = 24  # images at each end
SIDE_SHARE = 0.75  # of the side that the classifier learned from; smaller images look blurred to it


@dataclass(kw_only=True)
class ClassifiedImages:
    """N images that were classified: probabilities [N, K], a JPEG thumbnail of each, names such as "seed 7", sides."""

    probabilities: Floats
    names: list[str]
    thumbnails: list[bytes] = field(repr=False)
    sides: list[int]  # the shorter one, in pixels


def collect(pairs: Iterable[tuple[Pixels, Floats]], names: Iterable[str]) -> ClassifiedImages:
    """Classified images of pairs: pixels [H, W, C] and probabilities [K]. Only thumbnails stay in memory."""
    rows, thumbnails, sides = [], [], []
    for pixels, probabilities in pairs:
        image = Image.fromarray(for_display(pixels))
        sides.append(min(image.size))
        image.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
        thumbnails.append(encode(image, "jpeg", QUALITY))
        rows.append(probabilities)
    return ClassifiedImages(probabilities=np.stack(rows), names=list(names), thumbnails=thumbnails, sides=sides)


def card_errors(about: ModelMetadata, target: str | None) -> tuple[str, Errors]:
    """The style to check for, by default the one that the classifier was trained for, and how it errs about it.

    Raises RequestError for a style that it does not know, and for a classifier without a card.
    """
    target = target or str(about.card.get("target"))
    if about.card and target not in about.styles:
        raise RequestError(f"`target` must be one of {', '.join(about.styles)}; got {target} instead")
    try:
        return target, Errors.from_dict(about.card["errors"][target])
    except (KeyError, TypeError, ValueError) as error:
        raise RequestError(
            f"the classifier must say how often it errs, as salon style train writes it; {error} is missing"
        ) from error


def check(
    classified: ClassifiedImages,
    about: ModelMetadata,
    target: str | None = None,
    *,
    require: float | None = None,
    confidence: float = 0.95,
) -> dict[str, Any]:
    """Figures of a check, as in results.json. An image counts as of its most probable style.

    `require` is met when the lower end of the corrected rate's interval reaches it; `confidence` is that of intervals.
    """
    target, errors = card_errors(about, target)
    column = about.styles.index(target)
    n = len(classified.names)
    hits = int((classified.probabilities.argmax(1) == column).sum())
    rate = corrected(hits, n, errors, confidence)
    order = np.argsort(-classified.probabilities[:, column], kind="stable")
    own = errors.sensitivity
    return {
        "target": target,
        "images": n,
        "confidence": confidence,
        "raw": asdict(wilson(hits, n, level=confidence)),
        "corrected": None if rate is None else asdict(rate),
        "yardstick": asdict(wilson(own.hits, own.n, own.spread, confidence)),
        "specificity": errors.specificity.value,
        "youden": errors.youden,
        "kept_apart": _kept_apart(about),
        "styles": _styles(classified, about, column, confidence),
        "most": _listed(classified, order[:SHOWN], column),
        "least": _listed(classified, order[::-1][: min(SHOWN, n - min(SHOWN, n))], column),
        "requirement": None if require is None else _requirement(require, None if rate is None else rate.low),
        "warnings": list(_warnings(classified, about, target, errors, rate is None)),
        "side": int(statistics.median(classified.sides)),
    }


def _kept_apart(about: ModelMetadata) -> str:
    # What was held out together when errors were measured. Cards of earlier releases have one word for it, and count
    # the artists, but not the images of unknown ones.
    by_word = {
        "artist": "all works of an artist, as far as it was known, held out together",
        "image": "each image held out by itself, while other works of its artist may have been seen",
    }
    unknown = "of which it is not known what was held out together"
    return str(about.card.get("kept_apart") or by_word.get(str(about.card.get("group_by")), unknown))


def _styles(classified: ClassifiedImages, about: ModelMetadata, column: int, confidence: float) -> list[dict[str, Any]]:
    # The commonest first; "taken" is the share of real images of a style that are taken for the target.
    confusion = about.card.get("held_out", {}).get("confusion")  # [true, found]
    counts = np.bincount(classified.probabilities.argmax(1), minlength=len(about.styles))
    means = classified.probabilities.mean(0, dtype=np.float64)
    rows = [
        {
            "style": style,
            "images": int(count),
            "share": asdict(wilson(int(count), len(classified.names), level=confidence)),
            "mean_probability": float(mean),
            "taken": confusion[k][column] / sum(confusion[k]) if confusion else None,
        }
        for k, (style, count, mean) in enumerate(zip(about.styles, counts, means, strict=True))
    ]
    return sorted(rows, key=lambda row: (-row["images"], row["style"]))


def _listed(classified: ClassifiedImages, order: Iterable[int], column: int) -> list[dict[str, Any]]:
    return [
        {"index": int(i), "name": classified.names[i], "probability": float(classified.probabilities[i, column])}
        for i in order
    ]


def _requirement(require: float, low: float | None) -> dict[str, Any]:
    return {"minimum": require, "rate": "corrected", "bound": low, "met": low is not None and low >= require}


def _warnings(
    classified: ClassifiedImages, about: ModelMetadata, target: str, errors: Errors, untold: bool
) -> Iterator[str]:
    if untold:
        yield (
            f"The check cannot tell: the classifier finds {errors.sensitivity.value:.0%} of real {target} and takes "
            f"{1 - errors.specificity.value:.0%} of other images for it, which is too near to guessing to correct for."
        )
    n, hits = len(classified.names), int((classified.probabilities.argmax(1) == about.styles.index(target)).sum())
    real = errors.sensitivity
    if hits / n > wilson(real.hits, real.n, real.spread).high:
        yield (
            f"More of these images are called {target} than of real {target}: they look more like it than that does, "
            "and the corrected rate says no more than that nearly all of them are."
        )
    if wilson(hits, n).high < 1 - errors.specificity.value:
        yield (
            f"Fewer of these images are called {target} than real ones of other styles are, so the corrected rate may "
            "be wrong. Look at them, and train the classifier with images of whatever else they show."
        )
    learned, here = int(about.card.get("data", {}).get("side", 0)), int(statistics.median(classified.sides))
    if here < SIDE_SHARE * learned:
        yield (
            f"The classifier learned from images of {learned} pixels; these have {here} and look blurred to it, so "
            f"that its errors may be others here. Train it on images prepared at {here} pixels."
        )
