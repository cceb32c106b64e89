"""`salon dataset join`: the manifest of a list of ZIPs, from those of its ZIPs."""

import shutil

import pytest
from conftest import run_salon
from test_curation_prepare_pipeline import fill, image

from gan.data import manifest
from gan.data.collection import Collection


@pytest.fixture
def prepared(tmp_path):
    """A list of two ZIPs that were prepared, one of them with crops, and with a quarantined file each."""
    for number, (stem, options) in enumerate({"sea": (), "land": ("--crops", 2)}.items()):
        names = [f"{label}/{index}.png" for label in "ab" for index in range(2)]
        files = {name: image(10 * number + place, (20, 40)) for place, name in enumerate(names)}
        folder = fill(tmp_path / f"of_{stem}", {**files, "a/broken.png": b""})
        out = ("--out", tmp_path / f"{stem}.zip", "--resolution", 16, "--labels", "folders", "--workers", 1)
        assert run_salon("prepare", folder, *out, *options).code == 0
    path = tmp_path / "all.zips"
    path.write_text("sea.zip\nland.zip\n")
    return path


def test_the_manifest_has_the_rows_of_all_with_their_names_in_the_list(prepared):
    outcome = run_salon("dataset", "join", prepared, "--json")
    assert outcome.code == 0, outcome.err
    collection = Collection.open(prepared)
    joined = collection.require_manifest()
    assert outcome.json["hash"] == joined.hash and joined.path == prepared.with_suffix(".manifest")
    assert outcome.json["fingerprint"] == collection.fingerprint == joined.dataset
    assert outcome.json["zips"] == 2 and outcome.json["images"] == len(collection.dataset) == len(collection.rows)
    expected = []
    for stem in ("land", "sea"):
        part = manifest.read(prepared.with_name(f"{stem}.manifest"))
        assert joined.header["parameters"]["manifests"][f"{stem}.zip"] == part.hash
        for row in part.rows.to_pylist():
            name = row["name"] and f"{stem}/{row['name']}"
            expected.append({**dict.fromkeys(joined.whole().rows.column_names), **row, "name": name})
    assert joined.whole().rows.to_pylist() == expected
    assert outcome.json["rows"] == len(expected) and sum(row["name"] is None for row in expected) == 2
    assert collection.column("label") == collection.dataset.labels.tolist()


def test_curating_and_judging_take_the_list(prepared, tmp_path):
    assert run_salon("dataset", "join", prepared).code == 0
    checked = run_salon("curate", "check", prepared, "--out", tmp_path / "checked.manifest")
    assert checked.code == 0, checked.err
    pruned = tmp_path / "pruned.manifest"
    first, *others = Collection.open(prepared).dataset.names
    (tmp_path / "out.txt").write_text(f"{first}\n")
    drop = ("--drop", tmp_path / "out.txt", "--keep", 1)
    outcome = run_salon("curate", "prune", tmp_path / "checked.manifest", *drop, "--out", pruned)
    assert outcome.code == 0, outcome.err
    out = tmp_path / "one.zip"
    written = run_salon("curate", "materialize", pruned, "--data", prepared, "--out", out)
    assert written.code == 0, written.err
    assert len(Collection.open(out).dataset) == len(Collection.open(prepared, pruned).kept) <= len(others)


def test_what_cannot_be_joined_is_refused(prepared, tmp_path):
    outcome = run_salon("dataset", "join", tmp_path / "sea.zip")
    assert outcome.code == 2 and "sea.zip must be a list of ZIPs" in outcome.err
    shutil.move(tmp_path / "sea.manifest", tmp_path / "elsewhere.manifest")
    outcome = run_salon("dataset", "join", prepared)
    assert outcome.code == 2 and "must name the manifest of" in outcome.err and "sea.zip" in outcome.err
    shutil.move(tmp_path / "elsewhere.manifest", tmp_path / "sea.manifest")
    assert run_salon("dataset", "join", prepared).code == 0
    outcome = run_salon("dataset", "join", prepared)
    assert outcome.code == 2 and "all.manifest must not exist yet" in outcome.err
