"""`salon query`, before a server in numpy: files, figures, refusals."""

import av
import numpy as np
import pytest
from conftest import run_salon
from fake_transport import KINDS, STYLES, FakeTransport, about, judge, picture
from PIL import Image
from test_cli import pixels, refused

from gan.rejection import algorithms
from gan.sampling import image_grid, latents
from serving.client import retry
from serving.contract import model_name


@pytest.fixture
def served(monkeypatch):
    """The transport that the command connects to; it notes the URL."""
    transport = FakeTransport()
    people = {model_name(kind, "people"): about(kind, "people", ["day", "night"]) for kind in KINDS}
    transport.models = people | transport.models

    def connect(url, token):
        transport.url, transport.token = url, token
        return transport

    monkeypatch.setattr("serving.client.client.connect", connect)
    monkeypatch.setattr(retry, "_FIRST_PAUSE", 0.001)
    monkeypatch.delenv("SALON_URL", raising=False)
    monkeypatch.delenv("SALON_TOKEN", raising=False)
    return transport


def query(*arguments):
    return run_salon("query", *arguments)


def painted(seeds, psi=1.0):
    return [picture(z) for z in latents.draw(seeds, 8) * np.float32(psi)]


@pytest.mark.parametrize("format, suffix", [("png", ".png"), ("jpeg", ".jpg"), ("webp", ".webp")])
def test_generate_writes_one_file_a_seed(format, suffix, served, tmp_path):
    outcome = query(
        "generate", "--seeds", "0-1,42", "--out", tmp_path, "--format", format, "--truncation-psi", 0.5, "--json"
    )
    files = [tmp_path / f"seed{seed:04d}{suffix}" for seed in (0, 1, 42)]
    assert outcome.code == 0 and sorted(tmp_path.iterdir()) == files
    figures = outcome.json
    assert figures["files"] == list(map(str, files)) and figures["seeds"] == [0, 1, 42] and figures["images"] == 3
    assert (figures["model"], figures["snapshot"], figures["cur_nimg"]) == ("generator", "5a1017", 32)
    if format != "jpeg":
        assert all(map(np.array_equal, map(pixels, files), painted([0, 1, 42], 0.5)))


def test_generate_a_grid(served, tmp_path):
    outcome = query("generate", "--seeds", "3-5", "--grid", "2x2", "--out", tmp_path / "grid.png")
    assert outcome.code == 0 and "3 images in" in outcome.out and "from grpc://127.0.0.1:8001: " in outcome.out
    assert np.array_equal(pixels(tmp_path / "grid.png"), image_grid.grid(painted([3, 4, 5]), 2, 2))


def test_the_concurrency_leaves_no_trace(served, tmp_path):
    for number in (1, 9):
        assert query("generate", "--seeds", "0-30", "--out", tmp_path / str(number), "--concurrency", number).code == 0
    for file in (tmp_path / "1").iterdir():
        assert file.read_bytes() == (tmp_path / "9" / file.name).read_bytes()


def test_another_generator_and_a_class(served, tmp_path):
    outcome = query("generate", "--model", "people", "--class", "night", "--seeds", 1, "--out", tmp_path, "--json")
    assert outcome.json["model"] == "people"
    assert np.array_equal(pixels(tmp_path / "seed0001.png"), picture(latents.draw([1], 8)[0] + 1))


def test_the_url_comes_from_the_option_or_the_environment(served, tmp_path, monkeypatch):
    monkeypatch.setenv("SALON_URL", "http://there:8000")
    assert query("status", "--json").json["url"] == "http://there:8000"
    assert query("status", "--url", "grpc://here", "--json").json["url"] == "grpc://here"


def test_rejection_keeps_what_the_discriminator_prefers(served, tmp_path):
    arguments = ("--reject", "obrs", "--count", 5, "--budget", 8, "--json")
    figures = query("generate", *arguments, "--out", tmp_path / "best").json
    found, seeds = figures["rejection"], figures["seeds"]
    assert len(seeds) == 5 == figures["images"] and seeds == sorted(set(seeds)) and max(seeds) < 40
    assert (found["method"], found["candidates"], found["accepted"], found["acceptance"]) == ("obrs", 40, 5, 0.125)
    logits = latents.draw(range(40), 8)[:, 0]
    probability = algorithms.budgeted_probabilities(logits.astype(np.float64), 8)
    assert seeds == algorithms.draw(probability, algorithms.uniforms([0])[0]).tolist()
    assert found["logit_mean"] == pytest.approx(logits.mean())
    assert found["logit_mean"] < found["logit_mean_accepted"]
    assert found["logit_mean_accepted"] == pytest.approx(logits[seeds].mean())
    assert sorted(f.name for f in (tmp_path / "best").iterdir()) == [f"seed{seed:04d}.png" for seed in seeds]
    again = query("generate", *arguments, "--out", tmp_path / "again", "--seeds", "0-99", "--concurrency", 1).json
    assert again["seeds"] == seeds


