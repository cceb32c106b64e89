"""One picture for a generator, fitted as `salon prepare` fits a collection."""

import numpy as np
import pytest
from conftest import run_salon
from PIL import Image

from curation.prepare.picture import read_picture
from gan.data.dataset import ImageDataset
from gan.errors import RequestError
from gan.image_shape import ImageShape

CASES = {
    "square": (ImageShape(16, 16), ("--resolution", "16")),
    "cropped": (ImageShape(24, 16), ("--shape", "24x16")),
    "grey": (ImageShape(16, 16, 1), ("--resolution", "16", "--channels", "grey")),
    "alpha": (ImageShape(16, 16, 4), ("--resolution", "16", "--channels", "rgba")),
    "padded": (ImageShape(16, 16), ("--resolution", "16", "--fit", "pad", "--background", "#204060")),
}


def write(path):
    """A picture with transparent parts that lies on its side, 60x40 pixels when it is turned upright."""
    pixels = np.random.default_rng(0).integers(0, 256, [60, 40, 4], np.uint8)
    pixels[:20, :, 3] = 0
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(path, exif=exif)
    return path


@pytest.mark.parametrize("case", CASES)
def test_a_picture_is_what_the_dataset_would_hold(tmp_path, case):
    shape, options = CASES[case]
    (tmp_path / "source").mkdir()
    file = write(tmp_path / "source" / "a.png")
    dataset = tmp_path / "d.zip"
    outcome = run_salon("prepare", tmp_path / "source", "--out", dataset, "--format", "png", *options)
    assert outcome.code == 0, outcome.err
    picture = read_picture(file, shape, *(("pad", "#204060") if case == "padded" else ()))
    assert np.array_equal(picture.pixels, ImageDataset(dataset).image(0))
    assert (picture.width, picture.height) == (60, 40) and picture.pixels.shape == shape.hwc
    assert len(picture.sha256) == 64


def test_what_is_no_picture_is_refused(tmp_path):
    (tmp_path / "a.jpg").write_text("no picture")
    with pytest.raises(RequestError, match=r"`pictures` must be image files; .*a.jpg .* not an image"):
        read_picture(tmp_path / "a.jpg", ImageShape(16, 16))
    with pytest.raises(RequestError, match=r"b.jpg .* unreadable"):
        read_picture(tmp_path / "b.jpg", ImageShape(16, 16))
    with pytest.raises(RequestError, match="`background` must be a colour"):
        read_picture(write(tmp_path / "c.png"), ImageShape(16, 16), background="beige-ish")
