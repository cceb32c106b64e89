"""A snapshot -> a version of its models in a model repository, each compared with PyTorch before it is published."""

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gan import snapshot
from gan.data import xmp
from gan.data.images import Pixels, refuse_images
from gan.errors import RequestError, SalonError
from gan.networks.discriminator import Discriminator
from gan.networks.generator import Generator
from gan.rejection.discriminator_logits import DiscriminatorLogits, count_references
from gan.runtime.console import progress
from gan.runtime.files import sha256
from gan.sampling import generate
from gan.sampling.directions import Directions
from gan.sampling.latents import MAX_SEED
from gan.snapshot import Snapshot
from serving.contract import (
    CLASSIFIER,
    DEFAULT_NAME,
    DIRECTIONS_FILE,
    ENSEMBLES,
    KINDS,
    MAX_DIRECTIONS,
    ModelMetadata,
    model_name,
)
from serving.export import networks, onnx_file
from serving.export.discriminator_graph import LogitOfImage
from serving.export.generator_graph import ImageFromWs, ImageFromZ, MappingGraph, SynthesisGraph
from serving.export.model_config import Settings
from serving.export.model_repository import NO_CACHE, Model, ModelRepository
from serving.export.parity import BOUNDS, Array, Reference, make_reference
from serving.export.request import ExportRequest

GRAPH = "model.onnx"
BACKENDS = Path(__file__).parent / "backends"
NETWORKS = ("generator", "mapping", "synthesis", "discriminator")  # kinds that are graphs of the snapshot's networks
NEEDS = {"seed_to_png": ("generator",), **{kind: ("generator", second) for kind, second in ENSEMBLES.items()}}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


def export(request: ExportRequest) -> dict[str, Any]:
    """Add a version of the requested models to the repository `request.out` -> figures.

    Raises RequestError when the request does not fit the snapshot or the repository, SalonError when a graph does not
    compute what PyTorch does; nothing is published then.
    """
    settings = Settings(
        backend=request.backend,
        max_batch=request.max_batch,
        instances=request.instances,
        tensorrt=request.tensorrt,
        precision=request.precision,
        response_cache=request.response_cache,
    )
    name, classifier = request.name, request.classifier
    _check_name(name)
    repository = ModelRepository(request.out)
    repository.recover()
    served = repository.models()
    if not served:
        refuse_images(request.out)
    assert request.snapshot is not None  # as ExportRequest makes sure
    source = snapshot.find(request.snapshot)
    known = served.get(CLASSIFIER) if classifier is None else _classifier_about(classifier)
    styles = known.styles if known else []
    kinds = _choose(request.kinds, source, has_classifier=classifier is not None, has_styles=bool(styles))
    _check_family(name, kinds, served)
    directions = None if request.directions is None else _directions(request.directions, source, kinds)
    repository.refuse_styles(name, kinds, styles)
    repository.refuse_others([model_name(kind, name) for kind in kinds])
    with repository.workplace() as folder:
        job = _Export(source, name, settings, request.opset, styles, classifier, request.directions, folder)
        models = [job.make(kind) for kind in progress(kinds, "Exporting", len(kinds), unit="model")]
        version = repository.publish(models)
    return {
        "snapshot": str(source.path),
        "sha256": job.about("generator").snapshot,
        "out": str(request.out),
        "version": version,
        "backend": request.backend,
        "precision": request.precision,
        "opset": request.opset,
        "models": [model_name(kind, name) for kind in kinds],
        "difference": job.differences,
        "directions": None if directions is None else list(directions.entries),
    }


