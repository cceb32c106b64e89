"""Arrays of images as guided-diffusion writes them: the same numbers as the files of the same images."""

import numpy as np
import pytest

from eval.data.array_source import ArraySource
from eval.data.image_sources import open_source
from gan.errors import RequestError


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, [7, 6, 5, 3], np.uint8)


def test_images_come_in_their_order_from_any_kind_of_file(images, tmp_path):
    np.savez(tmp_path / "plain.npz", images, np.arange(7))  # with labels, as for a generator of classes
    np.savez_compressed(tmp_path / "small.npz", images)
    np.savez(tmp_path / "fortran.npz", np.asfortranarray(images))
    np.save(tmp_path / "array.npy", images)
    for name in ("plain.npz", "small.npz", "fortran.npz", "array.npy"):
        source = open_source(tmp_path / name)
        assert isinstance(source, ArraySource) and len(source) == 7
        assert np.array_equal(list(source.pixels(0, 4)) + list(source.pixels(4, 7)), images), name
    assert isinstance(ArraySource(tmp_path / "plain.npz")._images, np.memmap)  # an array may be larger than memory
    assert source.format(0) == "array" and source.label(0) is None


def test_a_part_is_drawn_from_all(images, tmp_path):
    np.savez(tmp_path / "samples.npz", images)
    some, all_images = ArraySource(tmp_path / "samples.npz", 3, seed=1), ArraySource(tmp_path / "samples.npz", 7)
    assert len(some) == 3 and some.identity != all_images.identity
    assert some.identity != ArraySource(tmp_path / "samples.npz", 3, seed=2).identity
    assert all(any(np.array_equal(image, other) for other in images) for image in some.pixels(0, 3))
    with pytest.raises(RequestError, match="at most the 7 images"):
        ArraySource(tmp_path / "samples.npz", 8)


@pytest.mark.parametrize("array", [
    np.zeros([2, 3, 4, 4], np.uint8), np.zeros([2, 4, 4, 3], np.float32), np.zeros([0, 4, 4, 3], np.uint8),
    np.array([object()]),
])  # fmt: skip
def test_other_arrays_are_refused(array, tmp_path):
    np.savez(tmp_path / "samples.npz", array)
    with pytest.raises(RequestError, match="must"):
        open_source(tmp_path / "samples.npz")


def test_other_files_are_refused(images, tmp_path):
    np.savez(tmp_path / "named.npz", samples=images)
    with pytest.raises(RequestError, match="as arr_0; it has no such array"):
        open_source(tmp_path / "named.npz")
    for name in ("text.npz", "text.npy"):
        (tmp_path / name).write_text("no array")
        with pytest.raises(RequestError, match="must be an array of images"):
            open_source(tmp_path / name)
