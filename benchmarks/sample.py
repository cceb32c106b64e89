"""Images a second of the generator (mapping and synthesis, stored noise), beside peers.

python benchmarks/sample.py --work 256x8 --peer ada=PATH --peer rosinality=PATH
"""

import json
import sys

import click
import contenders
import torch

from gan.runtime.console import table


def measure(request: dict) -> dict:
    """Images a second of, or FLOPs an image of, one contender in this process."""
    contender, work = contenders.requested(request)
    z = torch.randn(work.batch, 512, device=work.device)
    if request["count"]:
        with contenders.FlopCount() as counter:
            contender.generate(z)
        return {"flops": counter.total / work.batch}
    took = contenders.seconds(lambda: contender.generate(z), work.device, request["least"], 5)
    return {"rate": work.batch / took}


@contenders.options(__doc__, work="256x8")
@click.option("--least", default=5.0, show_default=True, help="Seconds to measure each contender for, at least.")
def main(size: str, peers: tuple[str, ...], device: str, least: float, one: str | None) -> None:
    if one:
        print(json.dumps(measure(json.loads(one))))
        return
    work = contenders.Work(*map(int, size.split("x")), device)
    peaks, ways = contenders.peaks(device), contenders.ways(work, peers)
    flops = ways[0].measure(__file__, {"SALON_NATIVE": "0"}, count=True, least=0)["flops"]
    rates = {}
    for way in ways:
        rates[way] = way.measure(__file__, count=False, least=least)["rate"]
        print(".", end="", file=sys.stderr, flush=True)
    ours = [rates[way] for way in ways if way.name == "salon"]
    rows = [
        (
            way.label,
            f"{rate:.2f}",
            f"{flops * rate / 1e9:.0f}",
            f"{flops * rate / peaks[way.work.precision]:.0%}",
            " / ".join(f"{mine / rate:.2f}" for mine in ours),
        )
        for way, rate in rates.items()
    ]
    print(f"\ngenerator, {size}, {device}, torch {torch.__version__}, {contenders.describe(peaks)}")
    print(table(rows, ["", "images/s", "GFLOP/s", "of peak", "ours faster, fp32 / bf16"]))


if __name__ == "__main__":
    main()