def test_mix(served, tmp_path):
    out = tmp_path / "mix.png"
    figures = query("mix", "--rows", "0-1", "--columns", "4-6", "--layers", "0-3", "--out", out, "--json").json
    assert (figures["rows"], figures["columns"], figures["layers"]) == ([0, 1], [4, 5, 6], [0, 1, 2, 3])
    rows, columns = latents.draw([0, 1], 8), latents.draw([4, 5, 6], 8)
    mixed = [picture(np.stack([column] * 4 + [row] * 2).mean(0)) for row in rows for column in columns]
    sheet = pixels(out)
    assert sheet.shape == (3 * 18 - 2, 4 * 18 - 2, 3) and (sheet[:16, :16] == 255).all()
    cells = [sheet[18 * y :, 18 * x :][:16, :16] for y in range(3) for x in range(4)][1:]
    heads = [*map(picture, columns), picture(rows[0]), *mixed[:3], picture(rows[1]), *mixed[3:]]
    assert all(np.abs(a.astype(int) - b).max() <= 1 for a, b in zip(cells, heads, strict=True))  # the mean rounds


@pytest.mark.parametrize("suffix", [".mp4", ".webp"])
def test_interpolate(suffix, served, tmp_path):
    out = tmp_path / f"loop{suffix}"
    figures = query("interpolate", "--seeds", "0-2", "--frames", 4, "--fps", 10, "--out", out, "--json").json
    assert (figures["frames"], figures["seconds"]) == (12, 1.2)
    if suffix == ".mp4":
        with av.open(str(out)) as container:
            assert sum(1 for _ in container.decode(video=0)) == 12
    else:
        with Image.open(out) as image:
            assert image.is_animated and image.size == (16, 16)


def test_classify(served, tmp_path):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, [*size, 3], np.uint8) for size in ((20, 30), (8, 8))]
    images[1][..., 1] = 255
    files = [tmp_path / "wide.png", tmp_path / "green.png"]
    for file, image in zip(files, images, strict=True):
        Image.fromarray(image).save(file)
    figures = query("classify", *files, "--json").json
    assert figures["classifier"]["styles"] == STYLES
    for entry, file, image in zip(figures["images"], files, images, strict=True):
        assert entry["file"] == str(file)
        assert entry["probabilities"] == pytest.approx(dict(zip(STYLES, judge(image), strict=True)), rel=1e-6)
        assert entry["style"] == STYLES[judge(image).argmax()] == next(iter(entry["probabilities"]))
    text = query("classify", *files, "--top", 1).out
    assert text.count("%") == 2 and f"{files[1]}" in text and f"Impressionism {judge(images[1])[1]:.1%}" in text


