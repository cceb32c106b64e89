"""What an evaluation spends its time on, beside its peers: features of images, and the trace of a Fréchet distance.

    python benchmarks/evaluate.py
    python benchmarks/evaluate.py --threads 2 --weights weights-inception-2015-12-05-6726825d.pth

Every contender runs in its own process, on the same images and weights; the network's weights are random unless they
are given, which costs the same time. Rounds alternate between the contenders, so that what else the machine does meets
all of them; of each the best round counts.
"""

import io
import json
import tempfile
import time
from pathlib import Path

import click
import contenders
import numpy as np
import torch

from gan.runtime.console import table

INCEPTION = "inception-v3-compat"
WAYS = {  # title -> who, backend, precision
    "torch-fidelity as it is": ("torch-fidelity", "torch", "fp32"),
    "Salon, torch": ("salon", "torch", "fp32"),
    "Salon, ONNX Runtime": ("salon", "onnxruntime", "fp32"),
    "Salon, OpenVINO": ("salon", "openvino", "fp32"),
    "Salon, torch, bf16": ("salon", "torch", "bf16"),
    "Salon, OpenVINO, bf16": ("salon", "openvino", "bf16"),
}


def random_weights(path: Path) -> None:
    """Write a state dict of torch-fidelity's Inception with random weights that keep the scale of what passes."""
    from eval.features.torchvision_compat import torch_fidelity

    class Untrained(torch_fidelity().FeatureExtractorInceptionV3):
        def load_state_dict(self, state: dict) -> None:
            pass

    nothing = io.BytesIO()
    torch.save({}, nothing)
    nothing.seek(0)
    network = Untrained(INCEPTION, ["2048"], feature_extractor_weights_path=nothing)
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    torch.save(network.state_dict(), path)


def extraction(request: dict) -> dict:
    """Images a second and features of one contender in this process."""
    torch.set_num_threads(request["threads"])
    side, batch = request["side"], request["batch"]
    pixels = np.random.default_rng(0).integers(0, 256, [batch, side, side, 3], np.uint8)
    if request["name"] == "torch-fidelity":
        from eval.features.torchvision_compat import torch_fidelity

        extractor = torch_fidelity().FeatureExtractorInceptionV3(
            INCEPTION, ["2048", "logits_unbiased"], feature_extractor_weights_path=request["weights"]
        )
        nchw = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()

        def run() -> np.ndarray:
            with torch.no_grad():
                features: np.ndarray = extractor(nchw)[0].numpy()
            return features
    else:
        from eval.features.extractor import load_extractor

        salon = load_extractor(
            INCEPTION,
            weights=Path(request["weights"]),
            backend=request["backend"],
            precision=request["precision"],
            device="cpu",
        )
        salon.calibration = 0.0  # random weights prove nothing about bf16; this measures its speed alone
        salon.batch_size = batch

        def run() -> np.ndarray:
            return salon(pixels)["features"]

    features = run()
    took = contenders.seconds(run, "cpu", request["least"])
    return {"rate": batch / took, "features": features[:2].tolist()}


def operations(weights: Path) -> int:
    """Floating-point operations of the network for one image, by the definition of its convolutions and products."""
    from eval.features.registry import NETWORKS

    trunk = NETWORKS[INCEPTION].load(weights, "").trunk
    with torch.no_grad(), contenders.FlopCount() as counter:
        trunk(torch.zeros(1, 3, 299, 299))
    return counter.total


def trace(dim: int) -> list[tuple[str, float, float]]:
    """(way, seconds, Fréchet distance) of Gaussians fitted to 2 * dim points in `dim` dimensions."""
    from scipy import linalg

    from eval.metrics import feature_stats, frechet

    rng = np.random.default_rng(0)
    spread = rng.gamma(1.0, size=dim)
    moments = []
    for shift in (0.0, 0.1):
        moment = feature_stats.Moments(dim)
        moment.add((rng.standard_normal([2 * dim, dim]) * spread + shift).astype(np.float32))
        moments.append(moment)
    a, b = moments
    found = []

    def timed(way: str, distance: object) -> None:
        start = time.perf_counter()
        value = distance()  # type: ignore[operator]
        found.append((way, time.perf_counter() - start, float(value)))

    def by_sqrtm() -> float:
        root = linalg.sqrtm(a.cov @ b.cov).real
        return float(((a.mean - b.mean) ** 2).sum() + np.trace(a.cov) + np.trace(b.cov) - 2 * np.trace(root))

    timed("scipy.linalg.sqrtm", by_sqrtm)
    factor = frechet.sqrt_factor(b)
    timed("Salon, reference's root cached", lambda: frechet.frechet_distance(a, b, factor))
    return found


@click.command(help=__doc__)
@click.option("--weights", type=click.Path(path_type=Path), help="Weights of inception-v3-compat. Default: random.")
@click.option("--threads", default=1, show_default=True)
@click.option("--batch", default=16, show_default=True)
@click.option("--side", default=256, show_default=True, help="Images' side in pixels, before they are resized to 299.")
@click.option("--rounds", default=2, show_default=True)
@click.option("--least", default=4.0, show_default=True, help="Seconds to measure each contender for in a round.")
@click.option("--dim", default=2048, show_default=True, help="Features of the Fréchet distance's trace; 0: skip it.")
@click.option("--one", help="Measure one contender in this process (JSON; used by the script itself).")
def main(
    weights: Path | None, threads: int, batch: int, side: int, rounds: int, least: float, dim: int, one: str
) -> None:
    if one:
        print(json.dumps(extraction(json.loads(one))))
        return
    torch.set_num_threads(threads)
    peak = contenders.convolution_peak("cpu")
    with tempfile.TemporaryDirectory() as folder:
        if weights is None:
            weights = Path(folder) / "random.pth"
            random_weights(weights)
        flops = operations(weights)
        print(
            f"{threads} threads, torch {torch.__version__}, batch {batch}, {side} pixels, {flops / 1e9:.1f} GFLOP each"
        )
        print(f"convolution peak {peak / 1e9:.0f} GFLOP/s: {peak / flops:.2f} images/s", flush=True)
        best: dict[str, dict] = {}
        for _ in range(rounds):
            for title, (name, backend, precision) in WAYS.items():
                options = {"weights": str(weights), "backend": backend, "precision": precision}
                options |= {"threads": threads, "batch": batch, "side": side, "least": least}
                work = contenders.Work(side, batch)
                found = contenders.run_apart(__file__, name, None, {"OMP_NUM_THREADS": str(threads)}, work, **options)
                if title not in best or found["rate"] > best[title]["rate"]:
                    best[title] = found
    first = best[next(iter(WAYS))]
    expected = np.array(first["features"])
    rows = [
        [
            title,
            f"{found['rate']:.2f}",
            f"{found['rate'] / first['rate']:.2f}",
            f"{found['rate'] * flops / peak:.0%}",
            f"{np.abs(np.array(found['features']) - expected).max() / np.abs(expected).max():.0e}",
        ]
        for title, found in best.items()
    ]
    print(table(rows, ["features of Inception", "images/s", "times", "of peak", "largest difference"]), flush=True)
    if dim:
        traced = trace(dim)
        slowest = traced[0][1]
        rows = [[way, f"{took:.2f}", f"{slowest / took:.1f}", f"{value:.6f}"] for way, took, value in traced]
        print(table(rows, [f"trace, {dim} features", "seconds", "times faster", "distance"]))


if __name__ == "__main__":
    main()
