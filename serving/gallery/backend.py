"""Between the gallery and the server: asks it for pictures, keeps those it has, knows whether it is there."""

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
from serving.contract import DEFAULT_NAME, ModelMetadata
from serving.gallery.scenes import Picture, combine

CACHE_BYTES = 128 << 20  # of pixels
FRESH = 5.0  # seconds for which what the server said of its models holds
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
class Painted:
    """A picture, uint8 [H, W, 3], and the probabilities of its styles [K], where a classifier is served."""

    pixels: Pixels
    probabilities: Floats | None


@dataclass(frozen=True)
class Painter:
    """A generator that is served, and what else is served for it."""

    name: str
    about: ModelMetadata
    kinds: frozenset[str]
    styles: tuple[str, ...]

    @property
    def mixes(self) -> bool:
        """Whether its latents can be had and painted, for mixes and journeys."""
        return {"mapping", "synthesis"} <= self.kinds


class Backend:
    """All painters of a server. `connect` gives a client for a generator's name.

    One thread speaks with the server, and one call after the other: equal requests are painted once, and the client
    sends the parts of a call at the same time.
    """

    def __init__(self, connect: Callable[[str], Client]) -> None:
        self.connect = connect
        self.thread = ThreadPoolExecutor(1, "studio")
        self.turn = asyncio.Lock()
        self.clients: dict[str, Client] = {}
        self.kept: OrderedDict[str, Painted] = OrderedDict()  # by tag, the least recently used first
        self.bytes = self.painted = 0
        self.known: dict[str, Painter] = {}
        self.asked_at = self.gone_at = -math.inf
        self.gone = False

    async def painters(self) -> dict[str, Painter]:
        """The generators, in the server's order. Raises Unavailable while it is gone, SalonError where it has none."""
        if self._is_stale():
            async with self.turn:  # whoever waited for the same answer has it
                if self._is_stale():
                    self._adopt(await self._ask(self._look))
        return self.known

    async def painter(self, name: str) -> Painter:
        """The generator of a name, or the first one for "". Raises RequestError too, when there is none."""
        painters = await self.painters()
        if name and name not in painters:
            raise RequestError(f"model must be one of {', '.join(painters)}; got {name[:100]} instead")
        return painters[name] if name else next(iter(painters.values()))

    def has(self, pictures: Iterable[Picture], painter: Painter) -> bool:
        """Whether all of them are kept, so that the server need not be asked."""
        return all(picture.tag(painter.about) in self.kept for picture in pictures)

    async def paint(self, pictures: Sequence[Picture], painter: Painter) -> list[Painted]:
        """The pictures, all of one truncation and class. Raises Unavailable, SalonError and RequestError."""
        if any(picture.to is not None for picture in pictures) and not painter.mixes:
            raise RequestError(f"{painter.name} is served without its latents, which mixes and journeys need")
        tags = [picture.tag(painter.about) for picture in pictures]
        found = {tag: self.kept[tag] for tag in tags if tag in self.kept}
        if any(tag not in found for tag in tags):
            async with self.turn:  # whoever waited for the same pictures finds them made
                found = {tag: self.kept[tag] for tag in tags if tag in self.kept}
                missing = {tag: p for tag, p in zip(tags, pictures, strict=True) if tag not in found}
                if missing:
                    some = list(missing.values())
                    made = await self._ask(lambda: _paint(self._client(painter.name), some, painter))
                    self.painted += len(made)
                    found |= dict(zip(missing, made, strict=True))
        for tag, painted in found.items():
            self._keep(tag, painted)
        return [found[tag] for tag in tags]

    def look(self) -> dict[str, Painter]:
        """The generators, asked of the server now. Raises SalonError when it does not answer."""
        self._adopt(self.thread.submit(self._look).result())
        return self.known

    def close(self) -> None:
        """End what is under way."""
        self._forget()
        self.thread.shutdown(cancel_futures=True)

    def _is_stale(self) -> bool:
        if self.gone and time.monotonic() - self.gone_at < PAUSE:  # else visitors would queue for the same refusal
            raise Unavailable("the server is not there")
        return self.gone or time.monotonic() - self.asked_at >= FRESH

    async def _ask(self, work: Callable[[], Result]) -> Result:
        try:
            done = await asyncio.get_running_loop().run_in_executor(self.thread, work)
        except Unavailable as error:
            if not self.gone:
                say(f"The server is gone: {error}")
            self.gone, self.gone_at = True, time.monotonic()
            raise
        except RequestError as error:  # what was asked was checked before: the models are not those that were known
            self.asked_at = -math.inf
            raise SalonError(str(error)) from error
        if self.gone:
            say("The server is back")
        self.gone = False
        return done

    def _client(self, name: str) -> Client:
        if name not in self.clients:
            self.clients[name] = self.connect(name)
        return self.clients[name]

    def _look(self) -> dict[str, Painter]:
        return group(self._client(DEFAULT_NAME).models())

    def _adopt(self, known: dict[str, Painter]) -> None:
        if known != self.known:  # clients remember what models say of themselves, and what is kept has old verdicts
            self._forget()
            self.kept.clear()
            self.bytes = 0
        self.known, self.asked_at = known, time.monotonic()

    def _forget(self) -> None:
        forgotten, self.clients = self.clients, {}
        for client in forgotten.values():
            client.close()

    def _keep(self, tag: str, painted: Painted) -> None:
        if tag not in self.kept:
            self.bytes += painted.pixels.nbytes
        self.kept[tag] = painted
        self.kept.move_to_end(tag)
        while self.bytes > CACHE_BYTES:
            self.bytes -= self.kept.popitem(last=False)[1].pixels.nbytes


