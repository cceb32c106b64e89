"""The questions of a blind test, in an order of each judge's own, and the answers, one row each.

OUT/blind.json       which pictures the test is of
    answers.jsonl    a row an answer: judge, question, pictures, truth, answer, strata, seconds, time
"""

import hashlib
import json
import math
import os
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from eval.blind.pictures import REAL, Picture
from gan.errors import RequestError
from gan.runtime.files import read_json, require_format, write_json

FORMAT = "salon-blind-1"
RECORD, ANSWERS = "blind.json", "answers.jsonl"
LEFT, RIGHT = "left", "right"
LONGEST_NAME = 80  # characters of a judge's name

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Question:
    """One picture, which is real or generated, or two, of which one is real."""

    key: str
    pictures: tuple[Picture, ...]
    truth: str  # REAL or GENERATED; of two LEFT or RIGHT


def questions(pairs: Sequence[tuple[Picture, Picture]], judge: str, *, in_pairs: bool, seed: int) -> list[Question]:
    """A judge's questions about `pairs` of a generated and a real picture, shuffled by the seed and the judge's name.

    Of one picture each, half of all real; or of two, the real one as often left as right, up to one.
    """
    digest = hashlib.sha256(f"{seed} {judge}".encode()).digest()
    rng = np.random.default_rng(np.frombuffer(digest, np.uint32))
    if not in_pairs:
        every = [Question(key=each.key, pictures=(each,), truth=each.truth) for pair in pairs for each in pair]
    else:
        left = rng.permutation(np.arange(len(pairs)) % 2).tolist()
        every = []
        for (gen, real), side in zip(pairs, left, strict=True):
            key = f"{gen.key} {real.key}"
            every.append(
                Question(key=key, pictures=(real, gen) if side else (gen, real), truth=LEFT if side else RIGHT)
            )
    return [every[n] for n in rng.permutation(len(every))]


@dataclass(kw_only=True)
class Answers:
    """All answers to a test, in a file of JSON lines in `out`. Safe to use from threads.

    `record` says what the test is of. Raises RequestError when `out` has answers to another test.
    """

    out: Path
    record: dict[str, Any]
    rows: list[Row] = field(default_factory=list)
    _lock: Lock = field(default_factory=Lock, repr=False)

    def __post_init__(self) -> None:
        path = self.out / RECORD
        if path.exists():
            there = read_record(self.out)
            here = json.loads(json.dumps(self.record))
            if apart := sorted(key for key in {**there, **here} if there.get(key) != here.get(key)):
                raise RequestError(
                    f"`out` {self.out} has answers to another test, with another {' and '.join(apart)}; choose another"
                )
        else:
            write_json(path, {"format": FORMAT, **self.record})
        self.rows = read_answers(self.out, mend=True)

    def answered(self, judge: str) -> set[str]:
        """Keys of the questions that a judge has answered."""
        return {row["question"] for row in self.rows if row["judge"] == judge}

    def add(self, judge: str, question: Question, answer: str, seconds: float) -> Row:
        """Write an answer down; it is on disk when this returns. Raises RequestError for what is none."""
        known = (REAL, "generated") if len(question.pictures) == 1 else (LEFT, RIGHT)
        if answer not in known:
            raise RequestError(f"an answer must be {known[0]} or {known[1]}; got {answer} instead")
        if not math.isfinite(seconds) or seconds < 0:
            raise RequestError(f"seconds must be from 0 up; got {seconds} instead")
        row = {
            "judge": judge,
            "question": question.key,
            "pictures": [each.key for each in question.pictures],
            "strata": [each.stratum for each in question.pictures],
            "truth": question.truth,
            "answer": answer,
            "seconds": round(seconds, 3),
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        with self._lock:
            if question.key in self.answered(judge):
                raise RequestError("this question is answered already")
            # One write of one line to the end of the file: whole, or cut off and dropped when it is read again.
            descriptor = os.open(self.out / ANSWERS, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                os.write(descriptor, (json.dumps(row, ensure_ascii=False) + "\n").encode())
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            self.rows.append(row)
        return row


def read_record(out: Path) -> dict[str, Any]:
    """What a test in `out` is of. Raises RequestError where there is none."""
    path = out / RECORD
    if not path.is_file():
        raise RequestError(f"`out` must be the folder of a blind test; {out} has no {RECORD}")
    record = read_json(path)
    if not isinstance(record, dict):
        record = {}
    require_format(path, "a blind test", record.pop("format", None), FORMAT)
    return record


def read_answers(out: Path, *, mend: bool = False) -> list[Row]:
    """The rows of answers in `out`. A last line that was cut off does not count; `mend` removes it.

    Raises RequestError for a damaged file.
    """
    path = out / ANSWERS
    if not path.exists():
        return []
    text = path.read_bytes()
    whole = text[: text.rfind(b"\n") + 1]
    if mend and len(whole) < len(text):
        os.truncate(path, len(whole))
    try:
        rows = [json.loads(line) for line in whole.splitlines()]
        for row in rows:
            _ = row["judge"], row["question"], row["strata"], row["truth"], row["answer"], row["seconds"]
    except (ValueError, KeyError, TypeError) as error:
        raise RequestError(f"{path} must be answers as salon eval blind writes them; {error!r} instead") from error
    return rows


class Session:
    """A judge at the page: the questions that are left, and names of pictures that nobody can guess.

    Raises RequestError for a name that is none.
    """

    def __init__(self, judge: str, every: Sequence[Question], answers: Answers) -> None:
        self.judge, self.total, self._answers = judge, len(every), answers
        answered = answers.answered(judge)
        self._left = [question for question in every if question.key not in answered]
        self._open: str | None = None
        self.pictures: dict[str, str] = {}  # name of a picture that is shown -> its key
        self._advance()

    def shown(self) -> dict[str, Any]:
        """What the page may know: how far the judge is, and the question with its pictures by name."""
        answered = self.total - len(self._left)
        question = self._open and {"id": self._open, "pictures": list(self.pictures)}
        return {"answered": answered, "total": self.total, "question": question or None}

    def answer(self, question: str, answer: str, seconds: float) -> None:
        """Record the answer to the open question and open the next. An answer to another one changes nothing.

        Raises RequestError for what is no answer.
        """
        if self._open is None or not secrets.compare_digest(question.encode(), self._open.encode()):
            return
        self._answers.add(self.judge, self._left[0], answer, seconds)
        del self._left[0]
        self._advance()

    def _advance(self) -> None:
        self._open = secrets.token_urlsafe(9) if self._left else None
        self.pictures = {secrets.token_urlsafe(9): each.key for each in self._left[0].pictures} if self._left else {}


def judge_name(text: str) -> str:
    """A judge's name without needless spaces. Raises RequestError for none, or one that is too long."""
    name = " ".join(text.split())
    if not name or len(name) > LONGEST_NAME or not name.isprintable():
        raise RequestError(f"a name must have 1 to {LONGEST_NAME} characters; got {len(name)}")
    return name
