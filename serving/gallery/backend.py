"""Between the gallery and the server: asks it for images, caches them, knows whether it is there."""

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

from gan.data.images import Pixels
from gan.errors import RequestError, SalonError
from gan.runtime.console import say
from gan.sampling.latents import Floats
from serving.client.retry import Unavailable
from serving.contract import CLASSIFIER, DEFAULT_NAME, ModelMetadata
from serving.gallery.scenes import ImageSpec, combine

CACHE_BYTES = 128 << 20  # of pixels
FRESH = 5.0  # seconds for which the server's list of models holds
PAUSE = 1.0  # seconds between attempts while it is gone
Result = TypeVar("Result")


class Client(Protocol):
    """What the gallery needs of serving.client.client.Client."""

    def close(self) -> None: ...
    def models(self) -> list[ModelMetadata]: ...
    def generate(
        self, seeds: Sequence[int], *, truncation_psi: float = 1.0, label: int | None = None
    ) -> Iterable[Pixels]: ...
    def map_seeds(self, seeds: Sequence[int], *, truncation_psi: float = 1.0, label: int | None = None) -> Floats: ...
    def synthesize(self, ws: Floats) -> Iterable[Pixels]: ...
    def classify(self, images: Iterable[Pixels]) -> Floats: ...
    def generate_and_classify(
        self, seeds: Sequence[int], *, truncation_psi: float = 1.0, label: int | None = None
    ) -> Iterable[tuple[Pixels, Floats]]: ...


@dataclass(frozen=True)
class GeneratedImage:
    """Pixels, uint8 [H, W, 3], and probabilities of styles, float32 [K]; None where no classifier is served."""

    pixels: Pixels
    probabilities: Floats | None


@dataclass(frozen=True)
class ServedGenerator:
    """A generator on the server, and what else is served for it."""

    name: str
    metadata: ModelMetadata
    kinds: frozenset[str]  # of models, as in contract.KINDS
    styles: tuple[str, ...]  # of the classifier, in the order of its probabilities; empty: none is served

    @property
    def has_latents(self) -> bool:
        """Whether seeds can be mapped to ws and these synthesized, as style mixing and interpolation need."""
        return {"mapping", "synthesis"} <= self.kinds


class Backend:
    """All generators of a server, and a cache of their images. `connect` gives a client for a generator's name.

    One thread speaks with the server, and one call after the other: equal requests are carried out once, and the
    client sends the parts of a call at the same time.
    """

    def __init__(self, connect: Callable[[str], Client]) -> None:
        self.connect = connect
        self.thread = ThreadPoolExecutor(1, "gallery-backend")
        self.lock = asyncio.Lock()
        self.clients: dict[str, Client] = {}
        self.cache: OrderedDict[str, GeneratedImage] = OrderedDict()  # by tag, the least recently used first
        self.cached_bytes = self.images_generated = 0
        self.served: dict[str, ServedGenerator] = {}
        self.asked_at = self.gone_at = -math.inf
        self.gone = False

    async def generators(self) -> dict[str, ServedGenerator]:
        """Generators by name, in the server's order.

        Raises Unavailable while the server is gone, SalonError where it has none.
        """
        if self._is_stale():
            async with self.lock:  # whoever waited for the same answer has it
                if self._is_stale():
                    self._adopt(await self._ask(self._read_generators))
        return self.served

    async def generator(self, name: str | None) -> ServedGenerator:
        """The generator of a name, or the first one for None. Raises RequestError too, when there is none."""
        served = await self.generators()
        if name and name not in served:
            raise RequestError(f"model must be one of {', '.join(served)}; got {name[:100]} instead")
        return served[name] if name else next(iter(served.values()))

    def has(self, specs: Iterable[ImageSpec], generator: ServedGenerator) -> bool:
        """Whether all images are cached, so that the server need not be asked."""
        return all(spec.tag(generator.metadata) in self.cache for spec in specs)

    async def generate(self, specs: Sequence[ImageSpec], generator: ServedGenerator) -> list[GeneratedImage]:
        """The images, all of one truncation and class. Raises Unavailable, SalonError and RequestError."""
        if any(spec.to is not None for spec in specs) and not generator.has_latents:
            raise RequestError(
                f"{generator.name} is served without its latents, which style mixing and interpolation need"
            )
        tags = [spec.tag(generator.metadata) for spec in specs]
        images = self._cached(tags)
        if len(images) < len(set(tags)):
            async with self.lock:  # whoever waited for the same images finds them in the cache
                images = self._cached(tags)
                missing = {tag: spec for tag, spec in zip(tags, specs, strict=True) if tag not in images}
                if missing:
                    client, wanted = self._client, list(missing.values())
                    generated = await self._ask(lambda: _generate(client(generator.name), wanted, generator))
                    self.images_generated += len(generated)
                    images |= dict(zip(missing, generated, strict=True))
        for tag, image in images.items():
            self._keep(tag, image)
        return [images[tag] for tag in tags]

    def refresh(self) -> dict[str, ServedGenerator]:
        """Generators by name, asked of the server now. Raises SalonError when it does not answer."""
        self._adopt(self.thread.submit(self._read_generators).result())
        return self.served

    def close(self) -> None:
        """End what is under way."""
        self._close_clients()
        self.thread.shutdown(cancel_futures=True)

    def _is_stale(self) -> bool:
        if self.gone and time.monotonic() - self.gone_at < PAUSE:  # else visitors would queue for the same refusal
            raise Unavailable("the server is not there")
        return self.gone or time.monotonic() - self.asked_at >= FRESH

    async def _ask(self, work: Callable[[], Result]) -> Result:
        try:
            answer = await asyncio.get_running_loop().run_in_executor(self.thread, work)
        except Unavailable as error:
            if not self.gone:
                say(f"The server is gone: {error}")
            self.gone, self.gone_at = True, time.monotonic()
            raise
        except RequestError as error:  # the request was checked before: the models are not those that were known
            self.asked_at = -math.inf
            raise SalonError(str(error)) from error
        if self.gone:
            say("The server is back")
        self.gone = False
        return answer

    def _client(self, name: str) -> Client:
        if name not in self.clients:
            self.clients[name] = self.connect(name)
        return self.clients[name]

    def _read_generators(self) -> dict[str, ServedGenerator]:
        return group(self._client(DEFAULT_NAME).models())

    def _adopt(self, served: dict[str, ServedGenerator]) -> None:
        if served != self.served:  # clients remember the models' metadata, and the cache holds old probabilities
            self._close_clients()
            self.cache.clear()
            self.cached_bytes = 0
        self.served, self.asked_at = served, time.monotonic()

    def _close_clients(self) -> None:
        clients, self.clients = self.clients, {}
        for client in clients.values():
            client.close()

    def _cached(self, tags: Iterable[str]) -> dict[str, GeneratedImage]:
        return {tag: self.cache[tag] for tag in tags if tag in self.cache}

    def _keep(self, tag: str, image: GeneratedImage) -> None:
        if tag not in self.cache:
            self.cached_bytes += image.pixels.nbytes
        self.cache[tag] = image
        self.cache.move_to_end(tag)
        while self.cached_bytes > CACHE_BYTES:
            self.cached_bytes -= self.cache.popitem(last=False)[1].pixels.nbytes


