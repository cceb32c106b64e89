"""The command that trains by a config: what `salon train` takes to come to the same."""

import shlex
from typing import Any

from gan.config import FROM_WEIGHTS, PRESETS, TrainingConfig, field_types, make_config

_OWN_OPTIONS = ("precision", "augment")  # whose default is auto: it depends on the machine and on the images
_WIDTH = 70  # characters, after which an option begins a line
_ORIGIN = ("manifest", "resume_from", "transfer", "resume_kimg")


def training_command(config: TrainingConfig, kimg: float, data: str) -> str | None:
    """For a shell; `kimg` is the length in thousands of images, `data` the name of the dataset's file.

    None for networks of a preset that this version does not have. DIR and FILE stand for what only its owner has: the
    manifest, and the file that training started from.
    """
    if config.preset not in PRESETS:
        return None
    words = ["salon", "train", "--data", data, "--out", "runs", "--preset", config.preset, "--total-kimg", f"{kimg:g}"]
    if config.network.num_classes:
        words.append("--conditional")
    for name in _OWN_OPTIONS:
        words += [f"--{name}", str(getattr(config, name))]
    if config.manifest is not None:
        words += ["--manifest", "DIR"]
    if config.resume_from is not None:
        words += ["--transfer" if config.transfer else "--resume", "FILE"]
    if config.resume_kimg is not None:
        words += ["--resume-kimg", f"{config.resume_kimg:g}"]
    for name, value in sorted(overrides(config).items()):
        text = str(value).lower() if isinstance(value, bool) else "none" if value is None else f"{value}"
        words += ["--set", f"{name}={text}"]
    return shlex.join(words)


def in_lines(command: str) -> str:
    """A command for a shell, broken before options into lines that fit a page."""
    lines: list[str] = []
    for word in shlex.split(command):
        quoted = shlex.quote(word)
        if not lines or (word.startswith("--") and len(lines[-1]) + len(quoted) > _WIDTH):
            lines.append(f"    {quoted}" if lines else quoted)
        else:
            lines[-1] += f" {quoted}"
    return " \\\n".join(lines)


def overrides(config: TrainingConfig) -> dict[str, Any]:
    """The fields of a config that its preset does not give, nor _OWN_OPTIONS."""
    values = {**vars(config), **vars(config.network)}
    chosen = {name: values[name] for name in _OWN_OPTIONS}
    usual = _made(config, chosen)
    differing = {name: value for name, value in values.items() if name in field_types() and value != usual[name]}
    if config.resume_from is not None:  # starting from weights gives others
        differing |= {name: values[name] for name in FROM_WEIGHTS}
    if _made(config, chosen | _without(differing, "r1_gamma"))["r1_gamma"] == config.r1_gamma:
        differing = _without(differing, "r1_gamma")  # it follows from the batch size
    return {name: value for name, value in differing.items() if name not in _OWN_OPTIONS}


def _made(config: TrainingConfig, fields: dict[str, Any]) -> dict[str, Any]:
    made = make_config(
        preset=config.preset,
        shape=config.network.shape,
        num_classes=config.network.num_classes,
        dataset=config.dataset,
        overrides=fields,
        **{name: getattr(config, name) for name in _ORIGIN},
    )
    return {**vars(made), **vars(made.network)}


def _without(values: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key != name}
