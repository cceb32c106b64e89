"""What the gallery's addresses say: image specifications there and back, what is refused, what decides the pixels."""

from dataclasses import replace

import numpy as np
import pytest
from starlette.datastructures import QueryParams

from gan.errors import RequestError
from gan.sampling import latents
from serving.contract import ModelMetadata
from serving.gallery.scenes import PARTS, ImageSpec, combine, layers, scene

PLAIN = ModelMetadata(kind="generator", resolution=16, z_dim=8, w_dim=8, num_ws=6, snapshot="a" * 64)
CLASSES = replace(PLAIN, num_classes=2, classes=["day", "night"])


def read(text: str, metadata: ModelMetadata = PLAIN, max_images: int = 16) -> ImageSpec:
    return ImageSpec.from_query(dict(QueryParams(text)), metadata, max_images)


@pytest.mark.parametrize(
    "spec",
    [
        ImageSpec(model="generator", seed=0),
        ImageSpec(model="people", seed=2**32 - 1, psi=-0.35),
        ImageSpec(model="g", seed=3, to=3),
        ImageSpec(model="g", seed=3, to=9, layers=("composition", "colour")),
        ImageSpec(model="g", seed=3, to=9, step=4, steps=15),
    ],
)
def test_an_address_gives_its_image_again(spec):
    assert read(spec.query()) == spec
    assert read(replace(spec, label=1).query(), CLASSES) == replace(spec, label=1)


def test_what_is_left_out_has_a_default():
    assert read("model=g") == ImageSpec(model="g", seed=0)
    assert read("model=g&seed=&class=", CLASSES) == ImageSpec(model="g", seed=0, label=0)
    assert read("psi=-0").psi == 0 and str(read("psi=-0").psi) == "0.0"
    assert read("seed=1&to=2&layers=colour,shapes,").layers == ("shapes", "colour")  # in the order of the layers


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed=-1", "seed must be a whole number from 0 to 4294967295; got '-1'"),
        ("seed=4294967296", "seed must be"),
        ("seed=1.5", "seed must be"),
        ("seed=٣", "seed must be"),
        ("seed=" + "9" * 5000, "seed must be"),
        ("psi=2.01", "psi must be a number from -2 to 2; got '2.01'"),
        ("psi=nan", "psi must be"),
        ("psi=inf", "psi must be"),
        ("psi=bold", "psi must be"),
        ("class=1", "class must be left out"),
        ("to=1&layers=frame", "layers must be some of composition, shapes, colour; got frame"),
        ("layers=colour", "to must name a second seed"),
        ("steps=3", "to must name a second seed"),
        ("to=1&steps=16", "steps must be a whole number from 0 to 15"),
        ("to=1&steps=4&step=5", "step must be a whole number from 0 to 4"),
    ],
)
def test_what_is_refused(text, message):
    with pytest.raises(RequestError, match="^" + message.split("(")[0]):
        read(text)


def test_a_class_must_exist():
    with pytest.raises(RequestError, match="class must be a whole number from 0 to 1; got '2'"):
        read("class=2", CLASSES)


def test_whatever_changes_the_pixels_changes_the_tag():
    base = ImageSpec(model="g", seed=3, to=9, step=1, steps=4, label=0)
    others = [
        replace(base, model="h"),
        *(replace(base, **{name: 2}) for name in ("seed", "to", "step", "steps")),
        replace(base, psi=0.5),
        replace(base, label=1),
        replace(base, steps=0, step=0),
        replace(base, steps=0, step=0, layers=("colour",)),
    ]
    tags = {spec.tag(PLAIN) for spec in [base, *others]} | {base.tag(replace(PLAIN, snapshot="b" * 64))}
    assert len(tags) == len(others) + 2
    assert base.tag(PLAIN) == replace(base).tag(replace(PLAIN, salon="other"))


def test_the_views():
    asked = ImageSpec(model="g", seed=2**32 - 2, to=5, layers=("colour",), psi=0.7)
    alone = replace(asked, to=None, layers=())
    assert scene("picture", asked, 1) == [alone]
    assert [spec.seed for spec in scene("wall", asked, 3)] == [2**32 - 2, 2**32 - 1, 0]
    assert scene("mix", asked, 1) == [alone, replace(alone, seed=5), asked]
    assert [(p.seed, p.to, p.step, p.steps, p.layers) for p in scene("journey", asked, 3)] == [
        (2**32 - 2, 5, step, 2, ()) for step in range(3)
    ]
    for view, spec, count, message in (
        ("cellar", asked, 1, "view must be one of"),
        ("mix", alone, 1, "to must name a second seed for view mix"),
        ("journey", asked, 1, "count must be 2 or more"),
    ):
        with pytest.raises(RequestError, match=message):
            scene(view, spec, count)


@pytest.mark.parametrize("num_ws", [6, 10, 14, 18])
def test_the_parts_share_the_layers_out(num_ws):
    assert layers(PARTS, num_ws) == list(range(num_ws))
    shares = [layers([part], num_ws) for part in PARTS]
    assert [layer for share in shares for layer in share] == list(range(num_ws))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_latents_are_mixed_and_led_as_elsewhere():
    ws = np.random.default_rng(0).standard_normal([2, 6, 8]).astype(np.float32)
    spec = ImageSpec(model="g", seed=1)
    pair = replace(spec, to=2)
    assert np.array_equal(combine(spec, ws[:1]), ws[:1])
    mixed = combine(replace(pair, layers=("composition",)), ws)
    assert np.array_equal(mixed, latents.mix(ws[:1], ws[1:], [0, 1]))
    assert np.array_equal(mixed[0, :2], ws[1, :2]) and np.array_equal(mixed[0, 2:], ws[0, 2:])
    path = np.concatenate([combine(step, ws) for step in scene("journey", pair, 5)])
    assert np.array_equal(path, latents.loop(ws, 4)[:5])
    assert np.allclose(path[0], ws[0]) and np.allclose(path[4], ws[1]) and np.allclose(path[2], ws.mean(0), atol=1e-6)
    distance = np.linalg.norm((path - ws[0]).reshape(5, -1), axis=1)
    assert np.all(np.diff(distance) > 0)


def test_titles_and_file_names():
    pair = ImageSpec(model="g", seed=3, to=9)
    assert ImageSpec(model="g", seed=3).title() == "Seed 3" and ImageSpec(model="g", seed=3).file_name() == "g-3"
    assert replace(pair, layers=PARTS).title() == "Seed 3 with composition, shapes and colour of seed 9"
    assert replace(pair, layers=("colour",)).title() == "Seed 3 with colour of seed 9"
    assert pair.title() == "Seed 3" and replace(pair, step=2, steps=4).title() == "From seed 3 to seed 9"
    names = {replace(pair, layers=parts).file_name() for parts in ((), ("colour",), PARTS)}
    assert names == {"g-3-9", "g-3-colour-9", "g-3-composition-shapes-colour-9"}
    assert replace(pair, step=2, steps=4).file_name() == "g-3-step2of4-9"
