"""A served generator, as a Python class: seeds in, images out, with numpy and tritonclient alone.

    with Client("grpc://127.0.0.1:8001") as client:
        for image in client.generate(range(16), truncation_psi=0.7):
            ...  # uint8 [H, W, C]
        probabilities = client.classify([image])  # float32 [1, K], of client.about("style_classifier").styles

Requests go out several at a time and come back in order. What a request holds follows from its place alone, never from
`concurrency`, and a request that met a restart of the server is sent again as it was: nothing is lost or doubled.
A call that is given a `cancel` ends with Cancelled, and its requests with it, once that is cancelled.
All answers are of the version of the models with which the client began; when it is served no longer, there is none.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from gan.data.classes import class_index
from gan.data.images import Pixels, to_rgb
from gan.errors import RequestError, SalonError
from gan.image_shape import MODES
from gan.sampling import latents
from gan.sampling.directions import Directions
from gan.sampling.latents import Floats
from serving.client import served_directions, status
from serving.client.cancel import Cancellation
from serving.client.request import read_token
from serving.client.retry import CONCURRENCY, RETRIES, TIMEOUT, RetryPolicy, Unavailable
from serving.client.served_family import Catalogue, ServedFamily, choose, ready_versions
from serving.client.transport import Transport, connect
from serving.client.transport_errors import Arrays
from serving.contract import (
    CLASSIFIER,
    DEFAULT_NAME,
    DEFAULT_URL,
    KINDS,
    MAX_BATCH,
    PSI_RANGE,
    ModelMetadata,
    model_name,
    outputs,
)

_GENERATED = 4  # images a request: few, because the server merges requests and can share them out to several instances
_MOST_BYTES = 32 * 2**20  # of images in one request, well below what Triton takes over HTTP

Answer = TypeVar("Answer")


class VersionGone(SalonError):
    """The version of the models with which a client began is served no longer: a new client begins with another."""


class Client:
    """A generator on a Triton server, and the classifier beside it. Close it, or use it in a `with` statement.

    `model_version` None is the newest version that is served when the first model is asked for; either is kept to from
    then on. `timeout` is in seconds for each request with all of its attempts, `retries` their number after the first
    one, made only when the server is not available. `token`, or else the one in `token_file`, or else the variable
    SALON_TOKEN, is shown to the server as a bearer token. `announce` gets a line when the server is not available.
    Methods may be called from several threads. They raise RequestError when the request is at fault, SalonError when
    the server is, and VersionGone when it serves other versions than the client began with.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        model: str = DEFAULT_NAME,
        model_version: int | None = None,
        timeout: float = TIMEOUT,
        retries: int = RETRIES,
        concurrency: int = CONCURRENCY,
        token: str | None = None,
        token_file: Path | None = None,
        transport: Transport | None = None,
        announce: Callable[[str], None] = lambda line: None,
    ) -> None:
        if concurrency < 1:
            raise RequestError(f"`concurrency` must be at least 1; got {concurrency} instead")
        self.model, self._model_version = model, model_version
        self._retry_policy = RetryPolicy(timeout=timeout, retries=retries)
        self._transport = transport or connect(url, token or read_token(token_file))
        self._catalogue = Catalogue(self._transport, self._ask)
        self._concurrency, self._pool = concurrency, ThreadPoolExecutor(concurrency, "salon-request")
        self._announce, self._announced = announce, False
        self._stopped = threading.Event()
        self._asking = threading.Lock()  # one thread asks what is served, the others take its answer
        self._family: ServedFamily | None = None
        self._known_classifier: ModelMetadata | None = None
        self._directions: Directions | None = None

    @property
    def url(self) -> str:
        """Of the server."""
        return self._transport.url

    def close(self) -> None:
        """End what is under way, at once."""
        self._stopped.set()
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._transport.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    # Generating

    def generate(
        self,
        seeds: Sequence[int],
        truncation_psi: float = 1.0,
        label: int | str | None = None,
        *,
        cancel: Cancellation | None = None,
    ) -> Iterator[Pixels]:
        """One image a seed, in order, uint8 [H, W, C]; the same that `salon generate` gives.

        `label` is a class, by its name or index: see gan.data.classes.class_index. Raises RequestError for what the
        generator cannot generate.
        """
        answers = self._from_seeds("generator", seeds, truncation_psi, label, cancel)
        return (image for answer in answers for image in answer["image"])

    def generate_and_classify(
        self,
        seeds: Sequence[int],
        truncation_psi: float = 1.0,
        label: int | str | None = None,
        *,
        cancel: Cancellation | None = None,
    ) -> Iterator[tuple[Pixels, Floats]]:
        """One image a seed, with the probabilities of its styles, float32 [K]."""
        answers = self._from_seeds("generate_and_classify", seeds, truncation_psi, label, cancel)
        return (pair for answer in answers for pair in zip(answer["image"], answer["probabilities"], strict=True))

    def score(
        self,
        seeds: Sequence[int],
        truncation_psi: float = 1.0,
        label: int | str | None = None,
        *,
        cancel: Cancellation | None = None,
    ) -> Iterator[float]:
        """One logit a seed: the discriminator's, of the seed's image."""
        answers = self._from_seeds("generate_and_score", seeds, truncation_psi, label, cancel)
        return (float(logit) for answer in answers for logit in answer["logit"][:, 0])

    def map_seeds(
        self,
        seeds: Sequence[int],
        truncation_psi: float = 1.0,
        label: int | str | None = None,
        *,
        cancel: Cancellation | None = None,
    ) -> Floats:
        """ws [N, num_ws, w_dim] of seeds, for gan.sampling.latents.mix and gan.sampling.latents.loop."""
        metadata = self.about("mapping")
        batches = [answer["ws"] for answer in self._from_seeds("mapping", seeds, truncation_psi, label, cancel)]
        return np.concatenate([np.empty([0, metadata.num_ws or 0, metadata.w_dim or 0], np.float32), *batches])

    def synthesize(self, ws: Floats, *, cancel: Cancellation | None = None) -> Iterator[Pixels]:
        """Synthesize ws [N, num_ws, w_dim] -> one image each, uint8 [H, W, C]."""
        metadata = self.about("synthesis")
        if ws.ndim != 3 or ws.shape[1:] != (metadata.num_ws, metadata.w_dim) or not np.isfinite(ws).all():
            shape = f"[N, {metadata.num_ws}, {metadata.w_dim}]"
            raise RequestError(f"`ws` must be finite, {shape}; got {list(ws.shape)} instead")
        size = min(_GENERATED, metadata.max_batch)
        requests = ({"ws": np.ascontiguousarray(batch, np.float32)} for batch in _split(ws, size))
        return (image for answer in self._run(metadata, requests, cancel) for image in answer["image"])

    # Classifying

    def classify(self, images: Iterable[Pixels], *, cancel: Cancellation | None = None) -> Floats:
        """Probabilities of styles [N, K], float32, of images of any size, uint8 [H, W, C] each.

        They are judged as RGB: grey thrice, alpha over white.
        """
        metadata = self.about(CLASSIFIER)
        requests = ({"image": batch} for batch in _batches(images, metadata.max_batch))
        rows = [answer["probabilities"] for answer in self._run(metadata, requests, cancel)]
        return np.concatenate([np.empty([0, len(metadata.styles)], np.float32), *rows])

    # Editing

    def directions(self) -> Directions | None:
        """Directions that are served with this generator, to edit images along; None: there are none."""
        mapping = self._mapping()
        if mapping is None:
            return None
        if self._directions is None:
            self._directions = served_directions.read(self.directions_file() or b"", mapping)
        return self._directions

    def directions_file(self) -> bytes | None:
        """The file of these directions as it was exported, which salon verify takes too; None: there is none."""
        mapping = self._mapping()
        if mapping is None:
            return None
        name = model_name(mapping.kind, self.model)
        return served_directions.content_of(self._ask(partial(self._transport.config, name)), mapping)

    def edit(
        self,
        seeds: Sequence[int],
        amounts: Mapping[str, float],
        truncation_psi: float = 1.0,
        label: int | str | None = None,
        *,
        directions: Directions | None = None,
        cancel: Cancellation | None = None,
    ) -> Iterator[Pixels]:
        """One image a seed, in order, moved by `amounts` of standard deviations along directions.

        `directions` None: those that are served. Raises RequestError where there are none, or not of these names.
        """
        directions = directions or self.need_directions()
        ws = self.map_seeds(seeds, truncation_psi, label, cancel=cancel)
        return self.synthesize(directions.edit(ws, amounts), cancel=cancel)

    def need_directions(self) -> Directions:
        """The same as directions(). Raises RequestError where there are none."""
        directions = self.directions()
        if directions is None:
            remedy = "export it with directions, or give a file of them as `directions`"
            raise RequestError(f"{self.url} serves {self.model} without directions: {remedy}")
        return directions

    def _mapping(self) -> ModelMetadata | None:
        # Metadata of the mapping, where it has directions.
        mapping = self.about("mapping")
        return mapping if mapping.directions else None

    # Metadata and state

    def about(self, kind: str) -> ModelMetadata:
        """Metadata of the model of a kind, for this generator, with the version that is asked; asked for once.

        Raises RequestError, with what there is, when it is not served; SalonError when the generator's models are of
        several snapshots.
        """
        with self._asking:
            if kind == CLASSIFIER:
                if self._known_classifier is None:
                    versions = self._catalogue.served_kinds(self.model, [kind]).get(kind)
                    if not versions:
                        raise self._absent(kind)
                    self._known_classifier = versions[max(versions)]
                return self._known_classifier
            if self._family is None:
                served = self._catalogue.served_kinds(self.model, [kind for kind in KINDS if kind != CLASSIFIER])
                if kind not in served:
                    raise self._absent(kind)
                self._family = choose(self.model, served, self._model_version)
            if kind in self._family.absent:
                version = next((about.version for about in self._family.models.values()), None)
                raise self._gone(model_name(kind, self.model), version)
            if kind not in self._family.models:
                raise self._absent(kind)
            return self._family.models[kind]

    def models(self) -> list[ModelMetadata]:
        """Metadata of each model that is ready, with the newest version that fits together with its generator's others;
        those that are not of Salon's making are left out.

        Raises SalonError when a generator's models are of several snapshots.
        """
        families: dict[str | None, dict[str, dict[int, ModelMetadata]]] = {}
        for versions in self._catalogue.served().values():
            newest = versions[max(versions)]
            families.setdefault(newest.generator, {})[newest.kind] = versions
        models = [
            metadata
            for generator, served in families.items()
            for metadata in choose(generator or CLASSIFIER, served).models.values()
        ]
        return sorted(models, key=lambda metadata: model_name(metadata.kind, metadata.generator or DEFAULT_NAME))

    def status(self) -> dict[str, Any]:
        """The server's version, whether it is ready, its models and their statistics, as client.status names them."""
        server, ready = self._ask(self._transport.server), self._ask(self._transport.ready)
        index = self._ask(self._transport.index)
        metadata: dict[tuple[str, str], ModelMetadata | None] = {}
        for name, versions in ready_versions(index).items():
            newest, known = self._catalogue.read(name)
            metadata |= {(name, str(version)): known.get(version, newest) for version in versions}
        statistics = self._ask(self._transport.statistics)
        return {"url": self.url, **status.summarize(server, ready, index, statistics, metadata)}

    # Requests

    def _from_seeds(
        self, kind: str, seeds: Sequence[int], psi: float, label: int | str | None, cancel: Cancellation | None
    ) -> Iterator[Arrays]:
        metadata = self.about(kind)
        _check(seeds, psi)
        z_dim, index = metadata.z_dim or 0, class_index(label, metadata.num_classes, metadata.classes, "label")

        def request(batch: Sequence[int]) -> Arrays:
            shape = [len(batch), 1]
            arrays: Arrays = {"z": latents.draw(batch, z_dim), "truncation_psi": np.full(shape, psi, np.float32)}
            return arrays if index is None else arrays | {"label": np.full(shape, index, np.int64)}

        size = min(MAX_BATCH if kind == "mapping" else _GENERATED, metadata.max_batch)
        return self._run(metadata, (request(batch) for batch in _split(seeds, size)), cancel)

    def _run(
        self, metadata: ModelMetadata, requests: Iterable[Arrays], cancel: Cancellation | None
    ) -> Iterator[Arrays]:
        # The answers in the order of the requests; at most so many are under way or wait for those before them. When
        # one fails, or the caller wants no more of them, the others are cancelled.
        waiting: deque[Future[Arrays]] = deque()
        own = Cancellation()
        with (cancel or Cancellation()).ends_by(own.cancel):
            try:
                for request in requests:
                    waiting.append(self._pool.submit(self._infer, metadata, request, own))
                    if len(waiting) >= 2 * self._concurrency:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()
                own.cancel()

    def _infer(self, metadata: ModelMetadata, request: Arrays, cancel: Cancellation) -> Arrays:
        name, count = model_name(metadata.kind, self.model), len(next(iter(request.values())))
        # All of the outputs: Triton fails where an ensemble's output is left out that another of its steps needs.
        wanted = [tensor.name for tensor in outputs(metadata)]
        version = metadata.version

        def call(timeout: float) -> Arrays:
            try:
                return self._transport.infer(name, request, wanted, timeout, version, cancel)
            except (RequestError, Unavailable) as error:
                if version is not None and self._is_gone(name, version, timeout):
                    raise self._gone(name, version) from error
                raise

        answer = self._ask(call)
        for tensor in outputs(metadata):
            if (answered := answer[tensor.name].shape) != (shape := (count, *tensor.dims)):
                raise SalonError(f"{name} must answer with {tensor.name} {list(shape)}; got {list(answered)} instead")
        return answer

    def _ask(self, call: Callable[[float], Answer]) -> Answer:
        answer = self._retry_policy.ask(call, self._stopped, self._tell)
        self._announced = False
        return answer

    def _tell(self, line: str) -> None:
        if not self._announced:  # once for an outage, however many requests met it
            self._announced = True
            self._announce(line)

    def _is_gone(self, name: str, version: int, timeout: float) -> bool:
        # Whether other versions are served instead.
        with suppress(SalonError):
            ready = ready_versions(self._transport.index(timeout)).get(name, [])
            return bool(ready) and version not in ready
        return False

    def _gone(self, name: str, version: int | None) -> VersionGone:
        return VersionGone(
            f"{self.url} does not serve {name} in version {version}, with which this began: another was exported "
            "meanwhile; run it again for the new one"
        )

    def _absent(self, kind: str) -> RequestError:
        models = [versions[max(versions)] for versions in self._catalogue.served().values()]
        generators = sorted(m.generator or DEFAULT_NAME for m in models if m.kind == "generator")
        if kind != CLASSIFIER and self.model not in generators:
            known = ", ".join(generators) or "(none is served)"
            return RequestError(f"`model` must be one of {known}; got {self.model} instead")
        remedy = " with a classifier" if kind in (CLASSIFIER, "generate_and_classify") else ""
        return RequestError(f"{self.url} serves no {model_name(kind, self.model)}; `salon export`{remedy} adds it")


