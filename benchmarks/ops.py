"""Forward and backward of single operators, beside peers, with the bytes that they must move.

python benchmarks/ops.py --peer ada=PATH
"""

import json

import click
import contenders
import torch

from gan.runtime.console import table

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
    contender, work = contenders.requested(request)
    layout = torch.channels_last if request["name"] == "salon" else torch.contiguous_format
    dtype = torch.bfloat16 if work.precision == "bf16" else torch.float32
    found = {}
    for name, op in contender.ops.items():
        inputs = [torch.randn(shape, device=work.device) for shape in SHAPES[name]]
        inputs[0] = inputs[0].to(dtype=dtype, memory_format=layout)
        inputs = [x.requires_grad_(True) for x in inputs]
        gradient = torch.randn_like(op(*inputs))
        run = lambda op=op, inputs=inputs, g=gradient: torch.autograd.grad(op(*inputs), inputs, g)  # noqa: E731
        found[name] = contenders.seconds(run, work.device, request["least"]) * 1e3
    return found


@contenders.options(__doc__)
@click.option("--least", default=2.0, show_default=True, help="Seconds to measure each operator for, at least.")
def main(peers: tuple[str, ...], device: str, least: float, one: str | None) -> None:
    if one:
        print(json.dumps(measure(json.loads(one))))
        return
    ways = contenders.ways(contenders.Work(32, 4, device), peers)
    found = [way.measure(__file__, least=least) for way in ways]
    rows = [[op, *(f"{f[op]:.1f}" if op in f else "-" for f in found)] for op in SHAPES]
    print(f"{device}, torch {torch.__version__}, x [8, 256, 64, 64], ms of forward and backward")
    print(table(rows, ["", *(way.label for way in ways)]))


if __name__ == "__main__":
    main()
