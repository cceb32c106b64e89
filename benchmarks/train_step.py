"""Time of a training iteration, amortised over the lazy phases, beside peers on the same work.

    python benchmarks/train_step.py --work 64x16 --peer ada=PATH --peer rosinality=PATH
    python benchmarks/train_step.py --work 256x4 --device cuda --peer ada=PATH

PATH is a checkout of NVlabs/stylegan2-ada-pytorch or rosinality/stylegan2-pytorch. Every contender runs in its own
process; on a CPU the peers run as they come and with an allocator that keeps its memory, as Salon's does.
"""

import json
import resource
from dataclasses import replace

import click
import contenders
import torch

SHARES = {0: 1 / 16, 4: 3 / 16, 1: 12 / 16}  # iterations with all phases, without R1, and with the plain two


def measure(request: dict) -> dict:
    """Amortised seconds an iteration and peak memory of one contender in this process, or only its FLOPs."""
    contender, work = contenders.requested(request)
    if request["count"]:
        flops = {}
        for i in SHARES:
            with contenders.FlopCount() as counter:
                contender.iteration(i)
            flops[i] = counter.total
        return {"flops": sum(flops[i] * share for i, share in SHARES.items())}
    for _ in range(1 if work.device == "cpu" else 4):  # until CUDA graphs are captured
        contender.iteration(0)
    times = {
        i: contenders.seconds(lambda i=i: contender.iteration(i), work.device, 0, request["repeats"]) for i in SHARES
    }
    if work.device == "cpu":
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    else:
        memory = torch.cuda.max_memory_allocated() / 1e9
    return {"seconds": sum(times[i] * share for i, share in SHARES.items()), "memory_gb": memory}


@contenders.options(__doc__, work="64x16")
@click.option("--repeats", default=1, show_default=True, help="Iterations of each kind to measure, at least.")
def main(size: str, peers: tuple[str, ...], device: str, repeats: int, one: str | None) -> None:
    if one:
        print(json.dumps(measure(json.loads(one))))
        return
    work = contenders.Work(*map(int, size.split("x")), device)
    peaks, ways = contenders.peaks(device), contenders.ways(work, peers)
    few = replace(work, batch=min(work.batch, 4))  # work is proportional to the batch
    counted = replace(ways[0], work=few).measure(__file__, {"SALON_NATIVE": "0"}, count=True, repeats=0)["flops"]
    flops = counted * work.batch / few.batch
    print(f"one iteration, {size}, {device}, torch {torch.__version__}, {contenders.describe(peaks)},")
    print(f"{flops / work.batch / 1e9:.0f} GFLOP an image; last column: times as long as salon in fp32 / in bf16")
    ours: list[float] = []
    for way in ways:  # each line as soon as it is known: peers can take minutes
        found = way.measure(__file__, count=False, repeats=repeats)
        took = found["seconds"]
        ours += [took] if way.name == "salon" else []
        print(
            f"{way.label:<24} {took:7.3f} s  {took / work.batch:.4f} s/image  {flops / took / 1e9:5.0f} GFLOP/s  "
            f"{flops / took / peaks[way.work.precision]:4.0%} of peak  {found['memory_gb']:5.1f} GB  "
            + " / ".join(f"{took / mine:.2f}" for mine in ours),
            flush=True,
        )


if __name__ == "__main__":
    main()
