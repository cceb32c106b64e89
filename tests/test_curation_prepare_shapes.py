"""Datasets of other shapes than squares, grey and with alpha: how images are fitted, and what a collection proposes."""

import io
import json
import os
import tarfile
import zipfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import HANG, run_salon, until
from PIL import Image
from test_curation_prepare_pipeline import children_of, fill, gone, image, rows, start
from test_curation_prepare_video import film
from test_gan_data_decode import BAD, COLOURS, encoded, exif_bytes, grey16, half_transparent_rgba, palette_with_alpha

from curation.prepare.crops import crop_boxes
from curation.prepare.find_images import find
from curation.prepare.headers import Header, Look, drawn, read_headers
from curation.prepare.image_files import ImageFile
from curation.prepare.pipeline import collect
from curation.prepare.request import PrepareRequest
from curation.prepare.resize import ImageSettings, kept, prepare
from curation.prepare.shapes import bucket_of, cropped_in_buckets, proposals, size_of
from gan.data import manifest
from gan.data.dataset import ImageDataset
from gan.data.decode import decode
from gan.errors import ImageError, RequestError
from gan.image_shape import ImageShape

SHAPES = {"3:2": ImageShape(24, 16), "1:1": ImageShape(16, 16), "4:5": ImageShape(16, 20)}
CHANNELS = {"rgb": 3, "grey": 1, "rgba": 4}
BACKGROUND = (40, 80, 120)


def settings(shape: ImageShape, **options: Any) -> ImageSettings:
    own = {"fit": "crop", "format": "png", "quality": 95, "filter": "box", "background": BACKGROUND}
    return ImageSettings(**{"shape": shape, "max_pixels": 10**8, **own, **options})


def request(source: Path, out: Path | None, **options: Any) -> PrepareRequest:
    own = {"resolution": 16, "filter": "box", "workers": 1, "dry_run": out is None}
    return PrepareRequest(sources=(source,), out=out, **{**own, **options})


