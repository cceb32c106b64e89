"""Time of a training iteration, amortised over the lazy phases, beside peers on the same work.

    python benchmarks/train_step.py --work 64x16 --peer ada=PATH --peer rosinality=PATH
    python benchmarks/train_step.py --work 256x4 --device cuda --peer ada=PATH

PATH is a checkout of NVlabs/stylegan2-ada-pytorch or rosinality/stylegan2-pytorch. Every contender runs in its own
process; on a CPU the peers run as they come and with an allocator that keeps its memory, as Salon's does.
"""

import json
import resource
from pathlib import Path

import click
import contenders
import torch

SHARES = {0: 1 / 16, 4: 3 / 16, 1: 12 / 16}  # iterations with all phases, without R1, and with the plain two


def measure(request: dict) -> dict:
    """Amortised seconds an iteration and peak memory of one contender in this process, or only its FLOPs."""
    work = contenders.Work(**request["work"])
    contender = contenders.make(request["name"], request["path"] and Path(request["path"]), work)
    if request["count"]:
        flops = {}
        for i in SHARES:
            with contenders.FlopCount() as counter:
                contender.iteration(i)
            flops[i] = counter.total
        return {"flops": sum(flops[i] * share for i, share in SHARES.items())}
    contender.iteration(0)
    times = {
        i: contenders.seconds(lambda i=i: contender.iteration(i), work.device, 0, request["repeats"]) for i in SHARES
    }
    if work.device == "cpu":
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    else:
        memory = torch.cuda.max_memory_allocated() / 1e9
    return {"seconds": sum(times[i] * share for i, share in SHARES.items()), "memory_gb": memory}


@click.command(help=__doc__)
@click.option("--work", "size", default="64x16", show_default=True, metavar="RxN", help="Resolution and batch.")
@click.option("--peer", "peers", multiple=True, metavar="NAME=PATH", help=f"One of {', '.join(contenders.PEERS)}.")
@click.option("--device", default="cpu", show_default=True)
@click.option("--repeats", default=1, show_default=True, help="Iterations of each kind to measure, at least.")
@click.option("--one", help="Measure one contender in this process (JSON; used by the script itself).")
def main(size: str, peers: tuple[str, ...], device: str, repeats: int, one: str | None) -> None:
    if one:
        print(json.dumps(measure(json.loads(one))))
        return
    work = contenders.Work(*map(int, size.split("x")), device)
    if device == "cpu":
        from gan import device as devices

        devices.select(device)
    peak = contenders.convolution_peak(device)
    few = contenders.Work(work.resolution, min(work.batch, 4), device)  # work is proportional to the batch
    counted = contenders.run_apart(__file__, "salon", None, {"SALON_NATIVE": "0"}, few, count=True, repeats=0)
    flops = counted["flops"] * work.batch / few.batch
    ways: list[tuple[str, Path | None, bool]] = [("salon", None, False)]
    for name, path in (peer.split("=", 1) for peer in peers):
        ways += [(name, Path(path), tuned) for tuned in ((False, True) if device == "cpu" else (False,))]
    print(f"one iteration, {work.resolution} pixels, batch {work.batch}, {device}, torch {torch.__version__}")
    print(f"convolution peak {peak / 1e9:.0f} GFLOP/s, {flops / work.batch / 1e9:.0f} GFLOP an image", flush=True)
    ours = 0.0
    for name, path, tuned in ways:  # each line as soon as it is known: peers can take minutes
        found = contenders.run_apart(
            __file__, name, path, contenders.TUNED if tuned else {}, work, count=False, repeats=repeats
        )
        ours = ours or found["seconds"]
        speed = flops / found["seconds"]
        print(
            f"{name + (', tuned' if tuned else ''):<20} {found['seconds']:7.3f} s  {found['seconds'] / work.batch:.4f} "
            f"s/image  {speed / 1e9:5.0f} GFLOP/s  {speed / peak:4.0%} of peak  {found['memory_gb']:5.1f} GB  "
            f"{found['seconds'] / ours:.2f} times ours",
            flush=True,
        )


if __name__ == "__main__":
    main()
