"""salon curate check and score on real files with real networks: columns, lineage, new images, discriminators."""

import hashlib
import re
import shutil
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from conftest import as_torchrun, empty_cache, run_salon, write_dataset
from PIL import Image

from curation.score import density, discriminator_scores, sampled_bits
from curation.score import score as scoring
from eval.features.extractor import Extractor
from eval.metrics import approximate, on_device
from gan import snapshot
from gan.config import NetworkConfig, TrainingConfig
from gan.data import manifest
from gan.data.dataset import ImageDataset
from gan.data.synthetic_scenes import painting
from gan.errors import RequestError
from gan.networks.discriminator import Discriminator
from gan.networks.generator import Generator

ROOT = Path(__file__).parents[1]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """22 landscapes of 16 px and 2 sheets of noise, a copy, and a mirrored copy, as a dataset with its manifest."""
    base = tmp_path_factory.mktemp("scoring")
    source = base / "pictures"
    source.mkdir()
    images = [painting("landscape", "impressionism", seed, 96) for seed in range(22)]
    images += [Image.fromarray(np.random.default_rng(s).integers(0, 256, [96, 96, 3], np.uint8)) for s in range(2)]
    images += [images[0], images[1].transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
    for number, image in enumerate(images):
        image.save(source / f"{number:02d}.png")
    prepared = run_salon(
        *("prepare", source, "--out", base / "set.zip", "--resolution", 16, "--format", "png", "--keep-duplicates")
    )
    assert prepared.code == 0, prepared.err
    return base


def rows(path):
    return {row["source"].split("/")[-1]: row for row in manifest.read(path).rows.to_pylist()}


def curate(*arguments):
    outcome = run_salon("curate", *arguments, "--device", "cpu", "--json")
    assert outcome.code == 0, outcome.err
    return outcome.json


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def checked(folder):
    before = digest(folder / "set.zip"), digest(folder / "set.manifest" / "part-00000.parquet")
    figures = curate("check", folder / "set.zip", "--out", folder / "checked")
    assert before == (digest(folder / "set.zip"), digest(folder / "set.manifest" / "part-00000.parquet"))
    return figures


@pytest.fixture(scope="module")
def scored(folder, checked):
    return curate(
        *("score", folder / "set.zip", "--manifest", folder / "checked", "--out", folder / "scored"),
        *("--state", folder / "state.npz"),
    )


def test_check_writes_a_child_with_flags_hashes_and_groups(folder, checked):
    parent, child = manifest.read(folder / "set.manifest"), manifest.read(folder / "checked")
    assert child.header["parent"] == parent.hash and child.hash == checked["hash"]
    assert child.rows.select(parent.rows.column_names).equals(parent.rows)
    found = rows(folder / "checked")
    assert found["24.png"]["flags"] == "duplicate-exact" and "duplicate-near" in found["25.png"]["flags"]
    assert found["00.png"]["flags"] is None and found["01.png"]["flags"] is None
    assert found["24.png"]["perceptual_hash"] == found["00.png"]["perceptual_hash"]
    assert found["25.png"]["embedding_group"] == found["01.png"]["embedding_group"] == 1
    assert found["02.png"]["embedding_group"] is None
    assert checked["flags"]["duplicate-exact"] == 1
    assert all(row["check_spread"] > 0 for row in found.values())


def test_many_images_are_compared_with_their_neighbours_alone_to_the_same_end(folder, checked, monkeypatch):
    monkeypatch.setattr(approximate, "EXACT", 10)
    monkeypatch.setattr(sampled_bits, "EXACT", 10)
    arguments = folder / "set.zip", "--out", folder / "checked.many"
    figures = curate("check", *arguments)
    assert figures["neighbours_recall"]["value"] == 1 and checked["neighbours_recall"] is None
    assert rows(folder / "checked.many") == rows(folder / "checked")
    shutil.rmtree(folder / "checked.many")
    said = run_salon("curate", "check", *arguments, "--device", "cpu").out
    assert "100.0 % of an image's 20 nearest neighbours were found" in said


def test_what_was_dropped_is_neither_checked_nor_scored(folder, checked):
    drop = folder / "drop.txt"
    drop.write_text("pictures/00.png\npictures/01.png\npictures/22.png\n")
    curate_prune = run_salon(
        *("curate", "prune", folder / "checked", "--drop", drop, "--keep", 1, "--out", folder / "fewer")
    )
    assert curate_prune.code == 0, curate_prune.err
    figures = curate(*("check", folder / "set.zip", "--manifest", folder / "fewer", "--out", folder / "fewer.checked"))
    assert figures["images"] == 23 and figures["duplicate_groups"] == 0
    found = rows(folder / "fewer.checked")
    assert found["24.png"]["flags"] is None and found["25.png"]["embedding_group"] is None  # no copy of theirs is left
    assert found["00.png"]["check_spread"] is None
    figures = curate(*("score", folder / "set.zip", "--manifest", folder / "fewer", "--out", folder / "fewer.scored"))
    assert figures["scored"] == 23
    found = rows(folder / "fewer.scored")
    assert [name for name, row in found.items() if row["score_knn"] is None] == ["00.png", "01.png", "22.png"]


def test_copies_of_what_is_known_are_flagged(folder, checked):
    source = folder / "more"
    source.mkdir()
    for number, image in enumerate(painting("landscape", "impressionism", seed, 96) for seed in (3, 50, 50, 4)):
        turned = [image, image, image.convert("L"), image.transpose(Image.Transpose.ROTATE_180)][number]
        turned.resize((96 + number, 96)).save(source / f"{number}.png")
    prepared = run_salon("prepare", source, "--out", folder / "more.zip", "--resolution", 16, "--format", "png")
    assert prepared.code == 0, prepared.err
    out = folder / "more.checked"
    figures = curate("check", folder / "more.zip", "--out", out, "--known", folder / "set.zip")
    assert figures["images"] == 4 and figures["known_images"] == 26 and figures["duplicate_groups"] == 1
    assert figures["flags"]["duplicate-known"] == 2
    names = {row["name"]: name for name, row in rows(folder / "checked").items()}
    found = rows(out)
    assert [names.get(found[f"{number}.png"]["known_copy"]) for number in range(4)] == ["03.png", None, None, "04.png"]
    assert [found[f"{number}.png"]["embedding_group"] for number in range(4)] == [None, 1, 1, None]
    assert found["2.png"]["copy_of"] is None and found["1.png"]["copy_of"] == found["2.png"]["name"]  # of more pixels
    assert "duplicate-near" in found["1.png"]["flags"]
    again = run_salon("curate", "check", folder / "more.zip", "--out", folder / "x", "--known", folder / "more.zip")
    assert again.code == 2 and "--known must be another dataset" in again.err
    dropped = run_salon("curate", "prune", out, "--drop-flag", "duplicate-known", "--keep", 1, "--dry-run", "--json")
    assert dropped.json["flagged"] == 2


def test_score_gives_outliers_the_lowest_scores_and_everything_an_error(folder, scored):
    found = rows(folder / "scored")
    for method in ("density", "knn"):
        order = sorted(found, key=lambda name: found[name][f"score_{method}"])
        assert set(order[:2]) == {"22.png", "23.png"}
        assert all(row[f"score_{method}_se"] > 0 for row in found.values())
    assert found["25.png"]["embedding_group"] == 1  # what check wrote stays
    assert manifest.read_header(folder / "scored")["parent"] == manifest.read(folder / "checked").hash


def test_the_figures_say_what_was_scored_and_the_manifest_how(folder, scored):
    parameters = {
        "command": "salon curate score",
        "methods": ["density", "knn"],
        "strata": "none",
        "models": None,
        "seed": 0,
        "extractor": scored["extractors"]["content"],
        "extractors": scored["extractors"],
        "state": "state.npz",
    }
    assert manifest.read_header(folder / "scored")["parameters"] == parameters
    assert parameters["extractor"]["extractor"] == "efficientnet-lite0"
    rates = {name: scored[name] for name in ("seconds", "images_per_second")}
    places = {"manifest": str(folder / "scored"), "hash": manifest.read(folder / "scored").hash}
    assert scored == {"images": 26, "scored": 26, **rates, **places, **parameters}
    assert rates["images_per_second"] * rates["seconds"] == pytest.approx(
        26, abs=0.1 + 0.001 * rates["images_per_second"]
    )


def test_the_same_request_gives_the_same_manifest(folder, scored):
    started = time.perf_counter()
    again = curate("score", folder / "set.zip", "--manifest", folder / "checked", "--out", folder / "again")
    assert again["hash"] == scored["hash"]
    assert 0 < again["seconds"] <= time.perf_counter() - started + 0.001  # rounded


def test_new_images_are_scored_by_the_state_alone(folder, scored):
    source = folder / "pictures"
    for seed in (40, 41):
        painting("landscape", "impressionism", seed, 96).save(source / f"new{seed}.png")
    grown = folder / "grown.zip"
    prepared = run_salon(
        "prepare", source, "--out", grown, "--resolution", 16, "--format", "png", "--keep-duplicates", "--json"
    )
    assert prepared.json["images"] == 28
    figures = curate(
        *("score", grown, "--out", folder / "grown.scored", "--state", folder / "state.npz"),
        *("--known", folder / "scored"),
    )
    assert figures["scored"] == 2
    old, new = rows(folder / "scored"), rows(folder / "grown.scored")
    for name, row in old.items():
        if name in ("00.png", "24.png"):
            continue  # one picture twice: both now have the scores of one of them
        assert row["score_density"] == new[name]["score_density"] and row["score_knn_se"] == new[name]["score_knn_se"]
    assert np.isfinite([new["new40.png"]["score_density"], new["new41.png"]["score_knn"]]).all()


def test_known_images_without_a_score_or_a_hash_are_scored(folder, scored):
    table, old = manifest.read(folder / "scored").rows, manifest.read_header(folder / "scored")
    known = table.to_pylist()
    for number, row in enumerate(known):
        row["score_knn"] = float(number)
    for row in known[3:5]:  # neither pictures nor copies of any other
        row["score_density"] = None
    known[5]["pixel_sha256"], known[6]["score_knn"] = None, None
    manifest.write_tables(
        folder / "known", [pa.Table.from_pylist(known, table.schema)], dataset=old["dataset"], parent=old["parent"]
    )
    figures = curate(
        *("score", folder / "set.zip", "--manifest", folder / "checked", "--out", folder / "filled"),
        *("--state", folder / "state.npz", "--known", folder / "known"),
    )
    assert figures["images"] == 26 and figures["scored"] == 3
    found = manifest.read(folder / "filled").rows.to_pylist()
    kept = {number for number, row in enumerate(found) if row["score_knn"] == number}
    assert set(range(26)) - kept == {0, 3, 4, 5, 6}
    assert (
        found[0]["score_knn"] == 24 and found[6]["score_knn"] is None
    )  # 0 and 24: one picture, of which the last counts
    assert all(np.isfinite(row["score_density"]) for row in found)


def test_strata_and_what_their_images_were_compared_with_are_recorded(folder, scored):
    table = manifest.read(folder / "checked").rows
    given = table.to_pylist()
    for number, row in enumerate(given):
        row["genre"] = "coast" if number < 20 else "wood"
    old = manifest.read_header(folder / "checked")
    manifest.write_tables(
        folder / "genres", [pa.Table.from_pylist(given, table.schema)], dataset=old["dataset"], parent=old["parent"]
    )
    pooled = {"pooled": {"coast": 20, "wood": 6}}  # fewer than a hundred each
    for out in ("by-genre", "by-genre-again"):  # the models are fitted, and then read
        figures = curate(
            *("score", folder / "set.zip", "--manifest", folder / "genres", "--out", folder / out),
            *("--strata", "genre", "--state", folder / "by-genre.npz"),
        )
        assert figures["strata"] == "genre" and figures["models"] == pooled
    found = [rows(folder / name) for name in ("by-genre", "by-genre-again", "scored")]
    for name, row in found[0].items():
        for column in ("score_density", "score_density_se", "score_knn", "score_knn_se"):
            assert row[column] == found[2][name][column]  # all are pooled
    assert found[1]["03.png"]["score_knn"] != found[0]["03.png"]["score_knn"]  # by models that have seen it, too


def test_a_state_of_other_features_is_refused(folder, scored):
    curate(
        *("score", folder / "set.zip", "--out", folder / "style", "--features", "style"),
        *("--state", folder / "style.npz"),
    )
    names = {"state": "efficientnet-lite0", "style": "efficientnet-lite0-style"}
    for own, of_state in (("style", "state"), ("state", "style")):
        features = ("--features", "style" if own == "style" else "content")
        arguments = ("--state", folder / f"{of_state}.npz", *features, "--device", "cpu")
        outcome = run_salon("curate", "score", folder / "set.zip", "--out", folder / "refused", *arguments)
        assert outcome.code == 2 and not (folder / "refused").exists()
        said = rf"{of_state}\.npz must be of the features {names[own]}/\S+; it is of {names[of_state]}/"
        assert re.search(said, outcome.err), outcome.err
    standards = [density.load(folder / f"{name}.npz").strata[density.POOLED].standard for name in names]
    assert not standards[0].size and len(standards[1]) == 2  # what is standardized is style alone


def test_finished_shards_are_not_made_again(folder, scored, monkeypatch):
    from eval.features.extractor import Extractor

    def refuse(self, pixels):
        raise AssertionError("features were extracted again")

    monkeypatch.setattr(Extractor, "__call__", refuse)
    curate("score", folder / "set.zip", "--out", folder / "third")


@pytest.fixture(scope="module")
def judge(folder):
    torch.manual_seed(0)
    network = NetworkConfig(resolution=16, z_dim=8, w_dim=8, mapping_layers=2, channel_base=128, channel_max=8)
    path = folder / "judge.safetensors"
    config = TrainingConfig(network=network, dataset="0" * 64)
    snapshot.save(path, Generator(network), Discriminator(network), config, 0, None)
    return path


def test_a_logit_is_averaged_over_companies(folder, judge):
    dataset, D = ImageDataset(folder / "set.zip"), snapshot.load(judge).D
    values = discriminator_scores.logits(
        D, dataset, np.arange(7), CPU, seed=0, groupings=3
    )  # 7: the last group is filled up
    assert values.shape == (3, 7) and np.isfinite(values).all()
    assert (values.std(axis=0) > 0).all()  # minibatch standard deviation: the company matters
    assert (values == discriminator_scores.logits(D, dataset, np.arange(7), CPU, seed=0, groupings=3)).all()
    mean, error = discriminator_scores.mean_and_error(values)
    assert mean == pytest.approx(values.mean(0)) and error == pytest.approx(values.std(0, ddof=1) / 3**0.5)


def test_each_image_has_the_logit_that_it_has_in_its_company(folder, judge, monkeypatch):
    dataset, D = ImageDataset(folder / "set.zip"), snapshot.load(judge).D
    monkeypatch.setattr(discriminator_scores, "BATCH", 5)  # rounded down to one group of 4
    indices = np.array([20, 3, 11, 7, 2, 15, 9])
    found = discriminator_scores.logits(D, dataset, indices, CPU, seed=5, groupings=2)
    for grouping in range(2):
        order = np.random.default_rng([5, grouping]).permutation(7)
        for places, fresh in ((order[:4], 4), (np.append(order[4:], order[0]), 3)):  # the last is filled up
            pixels = np.stack([dataset.pixels(int(indices[place])) for place in places])
            with torch.no_grad():
                expected = D(torch.from_numpy(pixels / np.float32(127.5) - 1), None)[:, 0]
            assert found[grouping, places[:fresh]] == pytest.approx(expected[:fresh].numpy(), abs=1e-5)
    monkeypatch.setattr(discriminator_scores, "BATCH", 3)  # never less than a group
    assert (discriminator_scores.logits(D, dataset, indices, CPU, seed=5, groupings=2) == found).all()


def test_d_low_is_over_snapshots_and_companies(folder, judge):
    dataset, indices = ImageDataset(folder / "set.zip"), np.arange(9)
    first, second = snapshot.load(judge), snapshot.load(judge)
    second.D.b4.out.weight.mul_(2)
    logits = [
        discriminator_scores.logits(source.D, dataset, indices, CPU, seed=seed, groupings=4)
        for source, seed in ((first, 3), (second, 1003))
    ]
    values = np.concatenate(logits)
    mean, error = discriminator_scores.d_low([first, second], dataset, indices, CPU, seed=3)
    assert mean == pytest.approx(values.mean(axis=0)) and error == pytest.approx(values.std(axis=0, ddof=1) / 8**0.5)


def test_a_run_is_all_of_its_snapshots_and_a_file_is_one(judge, tmp_path):
    (tmp_path / "snapshots").mkdir()
    names = [f"snapshot-{cur_nimg:010}.safetensors" for cur_nimg in (2000, 1000)]
    for name in names:
        shutil.copy(judge, tmp_path / "snapshots" / name)
    assert [found.path.name for found in scoring._snapshots(tmp_path)] == names
    assert [found.path for found in scoring._snapshots(judge)] == [judge]


def test_d_low_of_other_classes_is_refused_in_one_line(folder, judge, tmp_path):
    network = replace(snapshot.load(judge).config.network, num_classes=2)
    path, config = tmp_path / "judge.safetensors", TrainingConfig(network=network, dataset="0" * 64)
    snapshot.save(path, Generator(network), Discriminator(network), config, 0, ["day", "night"])
    source, indices = snapshot.load(path), np.arange(4)

    def score(labels, classes=None):
        dataset = ImageDataset(write_dataset(tmp_path / "d.zip", [(16, 16)] * 4, labels, classes))
        return discriminator_scores.d_low([source], dataset, indices, CPU, seed=3)

    assert np.isfinite(score([0, 1, 1, 0])).all() and np.isfinite(score([0] * 4, ["day"])).all()
    for labels, classes, got in (([0, 1, 2, 0], None, "has 3"), ([0, 1, 0, 1], ["night", "day"], "has 2: night, day")):
        with pytest.raises(RequestError, match=f"must hold images of 2 classes, day, night; .*d.zip {got}"):
            score(labels, classes)
    arguments = ("--out", folder / "refused", "--method", "d-low", "--run", path, "--device", "cpu")
    outcome = run_salon("curate", "score", folder / "set.zip", *arguments)
    assert outcome.code == 2 and not (folder / "refused").exists()
    assert outcome.err == f"Error: DATASET must hold images of 2 classes, day, night; {folder / 'set.zip'} has 0\n"


def test_d_low(folder, judge, tmp_path, monkeypatch):
    monkeypatch.setenv("SALON_CACHE", str(empty_cache(tmp_path / "cache")))
    monkeypatch.setattr(Extractor, "__call__", None)  # no features are needed
    curate("score", folder / "set.zip", "--out", folder / "low", "--method", "d-low", "--run", judge)
    found = rows(folder / "low")
    assert all(np.isfinite(row["score_d_low"]) and row["score_d_low_se"] >= 0 for row in found.values())
    assert "score_density" not in found["00.png"]


def test_style_is_scored_beside_content_and_ranks_with_it(folder, scored):
    figures = curate("score", folder / "set.zip", "--out", folder / "both", "--features", "both")
    assert figures["methods"] == ["density", "knn", "style-density", "style-knn"]
    assert [each["extractor"] for each in figures["extractors"].values()] == [
        "efficientnet-lite0",
        "efficientnet-lite0-style",
    ]
    both, content = rows(folder / "both"), rows(folder / "scored")
    for name, row in both.items():
        assert row["score_knn"] == pytest.approx(content[name]["score_knn"], abs=1e-6)
        assert np.isfinite(row["score_style_density"]) and row["score_style_knn_se"] >= 0
    # Scores of style that are added to those of content are the same, and prune ranks by all four.
    curate(
        *("score", folder / "set.zip", "--manifest", folder / "scored"),
        "--out",
        folder / "added",
        "--features",
        "style",
    )
    added = rows(folder / "added")
    assert all(added[name]["score_style_density"] == row["score_style_density"] for name, row in both.items())
    run_salon("curate", "prune", folder / "added", "--out", folder / "by-all")
    parameters = manifest.read_header(folder / "by-all")["parameters"]
    assert parameters["methods"] == ["density", "knn", "style-density", "style-knn"]


def test_scores_of_methods_that_are_gone_are_read_shown_and_pruned_by(folder, scored):
    table = manifest.read(folder / "scored").rows
    values = pa.array(np.arange(len(table), dtype=float))
    old = manifest.read_header(folder / "scored")
    table = table.append_column("score_d_core", values).append_column("score_d_cross", values)
    manifest.write_tables(folder / "old", [table], dataset=old["dataset"], parent=old["parent"])
    figures = run_salon(
        *("curate", "prune", folder / "old", "--out", folder / "old.pruned", "--json"),
        *("--method", "d-core", "--method", "d-cross", "--keep", 0.9, "--tail", 0.1),
    ).json
    assert figures["low rank"] == 2 and figures["under-covered"] == 3
    pruned = manifest.read(folder / "old.pruned").rows.to_pylist()
    assert [i for i, row in enumerate(pruned) if row["verdict"] == manifest.DROP] == [0, 1]
    assert [i for i, row in enumerate(pruned) if "under-covered" in (row["flags"] or "")] == [23, 24, 25]
    page = folder / "old.html"
    shown = run_salon("curate", "review", folder / "old.pruned", "--data", folder / "set.zip", "--out", page)
    assert shown.code == 0 and '["d-core", "25"]' in page.read_text()


def test_a_dataset_is_read_once_to_be_hashed(folder, scored, monkeypatch):
    first, *others = ImageDataset(folder / "set.zip").names
    read = []
    original = ImageDataset.file_bytes
    monkeypatch.setattr(
        ImageDataset, "file_bytes", lambda self, index: read.append(self.names[index]) or original(self, index)
    )
    curate("score", folder / "set.zip", "--out", folder / "once")
    # The features are cached, and the first image is opened for its size too.
    assert Counter(read) == {first: 2, **dict.fromkeys(others, 1)}


def test_nothing_is_scored_where_all_is_known(folder, scored):
    figures = curate(
        *("score", folder / "set.zip", "--out", folder / "nothing-new", "--state", folder / "state.npz"),
        *("--known", folder / "scored"),
    )
    assert figures["scored"] == 0
    assert rows(folder / "nothing-new")["03.png"]["score_knn"] == rows(folder / "scored")["03.png"]["score_knn"]


def test_what_a_gpu_searches_is_the_same(folder, checked, scored, monkeypatch):
    # The searches as a GPU makes them, on the CPU: whatever compares all pairs gets the extractor's device.
    searches = []
    for name in ("nearest", "alike"):
        original = getattr(on_device, name)
        monkeypatch.setattr(on_device, name, lambda *a, s=original, n=name: searches.append(n) or s(*a))
    monkeypatch.setattr(Extractor, "gpu", property(lambda self: self.device))
    figures = curate("check", folder / "set.zip", "--out", folder / "checked-there")
    assert searches == ["alike"] and figures["hash"] == checked["hash"]
    for number, (state, count) in enumerate([((), 8 + 8 + 8), (("--state", folder / "state.npz"), 8)]):
        searches.clear()
        out = folder / f"there-{number}"
        curate("score", folder / "set.zip", "--manifest", folder / "checked", "--out", out, *state)
        assert searches == ["nearest"] * count  # to fit, to scale, and to score eight models
    found, expected = rows(folder / "there-0"), rows(folder / "scored")
    for column in ("score_density", "score_density_se", "score_knn", "score_knn_se"):
        ours, theirs = ([each[name][column] for name in sorted(each)] for each in (found, expected))
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)