def _check(seeds: Sequence[int], psi: float) -> None:
    if bad := [seed for seed in seeds if not 0 <= seed <= latents.MAX_SEED]:
        raise RequestError(f"`seeds` must be from 0 to {latents.MAX_SEED}; got {bad[0]} instead")
    low, high = PSI_RANGE
    if not low <= psi <= high:
        raise RequestError(f"`truncation_psi` must be from {low:g} to {high:g}; got {psi} instead")


def _split(items: Any, size: int) -> Iterator[Any]:
    # Pieces of `size` by place, so that the same request is made whatever else goes on.
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _batches(images: Iterable[Pixels], max_batch: int) -> Iterator[NDArray[np.uint8]]:
    # Neighbours of one size together [N, H, W, 3], as many as a request takes.
    batch: list[Pixels] = []
    for given in images:
        if given.dtype != np.uint8 or given.ndim != 3 or given.shape[2] not in MODES or not given.size:
            raise RequestError(
                f"`images` must be uint8 [H, W, C] of 1, 3 or 4 channels; got {given.dtype} {list(given.shape)} instead"
            )
        image = to_rgb(given)
        full = len(batch) == min(MAX_BATCH, max_batch) or (len(batch) + 1) * image.nbytes > _MOST_BYTES
        if batch and (full or image.shape != batch[0].shape):
            yield np.stack(batch)
            batch = []
        batch.append(image)
    if batch:
        yield np.stack(batch)
