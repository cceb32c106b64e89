"""What comes after training: the sections sampling, rejection and neighbours of gpu.py."""

import gpu_setup
import numpy as np
import torch
from gpu_setup import Setup

from gan.image_shape import ImageShape
from gan.networks.generator import Generator
from gan.runtime.console import table

NEIGHBOURS = 10
SAME = 0.999  # share of neighbours that searches on two devices must agree on: rounding may swap two


def sampling(setup: Setup) -> dict:
    """Images from seeds: what it costs that they repeat, what CUDA graphs save, and whether these change an image."""
    from gan.device.determinism import deterministic
    from gan.device.selection import select
    from gan.networks import precision
    from gan.ops.weight_cache import WeightCache
    from gan.sampling.generate import Sampler, map_seeds

    target, rows = select(setup.device), []
    full = [("paper256", 256, name, batch) for name in ("fp32", "bf16") for batch in (8, 64)]
    for preset, side, name, batch in setup.pick([*full, ("tiny", 64, "fp32", 8)], [("tiny", 32, "fp32", 2)]):
        G = _generator(preset, side, target)
        precision.apply(G, name)
        plain, graphed = Sampler(G, batch_size=batch), Sampler(G, batch_size=batch)
        row = {"work": f"{preset} {side}x{batch} {name}", "no graphs": graphed.use_graphs()}
        seeds = range(int(setup.pick(max(256, 4 * batch), 2)))
        row["generate"] = setup.rate(len(seeds), lambda s=seeds, sampler=plain: list(sampler(s)))
        row["graphs"] = None
        if row["no graphs"] is None:
            row["graphs"] = setup.rate(len(seeds), lambda s=seeds, sampler=graphed: list(sampler(s)))
            row["equal"] = all(map(np.array_equal, plain(seeds), graphed(seeds)))
        ws, cache = map_seeds(G, range(batch)), WeightCache()

        def synthesis(G: Generator = G, ws: torch.Tensor = ws, cache: WeightCache = cache) -> None:
            with torch.inference_mode(), cache:
                G.synthesis(ws, "const")

        row["synthesis, free"] = setup.rate(batch, synthesis)
        with deterministic():
            row["synthesis, repeatable"] = setup.rate(batch, synthesis)
        rows.append(row)
    names = ["generate", "graphs", "synthesis, repeatable", "synthesis, free"]
    lines = [[row["work"], *(_said(row[name]) for name in names), _verdict(row.get("equal"))] for row in rows]
    print(table(lines, ["img/s", *names, ""]))
    if rows[0]["no graphs"]:
        print(f"CUDA graphs: no, {rows[0]['no graphs']}")
    return {"rows": rows, "right": all(row.get("equal", True) for row in rows)}


def rejection(setup: Setup) -> dict:
    """Candidates a second: logits of the discriminator, in batches and one by one, and whole selections."""
    from gan.device.selection import select
    from gan.rejection.discriminator_logits import DiscriminatorLogits, count_references
    from gan.rejection.request import SelectionRequest
    from gan.rejection.select_seeds import choose
    from gan.sampling.generate import Sampler
    from gan.snapshot import load

    target, count = select(setup.device), int(setup.pick(64, 2))
    with gpu_setup.folder() as place:
        source = load(gpu_setup.snapshot(setup, place / "snapshot-0.safetensors"))
    G, D = source.G_ema.to(target), source.D.to(target)
    rng, shape = np.random.default_rng(0), [setup.resolution, setup.resolution, 3]
    logits_of = DiscriminatorLogits(D, rng.integers(0, 256, [count_references(D), *shape], np.uint8))
    pixels = rng.integers(0, 256, [4 * count, *shape], np.uint8)
    figures: dict = {"batch": logits_of.batch_size, "logits": setup.rate(len(pixels), lambda: logits_of(pixels))}
    batched = logits_of(pixels)
    logits_of.batch_size = 1
    figures["logits, one by one"] = setup.rate(len(pixels), lambda: logits_of(pixels))
    figures["apart"] = float(abs(logits_of(pixels) - batched).max() / np.ptp(batched))
    request = SelectionRequest(reject="obrs", count=count, budget=4, calibration="none")
    chosen = []
    for name, graphs in (("selection", False), ("selection, graphs", True)):
        sampler = Sampler(G, batch_size=int(setup.pick(64, 2)))
        if graphs and sampler.use_graphs():
            figures[name] = None
            continue

        def select_seeds(sampler: Sampler = sampler) -> list[int]:
            return choose(source, sampler, lambda seeds: None, None, request)[0]

        with gpu_setup.quiet():
            figures[name] = setup.rate(4 * count, select_seeds)
            chosen.append(select_seeds())
    figures["right"] = figures["apart"] < 1e-3 and all(seeds == chosen[0] for seeds in chosen)
    names = ["logits", "logits, one by one", "selection", "selection, graphs"]
    print(table([[str(figures["batch"]), *(_said(figures[n]) for n in names)]], ["candidates/s: batch", *names]))
    print(f"logits of batches lie within {figures['apart']:.1e} of the range of those one by one")
    return figures


def neighbours(setup: Setup) -> dict:
    """Nearest neighbours of features of 2048: samples a second on the device, and in float32 on the CPU."""
    from eval.metrics.neighbours import neighbours as search
    from eval.metrics.neighbours import neighbours_among
    from gan.device.selection import select

    device, rows = select(setup.device), []
    for count in setup.pick((13_000, 50_000), (300,)):
        features = np.random.default_rng(0).standard_normal([count, 2048 if count > 300 else 64], np.float32)
        some = features[: int(setup.pick(2000, 100))]  # a share of the work is enough for a rate on the CPU
        row = {"features": count}
        for dtype in (np.float32, np.float64):
            name, k = np.dtype(dtype).name, NEIGHBOURS
            row[name] = setup.rate(count, lambda f=features, d=dtype, k=k: search(f, k, dtype=d, device=device))
        start = gpu_setup.clock()
        expected = neighbours_among(some, features, NEIGHBOURS, dtype=np.float32)
        row["CPU"] = len(some) / (gpu_setup.clock() - start)
        found, again = (_search(some, features, device) for _ in range(2))
        row["same"] = float((found.indices == expected.indices).mean())
        row["repeats"] = np.array_equal(found.indices, again.indices)
        row["repeats"] &= np.array_equal(found.distances, again.distances)
        rows.append(row)
    lines = [
        [str(row["features"]), *(f"{row[name]:.0f}" for name in ("float32", "float64", "CPU")), f"{row['same']:.2%}"]
        for row in rows
    ]
    print(table(lines, ["samples/s: of", "float32", "float64", "CPU, float32", "the same neighbours"]))
    return {"rows": rows, "right": all(row["same"] >= SAME and row["repeats"] for row in rows)}


def _search(queries: np.ndarray, references: np.ndarray, device: torch.device):
    from eval.metrics.neighbours import neighbours_among

    return neighbours_among(queries, references, NEIGHBOURS, dtype=np.float32, device=device)


def _generator(preset: str, resolution: int, device: torch.device) -> Generator:
    from gan.config import make_config

    torch.manual_seed(0)
    config = make_config(
        preset=preset, shape=ImageShape(resolution, resolution), num_classes=0, dataset="none", overrides={}
    )
    return Generator(config.network).eval().requires_grad_(False).to(device)


def _said(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:.1f}"


def _verdict(equal: bool | None) -> str:
    return "" if equal is None else "equal" if equal else "WRONG: graphs change images"
