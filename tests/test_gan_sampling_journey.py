"""Journeys of a real generator: frames at keys are the keys' pictures, sound drives them, files say how."""

from itertools import pairwise

import av
import numpy as np
import pytest
import torch
from conftest import run_salon
from PIL import Image
from test_cli import refused
from test_gan_blending import generator, network
from test_gan_sampling_audio import bursts, tone, write

from gan import snapshot
from gan.config import TrainingConfig
from gan.data.images import for_display
from gan.data.recipe import read
from gan.errors import RequestError
from gan.image_shape import ImageShape
from gan.runtime.files import sha256
from gan.sampling import animation, latents
from gan.sampling.directions import Direction, Directions
from gan.sampling.generate import generate, map_seeds, synthesize
from gan.sampling.journey_plan import plan
from gan.sampling.journey_request import JourneyRequest
from gan.sampling.request import SamplingRequest
from gan.sampling.ws_file import WsFile

KEYS = """
[[key]]
seed = 1
psi = 0.5
class = "night"
seconds = 0.2

[[key]]
ws = "found.npz"
row = 1
seconds = 0.5

[[key]]
seed = 2
class = 0
edits = {sky = 2}
seconds = 0.3

[[key]]
seed = 3
seconds = 0.1
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A generator of two classes, its file of ws and its directions, keyframes and a sound. Not to be changed."""
    folder = tmp_path_factory.mktemp("journeys")
    config = network(ImageShape(24, 16, 3), num_classes=2)
    G = generator(config, 1)
    training = TrainingConfig(network=config, dataset="0" * 64, batch_size=8)
    snapshot.save(folder / "G.safetensors", G, None, training, 0, ["day", "night"])
    rng = np.random.default_rng(0)
    ws = rng.standard_normal([2, config.num_ws, config.w_dim]).astype(np.float32)
    WsFile(ws=ws, snapshot=sha256(folder / "G.safetensors")).save(folder / "found.npz")
    vector = np.eye(config.w_dim, dtype=np.float32)[0]
    sky = Direction(name="sky", vector=vector, sigma=0.5, first=1, last=3, method="pca")
    Directions.of([sky], num_ws=config.num_ws).save(folder / "directions.npz")
    (folder / "journey.toml").write_text('directions = "directions.npz"\n' + KEYS)
    write(folder / "music.wav", np.concatenate([bursts(2.0), np.zeros(4410)]) + np.pad(tone(80, 1.0), (0, 48_510)))
    return folder


@pytest.fixture(scope="module")
def source(folder):
    return snapshot.load(folder / "G.safetensors")


def planned(folder, source, seeds=None, *, fps=30, frames=None, class_name="day", psi=1.0, **request):
    request = {"keyframes": folder / "journey.toml"} | request if seeds is None else request
    sampling = SamplingRequest(snapshot=folder / "G.safetensors", class_name=class_name, truncation_psi=psi)
    return plan(source, source.G_ema, sampling, JourneyRequest(**request), seeds=seeds, fps=fps, frames=frames)


def stills(G, seeds, classes, **options):
    return list(generate(G, seeds, classes, **options))


def test_without_keyframes_the_frames_are_those_of_the_plain_loop(folder, source, tmp_path):
    # As the command made them before it knew of journeys: the same file, byte for byte.
    G = source.G_ema
    ws = torch.from_numpy(latents.loop(map_seeds(G, [3, 5, 4], [1, 1, 1], truncation_psi=0.7).numpy(), 4))
    animation.save(map(for_display, synthesize(G, ws)), tmp_path / "expected.webp", 10)
    ask = ("generate", "interpolate", folder / "G.safetensors", "--seeds", "3,5,4", "--frames", 4, "--fps", 10)
    ask += ("--class", "night", "--truncation-psi", 0.7)
    assert run_salon(*ask, "--no-metadata", "--out", tmp_path / "made.webp").code == 0
    assert (tmp_path / "made.webp").read_bytes() == (tmp_path / "expected.webp").read_bytes()
    assert run_salon(*ask, "--out", tmp_path / "marked.webp").code == 0
    assert read(tmp_path / "marked.webp").recipe.kind == "interpolation"
    # And a journey with nothing asked for is the same.
    journey = planned(folder, source, [3, 5, 4], fps=10, frames=4, class_name="night", psi=0.7)
    assert np.array_equal(np.concatenate(list(journey.ws())), ws.numpy())


