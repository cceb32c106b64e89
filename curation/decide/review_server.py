"""A local page on which a person overrules or confirms verdicts, and the new manifest that they make.

Each verdict is on disk, beside the manifest to come, before the page shows it: whatever ends the review, the same
command goes on with it. The page is served to this machine alone, below a path that nobody can guess.
"""

import json
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from curation.child_manifest import relative
from curation.decide import review_page
from curation.decide.prune import with_columns
from gan import __version__
from gan.data import manifest
from gan.data.dataset import ImageDataset
from gan.data.images import encode, for_display
from gan.errors import RequestError
from gan.runtime import web

COMMAND = "salon curate review"
OVERRULED, CONFIRMED = "overruled", "confirmed"  # codes of reasons
MAX_BODY = 10_000  # bytes of a request


@dataclass(kw_only=True)
class ReviewSession:
    """A person's verdicts on images of `found`, in a journal of JSON lines beside `out`. Safe to use from threads.

    Raises RequestError when `out` exists, or the journal there is of another manifest or reviewer.
    """

    found: manifest.Manifest
    reviewer: str
    out: Path
    verdicts: dict[str, str] = field(default_factory=dict)  # name -> keep or drop; of those confirmed, too
    _lock: Lock = field(default_factory=Lock, repr=False)

    def __post_init__(self) -> None:
        if not self.reviewer.strip() or self.reviewer.startswith("salon "):
            raise RequestError(f"`reviewer` must be a person's name; got {self.reviewer!r} instead")
        if self.out.exists():
            raise RequestError(f"`out` would replace {self.out}; choose another")
        named = self.found.rows.filter(pc.is_valid(self.found.rows.column("name")))
        columns = (named.column(name).to_pylist() for name in ("name", "verdict"))
        self._before: dict[str, str] = dict(zip(*columns, strict=True))
        origin = {"manifest": self.found.hash, "reviewer": self.reviewer}
        if not self.journal.exists():
            self._append(origin)
            return
        text = self.journal.read_bytes()
        whole = text[: text.rfind(b"\n") + 1]  # a last line that was cut off does not count
        os.truncate(self.journal, len(whole))
        lines = whole.splitlines()
        try:
            first, *entries = [json.loads(line) for line in lines]
        except ValueError as error:
            raise RequestError(f"{self.journal} must be the journal of a review; it is damaged: {error}") from error
        if first != origin:
            raise RequestError(f"{self.journal} is of a review of another manifest or by another person; move it away")
        for entry in entries:
            self._take(entry["name"], entry["verdict"])

    @property
    def journal(self) -> Path:
        """Where each verdict is written down at once."""
        return self.out.with_name(f"{self.out.name}.overrulings.jsonl")

    def overrule(self, name: str, verdict: str) -> dict[str, Any]:
        """Record "keep", "drop" or "undo" for an image -> what the page shows of it now.

        The verdict that the image has already is confirmed: it was looked at.
        Raises RequestError for an unknown image or verdict.
        """
        if name not in self._before or verdict not in (manifest.KEEP, manifest.DROP, "undo"):
            raise RequestError(f"a verdict must be keep, drop or undo on a known image; got {verdict} on {name}")
        with self._lock:
            self._append({"name": name, "verdict": verdict})
            self._take(name, verdict)
        return self.shown(name)

    def shown(self, name: str) -> dict[str, Any]:
        """What the page shows of an image."""
        before = self._before[name]
        verdict = self.verdicts.get(name)
        return {
            "verdict": verdict or before,
            "overruled": verdict not in (None, before),
            "confirmed": verdict == before,
            "before": before,
        }

    def counts(self) -> dict[str, int]:
        """How many verdicts were overruled, and how many confirmed."""
        confirmed = sum(verdict == self._before[name] for name, verdict in self.verdicts.items())
        return {OVERRULED: len(self.verdicts) - confirmed, CONFIRMED: confirmed}

    def finish(self) -> str | None:
        """Write the new manifest and remove the journal -> its hash; None, and no manifest, for no verdict."""
        digest = None
        if self.verdicts:
            digest = manifest.write_tables(
                self.out,
                self._tables(),
                dataset=self.found.dataset,
                parent=self.found.hash,
                parent_at=relative(self.found.path, self.out),
                command=COMMAND,
                parameters={"reviewer": self.reviewer, **self.counts()},
                versions={"salon": __version__},
            )
        self.journal.unlink()
        return digest

    def _take(self, name: str, verdict: str) -> None:
        if verdict == "undo":
            self.verdicts.pop(name, None)
        else:
            self.verdicts[name] = verdict

    def _append(self, entry: dict[str, str]) -> None:
        self.journal.parent.mkdir(parents=True, exist_ok=True)
        with open(self.journal, "a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _tables(self) -> Iterator[pa.Table]:
        for part in manifest.parts(self.found.path):
            names = part.column("name").to_pylist()
            texts = {name: part.column(name).to_pylist() for name in ("verdict", "reason", "reviewer")}
            for i in np.flatnonzero([name in self.verdicts for name in names]).tolist():
                verdict = self.verdicts[names[i]]
                texts["reason"][i] = _reason(verdict, texts["verdict"][i], texts["reason"][i])
                texts["verdict"][i], texts["reviewer"][i] = verdict, self.reviewer
            yield with_columns(part, {name: pa.array(values, pa.string()) for name, values in texts.items()})


def _reason(verdict: str, before: str, reason: str | None) -> str:
    if verdict == before:
        return f"{CONFIRMED}: {reason}" if reason else CONFIRMED
    return f"{OVERRULED}: was {before}, {reason or 'no reason'}"


def application(shown: dict[str, Any], overrulings: ReviewSession, dataset: ImageDataset, token: str) -> Starlette:
    """The page at /`token`/, which records what is overruled. Nobody who does not know `token` is answered.

    /TOKEN/           the page, with the verdicts as they are now
    /TOKEN/image      an image of `dataset` in its own size, by `name`
    /TOKEN/verdict    takes a verdict
    """
    indices = {name: index for index, name in enumerate(dataset.names)}

    def allowed(request: Request) -> bool:
        # A page of another site may neither read through a name that it points here, nor post from its own.
        origin, host = request.headers.get("origin"), request.headers["host"]
        known = secrets.compare_digest(request.path_params["token"].encode(), token.encode())
        return known and origin in (None, f"http://{host}", f"https://{host}")

    def page(request: Request) -> Response:
        if not allowed(request):
            return _not_here()
        images = [image | overrulings.shown(image["id"]) for image in shown["images"]]
        return HTMLResponse(review_page.html(shown | {"images": images, "reviewer": overrulings.reviewer}))

    def image(request: Request) -> Response:
        index = indices.get(request.query_params.get("name", ""))
        if not allowed(request) or index is None:
            return _not_here()
        body = encode(Image.fromarray(for_display(dataset.image(index))), "jpeg")
        return Response(body, media_type="image/jpeg")

    async def verdict(request: Request) -> Response:
        if not allowed(request):
            return _not_here()
        try:
            if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
                raise RequestError("a request must be a short JSON object")
            asked = json.loads(await web.read_body(request, MAX_BODY))
            answer = await run_in_threadpool(overrulings.overrule, str(asked["name"]), str(asked["verdict"]))
        except (RequestError, ValueError, KeyError, TypeError) as error:
            return PlainTextResponse(str(error), HTTPStatus.BAD_REQUEST)
        except OSError as error:  # a full disk: nothing was recorded, and the page says so
            return PlainTextResponse(str(error), HTTPStatus.INSUFFICIENT_STORAGE)
        return JSONResponse(answer)

    routes = [
        Route("/{token}/", page),
        Route("/{token}/image", image),
        Route("/{token}/verdict", verdict, methods=["POST"]),
    ]
    # What the page may load stands in it, as it also does in a file.
    headers = {"Content-Security-Policy": "frame-ancestors 'none'", "Cache-Control": "no-store"}
    guard = Middleware(web.Guard, hosts=(), refuse=_not_here, headers=headers)
    elsewhere: Any = {HTTPStatus.NOT_FOUND: lambda _request, _error: _not_here()}
    return Starlette(routes=routes, middleware=[guard], exception_handlers=elsewhere)


def _not_here(_host: str = "") -> Response:
    # The same for all: who guesses learns nothing.
    text = "Not here. The page has a secret in its address: open the whole one that the terminal shows."
    return PlainTextResponse(text, HTTPStatus.NOT_FOUND)
