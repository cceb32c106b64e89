"""Images, mixes and interpolations from files of ws: what seeds give, their ws give, and recipes are followed."""

import json
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import run_salon
from PIL import Image
from test_cli import refused

from gan import snapshot
from gan.data.images import save
from gan.data.recipe import Recipe, read
from gan.errors import RequestError
from gan.runtime.files import sha256
from gan.sampling import latents
from gan.sampling.directions import Direction, Directions
from gan.sampling.edit import EditRequest, edited
from gan.sampling.generate import generate, map_seeds, synthesize
from gan.sampling.mixing import mix
from gan.sampling.origin import of_file, parse_side
from gan.sampling.recipe_files import RecipeFiles
from gan.sampling.request import SamplingRequest
from gan.sampling.verify import of_snapshot, verify
from gan.sampling.ws_file import WsFile

CPU = ("--device", "cpu")
SEEDS = [4, 5, 6, 7]


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.fixture(scope="module")
def G(tiny_run):
    return snapshot.find(tiny_run).G_ema


@pytest.fixture
def ws_file(tiny_run, G, tmp_path):
    """ws of SEEDS, as of pictures that were looked for."""
    ws = map_seeds(G, SEEDS).numpy()
    about = {"images": ["monet/a b.jpg", "c.png", "d.png", "é.webp"]}
    WsFile(ws=ws, snapshot=sha256(snapshot.find(tiny_run).path), about=about).save(tmp_path / "w.npz")
    return tmp_path / "w.npz"


@pytest.fixture
def directions_file(tmp_path):
    eye = np.eye(8, dtype=np.float32)
    entries = [
        Direction(name=name, vector=eye[place], sigma=2.0, first=0, last=5 - place, method="pca")
        for place, name in enumerate(("sky", "sea"))
    ]
    Directions.of(entries, num_ws=6).save(tmp_path / "d.npz")
    return tmp_path / "d.npz"


def test_images_of_a_file_are_those_of_its_seeds_by_the_names_of_its_pictures(tiny_run, G, ws_file, tmp_path):
    outcome = run_salon("generate", "images", tiny_run, "--ws", ws_file, "--out", tmp_path / "o", "--json", *CPU)
    assert outcome.code == 0 and outcome.err == "" and outcome.json["rows"] == [0, 1, 2, 3]
    names = ["a b.png", "c.png", "d.png", "é.png"]
    assert sorted(path.name for path in (tmp_path / "o").iterdir()) == names
    for row, (name, image) in enumerate(zip(names, generate(G, SEEDS), strict=True)):
        np.testing.assert_array_equal(pixels(tmp_path / "o" / name), image)
        recipe = read(tmp_path / "o" / name).recipe
        assert (recipe.rows, len(recipe.seeds), recipe.ws, recipe.kind) == ([row], 0, sha256(ws_file), "image")
    assert f"image of row 3 of ws {sha256(ws_file)[:12]}," in recipe.sentence()
    grid = ("generate", tiny_run, "--ws", ws_file, "--out", tmp_path / "g.png", "--grid", "2x2", *CPU)
    assert run_salon(*grid).code == 0 and read(tmp_path / "g.png").recipe.rows == [0, 1, 2, 3]
    np.testing.assert_array_equal(pixels(tmp_path / "g.png")[16:, :16], pixels(tmp_path / "o" / "d.png"))
    refused(run_salon(*grid), "--out would replace")


@pytest.mark.parametrize(
    "images", [["../a.png", ".."], ["a.png", "b/A.jpg"], ["a.png"], "ab", [1, 2], [".hidden", "a"], ["a\n", "b"], None]
)
def test_names_that_are_unsafe_or_not_their_own_give_numbers(G, tmp_path, images):
    about = {} if images is None else {"images": images}
    WsFile(ws=map_seeds(G, [0, 1]).numpy(), about=about).save(tmp_path / "w.npz")
    names = of_file(G, tmp_path / "w.npz").names
    assert names == ["row0000", "row0001"]


