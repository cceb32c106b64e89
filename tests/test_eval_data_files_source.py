"""Folders and ZIPs of images: what is read, as `salon prepare` reads it, and what is left out and told."""

import io
import os
import pickle
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conftest import run_salon
from PIL import Image

from curation.prepare.find_images import find
from curation.prepare.resize import ImageSettings, prepare
from eval.compare import read_entry
from eval.data.files_source import FilesSource
from eval.data.image_sources import DatasetSource, open_source
from eval.evaluate import REPORT, evaluate
from gan.data.collection import Collection
from gan.data.dataset import ImageDataset
from gan.errors import RequestError
from gan.image_shape import ImageShape

SIDE = 16


def odd_images(folder, side=SIDE):
    """Files of many formats and modes, some without an ending or with a wrong one."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    rgb = Image.fromarray(rng.integers(0, 256, [side, side, 3], np.uint8))
    alpha = Image.fromarray(rng.integers(0, 256, [side, side], np.uint8))
    turned = Image.Exif()
    turned[0x0112] = 6
    files = {
        "grey16.png": (Image.fromarray(rng.integers(0, 65536, [side, side], np.uint16)), "PNG", {}),
        "grey32.tif": (Image.fromarray(rng.integers(0, 65536, [side, side], np.int32)), "TIFF", {}),
        "rgba.png": (Image.merge("RGBA", [*rgb.split(), alpha]), "PNG", {}),
        "la.png": (Image.merge("LA", [rgb.getchannel(0), alpha]), "PNG", {}),
        "turned.jpg": (rgb, "JPEG", {"exif": turned, "quality": 95}),
        "turned.webp": (rgb, "WEBP", {"exif": turned, "lossless": True}),
        "cmyk.jpg": (rgb.convert("CMYK"), "JPEG", {}),
        "palette.gif": (rgb.quantize(16), "GIF", {"transparency": 3}),
        "palette.png": (rgb.quantize(16), "PNG", {"transparency": 3}),
        "bits.png": (rgb.convert("1"), "PNG", {}),
        "plain.bmp": (rgb, "BMP", {}),
        "plain.tiff": (rgb, "TIFF", {}),
        "no_ending": (rgb, "PNG", {}),
        "wrong.jpg": (rgb, "PNG", {}),
    }
    for name, (image, format, options) in files.items():
        image.save(folder / name, format, **options)
    return sorted(files)


def test_each_file_has_the_pixels_that_prepare_gives_it(tmp_path):
    names = odd_images(tmp_path / "odd")
    source = FilesSource(tmp_path / "odd")
    assert source.names == names and source.left_out == {} and source.note() is None
    settings = ImageSettings(
        shape=ImageShape(SIDE, SIDE), fit="stretch", format="png", quality=95, filter="lanczos", background=(255,) * 3,
        max_pixels=10**6,
    )  # fmt: skip
    listing = find([tmp_path / "odd"], tmp_path / "scratch")
    prepared = {file.name: Image.open(io.BytesIO(prepare(file, settings)[0].content)) for file in listing.files}
    for name, pixels in zip(names, source.pixels(0, len(source)), strict=True):
        assert np.array_equal(pixels, np.asarray(prepared[name])), name
    grey = np.asarray(Image.open(tmp_path / "odd" / "grey16.png"))
    assert np.abs(source.read(names.index("grey16.png"))[..., 0] - grey / 257).max() <= 0.5
    formats = {name: source.format(index) for index, name in enumerate(names)}
    assert formats["wrong.jpg"] == formats["no_ending"] == "png" and formats["cmyk.jpg"] == "jpeg"


def test_a_dataset_of_other_makers_has_these_pixels_too(tmp_path):
    odd_images(tmp_path / "odd")
    dataset, source = ImageDataset(tmp_path / "odd"), FilesSource(tmp_path / "odd")
    for index, name in enumerate(dataset.names):
        assert np.array_equal(dataset.image(index), source.read(source.names.index(name))), name


def test_what_systems_leave_behind_is_passed_over(tmp_path):
    names = odd_images(tmp_path / "odd")
    junk = ["__MACOSX/._rgba.png", "._rgba.png", ".DS_Store", "sub/.DS_Store", "Thumbs.db", ".git/x.png", "notes.txt"]
    for name in junk:
        (tmp_path / "odd" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "odd" / name).write_bytes(b"junk")
    with zipfile.ZipFile(tmp_path / "odd.zip", "w") as archive:
        for file in sorted((tmp_path / "odd").rglob("*")):
            archive.write(file, file.relative_to(tmp_path / "odd"))
    folder, archived = FilesSource(tmp_path / "odd"), FilesSource(tmp_path / "odd.zip")
    for source in (folder, archived):
        assert source.names == names and source.left_out == {}
    assert folder.identity == archived.identity


def test_what_is_no_image_is_left_out_and_told(tmp_path):
    names = odd_images(tmp_path / "odd")
    for name in ("a.jpg", "b.jpg", "c", "d.png"):
        (tmp_path / "odd" / name).write_bytes(b"<html>not found</html>")
    (tmp_path / "odd" / "empty.png").write_bytes(b"")
    os.mkfifo(tmp_path / "odd" / "pipe.png")
    source = FilesSource(tmp_path / "odd")
    assert source.names == names
    assert source.left_out == {
        "not an image": ["a.jpg", "b.jpg", "c", "d.png"], "empty": ["empty.png"], "not a regular file": ["pipe.png"]
    }  # fmt: skip
    said = "6 files are left out: empty 1 (empty.png); not a regular file 1 (pipe.png); not an image 4 (a.jpg, b.jpg, "
    assert said + "c, ...)" in source.note()
    some = FilesSource(tmp_path / "odd", len(names), seed=3)  # as many as there are, whichever come first
    assert some.names == names
    with pytest.raises(RequestError, match=f"`num_images` must be at most the {len(names)} images"):
        FilesSource(tmp_path / "odd", len(names) + 1)
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "a.jpg").write_bytes(b"<html>")
    with pytest.raises(RequestError, match=r"holds no images; 1 file is left out: not an image 1 \(a\.jpg\)"):
        FilesSource(tmp_path / "none")


def test_a_damaged_image_is_refused_or_skipped(tmp_path):
    names = odd_images(tmp_path / "odd")
    whole = (tmp_path / "odd" / "no_ending").read_bytes()
    (tmp_path / "odd" / "no_ending").write_bytes(whole[: len(whole) // 2])
    place = names.index("no_ending")
    with pytest.raises(RequestError, match="cannot be read, no_ending: truncated"):
        list(FilesSource(tmp_path / "odd").pixels(0, len(names)))
    source = pickle.loads(pickle.dumps(FilesSource(tmp_path / "odd", skip_damaged=True)))
    assert [n for n, image in enumerate(source.pixels(0, len(names))) if image is None] == [place]
    rest = source.without([place])
    assert rest.names == [name for name in names if name != "no_ending"] and rest.damaged == [place]
    assert rest.left_out == {"truncated": ["no_ending"]} and source.left_out == {}
    assert rest.format(place) == source.format(place + 1) and "truncated 1 (no_ending)" in rest.note()
    assert all(image is not None for image in rest.pixels(0, len(rest)))


def test_threads_decode_at_once_and_leave_pillow_as_it_was(tmp_path):
    odd_images(tmp_path / "odd")
    source, before = FilesSource(tmp_path / "odd"), Image.MAX_IMAGE_PIXELS
    one_by_one = [source.read(index) for index in range(len(source))]
    with ThreadPoolExecutor(8) as pool:
        many = list(pool.map(source.read, list(range(len(source))) * 20))
    assert all(np.array_equal(pixels, one_by_one[n % len(source)]) for n, pixels in enumerate(many))
    assert before == Image.MAX_IMAGE_PIXELS


def test_an_evaluation_skips_tells_and_goes_on(tiny_dataset, lite, tmp_path):
    names = odd_images(tmp_path / "odd")
    (tmp_path / "odd" / "a.jpg").write_bytes(b"<html>")
    damaged = tmp_path / "odd" / "bits.png"
    damaged.write_bytes(damaged.read_bytes()[:60])
    real = DatasetSource(Collection.open(tiny_dataset))

    def evaluation(out):
        return evaluate(open_source(tmp_path / "odd"), real, networks=[(lite, ["kid", "pr"])], out=out).figures

    figures, again = evaluation(tmp_path / "out"), evaluation(tmp_path / "out")
    assert (figures["images_made"], again["images_made"]) == (len(names), 0)
    said = "2 files are left out: not an image 1 (a.jpg); truncated 1 (bits.png)"
    assert said in figures["warnings"][0] and said in (tmp_path / "out" / REPORT).read_text()
    generator = figures["generator"]
    assert generator["images"] == len(names) - 1 and generator["damaged"] == [names.index("bits.png")]
    assert generator["left_out"] == {"not an image": ["a.jpg"], "truncated": ["bits.png"]}
    damaged.unlink()  # the same numbers as without it
    clean = evaluation(tmp_path / "clean")
    for key in ("results", "images"):
        assert again[key] == clean[key]
    a, b = (read_entry(tmp_path / name) for name in ("out", "clean"))
    assert [a.pictures.jpeg(n) for n in range(len(names) - 1)] == [b.pictures.jpeg(n) for n in range(len(names) - 1)]


def test_the_command_says_what_is_left_out(tiny_dataset, tmp_path):
    odd_images(tmp_path / "odd")
    (tmp_path / "odd" / "a.jpg").write_bytes(b"<html>")
    command = ("eval", "run", "--images", tmp_path / "odd", "--data", tiny_dataset, "--metrics", "kid")
    outcome = run_salon(*command, "--extractor", "efficientnet-lite0", "--out", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    assert "1 file is left out: not an image 1 (a.jpg)" in " ".join(outcome.err.split())
