"""Blocks that were finished are read again; what is no block of these items is not."""

import pytest

from gan.errors import RequestError
from gan.runtime.cluster import KeptBlocks
from gan.runtime.engines import check_engine

ROWS = [{"name": "a", "content": b"\xff\x00", "box": [1, 2], "none": None}, {"name": "b", "box": None, "none": None}]


def named(items):
    return None if "unnamed" in items else "-".join(items)


def test_finished_blocks_are_read_again_and_damaged_ones_are_not(tmp_path):
    kept = KeptBlocks(folder=tmp_path / "blocks", name=named)
    kept.remove()  # where there is nothing yet
    kept.write(["a", "b"], ROWS)
    assert kept.read(["a", "b"]) == [ROWS[0], {"content": None, **ROWS[1]}]
    assert kept.read(["b", "a"]) is None
    file = tmp_path / "blocks" / "a-b.parquet"
    file.write_bytes(file.read_bytes()[:-9])
    assert kept.read(["a", "b"]) is None
    kept.write(["a", "b"], ROWS[:1])  # not all of its rows
    assert kept.read(["a", "b"]) is None
    kept.write(["unnamed"], ROWS[:1])
    assert kept.read(["unnamed"]) is None and [path.name for path in file.parent.iterdir()] == ["a-b.parquet"]
    kept.remove()
    assert list(tmp_path.iterdir()) == []


def test_an_engine_that_there_is_not_and_an_address_without_use_are_refused():
    check_engine("local", None)
    check_engine("ray", None)
    check_engine("ray", "auto")
    with pytest.raises(RequestError, match="`engine` must be one of local, ray; got spark instead"):
        check_engine("spark", None)
    with pytest.raises(RequestError, match="`address` is that of `engine` ray; got auto for local"):
        check_engine("local", "auto")
