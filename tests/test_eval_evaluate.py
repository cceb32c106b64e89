"""The pass and the evaluation: each image once, killed and gone on, one process or two, a cache that cannot lie."""

import io
import json
import signal
import zipfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from conftest import SalonProcess, as_torchrun, empty_cache, write_dataset
from PIL import Image
from scipy.spatial.distance import cdist

from eval.data import feature_cache
from eval.data.feature_cache import FeatureShards, one_pass
from eval.data.files_source import FilesSource
from eval.data.image_sources import DatasetSource, IteratorSource
from eval.data.reference import folder_of, open_references
from eval.data.snapshot_source import SnapshotSource
from eval.data.thumbnails import Thumbnails
from eval.evaluate import REPORT, RESULTS, evaluate
from eval.evaluator import Evaluator
from eval.metric_registry import Result
from eval.metrics.feature_stats import Features
from eval.metrics.frechet import fd_infinity, frechet_distance, frechet_jackknife, frechet_of_populations
from eval.metrics.monge import monge_distance
from eval.request import EvaluationRequest
from gan import snapshot
from gan.data import manifest
from gan.data.collection import Collection
from gan.data.dataset import DatasetWriter, ImageDataset
from gan.data.images import encode
from gan.device.selection import select
from gan.errors import RequestError, SalonError

ROOT = Path(__file__).parents[1]
METRICS = ["fid", "kid", "pr", "dc", "is"]
CHEAP = ["kid", "pr", "dc", "is"]  # FD's noise floor takes seconds