def test_a_mix_takes_rows_and_columns_from_files(tiny_run, ws_file, tmp_path):
    mix = ("generate", "mix", tiny_run, "--layers", "1-2", *CPU)
    expected = run_salon(*mix, "--rows", "5-6", "--columns", "4,7", "--out", tmp_path / "seeds.png")
    assert expected.code == 0
    for rows, columns in (("{}:1-2", "4,7"), ("5-6", "{}:0,3"), ("{}:1,2", "{}:0,3")):
        words = ("--rows", rows.format(ws_file), "--columns", columns.format(ws_file), "--out", tmp_path / "ws.png")
        outcome = run_salon(*mix, *words, "--overwrite")
        assert outcome.code == 0, outcome.err
        np.testing.assert_array_equal(pixels(tmp_path / "ws.png"), pixels(tmp_path / "seeds.png"))
        recipe = read(tmp_path / "ws.png").recipe
        assert (recipe.ws is not None, recipe.columns_ws is not None) == ("{}" in rows, "{}" in columns)
        assert run_salon("verify", tmp_path / "ws.png", "--snapshot", tiny_run, "--ws", ws_file, *CPU).code == 0
        assert run_salon("verify", tmp_path / "ws.png", "--snapshot", tiny_run, *CPU).code == 3
    assert "of rows 1-2 of ws" in recipe.sentence() and "with layers 1-2 of rows 0, 3 of ws" in recipe.sentence()
    whole = run_salon(*mix, "--rows", ws_file, "--columns", 1, "--out", tmp_path / "whole.png", "--json")
    assert whole.json["rows"] == [0, 1, 2, 3]
    for rows, fragment in ((f"{ws_file}:4", "--rows must have the row 4"), ("nowhere.npz", "--rows must be a file of")):
        refused(run_salon(*mix, "--rows", rows, "--columns", 1, "--out", tmp_path / "x.png"), fragment)
    only_ws = ("--rows", ws_file, "--columns", ws_file, "--truncation-psi", 0.5, "--out", tmp_path / "x.png")
    refused(run_salon(*mix, *only_ws), "--truncation-psi must be left out with ws")
    with pytest.raises(RequestError, match="`rows` must be numbers"):
        parse_side("w.npz:x", "rows")


def test_random_noise_is_of_each_seed_or_row(G, tmp_path):
    noisy = deepcopy(G)
    for layer in noisy.synthesis.layers:
        layer.noise_strength.fill_(1.0)
    mixed = mix(noisy, [5], [8, 9], [0], noise_mode="random")
    (row,), columns = generate(noisy, [5], noise_mode="random"), list(generate(noisy, [8, 9], noise_mode="random"))
    np.testing.assert_array_equal(mixed[18:, :16], row)
    np.testing.assert_array_equal(mixed[:16, 18:34], columns[0])
    np.testing.assert_array_equal(mixed[:16, 36:], columns[1])
    WsFile(ws=map_seeds(noisy, [5, 1]).numpy()).save(tmp_path / "w.npz")
    request, sampling = EditRequest(ws=tmp_path / "w.npz"), SamplingRequest(snapshot=tmp_path, noise_mode="random")
    images = list(edited(noisy, request, sampling).images(noisy, sampling))
    np.testing.assert_array_equal(images[1], next(generate(noisy, [1], noise_mode="random")))  # row 1 is seed 1's
    assert (images[0] != row).any()  # row 0 is seed 5's, and its noise that of 0


