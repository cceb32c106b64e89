"""The README and the page on Salon in Python: their code runs, one block after the other, on a tiny run."""

from pathlib import Path

import numpy as np
import pytest
from conftest import write_dataset
from fake_transport import FakeTransport
from test_readme import DOCS, README, blocks

import gan
from gan.data import manifest
from gan.data.dataset import ImageDataset

PAGE = DOCS / "guide" / "python.md"
SMALLER = {  # what the page says -> what is run here
    "total_kimg=40": "total_kimg=0.008, workers=0",
    'preset="tiny"': 'preset="tiny", overrides=("mapping_layers=2", "channel_max=8", "batch_size=8")',
    "num_images=500": "num_images=20",
    "budget=4, count=8": "budget=2, count=4, burn_in=16",
}


@pytest.fixture
def folder(tmp_path, tiny_run, monkeypatch):
    """What the page presumes: a dataset, a manifest that keeps 24 of its 30 images, and a folder with a run."""
    dataset = ImageDataset(write_dataset(tmp_path / "paintings64.zip", [(16, 16)] * 30))
    rows = [
        {"name": name, "verdict": "keep" if index < 24 else "drop", "reason": "" if index < 24 else "score"}
        for index, name in enumerate(dataset.names)
    ]
    manifest.write(tmp_path / "pruned.manifest", rows, dataset=dataset.fingerprint(), parent=None)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "paintings64-tiny").symlink_to(tiny_run)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_blocks_of_the_page_run_in_order(folder, monkeypatch):
    monkeypatch.setattr("serving.client.client.connect", lambda url, token: FakeTransport(url))
    code = "\n".join([*blocks(README, "python"), *blocks(PAGE, "python")])
    for shown, smaller in SMALLER.items():
        assert code.count(shown) == 1, shown
        code = code.replace(shown, smaller)
    names: dict = {}
    exec(compile(code, str(PAGE), "exec"), names)
    assert len(names["images"]) == 16 and names["images"][0].shape == (16, 16, 3)
    assert names["img"].shape == (1, 3, 16, 16) and (folder / "grid.png").stat().st_size
    assert len(names["collection"].kept) == 24 and names["reasons"].count("score") == 6
    assert names["summary"]["kimg"] == 0.008 and Path(names["summary"]["snapshot"]).is_file()
    assert names["evaluation"].results[0].id == "fd"
    assert (folder / "evaluation-from-python" / "report.html").is_file()
    assert len(names["accepted"]) == len(set(names["seeds"])) == 4 and max(names["seeds"]) < 8
    assert len(names["served"]) == 16 and names["served"][0].dtype == np.uint8
    assert names["probabilities"].shape == (16, 3)


def test_what_gan_gives_by_itself_is_in_the_reference_of_python():
    page = (DOCS / "reference" / "python.md").read_text(encoding="utf-8")
    modules = {getattr(gan, name).__module__ for name in gan.__all__}
    assert len(modules) > 5 and not [name for name in modules if f"::: {name}\n" not in page]
