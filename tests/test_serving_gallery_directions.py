"""The gallery's sliders: addresses with amounts, edited images and their recipes, the page in a real browser."""

import io
import threading
from dataclasses import replace

import httpx
import numpy as np
import pytest
from conftest import run_salon
from made_directions import made_directions
from PIL import Image
from starlette.datastructures import QueryParams
from test_serving_directions import directions_file, repository, source, url  # noqa: F401
from test_serving_gallery_app import (
    ABOUT,
    KINDS,
    LOADED,
    READY,
    StandIn,
    bytes_of_image,
    command,
    opened,
    pixels,
    visit,
)

from gan.data.recipe import read
from gan.errors import RequestError
from gan.runtime.files import sha256
from gan.sampling import generate, latents
from serving.gallery import backend
from serving.gallery.app import Gallery
from serving.gallery.scenes import ImageSpec, combine, scene

DIRECTIONS = made_directions("ab" * 32)
METADATA = replace(ABOUT, generator="generator", directions="d1" * 32)


class Served(StandIn):
    """A generator with directions, and another, "plain", without."""

    def __init__(self) -> None:
        self.given, of_mapping = DIRECTIONS, {"directions": METADATA.directions}
        plain = replace(ABOUT, generator="plain", snapshot="cd" * 32)
        mine = [replace(ABOUT, generator="generator", kind=kind) for kind in KINDS]
        mine = [replace(about, **of_mapping) if about.kind == "mapping" else about for about in mine]
        super().__init__([*mine, *(replace(plain, kind=kind) for kind in KINDS)])

    def about(self, kind):
        return next(about for about in self.served if about.kind == kind)

    def directions(self):
        return self.given

    def edited(self, seed, amounts, psi=1.0):
        return np.array(self._synthesize(self.given.edit(self._ws([seed], psi, None), amounts))[0])


@pytest.fixture
def stand() -> Served:
    return Served()


@pytest.fixture
def client(stand):
    with visit(stand) as visitor:
        yield visitor


def spec_of(text: str, directions=DIRECTIONS) -> ImageSpec:
    return ImageSpec.from_query(dict(QueryParams(text)), METADATA, 16, directions)


def test_an_address_holds_the_amounts():
    spec = spec_of("model=g&seed=3&edits=sky:-2,age:1.50001,pose:0")
    assert spec.edits == (("age", 1.5), ("sky", -2.0)) and spec.query().endswith("edits=age:1.5,sky:-2")
    assert spec_of(spec.query()) == spec and spec_of("model=g&seed=3&edits=age:-0") == ImageSpec(model="g", seed=3)
    assert spec.title() == "Seed 3, edited" and spec.described() == "Seed 3, edited by age +1.5, sky -2"
    assert spec.file_name() == "g-3-age+1.5-sky-2"
    assert all(each.edits == spec.edits for each in scene("wall", spec, 3))
    for edits in ("age:99.9999", "age:-100"):
        assert spec_of(spec_of(f"model=g&edits={edits}").query()) == spec_of(f"model=g&edits={edits}")


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        ("hair:1", "edits must be of some of age, pose, sky; got 'hair'"),
        ("age:101", "edits must be NAME:AMOUNT, standard deviations from -100 to 100; got 'age:101'"),
        ("age:nan", "edits must be NAME:AMOUNT"),
        ("age", "edits must be NAME:AMOUNT"),
        (",", "edits must be of some of"),
    ],
)
def test_edits_that_are_refused(client, stand, edits, message):
    answer = client.get(f"/image?seed=1&edits={edits}")
    assert answer.status_code == 400 and message in answer.text and answer.text.count("\n") == 1
    answer = client.get(f"/image?model=plain&seed=1&edits={edits}")
    assert answer.status_code == 400 and "edits must be left out: this generator is served without" in answer.text
    assert stand.calls == []


def test_tags_and_versions_follow_the_amounts_and_the_directions():
    spec, other = spec_of("model=g&seed=3&edits=age:1"), replace(METADATA, directions="d2" * 32)
    still = replace(spec, edits=())
    tags = {each.tag(METADATA) for each in (still, spec, *(spec_of(f"seed=3&edits={e}") for e in ("age:2", "sky:1")))}
    assert len(tags | {spec.tag(other)}) == 5 and still.tag(METADATA) == still.tag(other)
    assert still.version(METADATA) == still.version(other) == "abababababab"
    assert spec.version(METADATA) == "abababababab-d1d1d1d1" != spec.version(other)
    recipe = spec.recipe(METADATA)
    assert (recipe.edits, recipe.directions, recipe.seeds) == ({"age": 1.0}, METADATA.directions, [3])
    assert still.recipe(METADATA).directions is None and still.recipe(METADATA).edits == {}