def test_an_interpolation_passes_through_the_rows_of_a_file(tiny_run, ws_file, tmp_path):
    interpolate = ("generate", "interpolate", tiny_run, "--frames", 2, *CPU)
    assert run_salon(*interpolate, "--seeds", "4-7", "--out", tmp_path / "seeds.webp").code == 0
    assert run_salon(*interpolate, "--ws", ws_file, "--out", tmp_path / "ws.webp").code == 0
    with Image.open(tmp_path / "seeds.webp") as seeds, Image.open(tmp_path / "ws.webp") as ws:
        assert seeds.n_frames == ws.n_frames == 8
        for frame in range(8):
            seeds.seek(frame), ws.seek(frame)
            np.testing.assert_array_equal(np.asarray(seeds), np.asarray(ws))
    recipe = read(tmp_path / "ws.webp").recipe
    assert (recipe.rows, recipe.ws, recipe.frames) == ([0, 1, 2, 3], sha256(ws_file), 2)
    refused_words = ("generate", "interpolate", tiny_run, "--out", tmp_path / "x.mp4", "--ws", ws_file)
    assert run_salon(*refused_words, "--seeds", "1").code == 2
    refused(run_salon(*refused_words, "--truncation-psi", 0.5, *CPU), "--truncation-psi must be left out with --ws")


def test_what_has_no_meaning_beside_ws_is_refused(tiny_run, ws_file, conditional_snapshot, tmp_path):
    images = ("generate", "images", tiny_run, "--ws", ws_file, "--out", tmp_path / "o", *CPU)
    for words, fragment in (
        (("--truncation-psi", 0.5), "--truncation-psi must be left out with --ws"),
        (("--truncation-cutoff", 2), "--truncation-cutoff must be left out with --ws"),
        (("--class", "day"), "--class must be left out with --ws"),
        (("--cuda-graphs",), "--cuda-graphs must be left out with --ws"),
        (("--seeds", "1"), "--seeds and --ws exclude each other"),
        (("--reject", "obrs", "--count", 1, "--calibration", "none"), "--reject chooses among seeds; leave out --ws"),
    ):
        outcome = run_salon(*images, *words)
        assert outcome.code == 2 and fragment in outcome.err and "Traceback" not in outcome.err, outcome.err
    assert run_salon("generate", "edit", tiny_run, "--out", tmp_path / "o").code == 2
    WsFile(ws=np.zeros((1, 8, 8), np.float32)).save(tmp_path / "other.npz")
    refused(run_salon(*images[:4], tmp_path / "other.npz", *images[5:]), "--ws must hold finite ws of this generator")
    assert not (tmp_path / "o").exists()
    # A generator with classes needs none beside ws, and says that they were found for another snapshot.
    outcome = run_salon("generate", conditional_snapshot, *images[3:])
    assert outcome.code == 0 and len(outcome.err.splitlines()) == 1
    assert f"Warning: the ws of {ws_file} were found for the snapshot" in outcome.err


def test_edited_pictures_and_those_of_ws_are_verified_with_their_files(tiny_run, G, ws_file, directions_file, tmp_path):
    edit = ("generate", "edit", tiny_run, "--directions", directions_file, "--direction", "sky=1.5", *CPU)
    for words in (
        ("--seeds", "0-1", "--out", tmp_path / "seeds", "--truncation-psi", 0.7, "--noise-mode", "random"),
        ("--ws", ws_file, "--out", tmp_path / "rows", "--noise-mode", "random", "--direction", "sea=-3"),
        ("--ws", ws_file, "--out", tmp_path / "grid.jpg", "--grid", "2x2"),
    ):
        assert run_salon(*edit, *words).code == 0
    files = sorted(path for name in ("seeds", "rows", "grid.jpg") for path in tmp_path.glob(f"{name}*/*.png"))
    files.append(tmp_path / "grid.jpg")
    check = ("verify", *files, "--snapshot", tiny_run, "--tolerance", 0, *CPU)
    outcome = run_salon(*check, "--ws", ws_file, "--directions", directions_file, "--json")
    assert outcome.code == 0 and json.loads(outcome.out)["verified"] == len(files) == 7, outcome.out
    # Without the files, or with others, nothing is compared, and the line says which file it takes.
    WsFile(ws=map_seeds(G, SEEDS).numpy()).save(tmp_path / "v.npz")
    for words, verified in (((), 0), (("--directions", directions_file), 2), (("--ws", tmp_path / "v.npz"), 0)):
        outcome = run_salon(*check, *words, "--json")
        found = json.loads(outcome.out)["pictures"]
        assert outcome.code == 3 and sum(bool(each["same"]) for each in found) == verified
        for each in found:
            needed = each["recipe"]["directions" if "seeds" in each["recipe"] else "ws"]
            assert each["same"] or needed in each["reason"]
    # A direction that has another name since is followed; a file of other directions is not.
    for old, new in (("sky", "blue"), ("sea", "sky")):
        assert run_salon("directions", "rename", directions_file, old, new).code == 0
    assert run_salon(*check, "--ws", ws_file, "--directions", directions_file).code == 0
    refused(run_salon("verify", *files, "--ws", ws_file), "--ws and --directions need --snapshot or --url")
    refused(run_salon(*check, "--directions", ws_file), "--directions must be a file of directions")
    refused(run_salon(*check, "--ws", tmp_path / "none.npz"), "--ws must be a file")


