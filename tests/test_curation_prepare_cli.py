"""`salon prepare` and `salon dataset info` as a person types them."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from test_curation_prepare_pipeline import fill, image, rows
from test_curation_prepare_wikiart import write_lists

from curation.prepare.cli import dataset, prepare
from gan.data import decode
from gan.data.dataset import ImageDataset
from gan.errors import RequestError


def run(*arguments: object, command: object = prepare) -> Result:
    result = CliRunner().invoke(command, [str(argument) for argument in arguments])  # type: ignore[arg-type]
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def paintings(tmp_path: Path) -> Path:
    files = {
        "Impressionism/claude-monet_lilies.jpg": image(1, (40, 20)),
        "Impressionism/same-name.jpg": image(2),
        "other/same-name.jpg": image(3),
        "other/joaquín-sorolla_beach.jpg": image(4),
        "other/unknown.jpg": image(5),
        "other/broken.jpg": b"",
        "Post_Impressionism/van-gogh_[untitled], o'keeffe.jpg": image(6),
        "notes.txt": b"ignored",
    }
    return fill(tmp_path / "paintings", files)


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    return write_lists(tmp_path / "lists")


def test_prepare_and_look(tmp_path: Path, paintings: Path) -> None:
    out = tmp_path / "d.zip"
    text = run(paintings, "--out", out, "--resolution", 16, "--labels", "folders", "--workers", 1).output
    assert "6 images kept of 7 found: 0 duplicates, 0 without a label, 1 quarantined; 1 other files ignored" in text
    assert "empty: 1 (paintings/other/broken.jpg)" in text
    assert "Beyond 1.5:1 in either direction: 1 (16.7%), stretched to a square" in text
    assert f"Wrote {out}" in text
    described = run("info", out, "--montage", tmp_path / "sheet.png", command=dataset).output
    assert "jpeg files   6, " in described
    assert "keep 6, quarantine 1" in described and "of another dataset" not in described
    assert (tmp_path / "sheet.png").exists()


def test_json_is_one_object_on_standard_output(tmp_path: Path, paintings: Path) -> None:
    command = [sys.executable, "-m", "gan", "prepare", str(paintings), "--out", str(tmp_path / "d.zip"), "--json"]
    root = Path(__file__).parent.parent
    done = subprocess.run([*command, "--resolution", "16"], cwd=root, capture_output=True, check=True, text=True)
    figures = json.loads(done.stdout)
    assert figures == json.loads((tmp_path / "d.report.json").read_text())
    assert (figures["images"], figures["quarantined"]) == (6, {"empty": 1})
    assert figures["fingerprint"] == ImageDataset(tmp_path / "d.zip").fingerprint()
    info = json.loads(run("info", tmp_path / "d.zip", "--json", command=dataset).stdout)
    assert info["fingerprint"] == figures["fingerprint"]
    assert info["manifest"]["verdicts"] == {"keep": 6, "quarantine": 1} and info["manifest"]["fits"]
    assert info["formats"]["jpeg"]["files"] == 6 and info["classes"] is None


def test_lists_go_into_the_manifest(tmp_path: Path, paintings: Path, lists: Path) -> None:
    arguments = ("--resolution", 16, "--wikiart-csv", lists, "--json")
    figures = json.loads(run(paintings, "--out", tmp_path / "d.zip", *arguments).stdout)
    assert figures["images"] == 6  # without a selection, images in no list stay
    expected = {
        "found": 4,
        "found_by_name_only": 1,
        "found_loosely": 1,
        "ambiguous": 1,
        "not_in_lists": 2,
        "not_selected": 0,
    }
    assert figures["wikiart"] == expected | {"conflicts_in_lists": 1}
    found = rows(tmp_path / "d.zip")
    lilies = found["paintings/Impressionism/claude-monet_lilies.jpg"]
    assert (lilies["style"], lilies["genre"], lilies["artist"]) == ("Impressionism", "landscape", "Claude_Monet")
    assert found["paintings/other/joaquín-sorolla_beach.jpg"]["style"] == "Impressionism"
    assert found["paintings/other/unknown.jpg"]["style"] is None


def test_selection_with_labels(tmp_path: Path, paintings: Path, lists: Path) -> None:
    arguments = ("--resolution", 16, "--wikiart-csv", lists, "--style", "impressionism", "--labels", "genre", "--json")
    figures = json.loads(run(paintings, "--out", tmp_path / "d.zip", *arguments).stdout)
    assert (figures["images"], figures["found"], figures["unlabelled"]) == (2, 3, 1)
    assert figures["wikiart"]["not_selected"] == 1
    assert figures["labels"] == {"landscape": 2}
    assert ImageDataset(tmp_path / "d.zip").classes == ["landscape"]


def test_unflagged_zip_is_matched(tmp_path: Path, lists: Path) -> None:
    name = "Impressionism/joaquã\xadn-sorolla_beach.jpg".encode()
    with zipfile.ZipFile(tmp_path / "w.zip", "w") as archive:
        archive.writestr("x" * len(name), image(1))
    content = (tmp_path / "w.zip").read_bytes()
    (tmp_path / "w.zip").write_bytes(content.replace(b"x" * len(name), name))
    arguments = ("--resolution", 16, "--dry-run", "--wikiart-csv", lists, "--style", "impressionism", "--json")
    figures = json.loads(run(tmp_path / "w.zip", *arguments).stdout)
    assert (figures["images"], figures["wikiart"]["found_by_name_only"]) == (1, 0)


def test_table_of_the_lists(lists: Path) -> None:
    text = run("--wikiart-csv", lists, "--style", "Impressionism", "--dry-run").output
    lines = [line.split() for line in text.splitlines()]
    assert lines[:4] == [["genre", "images"], ["landscape", "2"], ["(none)", "1"], ["all", "3"]]
    assert "1 images have no genre in the lists" in text
    assert "Impressionism/claude-monet_lilies.jpg is landscape and still_life in the genre lists" in text
    figures = json.loads(run("--wikiart-csv", lists, "--style", "Impressionism", "--dry-run", "--json").stdout)
    assert (figures["images"], figures["genres"], figures["without_genre"]) == (3, {"landscape": 2, "(none)": 1}, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--resolution", "16"], "SOURCE must be a folder, a ZIP, a tar or a Parquet file of images; got none"),
        (["IN", "--resolution", "16"], "--out must name the dataset to write"),
        (["IN", "--out", "OUT"], "--resolution must be a power of two from 8 to 1024; got none"),
        (["IN", "--out", "OUT", "--resolution", "100"], "power of two from 8 to 1024; got 100 instead"),
        (["IN", "--out", "OUT", "--resolution", "4"], "power of two from 8 to 1024; got 4 instead"),
        (["IN", "--out", "OUT", "--resolution", "2048"], "power of two from 8 to 1024; got 2048 instead"),
        (["IN", "--out", "OUT", "--resolution", "0"], "power of two from 8 to 1024; got 0 instead"),
        (["IN", "--out", "OUT", "--resolution", "-8"], "power of two from 8 to 1024; got -8 instead"),
        (["IN", "--dry-run"], "--resolution must be a power of two"),
        (["IN", "--out", "OUT", "--resolution", "16", "--background", "bluish"], "--background must be a colour"),
        (["IN", "--out", "OUT", "--resolution", "16", "--style", "Cubism"], "--style needs the WikiArt lists"),
        (["IN", "--out", "OUT", "--resolution", "16", "--labels", "genre"], "--labels genre needs the WikiArt lists"),
        (["IN", "--out", "OUT", "--resolution", "16", "--labels", "no.csv"], "--labels must be dataset, none, folders"),
        (["IN", "--out", "OUT", "--resolution", "16", "--wikiart-csv", "no"], "--wikiart-csv must be the folder"),
        (
            ["no", "--out", "OUT", "--resolution", "16"],
            "SOURCE must be a folder, a ZIP, a tar or a Parquet file of images; got no instead",
        ),
        (["IN", "--out", "x.tar", "--resolution", "16"], r"--out must end in \.zip; got x\.tar instead"),
        (["--wikiart-csv", "LISTS", "--dry-run", "--artist", "Monet"], "--artist must be .* did you mean Claude_Monet"),
    ],
)
def test_requests_that_cannot_be_met(
    tmp_path: Path, paintings: Path, lists: Path, arguments: list[str], message: str
) -> None:
    places = {"IN": str(paintings), "OUT": str(tmp_path / "d.zip"), "LISTS": str(lists)}
    with pytest.raises(RequestError, match=message):
        run(*[places.get(argument, argument) for argument in arguments])
    assert not (tmp_path / "d.zip").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,label\n", "must hold rows of name and label; it holds none"),
        ("", "it holds none"),
        ("a.jpg\n", "line 1 of .* must hold a name and a label"),
        ("name,label\na.jpg,\n", "line 2 of .* must hold a name and a label"),
        ("a.jpg,-1\n", "must hold a class from 0 on; got -1 instead"),
        ("a.jpg,1\na.jpg,2\n", "line 2 of .* labels a.jpg again"),
        (b"a.jpg,caf\xe9\n", "must be a CSV file in UTF-8"),
    ],
)
def test_labels_files_that_cannot_be_used(tmp_path: Path, paintings: Path, text: str | bytes, message: str) -> None:
    (tmp_path / "l.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(RequestError, match=message):
        run(paintings, "--dry-run", "--resolution", 16, "--labels", tmp_path / "l.csv")


def test_errors_are_one_line_and_exit_code_2(tmp_path: Path, paintings: Path) -> None:
    command = [sys.executable, "-m", "gan", "prepare", str(paintings), "--out", str(tmp_path / "d.zip")]
    done = subprocess.run(command, cwd=Path(__file__).parent.parent, capture_output=True, check=False, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "Error: --resolution must be a power of two from 8 to 1024; got none\n"


def test_montage_shows_at_most_64_and_is_not_overwritten(tmp_path: Path) -> None:
    source = fill(tmp_path / "in", {f"{number:03d}.png": image(number, (8, 8)) for number in range(70)})
    run(source, "--out", tmp_path / "d.zip", "--resolution", 8, "--format", "png")
    sheet = tmp_path / "sheet.png"
    run("info", tmp_path / "d.zip", "--montage", sheet, command=dataset)
    found = decode.decode(sheet).image
    assert found.size == (8 * 10 - 2, 8 * 10 - 2)
    first, last = (np.asarray(decode.decode(image(number, (8, 8))).image) for number in (0, 69))
    assert np.array_equal(np.asarray(found)[:8, :8], first)
    assert np.array_equal(np.asarray(found)[-8:, -8:], last)
    with pytest.raises(RequestError, match="--montage would replace"):
        run("info", tmp_path / "d.zip", "--montage", sheet, command=dataset)
    run("info", tmp_path / "d.zip", "--montage", sheet, "--overwrite", command=dataset)
    with pytest.raises(RequestError, match="--montage must end in one of"):
        run("info", tmp_path / "absent.zip", "--montage", tmp_path / "sheet.tiff", command=dataset)


def test_info_reads_each_image_once_to_hash_it(tmp_path: Path, paintings: Path, monkeypatch) -> None:
    run(paintings, "--out", tmp_path / "d.zip", "--resolution", 16, "--workers", 1)
    first, *others = ImageDataset(tmp_path / "d.zip").names
    original, read = ImageDataset.file_bytes, []
    monkeypatch.setattr(
        ImageDataset, "file_bytes", lambda self, index: read.append(self.names[index]) or original(self, index)
    )
    run("info", tmp_path / "d.zip", "--montage", tmp_path / "grid.png", command=dataset)
    # Once more for the grid; the first one was opened for its size too.
    assert {name: read.count(name) for name in (first, *others)} == {first: 3, **dict.fromkeys(others, 2)}


def test_info_of_a_folder_and_of_another_manifest(tmp_path: Path, paintings: Path) -> None:
    run(paintings, "--out", tmp_path / "d.zip", "--resolution", 16, "--labels", "folders")
    with zipfile.ZipFile(tmp_path / "d.zip") as archive:
        archive.extractall(tmp_path / "folder")
    figures = json.loads(run("info", tmp_path / "folder", "--json", command=dataset).stdout)
    assert figures["classes"] == {"Impressionism": 2, "Post_Impressionism": 1, "other": 3}
    assert figures["manifest"] is None
    assert figures["fingerprint"] == ImageDataset(tmp_path / "d.zip").fingerprint()
    run(paintings, "--out", tmp_path / "e.zip", "--resolution", 8)
    (tmp_path / "e.zip").replace(tmp_path / "d.zip")
    assert "(of another dataset)" in run("info", tmp_path / "d.zip", command=dataset).output


def test_default_of_max_pixels_is_the_decoder_s() -> None:
    (option,) = [parameter for parameter in prepare.params if parameter.name == "max_pixels"]
    assert option.default == decode.MAX_PIXELS


@pytest.mark.parametrize("arguments", [["prepare"], ["dataset"], ["dataset", "info"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys; from gan.__main__ import main\n"
        f"try: main({[*arguments, '--help']!r})\n"
        "finally: print(sorted({'torch', 'PIL', 'numpy', 'pyarrow'} & set(sys.modules)))"
    )
    root = Path(__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, check=True, text=True)
    assert "Usage: salon" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


data = Path(os.environ.get("SALON_TEST_DATA", "/nonexistent")) / "data"


@pytest.mark.skipif(not data.is_dir(), reason="SALON_TEST_DATA does not name a folder of real images")
def test_real_images_are_found_in_the_real_lists() -> None:
    arguments = ("--wikiart-csv", data / "wikiart_csv", "--style", "Impressionism", "--artist", "Claude Monet")
    figures = json.loads(run(data / "wikiart_styles8", *arguments, "--resolution", 8, "--dry-run", "--json").stdout)
    assert figures["wikiart"]["found"] + figures["wikiart"]["ambiguous"] == 688
    assert 0 < figures["images"] < 60
    assert figures["images"] + figures["wikiart"]["not_selected"] == figures["wikiart"]["found"]