class Counted(FilesSource):
    """Real images that count how often each is asked for."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.asked: list[int] = []

    def pixels(self, first, end):
        for index, image in enumerate(super().pixels(first, end), first):
            self.asked.append(index)
            yield image


@pytest.fixture(scope="module")
def painted(tmp_path_factory):
    """A ZIP of 10 images that are not those of tiny_dataset."""
    rng = np.random.default_rng(9)
    path = tmp_path_factory.mktemp("painted") / "painted.zip"
    writer = DatasetWriter(path, ".png")
    for _ in range(10):
        image = Image.fromarray(rng.integers(0, 256, [4, 4, 3], np.uint8)).resize((16, 16))
        writer.add(encode(image, "png"))
    writer.close()
    return path


def evaluator(data, *metrics, **request):
    """What evaluates against `data` by efficientnet-lite0."""
    asked = EvaluationRequest(metrics=metrics, extractors=("efficientnet-lite0",), **request)
    return Evaluator(Collection.open(data), asked, select("cpu"))


def values(figures):
    return {row["key"]: (row["value"], row["low"], row["high"]) for row in figures["results"]}


def test_each_image_is_made_once_for_all_that_lack_it(painted, lite, tmp_path, small_shards):
    source = Counted(painted)
    takers = [FeatureShards(tmp_path / name, lite, logits=True) for name in "ab"]
    takers.append(Thumbnails(tmp_path / "c", feature_cache.SHARD))
    assert one_pass(source, takers, batch_size=3, description="Test") == 10
    assert source.asked == list(range(10))
    assert one_pass(source, takers, batch_size=3, description="Test") == 0
    (tmp_path / "b" / "features-00001.npy").unlink()
    before = (tmp_path / "a" / "features-00001.npy").stat().st_mtime_ns
    assert one_pass(source, takers, batch_size=3, description="Test") == 4
    assert (tmp_path / "a" / "features-00001.npy").stat().st_mtime_ns == before
    assert source.asked[10:] == [4, 5, 6, 7]
    expected = lite(list(source.pixels(0, 10)))
    for taker in takers[:2]:
        for name in ("features", "logits"):
            assert np.allclose(taker.read(np.arange(10), name).rows(0, 10), expected[name], rtol=1e-4, atol=1e-4)


def test_moments_of_shards_are_those_of_all(painted, lite, tmp_path, small_shards):
    taker = FeatureShards(tmp_path, lite)
    one_pass(FilesSource(painted), [taker], batch_size=4, description="Test")
    features = taker.read(np.arange(10))
    merged, every = feature_cache.shared_moments(features, tmp_path / "moments.npz"), features.rows(0, 10)
    assert merged.count == 10
    assert np.allclose(merged.mean, every.mean(0), rtol=1e-12)
    assert np.allclose(merged.cov, np.cov(every.T), rtol=1e-9, atol=1e-12)


def test_pictures_are_small_and_tell_what_the_files_were(tmp_path):
    (tmp_path / "files").mkdir()
    rng = np.random.default_rng(0)
    for name, size in (("a.jpg", (300, 150)), ("b.png", (20, 20))):
        Image.fromarray(rng.integers(0, 256, [size[1], size[0], 3], np.uint8)).save(tmp_path / "files" / name)
    pictures = Thumbnails(tmp_path / "pictures", feature_cache.SHARD)
    one_pass(FilesSource(tmp_path / "files"), [pictures], batch_size=2, description="Test")
    traits = pictures.traits(2)
    assert dict(traits.formats) == {"jpeg": 1, "png": 1} and dict(traits.sizes) == {(300, 150): 1, (20, 20): 1}
    with Image.open(io.BytesIO(pictures.jpeg(0))) as small:
        assert small.size == (96, 48) and small.format == "JPEG"


def test_the_numbers_are_those_of_the_features(painted, tiny_dataset, lite, tmp_path):
    real = DatasetSource(Collection.open(tiny_dataset))
    found = evaluate(FilesSource(painted), real, networks=[(lite, METRICS)], out=tmp_path)
    features = [Features([lite(list(s.pixels(0, len(s))))["features"]]) for s in (FilesSource(painted), real)]
    by_id = {result.id: result for result in found.results}
    assert list(by_id) == ["fd", "fd_corrected", "kd", "precision", "recall", "density", "coverage", "cs"]
    expected = frechet_distance(features[0].moments(), features[1].moments())
    assert by_id["fd"].estimate.value == pytest.approx(expected, rel=1e-4)
    assert by_id["fd"].noise_floor.value < by_id["fd"].estimate.value
    assert str(by_id["fd"].identity) == "fd@efficientnet-lite0/imagenet/fp32/n=10"
    for result in found.results:
        assert result.estimate.low <= result.estimate.value <= result.estimate.high
        assert asdict(Result.from_dict(json.loads(json.dumps(result.to_dict()))).estimate) == asdict(result.estimate)
    figures = json.loads((tmp_path / RESULTS).read_text())
    assert figures == json.loads(json.dumps(found.figures))
    assert figures["images_made"] == 10 and set(figures["seconds"]) >= {"reference", "images and features", "fid"}
    assert figures["reference"]["sha256"] == ImageDataset(tiny_dataset).fingerprint()
    assert (tmp_path / REPORT).stat().st_size < 300_000


def test_further_metrics_are_those_of_the_features(tiny_dataset, lite, tmp_path):
    real, rng = DatasetSource(Collection.open(tiny_dataset)), np.random.default_rng(5)
    images = tmp_path / "images"
    images.mkdir()
    for index, image in enumerate(real.pixels(0, 12)):  # from nearly a copy to noise
        mixed = image + (rng.integers(0, 256, image.shape) - image.astype(float)) * (index + 1) / 12
        Image.fromarray(mixed.round().astype(np.uint8)).save(images / f"{index:02d}.png")
    source = FilesSource(images)
    names = ["fid_infinity", "fid_population", "mind", "authenticity"]
    found = evaluate(source, real, networks=[(lite, names)], out=tmp_path / "out")
    by_id = {result.id: result for result in found.results}
    assert list(by_id) == ["fd_infinity", "fd_population", "md", "authenticity"]
    gen, dataset = (lite(list(s.pixels(0, len(s))))["features"] for s in (source, real))
    moments = Features([dataset]).moments()
    limit = by_id["fd_infinity"]
    assert limit.estimate.value == pytest.approx(fd_infinity(gen, moments), rel=1e-4)
    jackknife = frechet_jackknife(gen, moments)
    assert limit.estimate.se == pytest.approx(jackknife.se, rel=1e-4)
    assert limit.replicates.value == limit.estimate.value
    assert limit.replicates.se == pytest.approx(jackknife.se, rel=1e-4)
    populations = frechet_of_populations(gen, dataset)
    assert by_id["fd_population"].estimate.value == pytest.approx(populations.value, rel=1e-4)
    assert by_id["md"].estimate.value == pytest.approx(monge_distance(gen, dataset).value, rel=1e-4)
    across, within = cdist(gen, dataset), np.sort(cdist(dataset, dataset))[:, 1]
    expected = (across.min(axis=1) > within[across.argmin(axis=1)]).mean()
    assert 0 < expected < 1
    assert by_id["authenticity"].estimate.value == by_id["authenticity"].replicates.value == expected


def test_the_dataset_itself_is_perfect_and_seen_to_be_a_copy(tiny_dataset, lite, tmp_path):
    real = DatasetSource(Collection.open(tiny_dataset))
    found = evaluate(FilesSource(tiny_dataset), real, networks=[(lite, METRICS)], out=tmp_path)
    by_id = {result.id: result.estimate.value for result in found.results}
    assert abs(by_id["fd"]) < 1e-6 and by_id["precision"] == by_id["recall"] == by_id["coverage"] == 1
    images = found.figures["images"]
    assert images["closer_than_real"] == 12
    assert all(item["index"] == item["real"] and item["ratio"] < 1e-6 for item in images["closest"])


def test_strata_of_labelled_images_are_judged_by_their_own(tiny_dataset, lite, tmp_path):
    real = DatasetSource(Collection.open(tiny_dataset))
    names = [real.label(index) for index in range(12)]
    for index, image in enumerate(real.pixels(0, 12)):
        file = tmp_path / "files" / names[index] / f"{index}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(file)
    own = evaluate(FilesSource(tmp_path / "files"), real, networks=[(lite, ["pr"])], out=tmp_path / "own", strata=names)
    rows = {row["name"]: row for row in own.figures["strata"]}
    assert set(rows) == {"day", "night"}
    for row in rows.values():
        assert (row["n_real"], row["n_gen"], row["labelled"], row["metric"]) == (6, 6, True, "kd")
        assert row["coverage"]["value"] == 1
    every = evaluate(
        FilesSource(tiny_dataset, 10), real, networks=[(lite, ["kid"])], out=tmp_path / "all", strata=names
    )
    rows = every.figures["strata"]  # images without labels: all of them belong to each stratum
    assert [(row["n_real"], row["n_gen"], row["labelled"]) for row in rows] == [(6, 10, False)] * 2


def test_an_iterator_gives_the_numbers_of_its_files(painted, tiny_dataset, lite, tmp_path):
    real = DatasetSource(Collection.open(tiny_dataset))
    files = FilesSource(painted)
    outcomes = [
        evaluate(source, real, networks=[(lite, ["fid", "pr"])], out=tmp_path / name)
        for name, source in (("a", files), ("b", IteratorSource(files.pixels(0, 10), 10)))
    ]
    assert values(outcomes[0].figures) == values(outcomes[1].figures)


def test_one_changed_pixel_is_another_reference(tiny_dataset, lite, tmp_path):
    with zipfile.ZipFile(tiny_dataset) as archive:
        archive.extractall(tmp_path / "copy")
    dataset = ImageDataset(tmp_path / "copy")
    before = DatasetSource(Collection.open(tmp_path / "copy"))
    assert folder_of(before, lite) == folder_of(DatasetSource(Collection.open(tiny_dataset)), lite)
    file = tmp_path / "copy" / dataset.names[0]
    pixels = np.array(Image.open(file))
    pixels[3, 4, 1] ^= 1
    Image.fromarray(pixels).save(file)
    after = DatasetSource(Collection.open(tmp_path / "copy"))
    assert folder_of(after, lite) != folder_of(before, lite)
    rows = [{"name": name, "verdict": "keep"} for name in dataset.names[1:]]
    manifest.write(tmp_path / "fewer", rows, dataset=after.identity["sha256"], parent=None)
    fewer = DatasetSource(Collection.open(tmp_path / "copy", tmp_path / "fewer"))
    assert folder_of(fewer, lite) != folder_of(after, lite)


def test_weights_preprocessing_and_precision_are_in_the_references_key(tiny_dataset, lite):
    from copy import copy

    source = DatasetSource(Collection.open(tiny_dataset))
    folders = {folder_of(source, lite)}
    for part in ("extractor", "preprocess", "precision", "backend", "weights"):
        other = copy(lite)
        other.identity = {**lite.identity, part: "another"}
        folders.add(folder_of(source, other))
    assert len(folders) == 6


def test_a_reference_that_is_there_is_not_extracted_again(tmp_path, lite):
    source = Counted(write_dataset(tmp_path / "real.zip", [(16, 16)] * 8))
    for expected in (8, 8):
        (own,), _ = open_references(source, [lite], batch_size=4)
        own.prepare()
        assert len(source.asked) == expected
    made = {file.name for file in own.folder.iterdir()}
    assert made == {"moments.npz", "factor.npz", "kernel.npz", "neighbours.npz", "identity.json"}
    (own.folder / "moments.npz").write_bytes(b"torn")
    with pytest.raises(SalonError, match=r"moments\.npz must hold arrays.*Remove it"):
        open_references(source, [lite], batch_size=4)


def test_formats_sizes_and_small_numbers_are_warned_of(painted, lite, tmp_path):
    writer = DatasetWriter(tmp_path / "jpeg.zip", ".jpg")
    rng = np.random.default_rng(0)
    for _ in range(8):
        writer.add(encode(Image.fromarray(rng.integers(0, 256, [32, 32, 3], np.uint8)), "jpeg"))
    writer.close()
    real = DatasetSource(Collection.open(tmp_path / "jpeg.zip"))
    found = evaluate(FilesSource(painted), real, networks=[(lite, ["fid"])], out=tmp_path / "out")
    text = "\n".join(found.figures["warnings"])
    assert "JPEG" in text and "16x16 and 32x32" in text and "wants 12,800 images" in text
    found = evaluate(FilesSource(painted), real, networks=[(lite, ["kid"])], out=tmp_path / "out")
    assert "wants" not in "\n".join(found.figures["warnings"])


def test_what_the_results_say_against_themselves_is_told(tiny_dataset, lite, tmp_path):
    dataset = ImageDataset(tiny_dataset)
    rng = np.random.default_rng(3)
    for index, label in enumerate(["day"] * 6 + ["night"] + ["dawn"] * 2):
        file = tmp_path / "some" / label / f"{index}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        own = dataset.image(index) if index < 3 else rng.integers(0, 256, [16, 16, 3], np.uint8)
        Image.fromarray(own).save(file)
    real = DatasetSource(Collection.open(tiny_dataset))
    strata = real.collection.stratum_names("label")

    def told(source, out):
        options = {"networks": [(lite, ["pr", "is"])], "out": tmp_path / out, "strata": strata}
        return "\n".join(evaluate(source, real, **options).figures["warnings"])

    text = told(FilesSource(tmp_path / "some"), "out")
    assert "3 of 9 evaluated images are images of the dataset" in text
    assert "in no row by stratum: dawn (2 images)" in text
    assert f"have no row: night (1 and {strata.count('night')} images)" in text
    assert "Classifier score by efficientnet-lite0 is too low by about" in text
    (tmp_path / "some" / "day").rename(tmp_path / "some" / "noon")
    (tmp_path / "some" / "night").rename(tmp_path / "some" / "dusk")
    assert "no label of the evaluated images is a stratum" in told(FilesSource(tmp_path / "some"), "renamed")


@pytest.mark.parametrize(
    "metrics, said",
    [
        (["ls"], "`metrics` ls needs a snapshot"),
        (["fid", "fud"], "`metrics` must be some of .*; got fud"),
    ],
)
def test_metrics_that_do_not_fit_are_refused_before_any_work(metrics, said, painted, tiny_dataset, lite, tmp_path):
    source = Counted(painted)
    with pytest.raises(RequestError, match=said):
        evaluator(tiny_dataset, *metrics).evaluate(source, tmp_path / "out")
    assert source.asked == [] and not (tmp_path / "out").exists()


def test_too_few_images_are_refused(lite, tmp_path):
    few = write_dataset(tmp_path / "few.zip", [(16, 16)] * 6)
    with pytest.raises(RequestError, match="`metrics` pr needs at least 4 generated and 7 real images; got 6 and 6"):
        evaluator(few, "pr")(few, tmp_path / "out")


def test_all_snapshots_are_judged_by_one_bank_of_latents(tiny_run, tiny_dataset, lite, tmp_path):
    real = DatasetSource(Collection.open(tiny_dataset))
    source = SnapshotSource(tiny_run, 8, seed=5)
    found = evaluate(source, real, networks=[(lite, ["kid"])], out=tmp_path)
    generator = found.figures["generator"]
    assert generator["z_bank"] == SnapshotSource(tiny_run, 3, seed=5).z_bank
    assert (generator["seed"], generator["cur_nimg"]) == (5, snapshot.find(tiny_run).cur_nimg)
    assert generator["truncation_psi"] == 1.0 and len(generator["sha256"]) == 64


# Killed, and several processes


@pytest.fixture(scope="module")
def whole(tiny_run, tiny_dataset, tmp_path_factory):
    """Figures of an evaluation of 16 images that nothing stopped."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feature_cache, "SHARD", 4)
        return evaluator(tiny_dataset, *CHEAP, num_images=16)(tiny_run, tmp_path_factory.mktemp("whole")).figures


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_evaluation_goes_on_from_its_shards(number, tiny_run, tiny_dataset, tmp_path, small_shards, whole):
    request = ["eval", "run", "--snapshot", tiny_run, "--data", tiny_dataset, "--out", tmp_path / "out"]
    request += ["--num-images", 16, "--metrics", ",".join(CHEAP), "--device", "cpu"]
    event = (number, "os.rename", r"out/.*features-.*\.npy", 3)  # two of four shards are there
    ended = SalonProcess(tmp_path, *request, shard=4, event=event).wait()
    assert ended.code == (130 if number == signal.SIGINT else -number), ended.err
    assert "Traceback" not in ended.err
    assert not (tmp_path / "out" / RESULTS).exists()
    if number == signal.SIGINT:
        assert "Stopped. Nothing was left half-written." in ended.err
        return
    resumed = evaluator(tiny_dataset, *CHEAP, num_images=16)(tiny_run, tmp_path / "out").figures
    assert resumed["images_made"] == 8 and whole["images_made"] == 16
    assert values(resumed) == values(whole)
    assert not list((tmp_path / "out").rglob("*.partial"))


def test_two_processes_give_the_numbers_of_one(tiny_run, tiny_dataset, tmp_path, monkeypatch, small_shards):
    one_cache, two_caches = (empty_cache(tmp_path / name) for name in ("cache of one", "cache of two"))
    monkeypatch.setenv("SALON_CACHE", str(one_cache))
    one = evaluator(tiny_dataset, *CHEAP, num_images=22)(tiny_run, tmp_path / "one").figures
    request = ["eval", "run", "--snapshot", tiny_run, "--data", tiny_dataset, "--out", tmp_path / "two", "--json"]
    request += ["--num-images", 22, "--metrics", ",".join(CHEAP), "--device", "cpu"]
    ended, other = (each.wait() for each in as_torchrun(tmp_path, *request, caches=(two_caches,) * 2, shard=4))
    assert ended.code == other.code == 0, ended.err + other.err
    two = ended.json
    assert one["images_made"] == 22 and two["images_made"] == 12  # in the main process: of six shards every other one
    assert list(values(one)) == list(values(two)) and len(values(one)) == 6
    for key, value in values(one).items():
        assert value == pytest.approx(values(two)[key], rel=1e-9, abs=1e-12), key
