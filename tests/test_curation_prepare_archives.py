"""Archives of images: tars and compressed ones, archives in archives, parts of split ZIPs, and damaged ones."""

import io
import struct
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
from test_curation_prepare_pipeline import fill, hidden, image, request, rows

from curation.prepare.pipeline import collect
from gan.data.dataset import ImageDataset
from gan.errors import RequestError

FILES = {"a/1.png": image(1), "a/2.png": image(2), "b/3.png": image(3), "b/._3.png": b"of the system"}


def tar(files: dict[str, bytes], mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def prepared(tmp_path: Path, name: str, content: bytes, **options: Any) -> dict[str, Any]:
    """What collect makes of one source, having left nothing but the source and the dataset."""
    fill(tmp_path, {name: content})
    figures = collect(request(tmp_path / name, tmp_path / "out/d.zip", **options))
    assert hidden(tmp_path / "out") == [] and (tmp_path / name).read_bytes() == content
    return figures


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_tar_is_read_as_a_zip_is(tmp_path: Path, mode: str) -> None:
    figures = prepared(tmp_path, "in.tar", tar({f"./{name}": content for name, content in FILES.items()}, mode))
    assert (figures["images"], figures["quarantined"]) == (3, {})
    assert list(rows(tmp_path / "out/d.zip")) == ["in.tar/a/1.png", "in.tar/a/2.png", "in.tar/b/3.png"]
    from_zip = collect(request(fill(tmp_path, {"in.zip": zipped(FILES)}) / "in.zip", tmp_path / "z.zip"))
    assert ImageDataset(tmp_path / "z.zip").fingerprint() == figures["fingerprint"] == from_zip["fingerprint"]


def test_archives_in_archives_are_folders(tmp_path: Path) -> None:
    cats, dogs = zipped({"1.png": image(1)}), tar({"x/2.png": image(2), "3.png": image(3)}, "w:gz")
    content = zipped({"dogs.tar.gz": dogs, "cats.zip": cats, "birds/4.png": image(4), "__MACOSX/cats.zip": b""})
    figures = prepared(tmp_path, "in.zip", content, labels="folders")
    assert figures["labels"] == {"birds": 1, "cats": 1, "dogs": 2}
    names = ["birds/4.png", "cats.zip/1.png", "dogs.tar.gz/3.png", "dogs.tar.gz/x/2.png"]
    assert list(rows(tmp_path / "out/d.zip")) == [f"in.zip/{name}" for name in names]
    assert prepared(tmp_path, "in.tgz", tar({"in.zip": content}, "w:gz"), overwrite=True)["images"] == 4


def test_archives_in_archives_that_cannot_be_read(tmp_path: Path) -> None:
    inner = zipped({"1.png": image(1)})
    for _ in range(3):
        inner = zipped({"deep.zip": inner})
    damaged = bytearray(tar({"2.png": image(2)}, "w:gz"))
    damaged[len(damaged) // 2] ^= 0xFF
    content = {"ok.png": image(3), "deep.zip": inner, "none.zip": b"text", "damaged.tgz": bytes(damaged)}
    figures = prepared(tmp_path, "in.zip", zipped(content))
    assert (figures["images"], figures["quarantined"]) == (1, {"corrupt": 2, "not an image": 1})
    assert rows(tmp_path / "out/d.zip")["in.zip/none.zip"]["reason"] == "corrupt"


def test_odd_things_in_tars(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, type, link in (("1.png", tarfile.REGTYPE, ""), ("2.png", tarfile.LNKTYPE, "1.png")):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname, entry.size = type, link, len(image(1)) * (type == tarfile.REGTYPE)
            archive.addfile(entry, io.BytesIO(image(1)))
        for name, type in (("3.png", tarfile.SYMTYPE), ("4.png", tarfile.FIFOTYPE), ("folder", tarfile.DIRTYPE)):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = type, "/etc/passwd"
            archive.addfile(entry)
    figures = prepared(tmp_path, "in.tar", buffer.getvalue())
    assert (figures["images"], figures["duplicates"]) == (1, 1)
    assert figures["quarantined"] == {"not a regular file": 2}
    figures = prepared(
        tmp_path, "in.tar", tar({"1.png": image(1), "large.png": bytes(4000)}), max_pixels=400, overwrite=True
    )
    assert figures["quarantined"] == {"too large": 1}


@pytest.mark.parametrize("name", ["in.tar.gz", "in.tar.bz2", "in.tar.xz"])
def test_damaged_compressed_tars_are_one_line(tmp_path: Path, name: str) -> None:
    content = tar(FILES, f"w:{name.rpartition('.')[2]}")
    for damaged in (content[:-20], content[:30] + b"spoilt" + content[36:], b"\x1f\x8b"):
        with pytest.raises(
            RequestError, match=f"must be a folder, a ZIP, a tar or a Parquet file of images; got .*{name} instead"
        ):
            prepared(tmp_path, name, damaged)
    assert list((tmp_path / "out").iterdir()) == []


def part_of_a_split_zip() -> bytes:
    # The last of three: the record at its end has the number of this part, and of that where the directory begins.
    content = bytearray(zipped(FILES))
    struct.pack_into("<2H", content, content.rindex(b"PK\5\6") + 4, 2, 2)
    return bytes(content)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("in.zip", part_of_a_split_zip()),
        ("in.z01", b"PK\7\x08" + zipped(FILES)[:1000]),
        ("in.zip.001", zipped(FILES)[:1000]),
        ("in.zip.003", zipped(FILES)[1000:]),
    ],
)
def test_a_part_of_a_split_zip_is_called_so(tmp_path: Path, name: str, content: bytes) -> None:
    with pytest.raises(
        RequestError, match=rf"^{tmp_path / name} must be a whole ZIP; it is one part of several\. Join them first"
    ):
        prepared(tmp_path, name, content)
    with pytest.raises(RequestError, match=f"{name} must be a whole ZIP"):
        ImageDataset(tmp_path / name)


def shards(**samples: str) -> dict[str, bytes]:
    """Two WebDataset shards with samples of image, class, caption and JSON, and a second image in the first sample."""
    files: list[dict[str, bytes]] = [{"00.seg.png": image(10)}, {}]
    for number, (key, label) in enumerate(samples.items()):
        sample = {"png": image(number), "cls": label.encode(), "txt": b"a picture", "json": b'{"style": "s%b"}'}
        sample["json"] %= label.encode()
        files[number % 2].update({f"{key.strip('_')}.{suffix}": content for suffix, content in sample.items()})
    return {f"shard-{number:06d}.tar": tar(shard) for number, shard in enumerate(files)}


def test_webdataset_shards_bring_their_labels(tmp_path: Path) -> None:
    source = fill(tmp_path / "in", shards(_00="2", _01="0", _02="1"))
    paths = sorted(source.iterdir())
    figures = collect(request(paths, tmp_path / "d.zip"))
    assert (figures["images"], figures["quarantined"], figures["ignored"]) == (4, {}, 9)
    labels = {name: row["label"] for name, row in rows(tmp_path / "d.zip").items()}
    first, second = "shard-000000.tar", "shard-000001.tar"
    assert labels == {f"{first}/00.png": 2, f"{first}/00.seg.png": 2, f"{first}/02.png": 1, f"{second}/01.png": 0}
    assert ImageDataset(tmp_path / "d.zip").classes is None
    collect(request(source, tmp_path / "folder.zip", workers=2))  # the folder of the shards is the same
    assert ImageDataset(tmp_path / "folder.zip").fingerprint() == figures["fingerprint"]
    collect(request(paths, tmp_path / "j.zip", labels="dataset", label_column="style"))
    assert ImageDataset(tmp_path / "j.zip").classes == ["s0", "s1", "s2"]
    with pytest.raises(RequestError, match="`labels` dataset needs"):
        collect(request(paths, tmp_path / "k.zip", labels="dataset", label_column="artist"))


def test_samples_without_a_class_that_can_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = fill(tmp_path, shards(_00="cat", _01="", _02="dog", _03="x" * 1000, _04="a\nb")) / "shard-000001.tar"
    sources = [tmp_path / "shard-000000.tar", source]
    assert collect(request(sources, tmp_path / "d.zip", labels="dataset"))["unlabelled"] == 3
    assert ImageDataset(tmp_path / "d.zip").classes == ["cat", "dog"]
    assert collect(request(sources, tmp_path / "e.zip"))["labels"] is None
    assert "The dataset labels 3 of 6 images" in capsys.readouterr().err


def test_archives_in_folders_are_folders(tmp_path: Path) -> None:
    files = {"a.tar": tar(FILES), "b.zip": zipped({"4.png": image(4)}), "c.zip": b"text", "5.png": image(5)}
    figures = collect(request(fill(tmp_path / "in", files), tmp_path / "d.zip"))
    assert (figures["images"], figures["quarantined"]) == (5, {"corrupt": 1})
    assert "in/a.tar/b/3.png" in rows(tmp_path / "d.zip")


def test_a_truncated_tar_is_read_as_far_as_it_goes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = tar({"1.png": image(1), "2.png": image(2), "3.png": image(3)})
    third = content.index(b"3.png")
    for damaged, quarantined in (
        (content[: third + 700], {"truncated": 1}),  # inside of the third image
        (content[: third + 100], {}),  # in its header
        (content[:third], {}),  # between two
        (content[:third] + b"spoilt" + content[third + 6 :], {}),
    ):
        figures = prepared(tmp_path, "in.tar", damaged, overwrite=True)
        assert (figures["images"], figures["quarantined"]) == (2, quarantined)
        assert f"in.tar is truncated or damaged: only the {2 + len(quarantined)} entries" in capsys.readouterr().err
    prepared(tmp_path, "in.tar", content, overwrite=True)
    assert capsys.readouterr().err == ""


def test_a_dry_run_leaves_nothing_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    fill(tmp_path, {"in.tgz": tar(FILES, "w:gz"), "temporary/x": b""})
    assert collect(request(tmp_path / "in.tgz", None))["images"] == 3
    assert [path.name for path in (tmp_path / "temporary").iterdir()] == ["x"]
