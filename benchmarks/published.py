"""Published values of FD-DINOv2, measured: CIFAR-10's test images against its training images (Stein et al. 2023).

salon prepare cifar10/train --out cifar10-train.zip --resolution 32 --format png
python benchmarks/published.py --train cifar10-train.zip --test cifar10/test --weights dinov2_vitl14_pretrain.pth
"""

import sys

sys.path.pop(0)  # this folder

import tempfile
from pathlib import Path

import click

from eval.evaluator import Evaluator
from eval.request import EvaluationRequest
from eval.suite import DINOV2
from gan.data.collection import Collection
from gan.device.selection import select
from gan.runtime.console import result, table

PUBLISHED = {"fd": 31.07, "fd_infinity": 1.03}  # 10,000 test images against 50,000 of training


@click.command(help=__doc__)
@click.option("--train", required=True, type=click.Path(exists=True, path_type=Path), help="Dataset of 50,000 images.")
@click.option("--test", required=True, type=click.Path(exists=True, path_type=Path), help="Folder of 10,000 images.")
@click.option("--weights", type=click.Path(exists=True, path_type=Path), help="DINOv2; default: those in the cache.")
@click.option("--extractor", default=DINOV2, show_default=True, help="Another network, to try the script.")
@click.option("--device", default="auto", show_default=True)
def main(train: Path, test: Path, weights: Path | None, extractor: str, device: str) -> None:
    request = EvaluationRequest(
        metrics=("fid", "fid_infinity"),
        extractors=(extractor,),
        weights=(f"{extractor}={weights}",) if weights else (),
    )
    with tempfile.TemporaryDirectory() as out:
        evaluation = Evaluator(Collection.open(train), request, select(device))(test, Path(out))
    assert evaluation is not None
    rows = [
        [r.name, f"{r.estimate.value:.2f}", f"{r.estimate.low:.2f} to {r.estimate.high:.2f}", PUBLISHED.get(r.id, "")]
        for r in evaluation.results
    ]
    result(table(rows, ["metric", "here", "95 % interval", "published"]), {"rows": rows}, False)


if __name__ == "__main__":
    main()
