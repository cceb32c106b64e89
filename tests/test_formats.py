"""Files that earlier versions wrote are still read, and files of a format to come are refused by name."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from conftest import run_salon
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from eval.compare import read_entry
from gan import snapshot
from gan.data import manifest
from gan.data.dataset import ImageDataset
from gan.errors import RequestError
from gan.image_shape import ImageShape
from gan.sampling import generate
from gan.training import checkpoint
from serving import contract
from serving.export import model_config, onnx_file

FIXTURES = Path(__file__).parent / "fixtures"
VERSIONS = sorted(folder.parent for folder in FIXTURES.glob("*/snapshot.safetensors"))


@pytest.fixture(params=VERSIONS, ids=[folder.name for folder in VERSIONS])
def old(request):
    """The folder of what one version wrote; see tests/fixtures/make.py."""
    return request.param


def test_there_are_files_of_every_kind_and_they_are_small():
    assert VERSIONS[0].name == "0.1.0"
    assert sum(file.stat().st_size for file in FIXTURES.rglob("*") if file.is_file()) < 300_000


def test_dataset(old):
    dataset = ImageDataset(old / "dataset.zip")
    assert len(dataset) == 8 and dataset.shape.width == 8 and dataset.classes == ["day", "night"]
    assert dataset.labels.tolist() == [0, 1] * 4


def test_manifest(old):
    found = manifest.read(old / "manifest")
    assert found.dataset == ImageDataset(old / "dataset.zip").fingerprint()
    assert len(found.rows) == 8 and len(found.kept()) == 7
    assert found.header["seed"] == 7 and found.header["reasons"] == {"duplicate": 1}


def test_snapshot_paints_what_it_painted(old):
    found = snapshot.load(old / "snapshot.safetensors")
    assert found.cur_nimg == 1000 and found.classes == ["day", "night"] and found.D is not None
    (picture,) = generate.generate(found.G_ema, [5], [1])
    expected = np.asarray(Image.open(old / "seed5.png"), np.int64)
    assert expected.std() > 5 and np.abs(picture - expected).max() <= 2  # levels, of another torch or processor


def test_checkpoint_is_trained_on(old, tmp_path):
    state = checkpoint.load(old / "checkpoint.pt")
    network = state["config"]["network"]
    fields = [f"{name}={network[name]}" for name in ("z_dim", "w_dim", "mapping_layers", "channel_base", "channel_max")]
    command = ["train", "--data", old / "dataset.zip", "--resume", old / "checkpoint.pt", "--out", tmp_path]
    command += ["--preset", "tiny", "--device", "cpu", "--conditional", "--workers", 0, "--total-kimg", 0.012]
    outcome = run_salon(*command, *(w for f in (*fields, "batch_size=4") for w in ("--set", f)), "--json")
    assert outcome.code == 0, outcome.err
    assert "Starting from the given weights at 0.0 kimg" in outcome.err and outcome.json["kimg"] == 0.012


def test_results(old):
    found = read_entry(old / "results.json")
    assert found.images == 8 and found.kimg == 1
    assert found.results["kd"].estimate.value == pytest.approx(0.4359, abs=1e-4)


def test_descriptions_of_models(old):
    for kind in contract.KINDS:
        about = model_config.read_about(old / f"{kind}.pbtxt")
        assert about.kind == kind and about.generator == "generator" and about.resolution == 8
        assert about.classes == ["day", "night"] and contract.inputs(about) and contract.outputs(about)
        assert about.shape == ImageShape(8, 8, 3)
        written = (old / f"{kind}.pbtxt").read_text(encoding="utf-8").replace(r"\"", '"')
        assert f'"{about.to_json()}"' in written  # of square RGB images: byte for byte what it was


def test_style_classifier(old):
    about = onnx_file.read_about(old / "style.onnx")
    assert about.styles == ["red", "green", "blue"] and about.card == {"accuracy": 0.9}
    pixels = np.zeros([2, 30, 20, 3], np.uint8)
    pixels[:, :, :, 1] = 255
    (probabilities,) = onnx_file.open_session(old / "style.onnx").run(None, {"image": pixels})
    assert probabilities.shape == (2, 3) and (probabilities.argmax(axis=1) == 1).all()


def test_what_a_format_to_come_is_answered(old, tmp_path):
    tensors = load_file(old / "snapshot.safetensors")
    with safe_open(old / "snapshot.safetensors", framework="pt") as file:
        metadata = file.metadata() | {"format": "salon-snapshot-2"}
    save_file(tensors, tmp_path / "snapshot.safetensors", metadata)
    torch.save(checkpoint.load(old / "checkpoint.pt") | {"format": "salon-checkpoint-2"}, tmp_path / "checkpoint.pt")
    shutil.copytree(old / "manifest", tmp_path / "manifest")
    replace(tmp_path / "manifest" / "manifest.json", '"schema_version": 2', '"schema_version": 3')
    shutil.copy(old / "results.json", tmp_path)
    replace(tmp_path / "results.json", "salon-evaluation-1", "salon-evaluation-2")
    shutil.copy(old / "generator.pbtxt", tmp_path)
    replace(tmp_path / "generator.pbtxt", "salon-serving-1", "salon-serving-2")
    model = onnx.load(old / "style.onnx")
    model.metadata_props[0].value = json.dumps({"format": "salon-serving-2", "kind": "style_classifier", "mood": 1})
    onnx.save(model, tmp_path / "style.onnx")
    for read, name, fragments in (
        (snapshot.load, "snapshot.safetensors", ["salon-snapshot-1; got salon-snapshot-2", "another version of Salon"]),
        (checkpoint.load, "checkpoint.pt", ["salon-checkpoint-1; got salon-checkpoint-2", "another version of Salon"]),
        (manifest.read, "manifest", ["schema version 1 or 2; got 3"]),
        (read_entry, "results.json", ["salon-evaluation-1; got salon-evaluation-2", "another version of Salon"]),
        (onnx_file.read_about, "style.onnx", ["salon-serving-1; got salon-serving-2"]),
    ):
        with pytest.raises(RequestError) as refused:
            read(tmp_path / name)
        assert all(fragment in str(refused.value) for fragment in (str(tmp_path / name), *fragments))
        assert "\n" not in str(refused.value)
    with pytest.raises(ValueError, match="salon-serving-1; got salon-serving-2 instead"):
        model_config.read_about(tmp_path / "generator.pbtxt")


def replace(path: Path, text: str, by: str) -> None:
    content = path.read_text(encoding="utf-8")
    assert text in content
    path.write_text(content.replace(text, by), encoding="utf-8")
