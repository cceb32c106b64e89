"""Manifests: what is written is read, and what was changed afterwards is noticed."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from gan import manifest
from gan.errors import RequestError


def row(number: int, verdict: str = manifest.KEEP, reason: str | None = None) -> dict[str, Any]:
    values: dict[str, Any] = dict.fromkeys(manifest.SCHEMA.names)
    name = f"00000/img{number:08d}.jpg" if verdict == manifest.KEEP else None
    return values | {"name": name, "source": f"é/{number}.jpg", "width": number, "verdict": verdict, "reason": reason}


ROWS = [row(0), row(1), row(2, manifest.DROP, "duplicate: é/1.jpg"), row(3, manifest.QUARANTINE, "truncated")]


@pytest.fixture
def written(tmp_path: Path) -> Path:
    manifest.write(tmp_path / "m", ROWS, dataset="abc", parent=None, parameters={"resolution": 8})
    return tmp_path / "m"


def test_round_trip(written: Path) -> None:
    found = manifest.read(written)
    assert found.rows.to_pylist() == ROWS
    assert found.dataset == "abc"
    assert found.kept() == {"00000/img00000000.jpg", "00000/img00000001.jpg"}
    assert found.header["verdicts"] == {"drop": 1, "keep": 2, "quarantine": 1}
    assert found.header["reasons"] == {"duplicate": 1, "truncated": 1}
    assert found.header["parameters"] == {"resolution": 8}


def test_hash_is_of_the_rows(tmp_path: Path) -> None:
    def digest(name: str, rows: list[dict[str, Any]]) -> str:
        return manifest.write(tmp_path / name, rows, dataset=name, parent=None)

    assert digest("a", ROWS) == digest("b", ROWS)
    assert digest("c", ROWS[:3]) != digest("d", ROWS)


def test_many_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "ROWS_PER_PART", 2)
    manifest.write(tmp_path / "m", ROWS, dataset="abc", parent=None)
    assert len(list((tmp_path / "m").glob("part-*.parquet"))) == 2
    assert manifest.read(tmp_path / "m").rows.to_pylist() == ROWS


def test_changed_row_is_noticed(written: Path) -> None:
    part = written / "part-00000.parquet"
    rows = pq.read_table(part).to_pylist()
    rows[3]["verdict"] = manifest.KEEP
    pq.write_table(manifest.pa.Table.from_pylist(rows, schema=manifest.SCHEMA), part)
    with pytest.raises(RequestError, match="changed after it was written"):
        manifest.read(written)


def test_missing_part_is_noticed(written: Path) -> None:
    (written / "part-00000.parquet").unlink()
    with pytest.raises(RequestError, match="changed after it was written"):
        manifest.read(written)


def test_damaged_part_is_noticed(written: Path) -> None:
    part = written / "part-00000.parquet"
    part.write_bytes(part.read_bytes()[:-20])
    with pytest.raises(RequestError, match="cannot be read"):
        manifest.read(written)


@pytest.mark.parametrize("content", ["", "[]", '{"schema_version": 99}'])
def test_other_headers_are_refused(written: Path, content: str) -> None:
    (written / "manifest.json").write_text(content)
    with pytest.raises(RequestError):
        manifest.read(written)


def test_missing_manifest(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"manifest\.json must be a readable JSON file"):
        manifest.read(tmp_path)


def test_failure_leaves_nothing(tmp_path: Path) -> None:
    def rows() -> Any:
        yield row(0)
        raise RequestError("stop")

    with pytest.raises(RequestError, match="stop"):
        manifest.write(tmp_path / "m", rows(), dataset="abc", parent=None)
    assert list(tmp_path.iterdir()) == []


def test_leftover_of_a_process_with_our_number(tmp_path: Path, written: Path) -> None:
    import os

    (tmp_path / f".n.{os.getpid()}.partial").mkdir()
    manifest.write(
        tmp_path / "n", ROWS, dataset="abc", parent=json.loads((written / "manifest.json").read_text())["hash"]
    )
    assert manifest.read(tmp_path / "n").header["parent"] == manifest.read(written).header["hash"]
