"""The web gallery: a page for people who look rather than type, and the addresses of its pictures.

/         the page; its address holds all that it shows
/about    generators, classes, styles, limits, as JSON
/scene    what a view shows, as JSON: addresses of pictures, titles, verdicts. Paints what is not kept
/image    one picture as PNG, JPEG or lossless WebP
/journey  an animation from one seed to another and back, as WebP or MP4
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
from serving.gallery.access import RateLimit, TooMany
from serving.gallery.backend import Backend, Client, Painted, Painter
from serving.gallery.scenes import PARTS, Picture, image_format, scene

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
WALL = 12  # pictures, where `max_images` allows
PARAMETERS = ("view", "model", "seed", "psi", "class", "to", "layers", "step", "steps", "count", "format", "v")
FPS = 12
RETRY = "3"  # seconds, while the server fails
MOVIES = {"webp": "image/webp", "mp4": "video/mp4"}


class Gallery:
    """The application. `connect` gives a client for a generator's name; `hosts` are the names that it answers to."""

    def __init__(
        self,
        connect: Callable[[str], Client],
        *,
        model: str = "",
        max_images: int = 16,
        rate: tuple[int, float] = (60, 60.0),
        hosts: Sequence[str] = (),
    ) -> None:
        self.studio = Backend(connect)
        self.model = model  # shown first; "": the first one
        self.max_images = max_images
        self.limit = RateLimit(*rate)
        routes = [
            web.text_route("/", page.html("Salon", head=HEAD, body=page.read("serving.gallery", "gallery.html"))),
            *(web.file_route(page.PACKAGE, name) for name in ("page.css", "page.js")),
            *(web.file_route("serving.gallery", name) for name in FILES),
            Route("/about", self.about),
            Route("/scene", self.scene),
            Route("/image", self.image),
            Route("/journey", self.journey),
        ]
        errors: Any = {RequestError: _refused, TooMany: _too_many, Unavailable: _gone, SalonError: _failed}
        guard = Middleware(web.Guard, hosts=hosts, refuse=_unknown, headers={"Content-Security-Policy": POLICY})
        self.app = Starlette(routes=routes, middleware=[guard], exception_handlers=errors, lifespan=self._life)

    def check(self) -> None:
        """Ask the server once. Raises SalonError when it does not answer, RequestError when it lacks `model`."""
        painters = self.studio.look()
        if self.model and self.model not in painters:
            raise RequestError(f"`model` must be one of {', '.join(painters)}; got {self.model} instead")

    async def about(self, request: Request) -> Response:
        """What there is to choose from."""
        painters = await self.studio.painters()
        first = await self.studio.painter(self.model)
        shown = [
            {
                "name": painter.name,
                "resolution": painter.about.resolution,
                "classes": _class_names(painter),
                "mixes": painter.mixes,
                "snapshot": _short(painter),
            }
            for painter in painters.values()
        ]
        figures = {
            "models": shown,
            "model": first.name,
            "parts": PARTS,
            "max_images": self.max_images,
            "wall": min(WALL, self.max_images),
            "max_seed": MAX_SEED,
            "psi": PSI_RANGE,
        }
        return JSONResponse(figures, headers={"Cache-Control": "no-store"})

    async def scene(self, request: Request) -> Response:
        """The pictures of a view, painted: those that /image then gives from what is kept."""
        painter, picture = await self._asked(request)
        pictures = scene(request.query_params.get("view", "picture"), picture, self._count(request))
        painted = await self._paint(request, pictures, painter)
        shown = [_shown(*pair, painter) for pair in zip(pictures, painted, strict=True)]
        return JSONResponse({"pictures": shown, "snapshot": _short(painter)}, headers={"Cache-Control": "no-store"})

    async def image(self, request: Request) -> Response:
        """A picture file. Where the address names the snapshot (`v`), it never changes."""
        painter, picture = await self._asked(request)
        format = image_format(request.query_params.get("format", "webp"))
        tag = f'"{picture.tag(painter.about)}-{format}"'
        fixed = request.query_params.get("v") == _short(painter) != ""
        headers = {
            "ETag": tag,
            "Cache-Control": "private, max-age=31536000, immutable" if fixed else "private, no-cache",
        }
        if tag in [each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")]:
            return Response(status_code=304, headers=headers)
        (painted,) = await self._paint(request, [picture], painter)
        body = await asyncio.to_thread(encode, Image.fromarray(painted.pixels), format)
        return Response(body, media_type=f"image/{format}", headers=headers)

    async def journey(self, request: Request) -> Response:
        """An animation file, which loops."""
        painter, picture = await self._asked(request)
        format = request.query_params.get("format", "webp")
        if format not in MOVIES:
            raise RequestError(f"format must be one of {', '.join(MOVIES)}; got {format} instead")
        pictures = scene("journey", picture, self._count(request))
        pixels = [painted.pixels for painted in await self._paint(request, pictures, painter)]
        body = await asyncio.to_thread(_movie, [*pixels, *pixels[-2:0:-1]], format)
        return Response(body, media_type=MOVIES[format], headers={"Cache-Control": "private, no-cache"})

    async def _asked(self, request: Request) -> tuple[Painter, Picture]:
        query = request.query_params
        if unknown := [name for name in query if name not in PARAMETERS]:
            known = ", ".join(PARAMETERS)
            raise RequestError(f"an address must have some of {known}; got {unknown[0][:40]!r} instead")
        painter = await self.studio.painter(query.get("model") or self.model)
        return painter, Picture.from_query({**query, "model": painter.name}, painter.about, self.max_images)

    def _count(self, request: Request) -> int:
        text = request.query_params.get("count", "1")
        if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= self.max_images):
            raise RequestError(f"count must be from 1 to {self.max_images}; got {text[:40]!r} instead")
        return int(text)

    async def _paint(self, request: Request, pictures: Sequence[Picture], painter: Painter) -> list[Painted]:
        # What is kept costs nothing and is not counted: a wall is one request, whatever its pictures.
        if not self.studio.has(pictures, painter):
            wait = self.limit.wait(request.client.host if request.client else "")
            if wait:
                raise TooMany(self.limit, wait)
        return await self.studio.paint(pictures, painter)

    @asynccontextmanager
    async def _life(self, app: Starlette) -> AsyncIterator[None]:
        yield
        self.studio.close()


