"""The web gallery: its page, and the addresses of its images.

/         the page; its address holds all that it shows
/about    generators, classes, limits, as JSON
/scene    images of a view, as JSON: addresses, captions, styles as far as they are known. Generates what is not cached
/styles   styles of the same images with probabilities, as JSON: the classifier takes longer than the generator
/image    one image as PNG, JPEG or lossless WebP
/journey  an interpolation from one seed to another and back, as WebP or MP4
"""

import hashlib
import math
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from gan.data.images import Pixels, encode, for_display, to_image
from gan.data.recipe import Recipe
from gan.errors import RequestError, SalonError
from gan.runtime import page, web
from gan.runtime.console import say
from gan.sampling import animation
from gan.sampling.directions import MOST, Directions
from gan.sampling.latents import MAX_SEED, Floats
from serving.client.cancel import Cancellation
from serving.client.retry import Unavailable
from serving.contract import PSI_RANGE
from serving.gallery.access import RateExceeded, RateLimit, visitor
from serving.gallery.backend import Backend, Client, ServedGenerator, in_thread
from serving.gallery.cache import Cache
from serving.gallery.scenes import PARTS, ImageSpec, image_format, scene
from serving.gallery.turns import Turns

FILES = ("gallery.css", "gallery.svg", "gallery.js", "gallery_controls.js", "gallery_directions.js")
POLICY = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}
HEAD = """<link rel="icon" href="gallery.svg" type="image/svg+xml">
<link rel="stylesheet" href="page.css">
<link rel="stylesheet" href="gallery.css">
<script src="page.js" defer></script>
<script src="gallery_controls.js" defer></script>
<script src="gallery_directions.js" defer></script>
<script src="gallery.js" defer></script>"""
GRID = 12  # images, where `max_images` allows; so many, generated or encoded, count as one request
SLIDER = {"usual": 3, "step": 0.1, "most": MOST}  # standard deviations along a direction, to either side
FILE_BYTES = 64 << 20  # of image files and animations that are kept
PARAMETERS = ("view", "model", "seed", "psi", "class", "to", "layers", "step", "steps", "edits", "count", "format", "v")
FPS = 12
RETRY = "3"  # seconds, while the server fails
ANIMATIONS = {"webp": "image/webp", "mp4": "video/mp4"}


