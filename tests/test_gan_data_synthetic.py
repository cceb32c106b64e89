"""Paintings made by rule: each depends on its seed alone, styles and genres differ, and the list tells the truth."""

import csv
import re

import numpy as np
import pytest
from conftest import full_disk, run_salon
from PIL import Image

from gan.data.synthetic_scenes import GENRES, LIST, painting, write_paintings
from gan.data.synthetic_styles import OUTLIERS, STYLES
from gan.errors import RequestError, SalonError

EVERY = [(genre, style) for genre in GENRES for style in STYLES]


def write(folder, count, size=16, seed=0, genres=("landscape",), styles=("impressionism",), outliers=0):
    return write_paintings(folder, count, size, seed, genres, styles, outliers)


def files(folder):
    return sorted(folder.rglob("*.jpg"))


@pytest.mark.parametrize("genre, style", EVERY)
def test_a_painting_depends_on_its_seed_alone(genre, style):
    first, again, other = (np.asarray(painting(genre, style, seed, 48)) for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert first.shape != other.shape or not np.array_equal(first, other)


@pytest.mark.parametrize("size", [16, 33, 96])
@pytest.mark.parametrize("genre", GENRES)
def test_paintings_are_rgb_of_the_size_and_of_several_shapes(genre, size):
    shapes = set()
    for seed in range(12):
        image = painting(genre, "impressionism", seed, size)
        assert image.mode == "RGB" and max(image.size) == size
        assert np.asarray(image).std() > 5  # something is on it
        shapes.add(image.size)
    assert len(shapes) > 1 and (size, size) in shapes


def test_one_scene_looks_different_in_each_style():
    looks = [np.asarray(painting("still_life", style, 5, 64)).astype(float) for style in STYLES]
    for index, look in enumerate(looks):
        assert all(np.abs(look - other).mean() > 5 for other in looks[:index])


def test_the_longer_side_is_what_was_asked_for(tmp_path):
    write(tmp_path, 4, size=40)
    for file in files(tmp_path):
        with Image.open(file) as image:
            assert max(image.size) == 40 and image.format == "JPEG"


def test_pictures_that_are_there_are_left(tmp_path):
    folder = tmp_path / "new" / "paintings"
    assert write(folder, 3) == 3
    there = files(folder)
    assert len(there) == 3 and len({file.read_bytes() for file in there}) == 3
    there[1].write_text("mine")
    assert write(folder, 5) == 2
    assert there[1].read_text() == "mine" and len(files(folder)) == 5


@pytest.mark.parametrize("name", ["photo.jpg", "deep/er/photo.PNG", "impressionism/landscape-at-dusk.jpg"])
def test_no_pictures_are_put_among_others(name, tmp_path):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_bytes(b"mine")
    outcome = run_salon("synthetic", tmp_path, "--count", 1)
    assert outcome.code == 2 and f"{tmp_path} holds {name}: choose another" in outcome.err
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == [tmp_path / name]


def test_seeds_make_different_collections_that_fit_in_one_folder(tmp_path):
    write(tmp_path, 3, seed=0)
    write(tmp_path, 3, seed=1)
    assert len(files(tmp_path)) == 6 and len({file.read_bytes() for file in files(tmp_path)}) == 6


def test_the_same_command_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        write(tmp_path / name, 12, seed=7, genres=list(GENRES), styles=list(STYLES), outliers=2)
    contents = [[file.read_bytes() for file in sorted((tmp_path / name).rglob("*.*"))] for name in ("a", "b")]
    assert len(contents[0]) == 13 and contents[0] == contents[1]


def test_the_list_tells_style_genre_and_outliers(tmp_path):
    count = 40
    write(tmp_path, count, genres=list(GENRES), styles=list(STYLES), outliers=5)
    with open(tmp_path / LIST, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == [row["name"] for row in rows if (tmp_path / row["name"]).exists()]
    assert {(row["genre"], row["style"]) for row in rows} == set(EVERY)
    assert all(row["name"].startswith(f"{row['style']}/{row['genre']}-") for row in rows)
    planted = [row for row in rows if row["outlier"]]
    assert [row["outlier"] for row in planted] == list(OUTLIERS)
    for number, row in enumerate(rows):
        with Image.open(tmp_path / row["name"]) as written:
            if row["outlier"]:
                drawn = OUTLIERS[row["outlier"]](np.random.default_rng(number), 16)
            else:
                drawn = painting(row["genre"], row["style"], number, 16)
            assert written.size == drawn.size


@pytest.mark.parametrize("kind", OUTLIERS)
def test_outliers_are_pictures_of_the_size(kind):
    image = OUTLIERS[kind](np.random.default_rng(0), 64)
    assert image.mode == "RGB" and max(image.size) == 64 and np.asarray(image).std() > 5


def test_wrong_names_and_numbers_are_refused(tmp_path):
    for option, value, said in (
        (
            "--genres",
            "landscape,seascape",
            "--genres must be a list of landscape, .*; got 'seascape' instead",
        ),
        ("--size", 100_000_000, "'--size': 100000000 is not in the range 16<=x<=4096"),
        ("--styles", "", "--styles must be a list of impressionism, .*; got '' instead"),
        ("--outliers", 4, "--outliers must be at most --count, 3; got 4 instead"),
    ):
        outcome = run_salon("synthetic", tmp_path / "new", "--count", 3, option, value)
        assert outcome.code == 2
        assert re.search(said, outcome.err)
    assert not (tmp_path / "new").exists()


def test_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").write_text("no folder")
    for folder in (tmp_path / "file", tmp_path / "file" / "inside"):
        with pytest.raises(RequestError, match="could not be written"):
            write(folder, 1)
    with full_disk(100), pytest.raises(SalonError, match="GB are free"):
        write(tmp_path / "paintings", 1)
    assert not files(tmp_path / "paintings")
