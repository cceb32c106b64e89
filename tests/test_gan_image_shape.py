"""Shapes of images, and the bases of networks that generate them."""

from fractions import Fraction

import pytest

from gan.errors import RequestError
from gan.image_shape import ImageShape, base_of, base_of_ratio, bases


@pytest.mark.parametrize(
    ("size", "base", "resolution"),
    [
        *(((side, side), (4, 4), side) for side in (8, 64, 256, 1024)),  # as StyleGAN2 has them
        ((384, 256), (6, 4), 256),
        ((256, 320), (4, 5), 256),
        ((96, 96), (3, 3), 128),  # nearer to 16 cells than 6x6
        ((128, 64), (8, 4), 64),  # 4x2 is as near: the larger
        ((2048, 512), (8, 2), 1024),
    ],
)
def test_width_and_height_are_a_base_times_a_power_of_two(size, base, resolution):
    assert base_of(*size) == (base, resolution)
    assert (base[0] * resolution // 4, base[1] * resolution // 4) == size


@pytest.mark.parametrize("size", [(9, 6), (100, 64), (2, 2), (4096, 4096), (0, 8), (64, 576)])
def test_other_sizes_have_no_base(size):
    with pytest.raises(RequestError, match=rf"`shape` must be 2 to 8 times one power of two.* got {size[0]}x{size[1]}"):
        base_of(*size)


def test_ratios_have_bases_of_about_sixteen_cells():
    assert base_of_ratio(Fraction(3, 2)) == (6, 4) and base_of_ratio(Fraction(1)) == (4, 4)
    assert base_of_ratio(Fraction(4, 3)) == (4, 3) and base_of_ratio(Fraction(7, 8)) == (7, 8)
    found = list(bases())
    assert (4, 4) in found and all(8 <= across * down <= 32 for across, down in found)
    ratios = [across / down for across, down in found]
    assert ratios == sorted(set(ratios)) and (ratios[0], ratios[-1]) == (1 / 4, 4)
    assert all(base_of(across * 64, down * 64)[0] == (across, down) for across, down in found)
    with pytest.raises(RequestError, match=r"a ratio of whole numbers from 2 to 8, such as 3:2 or 4:5; got 16:9"):
        base_of_ratio(Fraction(16, 9))


def test_a_shape_names_what_is_not_rgb():
    shape = ImageShape(384, 256, 4)
    assert (str(shape), str(ImageShape(64, 64)), str(ImageShape(8, 16, 1))) == ("384x256 RGBA", "64x64", "8x16 grey")
    assert (shape.mode, shape.area, shape.nbytes) == ("RGBA", 384 * 256, 384 * 256 * 4)
    assert (shape.size, shape.chw, shape.hwc) == ((384, 256), (4, 256, 384), (256, 384, 4))
    with pytest.raises(RequestError, match="`channels` must be 1"):
        ImageShape(8, 8, 2)
