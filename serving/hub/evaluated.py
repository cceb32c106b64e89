"""What a card says of an evaluation of its snapshot, from results.json, and what it says was not measured."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.evaluate import FORMAT, RESULTS
from eval.metric_registry import Result
from gan.errors import RequestError
from gan.runtime.files import read_json, require_format

# What people ask of a generator, and the ids of the results that answer.
_QUESTIONS = {
    "a Fréchet distance": {"fid", "fd"},
    "a kernel distance": {"kid", "kd"},
    "precision and recall": {"precision", "recall"},
    "density and coverage": {"density", "coverage"},
    "an Inception or classifier score": {"is", "cs"},
    "perceptual path length": {"ppl"},
}
# Of results that have a name among the hub's metrics.
_HUB_IDS = {"fid": "fid", "kid": "kid", "is": "inception_score"}


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """An evaluation of one snapshot."""

    results: list[Result]
    images: int  # that were generated for it
    truncation_psi: float
    reference: str  # fingerprint of the dataset that it is against
    reference_images: int
    real_pairs: str | None  # how many images are closer to a real one than that is to its next
    warnings: list[str]
    finished: str  # when, ISO 8601

    def to_dict(self) -> dict[str, Any]:
        """As JSON, without what only comparisons need."""
        kept = ("id", "name", "key", "value", "low", "high", "n", "method", "better", "noise_floor")
        return {
            "images": self.images,
            "truncation_psi": self.truncation_psi,
            "reference": {"sha256": self.reference, "images": self.reference_images},
            "results": [{name: one.to_dict()[name] for name in kept} for one in self.results],
            "warnings": self.warnings,
            "finished": self.finished,
        }

    def hub_metrics(self) -> list[str]:
        """The results that the hub has a name for, by that name."""
        return [_HUB_IDS[one.id] for one in self.results if one.id in _HUB_IDS]

    def model_index(self, name: str, dataset: str, dataset_repo: str | None) -> list[dict[str, Any]]:
        """The results as the hub's front matter has them."""
        metrics = [
            {
                "type": one.id,
                "value": round(one.estimate.value, 6),
                "name": f"{one.name}, 95 % interval {one.estimate.low:.4g} to {one.estimate.high:.4g}",
                "args": {"key": str(one.identity), "low": one.estimate.low, "high": one.estimate.high},
            }
            for one in self.results
        ]
        of = {"type": dataset_repo or dataset, "name": dataset}
        task = {"type": "unconditional-image-generation", "name": "Image generation"}
        return [{"name": name, "results": [{"task": task, "dataset": of, "metrics": metrics}]}]


def read(folder: Path, digest: str) -> Evaluated:
    """The evaluation in a folder of the snapshot whose file has the SHA-256 `digest`.

    Raises RequestError where there is none, or it is of something else.
    """
    path = folder / RESULTS
    values = read_json(path)
    require_format(path, "an evaluation", values.get("format") if isinstance(values, dict) else None, FORMAT)
    try:
        generator, reference, images = values["generator"], values["reference"], values["images"]
        if generator.get("sha256") != digest:
            raise RequestError(f"`evaluation` must be of the card's snapshot; {folder} is of {generator['name']}")
        pairs = None
        if "closer_than_real" in images and generator.get("images"):
            pairs = f"{images['closer_than_real']:,} of {generator['images']:,}"
        return Evaluated(
            results=[Result.from_dict(one) for one in values["results"]],
            images=generator["images"],
            truncation_psi=generator.get("truncation_psi", 1.0),
            reference=reference["sha256"],
            reference_images=reference["images"],
            real_pairs=pairs,
            warnings=list(values["warnings"]),
            finished=values["finished"],
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise RequestError(f"{path} must be as `salon eval run` writes it; it lacks {error}") from error


def not_measured(evaluation: Evaluated | None) -> list[str]:
    """The questions that have no answer."""
    ids = {one.id for one in evaluation.results} if evaluation else set()
    return [question for question, answers in _QUESTIONS.items() if not answers & ids]


def number_rows(evaluation: Evaluated) -> list[Mapping[str, Any]]:
    """Rows of a table: name, value, low, high, noise floor and key."""
    return [
        {
            "name": one.name,
            "value": one.estimate.value,
            "low": one.estimate.low,
            "high": one.estimate.high,
            "floor": one.noise_floor.value if one.noise_floor else None,
            "key": str(one.identity),
            "better": one.to_dict()["better"],
        }
        for one in evaluation.results
    ]
