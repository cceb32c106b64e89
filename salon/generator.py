"""A trained generator as one object: from seeds or latents to images."""

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gan import snapshot as snapshots
from gan.config import PRECISIONS
from gan.data.classes import class_index
from gan.device.selection import select
from gan.errors import RequestError
from gan.image_shape import ImageShape
from gan.networks import precision as precisions
from gan.projection.request import SearchRequest, TuningRequest
from gan.sampling.directions import Directions
from gan.sampling.generate import generate, map_seeds, synthesize
from gan.sampling.latents import Floats
from gan.sampling.ws_file import WsFile
from gan.snapshot import Snapshot
from salon.requests import AnyPath, parted, request_of
from serving.directions.find import find
from serving.directions.request import DirectionsRequest
from serving.project.project import project
from serving.project.request import LATENTS, ProjectRequest

Images = NDArray[np.uint8]  # [N, H, W, C]


def load(path: AnyPath, *, device: str = "auto", precision: str = "fp32") -> "Generator":
    """The generator of a snapshot's file, of a run, or of the newest run in a folder of runs.

    `device` is auto, cpu, cuda or cuda:N; `precision` fp32, bf16 or fp16. Raises RequestError where there is none.
    """
    if precision not in PRECISIONS:
        raise RequestError(f"`precision` must be one of {', '.join(PRECISIONS)}; got {precision} instead")
    found = snapshots.find(Path(path))
    precisions.apply(found.G_ema, precision)
    found.G_ema.to(select(device))
    return Generator(found)


