"""Copies of paintings, changed as people change them, and paintings that only look alike."""

import io

import numpy as np
import pytest
from PIL import Image, ImageFilter, ImageOps

from curation.score import alignment, copies, duplicates, image_checks
from curation.score.alignment import aligned, details, oriented
from gan.data.synthetic_scenes import painting

NOTHING = np.empty([0, 2], np.int64)


@pytest.fixture(scope="module")
def paintings():
    return [painting("landscape", "impressionism", seed, 256).resize((256, 256)) for seed in range(8)]


def jpeg(image):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=20)
    return Image.open(buffer).convert("RGB")


def frame(image):
    carved = np.random.default_rng(0).normal(0, 10, [330, 330, 1])
    pixels = (np.array([150, 110, 40]) + carved).clip(0, 255).astype(np.uint8)
    pixels[8:-8, 8:-8] //= 2
    pixels[22:-22, 22:-22] = 235  # a mat
    pixels[37:-37, 37:-37] = np.asarray(image)
    return Image.fromarray(pixels)


CHANGES = {
    "JPEG": jpeg,
    "grey": lambda image: image.convert("L").convert("RGB"),
    "blurred": lambda image: image.filter(ImageFilter.GaussianBlur(4)),
    "thumbnail": lambda image: image.resize((40, 40)),
    "bordered": lambda image: ImageOps.expand(image, (10, 30, 40, 20), (250, 250, 250)),
    "framed": frame,
    **{f"turned {way.name}": lambda image, way=way: image.transpose(way) for way in Image.Transpose},
}


def pixels(images):
    return [np.asarray(image.convert("RGB").resize((128, 128))) for image in images]


def found(images, alike=NOTHING, first_new=0, same=None):
    views = copies.collected([copies.views(image) for image in images])
    return copies.find(views, np.asarray(alike), lambda place: images[place], first_new, same).tolist()


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_found_and_nothing_else(change, paintings):
    images = pixels([*paintings, *(CHANGES[change](image) for image in paintings[:3])])
    assert sorted(found(images)) == [[0, 8], [1, 9], [2, 10]]


def test_a_crop_is_found_among_what_is_alike(paintings):
    cropped = paintings[2].crop((20, 5, 240, 225))
    images = pixels([*paintings, cropped, ImageOps.mirror(cropped)])
    pairs = [[place, copy] for copy in (8, 9) for place in range(8)]  # all features are alike
    assert duplicates.groups(np.array(found(images, pairs)), 10).tolist() == [-1, -1, 2, *[-1] * 5, 2, 2]
    assert found(images, [[place, 8] for place in (0, 1, 3)]) == [[8, 9]]  # not of a painting that is only alike


def test_the_correlation_of_a_crop_is_that_of_brute_force():
    rng = np.random.default_rng(1)
    whole = rng.normal(size=[64, 64]).astype(np.float32)
    crop = np.asarray(Image.fromarray(whole[9:59, 3:53]).resize((64, 64), Image.Resampling.BILINEAR))
    expected = -1.0
    for side in range(alignment.SMALLEST, 65):
        scaled = np.asarray(Image.fromarray(crop).resize((side, side), Image.Resampling.BILINEAR))[2:-2, 2:-2]
        n = len(scaled)
        for top in range(64 - n + 1):
            for left in range(64 - n + 1):
                place = whole[top : top + n, left : left + n].ravel()
                expected = max(expected, np.corrcoef(place, scaled.ravel())[0, 1])
    assert alignment._best_crop(whole, crop) == pytest.approx(expected, abs=1e-4)
    assert aligned(whole, crop) == aligned(crop, whole) >= expected - 1e-4 > 0.5


def test_orientations_are_eight_and_plain_images_align_with_nothing():
    image = np.arange(9.0).reshape(3, 3)
    ways = [oriented(image, orientation) for orientation in range(8)]
    assert len({way.tobytes() for way in ways}) == 8
    assert (ways[1] == np.fliplr(image)).all() and (ways[2] == np.flipud(image)).all() and (ways[4] == image.T).all()
    plain = details(np.full([64, 64, 3], 200, np.uint8))
    assert abs(aligned(plain, plain)) < 0.1