def group(models: Sequence[ModelMetadata]) -> dict[str, Painter]:
    """The generators among the models of a server, each with what belongs to it. Raises SalonError for none."""
    kinds: dict[str, set[str]] = {}
    for about in models:
        kinds.setdefault(about.generator or DEFAULT_NAME, set()).add(about.kind)
    styles = next((tuple(about.styles) for about in models if about.kind == "style_classifier"), ())
    found = {}
    for about in models:
        if about.kind == "generator":
            name = about.generator or DEFAULT_NAME
            found[name] = Painter(name=name, about=about, kinds=frozenset(kinds[name]), styles=styles)
    if not found:
        raise SalonError("no generator is served there; salon export makes a model repository with one")
    return found


def _paint(client: Client, pictures: Sequence[Picture], painter: Painter) -> list[Painted]:
    # A picture always comes from the same models, whatever it is asked for together with: its bytes never change.
    plain = [picture for picture in pictures if picture.to is None]
    others = [picture for picture in pictures if picture.to is not None]
    made = dict(zip(plain, _paint_seeds(client, plain, painter), strict=True)) if plain else {}
    if others:
        made |= dict(zip(others, _paint_latents(client, others, painter), strict=True))
    return [made[picture] for picture in pictures]


def _paint_seeds(client: Client, pictures: Sequence[Picture], painter: Painter) -> list[Painted]:
    seeds, psi, label = [picture.seed for picture in pictures], pictures[0].psi, pictures[0].label
    if "generate_and_classify" in painter.kinds:
        both = client.generate_and_classify(seeds, truncation_psi=psi, label=label)
        return [Painted(np.asarray(pixels), np.asarray(row)) for pixels, row in both]
    return _judged(client, list(client.generate(seeds, truncation_psi=psi, label=label)), painter)


def _paint_latents(client: Client, pictures: Sequence[Picture], painter: Painter) -> list[Painted]:
    seeds = sorted({seed for picture in pictures for seed in picture.seeds()})
    ws = client.map_seeds(seeds, truncation_psi=pictures[0].psi, label=pictures[0].label)
    rows = dict(zip(seeds, ws, strict=True))
    mixed = [combine(picture, np.stack([rows[seed] for seed in picture.seeds()])) for picture in pictures]
    return _judged(client, list(client.synthesize(np.concatenate(mixed))), painter)


def _judged(client: Client, images: Sequence[Pixels], painter: Painter) -> list[Painted]:
    judged = client.classify(images) if painter.styles else [None] * len(images)
    return [Painted(pixels, row) for pixels, row in zip(images, judged, strict=True)]
