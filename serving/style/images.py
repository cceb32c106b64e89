"""Where a style check's images and probabilities come from: a server, a folder of images, a classifier's file."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict
from itertools import islice
from typing import Any, Protocol

from eval.data.files_source import FilesSource
from eval.data.snapshot_source import seen_as
from gan import __version__
from gan.data.images import Pixels, to_rgb
from gan.errors import RequestError
from gan.runtime.console import progress, say
from gan.sampling.latents import MAX_SEED, Floats
from serving.client.client import Client
from serving.client.request import Connection
from serving.contract import CLASSIFIER, MAX_BATCH, ModelMetadata
from serving.style.check import ClassifiedImages, card_errors, collect
from serving.style.onnx_classifier import Classifier
from serving.style.request import StyleCheckRequest

GENERATED = 256  # images, unless `num_images` says otherwise


class Classify(Protocol):
    """N images [H, W, 3] of any sizes -> probabilities [N, K]."""

    def __call__(self, images: list[Pixels], /) -> Floats:
        """Classify."""
        ...


def classify_images(
    request: StyleCheckRequest, connection: Connection
) -> tuple[ClassifiedImages, ModelMetadata, dict[str, Any]]:
    """Generate or read images and classify them: the images, the classifier's metadata, and the provenance of both.

    The images are the served generator's unless `request.images` is given, and the classifier the served one unless
    `request.classifier` is. Raises RequestError for what does not fit together, before anything is generated.
    """
    _require_seeds(request)
    with ExitStack() as stack:
        client: Client | None = None
        if request.images is None or request.classifier is None:
            client = stack.enter_context(Client(**asdict(connection), announce=say))
        own = Classifier(request.classifier) if request.classifier else None
        about = own.about if own else _served(client).about(CLASSIFIER)
        card_errors(about, request.target)
        classify: Classify = own if own else _served(client).classify
        if request.images is not None:
            source = FilesSource(request.images, request.num_images, seed=request.seed)
            if note := source.note():
                say(note)
            names = source.names
            pairs = _classified((image for image in source.pixels(0, len(source)) if image is not None), classify)
            origin: dict[str, Any] = {"kind": "files", "name": request.images.name, **source.identity}
        else:
            generator = _served(client)
            seeds = list(range(request.seed, request.seed + (request.num_images or GENERATED)))
            names = [f"seed {seed}" for seed in seeds]
            if own or generator.about("generator").channels != 3:  # no ensemble of these is served
                pairs = _classified(generator.generate(seeds, request.truncation_psi, request.label), classify)
            else:
                pairs = generator.generate_and_classify(seeds, request.truncation_psi, request.label)
            origin = {"kind": "generator", "name": connection.model, "seed": request.seed}
            origin |= {"truncation_psi": request.truncation_psi, "class": request.label, "url": connection.url}
            origin |= {"snapshot": generator.about("generator").snapshot, **seen_as(generator.about("generator").shape)}
        classified = collect(progress(pairs, "Checking the style", len(names)), names)
    file = request.classifier
    classifier = {"file": str(file) if file else connection.url, "sha256": own.sha256 if own else None}
    return classified, about, {"source": origin, "classifier": classifier | _card(about), "salon": __version__}


def _require_seeds(request: StyleCheckRequest) -> None:
    count = request.num_images or GENERATED
    if request.images is None and request.seed + count - 1 > MAX_SEED:
        raise RequestError(
            f"`seed` must be at most {MAX_SEED - count + 1} for {count} images; got {request.seed} instead"
        )


def _served(client: Client | None) -> Client:
    assert client is not None
    return client


def _classified(images: Iterable[Pixels], classify: Classify) -> Iterator[tuple[Pixels, Floats]]:
    images = iter(images)
    while batch := list(islice(images, MAX_BATCH)):
        yield from zip(batch, classify([to_rgb(image) for image in batch]), strict=True)


def _card(about: ModelMetadata) -> dict[str, Any]:
    # What of the card says which classifier it is.
    return {name: about.card.get(name) for name in ("target", "data", "extractor", "head", "group_by", "seed")}
