"""What is written of each picture: its latents, images, video and snapshot, marked as generated where they are.

The picture itself, fitted, has no mark; what shows it beside the generator's image is marked as a composite.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gan import snapshot
from gan.data.images import Pixels, for_display, save, tile
from gan.data.recipe import Recipe
from gan.networks.generator import Generator
from gan.runtime.files import sha256
from gan.sampling import animation
from gan.sampling.generate import synthesize
from gan.sampling.latents import Floats
from gan.sampling.marking import Marking
from gan.sampling.ws_file import WsFile
from gan.snapshot import Snapshot
from serving.project.request import BESIDE, LATENTS, PROJECTION, SNAPSHOT, SUFFIXES, TARGET, VIDEO

FPS = 30  # frames a second of the video
HOLD = 45  # frames for which it shows the last image
SIDE = 256  # pixels that the shorter side of an image has at least, where a person is to look at it
GAP = 4  # pixels between a picture and its projection


def beside(target: Pixels, pixels: Pixels) -> Pixels:
    """A picture and the generator's image of it [H, W, C], side by side and enlarged where they are small."""
    times = max(-(-SIDE // min(target.shape[:2])), 1)
    shown = np.stack([for_display(one) for one in (target, pixels)])
    return tile(shown.repeat(times, axis=1).repeat(times, axis=2), 2, gap=GAP)


class Preview:
    """Shows a search while it runs: an image file, the picture beside the image so far, which is written again."""

    def __init__(self, path: Path, target: Pixels, G: Generator, recipe: Recipe) -> None:
        self.path, self._target, self._G, self._recipe = path, target, G, recipe

    def __call__(self, ws: torch.Tensor) -> None:
        """Write the image of ws [1, num_ws, w_dim] so far."""
        (pixels,) = synthesize(self._G, ws)
        save(beside(self._target, pixels), self.path, recipe=self._recipe)


class Result:
    """The files of one picture in `folder`, after its name."""

    def __init__(self, folder: Path, name: str, marks: Marking) -> None:
        self.files: list[Path] = []
        self._stem, self._marks = folder / name, marks

    def finish(self) -> None:
        """Remove what an earlier command left of this name, and previews."""
        for path in map(self._path, SUFFIXES):
            if path not in self.files:
                path.unlink(missing_ok=True)

    def _path(self, suffix: str) -> Path:
        return self._stem.with_name(self._stem.name + suffix)

    def _new(self, suffix: str) -> Path:
        self.files.append(self._path(suffix))
        return self.files[-1]

    def save_snapshot(self, G: Generator, source: Snapshot, lineage: Mapping[str, Any]) -> str:
        """Write a generator that was made of the source's -> SHA-256 of the file."""
        path = self._new(SNAPSHOT)
        snapshot.save(path, G, None, source.config, source.cur_nimg, source.classes, lineage=lineage)
        return sha256(path)

    def save_latents(self, ws: Floats, digest: str, about: Mapping[str, Any]) -> str:
        """Write ws [1, num_ws, w_dim] of the snapshot with this SHA-256 -> SHA-256 of the file."""
        path = self._new(LATENTS)
        WsFile(ws=ws, snapshot=digest, about=about).save(path)
        return sha256(path)

    def save_images(
        self, target: Pixels, pixels: Pixels, recipe: Recipe, composite: Recipe, of_target: Recipe | None
    ) -> None:
        """Write the generator's image, the picture that it is to show, and both side by side.

        `of_target` is what the picture's own file says, where that was generated, too.
        """
        for suffix, image, made_by in (
            (PROJECTION, pixels, recipe),
            (TARGET, target, of_target),
            (BESIDE, beside(target, pixels), composite),
        ):
            path = self._new(suffix)
            save(image, path, recipe=None if made_by is None else self._marks.of(made_by))
            if made_by is not None:
                self._marks.sign(path, made_by)

    def save_video(self, target: Pixels, images: Iterable[Pixels], recipe: Recipe) -> None:
        """Write a video of images on the way, each beside the picture."""

        def frames() -> Iterator[Pixels]:
            for pixels in images:
                yield beside(target, pixels)

        path = self._new(VIDEO)
        animation.save(frames(), path, FPS, hold=HOLD, recipe=self._marks.of(recipe))
        self._marks.sign(path, recipe)
