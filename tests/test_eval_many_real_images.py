"""Of more real images than a CPU compares in pairs some are drawn, and every result says how many."""

import json
from copy import copy

import numpy as np
import pytest
import torch
from conftest import run_salon, write_dataset
from PIL import Image

from eval.compare import compare as compare_entries
from eval.compare import read_entry
from eval.data.files_source import FilesSource
from eval.data.image_sources import DatasetSource
from eval.data.reference import Reference, open_references
from eval.evaluate import REPORT, RESULTS, evaluate
from eval.metric_registry import OF_PAIRS, FeatureSets
from eval.metrics import precision_recall
from eval.metrics.feature_stats import Features
from eval.metrics.neighbours import neighbours
from eval.metrics.novelty import authenticity, ratios
from eval.metrics.precision_recall import compare, drawn
from gan.data.collection import Collection
from gan.errors import RequestError

ROWS, COMPARED = 12, 8


@pytest.fixture
def few(monkeypatch):
    """As if 8 images were as many as a CPU compares."""
    monkeypatch.setattr(precision_recall, "EXACT", COMPARED)


@pytest.fixture(scope="module")
def judged(tmp_path_factory, tiny_dataset):
    """A folder of 7 images, from near copies of those of tiny_dataset to noise."""
    folder, rng = tmp_path_factory.mktemp("judged"), np.random.default_rng(5)
    for index, image in enumerate(FilesSource(tiny_dataset).pixels(0, 7)):
        mixed = image + (rng.integers(0, 256, image.shape) - image.astype(float)) * (index + 1) / 7
        Image.fromarray(mixed.round().astype(np.uint8)).save(folder / f"{index}.png")
    return folder


def features_of(source, lite):
    return lite(list(source.pixels(0, len(source))))["features"]


def test_as_many_are_drawn_at_random_but_always_the_same(few):
    assert drawn(COMPARED).tolist() == list(range(COMPARED))
    places = drawn(1000)
    assert np.array_equal(places, drawn(1000)) and (np.diff(places) > 0).all() and len(places) == COMPARED
    assert 1000 > places.max() > 500 > places.min() >= 0  # of the whole set, not its beginning
    assert sum(drawn(n).mean() / n for n in range(1000, 1040)) / 40 == pytest.approx(0.5, abs=0.1)


def test_the_values_are_those_of_the_drawn_images_and_say_so(few, tiny_dataset, judged, lite, tmp_path):
    real, gen = DatasetSource(Collection.open(tiny_dataset)), FilesSource(judged)
    found = evaluate(gen, real, networks=[(lite, ["kid", *OF_PAIRS])], out=tmp_path)
    x, y, places = features_of(real, lite), features_of(gen, lite), drawn(ROWS)
    peer = compare(x[places], y)
    near = ratios(peer.nearest_distance, neighbours(x[places], 1).distances[peer.nearest, 0])
    expected = {**peer.precision_recall(), **peer.density_coverage(), "authenticity": authenticity(near)}
    by_id = {result.id: result for result in found.results}
    assert list(by_id) == ["kd", *expected]
    for id, estimate in expected.items():
        own = by_id[id].estimate
        assert (own.value, own.low, own.high) == pytest.approx((estimate.value, estimate.low, estimate.high), rel=1e-4)
        assert by_id[id].identity.options["real_images"] == COMPARED and by_id[id].identity.reference_n == ROWS
        assert str(by_id[id].identity) == f"{id}@efficientnet-lite0/imagenet/fp32/real=8/n=7"
    assert str(by_id["kd"].identity) == "kd@efficientnet-lite0/imagenet/fp32/n=7"
    (said,) = (text for text in found.figures["warnings"] if "real images, drawn" in text)
    assert said.startswith("pr, dc, authenticity and the nearest real images are of 8 of the 12 real images")
    page = (tmp_path / REPORT).read_text()
    assert said in page and "among 8 of the\n12 real images" in page and "real=8/" in page