def test_one_bit_is_enough_where_the_details_do_not_speak_against_it(monkeypatch, paintings):
    images = pixels([paintings[0], paintings[0].filter(ImageFilter.GaussianBlur(4))])
    for bits, least, pairs in ((1, 0.6, [[0, 1]]), (1, 0.4, []), (2, 0.6, [])):
        monkeypatch.setattr(duplicates, "closest", lambda *_, b=bits: (np.array([0]), np.array([b])))
        monkeypatch.setattr(duplicates, "near_hashes", lambda *_, **__: np.array([[0, 1]]))
        monkeypatch.setattr(copies, "aligned", lambda *_, value=least: value)
        assert found(images) == pairs


def test_other_pictures_in_like_borders_are_no_copies(paintings):
    borders = [(96, 96), (0, 0), (0, 0)]
    images = [np.pad(image[32:112], borders, constant_values=255) for image in pixels(paintings[:3])]
    images.append(np.pad(np.flip(pixels(paintings[:1])[0][32:112], 1), borders, constant_values=255))
    pairs = [[a, b] for b in range(4) for a in range(b)]
    assert found(images, pairs) == [[0, 3]]


def test_of_two_bordered_pictures_the_insides_are_compared_and_no_bit_is_enough(paintings):
    images = pixels(paintings[:3])
    bordered = [np.pad(image, [(30, 30), (0, 0), (0, 0)], constant_values=255) for image in images[:2]]
    known = copies.collected([copies.views(image) for image in [*bordered, images[2]]])
    assert known.image.tolist() == [0, 0, 1, 1, 2]
    assert copies._within_borders(known, (0, 2, (0, 1), 1)) == (1, 3, (0, 1), duplicates.RADIUS)
    for candidate in ((0, 4, (0,), 1), (1, 2, (0,), 1), (1, 3, (0,), 1)):  # a border about one of them, or about none
        assert copies._within_borders(known, candidate) == candidate


def test_only_pairs_with_a_new_image_are_looked_for(paintings):
    images = pixels([paintings[0], paintings[0].convert("L"), paintings[1], paintings[1].rotate(90)])
    assert found(images) == [[0, 1], [2, 3]]
    assert found(images, [[0, 1]], first_new=2) == [[2, 3]]
    assert found(images, same=np.array([[0, 1]])) == [[2, 3]]  # these need not be looked at


def test_a_view_shows_its_share_of_an_image(paintings):
    (image,) = pixels(paintings[:1])
    whole, inner = copies.views(np.pad(image, [(32, 32), (32, 32), (0, 0)], constant_values=255))
    assert copies.area(whole, 192**2) == 1 and copies.area(inner, 192**2) == pytest.approx((128 / 192) ** 2, rel=0.1)
    assert len(copies.views(image)) == 1


def test_what_lies_inside_of_a_border(paintings):
    (image,) = pixels(paintings[:1])
    assert image_checks.inside(image) is None and image_checks.inside(image[:40, :40]) is None
    bordered = np.pad(image, [(16, 0), (8, 24), (0, 0)], constant_values=255)
    left, top, right, bottom = image_checks.inside(bordered)
    assert 16 <= top <= 20 and 8 <= left <= 12 and 132 <= right <= 136 and bottom == 144
    assert image_checks.inside(np.full([128, 128, 3], 255, np.uint8)) is None
    assert image_checks.inside(np.pad(image, [(250, 250), (250, 250), (0, 0)])) is None  # too little would be left
    long = np.pad(image[40:90], [(40, 54), (0, 0), (0, 0)], constant_values=255)  # a third of the square
    left, top, right, bottom = image_checks.inside(long)
    assert 40 <= top <= 44 and 86 <= bottom <= 90 and (left, right) == (0, 128)
