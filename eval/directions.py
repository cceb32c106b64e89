"""Directions in w that labels decide on: the normals of separability's hyperplanes (Karras et al. 2019, section 4.2;
Shen et al. 2020).
"""

import re
import unicodedata
from collections.abc import Callable, Sequence
from itertools import islice

import numpy as np

from eval.data.feature_cache import features_of
from eval.features.extractor import load_extractor
from eval.metrics import attributes
from eval.metrics.feature_stats import Array
from eval.metrics.separability import hyperplane
from gan.data.collection import Collection
from gan.data.images import Pixels
from gan.directions.samples import Spread, classes_of
from gan.errors import RequestError
from gan.networks.generator import Generator
from gan.runtime.console import progress, say
from gan.sampling.directions import Direction
from gan.sampling.generate import generate
from gan.sampling.latents import Floats

BATCH = 16  # images at a time
FAIR = 0.6  # accuracy, of 0.5 to 1, below which a direction hardly tells its attribute

Classify = Callable[[list[Pixels]], Array]  # images [H, W, C] -> probabilities [n, names]


def learned_from(
    collection: Collection, strata: str, extractor: str, device: str = "auto"
) -> tuple[list[str], Classify]:
    """Names of a dataset's strata, and what tells their probabilities, by the features of an extractor.

    Of two strata the first alone is named, since the other is its opposite. Raises RequestError for fewer than two.
    """
    names = collection.stratum_names(strata)
    known = np.array([index for index in collection.kept if names[index] is not None], np.int64)
    if (count := len({names[index] for index in known})) < 2:
        raise RequestError(f"`strata` {strata} must have two or more values in the dataset; got {count}")
    network = load_extractor(extractor, device=device)
    labels = [str(names[index]) for index in known]
    told, probabilities = attributes.learn(features_of(collection.dataset, known, network), labels)
    return told, lambda images: probabilities(network(images)["features"])


def attributes_of(G: Generator, seeds: range, class_index: int | None, classify: Classify) -> Array:
    """Probabilities [N, names] of the images of seeds, of classes as gan.directions.samples has them."""
    images = generate(G, seeds, classes_of(seeds, G.config.num_classes, class_index), batch_size=BATCH)
    shown, blocks = iter(progress(images, "Generating and classifying", len(seeds))), []
    while batch := list(islice(shown, BATCH)):
        blocks.append(classify(batch))
    return np.concatenate(blocks)


def supervised_directions(
    w: Floats, probabilities: Array, names: Sequence[str], first: int, last: int, seed: int = 0
) -> tuple[list[Direction], dict[str, float]]:
    """Of w [N, d] and the probabilities [N, names] of their images -> directions, and accuracies by name.

    An amount above 0 is towards the attribute. An attribute that nearly all or no images have is left out, with a line
    that says so. Raises RequestError where none is left.
    """
    spread, directions, accuracies = Spread.of(w), list[Direction](), dict[str, float]()
    for name, column in zip(names, probabilities.T, strict=True):
        plane = hyperplane(w, column, seed=seed)
        if plane is None:
            say(f"{name} is left out: among {len(w)} images too few have it, or have it not")
            continue
        own = _name(name, accuracies)
        accuracies[own] = plane.accuracy
        if plane.accuracy < FAIR:
            say(f"Warning: {own} is hardly told by w: {plane.accuracy:.0%} of images right, where 50% is guessing")
        variance = spread.variance(plane.normal)
        directions.append(
            Direction(
                name=own,
                vector=plane.normal.astype(np.float32),
                sigma=float(np.sqrt(variance)),
                first=first,
                last=last,
                method="supervised",
                explained_variance=variance / spread.total() if variance else 0.0,
            )
        )
    if not directions:
        raise RequestError("`samples` must have images with and without some attribute; generate more of them")
    return directions, accuracies


def _name(text: str, taken: dict[str, float]) -> str:
    # As a direction may be named, and no other is.
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", plain).strip("-_.")[:56] or "attribute"
    numbers = (f"{name}-{number}" for number in range(2, len(taken) + 3))
    return name if name not in taken else next(other for other in numbers if other not in taken)