@pytest.mark.parametrize("easing", ["linear", "spherical", "smooth"])
def test_frames_at_keys_are_the_pictures_of_the_keys(easing, folder, source):
    G = source.G_ema
    journey = planned(folder, source, easing=easing)
    frames = list(journey.frames())
    assert len(frames) == len(journey) == 33  # 1.1 seconds
    expected = {
        0: stills(G, [1], [1], truncation_psi=0.5)[0],
        6: next(synthesize(G, torch.from_numpy(WsFile.open(folder / "found.npz", 6, 8).ws[1:]))),
        30: stills(G, [3], [0])[0],
    }
    directions = Directions.open(folder / "directions.npz", 6, 8)
    edited = directions.edit(map_seeds(G, [2], [0]).numpy(), {"sky": 2})
    expected[21] = next(synthesize(G, torch.from_numpy(edited)))
    for index, image in expected.items():
        assert np.array_equal(frames[index], image), index
    assert not np.array_equal(expected[21], stills(G, [2], [0])[0])  # its edit shows
    assert all(not np.array_equal(a, b) for a, b in pairwise(frames))


def test_spherical_goes_through_z_between_seeds(folder, source):
    G = source.G_ema
    journey = planned(folder, source, [1, 2], fps=10, frames=10, easing="spherical", psi=0.7)
    made = np.concatenate(list(journey.ws()))
    z = latents.draw([1, 2], 8).astype(np.float64)
    angle = np.arccos(z[0] @ z[1] / np.linalg.norm(z[0]) / np.linalg.norm(z[1]))
    middle = (z[0] + z[1]) * np.sin(angle / 2) / np.sin(angle)
    c = torch.tensor([[1.0, 0.0]])
    with torch.inference_mode():
        expected = G.mapping(torch.from_numpy(middle[None]).float(), c, truncation_psi=0.7)
    assert np.allclose(made[5], expected[0], atol=1e-5)
    straight = np.concatenate(list(planned(folder, source, [1, 2], fps=10, frames=10, easing="linear", psi=0.7).ws()))
    assert np.allclose(straight[5], (straight[0] + straight[10]) / 2, atol=1e-5)
    assert not np.allclose(straight[5], made[5], atol=1e-3)


def test_spherical_fades_from_class_to_class_and_psi_to_psi(folder, source, tmp_path):
    (tmp_path / "two.toml").write_text("[[key]]\nseed=1\nclass=0\npsi=1\n[[key]]\nseed=1\nclass=1\npsi=0\n")
    made = np.concatenate(list(planned(tmp_path, source, keyframes=tmp_path / "two.toml", easing="spherical").ws()))
    G = source.G_ema
    with torch.inference_mode():
        z, c = torch.from_numpy(latents.draw([1], 8)), torch.tensor([[0.75, 0.25]])
        assert np.allclose(made[15], G.mapping(z, c, truncation_psi=0.75)[0], atol=1e-5)
    assert np.array_equal(made[60], G.mapping.w_avg.expand(6, -1).numpy())


def test_without_a_loop_it_ends_at_the_last_key(folder, source):
    journey = planned(folder, source, [1, 2, 3], frames=10, loop=False, easing="linear")
    frames = list(journey.frames())
    assert len(frames) == 20
    first, last = stills(source.G_ema, [1, 3], [0, 0])
    assert np.array_equal(frames[0], first) and np.array_equal(frames[-1], last)
    held = list(planned(folder, source, loop=False).frames())  # the file's last key stays for a tenth of a second
    assert len(held) == 33 and all(np.array_equal(frame, last) for frame in held[-3:])