def noise(width: int, height: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    """Pixels whose alpha, if they have one, is 0 in some, 255 in others, and half in the rest."""
    pixels = np.random.default_rng(seed).integers(0, 256, [height, width, channels], np.uint8)
    if channels == 4:
        pixels[..., 3] = np.array([0, 128, 255], np.uint8)[pixels[..., 3] // 86]
    return pixels


def png(pixels: np.ndarray) -> bytes:
    return encoded(Image.fromarray(pixels), "PNG")


def photo(width: int, height: int, orientation: int = 1) -> bytes:
    """A JPEG of so many pixels as they are stored; orientation 6 is shown a quarter turned."""
    pixels = noise(width // 4 + 1, height // 4 + 1, seed=width * 1000 + height + orientation)
    picture = Image.fromarray(pixels).resize((width, height))
    return encoded(picture, "JPEG", exif=exif_bytes(orientation))


def blocks(pixels: np.ndarray, shape: ImageShape) -> np.ndarray:
    """The mean of each block of pixels, of a whole number of them a side, alpha weighing colours."""
    height, width, channels = pixels.shape
    side = height // shape.height, width // shape.width
    grid = pixels.astype(float).reshape(shape.height, side[0], shape.width, side[1], channels)
    if channels != 4:
        return grid.mean(axis=(1, 3))
    alpha = grid[..., 3:]
    colour = (grid[..., :3] * alpha).sum(axis=(1, 3)) / np.maximum(alpha.sum(axis=(1, 3)), 1)
    return np.concatenate([colour, alpha.mean(axis=(1, 3))], axis=-1)


def shown(pixels: np.ndarray, channels: int) -> np.ndarray:
    """RGBA as it is kept in so many channels."""
    if channels == 4:
        return pixels
    alpha = pixels[..., 3:] / 255
    rgb = pixels[..., :3] * alpha + np.array(BACKGROUND) * (1 - alpha)
    return rgb if channels == 3 else (rgb @ [0.299, 0.587, 0.114])[..., None]


@pytest.mark.parametrize("fit", ["crop", "stretch", "pad"])
@pytest.mark.parametrize("channels", list(CHANNELS))
@pytest.mark.parametrize("name", list(SHAPES))
def test_every_shape_with_all_channels_and_fits(tmp_path: Path, name: str, channels: str, fit: str) -> None:
    count = CHANNELS[channels]
    shape = ImageShape(*SHAPES[name].size, count)
    pixels = noise(96, 48 if fit == "pad" else 80, 4)
    (tmp_path / "a.png").write_bytes(png(pixels))
    (made,) = prepare(ImageFile("in", "a.png", tmp_path / "a.png"), settings(shape, fit=fit))
    assert made.content and (made.width, made.height, made.mode) == (96, 80 - 32 * (fit == "pad"), "RGBA")
    found = np.asarray(Image.open(io.BytesIO(made.content)), int).reshape(shape.hwc)
    if fit == "crop":
        left, top = {"3:2": (0, 8), "1:1": (8, 0), "4:5": (16, 0)}[name]
        expected = blocks(shown(pixels[top : 80 - top, left : 96 - left], count), shape)
    elif fit == "stretch":
        expected = blocks(shown(pixels, count), shape)
    else:
        inner = ImageShape(shape.width, {"3:2": 12, "1:1": 8, "4:5": 8}[name], count)
        empty = np.zeros([*shape.hwc[:2], 4])  # fully transparent
        expected = shown(empty, count)
        top = (shape.height - inner.height) // 2
        expected[top : top + inner.height] = blocks(shown(pixels, count), inner)
    if count == 4:
        assert np.abs(found[..., 3] - expected[..., 3]).max() < 2
        hidden, faint = found[..., 3] == 0, found[..., 3] < 32  # of which colours are rounded
        assert (found[hidden] == 0).all() and (hidden.any() or fit != "pad")
        found, expected = found[~faint], expected[~faint]
    np.testing.assert_allclose(found, expected, atol=6 if count == 4 else 2)


@pytest.mark.parametrize(
    ("text", "resolution", "size"),
    [
        ("384x256", None, (384, 256)),
        ("256x320", 256, (256, 320)),
        ("3:2", 256, (384, 256)),
        ("6:4", 256, (384, 256)),
        ("4:5", 64, (64, 80)),
        ("1:1", 64, (64, 64)),
        ("4:1", 16, (32, 8)),
    ],
)
def test_a_shape_is_a_size_or_a_ratio(text: str, resolution: int | None, size: tuple[int, int]) -> None:
    assert size_of(text, resolution) == size


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shape": "16:9"}, "`shape` must have a ratio of whole numbers from 2 to 8, .* got 16:9 .* nearest is 7:4"),
        ({"shape": "9:1"}, "the nearest is 4:1"),
        ({"shape": "3:0"}, "`shape` must be auto, a size such as 384x256, or a ratio such as 3:2; got 3:0 instead"),
        ({"shape": "wide"}, "`shape` must be auto, .* got wide instead"),
        ({"shape": "100x60"}, "`shape` must be 2 to 8 times one power of two .* got 100x60 instead"),
        ({"shape": "384x256", "resolution": 64}, "`resolution` must be left out, or 256 for `shape` 384x256; got 64"),
        ({"shape": "3:2", "resolution": None}, "`resolution` must be a power of two from 8 to 1024; got none"),
        ({"shape": "auto", "resolution": 48}, "`resolution` must be a power of two from 8 to 1024; got 48 instead"),
        ({"buckets": True, "shape": "3:2"}, "`shape` must be left out, since each of `buckets` has its own; got 3:2"),
        ({"max_crop": 0.1}, "`max_crop` needs `fit` crop"),
        ({"max_crop": 0.1, "shape": "3:2", "fit": "pad"}, "`max_crop` needs `fit` crop"),
        ({"max_crop": 1.0, "fit": "crop"}, "`max_crop` must be a share from 0 to below 1; got 1.0 instead"),
        ({"channels": "cmyk"}, "`channels` must be auto, rgb, grey, rgba; got cmyk instead"),
        (
            {"channels": "rgba", "format": "jpeg"},
            "`format` must be png or webp, which have alpha, since `channels`",
        ),
    ],
)
def test_requests_that_cannot_be_met(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        request(Path("/nowhere/in"), None, **options)


@pytest.mark.parametrize(
    ("size", "options", "expected"),
    [
        ((300, 200), {}, (300, 200)),
        ((200, 200), {}, (200, 200 / 1.5)),
        ((600, 200), {}, (300, 200)),
        ((600, 200), {"max_crop": 0.25}, (450, 200)),
        ((200, 400), {"max_crop": 0.25}, (200, 300)),
        ((330, 200), {"max_crop": 0.25}, (300, 200)),
        ((600, 200), {"max_crop": 0}, (600, 200)),
        ((600, 200), {"fit": "stretch"}, (600, 200)),
    ],
)
def test_what_cropping_keeps(size: tuple[int, int], options: dict[str, Any], expected: tuple[float, float]) -> None:
    assert kept(*size, settings(ImageShape(24, 16), **options)) == pytest.approx(expected)


def test_the_shape_that_loses_least() -> None:
    best = proposals([(300, 200), (303, 202)])
    assert (best[0].base, best[0].cropped, best[0].stretched) == ((6, 4), 0, 1)
    assert len({Fraction(*one.base) for one in best}) == len(best) == 27
    assert [one.cropped for one in best] == sorted(one.cropped for one in best)
    turned = [(300, 200), (200, 300), (100, 100)]
    first, second, third = proposals(turned)[:3]
    assert (first.base, first.cropped, first.stretched) == ((4, 4), pytest.approx(2 / 9), pytest.approx(4 / 3))
    assert {second.base, third.base} == {(4, 5), (5, 4)} or second.cropped > first.cropped
    portraits = proposals([(2, 3)] * 9 + [(3, 2)])
    assert portraits[0].base == (4, 6)
    wide = next(one for one in portraits if one.base == (6, 4))
    assert wide.cropped == pytest.approx(0.9 * (1 - 4 / 9)) and wide.stretched == pytest.approx(0.9 * 9 / 4 + 0.1)
    assert [(one.base, one.cropped) for one in proposals([])] == [((4, 4), 0)]


def test_what_buckets_would_lose() -> None:
    sizes = [(300, 200)] * 2 + [(200, 300), (100, 100), (110, 100)]
    assert cropped_in_buckets(sizes) == pytest.approx((1 - 100 / 110) / 5)
    assert cropped_in_buckets([]) == 0


def test_buckets_of_sizes() -> None:
    sizes = [(100, 110), (110, 100), (100, 111), (111, 100), (1, 3)]
    assert [bucket_of(*size) for size in sizes] == ["square", "square", "portrait", "landscape", "portrait"]


def test_few_of_many_are_looked_at() -> None:
    assert drawn([]) == [] and drawn([1, 2]) == [1, 2]
    some = drawn(range(10_000))
    assert len(some) == 2000 and some[:3] == [0, 5, 10] and some[-1] == 9995


def headers(source: Path, channels: str = "auto", every: float | None = None) -> dict[str, Header | None]:
    listing = find([source], source.parent / "scratch")
    found = read_headers(listing.files, every=every, max_pixels=10**7, channels=channels, workers=1)
    return dict(zip([file.name for file in listing.files], found, strict=True))


def test_headers_say_what_decoding_finds(tmp_path: Path) -> None:
    files = {f"{number:02d}.img": content for number, (content, _, _) in enumerate(COLOURS.values())}
    files |= {
        "turned.jpg": photo(40, 20, 6),
        "turned.tif": encoded(Image.new("RGB", (40, 20)), "TIFF", exif=exif_bytes(8)),
    }
    found = headers(fill(tmp_path / "in", files))
    for name, content in files.items():
        image, header = decode(content, channels=4), found[name]
        assert header and (header.width, header.height) == (image.width, image.height), name
        transparent = image.image.getchannel("A").getextrema() != (255, 255)
        assert (header.channels == 4) == transparent, name
    assert found["turned.jpg"] == found["turned.tif"] == Header(20, 40, 3)
    with (
        zipfile.ZipFile(tmp_path / "in.zip", "w", zipfile.ZIP_DEFLATED) as archive,
        tarfile.open(tmp_path / "in.tar", "w") as tar,
    ):
        for name in files:
            archive.write(tmp_path / "in" / name, name)
            tar.add(tmp_path / "in" / name, name)
    assert headers(tmp_path / "in.zip") == headers(tmp_path / "in.tar") == found


def test_headers_of_hostile_files_are_none_or_sizes(tmp_path: Path) -> None:
    files = {f"{number:02d}.jpg": content for number, (content, _) in enumerate(BAD.values())}
    for name, header in headers(fill(tmp_path / "in", files), "rgb").items():
        with pytest.raises(ImageError):
            decode(files[name], max_pixels=10**7)
        assert header is None or min(header.width, header.height) > 0


def test_little_of_a_large_file_is_read(tmp_path: Path) -> None:
    content = photo(400, 200)
    (tmp_path / "in").mkdir()
    with open(tmp_path / "in" / "a.jpg", "wb") as file:
        file.write(content)
        file.truncate(10**12)  # more than fits into memory
    assert headers(tmp_path / "in") == {"a.jpg": Header(400, 200, 3)}


ODD = {
    "turned.jpg": (photo(60, 40, 6), 3),
    "grey.jpg": (encoded(Image.fromarray(noise(40, 60, 1)[..., 0]), "JPEG"), 1),
    "grey16.png": (grey16(30_000, "PNG"), 1),
    "alpha.png": (half_transparent_rgba(), 4),
    "palette.png": (palette_with_alpha(), 4),
    "opaque.png": (png(np.concatenate([noise(40, 60), np.full([60, 40, 1], 255, np.uint8)], axis=2)), 3),
    "grey_opaque.png": (encoded(Image.new("LA", (40, 60), (90, 255)), "PNG"), 1),
    "plain.png": (image(1, (40, 60)), 3),
}


@pytest.mark.parametrize(
    ("names", "channels"),
    [
        (["grey.jpg", "grey16.png", "grey_opaque.png"], 1),
        (["grey.jpg", "plain.png", "opaque.png"], 3),
        (["grey.jpg", "turned.jpg", "palette.png"], 4),
        (list(ODD), 4),
    ],
)
def test_channels_that_hold_all_of_a_collection(tmp_path: Path, names: list[str], channels: int) -> None:
    source = fill(tmp_path / "in", {name: ODD[name][0] for name in names})
    assert {name: header and header.channels for name, header in headers(source).items()} == {
        name: ODD[name][1] for name in names
    }
    figures = collect(request(source, tmp_path / "d.zip", shape="2:3", channels="auto", fit="stretch"))
    dataset = ImageDataset(tmp_path / "d.zip")
    assert dataset.shape == ImageShape(16, 24, channels) and figures["channels"] == channels
    assert len(dataset) == len(names)
    assert {Path(name).suffix for name in dataset.names} == {".png" if channels == 4 else ".jpg"}
    modes = {Image.open(io.BytesIO(dataset.read_bytes(name))).mode for name in dataset.names}
    assert modes == {{1: "L", 3: "RGB", 4: "RGBA"}[channels]}
    by_source = {row["source"][3:]: dataset.names.index(row["name"]) for row in rows(tmp_path / "d.zip").values()}
    if "grey16.png" in names:
        grey = dataset.image(by_source["grey16.png"])
        assert np.abs(grey[..., : channels % 4 or 3].astype(int) - round(30_000 / 257)).max() <= 1
    if "alpha.png" in names:
        assert (dataset.image(by_source["alpha.png"]) == (255, 0, 0, 128)).all()


def test_alpha_needs_a_format_that_has_it(tmp_path: Path) -> None:
    source = fill(tmp_path / "in", {"a.png": ODD["palette.png"][0]})
    outcome = run_salon("prepare", source, "--resolution", 16, "--dry-run", "--channels", "auto", "--format", "jpeg")
    assert outcome.code == 2
    assert "--format must be png or webp, which have alpha, since --channels auto finds" in outcome.err
    for format, suffix in (("webp", ".webp"), (None, ".png")):
        collect(request(source, tmp_path / "d.zip", channels="rgba", format=format, overwrite=True))
        dataset = ImageDataset(tmp_path / "d.zip")
        assert Path(dataset.names[0]).suffix == suffix and dataset.shape.channels == 4
        assert (dataset.image(0) == 0).all()  # fully transparent blue


def test_what_cannot_be_seen_makes_no_difference(tmp_path: Path) -> None:
    pixels = noise(16, 16, 4)
    pixels[4:8, 4:8, 3] = 0
    other = pixels.copy()
    other[4:8, 4:8, :3] += 7
    source = fill(tmp_path / "in", {"a.png": png(pixels), "b.png": png(other)})
    figures = collect(request(source, tmp_path / "d.zip", channels="rgba"))
    assert (figures["images"], figures["duplicates"]) == (1, 1)
    hidden = pixels[..., 3] == 0
    assert np.array_equal(ImageDataset(tmp_path / "d.zip").image(0), np.where(hidden[..., None], 0, pixels))


def test_auto_proposes_by_upright_sizes_and_counts_what_is_lost(tmp_path: Path) -> None:
    files = {f"{number}.jpg": photo(60 + number, 40, 6) for number in range(3)}
    files |= {"long.jpg": photo(40, 160), "broken.jpg": b"\xff\xd8\xff", "square.jpg": photo(60, 60)}
    source, out = fill(tmp_path / "in", files), tmp_path / "d.zip"
    outcome = run_salon("prepare", source, "--shape", "auto", "--resolution", 16, "--dry-run", "--workers", 1, "--json")
    assert outcome.code == 0, outcome.err
    proposed = outcome.json
    assert not out.exists() and (proposed["width"], proposed["height"]) == (16, 24)
    look = proposed["look"]
    assert (look["looked_at"], look["of"], len(look["shapes"])) == (5, 6, 3)
    assert look["shapes"][0]["shape"] == "16x24" and look["kinds"] == {"grey": 0, "RGB": 5, "RGBA": 0}
    expected = [1 - 60 / 60, 1 - 60 / 61, 1 - 60 / 62, 1 - 60 / 160, 1 - 40 / 60]
    assert look["shapes"][0]["cropped"] == pytest.approx(np.mean(expected), abs=1e-4)
    assert look["cropped_in_buckets"] == pytest.approx(np.mean([*expected[:4], 0]), abs=1e-4)
    text = run_salon("prepare", source, "--shape", "auto", "--resolution", 16, "--out", out, "--workers", 1)
    assert "The images become 16x24, by the headers of 5 of 6 files" in text.err
    assert "With --buckets, each of its own shape, 13.5%\n" in text.out
    assert "16x24    " in text.out and "Beyond 1.5:1" not in text.out
    figures = json.loads(out.with_suffix(".report.json").read_text())
    # A quarter of a side at most is cropped; of 160 pixels 120 are left, which are twice as long as they should be.
    mean = pytest.approx((2 / 62 + 1 / 4 + 1 / 4) / 3, abs=1e-3)
    assert figures["cropped"] == {"images": 3, "mean": mean, "largest": 0.25}
    assert figures["stretched"] == {"images": 2, "mean": pytest.approx((2 + 45 / 40) / 2, abs=1e-3), "largest": 2.0}
    assert figures["padded"] == {"images": 0, "mean": None, "largest": None}
    assert "To 16x24: 3 cropped, by 17.7% of a side on average, 25.0% at most; 2 stretched, 1.56 times" in text.out
    assert figures["parameters"]["size"] == [16, 24] and figures["parameters"]["max_crop"] == 0.25
    assert ImageDataset(out).shape == ImageShape(16, 24)
    padded = collect(request(source, None, shape="4:6", fit="pad"))
    assert padded["padded"]["images"] == 3 and padded["cropped"]["images"] == padded["stretched"]["images"] == 0
    assert padded["padded"]["largest"] == pytest.approx(1 - 60 / 160, abs=1e-4)


def test_crop_asked_for_has_no_limit_but_its_own(tmp_path: Path) -> None:
    source = fill(tmp_path / "in", {"long.jpg": photo(160, 40)})
    free = collect(request(source, None, shape="3:2", fit="crop"))
    assert free["cropped"]["largest"] == pytest.approx(1 - 60 / 160, abs=1e-4) and free["stretched"]["images"] == 0
    bound = collect(request(source, None, shape="3:2", max_crop=0.5))
    assert (bound["cropped"]["largest"], bound["stretched"]["largest"]) == (0.5, pytest.approx(80 / 60, abs=1e-4))
    assert collect(request(source, None, fit="crop", max_crop=0.5))["stretched"]["largest"] == 2


def test_nothing_to_look_at_is_told_as_ever(tmp_path: Path) -> None:
    source = fill(tmp_path / "in", {"a.jpg": b"text"})
    for options in ({"shape": "auto"}, {"buckets": True}):
        with pytest.raises(RequestError, match="got none: not an image 1"):
            collect(request(source, None, **options))
    with pytest.raises(RequestError, match="got none: no files at all"):
        collect(request(fill(tmp_path / "void", {".x": b""}), None, buckets=True))


def test_frames_of_videos_are_looked_at(tmp_path: Path) -> None:
    frames = [noise(48, 32)] * 30
    source = fill(tmp_path / "in", {"film.mkv": film(frames, "mkv")})
    options = {"channels": "auto", "video_every": 1.0, "keep_duplicates": True}
    figures = collect(request(source, tmp_path / "d.zip", shape="auto", **options))
    assert (figures["images"], figures["look"]["kinds"]["RGB"]) == (3, 1)
    assert ImageDataset(tmp_path / "d.zip").shape == ImageShape(24, 16)
    collect(request(source, tmp_path / "e.zip", shape="3:2", channels="rgba", video_every=1.0))
    assert (ImageDataset(tmp_path / "e.zip").image(0)[..., 3] == 255).all()


def test_buckets(tmp_path: Path) -> None:
    files = {f"a/{number}.jpg": photo(60, 90 + number) for number in range(3)}
    files |= {f"b/{number}.jpg": photo(90 + number, 60, 1) for number in range(2)} | {"b/turned.jpg": photo(64, 100, 8)}
    source = fill(tmp_path / "in", files | {"broken.jpg": b"\xff\xd8\xff", "c/loose.jpg": photo(50, 50)})
    labels = tmp_path / "labels.csv"
    labels.write_text("".join(f"{name},{name[0]}\n" for name in files) + "broken.jpg,b\n")
    out = tmp_path / "d.zip"
    arguments = ("prepare", source, "--buckets", "--resolution", 16, "--labels", labels, "--workers", 1)
    outcome = run_salon(*arguments, "--out", out)
    assert outcome.code == 0, outcome.err
    assert "Portrait: 16x24\n5 images" not in outcome.out and "Portrait: 16x24\n3 images kept of 5 found" in outcome.out
    assert "Landscape: 24x16\n3 images kept of 3 found" in outcome.out
    assert outcome.out.endswith("Square: no images, and nothing was written\n")
    assert not out.exists() and not (tmp_path / "d.square.zip").exists()
    found = {}
    for bucket, shape in (("portrait", ImageShape(16, 24)), ("landscape", ImageShape(24, 16))):
        archive = tmp_path / f"d.{bucket}.zip"
        dataset = ImageDataset(archive)
        assert dataset.shape == shape and dataset.classes == ["a", "b"]
        assert json.loads(archive.with_suffix(".report.json").read_text())["images"] == len(dataset) == 3
        assert manifest.read(archive.with_suffix(".manifest")).dataset == dataset.fingerprint()
        found |= {name: (bucket, row["verdict"]) for name, row in rows(archive).items()}
    # Turned it is a landscape; what cannot be read or has no label is in the largest bucket, of equals the first.
    assert found["in/b/turned.jpg"] == ("landscape", "keep")
    assert found["in/broken.jpg"] == ("portrait", "quarantine") and found["in/c/loose.jpg"] == ("portrait", "drop")
    assert len(found) == len(files) + 2
    with pytest.raises(RequestError, match=r"`out` would replace .*d\.portrait\.zip; choose another, or add"):
        request(source, out, buckets=True)
    again = run_salon(*arguments, "--out", out, "--overwrite", "--json")
    assert [again.json["buckets"][name]["found"] for name in ("portrait", "landscape")] == [5, 3]  # none of its own
    assert again.json["buckets"]["square"] is None
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_bucket_that_cannot_be_made_costs_the_others_nothing(tmp_path: Path) -> None:
    files = {"a.png": image(1, (40, 60)), "b.png": image(2, (60, 40))[:200]}  # the header is whole
    source = fill(tmp_path / "in", files | {"c.png": image(3, (40, 60))})
    outcome = run_salon("prepare", source, "--buckets", "--resolution", 16, "--out", tmp_path / "d.zip", "--workers", 1)
    assert outcome.code == 0 and "No dataset of landscape images is made: " in outcome.err
    assert "truncated 1" in outcome.err or "corrupt 1" in outcome.err
    assert "Landscape: no images, and nothing was written" in outcome.out
    assert len(ImageDataset(tmp_path / "d.portrait.zip")) == 2 and not (tmp_path / "d.landscape.zip").exists()


def test_a_kill_between_buckets_loses_nothing_that_is_done(tmp_path: Path) -> None:
    source = fill(tmp_path / "in", {"a.png": image(1, (80, 120)), "copies/0000.png": image(2, (900, 600))})
    for number in range(1, 400):  # far from done when it is killed
        os.link(source / "copies/0000.png", source / f"copies/{number:04d}.png")
    out = tmp_path / "out/d.zip"
    with start(source, out, "--buckets") as process:
        begun = tmp_path / f"out/.d.landscape.zip.rows.{process.pid}.partial"
        until(begun.exists, process)
        below = children_of(process.pid)
        process.kill()
        process.communicate(timeout=HANG)
    until(lambda: gone(below))
    portrait = tmp_path / "out/d.portrait.zip"
    whole = portrait.read_bytes()
    assert manifest.read(portrait.with_suffix(".manifest")).dataset == ImageDataset(portrait).fingerprint()
    assert not (tmp_path / "out/d.landscape.zip").exists()
    for number in range(3, 400):
        (source / f"copies/{number:04d}.png").unlink()
    again = run_salon(*("prepare", source, "--out", out, "--resolution", 64, "--buckets", "--overwrite"))
    assert again.code == 0 and portrait.read_bytes() == whole
    assert len(rows(tmp_path / "out/d.landscape.zip")) == 3
    assert not [path for path in out.parent.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_jpeg_has_the_pixels_that_its_crop_needs(tmp_path: Path, orientation: int) -> None:
    row = np.repeat(np.tile(np.array([64, 192], np.uint8), 16), 4)  # that an eighth of the size would make grey
    picture = Image.fromarray(np.tile(row, (512, 1)))
    if orientation == 6:
        picture = picture.transpose(Image.Transpose.ROTATE_90)
    content = encoded(picture, "JPEG", quality=98, exif=exif_bytes(orientation))
    (tmp_path / "a.jpg").write_bytes(content)
    (made,) = prepare(ImageFile("in", "a.jpg", tmp_path / "a.jpg"), settings(ImageShape(32, 8, 1)))
    assert made.content and (made.width, made.height) == (128, 512)
    found = np.asarray(Image.open(io.BytesIO(made.content)), int)
    np.testing.assert_allclose(found, np.tile(row[::4].astype(int), (8, 1)), atol=6)


@pytest.mark.parametrize(
    ("size", "boxes"),
    [
        ((400, 100), [(0, 0, 150, 100), (250, 0, 150, 100)]),
        ((150, 250), [(0, 0, 150, 100), (0, 150, 150, 100)]),
        ((47, 31), []),
        ((48, 31), [(0, 7, 24, 16), (24, 7, 24, 16)]),
    ],
)
def test_where_crops_of_a_shape_lie(size: tuple[int, int], boxes: list[tuple[int, int, int, int]]) -> None:
    assert crop_boxes(*size, 2, (24, 16)) == boxes


def test_crops_have_the_shape(tmp_path: Path) -> None:
    pixels = noise(96, 128)
    source, out = fill(tmp_path / "in", {"a.png": png(pixels), "small.png": image(5, (30, 20))}), tmp_path / "d.zip"
    figures = collect(request(source, out, shape="3:2", crops=4, format="png"))
    assert (figures["images"], figures["crops"]) == (5, 4)
    dataset, found = ImageDataset(out), rows(out)
    assert dataset.shape == ImageShape(24, 16)
    covered = np.zeros([128, 96], int)
    for number in (1, 2, 3, 4):
        row = found[f"in/a.png#crop{number}"]
        assert "crop_side" not in row
        left, top, width, height = (row[f"crop_{name}"] for name in ("left", "top", "width", "height"))
        assert (width, height) == (48, 32)
        covered[top : top + height, left : left + width] += 1
        expected = blocks(pixels[top : top + height, left : left + width], dataset.shape)
        np.testing.assert_allclose(dataset.image(dataset.names.index(row["name"])), expected, atol=1)
    assert covered.max() == 1 and found["in/small.png"]["crop_width"] is None


def test_look_needs_no_file() -> None:
    assert Look([], 0).channels == 3 and Look([], 0).proposals[0].base == (4, 4)
