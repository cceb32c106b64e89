"""A local page on which a person overrules verdicts, and the new manifest that they make.

Each overruling is on disk, beside the manifest to come, before the page shows it: whatever ends the review, the same
command goes on with it. The page is served to this machine alone, below a path that nobody can guess.
"""

import json
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.decide.prune import relative, with_columns
from curation.decide.review_page import page
from gan import __version__
from gan.data import manifest
from gan.errors import RequestError

COMMAND = "salon curate review"
REASON = "overruled"
MAX_BODY = 10_000  # bytes of a request


@dataclass(kw_only=True)
class ReviewSession:
    """A person's verdicts on images of `found`, in a journal of JSON lines beside `out`. Safe to use from threads.

    Raises RequestError when `out` exists, or the journal there is of another manifest or reviewer.
    """

    found: manifest.Manifest
    reviewer: str
    out: Path
    verdicts: dict[str, str] = field(default_factory=dict)  # name -> keep or drop
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
        """Where each overruling is written down at once."""
        return self.out.with_name(f"{self.out.name}.overrulings.jsonl")

    def overrule(self, name: str, verdict: str) -> dict[str, Any]:
        """Record "keep", "drop" or "undo" for an image -> what the page shows of it now.

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
        return {"verdict": self.verdicts.get(name, self._before[name]), "overruled": name in self.verdicts}

    def finish(self) -> str | None:
        """Write the new manifest and remove the journal -> its hash; None, and no manifest, for no overruling."""
        digest = None
        if self.verdicts:
            digest = manifest.write_tables(
                self.out,
                self._tables(),
                dataset=self.found.dataset,
                parent=self.found.hash,
                parent_at=relative(self.found.path, self.out),
                command=COMMAND,
                parameters={"reviewer": self.reviewer, "overruled": len(self.verdicts)},
                versions={"salon": __version__},
            )
        self.journal.unlink()
        return digest

    def _take(self, name: str, verdict: str) -> None:
        if verdict == "undo" or verdict == self._before[name]:
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
                texts["reason"][i] = f"{REASON}: was {texts['verdict'][i]}, {texts['reason'][i] or 'no reason'}"
                texts["verdict"][i], texts["reviewer"][i] = verdict, self.reviewer
            yield with_columns(part, {name: pa.array(values, pa.string()) for name, values in texts.items()})


def server(shown: dict[str, Any], overrulings: ReviewSession, port: int = 0) -> tuple[ThreadingHTTPServer, str]:
    """A server of the page on 127.0.0.1 that records what is overruled, and its address. Port 0: any free one.

    Raises RequestError when the port is taken.
    """
    token = secrets.token_urlsafe(24)
    images = [image | overrulings.shown(image["id"]) for image in shown["images"]]
    html = page(shown | {"images": images, "reviewer": overrulings.reviewer}).encode()

    class Page(BaseHTTPRequestHandler):
        server: ThreadingHTTPServer

        def do_GET(self) -> None:
            if self._allowed(f"/{token}/"):
                self._answer(HTTPStatus.OK, html, "text/html; charset=utf-8")

        def do_POST(self) -> None:
            if not self._allowed(f"/{token}/verdict"):
                return
            try:
                length = int(self.headers.get("Content-Length", 0))
                if not 0 < length <= MAX_BODY or self.headers.get_content_type() != "application/json":
                    raise RequestError("a request must be a short JSON object")
                asked = json.loads(self.rfile.read(length))
                answer = overrulings.overrule(str(asked["name"]), str(asked["verdict"]))
            except (RequestError, ValueError, KeyError, TypeError) as error:
                self._answer(HTTPStatus.BAD_REQUEST, str(error).encode(), "text/plain; charset=utf-8")
            except OSError as error:  # a full disk: nothing was recorded, and the page says so
                self._answer(HTTPStatus.INSUFFICIENT_STORAGE, str(error).encode(), "text/plain; charset=utf-8")
            else:
                self._answer(HTTPStatus.OK, json.dumps(answer).encode(), "application/json")

        def log_message(self, *arguments: Any) -> None:
            """Say nothing: the address holds the token."""

        def _allowed(self, path: str) -> bool:
            # A page of another site may neither read through a name that it points here, nor post from its own.
            host = f"127.0.0.1:{self.server.server_port}"
            fits = secrets.compare_digest(self.path.encode(), path.encode()) and self.headers.get("Host") == host
            if fits and self.headers.get("Origin", f"http://{host}") == f"http://{host}":
                return True
            self._answer(HTTPStatus.NOT_FOUND, b"Not here", "text/plain")
            return False

        def _answer(self, status: HTTPStatus, body: bytes, kind: str) -> None:
            self.send_response(status)
            for name, value in (
                ("Content-Type", kind),
                ("Content-Length", str(len(body))),
                ("Cache-Control", "no-store"),
                ("Referrer-Policy", "same-origin"),
                ("X-Content-Type-Options", "nosniff"),
                ("X-Frame-Options", "DENY"),
            ):
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

    try:
        found = ThreadingHTTPServer(("127.0.0.1", port), Page)
    except OSError as error:
        raise RequestError(f"`port` must be a free port; {port} cannot be used: {error.strerror}") from error
    return found, f"http://127.0.0.1:{found.server_port}/{token}/"
