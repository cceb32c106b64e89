"""A generator or a dataset from a hub: files of a few kinds, each checked by its hashes, and none of them executed.

What has come already lies beside `out`, as .NAME.pulling, until all is there and right; then it becomes `out`.
"""

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gan.errors import RequestError, SalonError
from gan.runtime.console import progress, say
from gan.runtime.files import disk_error, fsync, refuse_existing, sha256
from gan.runtime.lock import Timeout, lock
from serving.hub import kinds
from serving.hub.hub import Hub, RemoteFile, Unreachable
from serving.hub.kinds import FILES, MAX_LIST, README, Listed, counted, megabytes
from serving.hub.request import PullRequest, Repository

CHUNK = 1 << 20  # bytes
ATTEMPTS = 3  # at a file from which no byte comes
_SHOWN = 5  # names in a message


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A file to fetch, and what is known of it."""

    remote: RemoteFile
    listed: Listed | None  # what FILES says; None: it does not name the file

    @property
    def digest(self) -> str:
        """Names the content, for files that have partly come."""
        return self.remote.sha256 or (self.listed.sha256 if self.listed else self.remote.git_sha1)

    def fault(self, path: Path) -> str | None:
        """How the file at `path` is not the one that is wanted; None: it is."""
        found = sha256(path)
        for of, expected in (("list of files", self.listed and self.listed.sha256), ("hub", self.remote.sha256)):
            if expected is not None and found != expected:
                return f"its SHA-256 is {found}, and {expected} by the {of}"
        if self.remote.sha256 is None and (git := _git_sha1(path)) != self.remote.git_sha1:
            return f"its hash in Git is {git}, and {self.remote.git_sha1} by the hub"
        return None


def pull(request: PullRequest) -> dict[str, Any]:
    """Fetch a repository into the new folder `out` -> figures: repo, commit, files with size and sha256, passed_over.

    Raises RequestError where there is no such repository, it holds nothing that Salon reads, or a file is not what its
    hashes say: `out` is not made then. Raises Unreachable where the hub is not there; the same request goes on later.
    """
    repository = Repository.parse(request.repo)
    hub = Hub(repository)
    commit = hub.commit(request.revision)
    remote = {file.name: file for file in hub.files(commit)}
    wanted, passed = choose(hub, commit, remote)
    total = sum(one.remote.size for one in wanted)
    for one in wanted:
        say(f"  {one.remote.name}  {megabytes(one.remote.size)}")
    say(f"{counted(len(wanted))}, {megabytes(total)}, from {hub.url} at {commit[:12]}")
    if passed:
        say(_passed_over(passed))
    work = request.out.absolute().with_name(f".{request.out.name}.pulling")
    try:
        for folder in (work / "files", work / "parts"):
            folder.mkdir(parents=True, exist_ok=True)
        with lock(work / ".lock", blocking=False):
            _keep_only({one.remote.name for one in wanted}, work / "files")
            for one in wanted:
                fetch(hub, commit, one, work)
            for path in (*(work / "files").iterdir(), work / "files"):
                fsync(path)
            refuse_existing([request.out])
            (work / "files").rename(request.out)
            fsync(request.out.absolute().parent)
        shutil.rmtree(work, ignore_errors=True)
    except Timeout as error:
        raise RequestError(f"`out` {request.out} is being pulled by another process; wait, or stop it") from error
    except OSError as error:
        raise disk_error(error, request.out) from error
    return {
        "repo": str(repository),
        "commit": commit,
        "kind": repository.kind,
        "out": str(request.out),
        "files": {
            one.remote.name: {"size": one.remote.size, "sha256": sha256(request.out / one.remote.name)}
            for one in wanted
        },
        "bytes": total,
        "passed_over": passed,
    }


def choose(hub: Hub, commit: str, remote: dict[str, RemoteFile]) -> tuple[list[Wanted], list[str]]:
    """The files to fetch, small ones first, and the names of those that are passed over.

    With FILES those that it lists, and README.md; else all of allowed kinds. Raises RequestError where nothing is there
    that Salon reads, or where FILES and the hub contradict each other.
    """
    kind = hub.repository.kind
    listed = _listing(hub, commit, remote[FILES]) if FILES in remote else None
    names = {name for name in remote if kinds.allowed(name, kind)}
    if listed is None:
        say(f"{hub.repository} has no {FILES}, as `salon push` writes it: the hub's own hashes alone are checked")
    else:
        if missing := [name for name in listed if name not in remote]:
            raise RequestError(f"{hub.repository} must hold what its {FILES} lists; {missing[0]} is missing")
        names &= {*listed, README}
    wanted = [
        Wanted(remote=remote[name], listed=None if listed is None else listed.get(name)) for name in names - {FILES}
    ]
    passed = sorted(set(remote) - names - {FILES, ".gitattributes"})
    if not any(name.endswith(kinds.CONTENT[kind]) for name in names):
        reads = f"Salon reads {kinds.CONTENT[kind]} of a {kind}"
        if programs := [name for name in passed if kinds.may_run(name)]:
            raise RequestError(
                f"{hub.repository} holds nothing to pull: {reads}, and {programs[0]} may execute programs when read"
            )
        raise RequestError(f"{hub.repository} holds nothing to pull: {reads}; datasets are datasets/OWNER/NAME")
    for one in wanted:
        _require_agreement(one, hub)
    return sorted(wanted, key=lambda one: (one.remote.size, one.remote.name)), passed


def fetch(hub: Hub, commit: str, one: Wanted, work: Path) -> None:
    """Bring one file to WORK/files, going on from what is in WORK/parts. Raises RequestError when it is another."""
    name = one.remote.name
    done, part = work / "files" / name, work / "parts" / one.digest
    if done.exists():
        if one.fault(done) is None:
            return
        done.unlink()
    part.touch()
    failures = 0
    while (before := part.stat().st_size) != one.remote.size:
        try:
            _continue(hub, commit, one, part)
        except Unreachable:
            failures = 0 if part.stat().st_size > before else failures + 1
            if failures == ATTEMPTS:
                raise
        else:
            if part.stat().st_size != one.remote.size and (failures := failures + 1) == ATTEMPTS:
                raise SalonError(f"{hub.endpoint} sends less of {name} than it has; the same command goes on")
    if fault := one.fault(part):
        part.unlink()
        raise RequestError(f"{name} of {hub.repository} is not what was pushed: {fault}; nothing was written")
    try:
        kinds.require_content(part, name)
    except RequestError:
        part.unlink()
        raise
    part.replace(done)


def _continue(hub: Hub, commit: str, one: Wanted, part: Path) -> None:
    name, size, first = one.remote.name, one.remote.size, part.stat().st_size
    with hub.stream(name, commit, first if first < size else 0) as response:
        goes_on = response.headers.get("Content-Range", "").startswith(f"bytes {first}-")
        first = first if response.status_code == 206 and goes_on else 0
        with open(part, "ab" if first else "wb") as file:
            chunks: Iterator[bytes] = response.iter_bytes(CHUNK)
            for chunk in progress(chunks, name, -(-(size - first) // CHUNK), "MiB"):
                first += len(chunk)
                if first > size:
                    file.truncate(0)
                    raise RequestError(f"{hub.endpoint} sends more of {name} than the {size:,} bytes that it has")
                file.write(chunk)


def _listing(hub: Hub, commit: str, file: RemoteFile) -> dict[str, Listed]:
    if file.size > MAX_LIST:
        raise RequestError(f"{FILES} of {hub.repository} must have at most {MAX_LIST:,} bytes; it has {file.size:,}")
    content = b""
    with hub.stream(FILES, commit) as response:
        for chunk in response.iter_bytes(CHUNK):
            content += chunk
            if len(content) > MAX_LIST:
                raise RequestError(f"{hub.endpoint} sends more of {FILES} than the {file.size:,} bytes that it has")
    return kinds.parse_listing(content, hub.repository.kind, f"{FILES} of {hub.repository}")


def _require_agreement(one: Wanted, hub: Hub) -> None:
    # Before anything large is fetched.
    remote, listed = one.remote, one.listed
    if listed and (remote.size != listed.size or (remote.sha256 or listed.sha256) != listed.sha256):
        raise RequestError(
            f"{remote.name} of {hub.repository} is not what was pushed: by the hub it has {remote.size:,} bytes and "
            f"SHA-256 {remote.sha256 or 'in Git'}, by {FILES} {listed.size:,} and {listed.sha256}; nothing was written"
        )


def _passed_over(names: list[str]) -> str:
    shown = ", ".join(f"{name} (may execute programs)" if kinds.may_run(name) else name for name in names[:_SHOWN])
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"Passed over, as Salon reads no such files: {shown}{more}"


def _keep_only(names: set[str], folder: Path) -> None:
    for path in folder.iterdir():
        if path.name not in names:
            path.unlink()


def _git_sha1(path: Path) -> str:
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