def test_two_processes_write_what_one_writes(folder, scored, tmp_path, monkeypatch):
    monkeypatch.setenv("SALON_CACHE", str(empty_cache(folder / "cache")))
    command = ["curate", "score", folder / "set.zip", "--manifest", folder / "checked", "--out", folder / "two"]
    main, other = (process.wait() for process in as_torchrun(tmp_path, *command, "--device", "cpu", "--json"))
    assert main.code == other.code == 0, main.err + other.err
    assert main.json["hash"] == scored["hash"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("--method", "d-low"), "--method d-low needs --run"),
        (
            ("--method", "d-core"),
            "--method must not be d-core, which is gone: discriminators trained to find outliers did",
        ),
        (("--method", "d-high"), "--method must be one of density, knn, d-low; got d-high instead"),
        (("--known", "x"), "--known needs an existing --state"),
        (("--run", "x"), "--run needs --method d-low"),
        (("--state", __file__), "must be a state that salon curate score wrote; it is another file, or damaged"),
        (("--strata", "genre"), "must have a genre for some image"),
        (("--extractor", "x"), "--extractor must be one of"),
    ],
)
def test_refusals(arguments, message, folder):
    outcome = run_salon("curate", "score", folder / "set.zip", "--out", folder / "refused", *arguments)
    assert outcome.code == 2 and message in outcome.err and not (folder / "refused").exists()


def test_nothing_is_overwritten(folder, checked):
    outcome = run_salon("curate", "check", folder / "set.zip", "--out", folder / "checked")
    assert outcome.code == 2 and "--out would replace" in outcome.err
