"""`salon verify`: pictures are generated again, and compared."""

import json

import numpy as np
import pytest
import torch
from conftest import run_salon
from PIL import Image
from test_cli import refused
from test_serving_export import ask
from tritonclient import grpc

from gan import snapshot
from gan.data.images import save
from gan.data.recipe import Recipe, read
from gan.sampling.directions import Direction, Directions
from gan.sampling.generate import generate, map_seeds, synthesize
from gan.sampling.verify import of_snapshot, verify
from gan.sampling.ws_file import WsFile
from serving.contract import ModelMetadata
from serving.gallery.scenes import ImageSpec, combine


@pytest.fixture
def wall(tiny_run, tmp_path):
    """A folder of what `salon generate` writes."""
    common = ("--device", "cpu")
    for suffix in ("png", "jpg", "webp"):
        grid = ("--seeds", "0-2", "--grid", "2x2", "--out", tmp_path / f"grid.{suffix}")
        assert run_salon("generate", "images", tiny_run, *grid, "--noise-mode", "random", *common).code == 0
    mix = ("--rows", "0-1", "--columns", "5", "--layers", "1-2", "--out", tmp_path / "mix.png")
    assert run_salon("generate", "mix", tiny_run, *mix, "--truncation-psi", "0.5", *common).code == 0
    cut = ("--seeds", "3", "--truncation-psi", "0.4", "--truncation-cutoff", "2", "--out", tmp_path / "cut")
    assert run_salon("generate", "images", tiny_run, *cut, *common).code == 0
    return tmp_path


def verified(*words):
    outcome = run_salon("verify", *words, "--json")
    return outcome, json.loads(outcome.out)


def test_a_thousand_of_a_thousand_are_what_their_recipes_make(tiny_run, tmp_path):
    source = snapshot.find(tiny_run)
    digest, make = of_snapshot(source, torch.device("cpu"))
    recipe = {"kind": "image", "snapshot": digest, "truncation_psi": 0.8}
    seeds = range(1000)
    for seed, pixels in zip(seeds, generate(source.G_ema, seeds, truncation_psi=0.8), strict=True):
        save(pixels, tmp_path / f"{seed}{('.png', '.jpg')[seed % 2]}", recipe=Recipe(**recipe, seeds=[seed]))
    found = [verify(file, digest, make) for file in tmp_path.iterdir()]
    assert len(found) == 1000 and {each.largest for each in found} == {0}
    assert {each.said.format for each in found} == {"png", "jpeg"}


def test_all_that_generate_writes_is_verified(wall, tiny_run):
    files = sorted(path for path in wall.rglob("*.*") if path.is_file())
    outcome, figures = verified(*files, "--snapshot", tiny_run, "--tolerance", "0", "--device", "cpu")
    assert outcome.code == 0 and figures["verified"] == len(files) == 5
    recipe = figures["pictures"][0]["recipe"]
    assert recipe["truncation_cutoff"] == 2 and recipe["dataset"] == snapshot.find(tiny_run).config.dataset
    text = run_salon("verify", *files, "--snapshot", tiny_run, "--device", "cpu").out
    assert "style mixing of seeds 0-1, with layers 1-2 of seeds 5" in text
    assert "5 of 5 pictures are what their recipes make" in text


def test_what_was_changed_is_seen(wall, tiny_run):
    file = wall / "cut" / "seed0003.png"
    recipe, pixels = read(file).recipe, np.array(Image.open(file))
    pixels[3, 4, 1] = (int(pixels[3, 4, 1]) + 100) % 256
    save(pixels, file, recipe=recipe)
    outcome, figures = verified(file, "--snapshot", tiny_run, "--device", "cpu")
    assert outcome.code == 3 and figures["pictures"][0]["largest_difference"] in (100, 156)
    assert "NOT what its recipe makes" in run_salon("verify", file, "--snapshot", tiny_run, "--device", "cpu").out
    assert verified(file)[0].code == 0  # nothing was compared
    Image.fromarray(pixels[:8]).save(file, pnginfo=recipe.save_options("png")["pnginfo"])
    assert "16x8 and 16x16" in verified(file, "--snapshot", tiny_run, "--device", "cpu")[1]["pictures"][0]["reason"]


