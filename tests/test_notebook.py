"""The notebook in examples/, run cell by cell in a kernel of Jupyter, with smaller numbers."""

import warnings
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[1] / "examples" / "salon.ipynb"
SMALLER = {  # what the notebook says -> what is run here
    '"paintings"), 300, 96': '"paintings"), 24, 32',
    "outliers=15": "outliers=2",
    "total_kimg=5": 'total_kimg=0.016, overrides=["mapping_layers=2", "channel_max=8", "batch_size=8"], workers=0',
    "steps=200": "steps=2",
    "num_images=500": 'num_images=16, metrics=["kid"]',
    "find_directions(count=3)": "find_directions(count=3, samples=50)",
}


def test_the_notebook_runs_and_shows_pictures(tmp_path, monkeypatch):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") for cell in notebook.cells), "it is kept without outputs"
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for shown, smaller in SMALLER.items():
        assert sum(shown in cell.source for cell in code) == 1, shown
        for cell in code:
            cell.source = cell.source.replace(shown, smaller)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Jupyter's own packages
        nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    pictures = [o for cell in code for o in cell.outputs if "image/png" in o.get("data", {})]
    assert len(pictures) == 4
    said = "".join(o.get("text", "") for cell in code for o in cell.outputs if o.get("name") == "stdout")
    assert "24 of 24 images" in said and "of 24 images are kept" in said and "kd " in said
    assert (tmp_path / "curated.manifest").is_dir() and (tmp_path / "evaluation" / "report.html").is_file()
