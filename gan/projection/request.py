"""How latents are searched for, and how a generator is fine-tuned around them. Light."""

from dataclasses import dataclass

from gan.config import MAX_SEED
from gan.errors import RequestError

SPACES = ("w", "w+")
NOISES = ("const", "search")


@dataclass(frozen=True, kw_only=True)
class SearchRequest:
    """The search of Karras et al. 2020, appendix D. Raises RequestError for a value out of range."""

    space: str = "w"  # w: one w for all layers; w+: one w a layer, which comes nearer and is edited less well
    steps: int = 1000  # of Adam, from each start
    starts: int = 1  # the first from w_avg, others from images of the generator's own; the best is kept
    seed: int = 0  # of the noise on w and of the starts
    learning_rate: float = 0.1  # Adam's at its highest
    noise: str = "const"  # const: the generator's noise maps stay; search: they are searched for, too, regularised

    def __post_init__(self) -> None:
        for name, known in (("space", SPACES), ("noise", NOISES)):
            if getattr(self, name) not in known:
                raise RequestError(f"`{name}` must be one of {', '.join(known)}; got {getattr(self, name)} instead")
        for name in ("steps", "starts"):
            if getattr(self, name) < 1:
                raise RequestError(f"`{name}` must be at least 1; got {getattr(self, name)} instead")
        if not 0 <= self.seed <= MAX_SEED:
            raise RequestError(f"`seed` must be from 0 to {MAX_SEED}; got {self.seed} instead")
        if not 0 < self.learning_rate < float("inf"):
            raise RequestError(f"`learning_rate` must be above 0; got {self.learning_rate} instead")


@dataclass(frozen=True, kw_only=True)
class TuningRequest:
    """Pivotal tuning of Roich et al. 2021. Raises RequestError for a value out of range."""

    tune: int = 0  # steps of Adam; 0: the generator stays as it is
    tune_learning_rate: float = 3e-4  # Adam's
    locality: float = 0.1  # weight of what keeps the generator's other images as they are

    def __post_init__(self) -> None:
        if self.tune < 0:
            raise RequestError(f"`tune` must be at least 0; got {self.tune} instead")
        if not 0 < self.tune_learning_rate < float("inf"):
            raise RequestError(f"`tune_learning_rate` must be above 0; got {self.tune_learning_rate} instead")
        if not 0 <= self.locality < float("inf"):
            raise RequestError(f"`locality` must be at least 0; got {self.locality} instead")
