"""What a generated picture's file says of itself, and reading it back."""

import html
import io
import json

import numpy as np
import pytest
from PIL import Image

from gan.data.images import encode
from gan.data.recipe import Provenance, Recipe, read
from gan.data.xmp import TRAINED
from gan.errors import RequestError
from gan.sampling import animation

HOSTILE = "<&\"'>]]></rdf:li> ✓ \u202e{}"
RECIPE = Recipe(
    kind="grid",
    seeds=[0, 1, 2, 7],
    grid="2x2",
    class_name=HOSTILE,
    truncation_psi=0.7,
    noise_mode="const",
    snapshot="ab" * 32,
    dataset="cd" * 32,
    kimg=12.5,
)


def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, [16, 24, 3], np.uint8))


@pytest.mark.parametrize(("format", "suffix"), [("png", ".png"), ("jpeg", ".jpg"), ("webp", ".webp")])
def test_an_image_says_how_it_was_made_and_has_the_same_pixels(tmp_path, format, suffix):
    plain, marked = encode(picture(), format), encode(picture(), format, recipe=RECIPE)
    assert marked == encode(picture(), format, recipe=RECIPE) and plain != marked
    pixels = [np.asarray(Image.open(io.BytesIO(content))) for content in (plain, marked)]
    assert np.array_equal(*pixels)
    file = tmp_path / f"picture{suffix}"
    file.write_bytes(marked)
    found = read(file)
    assert found.marked and found.format == format and found.recipe == RECIPE
    file.write_bytes(plain)
    assert read(file) == Provenance(marked=False, recipe=None, format=format)


def test_other_programs_find_the_mark_as_xmp():
    # Pillow hands on the packet as it lies in the file; an RDF reader must find the property under IPTC's name.
    from xml.etree import ElementTree

    packet = Image.open(io.BytesIO(encode(picture(), "jpeg", recipe=RECIPE))).info["xmp"]
    tree = ElementTree.fromstring(packet)
    (about,) = tree.iter("{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description")
    assert about.get("{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType") == TRAINED
    assert json.loads(about.get("{urn:salon:recipe:1.0/}recipe"))["class_name"] == HOSTILE
    (said,) = tree.iter("{http://www.w3.org/1999/02/22-rdf-syntax-ns#}li")
    assert said.text == RECIPE.sentence() and "seeds 0-2, 7, class <&" in said.text
    png = Image.open(io.BytesIO(encode(picture(), "png", recipe=RECIPE)))
    assert png.info["Description"] == RECIPE.sentence() and png.info["Software"].startswith("Salon ")
    assert TRAINED in png.info["XML:com.adobe.xmp"]


@pytest.mark.parametrize("suffix", [".mp4", ".webp", ".gif"])
def test_animations_say_it_too(tmp_path, suffix):
    frames = [np.full([16, 24, 3], level, np.uint8) for level in (0, 128, 255)]
    animation.save(frames, tmp_path / f"a{suffix}", 10, recipe=RECIPE)
    found = read(tmp_path / f"a{suffix}")
    assert found.marked and found.recipe == RECIPE and found.format == suffix[1:]
    animation.save(frames, tmp_path / f"b{suffix}", 10)
    assert not read(tmp_path / f"b{suffix}").marked


def test_a_mark_of_others_is_found_without_a_recipe(tmp_path):
    packet = f'<x Iptc4xmpExt:DigitalSourceType="{TRAINED}"/>'.encode()
    picture().save(tmp_path / "other.jpg", xmp=packet)
    found = read(tmp_path / "other.jpg")
    assert found.marked and found.recipe is None


@pytest.mark.parametrize(
    "recipe",
    [
        "{",
        "[]",
        '{"kind": "image", "seeds": [1e3]}',
        '{"kind": "image", "seeds": "0-9"}',
        '{"kind": "image", "seeds": [-1]}',
        '{"kind": "image", "seeds": [true]}',
        '{"kind": "spell"}',
        '{"kind": "image", "seeds": [4294967296]}',
        '{"kind": "image", "seeds": [1], "noise_mode": "loud"}',
        '{"kind": "image", "seeds": [1], "precision": "fp8"}',
        '{"kind": "image", "seeds": [1], "truncation_psi": NaN}',
        '{"kind": "image", "seeds": [1], "truncation_cutoff": -1}',
        '{"kind": "grid", "seeds": [], "grid": "2x2"}',
        '{"kind": "mix", "seeds": [1], "layers": [0]}',
        '{"kind": "image", "truncation_psi": "1"}',
        '{"kind": "image", "snapshot": 5}',
        "[" * 100_000,
    ],
)
def test_a_hostile_recipe_is_none(tmp_path, recipe):
    picture().save(tmp_path / "hostile.webp", xmp=f'<x salon:recipe="{html.escape(recipe)}"/>'.encode())
    assert read(tmp_path / "hostile.webp").recipe is None


def test_fields_of_later_versions_are_passed_over():
    assert Recipe.from_json('{"kind": "image", "seeds": [3], "mood": "blue"}').seeds == [3]
    assert Recipe(kind="image", seeds=[3], salon="9").to_dict() == {
        "kind": "image",
        "seeds": [3],
        "salon": "9",
    }


def test_what_is_no_picture_is_refused(tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "torn.mp4").write_bytes(b"\0\0\0\x20ftypisom" + bytes(50))
    for name, message in (("text.png", "must be a PNG"), ("torn.mp4", "must be a PNG"), ("absent.png", "No such file")):
        with pytest.raises(RequestError, match=message):
            read(tmp_path / name)
