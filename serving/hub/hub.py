"""A Hugging Face Hub by way of huggingface_hub, which the extra `hub` brings, and what it refuses in one line each.

The hub is the one that HF_ENDPOINT names, else huggingface.co; the token is HF_TOKEN's, or that of `hf auth login`.
Files go over plain HTTP and Git LFS: the faster Xet transfers and huggingface_hub's reports of who uses it, both of
which keep files below ~/.cache, are off unless HF_HUB_DISABLE_XET=0 and HF_HUB_DISABLE_TELEMETRY=0 ask for them.
"""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from gan import __version__
from gan.errors import RequestError, SalonError
from serving.hub.kinds import is_hash
from serving.hub.request import Repository

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd

NEEDED = "needs pip install 'salon[hub]'"
HUGGING_FACE = "https://huggingface.co"
TIMEOUT = 30.0  # seconds without an answer, or without a further byte
_FILES_IN_CACHE = ("HF_HUB_DISABLE_XET", "HF_HUB_DISABLE_TELEMETRY")  # what they turn off writes below ~/.cache
_TOKEN = "`hf auth login` keeps one, or HF_TOKEN has it"


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """A file of a repository, as the hub says it is."""

    name: str
    size: int  # bytes
    sha256: str | None  # of what Git LFS holds; None: Git holds it
    git_sha1: str  # of Git's blob: of the file, or of the pointer to it


