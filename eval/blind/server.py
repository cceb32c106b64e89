"""The page of a blind test, below a path that nobody can guess, for browsers on this machine or on phones.

/TOKEN/          the page
/TOKEN/join      a judge's name -> the judge's session
/TOKEN/answer    an answer -> the next question
/TOKEN/picture   a picture of the open question, by its name
"""

import json
import secrets
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from string import Template
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from eval.blind.answers import Answers, Session, judge_name, questions
from eval.blind.pictures import Picture
from eval.blind.results import own_share
from gan.errors import RequestError
from gan.runtime import page, web

MAX_BODY = 2_000  # bytes of a request
MOST_SESSIONS = 1_000  # at a time; the oldest ends


class BlindTest:
    """A test of `pairs` of a generated and a real picture: `files` are what is sent of each, by key.

    With `feedback` a judge who has answered all is told how many answers were right.
    """

    def __init__(
        self,
        pairs: Sequence[tuple[Picture, Picture]],
        files: Mapping[str, bytes],
        answers: Answers,
        *,
        in_pairs: bool = False,
        seed: int = 0,
        feedback: bool = False,
    ) -> None:
        self.pairs, self.files, self.answers = pairs, files, answers
        self.in_pairs, self.seed, self.feedback = in_pairs, seed, feedback
        self._sessions: dict[str, Session] = {}

    def join(self, name: str) -> dict[str, Any]:
        """Open a session of a judge, who goes on where the last one ended -> what the page may know of it.

        Raises RequestError for a name that is none.
        """
        judge = judge_name(name)
        for key, session in list(self._sessions.items()):
            if session.judge == judge:  # on another page, which would ask the same again
                del self._sessions[key]
        every = questions(self.pairs, judge, in_pairs=self.in_pairs, seed=self.seed)
        key = secrets.token_urlsafe(18)
        self._sessions[key] = Session(judge, every, self.answers)
        while len(self._sessions) > MOST_SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        return {"session": key, "judge": judge, **self._shown(self._sessions[key])}

    def answer(self, session: str, question: str, answer: str, seconds: float) -> dict[str, Any]:
        """Record an answer -> what the page may know now. Raises RequestError for an unknown session."""
        if session not in self._sessions:
            raise RequestError("this session has ended: open the page again")
        self._sessions[session].answer(question, answer, seconds)
        return self._shown(self._sessions[session])

    def picture(self, session: str, name: str) -> bytes | None:
        """What is sent of a picture of the open question; None for any other."""
        key = self._sessions[session].pictures.get(name) if session in self._sessions else None
        return None if key is None else self.files[key]

    def _shown(self, session: Session) -> dict[str, Any]:
        shown = session.shown()
        if shown["question"] is None and self.feedback:
            shown["right"] = own_share(self.answers.rows, session.judge)[0]
        return shown


def application(test: BlindTest, token: str, hosts: Sequence[str] = ()) -> Starlette:
    """The page at /`token`/. Nobody who does not know `token` is answered."""
    text, policy = _page(test.in_pairs)

    def known(request: Request) -> bool:
        return secrets.compare_digest(request.path_params["token"].encode(), token.encode())

    def first(request: Request) -> Response:
        return HTMLResponse(text) if known(request) else _not_here()

    def picture(request: Request) -> Response:
        asked = request.query_params
        body = test.picture(asked.get("session", ""), asked.get("name", "")) if known(request) else None
        return _not_here() if body is None else Response(body, media_type="image/jpeg")

    async def join(request: Request) -> Response:
        return await _posted(request, known(request), lambda asked: test.join(str(asked["judge"])))

    async def answer(request: Request) -> Response:
        return await _posted(
            request,
            known(request),
            lambda asked: test.answer(
                str(asked["session"]), str(asked["question"]), str(asked["answer"]), float(asked["seconds"])
            ),
        )

    routes = [
        Route("/{token}/", first),
        Route("/{token}/picture", picture),
        Route("/{token}/join", join, methods=["POST"]),
        Route("/{token}/answer", answer, methods=["POST"]),
    ]
    headers = {"Content-Security-Policy": policy, "Cache-Control": "no-store"}
    guard = Middleware(web.Guard, hosts=hosts, refuse=_not_here, headers=headers)
    elsewhere: Any = {HTTPStatus.NOT_FOUND: lambda _request, _error: _not_here()}
    return Starlette(routes=routes, middleware=[guard], exception_handlers=elsewhere)


async def _posted(request: Request, known: bool, work: Any) -> Response:
    if not known:
        return _not_here()
    try:
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise RequestError("a request must be a short JSON object")
        asked = json.loads(await web.read_body(request, MAX_BODY))
        return JSONResponse(await run_in_threadpool(work, asked))
    except (RequestError, ValueError, KeyError, TypeError, RecursionError) as error:
        return PlainTextResponse(str(error), HTTPStatus.BAD_REQUEST)
    except OSError as error:  # a full disk: nothing was recorded, and the page says so
        return PlainTextResponse(str(error), HTTPStatus.INSUFFICIENT_STORAGE)


def _page(in_pairs: bool) -> tuple[str, str]:
    # -> the page, and what it may do
    style, script = (
        page.read(package, f"page.{kind}") for kind, package in (("css", page.PACKAGE), ("js", page.PACKAGE))
    )
    style, script = style + page.read("eval.blind", "page.css"), script + page.read("eval.blind", "page.js")
    policy = (
        f"default-src 'none'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        f"frame-ancestors 'none'; style-src {page.allowed(style)}; script-src {page.allowed(script)}"
    )
    body = Template(page.read("eval.blind", "page.html")).substitute(script=script, kind="pair" if in_pairs else "one")
    head = f'<link rel="icon" href="data:,">\n<style>{style}</style>'
    return page.html("Real or generated?", head=head, body=body), policy


def _not_here(_host: str = "") -> Response:
    # The same for all: who guesses learns nothing.
    text = "Not here. The page has a secret in its address: open the whole one that the terminal shows."
    return PlainTextResponse(text, HTTPStatus.NOT_FOUND)
