"""Time of a training iteration, amortised over the lazy phases, beside peers on the same work.

    python benchmarks/train_step.py --work 64x16 --peer ada=PATH --peer rosinality=PATH
    python benchmarks/train_step.py --work 256x4 --device cuda --peer ada=PATH

PATH is a checkout of NVlabs/stylegan2-ada-pytorch or rosinality/stylegan2-pytorch. Every contender runs in its own
process; on a CPU the peers run as they come and with an allocator that keeps its memory, as Salon's does.
"""

import json
import resource
import sys
from pathlib import Path

import click
import contenders
import torch
from torch.utils.flop_counter import FlopCounterMode

from gan.console import table


def measure(request: dict) -> dict:
    """Amortised seconds an iteration, FLOPs and peak memory of one contender in this process."""
    work = contenders.Work(**request["work"])
    path = request["path"] and Path(request["path"])
    contender = contenders.make(request["name"], path, work)
    flops = {}
    for i in (0, 4, 1):  # all phases; without R1; the plain two
        with FlopCounterMode(display=False) as counter:
            contender.iteration(i)
        flops[i] = counter.get_total_flops()
    times = {
        i: contenders.seconds(lambda i=i: contender.iteration(i), work.device, request["least"], request["repeats"])
        for i in (0, 4, 1)
    }
    amortise = {i: count / 16 for i, count in ((0, 1), (4, 3), (1, 12))}
    if work.device == "cpu":
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    else:
        memory = torch.cuda.max_memory_allocated() / 1e9
    return {
        "seconds": sum(times[i] * share for i, share in amortise.items()),
        "flops": sum(flops[i] * share for i, share in amortise.items()),
        "memory_gb": memory,
    }


@click.command(help=__doc__)
@click.option("--work", "size", default="64x16", show_default=True, metavar="RxN", help="Resolution and batch.")
@click.option("--peer", "peers", multiple=True, metavar="NAME=PATH", help=f"One of {', '.join(contenders.PEERS)}.")
@click.option("--device", default="cpu", show_default=True)
@click.option("--least", default=0.0, help="Seconds to measure each kind of iteration for, at least.")
@click.option("--repeats", default=2, show_default=True, help="Iterations of each kind to measure, at least.")
@click.option("--one", help="Measure one contender in this process (JSON; used by the script itself).")
def main(size: str, peers: tuple[str, ...], device: str, least: float, repeats: int, one: str | None) -> None:
    if one:
        print(json.dumps(measure(json.loads(one))))
        return
    work = contenders.Work(*map(int, size.split("x")), device)
    if device == "cpu":
        from gan import device as devices

        devices.select(device)
    peak = contenders.convolution_peak(device)
    ways: list[tuple[str, Path | None, bool]] = [("salon", None, False)]
    for name, path in (peer.split("=", 1) for peer in peers):
        ways += [(name, Path(path), tuned) for tuned in ((False, True) if device == "cpu" else (False,))]
    rows, ours = [], 0.0
    for name, path, tuned in ways:
        found = contenders.run_apart(__file__, name, path, tuned, work, least=least, repeats=repeats)
        ours = ours or found["seconds"]
        speed = found["flops"] / found["seconds"]
        rows.append(
            (
                name + (", tuned" if tuned else ""),
                f"{found['seconds']:.3f}",
                f"{found['seconds'] / work.batch:.4f}",
                f"{speed / 1e9:.0f}",
                f"{speed / peak:.0%}",
                f"{found['memory_gb']:.1f}",
                f"{found['seconds'] / ours:.2f}",
            )
        )
        print(".", end="", file=sys.stderr, flush=True)
    flops = f"convolution peak {peak / 1e9:.0f} GFLOP/s"
    print(
        f"\none iteration, {work.resolution} pixels, batch {work.batch}, {device}, torch {torch.__version__}, {flops}"
    )
    print(table(rows, ["", "s/iteration", "s/image", "GFLOP/s", "of peak", "GB", "times ours"]))


if __name__ == "__main__":
    main()
