"""The gallery of generators whose images are not square, grey, or with alpha: files, proportions, grounds."""

import io
import threading
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from test_serving_gallery_app import ABOUT, KINDS, READY, StandIn, opened, visit

from gan.data.images import for_display, to_rgb
from serving.contract import ModelMetadata
from serving.gallery.app import Gallery

SHAPES = {"wide": (24, 16, 3), "tall": (16, 20, 1), "clear": (16, 16, 4)}  # width, height, channels
IMAGES = "[...document.querySelectorAll('#stage img')].filter(e => e.offsetParent)"


def shaped(pixels: np.ndarray, width: int, height: int, channels: int) -> np.ndarray:
    """A square image at another size, with so many channels."""
    pixels = np.pad(pixels, ((0, height - 16), (0, width - 16), (0, 0)), "edge")
    alpha = np.broadcast_to(np.linspace(0, 255, width).astype(np.uint8)[:, None], [height, width, 1])
    return np.concatenate([pixels, alpha], axis=2) if channels == 4 else pixels[..., :channels]


class Shaped(StandIn):
    """One generator of a shape, and a classifier, whose rows say how many channels it saw."""

    def __init__(self, name: str) -> None:
        width, height, self.channels = SHAPES[name]
        self.size = (width, height)
        about = replace(ABOUT, generator=name, channels=self.channels)
        if width != height:
            about = replace(about, width=width, height=height)
        classifier = ModelMetadata(kind="style_classifier", styles=["a", "b", "c"])
        super().__init__([*(replace(about, kind=kind) for kind in KINDS), classifier])

    def _synthesize(self, ws) -> list[np.ndarray]:
        return [shaped(image, *self.size, self.channels) for image in super()._synthesize(ws)]

    def _classify(self, images) -> np.ndarray:
        return super()._classify([to_rgb(image) for image in images])


@pytest.fixture(params=SHAPES)
def stand(request) -> Shaped:
    return Shaped(request.param)


@pytest.fixture
def client(stand):
    with visit(stand) as visitor:
        yield visitor


def test_about_tells_width_height_and_channels(client, stand):
    (told,) = client.get("/about").json()["models"]
    assert (told["width"], told["height"], told["channels"], told["resolution"]) == (*stand.size, stand.channels, 16)


def test_files_are_the_images_as_they_are(client, stand):
    expected = stand._synthesize(stand._ws([42], 1, None))[0]
    for format, shown in (("png", expected), ("webp", expected if stand.channels == 4 else to_rgb(expected))):
        file = Image.open(io.BytesIO(client.get(f"/image?seed=42&format={format}").content))
        found = np.asarray(file)
        assert file.size == stand.size and np.array_equal(found.reshape(*found.shape[:2], -1), shown)
    file = Image.open(io.BytesIO(client.get("/image?seed=42&format=jpeg").content))
    assert file.mode == ("L" if stand.channels == 1 else "RGB")
    assert np.abs(np.asarray(file.convert("RGB")).astype(int) - to_rgb(expected)).mean() < 10
    (verdict,) = client.get("/styles?seed=42").json()["verdicts"]
    assert len(verdict) == 3


def test_an_animation_is_as_people_look_at_images(client, stand):
    answer = client.get("/journey?seed=1&to=2&count=3&format=webp")
    with Image.open(io.BytesIO(answer.content)) as animation:
        assert (animation.size, animation.mode, animation.n_frames) == (stand.size, "RGB", 4)
        first = for_display(stand._synthesize(stand._ws([1], 1, None))[0])
        assert np.abs(np.asarray(animation).astype(int) - first).mean() < 20
    assert client.get("/journey?seed=1&to=2&count=3&format=mp4").status_code == 200


@pytest.mark.parametrize("width", [390, 1280])
def test_images_and_blanks_have_their_own_proportions(stand, browser, width):
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.send("Emulation.setDeviceMetricsOverride", **size)
    ratio = stand.size[0] / stand.size[1]
    stand.held["generate"] = threading.Semaphore(0)
    with opened(Gallery(lambda name: stand)) as address:
        blanks = "[...document.querySelectorAll('.blank')].filter(e => e.offsetParent)"
        sides = "(e => [e.getBoundingClientRect()].map(r => r.width / r.height)[0])"
        try:
            browser.open(address, f"{blanks}.length === 12")
            waiting = browser.run(f"{blanks}.map{sides}")
        finally:
            stand.held["generate"].release(100)  # of all that follow
        assert waiting == pytest.approx([ratio] * 12, rel=0.02)
        for view in ("wall", "picture", "mix", "journey"):
            browser.open(f"{address}?view={view}&seed=4294967295&to=4294967294", READY)
            shown = browser.run(f"{IMAGES}.map{sides}")
            assert shown == pytest.approx([ratio] * {"wall": 12, "mix": 3}.get(view, 1), rel=0.02)
            assert browser.run("document.documentElement.scrollWidth") <= width
            assert browser.run(f"Math.max(...{IMAGES}.map(e => e.getBoundingClientRect().height))") <= 0.91 * 800
            grounds = browser.run(f"{IMAGES}.filter(e => getComputedStyle(e).backgroundImage.includes('conic')).length")
            assert grounds == (len(shown) if stand.channels == 4 else 0)
            if view != "wall":
                told = f"{stand.size[0]} \u00d7 {stand.size[1]} pixels"
                assert browser.run("document.getElementById('size').textContent") == told
    assert browser.errors == []
