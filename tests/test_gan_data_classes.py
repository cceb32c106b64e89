"""Classes by name first, and by index where no class has a number for its name."""

import pytest

from gan.data.classes import class_index, class_name
from gan.errors import RequestError


@pytest.mark.parametrize(
    ("chosen", "names", "index"),
    [
        ("night", ["day", "night"], 1),
        ("1", ["day", "night"], 1),
        ("1", None, 1),
        (1, ["1", "0"], 1),  # an integer is an index
        ("1", ["1", "0"], 0),  # a name comes first
        ("1890", ["1880", "1890"], 1),
        ("cafe\u0301", ["bar", "café"], 1),
        ("twice", ["twice", "twice"], 0),
    ],
)
def test_a_class_by_name_or_index(chosen: int | str, names: list[str] | None, index: int) -> None:
    assert class_index(chosen, 2, names) == index


@pytest.mark.parametrize(
    ("chosen", "names", "got"),
    [
        ("1", ["1880", "1890"], "2 classes, 1880, 1890; got 1 instead"),  # as an index it would be another year
        ("2", ["day", "night"], "2 classes, day, night; got 2 instead"),
        (-1, None, "2 classes, 0 to 1; got -1 instead"),
        ("-1", None, "2 classes, 0 to 1; got -1 instead"),
        ("²", None, "2 classes, 0 to 1; got ² instead"),
        ("1.0", None, "2 classes, 0 to 1; got 1.0 instead"),
        (None, None, "given: this generator has 2 classes"),
    ],
)
def test_what_is_no_class_is_refused(chosen: int | str | None, names: list[str] | None, got: str) -> None:
    with pytest.raises(RequestError, match=rf"`label` must be .*{got}"):
        class_index(chosen, 2, names, "label")


def test_without_classes() -> None:
    assert class_index(None, 0, None) is None
    with pytest.raises(RequestError, match="`class_name` must be left out"):
        class_index("0", 0, None)


def test_many_names_are_cut_short() -> None:
    with pytest.raises(RequestError, match=r"30 classes, n0, .*n19 and 10 more; got x instead"):
        class_index("x", 30, [f"n{index}" for index in range(30)])


def test_names_of_classes() -> None:
    assert [class_name(index, ["day"]) for index in (0, 1)] == ["day", "1"]
    assert class_name(3, None) == "3"
