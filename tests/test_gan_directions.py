"""Directions in w: against scikit-learn and float64, a planted one, sheets, and the commands around them."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import run_salon, write_dataset
from PIL import Image
from sklearn.decomposition import PCA
from test_cli import refused

from gan import snapshot
from gan.data.dataset import DatasetWriter
from gan.data.images import encode
from gan.data.recipe import read
from gan.directions.pca import principal_components
from gan.directions.samples import Spread, sample_w
from gan.directions.sefa import style_directions, style_matrix
from gan.directions.sheet import AMOUNTS, SHOWN
from gan.errors import RequestError
from gan.networks.generator import Generator
from gan.runtime.files import sha256
from gan.sampling.directions import Direction, Directions
from gan.sampling.directions import rename as rename_in_file
from gan.sampling.generate import generate, synthesize

CPU = ("--device", "cpu")


@pytest.fixture(scope="module")
def planted(tmp_path_factory, tiny_config):
    """A snapshot in which w along a vector, where it varies most, decides how red images are -> its file and u."""
    torch.manual_seed(3)
    G = Generator(tiny_config.network).eval().requires_grad_(False)
    u = torch.nn.functional.normalize(torch.randn(8), dim=0)
    last = getattr(G.mapping, f"fc{G.mapping.layers - 1}")
    last.weight.add_(3 * u[:, None] * (u @ last.weight))
    torgb = G.synthesis.torgbs[-1]
    for other in G.synthesis.torgbs[:-1]:
        other.weight.mul_(0.1)
    torgb.weight.zero_()
    torgb.weight[0] = 0.002
    torgb.affine.weight.copy_(u.expand(torgb.affine.weight.shape) * 20)
    G.synthesis.layers[-1].bias.fill_(2)  # features above 0, so that all move red the same way
    G.mapping.w_avg.copy_(torch.from_numpy(sample_w(G, 1000).mean(axis=0)))
    at_average = G.synthesis(G.mapping.w_avg.expand(1, G.config.num_ws, -1), noise_mode="const")
    torgb.bias[0] -= at_average[0, 0].mean()
    path = tmp_path_factory.mktemp("planted") / "snapshot-0000000000.safetensors"
    snapshot.save(path, G, None, tiny_config, 0, None)
    return path, u.numpy()


def redness(G, ws):
    """Mean level of red of each of ws [N, num_ws, w_dim]."""
    return np.array([image[..., 0].mean() for image in synthesize(G, torch.from_numpy(ws))])


def vectors(directions):
    return np.stack([d.vector for d in directions])


def test_components_are_those_of_scikit_learn_and_reconstruct_w(planted):
    G = snapshot.load(planted[0]).G_ema
    w = sample_w(G, 700, seed=5)
    found, expected = principal_components(Spread.of(w), 8, 0, 5), PCA(svd_solver="full").fit(w.astype(np.float64))
    np.testing.assert_allclose([d.sigma**2 for d in found], expected.explained_variance_, rtol=1e-6)
    np.testing.assert_allclose([d.explained_variance for d in found], expected.explained_variance_ratio_, rtol=1e-6)
    few = principal_components(Spread.of(w), 3, 0, 5)
    assert [d.explained_variance for d in few] == [d.explained_variance for d in found[:3]]
    np.testing.assert_allclose(np.abs(vectors(found) @ expected.components_.T), np.eye(8), atol=1e-4)
    np.testing.assert_allclose(vectors(found) @ vectors(found).T, np.eye(8), atol=1e-6)
    amounts = (w - w.mean(axis=0)) @ vectors(found).T / [d.sigma for d in found]  # in standard deviations
    np.testing.assert_allclose(amounts.std(axis=0, ddof=1), 1, rtol=1e-4)
    file = Directions.of(found, num_ws=6)
    average = np.tile(w.mean(axis=0), [1, 6, 1])
    for own, wanted in zip(amounts[:5], w, strict=False):
        moved = file.edit(average, {d.name: amount for d, amount in zip(found, own, strict=True)})
        np.testing.assert_allclose(moved[0], np.tile(wanted, [6, 1]), atol=1e-4)
    largest = vectors(found)[np.arange(8), np.abs(vectors(found)).argmax(axis=1)]
    assert (largest > 0).all()


def test_w_are_those_of_generated_images(planted, conditional_snapshot):
    from gan.sampling.generate import map_seeds

    for path, class_index in ((planted[0], None), (conditional_snapshot, 1)):
        G = snapshot.load(path).G_ema
        classes = None if class_index is None else [class_index] * 4
        np.testing.assert_allclose(
            sample_w(G, 4, 9, class_index), map_seeds(G, range(9, 13), classes)[:, 0], rtol=1e-4, atol=1e-5
        )
    by_turns = sample_w(G, 4, 9)  # seed 9 is of class 1, 10 of class 0, ...
    np.testing.assert_array_equal(by_turns[::2], sample_w(G, 4, 9, 1)[::2])
    np.testing.assert_array_equal(by_turns[1::2], sample_w(G, 4, 9, 0)[1::2])
    for count, seed in ((1, 0), (10, 2**32 - 5)):
        with pytest.raises(RequestError, match="`samples` must be from 2"):
            sample_w(G, count, seed)


@pytest.mark.parametrize(("first", "last"), [(0, 5), (1, 2), (3, 3), (5, 5)])
def test_styles_directions_are_those_of_float64(planted, first, last):
    G = snapshot.load(planted[0]).G_ema
    # What styles do when w moves along an axis: of each layer's convolution, and of the ToRGB that shares its w.
    layers = [*G.synthesis.layers, None]
    torgbs = [G.synthesis.torgbs[place // 2] if place % 2 else None for place in range(6)]
    used = [m for place in range(first, last + 1) for m in (layers[place], torgbs[place]) if m is not None]
    A = np.concatenate([(m.affine(torch.eye(8)) - m.affine(torch.zeros(1, 8))).numpy().T for m in used])
    A = A.astype(np.float64)
    np.testing.assert_allclose(style_matrix(G, first, last), A, atol=1e-5)
    values, columns = np.linalg.eigh(A.T @ A)
    spread = Spread.of(sample_w(G, 500))
    count = min(3, np.linalg.matrix_rank(A, tol=1e-3))
    found = style_directions(G, spread, count, first, last)
    np.testing.assert_allclose(
        [d.explained_variance for d in found], values[::-1][:count] / values.sum(), rtol=1e-3, atol=1e-4
    )
    overlap = np.abs(vectors(found) @ columns[:, ::-1][:, :count])
    np.testing.assert_allclose(overlap, np.eye(count), atol=1e-3)
    sigmas = ((sample_w(G, 500) @ vectors(found).T).std(axis=0, ddof=1)).tolist()
    assert [d.sigma for d in found] == pytest.approx(sigmas, rel=1e-4)
    assert {(d.first, d.last, d.method) for d in found} == {(first, last, "sefa")}


@pytest.mark.parametrize("method", ["pca", "sefa"])
def test_a_planted_direction_is_among_the_first_five(planted, tmp_path, method):
    path, u = planted
    outcome = run_salon(
        *("directions", "find", "--snapshot", path, "--method", method, "--out", tmp_path / "d.npz", "--count", 5),
        *("--samples", 500, "--json", *CPU),
    )
    assert outcome.code == 0, outcome.err
    found = Directions.open(tmp_path / "d.npz", 6, 8)
    assert found.snapshot == sha256(path) and found.about["samples"] == 500 and found.about["method"] == method
    alike = {name: abs(float(d.vector @ u)) for name, d in found.entries.items()}
    name = max(alike, key=alike.get)
    assert alike[name] > 0.9
    G = snapshot.load(path).G_ema
    ws = np.tile(sample_w(G, 3)[:, None], [1, 6, 1])
    swing = {}
    for other in found.entries:
        levels = np.array([redness(G, found.edit(ws, {other: amount})) for amount in AMOUNTS])
        swing[other] = np.abs(levels[-1] - levels[0]).min()
        if other == name:
            steps = np.diff(levels, axis=0)
            assert (steps >= 0).all() or (steps <= 0).all()
    assert max(swing, key=swing.get) == name and swing[name] > 40  # levels


@pytest.mark.parametrize("by", ["data", "classifier"])
def test_a_supervised_direction_separates_a_planted_label(planted, tmp_path, classifier_file, by):
    path, u = planted
    find = ("directions", "find", "--snapshot", path, "--method", "supervised", "--out", tmp_path / "d.npz", *CPU)
    if by == "data":
        images = list(generate(snapshot.load(path).G_ema, range(1000, 1030)))
        levels = np.array([image[..., 0].mean() for image in images])
        writer = DatasetWriter(tmp_path / "data.zip", ".png")
        for image, level in zip(images, levels, strict=True):
            writer.add(encode(Image.fromarray(image), "png"), int(level < np.median(levels)))
        writer.close(["Rougé/x", "pale"])
        outcome = run_salon(*find, "--data", tmp_path / "data.zip", "--samples", 60, "--json")
        names = ["Rouge-x"]  # the first by name; the other is its opposite
    else:
        outcome = run_salon(*find, "--classifier", classifier_file, "--samples", 120, "--json")
        names = ["red", "green", "blue"]
    assert outcome.code == 0, outcome.err
    found = Directions.open(tmp_path / "d.npz", 6, 8)
    assert set(found.entries) <= set(names) and names[0] in found.entries
    red = found[names[0]]
    assert red.method == "supervised" and found.about["accuracy"][names[0]] > 0.85
    G = snapshot.load(path).G_ema
    w = sample_w(G, 300, 500)
    assert np.corrcoef(w @ red.vector, w @ u)[0, 1] > 0.9 and float(red.vector @ u) > 0.8
    ws = np.tile(w[:2, None], [1, 6, 1])
    levels = np.array([redness(G, found.edit(ws, {names[0]: amount})) for amount in AMOUNTS])
    assert (np.diff(levels, axis=0) >= 0).all() and (levels[-1] - levels[0] > 40).all()
    spread = Spread.of(sample_w(G, 60 if by == "data" else 120))
    assert red.sigma == pytest.approx(np.sqrt(spread.variance(red.vector)), rel=1e-3)


def test_find_refuses_what_does_not_go_together(planted, tiny_dataset, conditional_snapshot, tmp_path):
    find = ("directions", "find", "--snapshot", planted[0], "--out", tmp_path / "d.npz", *CPU)
    for words, fragment in (
        (("--samples", 20, "--count", 9), "--count must be from 1 to 8, the dimensions of w; got 9"),
        (("--samples", 5, "--count", 5), "--samples must be more than the 5 components; got 5"),
        (("--layers", "0-6"), "--layers must be one range within 0-5; got 0-6"),
        (("--layers", "0,2"), "--layers must be one range within 0-5; got 0,2"),
        (("--class", "day"), "--class must be left out"),
        (("--method", "supervised"), "--method supervised needs labels: give either --data or --classifier"),
        (("--data", tiny_dataset), "--data, --manifest and --classifier are for the --method supervised"),
        (("--method", "supervised", "--data", tiny_dataset, "--count", 2), "--count is for the --method pca or sefa"),
        (("--method", "supervised", "--data", tiny_dataset, "--strata", "style"), "needs a manifest with a style"),
        (("--method", "supervised", "--classifier", tiny_dataset), "--classifier must be an ONNX file"),
    ):
        refused(run_salon(*find, *words), fragment)
    refused(run_salon(*find[:-3], tmp_path / "d.txt"), "--out must end in .npz")
    assert not list(tmp_path.iterdir())
    same = write_dataset(tmp_path / "one.zip", [(16, 16)] * 6, [0] * 6, ["day"])
    refused(
        run_salon(*find, "--method", "supervised", "--data", same, "--samples", 9),
        "--strata label must have two or more values",
    )
    both = run_salon(*find[:3], conditional_snapshot, *find[4:], "--samples", 20, "--class", "night", "--count", 2)
    assert both.code == 0 and Directions.open(tmp_path / "d.npz").about["class_name"] == "night"
    refused(run_salon(*find), "--out would replace")


def test_the_directions_of_a_file_are_listed_and_renamed(planted, tmp_path):
    file, find = tmp_path / "d.npz", ("directions", "find", "--snapshot", planted[0], "--samples", 50, *CPU)
    assert run_salon(*find, "--out", file, "--count", 2, "--layers", "1-3").code == 0
    before = sha256(file)
    shown = run_salon("directions", "show", file)
    assert shown.out.splitlines()[0].split() == ["name", "method", "layers", "sigma", "share"]
    assert "pc1   pca     1-3" in shown.out and "50 samples from seed 0 on" in shown.out
    assert run_salon("directions", "rename", file, "pc2", "warmth").code == 0
    assert run_salon("directions", "rename", file, "warmth", "pc3").code == 0
    document = run_salon("directions", "show", file, "--json").json
    assert [d["name"] for d in document["directions"]] == ["pc1", "pc3"] and document["snapshot"] == sha256(planted[0])
    renamed = Directions.open(file, 6, 8)
    assert list(renamed.as_of(before).entries) == ["pc1", "pc2"] and renamed.as_of("ab" * 32) is None
    assert renamed.as_of(before)["pc2"].vector.tolist() == renamed["pc3"].vector.tolist()
    content = file.read_bytes()
    refused(run_salon("directions", "rename", file, "pc9", "x"), "must be one of pc1, pc3; got pc9")
    refused(run_salon("directions", "rename", file, "pc1", "pc3"), "pc3 is taken")
    refused(run_salon("directions", "rename", file, "pc1", "a b"), "must be named by letters")
    refused(run_salon("directions", "show", planted[0]), "FILE must be a file of directions")
    assert file.read_bytes() == content


def test_what_is_told_of_earlier_names_may_be_anything(tmp_path):
    one = Direction(name="a", vector=np.ones(1, np.float32), sigma=1.0, first=0, last=0, method="pca")
    for renames in ("x", [1], [{}], [{"of": "1", "old": "b", "new": "c"}], [{"of": "1", "old": "a b", "new": "a"}], {}):
        Directions.of([one], num_ws=1, about={"renames": renames}).save(tmp_path / "d.npz")
        assert Directions.open(tmp_path / "d.npz").as_of("1") is None


def test_a_sheet_has_a_row_a_direction_and_a_column_an_amount(planted, tmp_path):
    G = snapshot.load(planted[0]).G_ema
    eye = np.eye(8, dtype=np.float32)
    entries = [
        Direction(name="one", vector=eye[0], sigma=2.0, first=0, last=5, method="pca", explained_variance=0.25),
        Direction(name="other", vector=eye[1], sigma=1.0, first=4, last=5, method="sefa"),
    ]
    Directions.of(entries, num_ws=6, snapshot="cd" * 32).save(tmp_path / "d.npz")
    sheet = ("directions", "sheet", tmp_path / "d.npz", "--snapshot", planted[0], "--out", tmp_path / "s.png")
    outcome = run_salon(*sheet, "--seeds", "3-4", "--truncation-psi", 0.8, *CPU)
    assert outcome.code == 0 and "Warning: the directions of" in outcome.err and "cdcdcdcdcdcd" in outcome.err
    shown = np.asarray(Image.open(tmp_path / "s.png"))
    side = 16 * -(-SHOWN // 16)
    ws = np.tile(sample_w(G, 2, 3)[:, None], [1, 6, 1])
    ws = G.mapping.w_avg.numpy() + 0.8 * (ws - G.mapping.w_avg.numpy())
    for number, entry in enumerate(entries):
        for column, amount in enumerate(AMOUNTS):
            moved = ws.copy()
            moved[:, entry.first :] += np.float32(amount * entry.sigma) * entry.vector
            for row, image in enumerate(synthesize(G, torch.from_numpy(moved.astype(np.float32)))):
                x = shown.shape[1] - 8 - (len(AMOUNTS) - column) * (side + 2) + 2
                y = 29 + number * (2 * (side + 2) - 2 + 12) + row * (side + 2)
                cell = shown[y : y + side, x : x + side].astype(int)
                assert np.abs(cell - image.repeat(side // 16, 0).repeat(side // 16, 1)).max() <= 1, (number, amount)
    assert (shown[:29, : shown.shape[1] - 8 - 7 * (side + 2)] < 200).any()  # words
    recipe = read(tmp_path / "s.png").recipe
    assert (recipe.kind, recipe.seeds, recipe.directions) == ("sheet", [3, 4], sha256(tmp_path / "d.npz"))
    first = run_salon(*sheet[:-1], tmp_path / "one.png", "--count", 1, "--json", *CPU)
    assert first.json["directions"] == ["one"]
    refused(run_salon(*sheet), "--out would replace")
    refused(run_salon(*sheet[:-1], tmp_path / "s.gif"), "--out must end in")


def test_edited_images_are_those_of_moved_ws(planted, tmp_path):
    G = snapshot.load(planted[0]).G_ema
    file, find = tmp_path / "d.npz", ("directions", "find", "--snapshot", planted[0], "--samples", 50, *CPU)
    assert run_salon(*find, "--out", file, "--layers", "2-4").code == 0
    edit = ("generate", "edit", planted[0], "--directions", file, "--seeds", "3,5", *CPU)
    moves = ("--direction", "pc1=1.5", "--direction", "pc2=-2")
    outcome = run_salon(*edit, *moves, "--out", tmp_path / "e", "--truncation-psi", 0.9, "--json")
    assert outcome.code == 0 and outcome.json["edits"] == {"pc1": 1.5, "pc2": -2.0}, outcome.err
    one, two = (Directions.open(file, 6, 8)[name] for name in ("pc1", "pc2"))
    ws = np.tile(sample_w(G, 3, 3)[::2, None], [1, 6, 1])
    ws = G.mapping.w_avg.numpy() + 0.9 * (ws - G.mapping.w_avg.numpy())
    ws[:, 2:5] += 1.5 * one.sigma * one.vector - 2 * two.sigma * two.vector
    plain = list(generate(G, [3, 5], truncation_psi=0.9))
    for seed, wanted, before in zip((3, 5), synthesize(G, torch.from_numpy(ws.astype(np.float32))), plain, strict=True):
        pixels = np.asarray(Image.open(tmp_path / "e" / f"seed{seed:04d}.png")).astype(int)
        assert np.abs(pixels - wanted).max() <= 1 and np.abs(pixels - before).max() > 10
        recipe = read(tmp_path / "e" / f"seed{seed:04d}.png").recipe
        assert recipe.edits == {"pc1": 1.5, "pc2": -2.0} and recipe.directions == sha256(file)
        assert recipe.seeds == [seed] and "edited by pc1 +1.5, pc2 -2 of directions" in recipe.sentence()
    grid = run_salon(*edit, *moves, "--out", tmp_path / "grid.png", "--grid", "2x1")
    assert grid.code == 0 and read(tmp_path / "grid.png").recipe.grid == "2x1"
    refused(run_salon(*edit, "--out", tmp_path / "x", "--direction", "pc11=1"), "--direction must be one of pc1, pc2")
    refused(run_salon(*edit, "--out", tmp_path / "x", "--direction", "pc1"), "--direction must be NAME=AMOUNT")
    assert run_salon(*edit, "--out", tmp_path / "x").code == 2 and not (tmp_path / "x").exists()
    refused(run_salon(*edit, *moves, "--out", tmp_path / "e"), "--out would replace")


def test_renaming_and_amounts_keep_what_a_file_says(tmp_path):
    one = Direction(name="a", vector=np.ones(2, np.float32), sigma=1.0, first=0, last=0, method="pca")
    file = tmp_path / "d.npz"
    Directions.of([one, replace(one, name="b")], num_ws=1, snapshot="ab" * 32, about={"samples": 7}).save(file)
    with np.load(file) as arrays:
        before = {name: arrays[name].copy() for name in ("vectors", "sigmas")}
    rename_in_file(file, "a", "c")
    with np.load(file) as arrays:
        about = json.loads(arrays["about"].tobytes())
        assert all(np.array_equal(arrays[name], value) for name, value in before.items())
    assert about["samples"] == 7 and [d["name"] for d in about["directions"]] == ["c", "b"]
