"""`salon verify`: pictures are generated again, and compared."""

import json

import numpy as np
import pytest
import torch
from conftest import run_salon
from PIL import Image
from test_cli import refused

from gan import snapshot
from gan.data.images import save
from gan.data.recipe import Recipe, read
from gan.sampling.generate import generate
from gan.sampling.verify import of_snapshot, verify


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
