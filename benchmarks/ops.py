"""Forward and backward of single operators, beside peers, with the bytes that they must move.

python benchmarks/ops.py --peer ada=PATH
"""

import json
from pathlib import Path

import click
import contenders
import torch

from gan.console import table

SHAPES = {
    "upfirdn2d up 2": [(8, 256, 64, 64)],
    "upfirdn2d down 2": [(8, 256, 64, 64)],
    "upfirdn2d blur": [(8, 256, 64, 64)],
    "bias + leaky ReLU": [(8, 256, 64, 64), (256,)],
    "modulated conv": [(8, 256, 64, 64), (256, 256, 3, 3), (8, 256)],
    "modulated conv up 2": [(8, 256, 32, 32), (256, 256, 3, 3), (8, 256)],
}


def measure(request: dict) -> dict:
    """Milliseconds of each operator's forward and backward, in this process."""
    work = contenders.Work(**request["work"])
    contender = contenders.make(request["name"], request["path"] and Path(request["path"]), work)
    layout = torch.channels_last if request["name"] == "salon" else torch.contiguous_format
    found = {}
    for name, op in contender.ops.items():
        inputs = [torch.randn(shape, device=work.device) for shape in SHAPES[name]]
        inputs = [x.contiguous(memory_format=layout) if x.ndim == 4 else x for x in inputs]
        inputs = [x.requires_grad_(True) for x in inputs]
        gradient = torch.randn_like(op(*inputs))
        run = lambda op=op, inputs=inputs, g=gradient: torch.autograd.grad(op(*inputs), inputs, g)  # noqa: E731
        found[name] = contenders.seconds(run, work.device, request["least"]) * 1e3
    return found


@click.command(help=__doc__)
@click.option("--peer", "peers", multiple=True, metavar="NAME=PATH", help=f"One of {', '.join(contenders.PEERS)}.")
@click.option("--device", default="cpu", show_default=True)
@click.option("--least", default=2.0, show_default=True, help="Seconds to measure each operator for, at least.")
@click.option("--one", help="Measure one contender in this process (JSON; used by the script itself).")
def main(peers: tuple[str, ...], device: str, least: float, one: str | None) -> None:
    if one:
        print(json.dumps(measure(json.loads(one))))
        return
    work = contenders.Work(32, 4, device)
    ways: list[tuple[str, Path | None, bool]] = [("salon", None, False)]
    for name, path in (peer.split("=", 1) for peer in peers):
        ways += [(name, Path(path), tuned) for tuned in ((False, True) if device == "cpu" else (False,))]
    found = [
        contenders.run_apart(__file__, name, path, contenders.TUNED if tuned else {}, work, least=least)
        for name, path, tuned in ways
    ]
    header = ["ms, forward and backward", *(n + (", tuned" if tuned else "") for n, _, tuned in ways)]
    rows = [[op, *(f"{f[op]:.1f}" if op in f else "-" for f in found)] for op in SHAPES]
    print(f"{device}, torch {torch.__version__}, x [8, 256, 64, 64]")
    print(table(rows, header))


if __name__ == "__main__":
    main()