@pytest.mark.parametrize("easing", ["linear", "spherical", "smooth"])
@pytest.mark.parametrize("drive", [None, ("onset=speed", "low=psi:0.5", "mid=sky:2")])
def test_a_path_in_parts_is_the_path(easing, drive, folder, source, monkeypatch):
    sound = {} if drive is None else {"audio": folder / "music.wav", "drive": drive}
    whole = np.concatenate(list(planned(folder, source, easing=easing, **sound).ws()))
    monkeypatch.setattr("gan.sampling.journey.CHUNK", 4)
    assert np.array_equal(np.concatenate(list(planned(folder, source, easing=easing, **sound).ws())), whole)


def ws_of(journey):
    return np.concatenate(list(journey.ws()))


def test_sound_drives_speed_strength_and_directions(folder, source):
    sound = {"audio": folder / "music.wav", "easing": "linear", "directions": folder / "directions.npz"}
    silent = planned(folder, source, [1, 2], frames=10, drive=("onset=none", "low=none"), **sound)
    assert len(silent) == 63 and float(silent.sound.seconds) == pytest.approx(2.1)
    plain = ws_of(silent)
    # Onsets: the same path, at another pace, that has passed through as much at the end.
    moved = planned(folder, source, [1, 2], frames=10, drive=("onset=speed:5",), **sound)
    steps = np.diff(moved.times)
    bursts_at = [15, 30, 53]
    assert np.argsort(steps)[-3:].max() <= 55 and all(
        steps[at - 1 : at + 2].max() > 2 * np.median(steps) for at in bursts_at
    )
    assert moved.times[-1] == pytest.approx(silent.times[-1], abs=0.1)
    # Bass: further from w_avg, where there is bass alone.
    strong = ws_of(planned(folder, source, [1, 2], frames=10, drive=("low=psi:0.5",), **sound))
    average = source.G_ema.mapping.w_avg.numpy()
    assert np.allclose(strong[15] - average, 1.5 * (plain[15] - average), atol=0.05)
    assert np.allclose(strong[-1], plain[-1], atol=0.02)
    # A direction: in its layers alone.
    edited = ws_of(planned(folder, source, [1, 2], frames=10, drive=("low=sky:3",), **sound)) - plain
    assert edited[15, 1:4, 0] == pytest.approx(3 * 0.5, abs=0.1) and not edited[:, [0, 4, 5]].any()
    assert not edited[..., 1:].any() and abs(edited[-1]).max() < 0.05


def test_what_drives_is_said_in_the_file_or_as_usual(folder, source, tmp_path):
    sound = {"audio": folder / "music.wav"}
    usual = planned(folder, source, **sound).recipe["journey"]["drives"]
    assert usual == {"onset": {"to": "speed", "amount": 2.0}, "low": {"to": "psi", "amount": 0.2}}
    (tmp_path / "j.toml").write_text("[[key]]\nseed = 1\n[[key]]\nseed = 2\n[audio]\nmid = 'psi'")
    said = planned(folder, source, keyframes=tmp_path / "j.toml", **sound).recipe["journey"]["drives"]
    assert said == {"mid": {"to": "psi", "amount": 0.2}}
    own = planned(folder, source, keyframes=tmp_path / "j.toml", drive=("mid=speed",), **sound)
    assert own.recipe["journey"]["drives"] == {"mid": {"to": "speed", "amount": 2.0}}


