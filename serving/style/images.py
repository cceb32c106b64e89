"""Where a style check's pictures and probabilities come from: a server, a folder of images, a classifier's file."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from eval.data.image_sources import FilesSource
from gan import __version__
from gan.data.images import Pixels
from gan.errors import RequestError
from gan.runtime.console import progress, say
from gan.sampling.latents import MAX_SEED, Floats
from serving.client.client import Client
from serving.contract import CLASSIFIER, MAX_BATCH, About
from serving.style.check import Seen, card_errors
from serving.style.check import look as see
from serving.style.onnx_classifier import Classifier

PAINTED = 256  # pictures, unless --num-images says otherwise


class Classify(Protocol):
    """N pictures [H, W, 3] of any sizes -> probabilities [N, K]."""

    def __call__(self, images: list[Pixels], /) -> Floats:
        """Classify."""
        ...


def look(
    *,
    images: Path | None,
    classifier: Path | None,
    target: str | None,
    num_images: int | None,
    seed: int,
    url: str,
    model: str,
    timeout: float,
    retries: int,
    concurrency: int,
    truncation_psi: float,
    class_name: str | None,
) -> tuple[Seen, About, dict[str, Any]]:
    """Paint or read pictures and classify them -> what was seen, the classifier, and the provenance of both.

    The served generator paints unless `images` is given, and the served classifier judges unless `classifier` is.
    Raises RequestError for what does not fit together, before anything is painted.
    """
    painted = num_images or PAINTED
    if images is None and seed + painted - 1 > MAX_SEED:
        raise RequestError(f"--seed must be at most {MAX_SEED - painted + 1} for {painted} images; got {seed} instead")
    with ExitStack() as stack:
        client: Client | None = None
        if images is None or classifier is None:
            client = stack.enter_context(
                Client(url, model=model, timeout=timeout, retries=retries, concurrency=concurrency, announce=say)
            )
        own = Classifier(classifier) if classifier else None
        about = own.about if own else _served(client).about(CLASSIFIER)
        card_errors(about, target)
        classify: Classify = own if own else _served(client).classify
        if images is not None:
            source = FilesSource(images, num_images, seed=seed)
            count, names = len(source), source.names
            pairs = _classified(source.pixels(0, count), classify)
            origin: dict[str, Any] = {"kind": "files", "name": images.name, **source.identity}
        else:
            count = painted
            seeds = list(range(seed, seed + count))
            names = [f"seed {number}" for number in seeds]
            painter = _served(client)
            if own:
                pairs = _classified(painter.generate(seeds, truncation_psi, class_name), classify)
            else:
                pairs = painter.generate_and_classify(seeds, truncation_psi, class_name)
            origin = {"kind": "generator", "name": model, "seed": seed, "truncation_psi": truncation_psi}
            origin |= {"class": class_name, "url": url, "snapshot": painter.about("generator").snapshot}
        seen = see(progress(pairs, "Checking the style", count), names)
    judge = {"file": str(classifier) if classifier else url, "sha256": own.sha256 if own else None}
    return seen, about, {"source": origin, "classifier": judge | _card(about), "salon": __version__}


def _served(client: Client | None) -> Client:
    assert client is not None
    return client


def _classified(images: Iterable[Pixels], classify: Classify) -> Iterator[tuple[Pixels, Floats]]:
    images = iter(images)
    while batch := list(islice(images, MAX_BATCH)):
        yield from zip(batch, classify(batch), strict=True)


def _card(about: About) -> dict[str, Any]:
    # What of the card says which classifier it is.
    return {name: about.card.get(name) for name in ("target", "data", "extractor", "head", "group_by", "seed")}
