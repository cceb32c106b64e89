"""What `salon curate prune`, `learn` and `review` take. Light: the command line reads its defaults here."""

from dataclasses import dataclass, field
from pathlib import Path

from curation.score.request import FeatureRequest
from gan.errors import RequestError
from gan.runtime.files import refuse_existing


@dataclass(frozen=True, kw_only=True)
class PruneRequest:
    """What to drop. Shares are of the images that the manifest keeps so far.

    Raises RequestError for what does not go together, and when `out` exists: verdicts are never changed in place.
    """

    manifest: Path
    out: Path | None = None  # the manifest to write: a new folder; None: for a dry run
    dry_run: bool = False  # only report
    keep: float = 0.95  # share to keep of all
    strata: str | None = None  # column of STRATA for counts and quotas; None: one stratum
    floor: float | None = None  # share to keep of each stratum at least; None: a stratum may lose twice what all lose
    cap: int | None = None  # images a stratum at most, whatever the floor; None: any number
    methods: tuple[str, ...] = ()  # whose scores rank the images; empty: those of RANKING that have scores
    fuse: str = "mean"  # one of quotas.FUSIONS
    fuse_by: Path | None = None  # manifest with verdicts, or .csv of name and outlier: they weigh content and style
    protect: Path | None = None  # list of images to keep; None: no list
    drop: Path | None = None  # list of images to drop, before all others and whatever the floor; None: no list
    drop_flags: tuple[str, ...] = ()  # codes of `salon curate check` to drop, likewise
    tail: float = 0.05  # share with the highest discriminator scores to report as under-covered

    def __post_init__(self) -> None:
        if self.floor is not None and self.strata is None:
            raise RequestError("`floor` needs `strata`: it is the share of each stratum to keep")
        if self.cap is not None and self.strata is None:
            raise RequestError("`cap` needs `strata`: it is the number of images of each stratum to keep")
        if self.fuse_by is not None and self.fuse != "mean":
            raise RequestError(f"`fuse_by` weighs a mean of ranks; `fuse` must be mean; got {self.fuse} instead")
        if self.dry_run:
            return
        if self.out is None:
            raise RequestError("`out` must name the manifest to write, such as pruned.manifest; or add `dry_run`")
        refuse_existing([self.out])

    def quota(self) -> float:
        """The share of each stratum that stays at least."""
        if self.floor is not None:
            return self.floor
        return round(max(0.0, 2 * self.keep - 1), 9) if self.strata else 0.0


@dataclass(frozen=True, kw_only=True)
class LearnRequest(FeatureRequest):
    """What to learn a reviewer's verdicts from: those of `manifest`, and features of the images."""

    manifest: Path = field()  # with the verdicts; required
    count: int = 50  # images to propose for the next review
    seed: int = 0  # of the folds of cross-validation


@dataclass(frozen=True, kw_only=True)
class ReviewRequest:
    """What to show, and who decides on it. Raises RequestError for what does not go together."""

    manifest: Path
    data: Path  # the dataset that the manifest is of
    out: Path | None = None  # .html file to write; None: no file
    overrule: Path | None = None  # the manifest to write with a person's verdicts; None: nobody decides
    reviewer: str | None = None  # name of that person
    next: bool = False  # show only what to decide on next, for salon curate learn
    port: int = 0  # of the page; 0: any that is free
    count: int = 50  # images of each section at most
    size: int = 128  # side of thumbnails, px
    seed: int = 0  # of the kept images that are shown

    def __post_init__(self) -> None:
        if self.out is None and self.overrule is None:
            raise RequestError("`out` must name the page to write, such as review.html; or `overrule` a new manifest")
        if self.reviewer and self.overrule is None:
            raise RequestError("`reviewer` needs `overrule`, the manifest of what the reviewer decides")
        if self.overrule is not None and not self.reviewer:
            raise RequestError("`overrule` needs `reviewer`: the manifest says who decided")
        if self.out is not None and self.out.suffix != ".html":
            raise RequestError(f"`out` must end in .html; got {self.out} instead")
        refuse_existing([self.out] if self.out else [])
        refuse_existing([self.overrule] if self.overrule else [], parameter="overrule")
