"""Landscapes made by rule."""

import numpy as np
import pytest
from conftest import full_disk
from PIL import Image

from gan.errors import RequestError, SalonError
from gan.synthetic import landscape, write_landscapes


def test_a_landscape_depends_on_its_seed_alone():
    first, again, other = (np.asarray(landscape(seed, 48)) for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("size", [16, 33, 96])
def test_landscapes_are_rgb_of_the_size_and_of_several_shapes(size):
    shapes = set()
    for seed in range(12):
        picture = landscape(seed, size)
        assert picture.mode == "RGB" and picture.width == size
        assert np.asarray(picture).std() > 5  # something is on it
        shapes.add(picture.height)
    assert len(shapes) > 1 and size in shapes and max(shapes) <= size


def test_the_longer_side_is_what_was_asked_for(tmp_path):
    write_landscapes(tmp_path, 4, 40, 0)
    for file in tmp_path.iterdir():
        with Image.open(file) as picture:
            assert max(picture.size) == 40 and picture.format == "JPEG"


def test_pictures_that_are_there_are_left(tmp_path):
    folder = tmp_path / "new" / "paintings"
    assert write_landscapes(folder, 3, 16, 0) == 3
    files = sorted(folder.iterdir())
    assert len(files) == 3 and len({file.read_bytes() for file in files}) == 3
    files[1].write_text("mine")
    assert write_landscapes(folder, 5, 16, 0) == 2
    assert files[1].read_text() == "mine" and len(list(folder.iterdir())) == 5


def test_seeds_make_different_collections_that_fit_in_one_folder(tmp_path):
    write_landscapes(tmp_path, 3, 16, 0)
    write_landscapes(tmp_path, 3, 16, 1)
    files = list(tmp_path.iterdir())
    assert len(files) == 6 and len({file.read_bytes() for file in files}) == 6


def test_the_same_command_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_landscapes(tmp_path / name, 3, 16, 7)
    contents = [[file.read_bytes() for file in sorted((tmp_path / name).iterdir())] for name in ("a", "b")]
    assert contents[0] == contents[1]


def test_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").write_text("no folder")
    for folder in (tmp_path / "file", tmp_path / "file" / "inside"):
        with pytest.raises(RequestError, match="could not be written"):
            write_landscapes(folder, 1, 16, 0)
    with full_disk(100), pytest.raises(SalonError, match="GB are free"):
        write_landscapes(tmp_path / "paintings", 1, 16, 0)
    assert not list((tmp_path / "paintings").iterdir())
