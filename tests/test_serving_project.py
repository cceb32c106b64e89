"""The command `salon project`: what it writes, says and refuses."""

import json
import signal
from pathlib import Path

import av
import numpy as np
import pytest
from conftest import SalonProcess, run_salon
from PIL import Image
from test_cli import refused
from test_eval_metrics_perceptual import WEIGHTS, needs_weights

from gan import snapshot
from gan.data.recipe import read
from gan.data.xmp import COMPOSITE, TRAINED
from gan.runtime.files import sha256
from gan.sampling.generate import synthesize
from gan.sampling.ws_file import WsFile

# The bundled network's features see 224 pixels a side, which a step of a tiny search need not.
QUICK = ("--steps", "6", "--device", "cpu", "--distance", "efficientnet-lite0")


@pytest.fixture(autouse=True)
def small_features(monkeypatch):
    monkeypatch.setattr("eval.metrics.perceptual.SIZE", 32)


@pytest.fixture
def picture(tmp_path):
    """A photograph that is not square."""
    pixels = np.linspace(0, 255, 48 * 30 * 3).reshape(30, 48, 3).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.jpg", quality=95)
    return tmp_path / "photo.jpg"


def image_of(path: Path, ws_file: Path) -> np.ndarray:
    """What a snapshot makes of the latents in a file."""
    source = snapshot.load(path)
    latents = WsFile.open(ws_file, source.G_ema.config.num_ws, source.G_ema.config.w_dim)
    assert latents.snapshot == sha256(path)
    import torch

    (pixels,) = synthesize(source.G_ema, torch.from_numpy(latents.ws))
    return pixels


def test_a_picture_becomes_latents_that_make_its_image_again(tmp_path, tiny_run, picture):
    out, source = tmp_path / "out", snapshot.find(tiny_run)
    outcome = run_salon("project", picture, "--snapshot", tiny_run, "--out", out, *QUICK, "--json")
    assert outcome.code == 0, outcome.err
    names = [f"photo{end}" for end in ("-beside.png", "-target.png", ".mp4", ".npz", ".png")]
    assert sorted(file.name for file in out.iterdir()) == [*names, "results.json"]
    (figures,) = outcome.json["pictures"]
    assert json.loads((out / "results.json").read_text()) == outcome.json
    assert figures["lpips"] is None and figures["distance_used"] == "efficientnet-lite0" and 0 < figures["distance"] < 4
    assert (figures["steps"], figures["tuned_steps"], figures["space"]) == (6, 0, "w")
    made, target = (np.asarray(Image.open(out / name)) for name in ("photo.png", "photo-target.png"))
    assert np.array_equal(image_of(source.path, out / "photo.npz"), made) and made.shape == target.shape == (16, 16, 3)
    assert figures["pixel_error"] == pytest.approx(np.abs(made.astype(int) - target).mean())
    beside = np.asarray(Image.open(out / "photo-beside.png"))
    assert beside.shape == (256, 516, 3)
    assert np.array_equal(beside[::16, :256:16], target) and np.array_equal(beside[::16, 260::16], made)
    about = WsFile.open(out / "photo.npz", source.G_ema.config.num_ws, source.G_ema.config.w_dim).about
    assert about["images"] == ["photo.jpg"] and about["picture_sha256"] == sha256(picture)
    assert {"steps", "space", "loss", "distance", "distance_used", "lpips"} <= set(about)
    with av.open(str(out / "photo.mp4")) as video:
        assert sum(1 for _ in video.decode(video=0)) == 6 + 1 + 44  # steps, the end, and the end held


def test_only_what_is_generated_is_marked_and_a_pair_as_a_composite(tmp_path, tiny_run, picture):
    out = tmp_path / "out"
    assert run_salon("project", picture, "--snapshot", tiny_run, "--out", out, *QUICK).code == 0
    made, target, beside, video = (read(out / f"photo{end}") for end in (".png", "-target.png", "-beside.png", ".mp4"))
    assert not target.marked and target.recipe is None
    assert made.marked and made.recipe.kind == "image" and made.recipe.rows == [0]
    assert made.recipe.ws == sha256(out / "photo.npz") and made.recipe.snapshot == sha256(snapshot.find(tiny_run).path)
    for one in (beside, video):
        assert one.marked and one.recipe.kind == "projection" and one.recipe.ws == made.recipe.ws
    contents = {end: (out / f"photo{end}").read_bytes() for end in (".png", "-beside.png", ".mp4")}
    assert TRAINED.encode() in contents[".png"] and COMPOSITE.encode() not in contents[".png"]
    for end in ("-beside.png", ".mp4"):
        assert COMPOSITE.encode() in contents[end] and TRAINED.encode() not in contents[end]
    assert b"A real image beside one generated" in contents["-beside.png"]
    # A picture that was generated itself stays marked.
    again = tmp_path / "again"
    ended = run_salon("project", out / "photo.png", "--snapshot", tiny_run, "--out", again, *QUICK, "--no-video")
    assert ended.code == 0 and read(again / "photo-target.png").recipe == made.recipe
    bare = tmp_path / "bare"
    ended = run_salon("project", picture, "--snapshot", tiny_run, "--out", bare, *QUICK, "--no-video", "--no-metadata")
    assert ended.code == 0 and not any(read(file).marked for file in bare.glob("*.png"))


