"""The web gallery: its page, and the addresses of its images.

/         the page; its address holds all that it shows
/about    generators, classes, limits, as JSON
/scene    images of a view, as JSON: addresses, captions, styles with probabilities. Generates what is not cached
/image    one image as PNG, JPEG or lossless WebP
/journey  an interpolation from one seed to another and back, as WebP or MP4
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from gan.data.images import Pixels, encode
from gan.errors import RequestError, SalonError
from gan.runtime import page, web
from gan.runtime.console import say
from gan.sampling import animation
from gan.sampling.latents import MAX_SEED
from serving.client.retry import Unavailable
from serving.contract import PSI_RANGE
from serving.gallery.access import RateExceeded, RateLimit
from serving.gallery.backend import Backend, Client, GeneratedImage, ServedGenerator
from serving.gallery.scenes import PARTS, ImageSpec, image_format, scene

FILES = ("gallery.css", "gallery.svg", "gallery.js", "gallery_controls.js")
POLICY = (
    "default-src 'none'; img-src 'self'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
HEAD = """<link rel="icon" href="gallery.svg" type="image/svg+xml">
<link rel="stylesheet" href="page.css">
<link rel="stylesheet" href="gallery.css">
<script src="page.js" defer></script>
<script src="gallery_controls.js" defer></script>
<script src="gallery.js" defer></script>"""
GRID = 12  # images, where `max_images` allows
PARAMETERS = ("view", "model", "seed", "psi", "class", "to", "layers", "step", "steps", "count", "format", "v")
FPS = 12
RETRY = "3"  # seconds, while the server fails
ANIMATIONS = {"webp": "image/webp", "mp4": "video/mp4"}


class Gallery:
    """The application `app`. `connect` gives a client for a generator's name.

    `model` is the generator to show first (None: the first one that is served), `max_images` the limit of images in
    one request, `rate` requests and the seconds in which a client may make them, `hosts` the host names that requests
    may be for.
    """

    def __init__(
        self,
        connect: Callable[[str], Client],
        *,
        model: str | None = None,
        max_images: int = 16,
        rate: tuple[int, float] = (60, 60.0),
        hosts: Sequence[str] = (),
    ) -> None:
        self.backend = Backend(connect)
        self.model = model
        self.max_images = max_images
        self.limit = RateLimit(*rate)
        routes = [
            web.text_route("/", page.html("Salon", head=HEAD, body=page.read("serving.gallery", "gallery.html"))),
            *(web.file_route(page.PACKAGE, name) for name in ("page.css", "page.js")),
            *(web.file_route("serving.gallery", name) for name in FILES),
            Route("/about", self.about),
            Route("/scene", self.scene),
            Route("/image", self.image),
            Route("/journey", self.interpolation),
        ]
        errors: Any = {RequestError: _refused, RateExceeded: _rate_exceeded, Unavailable: _gone, SalonError: _failed}
        guard = Middleware(web.Guard, hosts=hosts, refuse=_unknown, headers={"Content-Security-Policy": POLICY})
        self.app = Starlette(routes=routes, middleware=[guard], exception_handlers=errors, lifespan=self._life)

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
            "models": [_generator_figures(generator) for generator in generators.values()],
            "model": first.name,
            "parts": PARTS,
            "max_images": self.max_images,
            "wall": min(GRID, self.max_images),
            "max_seed": MAX_SEED,
            "psi": PSI_RANGE,
        }
        return JSONResponse(figures, headers={"Cache-Control": "no-store"})

    async def scene(self, request: Request) -> Response:
        """Images of a view, as JSON, all generated: /image then gives them from the cache."""
        generator, spec = await self._read(request)
        specs = scene(request.query_params.get("view", "picture"), spec, self._count(request))
        images = await self._generate(request, specs, generator)
        figures = [_image_figures(*pair, generator) for pair in zip(specs, images, strict=True)]
        return JSONResponse(
            {"pictures": figures, "snapshot": _snapshot_version(generator)}, headers={"Cache-Control": "no-store"}
        )

    async def image(self, request: Request) -> Response:
        """An image file. Where the address names the snapshot (`v`), it never changes."""
        generator, spec = await self._read(request)
        format = image_format(request.query_params.get("format", "webp"))
        tag = f'"{spec.tag(generator.metadata)}-{format}"'
        fixed = request.query_params.get("v") == _snapshot_version(generator) != ""
        headers = {
            "ETag": tag,
            "Cache-Control": "private, max-age=31536000, immutable" if fixed else "private, no-cache",
        }
        if tag in [each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")]:
            return Response(status_code=304, headers=headers)
        (image,) = await self._generate(request, [spec], generator)
        body = await asyncio.to_thread(encode, Image.fromarray(image.pixels), format)
        return Response(body, media_type=f"image/{format}", headers=headers)

    async def interpolation(self, request: Request) -> Response:
        """An animation file, which loops: from one seed to another and back."""
        generator, spec = await self._read(request)
        format = request.query_params.get("format", "webp")
        if format not in ANIMATIONS:
            raise RequestError(f"format must be one of {', '.join(ANIMATIONS)}; got {format} instead")
        specs = scene("journey", spec, self._count(request))
        frames = [image.pixels for image in await self._generate(request, specs, generator)]
        body = await asyncio.to_thread(_animation, [*frames, *frames[-2:0:-1]], format)
        return Response(body, media_type=ANIMATIONS[format], headers={"Cache-Control": "private, no-cache"})

    async def _read(self, request: Request) -> tuple[ServedGenerator, ImageSpec]:
        query = request.query_params
        if unknown := [name for name in query if name not in PARAMETERS]:
            known = ", ".join(PARAMETERS)
            raise RequestError(f"an address must have some of {known}; got {unknown[0][:40]!r} instead")
        generator = await self.backend.generator(query.get("model") or self.model)
        spec = ImageSpec.from_query({**query, "model": generator.name}, generator.metadata, self.max_images)
        return generator, spec

    def _count(self, request: Request) -> int:
        text = request.query_params.get("count", "1")
        if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= self.max_images):
            raise RequestError(f"count must be from 1 to {self.max_images}; got {text[:40]!r} instead")
        return int(text)

    async def _generate(
        self, request: Request, specs: Sequence[ImageSpec], generator: ServedGenerator
    ) -> list[GeneratedImage]:
        # Cached images cost nothing and are not counted: a grid is one request, whatever its images.
        if not self.backend.has(specs, generator):
            wait = self.limit.wait(request.client.host if request.client else "")
            if wait:
                raise RateExceeded(self.limit, wait)
        return await self.backend.generate(specs, generator)

    @asynccontextmanager
    async def _life(self, app: Starlette) -> AsyncIterator[None]:
        yield
        self.backend.close()


def _generator_figures(generator: ServedGenerator) -> dict[str, Any]:
    """What /about tells of a generator."""
    return {
        "name": generator.name,
        "resolution": generator.metadata.resolution,
        "classes": _class_names(generator),
        "mixes": generator.has_latents,
        "snapshot": _snapshot_version(generator),
    }


def _image_figures(spec: ImageSpec, image: GeneratedImage, generator: ServedGenerator) -> dict[str, Any]:
    """What /scene tells of an image."""
    styles: list[tuple[str, float]] | None = None  # the three most probable
    if image.probabilities is not None:
        pairs = zip(generator.styles, map(float, image.probabilities), strict=True)
        styles = sorted(((style, round(p, 4)) for style, p in pairs), key=lambda pair: -pair[1])[:3]
    label = "" if spec.label is None else f", class {_class_names(generator)[spec.label]}"
    classified = f", classified as {styles[0][0]} at {styles[0][1]:.0%}" if styles else ""
    address = f"image?{spec.query()}&v={_snapshot_version(generator)}"
    return {
        "seed": spec.seed,
        "title": spec.title(),
        "alt": f"{spec.title()}, generated by {generator.name}{label}{classified}",
        "src": f"{address}&format=webp",
        "file": f"{address}&format=png",
        "name": f"{spec.file_name()}.png",
        "verdict": styles,
    }


def _class_names(generator: ServedGenerator) -> list[str]:
    number = generator.metadata.num_classes
    names = generator.metadata.classes
    return list(names) if len(names) == number else [str(i) for i in range(number)]


def _snapshot_version(generator: ServedGenerator) -> str:
    # `v` in addresses: the first digits of the snapshot's SHA-256, "" where it is not known.
    return (generator.metadata.snapshot or "")[:12]


def _animation(frames: Sequence[Pixels], format: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"interpolation.{format}"
        animation.save(frames, path, FPS)
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
