"""Manifests: what is written is read, and what was changed afterwards is noticed."""

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gan.data import manifest
from gan.data.manifest_hash import TableHash
from gan.errors import RequestError

OLD = Path(__file__).parent / "fixtures" / "manifest_v1"  # as version 1 wrote it, in two parts


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
    pq.write_table(pa.Table.from_pylist(rows, schema=manifest.SCHEMA), part)
    with pytest.raises(RequestError, match="changed after it was written"):
        manifest.read(written)


def table(rows: list[dict[str, Any]] = ROWS, **extra: list[Any]) -> pa.Table:
    found = pa.Table.from_pylist(rows, schema=manifest.SCHEMA)
    for name, values in extra.items():
        found = found.append_column(name, pa.array(values))
    return found


EXTRA = table(
    score_knn=[0.5, None, -1e300, 2.0], flags=["a,b", None, "", "é"], series_group=[1, None, 3, -4], odd=[True] * 4
)


def test_any_other_columns(tmp_path: Path) -> None:
    manifest.write_tables(tmp_path / "m", [EXTRA], dataset="abc", parent="p", parameters={"k": 5})
    found = manifest.read(tmp_path / "m")
    assert found.rows.equals(EXTRA) and found.rows.schema == EXTRA.schema
    assert found.header["parent"] == "p" and found.header["rows"] == 4
    assert found.header["columns"]["score_knn"] == "double" and found.header["verdicts"]["keep"] == 2
    some = manifest.read(tmp_path / "m", ["flags", "name", "verdict"])
    assert some.rows.column_names == ["flags", "name", "verdict"] and some.kept() == found.kept()
    with pytest.raises(RequestError, match="must have the column score_none"):
        manifest.read(tmp_path / "m", ["score_none"])


def test_hash_does_not_depend_on_parts_or_on_the_order_of_columns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reordered = EXTRA.select(sorted(EXTRA.column_names))
    for name, rows_per_part, tables in (
        ("whole", 100, [EXTRA]),
        ("ones", 1, [EXTRA]),
        ("threes", 3, [reordered.slice(0, 1), reordered.slice(1, 3)]),
    ):
        monkeypatch.setattr(manifest, "ROWS_PER_PART", rows_per_part)
        manifest.write_tables(tmp_path / name, tables, dataset="abc", parent=None)
    found = [manifest.read(tmp_path / name) for name in ("whole", "ones", "threes")]
    assert len({each.hash for each in found}) == 1
    assert len(list((tmp_path / "ones").glob("part-*"))) == 4 and len(list((tmp_path / "threes").glob("part-*"))) == 2
    assert all(each.rows.select(EXTRA.column_names).equals(EXTRA) for each in found)


@pytest.mark.parametrize("column", EXTRA.column_names)
def test_hash_sees_every_value(column: str) -> None:
    def digest(rows: pa.Table) -> str:
        found = TableHash(rows.schema)
        found.update(rows)
        return found.hexdigest()

    values = EXTRA.column(column).to_pylist()
    index, type = EXTRA.column_names.index(column), EXTRA.schema.field(column).type
    other = {pa.string(): "x", pa.int64(): 99, pa.float64(): 9.5, pa.bool_(): False}[type]
    zero = {pa.string(): "", pa.int64(): 0, pa.float64(): 0.0, pa.bool_(): False}[type]
    digests = {digest(EXTRA), digest(EXTRA.slice(0, 3)), digest(EXTRA.slice(1, 3)), digest(EXTRA.drop_columns(column))}
    for value in {other, zero, None}:  # a null is neither zero nor empty
        changed = EXTRA.set_column(index, column, pa.array([value, *values[1:]], type))
        digests.add(digest(changed))
    assert len(digests) == 4 + len({other, zero, None} - {values[0]})


def test_hash_tells_where_one_text_ends() -> None:
    def digest(*texts: str) -> str:
        rows = pa.table({"a": list(texts)})
        found = TableHash(rows.schema)
        found.update(rows)
        return found.hexdigest()

    assert len({digest("ab", "c"), digest("a", "bc"), digest("abc", ""), digest("ab", "c", "")}) == 4


def test_version_1_is_read() -> None:
    found = manifest.read(OLD)
    assert found.rows.to_pylist() == [each | {"reviewer": "salon prepare"} for each in ROWS]
    assert found.header["schema_version"] == 1 and len(found.kept()) == 2


def test_changed_version_1_is_noticed(tmp_path: Path) -> None:
    shutil.copytree(OLD, tmp_path / "m")
    (tmp_path / "m" / "part-00001.parquet").unlink()
    with pytest.raises(RequestError, match="changed after it was written"):
        manifest.read(tmp_path / "m")


def test_never_in_place(written: Path) -> None:
    before = {file.name: file.read_bytes() for file in written.iterdir()}
    with pytest.raises(RequestError, match="new folder"):
        manifest.write(written, ROWS[:1], dataset="abc", parent=None)
    assert {file.name: file.read_bytes() for file in written.iterdir()} == before


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ([table(odd=[b"x"] * 4)], "odd must be one of"),
        ([EXTRA.drop_columns("width")], "must have the columns"),
        ([EXTRA, table()], "must have the columns"),
        ([table(odd=[1] * 4), table(odd=["x"] * 4)], "must have the types"),
    ],
)
def test_tables_that_do_not_fit(tmp_path: Path, tables: list[pa.Table], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        manifest.write_tables(tmp_path / "m", tables, dataset="abc", parent=None)
    assert list(tmp_path.iterdir()) == []


def test_missing_part_is_noticed(written: Path) -> None:
    (written / "part-00000.parquet").unlink()
    with pytest.raises(RequestError, match="changed after it was written"):
        manifest.read(written)


def test_damaged_part_is_noticed(written: Path) -> None:
    part = written / "part-00000.parquet"
    part.write_bytes(part.read_bytes()[:-20])
    with pytest.raises(RequestError, match="cannot be read"):
        manifest.read(written)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"schema_version": 99}',
        '{"schema_version": 2}',
        '{"schema_version": 2, "columns": {"name": "string"}}',
    ],
)
def test_other_headers_are_refused(written: Path, content: str) -> None:
    (written / "manifest.json").write_text(content)
    with pytest.raises(RequestError):
        manifest.read(written)


def test_missing_manifest(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"must be a manifest, a folder with a manifest\.json; it is none"):
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
