"""Directions of a generator in a model repository, with a real server: exported, kept with their version, asked for."""

import json
import shutil

import numpy as np
import pytest
from conftest import run_salon
from made_directions import made_directions, saved
from test_cli import refused

from gan import snapshot
from gan.errors import RequestError
from gan.runtime.files import sha256
from gan.sampling import generate
from gan.sampling.directions import Directions
from serving.client.client import Client
from serving.contract import DIRECTIONS_FILE, MAX_DIRECTIONS
from serving.export import family

MODELS = ("--models", "generator,mapping,synthesis", "--max-batch", 4)
SEEDS = [3, 7, 5]
AMOUNTS = {"age": 2.0, "pose": -1.5}


@pytest.fixture(scope="module")
def source(tiny_run):
    return snapshot.find(tiny_run)


@pytest.fixture(scope="module")
def directions_file(tmp_path_factory, source):
    return saved(tmp_path_factory.mktemp("directions") / "directions.npz", sha256(source.path))


def export(out, run, *arguments):
    return run_salon("export", "--snapshot", run, "--out", out, *arguments, "--json")


@pytest.fixture(scope="module")
def repository(made_once, tiny_run, conditional_snapshot, directions_file, tmp_path_factory):
    """The generator with directions, and another, "times", without. Not to be changed."""

    def make(folder):
        outcome = export(folder / "models", tiny_run, *MODELS, "--directions", directions_file)
        assert outcome.code == 0, outcome.err
        outcome = export(folder / "models", conditional_snapshot, *MODELS, "--name", "times")
        assert outcome.code == 0 and outcome.json["directions"] is None, outcome.err

    path = tmp_path_factory.mktemp("with-directions") / "models"
    shutil.copytree(made_once("models-with-directions", make) / "models", path, symlinks=True)
    return path


@pytest.fixture(scope="module")
def url(repository, installed_triton):
    from serving.server.server import serve

    with serve(repository, server=installed_triton) as running:
        yield running


def edited(source, amounts, psi=0.7):
    """The images that the generator makes of edited ws, [3, H, W, C]."""
    ws = generate.map_seeds(source.G_ema, SEEDS, truncation_psi=psi)
    directions = made_directions(None)
    moved = type(ws)(directions.edit(ws.numpy(), amounts))
    return np.stack(list(generate.synthesize(source.G_ema, moved)))


@pytest.mark.parametrize("protocol", ["grpc_url", "http_url"])
def test_a_client_has_the_directions_that_were_exported(url, protocol, directions_file):
    with Client(getattr(url, protocol)) as client:
        assert client.directions_file() == directions_file.read_bytes()
        served, own = client.directions(), Directions.open(directions_file, 6, 8)
        assert list(served.entries) == ["age", "pose", "sky"] and served.snapshot == client.about("mapping").snapshot
        for name in own.entries:
            assert np.array_equal(served[name].vector, own[name].vector) and served[name].sigma == own[name].sigma
        assert client.about("mapping").directions == sha256(directions_file)
    with Client(getattr(url, protocol), model="times") as client:
        assert client.directions() is None and client.directions_file() is None
        with pytest.raises(RequestError, match="serves times without directions: export it with"):
            client.edit([1], {"age": 1}, label=0)


def test_edited_images_are_those_of_edited_ws(url, source):
    with Client(url.grpc_url) as client:
        assert np.abs(np.stack(list(client.generate(SEEDS, 0.7))).astype(int) - edited(source, {})).max() <= 2
        images = np.stack(list(client.edit(SEEDS, AMOUNTS, 0.7))).astype(int)
        assert np.abs(images - edited(source, AMOUNTS)).max() <= 2
        assert np.abs(images - edited(source, {})).max() > 10  # it moved
        still = np.stack(list(client.edit(SEEDS, {"age": 0.0}, 0.7))).astype(int)
        assert np.abs(still - edited(source, {})).max() <= 2
        others = made_directions(None, seed=1)
        assert np.abs(np.stack(list(client.edit(SEEDS, AMOUNTS, 0.7, directions=others))) - images).max() > 10
        with pytest.raises(RequestError, match="`direction` must be one of age, pose, sky; got hair instead"):
            client.edit(SEEDS, {"hair": 1.0})


def test_each_version_keeps_its_own(tmp_path, repository, tiny_run, source, directions_file, triton):
    models, many = tmp_path / "models", tmp_path / "many.npz"
    shutil.copytree(repository, models)
    for name in ("times", "times_mapping", "times_synthesis"):  # they are not asked here
        shutil.rmtree(models / name)
    digest = sha256(source.path)
    saved(many, digest, names=[f"number-{n:04d}" for n in range(1300)], seed=2)
    assert MAX_DIRECTIONS * 0.7 < many.stat().st_size <= MAX_DIRECTIONS
    assert len(export(models, tiny_run, *MODELS, "--directions", many).json["directions"]) == 1300
    assert run_salon("export", "--rollback", 1, "--out", models).code == 0
    file = models / "mapping" / "4" / DIRECTIONS_FILE
    assert file.read_bytes() == directions_file.read_bytes()
    family.check(models)
    server = triton(models)
    for url in (server.grpc_url, server.http_url):
        with Client(url) as client, Client(url, model_version=3) as before:
            assert client.about("mapping").version == 4 and list(client.directions().entries) == ["age", "pose", "sky"]
            assert len(before.directions().entries) == 1300 and before.directions_file() == many.read_bytes()
            list(before.edit([1], {"number-0007": 1.0}))
    file.unlink()  # not written over: other versions are links to the same file
    saved(file, digest, seed=3)
    with pytest.raises(RequestError, match=r"directions\.npz is not what was exported"):
        family.check(models)


def test_a_generator_without_directions_is_described_as_ever(repository):
    records = {name: family.read_record(repository / f"{name}.json") for name in ("generator.1", "times.2")}
    assert "directions" in records["generator.1"]["models"]["mapping"]["metadata"]
    assert f"mapping/1/{DIRECTIONS_FILE}" in records["generator.1"]["files"]
    assert "directions" not in json.dumps(records["times.2"])


def test_export_refuses_directions_of_another_generator(tmp_path, tiny_run, source):
    def refusal(file, *fragments, models=MODELS):
        refused(export(tmp_path / "models", tiny_run, *models, "--directions", file), *fragments)
        assert not (tmp_path / "models").exists()

    digest = sha256(source.path)
    refusal(tmp_path / "absent.npz", "--directions must be a file of directions", "absent.npz does not exist")
    other = saved(tmp_path / "other.npz", "ab" * 32)
    refusal(other, f"--directions must be of this snapshot, {digest[:12]}", "is of abababababab instead")
    shape = saved(tmp_path / "shape.npz", digest, num_ws=4)
    refusal(shape, "--directions must be of this generator, of 6 layers and w of 8", "is of 4 and 8 instead")
    shutil.copyfile(source.path, tmp_path / "no.npz")
    refusal(tmp_path / "no.npz", "--directions must be a file of directions, .npz as Salon writes it")
    large = saved(tmp_path / "large.npz", digest, names=[f"d{n}" for n in range(3000)])
    refusal(large, "--directions must be a file of at most 256 KiB", "keep fewer of them")
    good = saved(tmp_path / "good.npz", digest)
    refusal(good, "--directions needs mapping among --models", models=("--models", "generator"))