def test_a_picture_that_is_not_its_recipes_is_never_the_same(tiny_run, ws_file, directions_file, tmp_path):
    source = snapshot.find(tiny_run)
    files = RecipeFiles.of([ws_file], [directions_file])
    digest, make = of_snapshot(source, torch.device("cpu"), files)
    edit = ("generate", "edit", tiny_run, "--directions", directions_file, "--direction", "sky=1.5", "--ws", ws_file)
    assert run_salon(*edit, "--out", tmp_path / "rows", *CPU).code == 0
    path = tmp_path / "rows" / "c.png"
    recipe, image = read(path).recipe, pixels(path)
    assert verify(path, digest, make, files).largest == 0

    def told(**changes):
        save(image, tmp_path / "told.png", recipe=replace(recipe, **changes))
        return verify(tmp_path / "told.png", digest, make, files)

    for changes in ({"edits": {"sky": 1.0}}, {"edits": {}}, {"edits": {"sea": 1.5}}, {"rows": [0]}):
        assert told(**changes).same(2) is False, changes
    for changes, reason in (
        ({"seeds": [1]}, "must have a recipe of one seed or row"),
        ({"rows": [9]}, "`ws` has 4 rows; the recipe is of row 9"),
        ({"edits": {"sun": 1.0}}, "`direction` must be one of sky, sea; got sun"),
    ):
        with pytest.raises(RequestError, match=reason):
            told(**changes)
    for changes, reason in (
        ({"ws": None}, "does not name the file of its ws"),
        ({"directions": None}, "or of its directions"),
        ({"ws": "ab" * 32}, f"of a file of ws that was not given, of the SHA-256 {'ab' * 32}"),
        ({"columns": [1], "layers": [0], "columns_ws": "cd" * 32}, f"not given, of the SHA-256 {'cd' * 32}"),
        ({"directions": "ab" * 32}, "a file of directions that was not given"),
        ({"kind": "mix", "columns": [1], "layers": [0]}, "of an edited mix"),
        ({"kind": "grid", "seeds": [1], "grid": "2x1"}, "of seeds and rows at once"),
    ):
        found = told(**changes)
        assert found.largest is None and found.same(255) is None and reason in found.reason, changes


def test_a_mixed_image_that_was_edited_is_followed(tiny_run, G, ws_file, directions_file, tmp_path):
    # As the gallery makes them: mixed first, and edited then.
    files = RecipeFiles.of([], [directions_file])
    digest, make = of_snapshot(snapshot.find(tiny_run), torch.device("cpu"), files)
    ws = map_seeds(G, [1, 2], truncation_psi=0.6).numpy()
    moved = Directions.open(directions_file).edit(latents.mix(ws[:1], ws[1:], [0, 1]), {"sea": 2.0})
    (image,) = synthesize(G, torch.from_numpy(moved))
    recipe = Recipe(
        kind="image", seeds=[1], columns=[2], layers=[0, 1], truncation_psi=0.6, snapshot=digest,
        edits={"sea": 2.0}, directions=sha256(directions_file),
    )  # fmt: skip
    save(image, tmp_path / "m.png", recipe=recipe)
    assert verify(tmp_path / "m.png", digest, make, files).largest == 0