def test_the_command_writes_a_video_to_the_sound_and_says_how(folder, tmp_path):
    ask = ("generate", "interpolate", folder / "G.safetensors", "--class", "day", "--audio", folder / "music.wav")
    files = [tmp_path / name for name in ("a.mp4", "b.mp4")]
    for file in files:
        outcome = run_salon(
            *ask,
            "--keyframes",
            folder / "journey.toml",
            "--easing",
            "spherical",
            "--seconds",
            "1.5",
            "--out",
            file,
            "--json",
        )
        assert outcome.code == 0, outcome.err
    figures = outcome.json
    assert (figures["frames"], figures["seconds"], figures["keys"], figures["easing"]) == (45, 1.5, 4, "spherical")
    decoded = []
    for file in files:
        with av.open(str(file)) as container:
            decoded.append(np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)]))
            lengths = [float(s.duration * s.time_base) for s in container.streams]
        assert len(lengths) == 2 and lengths == pytest.approx([1.5, 1.5], abs=1 / 30)
    assert np.array_equal(*decoded) and len(decoded[0]) == 45
    recipe = read(files[0]).recipe
    assert recipe.kind == "journey" and recipe.seeds == [1, 2, 3] and recipe.frames == 45
    assert recipe.keyframes == sha256(folder / "journey.toml") and recipe.audio == sha256(folder / "music.wav")
    assert recipe.directions == sha256(folder / "directions.npz")
    assert recipe.journey["seconds"] == 1.5 and recipe.journey["easing"] == "spherical" and recipe.journey["loop"]
    assert run_salon("verify", files[0]).out.count("journey of seeds 1-3") == 1


def test_keyframes_alone_are_written_and_rows_alone_are_enough(folder, tmp_path):
    (tmp_path / "rows.toml").write_text(
        f"[[key]]\nws = '{folder / 'found.npz'}'\n[[key]]\nws = '{folder / 'found.npz'}'\nrow = 1"
    )
    ask = ("generate", "interpolate", folder / "G.safetensors", "--keyframes", tmp_path / "rows.toml", "--fps", 5)
    for name in ("a.gif", "a.webp", "a.mp4"):
        outcome = run_salon(*ask, "--no-loop", "--out", tmp_path / name, "--json")
        assert outcome.code == 0, outcome.err
        assert outcome.json["frames"] == 10 and outcome.json["loop"] is False
        assert read(tmp_path / name).recipe.keyframes == sha256(tmp_path / "rows.toml")


def test_rows_of_a_file_of_ws_are_keys(folder, source, tmp_path):
    file, out = folder / "found.npz", tmp_path / "rows.mp4"
    journey = plan(
        source, source.G_ema, SamplingRequest(snapshot=source.path), JourneyRequest(loop=False), ws=file, frames=5
    )
    ends = ws_of(journey)[[0, -1]]
    np.testing.assert_allclose(ends, WsFile.open(file, 6, source.config.network.w_dim).ws, atol=1e-6)
    ask = ("generate", "interpolate", source.path, "--ws", file, "--easing", "linear", "--frames", 3, "--out", out)
    assert run_salon(*ask).code == 0
    recipe = read(out).recipe
    assert (recipe.kind, recipe.rows, recipe.ws, recipe.frames) == ("journey", [0, 1], sha256(file), 6)
    refused(run_salon(*ask, "--overwrite", "--class", "day"), "--class", "--ws")


@pytest.mark.parametrize("shape", [ImageShape(16, 20, 1), ImageShape(24, 16, 4)], ids=str)
def test_grey_and_alpha_travel_too(shape, tmp_path):
    config = network(shape)
    training = TrainingConfig(network=config, dataset="0" * 64, batch_size=8)
    snapshot.save(tmp_path / "G.safetensors", generator(config, 1), None, training, 0, None)
    (tmp_path / "two.toml").write_text("[[key]]\nseed = 1\nseconds = 0.2\n[[key]]\nseed = 2\nseconds = 0.4")
    ask = ("generate", "interpolate", tmp_path / "G.safetensors", "--keyframes", tmp_path / "two.toml", "--fps", 10)
    assert run_salon(*ask, "--easing", "spherical", "--out", tmp_path / "a.webp").code == 0
    with Image.open(tmp_path / "a.webp") as made:
        assert (made.size, made.mode, made.n_frames) == (shape.size, "RGB", 6)