def test_classify_refuses_what_is_no_picture(served, tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    Image.new("RGB", (8, 8)).save(tmp_path / "good.png")
    refused(query("classify", tmp_path / "absent.png"), "FILE must be an image", "absent.png does not exist")
    refused(query("classify", tmp_path), "FILE must be an image", f"{tmp_path} is a folder")
    refused(query("classify", tmp_path / "good.png", tmp_path / "text.png"), "text.png must be an image; not an image")


def test_status(served):
    served.models["resnet"] = None
    outcome = query("status")
    lines = outcome.out.splitlines()
    assert outcome.code == 0 and lines[0] == "Triton 2.51.0 at grpc://127.0.0.1:8001: ready"
    rows = {line.split()[0]: line.split() for line in lines[3:]}
    assert list(rows) == sorted(served.models)
    assert rows["generator"] == [
        *("generator", "1", "READY", "generator", "5a1017", "16x16", "2", "0", "8", "1.50", "2.50")
    ]
    figures = query("status", "--json").json
    assert figures["ready"] and [m["name"] for m in figures["models"]] == sorted(served.models)
    people = next(m for m in figures["models"] if m["name"] == "people")
    assert people["about"]["classes"] == ["day", "night"] and people["succeeded"] == 0


def test_status_of_a_server_that_is_not_ready(served):
    served.ready = lambda timeout: False
    served.index = lambda timeout: [
        {"name": "generator", "version": "2", "state": "UNAVAILABLE", "reason": "broken file"}
    ]
    outcome = query("status")
    assert outcome.code == 3 and "UNAVAILABLE broken file" in outcome.out and "not ready" in outcome.out
    assert outcome.err == "Error: grpc://127.0.0.1:8001 is not ready\n"


def test_a_server_that_is_away_for_a_while(served, tmp_path):
    served.away = 3
    outcome = query("generate", "--seeds", "0-3", "--out", tmp_path)
    assert outcome.code == 0 and "not available. Trying again, 6 times" in outcome.err
    served.away = 99
    outcome = query("generate", "--seeds", "4", "--out", tmp_path, "--retries", 1, "--json")
    assert outcome.code == 1 and outcome.out == "" and outcome.err.splitlines()[-1].startswith("Error: grpc://")


def test_overwrite(served, tmp_path):
    (tmp_path / "seed0001.png").write_text("mine")
    refused(query("generate", "--seeds", "0-2", "--out", tmp_path), "--out would replace", "seed0001.png")
    refused(query("generate", "--reject", "obrs", "--count", 1, "--out", tmp_path), "--out would replace")
    assert (tmp_path / "seed0001.png").read_text() == "mine" and not served.asked
    assert query("generate", "--seeds", "0-2", "--out", tmp_path, "--overwrite").code == 0
    for command in (("mix", "--rows", 0, "--columns", 1), ("interpolate", "--seeds", 0)):
        out = tmp_path / {"mix": "mix.png", "interpolate": "loop.gif"}[command[0]]
        out.write_text("mine")
        refused(query(*command, "--out", out), "--out would replace", out)
        assert out.read_text() == "mine"


REFUSED = {  # arguments -> what the message must say
    "no seeds": (["generate", "--out", "{new}"], ["Missing option '--seeds'"]),
    "bad seeds": (["generate", "--seeds", "a-b", "--out", "{new}"], ["--seeds must be numbers and ranges"]),
    "grid": (["generate", "--seeds", "0-4", "--grid", "2x2", "--out", "{new}.png"], ["4 cells", "5 images"]),
    "grid's file": (["generate", "--seeds", "0", "--grid", "1x1", "--out", "{new}"], ["--out must end in one of .jpg"]),
    "psi": (
        ["generate", "--seeds", "0", "--truncation-psi", "3", "--out", "{new}"],
        ["3.0 is not in the range -2<=x<=2"],
    ),
    "class": (["generate", "--seeds", "0", "--class", "1", "--out", "{new}"], ["--class must be left out"]),
    "no class": (["generate", "--model", "people", "--seeds", "0", "--out", "{new}"], ["--class must be given"]),
    "model": (
        ["generate", "--model", "cats", "--seeds", "0", "--out", "{new}"],
        ["generator, people; got cats"],
    ),
    "count alone": (["generate", "--count", "3", "--seeds", "0", "--out", "{new}"], ["--count needs --reject obrs"]),
    "budget alone": (["generate", "--budget", "3", "--seeds", "0", "--out", "{new}"], ["--budget needs --reject"]),
    "no count": (["generate", "--reject", "obrs", "--out", "{new}"], ["--reject needs --count"]),
    "few candidates": (
        ["generate", "--reject", "obrs", "--count", "2", "--seeds", "0-6", "--out", "{new}"],
        ["--seeds must name at least 8 candidates for --count 2 and --budget 4; got 7"],
    ),
    "layers": (["mix", "--rows", "0", "--columns", "1", "--layers", "6", "--out", "{new}.png"], ["--layers", "0 to 5"]),
    "table's file": (["mix", "--rows", "0", "--columns", "1", "--out", "{new}.gif"], ["--out must end in one of .jpg"]),
    "film's file": (["interpolate", "--seeds", "0", "--out", "{new}.avi"], ["--out must end in one of .mp4"]),
    "concurrency": (["generate", "--seeds", "0", "--concurrency", "0", "--out", "{new}"], ["'--concurrency'"]),
    "timeout": (["status", "--timeout", "0"], ["'--timeout'"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(case, served, tmp_path):
    arguments, fragments = REFUSED[case]
    refused(query(*(text.format(new=tmp_path / "new") for text in arguments)), *fragments)
    assert not list(tmp_path.iterdir())


def test_a_url_that_is_none():
    refused(query("status", "--url", "localhost"), "--url must be grpc://HOST:PORT or http://HOST:PORT", "localhost")


def test_the_token_comes_from_a_file_or_the_environment_and_is_never_shown(served, tmp_path, monkeypatch):
    file = tmp_path / "token"
    file.write_text("of-the-file\n")
    assert query("status").code == 0 and served.token is None
    assert query("status", "--token-file", file).code == 0 and served.token == "of-the-file"
    monkeypatch.setenv("SALON_TOKEN", "of-the-environment")
    assert query("status").code == 0 and served.token == "of-the-environment"
    assert query("status", "--token-file", file).code == 0 and served.token == "of-the-file"
    assert "of-the-environment" not in query("status", "--help").out
    for content, words in (("", "--token-file"), ("two words", "must hold one token"), ("caf\u00e9", "must hold one")):
        file.write_text(content)
        outcome = query("status", "--token-file", file)
        refused(outcome, words)
        assert not content or content not in outcome.err
    refused(query("status", "--token-file", tmp_path / "nowhere"), "--token-file must be a file with a token")
    monkeypatch.setenv("SALON_TOKEN", "two words")
    refused(query("status"), "SALON_TOKEN must hold one token")


def test_a_version_is_asked_for_by_its_number(served, tmp_path):
    served.earlier = {name: {1: metadata} for name, metadata in served.models.items()}
    served.version = 2
    for version in (1, 2):
        out = tmp_path / str(version)
        outcome = query("generate", "--seeds", "3", "--out", out, "--model-version", version, "--json")
        assert outcome.code == 0 and outcome.json["version"] == version, outcome.err
        assert served.asked_versions == {version}
        served.asked_versions.clear()
    wrong = query("generate", "--seeds", "3", "--out", tmp_path / "3", "--model-version", 3)
    refused(wrong, "--model-version must be one of 1, 2, which are served of generator; got 3")