def group(models: Sequence[ModelMetadata]) -> dict[str, ServedGenerator]:
    """Generators by name, each with what belongs to it, among the models of a server. Raises SalonError for none."""
    kinds: dict[str, set[str]] = {}
    for metadata in models:
        kinds.setdefault(metadata.generator or DEFAULT_NAME, set()).add(metadata.kind)
    styles = next((tuple(metadata.styles) for metadata in models if metadata.kind == CLASSIFIER), ())
    generators = {}
    for metadata in models:
        if metadata.kind == "generator":
            name = metadata.generator or DEFAULT_NAME
            generators[name] = ServedGenerator(name, metadata, frozenset(kinds[name]), styles)
    if not generators:
        raise SalonError("no generator is served there; salon export makes a model repository with one")
    return generators


def _generate(client: Client, specs: Sequence[ImageSpec], generator: ServedGenerator) -> list[GeneratedImage]:
    # An image always comes from the same models, whatever it is asked for together with: its bytes never change.
    of_seeds = [spec for spec in specs if spec.to is None]
    of_latents = [spec for spec in specs if spec.to is not None]
    images: dict[ImageSpec, GeneratedImage] = {}
    if of_seeds:
        images |= zip(of_seeds, _generate_from_seeds(client, of_seeds, generator), strict=True)
    if of_latents:
        images |= zip(of_latents, _generate_from_latents(client, of_latents, generator), strict=True)
    return [images[spec] for spec in specs]


def _generate_from_seeds(
    client: Client, specs: Sequence[ImageSpec], generator: ServedGenerator
) -> list[GeneratedImage]:
    seeds, psi, label = [spec.seed for spec in specs], specs[0].psi, specs[0].label
    if "generate_and_classify" in generator.kinds:
        pairs = client.generate_and_classify(seeds, truncation_psi=psi, label=label)
        return [GeneratedImage(np.asarray(pixels), np.asarray(row)) for pixels, row in pairs]
    return _classified(client, list(client.generate(seeds, truncation_psi=psi, label=label)), generator)


def _generate_from_latents(
    client: Client, specs: Sequence[ImageSpec], generator: ServedGenerator
) -> list[GeneratedImage]:
    seeds = sorted({seed for spec in specs for seed in spec.seeds()})
    ws = client.map_seeds(seeds, truncation_psi=specs[0].psi, label=specs[0].label)
    ws_of = dict(zip(seeds, ws, strict=True))
    combined = [combine(spec, np.stack([ws_of[seed] for seed in spec.seeds()])) for spec in specs]
    return _classified(client, list(client.synthesize(np.concatenate(combined))), generator)


def _classified(client: Client, images: Sequence[Pixels], generator: ServedGenerator) -> list[GeneratedImage]:
    probabilities = client.classify(images) if generator.styles else [None] * len(images)
    return [GeneratedImage(pixels, row) for pixels, row in zip(images, probabilities, strict=True)]