def test_pictures_of_others_are_not_compared(wall, tiny_run, conditional_snapshot):
    outcome, figures = verified(wall / "mix.png", "--snapshot", conditional_snapshot, "--device", "cpu")
    assert outcome.code == 3 and "it was made with the snapshot" in figures["pictures"][0]["reason"]
    Image.new("RGB", (8, 8)).save(wall / "plain.png")
    outcome, figures = verified(wall / "plain.png", "--snapshot", tiny_run)
    assert outcome.code == 3 and figures["pictures"][0]["reason"] == "it has no recipe"
    assert run_salon("verify", wall / "plain.png").out == f"{wall / 'plain.png'}: no mark\n"
    sheet = max((tiny_run / "grids").glob("grid-*.jpg"))
    outcome, figures = verified(sheet, "--snapshot", tiny_run)
    assert outcome.code == 3 and "names no snapshot" in figures["pictures"][0]["reason"]
    assert figures["pictures"][0]["marked"] and not read(tiny_run / "grids" / "reals.jpg").marked
    both = ("verify", wall / "mix.png", "--snapshot", tiny_run, "--url", "grpc://127.0.0.1:1")
    refused(run_salon(*both), "--snapshot and --url exclude each other")


def test_a_recipe_of_too_many_images_is_refused(tiny_run, tmp_path):
    digest, _ = of_snapshot(snapshot.find(tiny_run), torch.device("cpu"))
    pixels = np.zeros([16, 16, 3], np.uint8)
    save(pixels, tmp_path / "a.png", recipe=Recipe(kind="grid", seeds=range(5000), grid="100x50", snapshot=digest))
    refused(
        run_salon("verify", tmp_path / "a.png", "--snapshot", tiny_run), "must have a recipe of at most 4,096 images"
    )
    save(pixels, tmp_path / "b.png", recipe=Recipe(kind="grid", seeds=[0, 1], grid="9", snapshot=digest))
    refused(run_salon("verify", tmp_path / "b.png", "--snapshot", tiny_run), "must have a grid for 2 images; got 9")


def test_without_metadata_nothing_is_said(tiny_run, tmp_path):
    words = (
        "generate",
        "images",
        tiny_run,
        "--seeds",
        "0",
        "--out",
        tmp_path / "f",
        "--no-metadata",
        "--device",
        "cpu",
    )
    assert run_salon(*words).code == 0
    found = read(tmp_path / "f" / "seed0000.png")
    assert not found.marked and found.recipe is None and b"Salon" not in (tmp_path / "f" / "seed0000.png").read_bytes()


def test_what_a_server_makes_is_verified_by_it_and_by_the_snapshot(server, tiny_run, conditional_snapshot, tmp_path):
    asked = ("--url", server.grpc_url)
    generate_some = ("query", "generate", "--seeds", "0-2", *asked)
    done = [
        run_salon(*generate_some, "--out", tmp_path / "files", "--truncation-psi", "0.7"),
        run_salon(*generate_some, "--out", tmp_path / "grid.jpg", "--grid", "2x2"),
        run_salon(
            "query", "mix", "--rows", "0-1", "--columns", "3", "--layers", "0-1", "--out", tmp_path / "m.png", *asked
        ),
        run_salon("query", "interpolate", "--seeds", "0-1", "--frames", "2", "--out", tmp_path / "l.mp4", *asked),
    ]
    assert {outcome.code for outcome in done} == {0}, done
    told = {"seed": np.array([[7]], np.int64), "truncation_psi": np.array([[0.7]], np.float32)}
    label = {"seed": np.array([[7]], np.int64), "label": np.array([[1]], np.int64)}
    with grpc.InferenceServerClient(server.grpc_url.removeprefix("grpc://")) as client:
        (files,) = ask(client, "seed_to_png", "file", **told, format=np.array([[b"webp"]], np.object_))
        (tmp_path / "seed.webp").write_bytes(files[0, 0])
        (files,) = ask(client, "times_seed_to_png", "file", **label)
        (tmp_path / "night.png").write_bytes(files[0, 0])
    stills = [*sorted((tmp_path / "files").iterdir()), *(tmp_path / n for n in ("grid.jpg", "m.png", "seed.webp"))]
    for by in (asked, ("--snapshot", tiny_run, "--device", "cpu")):
        outcome, figures = verified(*stills, *by)
        assert outcome.code == 0 and figures["verified"] == 6, figures
    recipe = figures["pictures"][-1]["recipe"]
    assert (recipe["seeds"], recipe["truncation_psi"], recipe["model"]) == ([7], 0.7, "generator 1")
    outcome, figures = verified(tmp_path / "night.png", "--snapshot", conditional_snapshot, "--device", "cpu")
    assert outcome.code == 0 and figures["pictures"][0]["recipe"]["class_name"] == "night"
    assert read(tmp_path / "l.mp4").recipe.frames == 2