class Gallery:
    """The application `app`. `connect` gives a client for a generator's name.

    `model` is the generator to show first (None: the first one that is served), `max_images` the limit of images in
    one request, `rate` requests and the seconds in which a client may make them, `hosts` the host names that requests
    may be for, `proxies` the addresses and networks of proxies that say whose request they hand on, `origins` the sites
    whose pages may read answers.
    """

    def __init__(
        self,
        connect: Callable[[str], Client],
        *,
        model: str | None = None,
        max_images: int = 16,
        rate: tuple[int, float] = (60, 60.0),
        hosts: Sequence[str] = (),
        proxies: Sequence[str] = (),
        origins: Sequence[str] = (),
    ) -> None:
        self.backend = Backend(connect)
        self.files: Cache[bytes] = Cache(FILE_BYTES, len)
        self.encoding = Turns()
        self.encoders = ThreadPoolExecutor(1, "gallery-animation"), ThreadPoolExecutor(2, "gallery-image")
        self.model = model
        self.max_images = max_images
        self.limit = RateLimit(*rate)
        routes = [
            web.text_route("/", page.html("Salon", head=HEAD, body=page.read("serving.gallery", "gallery.html"))),
            *(web.file_route(page.PACKAGE, name) for name in ("page.css", "page.js")),
            *(web.file_route("serving.gallery", name) for name in FILES),
            Route("/about", web.until_gone(self.about)),
            Route("/scene", web.until_gone(self.scene)),
            Route("/styles", web.until_gone(self.styles)),
            Route("/image", web.until_gone(self.image)),
            Route("/journey", web.until_gone(self.interpolation)),
        ]
        errors: Any = {RequestError: _refused, RateExceeded: _rate_exceeded, Unavailable: _gone, SalonError: _failed}
        middleware = [
            Middleware(web.Guard, hosts=hosts, refuse=_unknown, headers=POLICY, origins=origins),
            Middleware(CORSMiddleware, allow_origins=origins, expose_headers=["Retry-After"]),
        ]
        if proxies:
            middleware.insert(0, Middleware(ProxyHeadersMiddleware, trusted_hosts=list(proxies)))
        self.app = Starlette(routes=routes, middleware=middleware, exception_handlers=errors, lifespan=self._life)

    def check(self) -> None:
        """Ask the server once. Raises SalonError when it does not answer, RequestError when it lacks `model`."""
        generators = self.backend.refresh()
        if self.model and self.model not in generators:
            raise RequestError(f"`model` must be one of {', '.join(generators)}; got {self.model} instead")

    async def about(self, request: Request) -> Response:
        """Generators with their classes, and limits, as JSON."""
        generators = await self.backend.generators()
        first = await self.backend.generator(self.model)
        figures = {
            "models": [_generator_figures(each, await self.backend.directions(each)) for each in generators.values()],
            "model": first.name,
            "parts": PARTS,
            "max_images": self.max_images,
            "wall": min(GRID, self.max_images),
            "max_seed": MAX_SEED,
            "psi": PSI_RANGE,
            "slider": SLIDER,
        }
        return JSONResponse(figures, headers={"Cache-Control": "no-store"})

    async def scene(self, request: Request) -> Response:
        """Images of a view, as JSON, all generated: /image then gives them from the cache."""
        generator, spec = await self._read(request)
        specs = scene(request.query_params.get("view", "picture"), spec, self._count(request))
        await self._generate(request, specs, generator)
        figures = [_image_figures(each, self.backend.verdict(each, generator), generator) for each in specs]
        return JSONResponse(
            {"pictures": figures, "snapshot": spec.version(generator.metadata)}, headers={"Cache-Control": "no-store"}
        )

    async def styles(self, request: Request) -> Response:
        """Styles of the images of a view in the order of /scene, or of the image of /image, as JSON."""
        generator, spec = await self._read(request)
        view = request.query_params.get("view")
        specs = scene(view, spec, self._count(request)) if view else [spec]
        missing, unclassified = (count(specs, generator) for count in (self.backend.missing, self.backend.unclassified))
        self._count_against_rate(request, max(missing, unclassified))
        rows = await self.backend.classify(specs, generator, _visitor(request))
        verdicts = [_verdict(row, generator) for row in rows]
        return JSONResponse({"verdicts": verdicts}, headers={"Cache-Control": "no-store"})

    async def image(self, request: Request) -> Response:
        """An image file. Where the address names the snapshot (`v`), it never changes."""
        generator, spec = await self._read(request)
        format = image_format(request.query_params.get("format", "webp"))
        key = f"{spec.tag(generator.metadata)}-{format}"
        version = spec.version(generator.metadata)
        if not_changed := self._not_changed(request, key, version):
            return not_changed
        body = self.files.get(key)
        if body is None:
            (pixels,) = await self._generate(request, [spec], generator)
            recipe = spec.recipe(generator.metadata)
            body = await in_thread(self.encoders[1], lambda cancel: encode(to_image(pixels), format, recipe=recipe))
            self.files.keep(key, body)
        return Response(body, media_type=f"image/{format}", headers=self._caching(request, key, version))

    async def interpolation(self, request: Request) -> Response:
        """An animation file, which loops: from one seed to another and back."""
        generator, spec = await self._read(request)
        format = request.query_params.get("format", "webp")
        if format not in ANIMATIONS:
            raise RequestError(f"format must be one of {', '.join(ANIMATIONS)}; got {format} instead")
        specs = scene("journey", spec, self._count(request))
        tags = " ".join(spec.tag(generator.metadata) for spec in specs)
        key = f"{hashlib.sha256(tags.encode()).hexdigest()[:32]}-{format}"
        version = spec.version(generator.metadata)
        if not_changed := self._not_changed(request, key, version):
            return not_changed
        body = self.files.get(key)
        if body is None:
            self._count_against_rate(request, self.backend.missing(specs, generator) + 2 * len(specs) - 2)
            frames = await self.backend.generate(specs, generator, _visitor(request))
            async with self.encoding.turn(_visitor(request)):
                body = self.files.get(key)
                if body is None:  # else another visitor asked for the same
                    work = partial(_animation, [*frames, *frames[-2:0:-1]], format, spec.recipe(generator.metadata))
                    body = await in_thread(self.encoders[0], work)
                    self.files.keep(key, body)
        return Response(body, media_type=ANIMATIONS[format], headers=self._caching(request, key, version))

    async def _read(self, request: Request) -> tuple[ServedGenerator, ImageSpec]:
        query = request.query_params
        if unknown := [name for name in query if name not in PARAMETERS]:
            known = ", ".join(PARAMETERS)
            raise RequestError(f"an address must have some of {known}; got {unknown[0][:40]!r} instead")
        generator = await self.backend.generator(query.get("model") or self.model)
        directions = await self.backend.directions(generator) if query.get("edits") else None
        named = {**query, "model": generator.name}
        return generator, ImageSpec.from_query(named, generator.metadata, self.max_images, directions)

    def _count(self, request: Request) -> int:
        text = request.query_params.get("count", "1")
        if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= self.max_images):
            raise RequestError(f"count must be from 1 to {self.max_images}; got {text[:40]!r} instead")
        return int(text)

    async def _generate(self, request: Request, specs: Sequence[ImageSpec], generator: ServedGenerator) -> list[Pixels]:
        missing = self.backend.missing(specs, generator)
        self._count_against_rate(request, missing, alone=bool(missing == 1 and specs[0].edits))
        return await self.backend.generate(specs, generator, _visitor(request))

    def _count_against_rate(self, request: Request, images: int, alone: bool = False) -> None:
        # What is cached costs nothing and is not counted. Of images that follow a slider each is a request of its own;
        # they count `alone`, a dozen of them as one.
        tokens = images / GRID if alone else math.ceil(images / GRID)
        wait = self.limit.wait(_visitor(request), tokens) if images else 0.0
        if wait:
            raise RateExceeded(self.limit, wait)

    def _caching(self, request: Request, key: str, version: str) -> dict[str, str]:
        # Headers. A file whose address names the snapshot (`v`) never changes.
        fixed = request.query_params.get("v") == version != ""
        return {
            "ETag": f'"{key}"',
            "Cache-Control": "private, max-age=31536000, immutable" if fixed else "private, no-cache",
        }

    def _not_changed(self, request: Request, key: str, version: str) -> Response | None:
        headers = self._caching(request, key, version)
        known = [each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")]
        return Response(status_code=304, headers=headers) if headers["ETag"] in known else None

    @asynccontextmanager
    async def _life(self, app: Starlette) -> AsyncIterator[None]:
        yield
        self.backend.close()
        for encoder in self.encoders:
            encoder.shutdown(cancel_futures=True)


def _visitor(request: Request) -> str:
    return visitor(request.client.host if request.client else "")


def _generator_figures(generator: ServedGenerator, directions: Directions | None) -> dict[str, Any]:
    """What /about tells of a generator."""
    layers, entries = generator.metadata.num_ws, directions.entries.values() if directions else ()
    shape = generator.metadata.shape
    return {
        "name": generator.name,
        "resolution": generator.metadata.resolution,
        "width": shape.width,
        "height": shape.height,
        "channels": shape.channels,
        "classes": _class_names(generator),
        "mixes": generator.has_latents,
        "classifier": bool(generator.styles),
        "directions": [
            {"name": each.name, "layers": None if each.last + 1 - each.first == layers else [each.first, each.last]}
            for each in entries
        ],
        "snapshot": (generator.metadata.snapshot or "")[:12],
    }


def _image_figures(spec: ImageSpec, probabilities: Floats | None, generator: ServedGenerator) -> dict[str, Any]:
    """What /scene tells of an image."""
    label = "" if spec.label is None else f", class {_class_names(generator)[spec.label]}"
    address = f"image?{spec.query()}&v={spec.version(generator.metadata)}"
    return {
        "seed": spec.seed,
        "title": spec.title(),
        "alt": f"{spec.described()}, generated by {generator.name}{label}",
        "src": f"{address}&format=webp",
        "file": f"{address}&format=png",
        "name": f"{spec.file_name()}.png",
        "verdict": None if probabilities is None else _verdict(probabilities, generator),
    }


def _verdict(probabilities: Floats, generator: ServedGenerator) -> list[tuple[str, float]]:
    """The three most probable styles."""
    pairs = zip(generator.styles, map(float, probabilities), strict=True)
    return sorted(((style, round(p, 4)) for style, p in pairs), key=lambda pair: -pair[1])[:3]


def _class_names(generator: ServedGenerator) -> list[str]:
    number = generator.metadata.num_classes
    names = generator.metadata.classes
    return list(names) if len(names) == number else [str(i) for i in range(number)]


def _animation(frames: Sequence[Pixels], format: str, recipe: Recipe, cancel: Cancellation) -> bytes:
    def wanted() -> Iterator[Pixels]:
        for frame in frames:
            cancel.check()
            yield for_display(frame)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"interpolation.{format}"
        animation.save(wanted(), path, FPS, recipe=recipe)
        return path.read_bytes()


def _unknown(host: str) -> Response:
    text = f"This gallery is not {host[:100]}. If it should be, allow this host name when you start it.\n"
    return PlainTextResponse(text, 421)


def _refused(request: Request, error: Exception) -> Response:
    return PlainTextResponse(f"{error}\n", 400)


def _rate_exceeded(request: Request, error: RateExceeded) -> Response:
    return PlainTextResponse(f"{error}\n", 429, headers={"Retry-After": str(error.seconds)})


def _gone(request: Request, error: Exception) -> Response:
    text = "The server of the generator is not there. The gallery looks for it every few seconds.\n"
    return PlainTextResponse(text, 503, headers={"Retry-After": RETRY})


def _failed(request: Request, error: Exception) -> Response:
    say(f"The server could not generate: {error}")
    return PlainTextResponse(f"The server could not generate this: {error}\n", 502, headers={"Retry-After": RETRY})
