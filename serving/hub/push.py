"""A snapshot or a dataset, and its card, sent to a hub. Nothing else of a run's folder is: it may name local paths."""

import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gan import snapshot
from gan.data.dataset import ImageDataset
from gan.errors import RequestError
from gan.runtime.console import progress, say
from gan.runtime.files import read_json, require_format, sha256
from serving.hub import kinds
from serving.hub.hub import Hub
from serving.hub.kinds import FILES, README, Listed, counted, megabytes
from serving.hub.request import PushRequest, Repository

CARD = "card.json"  # which a card's folder has
CARD_FORMAT = "salon-card-1"
_EMPTY = {".gitattributes"}  # what a repository has that nobody has put anything into


@dataclass(frozen=True, kw_only=True)
class Content:
    """What a repository is made for: a snapshot or a dataset, under the name that it has there."""

    kind: str  # model or dataset
    path: Path
    name: str


def is_dataset(source: Path) -> bool:
    """Whether `source` is a dataset's ZIP; else it is to be a snapshot. Raises RequestError for other datasets."""
    if source.is_dir() and (source / "dataset.json").is_file():
        raise RequestError(f"`source` must be a dataset in one ZIP; {source} is a folder: zip it with `salon prepare`")
    if source.suffix == ".zips":
        raise RequestError(f"`source` must be a dataset in one ZIP; {source} is a list of them: name each")
    return source.is_file() and zipfile.is_zipfile(source) and source.suffix != ".safetensors"


def find_content(source: Path) -> Content:
    """What `source` names: a dataset's ZIP, else the newest snapshot that verifies.

    Raises RequestError where it is neither.
    """
    if is_dataset(source):
        ImageDataset(source)  # refuses other ZIPs
        return Content(kind="dataset", path=source, name=source.name)
    newest = snapshot.find(source)
    return Content(kind="model", path=newest.path, name=snapshot.path_for(Path(), newest.cur_nimg).name)


def push(request: PushRequest) -> dict[str, Any]:
    """Send `source` and its card in one commit -> figures: repo, url, commit, files with size and sha256.

    Raises RequestError for what cannot be sent, where the hub refuses, and where the repository exists with files in it
    and `overwrite` is False; Unreachable where the hub is not there.
    """
    content = find_content(request.source)
    named = Repository.parse(request.repo)
    if named.kind == "dataset" and content.kind == "model":
        raise RequestError(f"`repo` must be OWNER/NAME for a snapshot; got {request.repo} instead")
    hub = Hub(Repository(name=named.name, kind=content.kind))
    hub.require_token()
    files = {content.name: content.path, **(card_files(request.card, content) if request.card else {})}
    if not kinds.allowed(content.name, content.kind):
        raise RequestError(f"`source` must have a plain name such as paintings64.zip; got {content.name!r} instead")
    listed = {
        name: Listed(size=path.stat().st_size, sha256=sha256(path))
        for name, path in progress(files.items(), "Hashing", len(files), "file")
    }
    if request.card:
        _require_card_of(request.card, content, listed[content.name].sha256)
    else:
        say("There is no card: `salon card` writes one, and `card` sends it along")
    total = sum(one.size for one in listed.values())
    for name, one in listed.items():
        say(f"  {name}  {megabytes(one.size)}")
    say(f"{counted(len(files))}, {megabytes(total)}, to {hub.url}")
    new = hub.create(request.private)
    if not new and not request.overwrite and (there := {file.name for file in hub.files()} - _EMPTY):
        raise RequestError(
            f"`repo` {hub.repository} exists, with {counted(len(there))}; choose another, or add `overwrite`, which "
            "adds a commit and leaves earlier ones as they are"
        )
    commit = _send(hub, files, listed, request.message or f"Add {content.name} with Salon")
    return {
        "repo": str(hub.repository),
        "url": hub.url,
        "commit": commit,
        "new": new,
        "files": {name: asdict(one) for name, one in listed.items()},
        "bytes": total,
    }


def _send(hub: Hub, files: dict[str, Path], listed: dict[str, Listed], message: str) -> str:
    from huggingface_hub import CommitOperationAdd

    hashed = {name: one for name, one in listed.items() if name != README}
    operations = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=str(path)) for name, path in files.items()]
    listing = kinds.listing(hub.repository.kind, hashed)
    operations.append(CommitOperationAdd(path_in_repo=FILES, path_or_fileobj=listing))
    return hub.send(operations, message)


def card_files(card: Path, content: Content) -> dict[str, Path]:
    """The files of a card's folder, by name. Raises RequestError where it is none, or holds anything else."""
    if not (card / README).is_file():
        raise RequestError(f"`card` must be a folder that `salon card` wrote; {card} has no {README}")
    files = {path.name: path for path in sorted(card.iterdir())}
    for name, path in files.items():
        content_suffix = Path(name).suffix == kinds.CONTENT[content.kind]
        if not path.is_file() or content_suffix or name == FILES or not kinds.allowed(name, content.kind):
            raise RequestError(f"`card` must hold {README}, JSON and images alone; {card} has {name}")
        kinds.require_content(path, name)
    return files


def _require_card_of(card: Path, content: Content, digest: str) -> None:
    about = read_json(card / CARD)
    require_format(card / CARD, "a card", about.get("format") if isinstance(about, dict) else None, CARD_FORMAT)
    if about.get("sha256") != digest:
        raise RequestError(f"`card` must be of {content.path}; {card} is of another: write it again with `salon card`")