class Hub:
    """One repository of the hub. Raises RequestError where the extra is not installed."""

    def __init__(self, repository: Repository) -> None:
        try:
            from huggingface_hub import HfApi
        except ImportError as error:
            raise RequestError(f"`repo` {NEEDED}, which brings huggingface-hub") from error
        self.repository = repository
        self.endpoint = (os.environ.get("HF_ENDPOINT") or HUGGING_FACE).rstrip("/")
        if not re.fullmatch(r"https?://[^\s/?#]+(/[^\s?#]*)?", self.endpoint):
            raise RequestError(f"HF_ENDPOINT must be the address of a hub; got {self.endpoint} instead")
        self._api = HfApi(endpoint=self.endpoint, library_name="salon", library_version=__version__)
        self._of: dict[str, Any] = {"repo_id": repository.name, "repo_type": repository.kind}

    @property
    def url(self) -> str:
        """Where people find the repository."""
        return f"{self.endpoint}/{self.repository}"

    def require_token(self) -> None:
        """Raise RequestError where there is no token to send."""
        from huggingface_hub import get_token

        if get_token() is None:
            raise RequestError(f"`repo` {self.repository} needs a token that may write; {_TOKEN}")

    def create(self, private: bool) -> bool:
        """Make the repository -> whether it is new. Raises RequestError where the hub refuses, or it is public and
        should be `private`.
        """
        from huggingface_hub.errors import HfHubHTTPError

        with self._answers():
            try:
                self._api.create_repo(**self._of, private=private or None)
                return True
            except HfHubHTTPError as error:
                if error.response.status_code != HTTPStatus.CONFLICT:
                    raise
            info = self._api.repo_info(**self._of, timeout=TIMEOUT)
        if private and not info.private:
            raise RequestError(f"`repo` {self.repository} exists and is public; make it private there, or leave it out")
        return False

    def commit(self, revision: str | None) -> str:
        """The commit that a branch, tag or commit names; None: the newest. Raises RequestError where there is none."""
        with self._answers(revision):
            return str(self._api.repo_info(**self._of, revision=revision, timeout=TIMEOUT).sha)

    def files(self, commit: str | None = None) -> list[RemoteFile]:
        """All files, those in folders too. Raises as `commit` does."""
        from huggingface_hub.hf_api import RepoFile

        with self._answers(commit):
            entries = list(self._api.list_repo_tree(**self._of, revision=commit, recursive=True))
        files = [
            RemoteFile(name=e.path, size=e.size, sha256=e.lfs.sha256 if e.lfs else None, git_sha1=e.blob_id)
            for e in entries
            if isinstance(e, RepoFile)
        ]
        for file in files:
            if not (is_hash(file.git_sha1) and (file.sha256 is None or is_hash(file.sha256))):
                raise RequestError(f"{self.endpoint} must give hashes of files; {file.name} has none")
        return files

    def send(self, operations: "list[CommitOperationAdd]", message: str) -> str:
        """Add files in one commit -> its name. What an earlier try has sent already is not sent again."""
        with self._answers(), _bars_for_people():
            try:
                return str(self._api.create_commit(**self._of, operations=operations, commit_message=message).oid)
            except RuntimeError as error:  # of a thread that sends a file
                raise error.__cause__ or error from None
            except ValueError as error:  # of what the hub says of a file, or of the card's front matter
                raise RequestError(f"{self.endpoint} refused {self.repository}: {_one_line(str(error))}") from error

    @contextmanager
    def stream(self, name: str, commit: str, first: int = 0) -> Iterator[Any]:
        """httpx's response with the bytes of a file from `first` on; the hub may begin at 0 all the same."""
        from huggingface_hub import get_session, hf_hub_url, hf_raise_for_status
        from huggingface_hub.utils import build_hf_headers

        url = hf_hub_url(
            self.repository.name, name, repo_type=self.repository.kind, revision=commit, endpoint=self.endpoint
        )
        with self._answers(commit):
            headers = build_hf_headers(library_name="salon", library_version=__version__)
            headers["Accept-Encoding"] = "identity"  # sizes and ranges are those of the file
            if first:
                headers["Range"] = f"bytes={first}-"
            # To another host than the hub's own, where large files lie, a redirect takes no token along.
            with get_session().stream("GET", url, headers=headers, timeout=TIMEOUT) as response:
                if response.status_code >= HTTPStatus.BAD_REQUEST:
                    response.read()
                hf_raise_for_status(response)
                yield response

    @contextmanager
    def _answers(self, revision: str | None = None) -> Iterator[None]:
        # What huggingface_hub raises, in one line each.
        from huggingface_hub import errors

        try:
            with _without(_FILES_IN_CACHE):
                yield
        except errors.OfflineModeIsEnabled as error:
            raise RequestError(f"{self.endpoint} is not asked: HF_HUB_OFFLINE is set") from error
        except errors.HfHubHTTPError as error:
            raise self._refused(error, revision) from error
        except errors.HTTPError as error:  # of httpx or its successor
            raise Unreachable(
                f"{self.endpoint} cannot be reached: {_one_line(str(error)) or type(error).__name__}; when the network "
                "is back, the same command goes on"
            ) from error
        except errors.HFValidationError as error:
            raise RequestError(f"`repo` {self.repository} must be a name that the hub takes: {error}") from error

    def _refused(self, error: Any, revision: str | None) -> SalonError:
        from huggingface_hub import get_token
        from huggingface_hub.errors import GatedRepoError, RevisionNotFoundError

        status, here = error.response.status_code, f"`repo` {self.repository}"
        said = _one_line(error.server_message or f"HTTP {status}")
        if isinstance(error, RevisionNotFoundError):
            return RequestError(f"`revision` must be a branch, tag or commit of {self.repository}; got {revision}")
        if isinstance(error, GatedRepoError):
            return RequestError(f"{here} is open to those whom its owner lets in: ask for access at {self.url}")
        if status == HTTPStatus.UNAUTHORIZED:
            if get_token() is None:
                return RequestError(f"{here} is not there, or is private and needs a token; {_TOKEN}")
            return RequestError(f"{here} is not there, or {self.endpoint} does not take this token; {_TOKEN}")
        if status == HTTPStatus.FORBIDDEN:
            return RequestError(f"{here} is closed to this token: {said}; it must be one that may write there")
        if status == HTTPStatus.NOT_FOUND:
            return RequestError(f"{here} must be on {self.endpoint}; there is none, or this token may not see it")
        if status == HTTPStatus.CONFLICT:
            return RequestError(f"{here} changed meanwhile: {said}; run the same command again")
        if status in (HTTPStatus.TOO_MANY_REQUESTS, *range(500, 600)):
            return Unreachable(f"{self.endpoint} has no time or is at fault now: {said}; try again later")
        return RequestError(f"{self.endpoint} refused the request for {self.repository}: {said}")


@contextmanager
def _bars_for_people() -> Iterator[None]:
    # huggingface_hub's own progress bars, as the others are: where standard error is a terminal.
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    if sys.stderr.isatty() or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


@contextmanager
def _without(switches: tuple[str, ...]) -> Iterator[None]:
    # Turned off within the block, unless the environment decides: huggingface_hub looks there when it is imported.
    from huggingface_hub import constants

    before = {name: getattr(constants, name) for name in switches if name not in os.environ}
    for name in before:
        setattr(constants, name, True)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(constants, name, value)


class Unreachable(SalonError):
    """The hub cannot be reached, or not now: the same request may succeed later."""


def _one_line(text: str) -> str:
    return " ".join(text.split()).rstrip(".;")