def test_nearest_images_and_strata_are_told_by_their_places_among_all(few, tiny_dataset, lite, tmp_path):
    real, places = DatasetSource(Collection.open(tiny_dataset)), drawn(ROWS)
    assert places.tolist() != list(range(COMPARED))
    # One of the two images of "lone" is drawn, three of the four of "b", four of the six of "a".
    left_out = np.setdiff1d(np.arange(ROWS), places)
    names = np.full(ROWS, "a", object)
    names[[left_out[0], places[0]]] = "lone"
    names[[left_out[1], *places[1:4]]] = "b"
    (tmp_path / "same").mkdir()
    for index, image in enumerate(real.pixels(0, 8)):
        Image.fromarray(image).save(tmp_path / "same" / f"{index}.png")
    found = evaluate(
        FilesSource(tmp_path / "same"), real, networks=[(lite, ["pr", "dc"])], out=tmp_path, strata=names.tolist()
    )
    images = found.figures["images"]
    copies = [item for item in images["closest"] if item["ratio"] < 1e-6]
    assert images["compared"] == COMPARED and sorted(item["real"] for item in copies) == [p for p in places if p < 8]
    assert all(item["index"] == item["real"] for item in copies)
    assert {item["real"] for item in images["closest"]} <= set(places.tolist())
    x = features_of(real, lite)
    covered = compare(x[places], x[:8]).coverage.counts > 0
    rows = {row["name"]: row for row in found.figures["strata"]}
    assert (rows["lone"]["n_real"], rows["lone"]["coverage"], rows["lone"]["recall"]) == (2, None, None)
    for name in "ab":
        members = names[places] == name
        assert rows[name]["coverage"]["n"] == members.sum() < rows[name]["n_real"]
        assert rows[name]["coverage"]["value"] == covered[members].mean()
    assert (tmp_path / REPORT).read_text().count("<td></td></tr>") == 1


def test_what_is_kept_of_the_drawn_is_not_taken_for_that_of_all(tmp_path, lite, monkeypatch):
    real = DatasetSource(Collection.open(write_dataset(tmp_path / "real.zip", [(24, 24)] * ROWS)))

    def opened():
        (own,), _ = open_references(real, [lite], batch_size=8)
        own.prepare()
        return own, {file.name for file in own.folder.glob("neighbours*")}

    every, files = opened()
    assert every.compares_all and every.compared_features is every.features and files == {"neighbours.npz"}
    monkeypatch.setattr(precision_recall, "EXACT", COMPARED)
    own, files = opened()
    assert files == {"neighbours.npz", "neighbours-of-8.npz"}
    expected = neighbours(own.features.take(drawn(ROWS)), 6)
    assert np.array_equal(own.neighbours.indices, expected.indices) and own.neighbours.distances.shape == (8, 6)
    assert np.array_equal(own.neighbours.distances, opened()[0].neighbours.distances)
    monkeypatch.undo()
    assert opened()[0].neighbours.indices.shape == (ROWS, 6)


def test_a_gpu_compares_all_and_fewer_dimensions_draw_the_same(few, tiny_dataset, lite):
    real = DatasetSource(Collection.open(tiny_dataset))
    (own,), _ = open_references(real, [lite], batch_size=8)
    (reduced,), _ = open_references(real, [lite], batch_size=8, dims=3)
    assert np.array_equal(reduced.compared, own.compared) and reduced.compared_features.dim == 3
    gen = np.random.default_rng(0).normal(size=(7, lite.dim)).astype(np.float32)
    sets = FeatureSets(reduced, Features([gen]), lambda: None)
    assert np.array_equal(
        sets.comparison.nearest,
        compare(reduced.features.take(drawn(ROWS)), sets.gen).nearest,
    )
    on_gpu = copy(lite)
    on_gpu.device = torch.device("cuda")
    assert Reference(real, on_gpu, own.features).compares_all


def test_results_of_other_numbers_of_real_images_are_not_compared(tiny_dataset, judged, lite, tmp_path, monkeypatch):
    real = DatasetSource(Collection.open(tiny_dataset))
    for number in (ROWS, COMPARED):
        monkeypatch.setattr(precision_recall, "EXACT", number)
        evaluate(FilesSource(judged), real, networks=[(lite, ["pr"])], out=tmp_path / str(number))
    with pytest.raises(RequestError, match="/real=8/n=7 must not be compared") as refusal:
        compare_entries([read_entry(tmp_path / str(number)) for number in (ROWS, COMPARED)])
    assert str(refusal.value).endswith('options is {"k": 3} and {"k": 3, "real_images": 8}')
    figures = json.loads((tmp_path / str(ROWS) / RESULTS).read_text())
    assert figures["results"][0]["key"] == "precision@efficientnet-lite0/imagenet/fp32/n=7"
    assert figures["results"][0]["identity"]["options"] == {"k": 3} and "compared" not in figures["images"]
    assert not any("drawn" in text for text in figures["warnings"])


def test_more_generated_images_are_refused_before_any_work(few, tiny_dataset, lite, tmp_path):
    command = ("eval", "run", "--images", tiny_dataset, "--data", tiny_dataset, "--extractor", "efficientnet-lite0")
    command += ("--device", "cpu", "--out", tmp_path / "out", "--json")
    refused = run_salon(*command, "--metrics", "kid,dc")
    assert refused.code == 2 and not (tmp_path / "out").exists()
    assert "--num-images must be at most 8 for --metrics dc" in " ".join(refused.err.split())
    told = run_salon(*command, "--metrics", "kid,dc", "--num-images", COMPARED)
    assert told.code == 0 and "8 of the 12 real images" in " ".join(told.err.split())
    assert run_salon(*command, "--metrics", "kid", "--overwrite").code == 0
