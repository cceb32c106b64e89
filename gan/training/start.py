"""Where a run starts: from its own newest checkpoint, from another run's weights, or anew."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from gan import snapshot
from gan.config import OF_DATASET, NetworkConfig, TrainingConfig
from gan.errors import RequestError
from gan.runtime.console import say
from gan.runtime.files import utf8_path
from gan.training import checkpoint
from gan.training.learner import Learner
from gan.training.run_dir import Run, require_run
from gan.training.transfer import describe_matching, fit_classes, fit_shape, load_matching, require_mapping


def find_start(resume: str, transfer: Path | None) -> Path | None:
    """The checkpoint or snapshot that a new run starts from; None: anew.

    `resume` is auto, never, or a checkpoint, a snapshot or a run; `transfer` is one of the latter three. Of a run the
    newest checkpoint is taken. Raises RequestError where there is none, or both name one.
    """
    resumed = None if resume in ("auto", "never") else _find_file(Path(resume), "resume")
    if transfer is None:
        return resumed
    if resumed is not None:
        raise RequestError("`transfer` and `resume` FILE exclude each other")
    return _find_file(transfer, "transfer")


def architecture_of(path: Path) -> dict[str, Any]:
    """The networks' config in a checkpoint or snapshot, but for the images' shape and the number of classes.

    Empty where load_source will refuse the file.
    """
    try:
        if path.suffix == ".safetensors":
            with utf8_path(path) as name, safe_open(name, framework="pt") as file:
                config = json.loads(file.metadata()["config"])
        else:  # mapped: its tensors stay on the disk
            config = torch.load(path, map_location="cpu", weights_only=True, mmap=True)["config"]
        network = vars(NetworkConfig(**config["network"]))
    except Exception:  # a damaged file fails in many ways
        return {}
    return {name: value for name, value in network.items() if name not in OF_DATASET}


def load_source(path: Path, config: TrainingConfig) -> dict[str, Any]:
    """What a run starts from: a checkpoint's learner state, or a snapshot's weights for G, D and G_ema.

    With config.transfer, the weights of either, of which D's may be missing; the mapping network must be alike.
    Raises RequestError when the file is damaged, or of another architecture than `config` without config.transfer.
    """
    parameter = "`transfer`" if config.transfer else "`resume`"
    if path.suffix == ".safetensors":
        other = snapshot.load(path)
        network, G_ema = other.config.network, other.G_ema.state_dict()
        source = {"G": other.G.state_dict() if other.G else G_ema, "G_ema": G_ema}
        if other.D is not None:
            source["D"] = other.D.state_dict()
        elif not config.transfer:
            raise RequestError(
                f"`resume` {path} must hold a discriminator; it was imported from a file without one. `transfer` "
                "starts with a new one"
            )
        elif config.freeze_d:
            raise RequestError(f"`freeze_d` needs a discriminator in `transfer`; {path} was imported without one")
    else:
        try:
            state = checkpoint.load(path)
        except RequestError as error:
            raise RequestError(f"{parameter} {error}") from error
        network, source = TrainingConfig.from_dict(state["config"]).network, state["learner"]
    if config.transfer:
        require_mapping(path, network, config.network)
        fitted = {name: fit_classes(source[name], network, config.network) for name in ("G", "G_ema")}
        fitted |= {"D": source["D"]} if "D" in source else {}
        return {name: fit_shape(weights, network, config.network) for name, weights in fitted.items()}
    if config.network != network:
        mine, theirs = vars(config.network), vars(network)
        differing = [
            f"{name} is {theirs[name]} there, {mine[name]} here" for name in mine if mine[name] != theirs[name]
        ]
        raise RequestError(
            f"`resume` {path} must have this run's architecture; {'; '.join(differing)}. `transfer` takes what fits"
        )
    return source


def require_kimg_left(total_kimg: float, config: TrainingConfig, source: Mapping[str, Any] | None) -> None:
    """Raise RequestError when what a new run starts from has seen all the images that it is to see."""
    start = config.resume_kimg
    if start is None and source:
        start = source.get("cur_nimg", 0) / 1000
    if start is not None and start >= total_kimg:
        remedy = "raise it, or add `resume_kimg` 0" if config.resume_kimg is None else "raise it"
        raise RequestError(
            f"`total_kimg` must be above {start}, where the run starts; got {total_kimg} instead: {remedy}"
        )


def resume(run: Run, learner: Learner, source: dict[str, Any] | None) -> tuple[int, float]:
    """Bring a learner to the run's newest checkpoint, else to `source` (see load_source), else leave it as it is.

    -> ticks and seconds of the run so far. Raises RequestError when all checkpoints are damaged, the newest is of
    another config, or `source` fits nowhere.
    """
    if newest := run.load_newest(learner.config):
        path, state = newest
        learner.load_state_dict(state["learner"])
        if state["threads"] != torch.get_num_threads():
            say(f"This run had {state['threads']} threads, now {torch.get_num_threads()}: results may round otherwise.")
        say(f"Resuming from {path} at {learner.cur_nimg / 1000:.1f} kimg")
        return int(state["tick"]), float(state["seconds"])
    if source is not None:
        _load(source, learner)
        if learner.config.resume_kimg is not None:
            learner.cur_nimg = int(learner.config.resume_kimg * 1000)
        if learner.averages:  # what another run has stored is not here
            learner.averages.restart(learner.cur_nimg)
        say(f"Starting from the given weights at {learner.cur_nimg / 1000:.1f} kimg")
    return 0, 0.0


def _find_file(path: Path, parameter: str) -> Path:
    if path.is_dir():
        checkpoints = checkpoint.list_newest_first(path / "checkpoints") or checkpoint.list_newest_first(path)
        if not checkpoints:
            # Not the newest of several runs: the same command shall find the same start again.
            require_run(path, parameter)
            raise RequestError(f"`{parameter}` {path} must hold checkpoints; it has none")
        return checkpoints[0]
    if not path.exists():
        also = "auto, never, or " if parameter == "resume" else ""
        raise RequestError(f"`{parameter}` must be {also}an existing checkpoint or snapshot; got {path} instead")
    return path


def _load(source: dict[str, Any], learner: Learner) -> None:
    if learner.config.transfer:
        outcomes = {part: load_matching(getattr(learner, part), source[part]) for part in source}
        shown = [part for part in ("G", "D") if part in outcomes]
        say(describe_matching({f"{part}.{name}": outcomes[part][name] for part in shown for name in outcomes[part]}))
        if "D" not in source:
            say("The discriminator is new: the weights come without one.")
    elif "iteration" in source:
        learner.load_state_dict(source)
    else:
        for name, weights in source.items():
            getattr(learner, name).load_state_dict(weights)
