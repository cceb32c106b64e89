"""What `salon curate check` and `salon curate score` take. Light: the command line reads its defaults here."""

from dataclasses import dataclass
from pathlib import Path

from curation.score.methods import BY_FEATURES, FEATURES, METHODS, REMOVED, known_methods
from gan.errors import RequestError
from gan.runtime.engines import check_engine
from gan.runtime.files import refuse_existing

STYLE = "efficientnet-lite0-style"  # the extractor that sees style


@dataclass(frozen=True, kw_only=True)
class FeatureRequest:
    """A dataset with its manifest, and the extractor whose features of the images are compared.

    Raises RequestError when `out` exists.
    """

    dataset: Path
    manifest: Path | None = None  # of the dataset; None: the one beside it
    out: Path  # the manifest to write: a new folder
    extractor: str = "efficientnet-lite0"
    weights: Path | None = None  # file of the extractor's weights; None: where they are looked for
    fetch: bool = False  # whether the weights may be downloaded
    device: str = "auto"  # cpu, cuda or cuda:N; auto: a GPU where there is one
    engine: str = "local"  # local, or ray: a cluster of machines that see the same files
    address: str | None = None  # of the cluster; None: a Ray of this machine's own

    def __post_init__(self) -> None:
        refuse_existing([self.out])
        check_engine(self.engine, self.address)
        if self.engine == "ray" and self.device not in ("auto", "cpu"):
            raise RequestError(
                f"`engine` ray computes on CPUs; `device` must be cpu or auto; got {self.device} instead"
            )

    def extractors(self) -> dict[str, str]:
        """The extractors by what they see of an image."""
        return {"content": self.extractor}


@dataclass(frozen=True, kw_only=True)
class CheckRequest(FeatureRequest):
    """What to flag."""

    labels: str | None = None  # column of STRATA that is checked for label noise; None: no column
    known: Path | None = None  # another dataset, whose copies among the images are flagged; None: no other


@dataclass(frozen=True, kw_only=True)
class ScoreRequest(FeatureRequest):
    """How to score. Raises RequestError for an unknown method, and for what does not go together."""

    features: str = "content"  # content, what is shown; style, how it is painted, which the bundled network sees; both
    methods: tuple[str, ...] = BY_FEATURES  # of METHODS or another package's; those of features by each of the features
    strata: str | None = None  # column of STRATA: images are compared with those of the same value; None: with all
    seed: int = 0  # of halves and of minibatches
    state: Path | None = None  # .npz file of the fitted models: read where it exists, else written; None: not kept
    known: Path | None = None  # manifest whose scores are taken over, by the hash of the pixels; None: score all images
    run: Path | None = None  # snapshot, run or folder of runs whose discriminator scores; d-low alone needs it

    def extractors(self) -> dict[str, str]:
        """The extractors by what they see of an image."""
        names = {"content": self.extractor, "style": STYLE}
        return {features: names[features] for features in FEATURES[self.features]}

    def __post_init__(self) -> None:
        super().__post_init__()
        for method in self.methods:
            if method in REMOVED:
                raise RequestError(
                    f"`methods` must not be {method}, which is gone: discriminators trained to find outliers did "
                    "hardly better than chance (AUROC of d-core 0.567, of density and knn 0.971)"
                )
            if method not in METHODS and method not in (known := known_methods()):
                raise RequestError(f"`methods` must be one of {', '.join(known)}; got {method} instead")
        if self.features not in FEATURES:
            raise RequestError(f"`features` must be one of {', '.join(FEATURES)}; got {self.features} instead")
        if self.features == "style" and (self.extractor != FeatureRequest.extractor or self.weights):
            raise RequestError(f"`features` style are those of {STYLE} alone; `extractor` and `weights` are of content")
        if self.features == "both" and (self.state or self.known):
            raise RequestError("`features` both cannot be kept in one `state`; score content and style one by one")
        has_state = self.state is not None and self.state.exists()
        if self.known is not None and (set(self.methods) - set(BY_FEATURES) or not has_state):
            raise RequestError("`known` needs an existing `state`, and the methods density and knn alone")
        if self.run is not None and "d-low" not in self.methods:
            raise RequestError("`run` needs `methods` d-low; other methods look at no run")
        if self.run is None and "d-low" in self.methods:
            raise RequestError("`methods` d-low needs `run`: a snapshot, a run or a folder of runs")
