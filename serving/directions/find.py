"""Directions of a generator, by the method that a request names."""

from pathlib import Path
from typing import Any

from eval.directions import Classify, attributes_of, learned_from, supervised_directions
from gan import snapshot
from gan.data.classes import class_index
from gan.data.collection import Collection
from gan.data.images import to_rgb
from gan.device.selection import select
from gan.directions.pca import principal_components
from gan.directions.samples import Spread, sample_w
from gan.directions.sefa import style_directions
from gan.errors import RequestError
from gan.networks.generator import Generator
from gan.runtime.files import sha256
from gan.sampling.directions import Direction, Directions
from gan.sampling.latents import Floats, parse_numbers
from serving.directions.request import SAMPLES, DirectionsRequest

COUNT = 10  # directions, unless a request says otherwise


def find(request: DirectionsRequest) -> Directions:
    """Find them. What the file of them tells beside them: method, samples, seed, class, and of what they were learned.

    Raises RequestError for what the generator, the dataset or the classifier has not.
    """
    source = snapshot.find(request.snapshot)
    G = source.G_ema.to(select(request.device))
    first, last = layer_range(request.layers, G.config.num_ws)
    every = G.config.num_classes and request.class_name is None  # all classes alike
    index = None if every else class_index(request.class_name, G.config.num_classes, source.classes)
    about: dict[str, Any] = {"method": request.method, "samples": request.samples or SAMPLES[request.method]}
    about |= {"seed": request.seed, "class_name": request.class_name, "kimg": source.cur_nimg / 1000}
    w = sample_w(G, about["samples"], request.seed, index)
    if request.method == "supervised":
        entries, learned = _supervised(request, G, w, index, first, last)
        about |= learned
    else:
        count = min(COUNT, G.config.w_dim) if request.count is None else request.count
        if request.method == "pca":
            if about["samples"] <= count:
                raise RequestError(f"`samples` must be more than the {count} components; got {about['samples']}")
            entries = principal_components(Spread.of(w), count, first, last)
        else:
            entries = style_directions(G, Spread.of(w), count, first, last)
    return Directions.of(entries, num_ws=G.config.num_ws, snapshot=sha256(source.path), about=about)


def layer_range(text: str | None, num_ws: int) -> tuple[int, int]:
    """ "0-3" -> (0, 3), "4" -> (4, 4), None -> all. Raises RequestError for layers that do not follow each other."""
    if text is None:
        return 0, num_ws - 1
    layers = parse_numbers(text, "layers")
    if layers != list(range(layers[0], layers[0] + len(layers))) or layers[-1] >= num_ws:
        raise RequestError(f"`layers` must be one range within 0-{num_ws - 1}; got {text} instead")
    return layers[0], layers[-1]


def _supervised(
    request: DirectionsRequest, G: Generator, w: Floats, index: int | None, first: int, last: int
) -> tuple[list[Direction], dict[str, Any]]:
    names: list[str]
    if request.classifier is not None:
        names, classify = _of_classifier(request.classifier)
        learned = {"classifier": sha256(request.classifier)}
    else:
        assert request.data is not None
        collection = Collection.open(request.data, request.manifest)
        names, classify = learned_from(collection, request.strata, request.extractor, request.device)
        learned = {"dataset": collection.fingerprint, "strata": request.strata, "extractor": request.extractor}
        if collection.selection is not None:
            learned |= {"manifest": collection.selection}
    probabilities = attributes_of(G, range(request.seed, request.seed + len(w)), index, classify)
    entries, accuracies = supervised_directions(w, probabilities, names, first, last, request.seed)
    return entries, learned | {"accuracy": accuracies}


def _of_classifier(path: Path) -> tuple[list[str], Classify]:
    from serving.style.onnx_classifier import Classifier  # here: of an extra that other methods need not

    classifier = Classifier(path)
    names = list(classifier.about.styles)
    told = 1 if len(names) == 2 else len(names)  # of two the other is its opposite
    return names[:told], lambda images: classifier([to_rgb(image) for image in images])[:, :told]