def _shown(picture: Picture, painted: Painted, painter: Painter) -> dict[str, Any]:
    """What the page is told of a picture."""
    verdict: list[tuple[str, float]] | None = None
    if painted.probabilities is not None:
        pairs = zip(painter.styles, map(float, painted.probabilities), strict=True)
        verdict = sorted(((style, round(p, 4)) for style, p in pairs), key=lambda pair: -pair[1])[:3]
    names = _class_names(painter)
    label = "" if picture.label is None else f", {names[picture.label]}"
    judged = f", judged {verdict[0][0]} at {verdict[0][1]:.0%}" if verdict else ""
    address = f"image?{picture.query()}&v={_short(painter)}"
    return {
        "seed": picture.seed,
        "title": picture.title(),
        "alt": f"{picture.title()}, painted by {painter.name}{label}{judged}",
        "src": f"{address}&format=webp",
        "file": f"{address}&format=png",
        "name": f"{picture.file_name()}.png",
        "verdict": verdict,
    }


def _class_names(painter: Painter) -> list[str]:
    number = painter.about.num_classes
    names = painter.about.classes
    return list(names) if len(names) == number else [str(i) for i in range(number)]


def _short(painter: Painter) -> str:
    return (painter.about.snapshot or "")[:12]


def _movie(frames: Sequence[Pixels], format: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"journey.{format}"
        animation.save(frames, path, FPS)
        return path.read_bytes()


def _unknown(host: str) -> Response:
    text = f"This gallery is not {host[:100]}. If it should be, allow this host name when you start it.\n"
    return PlainTextResponse(text, 421)


def _refused(request: Request, error: Exception) -> Response:
    return PlainTextResponse(f"{error}\n", 400)


def _too_many(request: Request, error: TooMany) -> Response:
    return PlainTextResponse(f"{error}\n", 429, headers={"Retry-After": str(error.seconds)})


def _gone(request: Request, error: Exception) -> Response:
    text = "The server that paints is not there. The gallery looks for it every few seconds.\n"
    return PlainTextResponse(text, 503, headers={"Retry-After": RETRY})


def _failed(request: Request, error: Exception) -> Response:
    say(f"The server could not paint: {error}")
    return PlainTextResponse(f"The server could not paint this: {error}\n", 502, headers={"Retry-After": RETRY})