def test_mixes_and_paths_of_edited_images_are_edited_mixes_and_paths():
    keys = latents.draw([3, 9], 48).reshape(2, 6, 8)
    moved = DIRECTIONS.edit(keys, {"age": 1.5, "pose": -2.0})
    for text in ("layers=colour,shapes", "step=1&steps=4", "step=4&steps=4"):
        plain, spec = (spec_of(f"model=g&seed=3&to=9&{text}{edits}") for edits in ("", "&edits=age:1.5,pose:-2"))
        assert np.allclose(combine(spec, keys, DIRECTIONS), combine(plain, moved), atol=1e-5)
    with pytest.raises(RequestError, match="g is served without directions"):
        combine(spec, keys)


def test_an_edited_image_and_its_recipe(client, stand, tmp_path):
    edits = {"age": 1.5, "pose": -2.0}
    answer = client.get("/image?seed=42&psi=0.7&edits=pose:-2,age:1.5&format=png")
    assert np.array_equal(pixels(answer), stand.edited(42, edits, 0.7))
    assert np.array_equal(pixels(client.get("/image?seed=42&psi=0.7&edits=age:0")), stand.edited(42, {}, 0.7))
    assert stand.calls == [("map", 42), ("synthesize", 1), ("generate", 42)]  # what is moved by 0 is the seed's image
    (tmp_path / "file.png").write_bytes(answer.content)
    recipe = read(tmp_path / "file.png").recipe
    assert (recipe.edits, recipe.directions, recipe.truncation_psi) == (edits, "d1" * 32, 0.7)
    (told,) = client.get("/scene?view=picture&seed=42&psi=0.7&edits=age:1.5,pose:-2").json()["pictures"]
    assert told["name"] == "generator-42-age+1.5-pose-2.png" and "edited by age +1.5, pose -2" in told["alt"]
    for name in ("src", "file"):
        assert "immutable" in client.get("/" + told[name]).headers["cache-control"]
    assert len(stand.calls) == 3  # cached
    old = told["src"].replace("-d1d1d1d1", "-d2d2d2d2")
    assert old != told["src"] and "immutable" not in client.get("/" + old).headers["cache-control"]


def test_all_views_and_animations_follow(client, stand):
    answer = client.get("/scene?view=wall&seed=5&count=3&edits=sky:1").json()
    assert answer["snapshot"] == "abababababab-d1d1d1d1"
    for seed, image in enumerate(answer["pictures"], 5):
        assert np.array_equal(pixels(client.get("/" + image["src"])), stand.edited(seed, {"sky": 1.0}))
    movie = client.get("/journey?seed=5&to=6&count=3&edits=sky:1")
    assert movie.status_code == 200 and Image.open(io.BytesIO(movie.content)).n_frames == 4
    assert movie.headers["etag"] != client.get("/journey?seed=5&to=6&count=3").headers["etag"]


def test_about_tells_of_directions(client):
    told = {model["name"]: model["directions"] for model in client.get("/about").json()["models"]}
    layers = [("age", None), ("pose", [4, 5]), ("sky", None)]
    assert told == {"generator": [{"name": name, "layers": each} for name, each in layers], "plain": []}


def test_other_directions_are_other_images(client, stand, monkeypatch):
    monkeypatch.setattr(backend, "FRESH", 0.0)
    first = client.get("/image?seed=1&edits=age:1")
    stand.given = made_directions("ab" * 32, ["age", "hair"], seed=5)
    new = {about.kind: replace(about, directions="d2" * 32) for about in stand.served if about.directions}
    stand.served = [new.get(about.kind, about) if about.generator == "generator" else about for about in stand.served]
    second = client.get("/image?seed=1&edits=age:1", headers={"If-None-Match": first.headers["etag"]})
    assert np.array_equal(pixels(second), stand.edited(1, {"age": 1.0})) and second.content != first.content
    assert [each["name"] for each in client.get("/about").json()["models"][0]["directions"]] == ["age", "hair"]


def test_a_generator_without_latents_has_no_sliders(stand):
    stand.served = [about for about in stand.served if about.kind != "synthesis"]
    with visit(stand) as client:
        assert [model["directions"] for model in client.get("/about").json()["models"]] == [[], []]


def test_a_dozen_images_of_a_slider_count_as_one_request(stand):
    with visit(stand, rate=(2, 3600.0)) as client:
        for amount in range(1, 25):
            assert client.get(f"/scene?view=picture&seed=1&edits=age:{amount}").status_code == 200
        assert client.get("/scene?view=picture&seed=1&edits=age:25").status_code == 429
        assert client.get("/scene?view=picture&seed=1&edits=age:24").status_code == 200  # cached