def test_a_tuned_generator_is_a_snapshot_with_its_lineage(tmp_path, tiny_run, picture):
    out, parent = tmp_path / "out", snapshot.find(tiny_run)
    options = ("--space", "w+", "--noise", "search", "--tune", "4", "--no-video")
    outcome = run_salon("project", picture, "--snapshot", tiny_run, "--out", out, *QUICK, *options, "--json")
    assert outcome.code == 0, outcome.err
    tuned = snapshot.load(out / "photo.safetensors")
    assert tuned.D is None and tuned.G is None and tuned.config == parent.config and tuned.cur_nimg == parent.cur_nimg
    assert tuned.lineage["parent"] == sha256(parent.path) and tuned.lineage["picture"] == sha256(picture)
    assert (tuned.lineage["made_by"], tuned.lineage["tuned_steps"]) == ("projection", 4) and parent.lineage is None
    assert np.array_equal(image_of(tuned.path, out / "photo.npz"), np.asarray(Image.open(out / "photo.png")))
    assert read(out / "photo.png").recipe.snapshot == sha256(tuned.path)
    assert not (out / "photo.mp4").exists()
    # The next command into the folder leaves nothing of this one that is not its own.
    options = ("--space", "w+", "--no-video", "--overwrite")
    assert run_salon("project", picture, "--snapshot", tiny_run, "--out", out, *QUICK, *options).code == 0
    assert not (out / "photo.safetensors").exists()


@needs_weights
def test_an_image_of_the_generators_own_is_found_by_lpips(tmp_path, tiny_run):
    generated = run_salon("generate", tiny_run, "--seeds", "3", "--device", "cpu", "--out", tmp_path / "own")
    assert generated.code == 0, generated.err
    options = ("--space", "w+", "--steps", "100", "--device", "cpu", "--no-video", "--json")
    weights = [word for name, path in WEIGHTS.items() for word in ("--weights", f"{name}={path}")]
    lpips = []
    for tune in (0, 20):
        base = ("project", tmp_path / "own" / "seed0003.png", "--snapshot", tiny_run, "--out", tmp_path / f"out{tune}")
        outcome = run_salon(*base, *options, *weights, "--tune", tune, "--tune-learning-rate", "0.001")
        assert outcome.code == 0, outcome.err
        (figures,) = outcome.json["pictures"]
        assert figures["distance_used"] == "lpips-vgg" and figures["lpips"] == figures["distance"]
        lpips.append(figures["lpips"])
    assert lpips[0] <= 0.05 and lpips[1] <= min(0.02, lpips[0])


def test_a_class_is_named_and_without_lpips_a_line_says_so(tmp_path, conditional_snapshot, picture):
    out = tmp_path / "out"
    base = ("project", picture, "--snapshot", conditional_snapshot, "--out", out, "--steps", "2", "--no-video")
    refused(run_salon(*base), "--class must be given")
    outcome = run_salon(*base, "--class", "1", "--preview-every", "1")
    assert outcome.code == 0, outcome.err
    assert "Note: the weights of LPIPS are not here" in outcome.err and "--weights lpips-vgg=PATH" in outcome.err
    assert "efficientnet-lite0" in outcome.out.splitlines()[0] and "LPIPS" not in outcome.out
    assert read(out / "photo.png").recipe.class_name == "1"
    assert not (out / "photo-preview.jpg").exists()


def test_ctrl_c_keeps_the_best_so_far(tmp_path, tiny_run, picture):
    out, second = tmp_path / "out", tmp_path / "second.png"
    Image.open(picture).save(second)
    options = ("--snapshot", tiny_run, "--out", out, "--steps", "100000", "--tune", "5", "--preview-every", "2")
    options += ("--device", "cpu", "--distance", "efficientnet-lite0", "--no-video", "--json")
    event = (signal.SIGINT, "os.rename", r"photo-preview\.jpg", 2)  # with the second preview, after step 4
    process = SalonProcess(tmp_path, "project", picture, second, *options, event=event)
    ended = process.wait()
    assert ended.code == 0, ended.err
    (figures,) = ended.json["pictures"]
    assert ended.json["stopped"] and figures["steps"] == 4 and figures["tuned_steps"] == 0
    assert sorted(file.name for file in out.iterdir()) == [
        *(f"photo{end}" for end in ("-beside.png", "-target.png", ".npz", ".png")),
        "results.json",
    ]


def test_what_cannot_be_meant_is_refused_before_anything_is_searched(tmp_path, tiny_run, picture):
    base = ("project", "--snapshot", tiny_run, *QUICK)
    out = ("--out", tmp_path / "out")
    (tmp_path / "text.png").write_text("no picture")
    refused(run_salon(*base, *out, tmp_path / "text.png"), "PICTURE must be image files", "text.png")
    refused(run_salon(*base, *out, picture, tmp_path / "other" / "photo.png"), "PICTURE must have names of their own")
    refused(run_salon(*base, "--out", picture, picture), "--out must be a folder")
    refused(run_salon(*base, *out, picture, "--class", "1"), "--class must be left out")
    refused(run_salon(*base, *out, picture, "--weights", "vgg16=x"), "--weights vgg16 is of no network")
    own = tmp_path / "own.png"
    Image.open(picture).save(own)
    refused(run_salon(*base, "--out", tmp_path, own, "--overwrite"), "--out must be another folder", own)
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "photo.npz").write_bytes(b"mine")
    refused(run_salon(*base, *out, picture), "--out would replace", "photo.npz", "--overwrite")
    assert (tmp_path / "out" / "photo.npz").read_bytes() == b"mine"
