"""Path lengths in resumable pieces, and separability of strata, of a real generator."""

from pathlib import Path

import numpy as np
import pytest
import torch

from eval import generator_metrics
from eval.data.image_sources import DatasetSource
from eval.data.snapshot_source import SnapshotSource
from eval.evaluate import evaluate
from eval.evaluator import Evaluator
from eval.generator_metrics import PathLength, path_lengths
from eval.metrics.lpips import STAGES, Lpips
from eval.metrics.path_length import path_distances, path_length
from eval.request import EvaluationRequest
from gan.data.collection import Collection
from gan.device.selection import select
from gan.errors import RequestError
from gan.runtime.files import sha256


@pytest.fixture(scope="module")
def lpips_files(tmp_path_factory) -> tuple[Path, Path]:
    """Files of LPIPS' shapes with narrow random convolutions."""
    folder, generator = tmp_path_factory.mktemp("lpips"), torch.Generator().manual_seed(0)
    vgg, linear, inputs = {}, {}, 3
    for stage, indices in enumerate(STAGES):
        for index in indices:
            vgg[f"features.{index}.weight"] = torch.randn([4, inputs, 3, 3], generator=generator) / 3
            vgg[f"features.{index}.bias"] = torch.zeros(4)
            inputs = 4
        linear[f"lin{stage}.model.1.weight"] = torch.rand([1, 4, 1, 1], generator=generator)
    torch.save(vgg, folder / "vgg.pth")
    torch.save(linear, folder / "linear.pth")
    return folder / "vgg.pth", folder / "linear.pth"


def test_paths_in_pieces_are_the_paths_at_once(tiny_run, lpips_files, tmp_path, small_shards):
    source = SnapshotSource(tiny_run, 10, seed=3)
    what = PathLength(vgg=lpips_files[0], linear=lpips_files[1])
    found = path_lengths(source, what, tmp_path, 4)
    distances = path_distances(source.G, lpips=Lpips.load(*lpips_files), num_samples=10, seed=3, batch_size=4)
    expected = path_length(distances)
    assert found.estimate.value == pytest.approx(expected.value, rel=1e-5) and expected.value > 0
    assert str(found.identity) == "ppl@lpips-vgg/w-end/fp32/n=10"
    assert found.identity.weights == f"{sha256(lpips_files[0])} {sha256(lpips_files[1])}"
    assert len(list(tmp_path.rglob("paths-*.npz"))) == 3


def test_paths_that_were_measured_are_kept(tiny_run, lpips_files, tmp_path, small_shards, monkeypatch):
    source, what = SnapshotSource(tiny_run, 6), PathLength(vgg=lpips_files[0], linear=lpips_files[1])
    first = path_lengths(source, what, tmp_path, 4)
    with monkeypatch.context() as patch:
        patch.setattr(generator_metrics, "path_distances", None)  # not to be called
        assert path_lengths(source, what, tmp_path, 4).estimate == first.estimate
    full = PathLength(vgg=lpips_files[0], linear=lpips_files[1], space="z", sampling="full", crop=True)
    try:
        other = path_lengths(source, full, tmp_path, 4)
    except ValueError as error:  # a 16x16 image has no 16 pixels left when it is cropped
        assert "16" in str(error)
    else:
        assert other.estimate != first.estimate
    assert full.identity(6).preprocess == "z-full-crop"


def test_the_replicates_are_those_of_a_trimmed_mean(tiny_run, lpips_files, tmp_path, monkeypatch):
    # Distances of no heavy tail, as a tiny generator's have: of these a few decide, and no estimate of se is good.
    rng = np.random.default_rng(0)
    monkeypatch.setattr(
        generator_metrics, "path_distances", lambda *_, num_samples, **__: rng.lognormal(0, 0.5, num_samples)
    )
    source = SnapshotSource(tiny_run, 400)
    found = path_lengths(source, PathLength(vgg=lpips_files[0], linear=lpips_files[1]), tmp_path, 8)
    assert found.replicates.se == pytest.approx(found.estimate.se, rel=0.25)


def test_separability_of_strata(tiny_run, tiny_dataset, lite, tmp_path):
    real = DatasetSource(Collection.open(tiny_dataset))
    names = [real.label(index) for index in range(12)]
    source = SnapshotSource(tiny_run, 24)
    found = evaluate(source, real, networks=[(lite, ["ls"])], out=tmp_path, strata=names)
    (result,) = found.results
    assert 1 <= result.estimate.value <= 2 and result.estimate.n == 24  # of one attribute, exp of at most log 2
    assert result.identity.options["attributes"] == ["day"]  # night says the same
    with pytest.raises(RequestError, match="`metrics` ls needs `strata`"):
        Evaluator(
            real.collection, EvaluationRequest(metrics=("ls",), extractors=("efficientnet-lite0",)), select("cpu")
        ).evaluate(source, tmp_path)
    with pytest.raises(RequestError, match="two or more values; got 1"):
        evaluate(source, real, networks=[(lite, ["ls"])], out=tmp_path, strata=["day"] * 12)
    assert np.isfinite(result.estimate.se)
