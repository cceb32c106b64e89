"""Between the gallery and the server: asks it for images and styles, caches them, knows whether it is there."""

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol, TypeVar

import numpy as np

from gan.data.images import Pixels
from gan.errors import RequestError, SalonError
from gan.runtime.console import say
from gan.sampling.directions import Directions
from gan.sampling.latents import Floats
from serving.client.cancel import Cancellation
from serving.client.retry import Unavailable
from serving.contract import CLASSIFIER, DEFAULT_NAME, ModelMetadata
from serving.gallery.cache import Cache
from serving.gallery.scenes import ImageSpec, combine
from serving.gallery.turns import Turns

CACHE_BYTES = 128 << 20  # of pixels
VERDICT_BYTES = 8 << 20  # of probabilities of styles
TURN = 8  # images that a visitor has generated or classified in a turn, before others have theirs
FRESH = 5.0  # seconds for which the server's list of models holds
PAUSE = 1.0  # seconds between attempts while it is gone
Item = TypeVar("Item")
Result = TypeVar("Result")


class Client(Protocol):
    """What the gallery needs of serving.client.client.Client."""

    def close(self) -> None: ...
    def models(self) -> list[ModelMetadata]: ...
    def generate(
        self,
        seeds: Sequence[int],
        *,
        truncation_psi: float = 1.0,
        label: int | None = None,
        cancel: Cancellation | None = None,
    ) -> Iterable[Pixels]: ...
    def map_seeds(
        self,
        seeds: Sequence[int],
        *,
        truncation_psi: float = 1.0,
        label: int | None = None,
        cancel: Cancellation | None = None,
    ) -> Floats: ...
    def about(self, kind: str) -> ModelMetadata: ...
    def directions(self) -> Directions | None: ...
    def synthesize(self, ws: Floats, *, cancel: Cancellation | None = None) -> Iterable[Pixels]: ...
    def classify(self, images: Iterable[Pixels], *, cancel: Cancellation | None = None) -> Floats: ...


@dataclass(frozen=True)
class ServedGenerator:
    """A generator on the server, and what else is served for it."""

    name: str
    metadata: ModelMetadata  # of the model "generator", with the `directions` of the mapping
    kinds: frozenset[str]  # of models, as in contract.KINDS
    styles: tuple[str, ...]  # of the classifier, in the order of its probabilities; empty: none is served

    @property
    def has_latents(self) -> bool:
        """Whether seeds can be mapped to ws and these synthesized, as style mixing and interpolation need."""
        return {"mapping", "synthesis"} <= self.kinds