BROKEN = {
    "class": (
        '[[key]]\nseed = 1\nclass = 0\n[[key]]\nseed = 2\nclass = "dusk"',
        "key 2: class must be one of 2 classes, day, night",
    ),
    "no class": ("[[key]]\nseed = 1", "key 1: class must be given"),
    "row": ("[[key]]\nws = 'found.npz'\nrow = 2", "key 1: row must be from 0 to 1, as"),
    "absent ws": ("[[key]]\nws = 'lost.npz'", "key 1: ws must be a file of ws;"),
    "no directions": ("[[key]]\nws = 'found.npz'\nedits = {sky = 1}", "key 1: edits need a file of directions"),
    "direction": (
        'directions = "directions.npz"\n[[key]]\nws = "found.npz"\n[[key]]\nws = "found.npz"\nedits = {sea = 1}',
        "key 2: edits.sea must be one of the directions sky",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_keys_are_checked_before_the_first_frame(name, folder, tmp_path):
    text, message = BROKEN[name]
    for file in ("found.npz", "directions.npz"):
        (tmp_path / file).write_bytes((folder / file).read_bytes())
    (tmp_path / "broken.toml").write_text(text)
    before = sorted(tmp_path.iterdir())
    ask = ("generate", "interpolate", folder / "G.safetensors", "--out", tmp_path / "new.mp4")
    refused(run_salon(*ask, "--keyframes", tmp_path / "broken.toml"), "--keyframes", tmp_path / "broken.toml", message)
    assert sorted(tmp_path.iterdir()) == before


def test_what_does_not_go_together_is_refused(folder, tmp_path):
    ask = ("generate", "interpolate", folder / "G.safetensors", "--class", "day", "--out")
    keys, music = ("--keyframes", folder / "journey.toml"), ("--audio", folder / "music.wav")
    new = tmp_path / "new.mp4"
    missing = run_salon(*ask, new)
    assert missing.code == 2 and "Missing option '--seeds'" in missing.err and "--keyframes" in missing.err
    refused(run_salon(*ask, new, *keys, "--seeds", "1"), "one of --seeds, --ws and --keyframes must be given")
    refused(run_salon(*ask, new, *music), "one of --seeds, --ws and --keyframes must be given")
    refused(run_salon(*ask, new, *keys, "--frames", "60"), "--frames must be left out with --keyframes")
    refused(run_salon(*ask, new, "--seeds", "1", "--drive", "low=psi"), "--drive needs --audio")
    refused(run_salon(*ask, new, "--seeds", "1", "--seconds", "2"), "--seconds needs --audio")
    refused(run_salon(*ask, new, "--seeds", "1", *music, "--seconds", "9"), "--seconds must be at most", "2.100")
    refused(run_salon(*ask, new, "--seeds", "1", *music, "--drive", "low=sky"), "--drive sky needs", "--directions")
    refused(run_salon(*ask, new, *keys, *music, "--drive", "low=sea"), "sky", "sea")
    refused(run_salon(*ask, new, "--seeds", "1", "--audio", tmp_path / "absent.wav"), "--audio", "No such file")
    for suffix in (".webp", ".gif"):
        out = tmp_path / f"new{suffix}"
        refused(run_salon(*ask, out, "--seeds", "1", *music), "--out must end in .mp4 with --audio", out)
    assert not list(tmp_path.iterdir())


def test_far_too_many_frames_are_refused(folder, source, tmp_path):
    (tmp_path / "long.toml").write_text("[[key]]\nseed = 1\nseconds = 3600\n" * 10)
    with pytest.raises(RequestError, match="at most 1,000,000 frames; got 1,080,000"):
        planned(folder, source, keyframes=tmp_path / "long.toml")


def test_requests_are_checked(tmp_path):
    for values, message in (
        ({"easing": "bouncy"}, "`easing` must be one of linear, spherical, smooth"),
        ({"audio": tmp_path, "seconds": 0}, "`seconds` must be above 0"),
        ({"audio": tmp_path, "seconds": float("nan")}, "`seconds` must be above 0"),
    ):
        with pytest.raises(RequestError, match=message):
            JourneyRequest(**values)
    assert not JourneyRequest().asked and JourneyRequest(loop=False).asked