class Generator:
    """Images of a snapshot. One seed is one image, whatever else is asked for together with it.

    Public are `snapshot`, a gan.snapshot.Snapshot, whose G_ema is the torch module, and what is below.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot

    def __repr__(self) -> str:
        classes = f", classes {', '.join(self.classes)}" if self.classes else ""
        return f"<salon.Generator {self.snapshot.path}: {self.shape}, {self.snapshot.cur_nimg / 1000:g} kimg{classes}>"

    @property
    def shape(self) -> ImageShape:
        """Width, height and channels of its images."""
        return self.snapshot.config.network.shape

    @property
    def num_ws(self) -> int:
        """Layers, each of which takes a w."""
        return self.snapshot.config.network.num_ws

    @property
    def w_dim(self) -> int:
        """Length of a w."""
        return self.snapshot.config.network.w_dim

    @property
    def classes(self) -> list[str] | None:
        """Names of its classes; None where it has none, or they have no names."""
        return self.snapshot.classes

    def generate(
        self,
        seeds: Sequence[int],
        *,
        class_name: str | int | None = None,
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
        noise_mode: str = "const",
    ) -> Images:
        """Images of seeds 0 to 2**32 - 1, uint8 [N, H, W, C], in order.

        `class_name` is a class's name or index, which a conditional generator needs. `truncation_psi` below 1 gives
        more typical and less varied images, in the first `truncation_cutoff` layers (None: all). `noise_mode` is
        const, random or none. Raises RequestError for a class or noise that is none.
        """
        made = generate(
            self.snapshot.G_ema,
            list(seeds),
            self._classes(class_name, len(seeds)),
            truncation_psi=truncation_psi,
            truncation_cutoff=truncation_cutoff,
            noise_mode=noise_mode,
        )
        return self._stacked(list(made))

    def map(
        self,
        seeds: Sequence[int],
        *,
        class_name: str | int | None = None,
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
    ) -> Floats:
        """ws of seeds, float32 [N, num_ws, w_dim]: what the mapping network makes of them. See generate."""
        ws = map_seeds(
            self.snapshot.G_ema,
            list(seeds),
            self._classes(class_name, len(seeds)),
            truncation_psi=truncation_psi,
            truncation_cutoff=truncation_cutoff,
        )
        return ws.cpu().numpy()

    def synthesize(self, ws: Floats, *, noise_mode: str = "const", seeds: Sequence[int] | None = None) -> Images:
        """Images of ws [N, num_ws, w_dim] (or of one, [num_ws, w_dim]), uint8 [N, H, W, C].

        `noise_mode` random needs `seeds`, one an image. Raises RequestError for ws of another shape.
        """
        own = np.asarray(ws, np.float32)
        own = own[None] if own.ndim == 2 else own
        if own.ndim != 3 or own.shape[1:] != (self.num_ws, self.w_dim):
            raise RequestError(f"`ws` must be of shape [N, {self.num_ws}, {self.w_dim}]; got {list(own.shape)} instead")
        if noise_mode == "random" and (seeds is None or len(seeds) != len(own)):
            raise RequestError(f"`seeds` must be given with noise_mode random, one for each of the {len(own)} ws")
        latents = torch.from_numpy(own).to(self._device)
        return self._stacked(list(synthesize(self.snapshot.G_ema, latents, noise_mode=noise_mode, seeds=seeds)))

    def find_directions(self, **fields: Any) -> Directions:
        """Directions in w along which images change in one way, by PCA of w unless `method` says otherwise.

        `fields` are those of serving.directions.request.DirectionsRequest, such as method, count and layers. The result
        has `entries` by name and can `save` itself. Raises RequestError for what the generator has not.
        """
        return find(request_of(DirectionsRequest, {"device": self._device, **fields}, snapshot=self.snapshot.path))

    def edit(
        self,
        seeds: Sequence[int],
        amounts: Mapping[str, float],
        directions: Directions | AnyPath,
        *,
        class_name: str | int | None = None,
        truncation_psi: float = 1.0,
        noise_mode: str = "const",
    ) -> Images:
        """Images of seeds, moved along directions, uint8 [N, H, W, C]. See generate.

        `amounts` are by direction, in standard deviations of w; 0 changes nothing. `directions` are those of
        find_directions, or a file of them. Raises RequestError for a direction that is not among them.
        """
        if not isinstance(directions, Directions):
            directions = Directions.open(Path(directions), self.num_ws, self.w_dim)
        ws = self.map(seeds, class_name=class_name, truncation_psi=truncation_psi)
        return self.synthesize(directions.edit(ws, amounts), noise_mode=noise_mode, seeds=seeds)

    def project(self, pictures: AnyPath | Sequence[AnyPath], out: AnyPath, **fields: Any) -> Floats:
        """ws with which the generator shows each picture, a file, float32 [N, num_ws, w_dim]. For synthesize.

        `out` is the folder of the pictures beside their images, and of results.json. `fields` are those of
        serving.project.request.ProjectRequest and of SearchRequest and TuningRequest in gan.projection.request, such
        as space, steps, tune, class_name and weights. Raises RequestError for pictures that cannot be used.
        """
        given = [pictures] if isinstance(pictures, str | PathLike) else pictures
        of_request, of_search, of_tuning = parted(fields, ProjectRequest, SearchRequest, TuningRequest)
        request = request_of(
            ProjectRequest,
            {"device": self._device, **of_request},
            pictures=tuple(map(Path, given)),
            snapshot=self.snapshot.path,
            out=out,
        )
        project(request, request_of(SearchRequest, of_search), request_of(TuningRequest, of_tuning))
        files = [request.out / f"{name}{LATENTS}" for name in request.names]
        return np.concatenate([WsFile.open(file, self.num_ws, self.w_dim).ws for file in files])

    @property
    def _device(self) -> str:
        return str(next(self.snapshot.G_ema.parameters()).device)

    def _classes(self, chosen: str | int | None, count: int) -> list[int] | None:
        index = class_index(chosen, self.snapshot.config.network.num_classes, self.classes)
        return None if index is None else [index] * count

    def _stacked(self, images: list[Images]) -> Images:
        height, width, channels = self.shape.height, self.shape.width, self.shape.channels
        return np.stack(images) if images else np.zeros([0, height, width, channels], np.uint8)
