"""References of other kinds: statistics without images, and fewer dimensions."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import run_salon
from sklearn.decomposition import PCA

from eval.data.image_sources import DatasetSource, open_source
from eval.data.reference import Reference, StatisticsSource, folder_of, open_references
from eval.evaluate import REPORT, evaluate
from eval.evaluator import Evaluator, open_data
from eval.metric_registry import FeatureSets, Result
from eval.metrics.feature_stats import Features, Moments
from eval.metrics.frechet import frechet_distance
from eval.metrics.result_key import require_comparable
from eval.request import EvaluationRequest
from gan.data.collection import Collection
from gan.device.selection import select
from gan.errors import RequestError


def features_of_all(source, lite):
    return lite(list(source.pixels(0, len(source))))["features"]


@pytest.fixture
def judged(tmp_path):
    """An array of 8 images."""
    images = np.random.default_rng(1).integers(0, 256, [8, 16, 16, 3], np.uint8)
    np.savez(tmp_path / "samples.npz", images)
    return tmp_path / "samples.npz"


def test_statistics_give_the_distance_of_their_images(tiny_dataset, judged, lite, tmp_path):
    real = DatasetSource(Collection.open(tiny_dataset))
    x = features_of_all(real, lite).astype(np.float64)
    np.savez(tmp_path / "stats.npz", mu=x.mean(axis=0), sigma=np.cov(x, rowvar=False))
    command = ("eval", "run", "--images", judged, "--extractor", "efficientnet-lite0", "--json")
    outcome = run_salon(*command, "--data", tmp_path / "stats.npz", "--out", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    figures = outcome.json
    whole = evaluate(open_source(judged), real, networks=[(lite, ["fid"])], out=tmp_path / "whole")
    assert [r["id"] for r in figures["results"]] == ["fd", "fd_corrected"]
    for row, other in zip(figures["results"], whole.figures["results"], strict=True):
        assert (row["value"], row["se"]) == pytest.approx((other["value"], other["se"]), rel=1e-4)
        assert row["noise_floor"] is None and not row["enough_images"]
        with pytest.raises(RequestError, match="must not be compared: reference is"):
            require_comparable(Result.from_dict(row).identity, Result.from_dict(other).identity)
    said = "kid, pr, dc cannot be computed and are left out"
    assert said in figures["warnings"][0] and said in (tmp_path / "out" / REPORT).read_text()
    assert said in " ".join(outcome.err.split())
    assert any("does not say what its statistics are of" in text for text in figures["warnings"])


def test_statistics_that_do_not_fit_are_refused(lite, tmp_path):
    def written(**arrays):
        np.savez(tmp_path / "stats.npz", **arrays)
        return tmp_path / "stats.npz"

    for arrays, said in (
        ({"mu": np.zeros(3)}, "lacks one of them"),
        ({"mu": np.zeros(3), "sigma": np.eye(4)}, r"must be \[d\] and \[d, d\]"),
        ({"mu": np.zeros(3), "sigma": np.full([3, 3], np.nan)}, "finite"),
        ({"mu": np.zeros(2), "sigma": np.array([[1.0, 2], [3, 1]])}, "symmetric"),
    ):
        with pytest.raises(RequestError, match=said):
            StatisticsSource(written(**arrays))
    (tmp_path / "text.npz").write_text("none")
    with pytest.raises(RequestError, match="must hold statistics"):
        open_data(tmp_path / "text.npz")
    small = open_data(written(mu=np.zeros(3), sigma=np.eye(3)))
    with pytest.raises(RequestError, match="has 3 dimensions; efficientnet-lite0 has 1280"):
        open_references(small, [lite], batch_size=4)
    with pytest.raises(RequestError, match="`manifest` needs a dataset"):
        open_data(tmp_path / "stats.npz", tmp_path / "some.manifest")
    request = EvaluationRequest(metrics=("fid",), extractors=("efficientnet-lite0",))
    for asked, said in (
        ({"metrics": ("kid", "dc")}, "`metrics` kid,dc cannot be computed"),
        ({"strata": "label"}, "`strata` needs the real images"),
        ({"rejection": {"reject": "obrs"}}, "`reject` needs the real images"),
        ({"precision": "bf16"}, "`precision` bf16 needs real images"),
    ):
        with pytest.raises(RequestError, match=said):
            Evaluator(small, replace(request, **asked), select("cpu"))


def test_fewer_dimensions_are_principal_components_of_the_reference(tiny_dataset, judged, lite):
    real = DatasetSource(Collection.open(tiny_dataset))
    (reference,), _ = open_references(real, [lite], batch_size=8, dims=3)
    (every,), _ = open_references(real, [lite], batch_size=8)
    x, y = (features_of_all(source, lite).astype(np.float64) for source in (real, open_source(judged)))
    peer = PCA(3, svd_solver="full").fit(x)
    sets = FeatureSets(reference, Features([y.astype(np.float32)]), lambda: None)
    ours, theirs = sets.gen.rows(0, len(y)), peer.transform(y)
    assert np.abs(ours) == pytest.approx(np.abs(theirs), abs=1e-4)  # but for signs
    assert np.abs(reference.features.rows(0, len(x))) == pytest.approx(np.abs(peer.transform(x)), abs=1e-4)
    expected = frechet_distance(*(Features([peer.transform(f)]).moments() for f in (y, x)))
    assert frechet_distance(sets.gen.moments(), reference.moments) == pytest.approx(expected, rel=1e-4)
    assert reference.folder == folder_of(real, lite, 3) != every.folder == folder_of(real, lite)
    again = Reference(real, lite, every.features, 3)
    assert np.array_equal(again.features.rows(0, 4), reference.features.rows(0, 4))
    with pytest.raises(RequestError, match=f"`dims` must be at most {len(x) - 1}"):
        open_references(real, [lite], batch_size=8, dims=len(x))
    moments = Moments.of(x.mean(axis=0), np.cov(x, rowvar=False)).project(peer.mean_, peer.components_.T)
    assert moments.cov == pytest.approx(np.diag(peer.explained_variance_), abs=1e-6)


def test_dimensions_are_part_of_the_key(tiny_dataset, judged, tmp_path):
    command = ("eval", "run", "--images", judged, "--data", tiny_dataset, "--extractor", "efficientnet-lite0", "--json")
    command += ("--metrics", "kid", "--out", tmp_path / "out")
    reduced = run_salon(*command, "--dims", 4)
    assert reduced.code == 0, reduced.err
    row = reduced.json["results"][0]
    assert row["key"] == "kd@efficientnet-lite0/pca=4/imagenet/fp32/n=8" and row["identity"]["dims"] == 4
    refused = run_salon(*command)
    assert refused.code == 2 and "of another request: dims is 4 there, None here" in refused.err
    every = run_salon(*command, "--overwrite")
    assert every.json["results"][0]["key"] == "kd@efficientnet-lite0/imagenet/fp32/n=8"
    with pytest.raises(RequestError, match="must not be compared: dims is 4 and null"):
        require_comparable(*(Result.from_dict(run.json["results"][0]).identity for run in (reduced, every)))
    refused = run_salon(*command, "--dims", 1000, "--overwrite")
    assert refused.code == 2 and "--dims must be at most" in refused.err