class Backend:
    """All generators of a server, and a cache of their images. `connect` gives a client for a generator's name.

    One thread generates, and another classifies, so that no image waits for the classifier. Visitors take turns at each
    of them: see Turns. Equal requests are carried out once, and what a visitor who has gone had asked for is cancelled.
    """

    def __init__(self, connect: Callable[[str], Client]) -> None:
        self.connect = connect
        self.clients: dict[str, Client] = {}
        self.generating, self.classifying = Turns(), Turns()
        self.threads = {name: ThreadPoolExecutor(1, f"gallery-{name}") for name in ("generate", "classify", "models")}
        self.images: Cache[Pixels] = Cache(CACHE_BYTES, lambda pixels: pixels.nbytes)  # by tag
        self.verdicts: Cache[Floats] = Cache(VERDICT_BYTES, lambda row: row.nbytes)  # probabilities of styles, by tag
        self.images_generated = 0
        self.known_directions: dict[str, Directions] = {}  # of a generator, by its name
        self.looking = asyncio.Lock()  # at which models are served
        self.served: dict[str, ServedGenerator] = {}
        self.asked_at = self.gone_at = -math.inf
        self.gone = False

    async def generators(self) -> dict[str, ServedGenerator]:
        """Generators by name, in the server's order.

        Raises Unavailable while the server is gone, SalonError where it has none.
        """
        if self._is_stale():
            async with self.looking:  # whoever waited for the same answer has it
                if self._is_stale():
                    self._adopt(await self._ask("models", lambda cancel: self._read_generators()))
        return self.served

    async def generator(self, name: str | None) -> ServedGenerator:
        """The generator of a name, or the first one for None. Raises RequestError too, when there is none."""
        served = await self.generators()
        if name and name not in served:
            raise RequestError(f"model must be one of {', '.join(served)}; got {name[:100]} instead")
        return served[name] if name else next(iter(served.values()))

    async def directions(self, generator: ServedGenerator) -> Directions | None:
        """Directions that are served with a generator; None: there are none, or no latents. Raises as generators."""
        if generator.metadata.directions is None:
            return None
        if generator.name not in self.known_directions:

            def read(cancel: Cancellation) -> Directions | None:
                client = self._client(generator.name)
                same = client.about("mapping").directions == generator.metadata.directions
                return client.directions() if same else None

            directions = await self._ask("models", read)
            if directions is None:
                self.asked_at = -math.inf
                raise SalonError(f"{generator.name} is being replaced just now")
            self.known_directions[generator.name] = directions
        return self.known_directions[generator.name]

    def missing(self, specs: Iterable[ImageSpec], generator: ServedGenerator) -> int:
        """Number of images that are not cached, and so would be generated."""
        return len({tag for spec in specs if (tag := spec.tag(generator.metadata)) not in self.images})

    def unclassified(self, specs: Iterable[ImageSpec], generator: ServedGenerator) -> int:
        """Number of images whose styles would be asked for."""
        tags = {spec.tag(generator.metadata) for spec in specs} if generator.styles else ()
        return sum(tag not in self.verdicts for tag in tags)

    def verdict(self, spec: ImageSpec, generator: ServedGenerator) -> Floats | None:
        """Probabilities of an image's styles, float32 [K]; None where they are not known yet, or no classifier is."""
        return self.verdicts.get(spec.tag(generator.metadata))

    async def generate(self, specs: Sequence[ImageSpec], generator: ServedGenerator, visitor: str = "") -> list[Pixels]:
        """The images, uint8 [H, W, C], all of one truncation and class.

        Raises Unavailable, SalonError and RequestError.
        """
        if any(spec.to is not None for spec in specs) and not generator.has_latents:
            raise RequestError(
                f"{generator.name} is served without its latents, which style mixing and interpolation need"
            )

        def generate(client: Client, wanted: list[ImageSpec], cancel: Cancellation) -> list[Pixels]:
            made = _generate(client, wanted, cancel)
            self.images_generated += len(made)
            return made

        spec_of = {spec.tag(generator.metadata): spec for spec in specs}
        images = await self._in_turns("generate", self.generating, self.images, spec_of, generator, generate, visitor)
        return [images[spec.tag(generator.metadata)] for spec in specs]

    async def classify(self, specs: Sequence[ImageSpec], generator: ServedGenerator, visitor: str = "") -> list[Floats]:
        """Probabilities of styles, float32 [K], of images, which are generated where they are not cached. Raises as
        generate does, and RequestError where no classifier is served.
        """
        if not generator.styles:
            raise RequestError(f"{generator.name} is served without a style classifier")
        images = await self.generate(specs, generator, visitor)
        of_tag = {spec.tag(generator.metadata): image for spec, image in zip(specs, images, strict=True)}

        def classify(client: Client, wanted: list[Pixels], cancel: Cancellation) -> list[Floats]:
            return list(client.classify(wanted, cancel=cancel))

        rows = await self._in_turns("classify", self.classifying, self.verdicts, of_tag, generator, classify, visitor)
        return [rows[tag] for tag in (spec.tag(generator.metadata) for spec in specs)]

    def refresh(self) -> dict[str, ServedGenerator]:
        """Generators by name, asked of the server now. Raises SalonError when it does not answer."""
        self._adopt(self.threads["models"].submit(self._read_generators).result())
        return self.served

    def close(self) -> None:
        """End what is under way."""
        _close(self.clients.values())
        for thread in self.threads.values():
            thread.shutdown(cancel_futures=True)

    async def _in_turns(
        self,
        thread: str,
        turns: Turns,
        cache: Cache[Result],
        wanted: dict[str, Item],
        generator: ServedGenerator,
        work: Callable[[Client, list[Item], Cancellation], list[Result]],
        visitor: str,
    ) -> dict[str, Result]:
        # What `work` makes of the items, by tag: TURN of them a turn, each of which is kept at once.
        results: dict[str, Result] = {}
        while True:
            results |= {tag: kept for tag in wanted if tag not in results and (kept := cache.get(tag)) is not None}
            if len(results) == len(wanted):
                return results
            async with turns.turn(visitor):
                missing = [tag for tag in wanted if tag not in results and tag not in cache][:TURN]
                if missing:  # else another visitor asked for the same
                    items = [wanted[tag] for tag in missing]
                    made = await self._ask(thread, partial(work, self._client(generator.name), items))
                    for tag, result in zip(missing, made, strict=True):
                        results[tag] = result
                        cache.keep(tag, result)

    def _is_stale(self) -> bool:
        if self.gone and time.monotonic() - self.gone_at < PAUSE:  # else visitors would queue for the same refusal
            raise Unavailable("the server is not there")
        return self.gone or time.monotonic() - self.asked_at >= FRESH

    async def _ask(self, thread: str, work: Callable[[Cancellation], Result]) -> Result:
        try:
            answer = await in_thread(self.threads[thread], work)
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
        if served != self.served:  # clients remember the models' metadata, and verdicts are of the old classifier
            old, self.clients = list(self.clients.values()), {}
            # Behind what is under way on either thread.
            self.threads["generate"].submit(self.threads["classify"].submit, _close, old)
            self.known_directions.clear()
            self.images.clear()
            self.verdicts.clear()
        self.served, self.asked_at = served, time.monotonic()


