"""`salon query edit`, `query directions` and `--ws`, with a real server: files, recipes, refusals."""

import av
import numpy as np
import pytest
from conftest import run_salon
from made_directions import made_directions, saved
from test_cli import pixels, refused
from test_serving_directions import directions_file, repository, source, url  # noqa: F401

from gan.data.recipe import read
from gan.runtime.files import sha256
from gan.sampling import generate, image_grid, latents
from gan.sampling.ws_file import WsFile

SEEDS = [3, 7, 5]


@pytest.fixture
def query(url):  # noqa: F811
    def run(*arguments):
        return run_salon("query", *arguments, "--url", url.grpc_url)

    return run


@pytest.fixture
def own(source):  # noqa: F811
    """ws of seeds at psi 0.7, and the images of ws, both by the generator itself."""
    keys = generate.map_seeds(source.G_ema, SEEDS, truncation_psi=0.7).numpy()

    def images(ws):
        tensor = next(source.G_ema.parameters()).new_tensor(ws)
        return np.stack(list(generate.synthesize(source.G_ema, tensor))).astype(int)

    return keys, images


@pytest.fixture
def ws_file(tmp_path, own, source):  # noqa: F811
    path = tmp_path / "found.npz"
    images = {"images": ["a/tree.jpg", "b/house.png", "c/road.png"]}
    WsFile(ws=own[0], snapshot=sha256(source.path), about=images).save(path)
    return path


def near(files, expected):
    found = np.stack([pixels(file) for file in files]).astype(int)
    return found.shape == expected.shape and np.abs(found - expected).max() <= 2


def test_edit_writes_one_marked_file_a_seed(query, own, tmp_path, directions_file, source):  # noqa: F811
    edits = ("--direction", "age=2", "--direction", "pose=-1", "--direction", "pose=-0.5")
    out = tmp_path / "edited"
    outcome = query("edit", *edits, "--seeds", "3,7,5,3", "--truncation-psi", 0.7, "--out", out, "--json")
    assert outcome.code == 0, outcome.err
    files, amounts = [out / f"seed000{seed}.png" for seed in SEEDS], {"age": 2.0, "pose": -1.5}
    figures = outcome.json
    assert figures["files"] == list(map(str, files)) and figures["seeds"] == SEEDS and figures["edits"] == amounts
    keys, images = own
    assert near(files, images(made_directions(None).edit(keys, amounts))) and not near(files, images(keys))
    recipe = read(files[1]).recipe
    assert (recipe.kind, recipe.seeds, recipe.edits) == ("image", [7], amounts)
    assert recipe.directions == sha256(directions_file) == figures["directions"]
    assert (recipe.truncation_psi, recipe.model, recipe.snapshot) == (0.7, "generator 1", sha256(source.path))
    refused(query("edit", *edits, "--seeds", "5", "--out", out), "--out would replace", "seed0005.png")


def test_what_was_edited_along_served_directions_is_verified_with_them(query, url, tmp_path):  # noqa: F811
    assert query("edit", "--direction", "age=2", "--seeds", "3", "--out", tmp_path).code == 0
    asked = ("verify", tmp_path / "seed0003.png", "--url", url.grpc_url, "--json")
    outcome = run_salon(*asked)
    assert outcome.code == 0 and outcome.json["pictures"][0]["same"] is True, outcome.err
    file = saved(tmp_path / "own.npz", None, ["light"], seed=4)
    edit = ("edit", "--directions", file, "--direction", "light=1", "--seeds", "3", "--out", tmp_path, "--overwrite")
    assert query(*edit).code == 0
    outcome = run_salon(*asked)
    assert outcome.code == 3 and sha256(file) in outcome.json["pictures"][0]["reason"]
    assert run_salon(*asked, "--directions", file).json["pictures"][0]["same"] is True


def test_edit_a_grid_along_directions_of_a_file(query, own, tmp_path, source):  # noqa: F811
    file = saved(tmp_path / "own.npz", "ab" * 32, ["light"], seed=4)
    words = ("--seeds", "3,7,5", "--truncation-psi", 0.7, "--grid", "2x2", "--out", tmp_path / "grid.png")
    outcome = query("edit", "--directions", file, "--direction", "light=-3", *words)
    assert outcome.code == 0
    assert "Warning: the directions of" in outcome.err and "found for the snapshot abababababab" in outcome.err
    keys, images = own
    expected = images(made_directions(None, ["light"], seed=4).edit(keys, {"light": -3.0})).astype(np.uint8)
    assert near([tmp_path / "grid.png"], image_grid.grid(list(expected), 2, 2)[None].astype(int))
    recipe = read(tmp_path / "grid.png").recipe
    assert (recipe.kind, recipe.seeds, recipe.grid) == ("grid", SEEDS, "2x2")
    assert (recipe.edits, recipe.directions) == ({"light": -3.0}, sha256(file))