# In a browser

SLIDERS = "[...document.querySelectorAll('#sliders input')]"
AMOUNTS = f"{SLIDERS}.map(e => Number(e.value))"
EDITS = "new URLSearchParams(location.search).get('edits')"


def drag(browser, index: int, amounts, let_go: bool = True) -> None:
    """Move a slider as a pointer does: an input for each amount, a change at the end."""
    for amount in amounts:
        set_to = f"(e => (e.value = {amount}, e.dispatchEvent(new Event('input'))))"
        browser.run(f"{set_to}({SLIDERS}[{index}])")
    if let_go:
        browser.run(f"{SLIDERS}[{index}].dispatchEvent(new Event('change'))")


def shown(browser) -> np.ndarray:
    content = bytes(map(int, bytes_of_image(browser).split(",")))
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def test_a_slider_edits_the_image_and_the_address(stand, browser):
    with opened(Gallery(lambda name: stand)) as address:
        browser.open(f"{address}?view=picture&seed=7", READY)
        assert browser.run(f"{SLIDERS}.map(e => e.labels[0].firstChild.textContent)") == ["age", "pose", "sky"]
        assert browser.run("document.getElementById('reset').disabled")
        drag(browser, 0, [1.5])
        browser.until(f"{READY} && {EDITS} === 'age:1.5' && {LOADED}")
        assert np.array_equal(shown(browser), stand.edited(7, {"age": 1.5}))
        drag(browser, 2, [-0.4])
        browser.until(f"{READY} && {EDITS} === 'age:1.5,sky:-0.4' && {LOADED}")
        link = browser.run("location.href")
        assert "edits=age:1.5,sky:-0.4" in link and "v=abababababab-d1d1d1d1" in link
        assert "edited by age +1.5, sky -0.4" in browser.run("document.getElementById('image').alt")
        assert browser.run("document.getElementById('download').download") == "generator-7-age+1.5-sky-0.4.png"
        assert browser.run(f"{SLIDERS}[2].getAttribute('aria-valuetext')") == "\u22120.4 standard deviations"
        assert browser.run("document.querySelector('#sliders output').textContent") == "+1.5 \u03c3"
        browser.press("1")  # the grid has the amounts, too
        browser.until(f"{READY} && document.querySelectorAll('#grid img').length === 12")
        assert browser.run(EDITS) == "age:1.5,sky:-0.4"
        browser.run("history.back()")
        browser.until(f"{READY} && location.search.includes('view=picture') && {LOADED}")
        browser.run(f"{SLIDERS}[0].focus()")
        browser.press("0")
        browser.until(f"{READY} && {EDITS} === 'sky:-0.4' && {LOADED}")
        browser.run("document.getElementById('reset').click()")
        browser.until(f"{READY} && {EDITS} === null && {LOADED}")
        assert browser.run(AMOUNTS) == [0, 0, 0]
        assert np.array_equal(shown(browser), stand.edited(7, {}))
        browser.open(link, READY)
        assert browser.run(AMOUNTS) == [1.5, 0, -0.4]
        assert np.array_equal(shown(browser), stand.edited(7, {"age": 1.5, "sky": -0.4}))
        browser.open(f"{address}?view=picture&seed=7&edits=age:5.25,hair:3", READY)  # beyond its usual range
        assert browser.run(AMOUNTS) == [5.25, 0, 0] and browser.run(EDITS) == "age:5.25"
        browser.open("about:blank", "true")
    assert browser.errors == []


def test_an_image_follows_a_slider_one_request_at_a_time(stand, browser):
    with opened(Gallery(lambda name: stand)) as address:
        browser.open(f"{address}?view=picture&seed=7", READY)
        stand.calls.clear()
        stand.held["synthesize"] = threading.Semaphore(0)
        drag(browser, 0, [0.1 * step for step in range(1, 21)], let_go=False)
        stand.held["synthesize"].release(2)  # for where it stood at first, and then for where it stands
        source = "document.getElementById('image').getAttribute('src')"
        browser.until(f"{source}.includes('edits=age:2&') && {LOADED} && !following")
        assert [call for call in stand.calls if call[0] == "synthesize"] == [("synthesize", 1)] * 2
        assert browser.run(EDITS) is None  # until it is let go
        drag(browser, 0, [2.0])
        browser.until(f"{READY} && {EDITS} === 'age:2'")
        assert len([call for call in stand.calls if call[0] == "synthesize"]) == 2  # it is there already
        stand.held["synthesize"] = threading.Semaphore(0)
        drag(browser, 0, [2.5], let_go=False)  # under way, and given up for another seed
        browser.until("following")
        browser.run("go({ seed: 8 })")
        stand.held["synthesize"].release(2)
        browser.until(f"{READY} && document.getElementById('title').textContent === 'Seed 8, edited' && {LOADED}")
        assert np.array_equal(shown(browser), stand.edited(8, {"age": 2.5}))
        browser.open("about:blank", "true")
    assert browser.errors == []