def _close(clients: Iterable[Client]) -> None:
    for client in clients:
        client.close()


async def in_thread(thread: ThreadPoolExecutor, work: Callable[[Cancellation], Result]) -> Result:
    """Result of `work`, which is cancelled together with whoever waits for it: that wait ends when it has ended."""
    cancel = Cancellation()
    under_way = asyncio.get_running_loop().run_in_executor(thread, work, cancel)
    try:
        return await asyncio.shield(under_way)
    except asyncio.CancelledError:
        cancel.cancel()
        await asyncio.wait([under_way])
        if not under_way.cancelled():
            under_way.exception()  # is nobody's any more
        raise


def group(models: Sequence[ModelMetadata]) -> dict[str, ServedGenerator]:
    """Generators by name, each with what belongs to it, among the models of a server. Raises SalonError for none."""
    kinds: dict[str, set[str]] = {}
    for metadata in models:
        kinds.setdefault(metadata.generator or DEFAULT_NAME, set()).add(metadata.kind)
    styles = next((tuple(metadata.styles) for metadata in models if metadata.kind == CLASSIFIER), ())
    directions = {metadata.generator or DEFAULT_NAME: metadata.directions for metadata in models if metadata.directions}
    generators = {}
    for metadata in models:
        if metadata.kind == "generator":
            name = metadata.generator or DEFAULT_NAME
            served = ServedGenerator(name, metadata, frozenset(kinds[name]), styles)
            if served.has_latents:
                served = replace(served, metadata=replace(metadata, directions=directions.get(name)))
            generators[name] = served
    if not generators:
        raise SalonError("no generator is served there; salon export makes a model repository with one")
    return generators


def _generate(client: Client, specs: Sequence[ImageSpec], cancel: Cancellation) -> list[Pixels]:
    # An image always comes from the same models, whatever it is asked for together with: its bytes never change.
    of_seeds = [spec for spec in specs if spec.to is None and not spec.edits]
    of_latents = [spec for spec in specs if spec.to is not None or spec.edits]
    images: dict[ImageSpec, Pixels] = {}
    if of_seeds:
        seeds, psi, label = [spec.seed for spec in of_seeds], of_seeds[0].psi, of_seeds[0].label
        generated = client.generate(seeds, truncation_psi=psi, label=label, cancel=cancel)
        images |= zip(of_seeds, map(np.asarray, generated), strict=True)
    if of_latents:
        images |= zip(
            of_latents, map(np.asarray, client.synthesize(_ws(client, of_latents, cancel), cancel=cancel)), strict=True
        )
    return [images[spec] for spec in specs]


def _ws(client: Client, specs: Sequence[ImageSpec], cancel: Cancellation) -> Floats:
    # ws [N, num_ws, w_dim] of style mixes, interpolations and edited images.
    seeds = sorted({seed for spec in specs for seed in spec.seeds()})
    ws = client.map_seeds(seeds, truncation_psi=specs[0].psi, label=specs[0].label, cancel=cancel)
    ws_of = dict(zip(seeds, ws, strict=True))
    directions = client.directions() if any(spec.edits for spec in specs) else None
    return np.concatenate(
        [combine(spec, np.stack([ws_of[seed] for seed in spec.seeds()]), directions) for spec in specs]
    )
