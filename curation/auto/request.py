"""What `salon curate auto` takes. Light: the command line reads its defaults here."""

from dataclasses import dataclass
from pathlib import Path

from curation.decide.request import PruneRequest
from curation.score.request import CheckRequest, ScoreRequest
from gan.errors import RequestError

COPIES = ("duplicate-exact", "duplicate-near")  # flags of copies, of which a better one is kept


@dataclass(frozen=True, kw_only=True)
class AutoRequest:
    """What to curate, and how. Beside `out` lie the manifests of the steps before, and the page.

    Raises RequestError for what does not go together.
    """

    dataset: Path
    manifest: Path | None = None  # of the dataset; None: the one beside it
    out: Path  # the manifest to write: a new folder
    labels: str | None = None  # column of STRATA that is checked for label noise; None: no column
    strata: str | None = None  # column of STRATA: images are compared, and quotas counted, within it; None: all images
    keep: float = PruneRequest.keep  # share to keep of all, copies among what goes
    floor: float | None = None  # share to keep of each stratum at least; None: as salon curate prune
    drop_flags: tuple[str, ...] = COPIES  # codes of `salon curate check` to drop
    device: str = "auto"  # cpu, cuda or cuda:N; auto: a GPU where there is one
    overwrite: bool = False  # whether what lies at `out` and beside it may be replaced
    dry_run: bool = False  # only say what would be done

    def __post_init__(self) -> None:
        self.prune(dry_run=True)
        if self.manifest is not None and self.out.resolve() == self.manifest.resolve():
            raise RequestError(f"`out` must be another manifest than `manifest`; got {self.out} for both")

    @property
    def checked(self) -> Path:
        """The manifest with flags."""
        return self._beside("checked.manifest")

    @property
    def scored(self) -> Path:
        """The manifest with flags and scores."""
        return self._beside("scored.manifest")

    @property
    def page(self) -> Path:
        """The page of the review."""
        return self._beside("review.html")

    def _beside(self, name: str) -> Path:
        return self.out.with_name(f"{self.out.name.removesuffix('.manifest')}-{name}")

    def check(self) -> CheckRequest:
        """The first step. Raises RequestError where it was done."""
        return CheckRequest(
            dataset=self.dataset, manifest=self.manifest, out=self.checked, labels=self.labels, device=self.device
        )

    def score(self) -> ScoreRequest:
        """The second step, by content and style. Raises RequestError where it was done."""
        return ScoreRequest(
            dataset=self.dataset,
            manifest=self.checked,
            out=self.scored,
            features="both",
            strata=self.strata,
            device=self.device,
        )

    def prune(self, *, dry_run: bool = False) -> PruneRequest:
        """The third step, which a dry run only counts. Raises RequestError where it was done."""
        return PruneRequest(
            manifest=self.scored,
            out=self.out,
            keep=self.keep,
            strata=self.strata,
            floor=self.floor,
            drop_flags=self.drop_flags,
            dry_run=dry_run,
        )
