"""Keyframe files: what they say, and what is refused with the key and the field."""

import re
from fractions import Fraction
from pathlib import Path

import pytest

from gan.errors import RequestError
from gan.sampling import drives, keyframes
from gan.sampling.drives import Drive
from gan.sampling.keyframes import Key

WHOLE = """
directions = "found/directions.npz"

[[key]]
seed = 3
psi = 0.7
class = "night"
edits = {sky = 1.5, pc2 = -1}
seconds = 0.1

[[key]]
ws = "found.npz"
row = 2

[[key]]
seed = 0
class = 1
seconds = 3

[audio]
onset = "sky"
low = {to = "psi", amount = -0.5}
mid = "none"
"""


def test_a_file_is_read(tmp_path):
    (tmp_path / "journey.toml").write_text(WHOLE)
    found = keyframes.read(tmp_path / "journey.toml")
    assert found.directions == tmp_path / "found" / "directions.npz"
    assert found.keys == (
        Key(seed=3, psi=0.7, class_name="night", edits={"sky": 1.5, "pc2": -1.0}, seconds=Fraction(1, 10)),
        Key(ws=tmp_path / "found.npz", row=2),
        Key(seed=0, class_name=1, seconds=Fraction(3)),
    )
    assert found.drives == {"onset": Drive(to="sky", amount=1.0), "low": Drive(to="psi", amount=-0.5)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[key]\n", "`keyframes` must be a readable TOML file"),
        ("", "key must be tables, [[key]], one at least"),
        ("key = 3", "key must be tables"),
        ("key = []", "key must be tables"),
        ("fps = 3\n[[key]]\nseed = 1", "there is no field fps"),
        ("[[key]]\nseed = 1\n[[key]]\nsede = 1", "key 2: there is no field sede; known are seed, ws,"),
        ("[[key]]\npsi = 1", "key 1: either seed or ws must be given"),
        ("[[key]]\nseed = 1\nws = 'a.npz'", "key 1: either seed or ws must be given"),
        ("[[key]]\nseed = -1", "key 1: seed must be a whole number from 0 to 4294967295; got -1 instead"),
        ("[[key]]\nseed = 1.5", "key 1: seed must be a whole number"),
        ("[[key]]\nseed = true", "key 1: seed must be a whole number"),
        ("[[key]]\nseed = 1\nrow = 1", "key 1: row goes with ws alone"),
        ("[[key]]\nws = 'a.npz'\nclass = 1", "key 1: class goes with seed alone"),
        ("[[key]]\nws = 3", "key 1: ws must be a path"),
        ("[[key]]\nws = 'a.npz'\nrow = -2", "key 1: row must be a whole number"),
        ("[[key]]\nseed = 1\npsi = 'high'", "key 1: psi must be a number from -2 to 2; got 'high' instead"),
        ("[[key]]\nseed = 1\npsi = nan", "key 1: psi must be a number"),
        ("[[key]]\nseed = 1\npsi = 2.5", "key 1: psi must be a number"),
        ("[[key]]\nseed = 1\nclass = 1.5", "key 1: class must be a name or an index"),
        ("[[key]]\nseed = 1\nedits = 'sky'", "key 1: edits must be a table"),
        ("[[key]]\nseed = 1\nedits = {sky = 'more'}", "key 1: edits.sky must be a number from -100 to 100"),
        ("[[key]]\nseed = 1\nseconds = 0", "key 1: seconds must be above 0"),
        ("[[key]]\nseed = 1\nseconds = -1", "key 1: seconds must be a number from 0 to 3600"),
        ("[[key]]\nseed = 1\nseconds = inf", "key 1: seconds must be a number from 0 to 3600"),
        ("directions = 3\n[[key]]\nseed = 1", "directions must be a path"),
        ("audio = 3\n[[key]]\nseed = 1", "audio must be a table"),
        ("[[key]]\nseed = 1\n[audio]\nbass = 'psi'", "audio: there is no field bass; known are onset, low, mid, high"),
        ("[[key]]\nseed = 1\n[audio]\nlow = 3", "audio: low must be speed, psi, none or a direction"),
        ("[[key]]\nseed = 1\n[audio]\nlow = {amount = 3}", "audio: low must be speed, psi, none or a direction"),
        ("[[key]]\nseed = 1\n[audio]\nlow = {to = 'psi', amount = 3}", "audio: low must have an amount from -2 to 2"),
        ("[[key]]\nseed = 1\n[audio]\nlow = {to = 'psi', amount = 'a'}", "audio: low must have an amount"),
    ],
)
def test_errors_name_the_key_and_the_field_in_one_line(text, message, tmp_path):
    (tmp_path / "journey.toml").write_text(text)
    with pytest.raises(RequestError) as error:
        keyframes.read(tmp_path / "journey.toml")
    assert message in str(error.value) and str(tmp_path / "journey.toml") in str(error.value)
    assert str(error.value).startswith("`keyframes` ") and "\n" not in str(error.value)


def test_what_is_no_text_is_refused(tmp_path):
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\0")
    (tmp_path / "deep.toml").write_text("a = " + "[" * 5000)
    for name in ("binary.toml", "deep.toml", "absent.toml"):
        with pytest.raises(RequestError, match="`keyframes` must be a readable TOML file"):
            keyframes.read(tmp_path / name)


def test_options_say_what_drives_what():
    assert drives.parse(["low=psi:0.3", "mid=smile", "high=none", "onset=speed"]) == {
        "low": Drive(to="psi", amount=0.3),
        "mid": Drive(to="smile", amount=1.0),
        "high": None,
        "onset": Drive(to="speed", amount=2.0),
    }
    for text in ("low", "low=", "bass=psi", "low=psi:x", "low=psi:nan", "low=psi:3", "onset=speed:-1", "mid=smile:101"):
        with pytest.raises(RequestError, match="`drive` "):
            drives.parse([text])


def test_options_go_before_the_file_and_the_file_before_the_usual():
    psi, sky = Drive(to="psi", amount=0.5), Drive(to="sky", amount=1.0)
    assert drives.chosen(None, {}) == drives.DEFAULT
    assert drives.chosen({}, {}) == {}
    assert drives.chosen({"low": psi}, {}) == {"low": psi}
    assert drives.chosen(None, {"low": sky}) == {"low": sky}
    assert drives.chosen({"low": psi, "mid": sky}, {"low": sky, "mid": None}) == {"low": sky}


def test_the_guides_file_is_one(tmp_path):
    page = Path(__file__).parents[1] / "docs" / "guide" / "journeys.md"
    key, sound = re.findall(r"```toml[^\n]*\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "journey.toml").write_text(f"{key}\n{sound}")
    found = keyframes.read(tmp_path / "journey.toml")
    assert len(found.keys) == 3 and set(found.drives) == {"onset", "low", "mid"}