def test_rows_of_a_file_of_ws(query, own, ws_file, tmp_path):
    keys, images = own
    names = ["tree", "house", "road"]
    outcome = query("generate", "--ws", ws_file, "--out", tmp_path / "rows", "--json")
    assert outcome.code == 0 and outcome.json["rows"] == [0, 1, 2], outcome.err
    files = [tmp_path / "rows" / f"{name}.png" for name in names]
    assert near(files, images(keys))
    recipe = read(files[2]).recipe
    assert (recipe.kind, recipe.ws, recipe.rows, recipe.seeds) == ("image", sha256(ws_file), [2], ())
    assert recipe.truncation_psi is None and recipe.edits == {} and recipe.directions is None
    outcome = query("edit", "--ws", ws_file, "--direction", "sky=1", "--out", tmp_path / "edited", "--format", "webp")
    assert outcome.code == 0, outcome.err
    files = [tmp_path / "edited" / f"{name}.webp" for name in names]
    assert near(files, images(made_directions(None).edit(keys, {"sky": 1.0})))
    assert read(files[0]).recipe.edits == {"sky": 1.0} and read(files[0]).recipe.rows == [0]
    outcome = query("generate", "--ws", ws_file, "--grid", "3x1", "--out", tmp_path / "grid.png")
    assert read(tmp_path / "grid.png").recipe.rows == [0, 1, 2], outcome.err


def test_a_path_through_rows_of_a_file_of_ws(query, own, ws_file, tmp_path):
    keys, images = own
    loop = tmp_path / "loop.mp4"
    outcome = query("interpolate", "--ws", ws_file, "--frames", 2, "--fps", 4, "--out", loop)
    assert outcome.code == 0, outcome.err
    with av.open(str(loop)) as container:
        frames = [frame.to_ndarray(format="rgb24").astype(int) for frame in container.decode(video=0)]
    expected = images(latents.loop(keys, 2))
    assert len(frames) == 6 and all(np.abs(a - b).mean() < 12 for a, b in zip(frames, expected, strict=True))
    recipe = read(loop).recipe
    assert (recipe.kind, recipe.ws, recipe.rows, recipe.frames) == ("interpolation", sha256(ws_file), [0, 1, 2], 2)
    assert recipe.truncation_psi is None


def test_directions_are_listed_and_saved(query, tmp_path, directions_file):  # noqa: F811
    outcome = query("directions")
    rows = [line.split() for line in outcome.out.splitlines()]
    assert rows[0] == ["direction", "layers", "method", "variance", "sigma"]
    assert rows[1] == ["age", "0-5", "pca", "30.0%", "0.5"] and rows[2][:2] == ["pose", "4-5"]
    figures = query("directions", "--out", tmp_path / "served.npz", "--json").json
    assert figures["sha256"] == sha256(directions_file) == sha256(tmp_path / "served.npz")
    assert [each["name"] for each in figures["directions"]] == ["age", "pose", "sky"]
    refused(query("directions", "--out", tmp_path / "served.npz"), "--out would replace")
    refused(query("directions", "--model", "times"), "serves times without directions: export it with directions")


def test_refusals(query, ws_file, tmp_path):
    out = ("--out", tmp_path / "new")
    age, seeds = ("--direction", "age=1"), ("--seeds", "1")
    for arguments, *fragments in (
        [("edit", "--direction", "hair=1", *seeds), "--direction must be one of age, pose, sky; got hair instead"],
        [("edit", "--direction", "age=101", *seeds), "--direction must be NAME=AMOUNT", "-100 to 100; got age=101"],
        [("edit", "--direction", "age", *seeds), "got age instead"],
        [("edit", *age), "--seeds or --ws must be given"],
        [("edit", *age, *seeds, "--ws", ws_file), "--seeds must be left out with --ws"],
        [
            ("edit", *age, *seeds, "--model", "times", "--class", "day"),
            "serves times without directions",
            "--directions",
        ],
        [("edit", *age, *seeds, "--directions", ws_file), "--directions must", "found.npz"],
        [("generate", "--ws", ws_file, "--truncation-psi", 0.5), "--truncation-psi must be left out with --ws"],
        [
            ("generate", "--ws", ws_file, "--reject", "obrs", "--count", 1),
            "--reject chooses among seeds; leave out --ws",
        ],
        [("generate", "--ws", tmp_path / "absent.npz"), "--ws must be a file of ws", "absent.npz does not exist"],
    ):
        refused(query(*arguments, *out), *fragments)
    WsFile(ws=np.zeros([2, 6, 9], np.float32)).save(tmp_path / "other.npz")
    for command, path in (("generate", out[1]), ("interpolate", tmp_path / "new.mp4")):
        outcome = query(command, "--ws", tmp_path / "other.npz", "--out", path)
        refused(outcome, "--ws must hold finite ws of this generator, Nx6x8", "other.npz holds 2x6x9 instead")
    assert sorted(tmp_path.iterdir()) == [ws_file, tmp_path / "other.npz"]


@pytest.mark.parametrize(
    ("images", "names"),
    [
        (["a/tree.jpg", "C:\\pictures\\House.png"], ["tree", "House"]),
        (["tree.jpg", "b/Tree.png"], ["row0000", "row0001"]),  # one file for both, where case is nothing
        (["tree.jpg", "..."], ["row0000", "row0001"]),
        (["tree.jpg"], ["row0000", "row0001"]),
        (["tree.jpg", 7], ["row0000", "row0001"]),
        ("ab", ["row0000", "row0001"]),
    ],
)
def test_rows_are_named_after_images_that_can_be_files(images, names):
    assert WsFile(ws=np.zeros([2, 6, 8], np.float32), about={"images": images}).names() == names
