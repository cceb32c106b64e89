"""The card of a generator: README.md with what the hub reads, samples, and the same for machines as card.json."""

import math
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gan import __version__, snapshot
from gan.data.classes import class_index, class_name
from gan.data.collection import Collection
from gan.data.images import save
from gan.data.recipe import Recipe
from gan.device.selection import select
from gan.errors import RequestError
from gan.runtime.console import progress
from gan.runtime.files import sha256, write_json
from gan.sampling import image_grid
from gan.sampling.generate import Sampler
from gan.sampling.latents import parse_numbers
from gan.sampling.marking import Marking
from gan.sampling.request import MarkingRequest
from gan.snapshot import Snapshot
from serving.hub import evaluated, markdown, selection
from serving.hub.evaluated import Evaluated
from serving.hub.front_matter import front_matter
from serving.hub.kinds import README
from serving.hub.push import CARD, CARD_FORMAT
from serving.hub.request import PLACE, CardRequest
from serving.hub.selection import Selection
from serving.hub.training_command import in_lines, training_command

MAX_SAMPLES = 256  # seeds
GRIDS = 4  # of samples, where no class is asked for
NAMELESS = "DATASET.zip"  # in commands
_WIDE = 512  # pixels at which samples are shown, at least


@dataclass(frozen=True, kw_only=True)
class LearnedFrom:
    """The dataset of a generator, as far as it is at hand."""

    fingerprint: str
    images: int | None  # of the dataset; None: it is not at hand
    kept: int | None  # to learn from
    repo: str | None
    file: str  # its name, for commands
    selection: Selection | None

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        chosen = self.selection and self.selection.to_dict()
        return {"sha256": self.fingerprint, "images": self.images, "kept": self.kept, "manifest": chosen}


def write(request: CardRequest) -> dict[str, Any]:
    """Write the card of the generator that `source` names -> figures: out, files, snapshot and its sha256.

    Raises RequestError where `evaluation`, `data` or `manifest` are of something else than the generator.
    """
    source = snapshot.find(request.source)
    digest = sha256(source.path)
    seeds = parse_numbers(request.seeds)
    if len(seeds) > MAX_SAMPLES:
        raise RequestError(f"`seeds` must be at most {MAX_SAMPLES} of a card; got {len(seeds)} instead")
    data = _learned_from(request, source)
    evaluation = evaluated.read(request.evaluation, digest) if request.evaluation else None
    name = _name(request, source)
    folder = re.sub(r"[^\w.-]", "-", name)
    samples = _draw(request, source, seeds, digest)
    config = source.config
    kimg = source.cur_nimg / 1000
    command = training_command(config, kimg, data.file)
    shown = [class_name(index, source.classes) for index in range(config.network.num_classes)]
    text = markdown.render(
        "model.md.j2",
        front=_front(request, name, data, evaluation),
        name=name,
        folder=folder,
        repo=request.repo or PLACE,
        classes=shown,
        first_class=shlex.quote(shown[0]) if shown else None,
        shape=str(config.network.shape),
        kimg=kimg,
        psi=f"{request.truncation_psi:g}",
        samples=samples,
        dataset=data,
        manifest=config.manifest,
        selection=data.selection,
        config=config,
        preset=config.preset,
        command=command and in_lines(command),
        weights=sum(parameter.numel() for parameter in source.G_ema.parameters()),
        ema_width=source.ema_width,
        salon=__version__,
        evaluation=evaluation,
        rows=evaluated.number_rows(evaluation) if evaluation else [],
        missing=evaluated.not_measured(evaluation),
        license=request.license,
        snapshot=snapshot.path_for(Path(), source.cur_nimg).name,
        sha256=digest,
    )
    about = {
        "format": CARD_FORMAT,
        "kind": "model",
        "sha256": digest,
        "license": request.license,
        "creator": request.creator,
        "kimg": kimg,
        "config": config.to_dict(),
        "command": command,
        "dataset": data.to_dict(),
        "evaluation": evaluation.to_dict() if evaluation else None,
        "not_measured": evaluated.not_measured(evaluation),
        "samples": samples,
        "salon": __version__,
    }
    write_json(request.out / CARD, about)
    markdown.write(request.out / README, text)
    files = [README, CARD, *(sample["file"] for sample in samples)]
    return {"out": str(request.out), "kind": "model", "snapshot": str(source.path), "sha256": digest, "files": files}