@dataclass
class _Export:
    # One export on its way: what its models share.

    source: Snapshot
    name: str
    settings: Settings
    opset: int
    styles: list[str]
    classifier: Path | None
    directions: Path | None
    folder: Path

    def __post_init__(self) -> None:
        self.differences: dict[str, float] = {}  # kind -> largest difference from PyTorch in ws, img or logit
        self._sha256 = sha256(self.source.path)
        self._directions = None
        if self.directions is not None:  # as they are now, whatever happens to the file meanwhile
            shutil.copyfile(self.directions, self.folder / DIRECTIONS_FILE)
            self._directions = sha256(self.folder / DIRECTIONS_FILE)
        G, D = self.source.G_ema, self.source.D
        self._references = [] if D is None else _reference_images(G, D)
        classes: list[int | None] = [*range(G.config.num_classes)] or [None]
        self._reference: Reference = make_reference(
            G,
            self.settings.max_batch,
            None
            if D is None
            else [
                DiscriminatorLogits(D, images, None if number is None else [number] * len(images))
                for images, number in zip(self._references, classes, strict=True)
            ],
        )

    def about(self, kind: str) -> ModelMetadata:
        if kind == CLASSIFIER:
            assert self.classifier is not None
            return _classifier_about(self.classifier)
        styles = self.styles if kind == "generate_and_classify" else []
        about = networks.describe(self.source, self._sha256, kind, self.name, styles)
        return replace(about, directions=self._directions if kind == "mapping" else None)

    def make(self, kind: str) -> Model:
        about = self.about(kind)
        if kind in ENSEMBLES:
            return Model(about, self.settings, None)
        files = self.folder / kind
        files.mkdir()
        if kind == "seed_to_png":
            _add_backend("seed_to_png.py", files)
            shutil.copyfile(xmp.__file__, files / "salon_xmp.py")
            return Model(about, self.settings, files)
        if about.directions:
            shutil.copyfile(self.folder / DIRECTIONS_FILE, files / DIRECTIONS_FILE)
        if kind in NETWORKS:
            self._write_network(about, files / GRAPH)
        else:
            assert self.classifier is not None
            shutil.copyfile(self.classifier, files / GRAPH)
            _check_classifier(files / GRAPH, about, self.settings.max_batch, self.opset)
        if self.settings.backend == "python":
            _add_backend("onnx_model.py", files)
        return Model(about, self.settings, files)

    def _write_network(self, about: ModelMetadata, path: Path) -> None:
        module, given = self._module(about.kind)
        bounds = BOUNDS["fp32" if about.kind in ("mapping", "discriminator") else self.settings.precision]
        difference = networks.write(module, given, about, path, self._reference, bounds, self.opset)
        self.differences[about.kind] = difference

    def _module(self, kind: str) -> tuple[torch.nn.Module, tuple[str, ...]]:
        # The module, and the names of what it gives.
        G, D = self.source.G_ema, self.source.D
        if kind == "mapping":
            return MappingGraph(G), ("ws",)
        if kind == "discriminator":
            assert D is not None
            return LogitOfImage(D, self._references), ("logit",)
        synthesis = SynthesisGraph(G.synthesis, {"fp32": torch.float32, "fp16": torch.float16}[self.settings.precision])
        graph = ImageFromWs(synthesis) if kind == "synthesis" else ImageFromZ(MappingGraph(G), synthesis)
        return graph, ("image", "img")


def _directions(path: Path, source: Snapshot, kinds: list[str]) -> Directions:
    # Of the snapshot itself: another generator of the same shape has other directions.
    if missing := [kind for kind in ("mapping", "synthesis") if kind not in kinds]:
        raise RequestError(f"`directions` needs {missing[0]} among `models`")
    network = source.config.network
    directions = Directions.open(path, network.num_ws, network.w_dim)
    if (size := path.stat().st_size) > MAX_DIRECTIONS:
        raise RequestError(
            f"`directions` must be a file of at most {MAX_DIRECTIONS // 1024} KiB, which clients read whole; {path} "
            f"has {size // 1024}: keep fewer of them"
        )
    digest = sha256(source.path)
    if directions.snapshot not in (None, digest):
        raise RequestError(
            f"`directions` must be of this snapshot, {digest[:12]}; {path} is of {directions.snapshot[:12]} instead"
        )
    return directions


def _add_backend(name: str, files: Path) -> None:
    shutil.copyfile(BACKENDS / name, files / "model.py")
    # Where Python would make a folder for the compiled model.py, which servers that poll would take for a change of the
    # model. Triton's interpreter ignores PYTHONDONTWRITEBYTECODE.
    (files / NO_CACHE).touch()