def test_no_sliders_where_no_directions_are_served(stand, browser):
    with opened(Gallery(lambda name: stand)) as address:
        visible = "Boolean(document.getElementById('directions').offsetParent)"
        browser.open(f"{address}?view=picture&model=plain&edits=age:1", READY)
        assert not browser.run(visible) and browser.run(EDITS) is None
        assert browser.run("document.getElementById('slider-keys').hidden")
        browser.run("go({ model: 'generator', edits: {} })")
        browser.until(f"{READY} && {visible}")
        assert len(browser.run(AMOUNTS)) == 3
    assert browser.errors == []


def test_another_generator_begins_without_edits(stand, browser):
    like = {"directions": METADATA.directions}  # of the same names
    stand.served = [replace(about, **like) if about.kind == "mapping" else about for about in stand.served]
    with opened(Gallery(lambda name: stand)) as address:
        browser.open(f"{address}?view=picture&edits=age:1", READY)
        choose = "(e => (e.value = 'plain', e.dispatchEvent(new Event('change'))))(document.getElementById('model'))"
        browser.run(choose)
        browser.until(f"{READY} && location.search.includes('model=plain')")
        assert browser.run(AMOUNTS) == [0, 0, 0] and browser.run(EDITS) is None
    assert browser.errors == []


@pytest.mark.parametrize("width", [390, 1280])
def test_many_sliders_fit(stand, browser, width):
    stand.given = made_directions("ab" * 32, [f"direction-number-{n}-{'x' * 40}" for n in range(20)])
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.send("Emulation.setDeviceMetricsOverride", **size)
    with opened(Gallery(lambda name: stand)) as address:
        for view in ("wall", "picture", "mix", "journey"):
            browser.open(f"{address}?view={view}&seed=4&to=9", READY)
            assert browser.run("document.documentElement.scrollWidth") <= width
            assert len(browser.run(AMOUNTS)) == 20
        browser.open(f"{address}?view=picture&seed=4", READY)
        browser.run(f"{SLIDERS}[19].scrollIntoView({{block: 'center'}})")
        image, last = (
            browser.run(f"(r => [r.top, r.bottom])({e}.getBoundingClientRect())")
            for e in ("document.getElementById('image')", f"{SLIDERS}[19]")
        )
        assert image[0] >= 0 and image[1] <= 800 and last[0] >= 0 and last[1] <= 800  # both are in sight
        assert width > 500 or last[0] >= image[1]
    assert browser.errors == []


# With a real server


def test_edited_images_of_a_real_server(url, source, directions_file, browser, tmp_path):  # noqa: F811
    outcome = run_salon("generate", source.path, "--seeds", "5", "--out", tmp_path, "--truncation-psi", "0.7")
    assert outcome.code == 0, outcome.err
    plain = np.asarray(Image.open(next(tmp_path.iterdir())).convert("RGB")).astype(int)
    keys = generate.map_seeds(source.G_ema, [5], truncation_psi=0.7)
    moved = keys.new_tensor(DIRECTIONS.edit(keys.numpy(), {"age": 2.0, "pose": -1.0}))
    (edited,) = generate.synthesize(source.G_ema, moved)
    with command("--url", url.grpc_url) as (address, _), httpx.Client(base_url=address, trust_env=False) as client:
        assert np.abs(pixels(client.get("/image?seed=5&psi=0.7&edits=age:0&format=png")) - plain).max() <= 2
        answer = client.get("/image?seed=5&psi=0.7&edits=age:2,pose:-1&format=png")
        assert np.abs(pixels(answer).astype(int) - edited).max() <= 2 and np.abs(edited - plain).max() > 10
        (tmp_path / "file.png").write_bytes(answer.content)
        recipe = read(tmp_path / "file.png").recipe
        assert (recipe.edits, recipe.directions) == ({"age": 2.0, "pose": -1.0}, sha256(directions_file))
        browser.open(f"{address}?view=picture&seed=5&psi=0.7", READY)
        drag(browser, 0, [1, 2])
        browser.until(f"{READY} && {EDITS} === 'age:2' && {LOADED}")
        drag(browser, 1, [-1])
        browser.until(f"{READY} && {EDITS} === 'age:2,pose:-1' && {LOADED}")
        assert np.abs(shown(browser).astype(int) - edited).max() <= 2
    assert browser.errors == []
