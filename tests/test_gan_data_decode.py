"""Decoding: odd images come out with the right colours the right way up, hostile ones with the right reason."""

import io
import os
import socket
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, PngImagePlugin

from gan.data.decode import decode, read_file
from gan.errors import ImageError

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def solid(mode: str, colour: object, size: tuple[int, int] = (16, 12)) -> Image.Image:
    return Image.new(mode, size, colour)


def raw_png(width: int, height: int, depth: int, colour_type: int, rows: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of kinds that Pillow does not write."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    parts = [
        chunk(b"IHDR", header),
        *(chunk(*c) for c in chunks),
        chunk(b"IDAT", zlib.compress(rows)),
        chunk(b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def textured(size: tuple[int, int] = (96, 64)) -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    return Image.fromarray(noise)


def ycck_jpeg(cmyk: tuple[int, int, int, int]) -> bytes:
    """A JPEG as Photoshop writes them: YCCK, inverted, marked by Adobe's transform 2."""
    ycc = solid("RGB", cmyk[:3]).convert("YCbCr").split()
    # Pillow inverts what it writes as CMYK; libjpeg, reading YCCK, turns Y, Cb, Cr to RGB and inverts that.
    planes = [Image.eval(plane, lambda v: 255 - v) for plane in ycc] + [solid("L", cmyk[3])]
    content = bytearray(encoded(Image.merge("CMYK", planes), "JPEG", quality=100, subsampling=0))
    at = content.index(b"Adobe") + 11
    assert content[at] == 0
    content[at] = 2
    return bytes(content)


def swapped_profile() -> bytes:
    """An RGB profile in which red means green and green means red."""
    content = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    table = content[:500].replace(b"rXYZ", b"????").replace(b"gXYZ", b"rXYZ").replace(b"????", b"gXYZ")
    return table + content[500:]


def linear_grey_profile() -> bytes:
    white = b"XYZ \0\0\0\0" + struct.pack(">iii", 63190, 65536, 54061)
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, 0x0100) + b"\0\0"  # gamma 1.0
    first = 128 + 4 + 2 * 12
    table = struct.pack(">I", 2) + struct.pack(">4sII", b"wtpt", first, len(white))
    table += struct.pack(">4sII", b"kTRC", first + len(white), len(curve))
    header = bytearray(128)
    header[0:4] = struct.pack(">I", first + len(white) + len(curve))
    header[8:12] = b"\x02\x40\0\0"
    header[12:24] = b"mntrGRAYXYZ "
    header[36:40] = b"acsp"
    header[68:80] = struct.pack(">iii", 63190, 65536, 54061)
    return bytes(header) + table + white + curve


def palette_with_alpha() -> bytes:
    image = Image.new("P", (16, 12), 1)
    image.putpalette([255, 0, 0, 0, 0, 255])
    return encoded(image, "PNG", transparency=b"\xff\x00")  # entry 1, the blue one, is fully transparent


def animation(format: str, **options: object) -> bytes:
    return encoded(solid("RGB", RED), format, save_all=True, append_images=[solid("RGB", BLUE)], duration=50, **options)


def exif_bytes(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


def grey16(value: int, format: str) -> bytes:
    return encoded(Image.fromarray(np.full((12, 16), value, np.uint16)), format)


def big_endian_tiff16(value: int) -> bytes:
    tags = [(256, 3, 1, 16), (257, 3, 1, 12), (258, 3, 1, 16), (259, 3, 1, 1), (262, 3, 1, 1), (277, 3, 1, 1)]
    tags += [(278, 3, 1, 12), (273, 4, 1, 8), (279, 4, 1, 384)]
    pixels = struct.pack(">H", value) * 192
    body = b""
    for tag, kind, count, number in sorted(tags):
        body += struct.pack(">HHI", tag, kind, count) + (
            struct.pack(">HH", number, 0) if kind == 3 else struct.pack(">I", number)
        )
    return b"MM\0*" + struct.pack(">I", 8 + 384) + pixels + struct.pack(">H", len(tags)) + body + b"\0\0\0\0"


def half_transparent_rgba() -> bytes:
    return encoded(solid("RGBA", (255, 0, 0, 128)), "PNG")


COLOURS = {  # what -> (bytes, the colour that must come out over white, tolerance)
    "black of 1 bit": (encoded(solid("1", 0), "PNG"), (0, 0, 0), 0),
    "white of 1 bit, TIFF": (encoded(solid("1", 1), "TIFF", compression="group4"), WHITE, 0),
    "grey": (encoded(solid("L", 90), "PNG"), (90, 90, 90), 0),
    "grey JPEG": (encoded(solid("L", 90), "JPEG"), (90, 90, 90), 1),
    "grey with alpha": (encoded(solid("LA", (0, 51)), "PNG"), (204, 204, 204), 1),
    "grey of 16 bits with alpha": (raw_png(1, 1, 16, 4, b"\0\x00\x00\x33\x33"), (204, 204, 204), 1),
    "palette": (encoded(solid("RGB", GREEN).quantize(4), "PNG"), GREEN, 0),
    "palette with transparency": (palette_with_alpha(), WHITE, 0),
    "GIF with a transparent colour": (encoded(solid("P", 0), "GIF", transparency=0), WHITE, 0),
    "RGB": (encoded(solid("RGB", (10, 20, 30)), "BMP"), (10, 20, 30), 0),
    "RGB with a transparent colour": (raw_png(1, 1, 8, 2, b"\0\xff\0\0", (b"tRNS", b"\0\xff\0\0\0\0")), WHITE, 0),
    "RGB of 16 bits": (raw_png(1, 1, 16, 2, b"\0\xc8\xc8\x64\x64\x32\x32"), (200, 100, 50), 0),
    "RGBA": (half_transparent_rgba(), (255, 127, 127), 1),
    "RGBA WebP": (encoded(solid("RGBA", (0, 0, 255, 0)), "WEBP", lossless=True), WHITE, 0),
    "RGBA TIFF": (encoded(solid("RGBA", (255, 0, 0, 128)), "TIFF"), (255, 127, 127), 1),
    "CMYK JPEG, Adobe's inversion": (encoded(solid("CMYK", (0, 255, 255, 0)), "JPEG", quality=100), RED, 3),
    "YCCK JPEG": (ycck_jpeg((0, 255, 255, 0)), RED, 3),
    "YCCK JPEG, half black": (ycck_jpeg((0, 0, 0, 128)), (127, 127, 127), 3),
    "CMYK TIFF": (encoded(solid("CMYK", (255, 0, 255, 0)), "TIFF"), GREEN, 3),
    "YCbCr TIFF": (encoded(solid("RGB", (200, 60, 40)).convert("YCbCr"), "TIFF"), (200, 60, 40), 3),
    "LAB TIFF": (encoded(solid("LAB", (255, 128, 128)), "TIFF"), WHITE, 6),
    "16-bit grey PNG": (grey16(0x8080, "PNG"), (128, 128, 128), 0),
    "16-bit grey TIFF": (grey16(0x4040, "TIFF"), (64, 64, 64), 0),
    "16-bit grey, big end first": (big_endian_tiff16(0x4040), (64, 64, 64), 0),
    "16-bit grey PGM": (b"P5 16 12 65535\n" + b"\x40\x40" * 192, (64, 64, 64), 0),
    "16-bit grey, dark": (grey16(0x0101, "PNG"), (1, 1, 1), 0),
    "32-bit integers to 255": (encoded(Image.fromarray(np.full((12, 16), 77, np.int32)), "TIFF"), (77, 77, 77), 0),
    "32-bit integers to 65535": (encoded(Image.fromarray(np.full((12, 16), 25700, np.int32)), "TIFF"), (100,) * 3, 0),
    "negative integers": (encoded(Image.fromarray(np.full((12, 16), -5, np.int32)), "TIFF"), (0, 0, 0), 0),
    "floats to 1": (encoded(Image.fromarray(np.full((12, 16), 0.2, np.float32)), "TIFF"), (51, 51, 51), 0),
    "floats to 255": (encoded(Image.fromarray(np.full((12, 16), 51, np.float32)), "TIFF"), (51, 51, 51), 0),
    "floats that are none": (encoded(Image.fromarray(np.full((12, 16), np.nan, np.float32)), "TIFF"), (0, 0, 0), 0),
    "floats without end": (encoded(Image.fromarray(np.full((12, 16), np.inf, np.float32)), "TIFF"), WHITE, 0),
    "profile": (encoded(solid("RGB", RED), "PNG", icc_profile=swapped_profile()), GREEN, 2),
    "profile and alpha": (
        encoded(solid("RGBA", (255, 0, 0, 128)), "PNG", icc_profile=swapped_profile()),
        (127, 255, 127),
        2,
    ),
    "profile and palette": (
        encoded(solid("RGB", RED).quantize(4), "PNG", icc_profile=swapped_profile()),
        GREEN,
        2,
    ),
    "grey profile": (encoded(solid("L", 128), "PNG", icc_profile=linear_grey_profile()), (188, 188, 188), 2),
    "broken profile": (encoded(solid("RGB", RED), "PNG", icc_profile=b"no profile at all"), RED, 0),
    "cut profile": (encoded(solid("RGB", RED), "PNG", icc_profile=swapped_profile()[:200]), RED, 0),
    "profile of another mode": (encoded(solid("L", 90), "PNG", icc_profile=swapped_profile()), (90, 90, 90), 0),
    "CMYK with an RGB profile": (
        encoded(solid("CMYK", (0, 255, 255, 0)), "JPEG", quality=100, icc_profile=swapped_profile()),
        RED,
        3,
    ),
    "animated GIF": (animation("GIF"), RED, 0),
    "animated PNG": (animation("PNG"), RED, 0),
    "animated WebP": (animation("WEBP", lossless=True), RED, 0),
    "multi-picture JPEG": (animation("MPO"), RED, 3),
    "two-page TIFF": (animation("TIFF"), RED, 0),
    "progressive JPEG": (encoded(solid("RGB", BLUE), "JPEG", progressive=True, quality=100), BLUE, 3),
    "broken EXIF": (encoded(solid("RGB", RED), "PNG", exif=b"Exif\0\0MM\0*\0\0\xff\xff"), RED, 0),
    "one pixel": (encoded(solid("RGB", RED, (1, 1)), "PNG"), RED, 0),
    "thread": (encoded(solid("RGB", RED, (1, 3000)), "PNG"), RED, 0),
    "TGA": (encoded(solid("RGB", RED), "TGA"), RED, 0),
    "PPM": (encoded(solid("RGB", RED), "PPM"), RED, 0),
    "ICO": (encoded(solid("RGB", RED, (32, 32)), "ICO"), RED, 0),
    "JPEG 2000": (encoded(solid("RGB", RED), "JPEG2000"), RED, 2),
    "AVIF": (encoded(solid("RGB", RED), "AVIF", quality=100), RED, 4),
}


@pytest.mark.parametrize("what", COLOURS)
def test_colours(what: str) -> None:
    content, expected, tolerance = COLOURS[what]
    image = decode(content).image
    assert image.mode == "RGB"
    pixels = np.asarray(image).reshape(-1, 3).astype(int)
    assert np.abs(pixels - np.array(expected)).max() <= tolerance, pixels[0]


def damaged(content: bytes, keep: float) -> bytes:
    return content[: int(len(content) * keep)]


def with_bad_checksum() -> bytes:
    content = bytearray(encoded(textured(), "PNG"))
    content[content.index(b"IDAT") + 200] ^= 0xFF
    return bytes(content)


def text_bomb() -> bytes:
    body = b"Comment\0\0" + zlib.compress(b" " * 80_000_000)
    return raw_png(1, 1, 8, 0, b"\0\0", (b"zTXt", body))


BAD = {  # what -> (bytes, reason)
    "empty": (b"", "empty"),
    "text": (b"Claude Monet, Water Lilies\n" * 20, "not an image"),
    "zeros": (bytes(5000), "not an image"),
    "noise": (bytes(np.random.default_rng(1).integers(0, 256, 5000, np.uint8)), "not an image"),
    "HTML": (b"<!doctype html><html><body>404 not found</body></html>", "not an image"),
    "SVG": (b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"></svg>', "not an image"),
    "EPS": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n", "not an image"),
    "PDF": (b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\n", "not an image"),
    "only JPEG's magic": (b"\xff\xd8\xff\xe0", "corrupt"),
    "only PNG's magic": (b"\x89PNG\r\n\x1a\n", "corrupt"),
    "only TIFF's magic": (b"II*\0\x08\0\0\0", "corrupt"),
    "cut JPEG": (damaged(encoded(textured(), "JPEG"), 0.5), "truncated"),
    "cut progressive JPEG": (damaged(encoded(textured(), "JPEG", progressive=True), 0.3), "truncated"),
    "cut PNG": (damaged(encoded(textured(), "PNG"), 0.5), "truncated"),
    "cut GIF": (damaged(encoded(textured(), "GIF"), 0.5), "truncated"),
    "cut BMP": (damaged(encoded(textured(), "BMP"), 0.5), "truncated"),
    "cut TIFF": (damaged(encoded(textured(), "TIFF", compression="tiff_lzw"), 0.5), "corrupt"),
    "cut WebP": (damaged(encoded(textured(), "WEBP", lossless=True), 0.5), "corrupt"),
    "PNG with a wrong checksum": (with_bad_checksum(), "corrupt"),
    "PNG with a text bomb": (text_bomb(), "corrupt"),
    "PNG of no width": (raw_png(0, 5, 8, 0, b"\0" * 5), "corrupt"),
    "PNG bomb": (raw_png(30_000, 30_000, 8, 0, b"\0"), "too large"),
    "GIF bomb": (b"GIF89a\xff\xff\xff\xff\0\0\0" + b",\0\0\0\0\xff\xff\xff\xff\0\x08\x01\0\0;", "too large"),
    "PPM bomb": (b"P6 90000 90000 255\n", "too large"),
}


@pytest.mark.parametrize("what", BAD)
def test_reasons(what: str) -> None:
    content, reason = BAD[what]
    with pytest.raises(ImageError) as raised:
        decode(content)
    assert raised.value.reason == reason, raised.value
    assert "0x" not in raised.value.detail  # an address would make each run's manifest another


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_orientation(orientation: int, format: str) -> None:
    # Red, green / blue, white in quarters, stored so that `orientation` makes it upright again.
    upright = np.zeros((32, 48, 3), np.uint8)
    upright[:16, :24], upright[:16, 24:], upright[16:, :24], upright[16:, 24:] = RED, GREEN, BLUE, WHITE
    stored = {  # EXIF 2.3, table of Orientation: where the 0th row and the 0th column are
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: upright[:, ::-1].transpose(1, 0, 2)[::1],
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: upright[::-1].transpose(1, 0, 2),
    }[orientation]
    if orientation in (6, 8):  # 6: the 0th row is the right side; 8: the left side
        stored = np.rot90(upright, 1 if orientation == 6 else -1)
    options = {"lossless": True} if format == "WEBP" else {"quality": 100} if format == "JPEG" else {}
    content = encoded(Image.fromarray(stored.copy()), format, exif=exif_bytes(orientation), **options)
    found = decode(content)
    assert (found.width, found.height) == found.image.size == (48, 32)
    corners = [found.image.getpixel(at) for at in ((4, 4), (43, 4), (4, 27), (43, 27))]
    assert np.abs(np.array(corners) - np.array([RED, GREEN, BLUE, WHITE])).max() <= 6


def test_sixteen_bits_are_scaled_and_not_cut_off() -> None:
    ramp = np.arange(0, 65536, 257, np.uint16).reshape(16, 16)
    decoded = np.asarray(decode(encoded(Image.fromarray(ramp), "PNG")).image)[:, :, 0]
    assert decoded.ravel().tolist() == list(range(256))


def test_original_is_described() -> None:
    found = decode(encoded(solid("CMYK", (0, 0, 0, 0), (30, 20)), "JPEG"))
    assert (found.width, found.height, found.mode, found.format) == (30, 20, "CMYK", "JPEG")


def test_background() -> None:
    image = decode(half_transparent_rgba(), background=(0, 0, 255)).image
    assert np.abs(np.array(image.getpixel((0, 0))) - np.array((128, 0, 127))).max() <= 1


def test_large_jpeg_is_drafted() -> None:
    content = encoded(solid("RGB", RED, (2000, 1000)), "JPEG")
    found = decode(content, at_least=(200, 200))
    assert (found.width, found.height) == (2000, 1000)
    assert found.image.size == (500, 250)  # a quarter; an eighth would have one side below 200
    assert decode(content).image.size == (2000, 1000)


def test_draft_keeps_the_orientation_and_the_ink() -> None:
    image = solid("CMYK", (0, 255, 255, 0), (1600, 800))
    found = decode(encoded(image, "JPEG", quality=100, exif=exif_bytes(6)), at_least=(100, 100))
    assert (found.width, found.height) == (800, 1600)
    assert found.image.size == (100, 200)
    assert np.abs(np.array(found.image.getpixel((50, 50))) - np.array(RED)).max() <= 3


def test_draft_leaves_each_side_its_pixels() -> None:
    image = solid("RGB", RED, (1600, 800))
    for orientation, least, size in (
        (1, (300, 100), (400, 200)),
        (1, (100, 300), (800, 400)),
        (6, (100, 300), (200, 400)),
        (6, (300, 100), (400, 800)),
        (6, (900, 100), (800, 1600)),
    ):
        content = encoded(image, "JPEG", exif=exif_bytes(orientation))
        assert decode(content, at_least=least).image.size == size, (orientation, least)


def test_max_pixels_is_a_bound_and_leaves_pillow_as_it_was() -> None:
    content = encoded(solid("RGB", RED, (40, 40)), "PNG")
    before = Image.MAX_IMAGE_PIXELS
    assert decode(content, max_pixels=1600).width == 40
    with pytest.raises(ImageError, match="too large"):
        decode(content, max_pixels=1599)
    assert before == Image.MAX_IMAGE_PIXELS


def test_larger_than_pillow_allows() -> None:
    width = 200_000  # 180 million pixels would be refused by Pillow's own limit
    content = raw_png(width, 900, 1, 0, bytes((width // 8 + 1) * 900))
    assert decode(content).width == width


def test_fifo_device_and_folder_are_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.jpg")
    (tmp_path / "device.png").symlink_to("/dev/zero")
    for path in (tmp_path / "fifo.jpg", tmp_path / "device.png", tmp_path):
        with pytest.raises(ImageError, match="not a regular file"):
            decode(path)


def test_socket_is_never_opened(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(str(tmp_path / "socket.jpg"))
        with pytest.raises(ImageError, match="not a regular file"):
            read_file(tmp_path / "socket.jpg")


def test_missing_and_looping_paths(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="unreadable"):
        decode(tmp_path / "nothing.jpg")
    (tmp_path / "a.jpg").symlink_to("b.jpg")
    (tmp_path / "b.jpg").symlink_to("a.jpg")
    with pytest.raises(ImageError, match="symlink loop"):
        decode(tmp_path / "a.jpg")


def test_file_of_too_many_bytes(tmp_path: Path) -> None:
    (tmp_path / "sparse.tif").touch()
    os.truncate(tmp_path / "sparse.tif", 100_001)
    with pytest.raises(ImageError, match="too large"):
        read_file(tmp_path / "sparse.tif", max_bytes=100_000)


def test_reads_a_path(tmp_path: Path) -> None:
    (tmp_path / "image.png").write_bytes(encoded(solid("RGB", GREEN), "PNG"))
    assert decode(tmp_path / "image.png").image.getpixel((0, 0)) == GREEN


SEEDS = [encoded(textured((24, 16)), format) for format in ("JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP", "TGA")]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(SEEDS), st.data())
def test_whatever_the_bytes_only_image_errors(seed: bytes, data: st.DataObject) -> None:
    content = bytearray(seed)
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)))
    try:
        image = decode(bytes(content[:cut]), max_pixels=1_000_000).image
    except ImageError as error:
        assert error.reason in {"empty", "not an image", "truncated", "corrupt", "too large", "out of memory"}
    else:
        assert image.mode == "RGB" and image.width * image.height > 0


def test_png_text_does_not_matter() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("Title", "Nymphéas")
    assert decode(encoded(solid("RGB", BLUE), "PNG", pnginfo=info)).image.getpixel((0, 0)) == BLUE
