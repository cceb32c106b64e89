"""What a card is written of, and what goes to a hub and comes from one."""

import re
from dataclasses import dataclass
from pathlib import Path

from gan.errors import RequestError
from gan.runtime.files import refuse_existing

DATASETS = "datasets/"  # before the name of a repository that holds a dataset
UNKNOWN = "unknown"
PLACE = "OWNER/NAME"  # where the repository is not known
_PART = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?"
_NAME = re.compile(rf"{_PART}/{_PART}")


@dataclass(frozen=True, kw_only=True)
class Repository:
    """A repository of a hub."""

    name: str  # OWNER/NAME
    kind: str  # model or dataset

    @classmethod
    def parse(cls, text: str, parameter: str = "repo") -> "Repository":
        """OWNER/NAME is a model's, datasets/OWNER/NAME a dataset's. Raises RequestError for anything else."""
        name = text.removeprefix(DATASETS)
        if not _NAME.fullmatch(name) or ".." in name or "--" in name:
            raise RequestError(f"`{parameter}` must be OWNER/NAME or datasets/OWNER/NAME; got {text} instead")
        return cls(name=name, kind="model" if name == text else "dataset")

    def __str__(self) -> str:
        return (DATASETS if self.kind == "dataset" else "") + self.name


@dataclass(frozen=True, kw_only=True)
class CardRequest:
    """What a card says, and where it is written. Raises RequestError for values that do not fit together."""

    source: Path  # a snapshot's file, a run or a folder of runs; or a dataset's ZIP
    out: Path  # folder of the card
    license: str = UNKNOWN  # of what is published, as an identifier of the hub's such as cc0-1.0
    creator: str = UNKNOWN  # who made it
    repo: str | None = None  # where it will be; None: the card's commands have a placeholder
    evaluation: Path | None = None  # folder of an evaluation of the snapshot; None: the card says that there is none
    data: Path | None = None  # the dataset that the generator learned from; None: only its fingerprint is told
    manifest: Path | None = None  # that selected images of it; None: of a dataset's card the one beside the dataset
    data_repo: str | None = None  # where that dataset is; None: nowhere
    seeds: str = "0-15"  # of the samples
    class_name: str | None = None  # of the samples; None: the first classes, a grid each
    truncation_psi: float = 1.0  # of the samples
    device: str = "auto"  # auto, cpu, cuda or cuda:N
    overwrite: bool = False  # whether a card may be replaced

    def __post_init__(self) -> None:
        for name in ("license", "creator"):
            if not getattr(self, name).strip() or not getattr(self, name).isprintable():
                raise RequestError(f"`{name}` must be a line of text; got {getattr(self, name)!r} instead")
        if self.repo is not None:
            Repository.parse(self.repo)
        if self.data_repo is not None:
            Repository.parse(self.data_repo, "data_repo")
        if self.manifest is not None and self.data is None and not self.source.is_file():
            raise RequestError("`manifest` needs `data`, the dataset whose images it selects")
        refuse_existing([self.out / "README.md"], self.overwrite)


@dataclass(frozen=True, kw_only=True)
class PushRequest:
    """What is sent to a hub. Raises RequestError for a `repo` that is none."""

    source: Path  # a snapshot's file, a run or a folder of runs; or a dataset's ZIP
    repo: str  # OWNER/NAME
    card: Path | None = None  # folder that `salon card` wrote of `source`; None: there is no card
    private: bool = False  # whether a new repository is for its owner alone
    message: str | None = None  # of the commit; None: names what is sent
    overwrite: bool = False  # whether files of a repository that is there already may be replaced

    def __post_init__(self) -> None:
        Repository.parse(self.repo)
        if self.message is not None and not self.message.strip():
            raise RequestError("`message` must not be empty")


@dataclass(frozen=True, kw_only=True)
class PullRequest:
    """What is fetched from a hub. Raises RequestError for a `repo` that is none, and where `out` exists."""

    repo: str  # OWNER/NAME, or datasets/OWNER/NAME
    out: Path  # new folder
    revision: str | None = None  # branch, tag or commit; None: the newest of main

    def __post_init__(self) -> None:
        Repository.parse(self.repo)
        refuse_existing([self.out])
