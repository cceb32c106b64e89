"""Run the stages of a pipeline's file, each only when what it depends on has changed.

Every result is named after a key of all that it depends on, so nothing is ever written over, an interrupted stage goes
on where it was, and going back to an earlier setting finds its results again. Where the file names `out` itself, only
the last results are known.
"""

import hashlib
import json
import os
import runpy
import shlex
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from gan import __version__
from gan.errors import BoundError, RequestError, SalonError
from gan.runtime import parallel, signals
from gan.runtime.console import say
from gan.runtime.files import read_json, write_json
from serving.contract import DEFAULT_URL
from serving.pipeline.config import PipelineFile, words
from serving.pipeline.stages import STAGES, Inputs, Stage
from serving.server import install, server

PRELOAD = (  # what the stages import, once for all of them
    *("gan.training.training_loop", "gan.sampling.generate", "curation.prepare.pipeline", "curation.score.score"),
    *("eval.compare", "serving.export", "serving.client"),
)
UNCHANGED, DONE, UNMET = "unchanged", "done", "bound not met"


@dataclass(kw_only=True)
class Record:
    """A stage that ran: its command line, what it wrote, what it printed as JSON, and the seconds it took."""

    stage: str
    outcome: str
    line: list[str]
    output: str
    seconds: float
    figures: dict[str, Any] = field(default_factory=dict)

    def pieces(self) -> list[str]:
        """The command as a person would type it, beside a server at its usual address: its name, and each option."""
        pieces = [["salon"]]
        for word in self.line:
            if word.startswith("--"):
                pieces.append([])
            pieces[-1].append(word.replace("{url}", DEFAULT_URL))
        return [shlex.join(piece) for piece in pieces if piece != ["--overwrite"]]


class Pipeline:
    """Runs a file's stages one after the other, in the folder of the file."""

    def __init__(self, file: PipelineFile) -> None:
        self.file, self.records = file, dict[str, Record]()
        self._keys: dict[str, str] = {}
        self._base = file.path.parent
        self._stack = ExitStack()
        self._url: str | None = None

    def run(self, *, until: str | None = None) -> Iterator[Record]:
        """Run the stages -> a record of each, as it ends. It ends with the first whose bound is not met.

        Raises SalonError when a stage fails, RequestError when a request of it is at fault.
        """
        with self._stack:
            for number, name in enumerate(self.file.tables, 1):
                record = self._stage(name, f"[{number}/{len(self.file.tables)}]")
                self.records[name] = record
                yield record
                if record.outcome == UNMET or name == until:
                    return

    def _inputs(self) -> Inputs:
        return Inputs(
            images=self.file.images or [self.records["synthetic"].output],
            paths={name: record.output for name, record in self.records.items()},
            figures={name: record.figures for name, record in self.records.items()},
        )

    def _stage(self, name: str, place: str) -> Record:
        stage, table = STAGES[name], self.file.tables[name]
        inputs = self._inputs() if self.records or self.file.images else Inputs(images=[], paths={}, figures={})
        key = self._keys[name] = self._key(name, words(name, table, inputs, ""))
        named = table.get("out")  # which the stage shares with its other settings, and may share with other files
        note = self.file.folder / "stages" / f"{name}{'' if named else f'-{key}'}.json"
        say(f"{place} {stage.title}")
        known = read_json(note) if note.exists() else {}
        if known.pop("key", None) == key and (self._base / known["output"]).exists():
            return Record(stage=name, outcome=UNCHANGED, **known)
        path = self._base / str(named) if named else self._output(stage, key)
        output = os.path.relpath(path, self._base)
        line = words(name, table, inputs, output)
        say(f"      salon {shlex.join(line)}")
        start = time.perf_counter()
        url = self._serve() if stage.served else ""
        figures, met = _call([word.replace("{url}", url) for word in line], self._base)
        if name == "train" and not figures["finished"]:
            raise KeyboardInterrupt  # it saved what it had; the next call goes on
        seconds = time.perf_counter() - start
        record = Record(
            stage=name, outcome=DONE if met else UNMET, line=line, output=output, seconds=seconds, figures=figures
        )
        if met:
            write_json(note, {"key": key, "line": line, "output": output, "seconds": seconds, "figures": figures})
        return record

    def _output(self, stage: Stage, key: str) -> Path:
        output, number = self.file.folder / stage.output.replace("*", key), 1
        while stage.fresh_output and output.exists():
            number += 1
            output = self.file.folder / stage.output.replace("*", f"{key}-{number}")
        return output

    def _key(self, name: str, line: list[str]) -> str:
        """Of the command line without where it writes, the stages before, the version, and the images as they are."""
        parts: list[Any] = [__version__, line, [self._keys[n] for n in STAGES[name].after if n in self._keys]]
        if name in ("prepare", "style") and self.file.images:
            parts.append([_listing(self._base / image) for image in self.file.images])
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:8]

    def _serve(self) -> str:
        """Address of a server of what was exported, started at the first call and stopped when the pipeline ends."""
        if self._url is None:
            say("      salon serve " + self.records["export"].output)
            started = self._stack.enter_context(
                server.serve(
                    self._base / self.records["export"].output,
                    server=install.find(),
                    http_port=0,
                    grpc_port=0,
                    metrics_port=0,
                )
            )
            self._url = started.grpc_url
        return self._url


