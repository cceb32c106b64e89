"""The stages of the pipeline: each is a Salon command, and what it takes from the stages before."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Options = dict[str, Any]  # of a command, named as there without the dashes


@dataclass(frozen=True, kw_only=True)
class Wiring:
    """What a command gets from the pipeline: arguments in order, and options that the file may override."""

    arguments: list[str] = field(default_factory=list)
    options: Options = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What stages before left: paths that exist, and the figures that their commands printed."""

    images: list[str]  # folders and ZIPs
    paths: Mapping[str, str]  # stage -> what it wrote
    figures: Mapping[str, Mapping[str, Any]]  # stage -> JSON

    @property
    def run(self) -> str:
        """The run that was trained."""
        return str(self.figures.get("train", {}).get("run", self.paths.get("train")))

    @property
    def snapshot(self) -> str:
        """What to deploy: the curated arm's generator where curation helped, else that of the arm with all images."""
        retraining = self.figures.get("retrain")
        if retraining is None:
            return self.run
        arm = "curated" if retraining["verdict"] == "helped" else "full"
        return str(Path(self.paths["retrain"]) / "arms" / f"{arm}-0")

    @property
    def styled(self) -> str:
        """Images with styles: the dataset, at the generator's size, where its classes are folders; else the images."""
        labels = self.figures.get("prepare", {}).get("parameters", {}).get("labels")
        return self.paths["prepare"] if (labels or "").startswith("folders") else self.images[0]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A table of the file. What the command writes is named `output` with the stage's key in it."""

    title: str  # what it does, for the page and the terminal
    command: str
    output: str  # such as "dataset-*.zip"
    wiring: Callable[[Inputs, str], Wiring]  # of the inputs, and the path to write
    after: tuple[str, ...] = ()  # stages whose results it reads, where the file has them
    needs: tuple[str, ...] = ()  # those of them that it cannot do without
    served: bool = False  # it asks a server; "{url}" stands for its address
    fresh_output: bool = False  # it cannot resume a partial output: after a kill it restarts under a new name


def _take(**options: str) -> Options:
    return {name.replace("_", "-"): value for name, value in options.items()}


_OVERWRITE: Options = {"overwrite": True}  # what a call that was killed left

STAGES: dict[str, Stage] = {
    "synthetic": Stage(
        title="Make images to learn from",
        command="synthetic",
        output="paintings-*",
        wiring=lambda inputs, out: Wiring(arguments=[out]),
    ),
    "prepare": Stage(
        title="Make a dataset of them",
        command="prepare",
        output="dataset-*.zip",
        wiring=lambda inputs, out: Wiring(arguments=inputs.images, options=_take(out=out) | _OVERWRITE),
        after=("synthetic",),
    ),
    "train": Stage(
        title="Train a generator",
        command="train",
        output="runs",
        wiring=lambda inputs, out: Wiring(options=_take(data=inputs.paths["prepare"], out=out)),
        after=("prepare",),
        needs=("prepare",),
    ),
    "evaluate": Stage(
        title="Evaluate the generator",
        command="eval run",
        output="evaluation-*",
        wiring=lambda inputs, out: Wiring(
            options=_take(snapshot=inputs.run, data=inputs.paths["prepare"], out=out) | _OVERWRITE,
        ),
        after=("prepare", "train"),
        needs=("prepare", "train"),
    ),
    "check": Stage(
        title="Look for faults in the dataset",
        command="curate check",
        output="checked-*.manifest",
        wiring=lambda inputs, out: Wiring(arguments=[inputs.paths["prepare"]], options=_take(out=out)),
        after=("prepare",),
        needs=("prepare",),
        fresh_output=True,
    ),
    "score": Stage(
        title="Score how typical each image is",
        command="curate score",
        output="scored-*.manifest",
        wiring=lambda inputs, out: Wiring(
            arguments=[inputs.paths["prepare"]], options=_take(manifest=inputs.paths["check"], out=out)
        ),
        after=("prepare", "check"),
        needs=("prepare", "check"),
        fresh_output=True,
    ),
    "prune": Stage(
        title="Drop what does not belong",
        command="curate prune",
        output="curated-*.manifest",
        wiring=lambda inputs, out: Wiring(arguments=[inputs.paths["score"]], options=_take(out=out)),
        after=("score",),
        needs=("score",),
        fresh_output=True,
    ),
    "retrain": Stage(
        title="Train on, with and without curation",
        command="curate retrain",
        output="retraining-*",
        wiring=lambda inputs, out: Wiring(
            options=_take(run=inputs.run, manifest=inputs.paths["prune"], data=inputs.paths["prepare"], out=out)
        ),
        after=("prepare", "train", "prune"),
        needs=("prepare", "train", "prune"),
    ),
    "style": Stage(
        title="Train a style classifier",
        command="style train",
        output="style-*.onnx",
        wiring=lambda inputs, out: Wiring(options=_take(data=inputs.styled, out=out) | _OVERWRITE),
        after=("synthetic", "prepare"),
    ),
    "export": Stage(
        title="Export the generator",
        command="export",
        output="models-*",
        wiring=lambda inputs, out: Wiring(
            options=_take(snapshot=inputs.snapshot, out=out)
            | (_take(classifier=inputs.paths["style"]) if "style" in inputs.paths else {})
        ),
        after=("train", "retrain", "style"),
        needs=("train",),
    ),
    "query": Stage(
        title="Generate images on the server",
        command="query generate",
        output="wall-*.png",
        wiring=lambda inputs, out: Wiring(options=_take(url="{url}", out=out) | _OVERWRITE),
        after=("export",),
        needs=("export",),
        served=True,
    ),
    "style-check": Stage(
        title="Check the style of what is served",
        command="style check",
        output="style-check-*",
        wiring=lambda inputs, out: Wiring(options=_take(url="{url}", out=out) | _OVERWRITE),
        after=("export", "style"),
        needs=("export", "style"),
        served=True,
    ),
}
