"""The command import. Heavy imports wait until it runs."""

from pathlib import Path

import click

from gan.cli.command import Command
from gan.cli.options import PATH, json_option, overwrite_option
from gan.errors import RequestError
from gan.runtime.console import result, say
from gan.runtime.files import refuse_existing


@click.command("import", cls=Command)
@click.argument("file", type=PATH)
@click.option("--out", required=True, metavar="SNAPSHOT", type=PATH, help="The snapshot to write: .safetensors.")
@overwrite_option
@json_option
def import_weights(file: Path, out: Path, overwrite: bool, as_json: bool) -> None:
    """Turn StyleGAN2 networks of another implementation into a snapshot.

    FILE is a pickle of stylegan2-ada-pytorch, of stylegan3's StyleGAN2 configs or of TensorFlow StyleGAN2, a checkpoint
    of rosinality/stylegan2-pytorch, or a state dict in the names of one of the PyTorch ones. Nothing in it is
    executed: what is no tensor, array, plain container or known network is refused by its name. A discriminator that
    does not fit is left out.

    \b
    salon import network-snapshot-025000.pkl --out imported.safetensors
    salon generate imported.safetensors --seeds 0-15 --grid 4x4 --out grid.png
    """
    from gan import snapshot
    from gan.config import TrainingConfig
    from gan.foreign import convert
    from gan.runtime import files

    if out.suffix != ".safetensors":
        raise RequestError(f"--out must end in .safetensors; got {out} instead")
    refuse_existing([out], overwrite)
    if file.suffix == ".safetensors":
        raise RequestError(
            f"FILE must be of another implementation; {file} is named as a snapshot, which needs no import"
        )
    foreign = convert.read(file)
    networks = convert.build(file, foreign)
    G_ema, D = networks.G_ema, networks.D
    group = G_ema.config.group_size(32)
    config = TrainingConfig(
        network=G_ema.config,
        dataset="unknown (imported)",
        batch_size=32 // group * group,
        resume_from=files.sha256(file),
    )
    snapshot.save(out, G_ema, D, config, convert.cur_nimg(file), None, networks.G)
    figures = {
        "snapshot": str(out),
        "file": str(file),
        "kind": foreign.kind,
        "sha256": config.resume_from,
        "cur_nimg": convert.cur_nimg(file),
        "discriminator": D is not None,
        "discriminator_left_out": foreign.D_left_out,
        "network": config.to_dict()["network"],
        "conv_clamp": foreign.G_ema.conv_clamp,
    }
    if foreign.D_left_out:
        say(f"The discriminator is left out: {foreign.D_left_out}")
    classes = G_ema.config.num_classes
    without = "" if D else ", without a discriminator"
    conditional = " --conditional" if classes else ""
    start = f"--{'resume' if D else 'transfer'} {out}"
    text = f"{file} ({foreign.kind}, {G_ema.config.shape}{without}) is now {out}\n"
    text += (
        f"To generate: salon generate {out} --seeds 0-15{' --class 0' if classes else ''} --grid 4x4 --out grid.png\n"
    )
    text += f"To train on: salon train --data DATASET{conditional} {start} --out RUNS"
    result(text, figures, as_json)