def _call(line: list[str], base: Path) -> tuple[dict[str, Any], bool]:
    """Run a Salon command -> the figures that it printed, and whether its bounds were met.

    Its progress goes to the terminal. A signal to stop is passed on as Ctrl-C, and the command is waited for.
    """
    with tempfile.NamedTemporaryFile("r", prefix="salon-", encoding="utf-8") as printed:
        process = parallel.start(PRELOAD, _command, [*line, "--json"], base, printed.name)
        with _passing_on(process):
            process.join()
        text = printed.read()
    code = process.exitcode
    if code in (130, -signal.SIGINT):
        raise KeyboardInterrupt
    if code not in (0, BoundError.exit_code):
        error = RequestError if code == RequestError.exit_code else SalonError
        raise error(f"salon {' '.join(line[:2])} ended with exit code {code}; its message is above")
    figures: dict[str, Any] = json.loads(text) if text.strip() else {}
    return figures, code == 0


def _command(line: list[str], base: Path, printed: str) -> None:
    # In a process of its own: standard output goes to the file `printed`.
    os.setpgrp()  # so that Ctrl-C reaches it once, through us: a second one would stop it without saving
    os.chdir(base)
    descriptor = os.open(printed, os.O_WRONLY)
    os.dup2(descriptor, 1)
    os.close(descriptor)
    sys.argv = ["salon", *line]
    warnings.filterwarnings("ignore", message=".*found in sys.modules", category=RuntimeWarning)  # the parent's import
    runpy.run_module("gan", run_name="__main__", alter_sys=True)  # as `python -m gan` does


@contextmanager
def _passing_on(process: BaseProcess) -> Iterator[None]:
    stopped = False

    def pass_on(number: int, frame: Any) -> None:
        nonlocal stopped
        again = number == signal.SIGHUP and stopped  # which shell and terminal both send
        if process.pid is not None and process.is_alive() and not again:
            os.kill(process.pid, signal.SIGINT)
        stopped = True

    before = {number: signal.signal(number, pass_on) for number in signals.stopping()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if stopped:
            process.join()
    if stopped:
        raise KeyboardInterrupt


def _listing(source: Path) -> list[Any]:
    """Names, sizes and times of a folder's files, or of one file: changes when the images do."""
    files = sorted(p for p in source.rglob("*") if p.is_file()) if source.is_dir() else [source]
    return [[str(p.relative_to(source)), p.stat().st_size, p.stat().st_mtime_ns] for p in files]
