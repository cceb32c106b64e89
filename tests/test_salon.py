"""`import salon`: the loop from a folder of images to a curated dataset, in calls that do what the commands do."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import run_salon
from PIL import Image

import salon
from gan.data.synthetic_scenes import write_paintings

ROOT = Path(__file__).parent.parent
SMALLEST = ("mapping_layers=2", "channel_max=8", "batch_size=8")


@pytest.fixture(scope="module")
def G(tiny_run):
    return salon.load(tiny_run, device="cpu")


def test_importing_it_is_quick():
    code = "import sys, salon; dir(salon); print(sorted({'torch', 'numpy', 'PIL', 'pyarrow'} & set(sys.modules)))"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stdout == "[]\n"


@pytest.mark.parametrize("name", salon.__all__)
def test_each_name_is_there_and_told(name):
    assert getattr(salon, name).__doc__ and name in dir(salon)


def test_another_name_is_none():
    with pytest.raises(AttributeError, match="module 'salon' has no attribute 'paint'"):
        salon.paint  # noqa: B018


def test_the_loop_from_a_folder_to_a_curated_dataset(tmp_path):
    write_paintings(tmp_path / "paintings", 24, 32, 0, ["landscape"], ["impressionism"])
    report = salon.prepare(tmp_path / "paintings", tmp_path / "p16.zip", resolution=16, workers=1)
    assert report["images"] == 24
    trained = salon.train(
        str(tmp_path / "p16.zip"),
        str(tmp_path / "runs"),
        preset="tiny",
        overrides=list(SMALLEST),
        total_kimg=0.016,
        workers=0,
        device="cpu",
    )
    assert trained["kimg"] == 0.016 and trained["finished"]
    again = salon.train(
        tmp_path / "p16.zip", tmp_path / "runs", preset="tiny", overrides=SMALLEST, total_kimg=0.024, workers=0
    )
    assert again["run"] == trained["run"] and again["kimg"] == 0.024
    generator = salon.load(tmp_path / "runs", device="cpu")
    assert generator.shape.size == (16, 16) and "16x16" in repr(generator) and generator.classes is None
    figures = salon.evaluate(
        generator, tmp_path / "p16.zip", tmp_path / "evaluation", metrics=["kid"], num_images=16, device="cpu"
    )
    results = json.loads((tmp_path / "evaluation" / "results.json").read_text())["results"]
    assert list(figures) == ["kd"] and figures["kd"].value == results[0]["value"]
    decided = salon.curate(tmp_path / "p16.zip", tmp_path / "curated.manifest", keep=0.75, device="cpu")
    assert decided["kept"] == 18 and (tmp_path / "curated.manifest").is_dir()


def test_images_are_those_of_the_command(G, tiny_run, tmp_path):
    run_salon("generate", tiny_run, "--seeds", "3,7", "--truncation-psi", "0.7", "--out", tmp_path, "--device", "cpu")
    images = G.generate([3, 7], truncation_psi=0.7)
    assert images.dtype == np.uint8 and images.shape == (2, *G.shape.size[::-1], 3)
    for seed, image in zip((3, 7), images, strict=True):
        np.testing.assert_array_equal(image, np.asarray(Image.open(tmp_path / f"seed{seed:04d}.png")))


def test_mapped_and_synthesized_is_generated(G):
    ws = G.map([3, 7], truncation_psi=0.7)
    assert ws.dtype == np.float32 and ws.shape == (2, G.num_ws, G.w_dim)
    np.testing.assert_array_equal(G.synthesize(ws), G.generate([3, 7], truncation_psi=0.7))
    np.testing.assert_array_equal(G.synthesize(ws[1])[0], G.generate([7], truncation_psi=0.7)[0])
    drawn = G.synthesize(ws, noise_mode="random", seeds=[3, 7])
    np.testing.assert_array_equal(drawn, G.generate([3, 7], truncation_psi=0.7, noise_mode="random"))
    assert G.generate([]).shape == (0, *G.shape.size[::-1], 3)


def test_edits_are_those_of_the_command(G, tiny_run, tmp_path):
    found = G.find_directions(count=2, samples=50)
    found.save(tmp_path / "d.npz")
    ask = ("--seeds", 3, "--directions", tmp_path / "d.npz", "--direction", "pc1=2", "--device", "cpu")
    assert run_salon("generate", "edit", tiny_run, *ask, "--out", tmp_path / "edited").code == 0
    edited = G.edit([3], {"pc1": 2.0}, found)
    np.testing.assert_array_equal(edited[0], np.asarray(Image.open(tmp_path / "edited" / "seed0003.png")))
    np.testing.assert_array_equal(G.edit([3], {"pc1": 2.0}, tmp_path / "d.npz"), edited)
    np.testing.assert_array_equal(G.edit([3], {"pc1": 0.0}, found), G.generate([3]))
    assert np.abs(edited.astype(int) - G.generate([3])).max() > 0


def test_a_picture_is_projected(G, tmp_path):
    Image.fromarray(G.generate([5])[0]).save(tmp_path / "five.png")
    ws = G.project(tmp_path / "five.png", tmp_path / "out", steps=2, space="w+", video=False)
    assert ws.shape == (1, G.num_ws, G.w_dim)
    np.testing.assert_array_equal(G.synthesize(ws)[0], np.asarray(Image.open(tmp_path / "out" / "five.png")))
    with pytest.raises(salon.RequestError, match="`stride` is no field of ProjectRequest"):
        G.project(tmp_path / "five.png", tmp_path / "again", stride=2)


def test_faults_name_the_parameter(G, tmp_path):
    with pytest.raises(salon.RequestError, match=r"`ws` must be of shape \[N, "):
        G.synthesize(np.zeros([1, G.num_ws + 1, G.w_dim]))
    with pytest.raises(salon.RequestError, match="`seeds` must be given with noise_mode random"):
        G.synthesize(G.map([0]), noise_mode="random")
    with pytest.raises(salon.RequestError, match="`class_name` must be left out"):
        G.generate([0], class_name="landscape")
    with pytest.raises(salon.RequestError, match="`precision` must be one of"):
        salon.load(tmp_path, precision="fp64")
    with pytest.raises(salon.RequestError, match=r"`colour` is no field of PrepareRequest, whose fields are .*buckets"):
        salon.prepare(tmp_path, tmp_path / "a.zip", colour=3)
    with pytest.raises(ValueError, match="resolution"):
        salon.prepare(tmp_path, tmp_path / "a.zip", resolution=60)