def _learned_from(request: CardRequest, source: Snapshot) -> LearnedFrom:
    config = source.config
    if request.data is None:
        return LearnedFrom(
            fingerprint=config.dataset,
            images=None,
            kept=None,
            repo=request.data_repo,
            file=NAMELESS,
            selection=None,
        )
    collection = Collection.open(request.data, request.manifest)
    if collection.fingerprint != config.dataset:
        raise RequestError(f"`data` must be what {source.path} learned from; {request.data} is another dataset")
    if request.manifest is not None and collection.selection != config.manifest:
        by = f"the manifest {config.manifest[:12]}" if config.manifest else "no manifest"
        raise RequestError(f"`manifest` must be what selected the images; {source.path} learned by {by}")
    known = config.manifest is None or request.manifest is not None
    return LearnedFrom(
        fingerprint=collection.fingerprint,
        images=len(collection.dataset),
        kept=len(collection.kept) if known else None,
        repo=request.data_repo,
        file=request.data.name if request.data.name.isprintable() else NAMELESS,
        selection=selection.of_collection(collection) if known else None,
    )


def _name(request: CardRequest, source: Snapshot) -> str:
    if request.repo:
        return request.repo.rpartition("/")[2]
    folder = source.path.absolute().parent
    return folder.parent.name if folder.name == "snapshots" else source.path.stem


def _draw(request: CardRequest, source: Snapshot, seeds: Sequence[int], digest: str) -> list[dict[str, Any]]:
    """Write grids of samples, each with its mark and recipe -> file, seeds, class_name, columns, rows, width."""
    num_classes = source.config.network.num_classes
    if request.class_name is None and num_classes:
        classes: list[int | None] = list(range(min(num_classes, GRIDS)))
    else:
        classes = [class_index(request.class_name, num_classes, source.classes)]
    columns = math.ceil(math.sqrt(len(seeds)))
    rows = math.ceil(len(seeds) / columns)
    sampler = Sampler(source.G_ema.to(select(request.device)), truncation_psi=request.truncation_psi)
    marks = Marking(MarkingRequest())
    samples = []
    for number, index in enumerate(progress(classes, "Samples", len(classes), "grid")):
        file = f"samples-{number}.png" if len(classes) > 1 else "samples.png"
        recipe = Recipe(
            kind="grid",
            seeds=seeds,
            grid=f"{columns}x{rows}",
            class_name=None if index is None else class_name(index, source.classes),
            truncation_psi=request.truncation_psi,
            noise_mode="const",
            precision="fp32",
            snapshot=digest,
            dataset=source.config.dataset,
            kimg=source.cur_nimg / 1000,
        )
        images = list(sampler(seeds, None if index is None else [index] * len(seeds)))
        grid = image_grid.grid(images, columns, rows)
        save(grid, request.out / file, recipe=marks.of(recipe))
        samples.append(
            {
                "file": file,
                "seeds": request.seeds,
                "class_name": recipe.class_name,
                "columns": columns,
                "rows": rows,
                "width": max(grid.shape[1], _WIDE),
            }
        )
    return samples


def _front(request: CardRequest, name: str, data: LearnedFrom, evaluation: Evaluated | None) -> str:
    hub_dataset = data.repo.removeprefix("datasets/") if data.repo else None
    return front_matter(
        {
            "license": request.license,
            "library_name": "salon",
            "pipeline_tag": "unconditional-image-generation",
            "tags": ["salon", "stylegan2", "gan", "image-generation"],
            "datasets": [hub_dataset] if hub_dataset else [],
            "metrics": evaluation.hub_metrics() if evaluation else [],
            "model-index": evaluation.model_index(name, hub_dataset or data.file, hub_dataset) if evaluation else [],
        }
    )
