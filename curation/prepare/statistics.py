"""Statistics of a preparation, counted image by image, and the figures of its report."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from curation.prepare.plan import PreparationPlan, Task
from curation.prepare.resize import EncodedImage, ImageSettings, kept
from gan.data.manifest import DROP, KEEP, QUARANTINE

EXAMPLES = 1000  # quarantined images that the report names; the manifest names all
SCENE = "same scene"  # why a frame is dropped
STRETCHED = 1.5  # beyond this ratio of the sides, making an image square is plain to see

_ASPECTS = (  # upper bound of width / height, and what to call it
    (1 / 2, "taller than 1:2"),
    (1 / 1.5, "1:2 to 1:1.5"),
    (1 / 1.1, "1:1.5 to 1:1.1"),
    (1.1, "about square"),
    (1.5, "1.1:1 to 1.5:1"),
    (2.0, "1.5:1 to 2:1"),
    (float("inf"), "wider than 2:1"),
)


def aspect_name(width: int, height: int) -> str:
    """The bar of the aspect histogram that an image of this size belongs to."""
    return next(name for bound, name in _ASPECTS if width / height <= bound)


@dataclass
class Losses:
    """How many images lose something, and how much."""

    images: int = 0
    total: float = 0
    largest: float = 0

    def add(self, value: float) -> None:
        """Count an image."""
        self.images += 1
        self.total += value
        self.largest = max(self.largest, value)

    def figures(self) -> dict[str, Any]:
        """For the report; of no images, no mean."""
        if not self.images:
            return {"images": 0, "mean": None, "largest": None}
        return {"images": self.images, "mean": round(self.total / self.images, 4), "largest": round(self.largest, 4)}


@dataclass(kw_only=True)
class Statistics:
    """Counts of verdicts, and of what the kept images are like."""

    settings: ImageSettings
    found: int = 0
    kept: int = 0
    crops: int = 0  # of the kept images
    duplicates: int = 0
    same_scene: int = 0  # frames of videos
    unlabelled: int = 0
    beyond: int = 0  # STRETCHED
    cropped: Losses = field(default_factory=Losses)  # share of a side that is cut off
    stretched: Losses = field(default_factory=Losses)  # factor by which width : height changes
    padded: Losses = field(default_factory=Losses)  # share of a side that is border
    bytes_in: int = 0  # of the kept images' files
    bytes_out: int = 0  # of the kept images, encoded
    reasons: Counter[str] = field(default_factory=Counter)
    modes: Counter[str] = field(default_factory=Counter)
    aspects: Counter[str] = field(default_factory=Counter)
    labels: Counter[int] = field(default_factory=Counter)
    genres: Counter[str] = field(default_factory=Counter)
    quarantined: list[dict[str, str | None]] = field(default_factory=list)

    def add(self, task: Task, image: EncodedImage, verdict: str, reason: str | None) -> None:
        """Count one image."""
        self.found += 1
        if verdict == QUARANTINE and reason:
            self.reasons[reason] += 1
            if len(self.quarantined) < EXAMPLES:
                example = {"source": image.shown(task.file), "reason": reason, "detail": image.detail}
                self.quarantined.append(example)
        elif verdict == DROP:
            scene = (reason or "").startswith(f"{SCENE}: ")
            self.same_scene += scene
            self.duplicates += image.content is not None and not scene
            self.unlabelled += image.content is None
        elif verdict == KEEP:
            assert image.content and image.width and image.height and image.mode
            self.kept += 1
            self.bytes_in += image.bytes_in
            self.bytes_out += len(image.content)
            self.modes[image.mode] += 1
            self.aspects[aspect_name(image.width, image.height)] += 1
            longer, shorter = max(image.width, image.height), min(image.width, image.height)
            self.beyond += image.crop is None and longer > STRETCHED * shorter
            if image.crop is None:
                self._add_losses(image.width, image.height)
            self.crops += image.crop is not None
            if task.label is not None:
                self.labels[task.label] += 1
            self.genres[task.painting.genre or "(none)" if task.painting else "(not in the lists)"] += 1

    def _add_losses(self, width: int, height: int) -> None:
        """Count what an image of this size loses, where it is half a pixel of the prepared image or more."""
        shape = self.settings.shape
        seen = 1 - 1 / (2 * max(shape.size))  # what is nearer to 1 is no loss
        kept_width, kept_height = kept(width, height, self.settings)
        left = min(kept_width / width, kept_height / height)
        if left < seen:
            self.cropped.add(1 - left)
        factor = kept_width * shape.height / (kept_height * shape.width)
        same = min(factor, 1 / factor)
        if same < seen and self.settings.fit == "pad":
            self.padded.add(1 - same)
        elif same < seen:
            self.stretched.add(1 / same)

    def figures(self, plan: PreparationPlan, seconds: float) -> dict[str, Any]:
        """The figures of the report; `ratio` is bytes out / bytes in."""
        labels = plan.labels
        classes = range(labels.num_classes if labels else 0)
        shape = self.settings.shape
        return {
            "width": shape.width,
            "height": shape.height,
            "channels": shape.channels,
            "look": plan.look,
            "images": self.kept,
            "crops": self.crops,
            "found": self.found,
            "duplicates": self.duplicates,
            "same_scene": self.same_scene,
            "unlabelled": self.unlabelled,
            "quarantined": dict(sorted(self.reasons.items())),
            "ignored": plan.ignored,
            "videos_ignored": plan.videos_ignored,
            "modes": dict(sorted(self.modes.items())),
            "aspects": {name: self.aspects[name] for _, name in _ASPECTS},
            "beyond_1.5_to_1": self.beyond,
            "cropped": self.cropped.figures(),
            "stretched": self.stretched.figures(),
            "padded": self.padded.figures(),
            "bytes_in": self.bytes_in,
            "bytes_out": self.bytes_out,
            "ratio": round(self.bytes_out / self.bytes_in, 4) if self.bytes_in else None,
            "seconds": round(seconds, 2),
            "images_per_second": round(self.found / seconds, 1) if seconds else None,
            "labels": {labels.name(index): self.labels[index] for index in classes} if labels else None,
            "labels_empty": [labels.name(i) for i in classes if not self.labels[i]] if labels else [],
            "labels_unused": labels.unused if labels else 0,
            "labels_loosely": labels.loosely if labels else 0,
            "wikiart": plan.wikiart,
            "genres": dict(self.genres.most_common()) if plan.wikiart else None,
            "quarantined_images": self.quarantined,
        }
