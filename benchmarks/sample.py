"""Images a second of the generator (mapping and synthesis, stored noise), beside peers.

python benchmarks/sample.py --work 256x8 --peer ada=PATH --peer rosinality=PATH
"""

import json
import sys
from pathlib import Path

import click
import contenders
import torch

from gan.console import table


def measure(request: dict) -> dict:
    """Images a second of, or FLOPs an image of, one contender in this process."""
    work = contenders.Work(**request["work"])
    contender = contenders.make(request["name"], request["path"] and Path(request["path"]), work)
    z = torch.randn(work.batch, 512, device=work.device)
    if request["count"]:
        with contenders.FlopCount() as counter:
            contender.generate(z)
        return {"flops": counter.total / work.batch}
    took = contenders.seconds(lambda: contender.generate(z), work.device, request["least"], 5)
    return {"rate": work.batch / took}


@click.command(help=__doc__)
@click.option("--work", "size", default="256x8", show_default=True, metavar="RxN", help="Resolution and batch.")
@click.option("--peer", "peers", multiple=True, metavar="NAME=PATH", help=f"One of {', '.join(contenders.PEERS)}.")
@click.option("--device", default="cpu", show_default=True)
@click.option("--least", default=5.0, show_default=True, help="Seconds to measure each contender for, at least.")
@click.option("--one", help="Measure one contender in this process (JSON; used by the script itself).")
def main(size: str, peers: tuple[str, ...], device: str, least: float, one: str | None) -> None:
    if one:
        print(json.dumps(measure(json.loads(one))))
        return
    work = contenders.Work(*map(int, size.split("x")), device)
    peak = contenders.convolution_peak(device)
    counted = contenders.run_apart(__file__, "salon", None, {"SALON_NATIVE": "0"}, work, count=True, least=0)
    ways: list[tuple[str, Path | None, bool]] = [("salon", None, False)]
    for name, path in (peer.split("=", 1) for peer in peers):
        ways += [(name, Path(path), tuned) for tuned in ((False, True) if device == "cpu" else (False,))]
    rows, ours = [], 0.0
    for name, path, tuned in ways:
        found = contenders.run_apart(
            __file__, name, path, contenders.TUNED if tuned else {}, work, count=False, least=least
        )
        ours = ours or found["rate"]
        speed = counted["flops"] * found["rate"]
        label = name + (", tuned" if tuned else "")
        rows.append(
            (label, f"{found['rate']:.2f}", f"{speed / 1e9:.0f}", f"{speed / peak:.0%}", f"{ours / found['rate']:.2f}")
        )
        print(".", end="", file=sys.stderr, flush=True)
    flops = f"convolution peak {peak / 1e9:.0f} GFLOP/s"
    print(f"\ngenerator, {work.resolution} pixels, batch {work.batch}, {device}, torch {torch.__version__}, {flops}")
    print(table(rows, ["", "images/s", "GFLOP/s", "of peak", "ours faster"]))


if __name__ == "__main__":
    main()