def _reference_images(G: Generator, D: Discriminator) -> list[list[Pixels]]:
    # For each class, images of the seeds that gan.rejection.select_seeds takes too, from the last one down.
    needed = count_references(D)
    seeds = range(MAX_SEED, MAX_SEED - needed, -1)
    classes: list[int | None] = [*range(G.config.num_classes)] or [None]
    return [list(generate.generate(G, seeds, None if number is None else [number] * needed)) for number in classes]


def _classifier_about(path: Path) -> ModelMetadata:
    about = onnx_file.read_about(path)
    if about.kind != CLASSIFIER or len(about.styles) < 2:
        raise RequestError(f"`classifier` must be a style classifier that salon style train wrote; {path} is none")
    return about


def _check_classifier(path: Path, about: ModelMetadata, max_batch: int, opset: int) -> None:
    # Nothing here can say what it should compute; but for any size and batch it must give probabilities, the same in
    # whatever opset.
    try:
        before = None
        if onnx_file.opset_of(path) != opset:
            before = networks.runner(path, ("probabilities",))
            onnx_file.convert(path, opset)
        onnx_file.check(path, about, opset)
        run = networks.runner(path, ("probabilities",))
        rng = np.random.default_rng(0)
        for batch, width, height in ((1, 64, 64), (3, 256, 192), (max_batch, 32, 40)):
            image: Array = rng.integers(0, 256, [batch, height, width, 3], np.uint8)
            found = run({"image": image})["probabilities"]
            if found.shape != (batch, len(about.styles)) or not np.allclose(found.sum(axis=1), 1, atol=1e-3):
                raise SalonError(f"it gives no probabilities for {batch} images of {width}x{height}")
            if before and not np.allclose(found, before({"image": image})["probabilities"], atol=1e-3):
                raise SalonError(f"it gives other probabilities in opset {opset}")
    except Exception as error:  # of whatever class a runtime raises
        raise RequestError(f"`classifier` must be a working ONNX graph in opset {opset}: {error}") from error


def _check_name(name: str) -> None:
    taken = any(name == kind or name.endswith(f"_{kind}") for kind in KINDS)
    if not _NAME.fullmatch(name) or (taken and name != DEFAULT_NAME):
        raise RequestError(
            f"`name` must be letters, digits, - and _, and not end as names of other models do; got {name!r} instead"
        )


def _choose(kinds: Sequence[str] | None, source: Snapshot, *, has_classifier: bool, has_styles: bool) -> list[str]:
    """The kinds to export, in an order in which each finds what it needs."""
    lacking = {} if source.D else {"discriminator": f"a discriminator, and {source.path} has none"}
    if not has_classifier:
        lacking[CLASSIFIER] = "`classifier`"
    if not has_styles:
        lacking["generate_and_classify"] = "`classifier`"
    if source.config.network.image_channels != 3:  # the ensemble hands images on as they are
        lacking["generate_and_classify"] = f"a generator of RGB images; {source.path} is of others"
    if not source.D:
        lacking["generate_and_score"] = lacking["discriminator"]
    if kinds is None:
        return [kind for kind in KINDS if kind not in lacking]
    for kind in kinds:
        if kind not in KINDS:
            raise RequestError(f"`models` must be some of {', '.join(KINDS)}; got {kind!r} instead")
        if kind in lacking:
            raise RequestError(f"`models` {kind} needs {lacking[kind]}")
        ours = [other for other in NEEDS.get(kind, ()) if other != CLASSIFIER or has_classifier]
        if missing := [other for other in ours if other not in kinds]:
            raise RequestError(f"`models` {kind} needs {missing[0]} among them")
    return [kind for kind in KINDS if kind in kinds]


def _check_family(name: str, chosen: list[str], served: dict[str, ModelMetadata]) -> None:
    # Seeds, ws and images pass from one model of a generator to the other: all are of one export.
    for other, about in served.items():
        if about.generator == name and about.kind not in chosen:
            raise RequestError(
                f"`models` must also have {about.kind}, which the repository serves as {other} and which belongs to "
                f"the {name} that it would no longer fit; or remove that folder first"
            )