def test_edited_pictures_and_those_of_ws_are_verified_by_a_server(server, tiny_run, tmp_path):
    source = snapshot.find(tiny_run)
    WsFile(ws=map_seeds(source.G_ema, [3, 4]).numpy()).save(tmp_path / "w.npz")
    vector = np.eye(8, dtype=np.float32)[2]
    one = Direction(name="sky", vector=vector, sigma=2.0, first=1, last=4, method="pca")
    Directions.of([one], num_ws=6).save(tmp_path / "d.npz")
    edit = ("generate", "edit", tiny_run, "--directions", tmp_path / "d.npz", "--direction", "sky=2", "--device", "cpu")
    assert run_salon(*edit, "--seeds", "0-1", "--truncation-psi", "0.7", "--out", tmp_path / "seeds").code == 0
    assert run_salon(*edit, "--ws", tmp_path / "w.npz", "--out", tmp_path / "ws.png", "--grid", "2x1").code == 0
    rows = ("--rows", f"{tmp_path / 'w.npz'}:1", "--columns", "5-6", "--out", tmp_path / "mix.png", "--device", "cpu")
    assert run_salon("generate", "mix", tiny_run, *rows).code == 0
    stills = [*sorted((tmp_path / "seeds").iterdir()), tmp_path / "ws.png", tmp_path / "mix.png"]
    asked = ("--url", server.grpc_url)
    outcome, figures = verified(*stills, *asked, "--ws", tmp_path / "w.npz", "--directions", tmp_path / "d.npz")
    assert outcome.code == 0 and figures["verified"] == 4, figures
    outcome, figures = verified(*stills, *asked)
    assert outcome.code == 3 and figures["verified"] == 0
    assert all("was not given, of the SHA-256" in each["reason"] for each in figures["pictures"])


def test_the_gallerys_files_are_verified(tiny_run, tmp_path):
    source = snapshot.find(tiny_run)
    digest, _ = of_snapshot(source, torch.device("cpu"))
    about = ModelMetadata(kind="generator", generator="generator", num_ws=6, snapshot=digest, version=3)
    spec = ImageSpec(model="generator", seed=1, psi=0.6)
    mixed = ImageSpec(model="generator", seed=1, psi=0.6, to=2, layers=("composition",))
    ws = map_seeds(source.G_ema, [1, 2], truncation_psi=0.6)
    for place, each in enumerate((spec, mixed)):
        combined = torch.from_numpy(combine(each, ws[: len(each.seeds())].numpy()))
        (pixels,) = synthesize(source.G_ema, combined)
        save(pixels, tmp_path / f"{place}.png", recipe=each.recipe(about))
    outcome, figures = verified(tmp_path / "0.png", tmp_path / "1.png", "--snapshot", tiny_run, "--tolerance", "0")
    assert outcome.code == 0 and figures["verified"] == 2
    assert figures["pictures"][1]["recipe"] | {"salon": ""} == {
        **{"kind": "image", "seeds": [1], "columns": [2], "layers": [0, 1], "truncation_psi": 0.6},
        **{"noise_mode": "const", "model": "generator 3", "snapshot": digest, "salon": ""},
    }
    journey = ImageSpec(model="generator", seed=1, to=2, steps=5).recipe(about)
    assert (journey.kind, journey.seeds, journey.frames) == ("interpolation", [1, 2], 5)
