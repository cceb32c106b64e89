"""Collecting images: what becomes of good, odd and hostile files, in any order, by any number of workers."""

import json
import os
import signal
import socket
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import HANG, until
from PIL import Image
from test_gan_data_decode import BAD, COLOURS, encoded, solid, textured

from curation.prepare.find_images import find
from curation.prepare.pipeline import collect
from curation.prepare.request import PrepareRequest
from curation.prepare.resize import ImageSettings, fit
from curation.prepare.worker_pool import fault_tolerant_map
from gan.data import manifest
from gan.data.dataset import ImageDataset
from gan.errors import RequestError
from gan.image_shape import ImageShape

SETTINGS = ImageSettings(
    shape=ImageShape(16, 16),
    fit="stretch",
    format="png",
    quality=95,
    filter="box",
    background=(255, 255, 255),
    max_pixels=10**8,
)


def request(source: Path | list[Path], out: Path | None, **options: Any) -> PrepareRequest:
    sources = tuple(source) if isinstance(source, list) else (source,)
    settings = {"resolution": 16, "format": "png", "filter": "box", "workers": 1, "dry_run": out is None}
    return PrepareRequest(sources=sources, out=out, **{**settings, **options})


def image(seed: int, size: tuple[int, int] = (20, 20)) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    return encoded(Image.fromarray(noise), "PNG")


def fill(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def rows(out: Path) -> dict[str, dict[str, Any]]:
    return {row["source"]: row for row in manifest.read(out.with_suffix(".manifest")).rows.to_pylist()}


def hidden(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


@pytest.mark.parametrize("as_zip", [False, True])
def test_a_zoo_of_files(tmp_path: Path, as_zip: bool) -> None:
    good = {f"good/{number:02d}.img": content for number, (content, _, _) in enumerate(COLOURS.values())}
    bad = {f"bad/{number:02d}.jpg": content for number, (content, _) in enumerate(BAD.values())}
    reasons = [reason for _, reason in BAD.values()]
    source = tmp_path / "zoo"
    fill(source, good | bad | {"notes.txt": b"ignored", "good/.hidden.png": image(0), "Thumbs.db": b"ignored"})
    if as_zip:
        source = tmp_path / "zoo.zip"
        with zipfile.ZipFile(source, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted((tmp_path / "zoo").rglob("*")):
                archive.write(path, path.relative_to(tmp_path / "zoo"))
    out = tmp_path / "out.zip"
    figures = collect(request(source, out, workers=2, keep_duplicates=True))
    assert figures["images"] == len(good) == len(ImageDataset(out))
    assert figures["quarantined"] == {reason: reasons.count(reason) for reason in sorted(set(reasons))}
    assert figures["ignored"] == 2
    found = rows(out)
    for number, reason in enumerate(reasons):
        row = found[f"{source.name}/bad/{number:02d}.jpg"]
        assert (row["verdict"], row["reason"], row["name"]) == ("quarantine", reason, None)
    assert len(found) == len(good) + len(bad)
    assert manifest.read(out.with_suffix(".manifest")).dataset == ImageDataset(out).fingerprint()
    assert manifest.read(out.with_suffix(".manifest")).kept() == set(ImageDataset(out).names)
    assert hidden(tmp_path) == []
    assert json.loads(out.with_suffix(".report.json").read_text())["images"] == len(good)


def test_odd_things_in_folders(tmp_path: Path) -> None:
    source = fill(tmp_path / "in", {"a/one.png": image(1), "a/b/two.png": image(2), ".git/three.png": image(3)})
    elsewhere = fill(tmp_path / "elsewhere", {"four.png": image(4), "deep/five.png": image(5)})
    os.mkfifo(source / "fifo.jpg")
    (source / "device.jpg").symlink_to("/dev/zero")
    (source / "dangling.jpg").symlink_to("nowhere.jpg")
    (source / "self.jpg").symlink_to("self.jpg")
    (source / "linked.png").symlink_to(elsewhere / "four.png")
    (source / "folder").symlink_to(elsewhere)
    (source / "again").symlink_to(elsewhere)
    (source / "a/b/loop").symlink_to(source)
    (elsewhere / "deep/loop").symlink_to(elsewhere)
    (source / os.fsdecode(b"caf\xe9.png")).write_bytes(image(6))
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(str(source / "socket.jpg"))
        figures = collect(request(source, tmp_path / "out.zip"))
    assert figures["quarantined"] == {"broken link": 1, "not a regular file": 3, "symlink loop": 3}
    found = rows(tmp_path / "out.zip")
    kept = sorted(name for name, row in found.items() if row["verdict"] == "keep")
    expected = ["a/b/two.png", "a/one.png", "again/deep/five.png", r"caf\xe9.png", "linked.png"]
    assert kept == [f"in/{name}" for name in expected]
    assert found["in/again/four.png"]["reason"] == "duplicate: in/linked.png"
    assert not any(name.startswith("in/folder/") for name in found)  # the second link to a folder already seen
    assert found["in/a/b/loop"]["reason"] == "symlink loop"


def test_odd_things_in_zips(tmp_path: Path) -> None:
    path = tmp_path / "in.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("../../escape.png", "/absolute.png", "ok.png", "coded.png", "checksum.png", "method.png"):
            archive.writestr(name, image(len(name)))
        archive.writestr("__MACOSX/ok.png", b"resource fork")
        archive.writestr("folder/", b"")
        archive.writestr("windows\\path.png", image(90))
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr("ok.png", image(99))
    content = bytearray(path.read_bytes())
    for name, offset, value in ((b"coded.png", 8, 1), (b"method.png", 10, 97)):  # in the archive's directory
        at = content.rindex(name) - 46
        assert content[at : at + 4] == b"PK\1\2"
        content[at + offset] = value
    local = content.index(b"method.png") - 30
    content[local + 8] = 97
    content[content.index(b"checksum.png") + 80] ^= 0xFF
    path.write_bytes(content)
    figures = collect(request(path, tmp_path / "out" / "d.zip"))
    assert figures["quarantined"] == {"corrupt": 1, "encrypted": 1, "unreadable": 1}
    found = rows(tmp_path / "out/d.zip")
    assert found["in.zip/coded.png"]["reason"] == "encrypted"
    assert found["in.zip/../../escape.png"]["verdict"] == "keep"
    assert found["in.zip/windows/path.png"]["verdict"] == "keep"
    assert figures["images"] == 5  # both that are called ok.png are read
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["d.manifest", "d.report.json", "d.zip"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.zip", "out"]


def test_any_order_and_any_workers_give_the_same(tmp_path: Path) -> None:
    files = {f"{number % 3}/{number:02d}.png": image(number % 17) for number in range(24)} | {"bad.jpg": b"x"}
    first = fill(tmp_path / "1/in", files)
    second = fill(tmp_path / "2/in", dict(reversed(files.items())))
    a, b = tmp_path / "a.zip", tmp_path / "b.zip"
    one = collect(request(first, a, workers=1, format="jpeg", labels="folders"))
    two = collect(request(second, b, workers=2, format="jpeg", labels="folders"))
    assert a.read_bytes() == b.read_bytes()
    assert one["manifest"] == two["manifest"]
    headers = [path.with_suffix(".manifest") / "manifest.json" for path in (a, b)]
    assert headers[0].read_text() == headers[1].read_text()
    assert one["images"] == 17 and one["unlabelled"] == 1


def test_any_order_inside_a_zip_gives_the_same(tmp_path: Path) -> None:
    files = {f"{number:02d}.png": image(number) for number in range(5)}
    digests = []
    for place, order in (("1", list(files)), ("2", list(reversed(files)))):
        (tmp_path / place).mkdir()
        with zipfile.ZipFile(tmp_path / place / "in.zip", "w") as archive:
            for name in order:
                archive.writestr(name, files[name])
        digests.append(collect(request(tmp_path / place / "in.zip", tmp_path / place / "d.zip"))["manifest"])
    assert digests[0] == digests[1]
    assert (tmp_path / "1/d.zip").read_bytes() == (tmp_path / "2/d.zip").read_bytes()


@pytest.mark.parametrize("format", ["jpeg", "png", "webp"])
def test_duplicates_are_kept_once(tmp_path: Path, format: str) -> None:
    flat = solid("RGB", (9, 8, 7))
    files = {"a.png": encoded(flat, "PNG"), "b.bmp": encoded(flat, "BMP"), "c.png": image(3)}
    source = fill(tmp_path / "in", files)
    figures = collect(request(source, tmp_path / "d.zip", format=format))
    assert (figures["images"], figures["duplicates"]) == (2, 1)
    found = rows(tmp_path / "d.zip")
    assert (found["in/b.bmp"]["verdict"], found["in/b.bmp"]["reason"]) == ("drop", "duplicate: in/a.png")
    assert found["in/a.png"]["pixel_sha256"] == found["in/b.bmp"]["pixel_sha256"]
    assert found["in/a.png"]["file_sha256"] != found["in/b.bmp"]["file_sha256"]
    kept = collect(request(source, tmp_path / "e.zip", format=format, keep_duplicates=True))
    assert (kept["images"], kept["duplicates"]) == (3, 0)


def test_fit() -> None:
    wide = Image.new("RGB", (40, 20), (255, 0, 0))
    wide.paste((0, 0, 255), (10, 0, 30, 20))  # the middle square

    def fitted(how: str) -> Any:
        return np.asarray(fit(wide, ImageSettings(**{**SETTINGS.__getstate__(), "fit": how})))

    stretch, crop, pad = fitted("stretch"), fitted("crop"), fitted("pad")
    assert (stretch[8, 0] == (255, 0, 0)).all() and (stretch[8, 8] == (0, 0, 255)).all()
    assert (crop == (0, 0, 255)).all()
    assert (pad[:4] == 255).all() and (pad[12:] == 255).all()
    assert (pad[8, 0] == (255, 0, 0)).all() and (pad[8, 8] == (0, 0, 255)).all()


def test_filters_do_not_alias(tmp_path: Path) -> None:
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 255
    for name in ("lanczos", "bicubic", "bilinear", "box"):
        small = np.asarray(fit(Image.fromarray(stripes), ImageSettings(**{**SETTINGS.__getstate__(), "filter": name})))
        assert np.abs(small.astype(int) - 128).max() <= 4, name


def test_aspects_modes_and_sizes(tmp_path: Path) -> None:
    sizes = {
        "a.png": (40, 10),
        "b.png": (16, 10),
        "c.png": (15, 10),
        "d.png": (10, 10),
        "e.png": (10, 16),
        "f.png": (10, 40),
    }
    source = fill(tmp_path / "in", {name: image(i, size) for i, (name, size) in enumerate(sizes.items())})
    figures = collect(request(source, tmp_path / "d.zip"))
    assert list(figures["aspects"].values()) == [1, 1, 0, 1, 1, 1, 1]
    assert figures["beyond_1.5_to_1"] == 4
    assert figures["modes"] == {"RGB": 6}
    assert figures["bytes_in"] == sum(path.stat().st_size for path in source.iterdir())
    assert figures["bytes_out"] == (tmp_path / "d.zip").stat().st_size


def test_folder_labels(tmp_path: Path) -> None:
    files = {"wrap/b/1.png": image(1), "wrap/a/deep/2.png": image(2), "wrap/a/3.png": image(3), "wrap/readme.txt": b""}
    figures = collect(request(fill(tmp_path / "in", files), tmp_path / "d.zip", labels="folders"))
    assert figures["labels"] == {"a": 2, "b": 1}
    dataset = ImageDataset(tmp_path / "d.zip")
    assert dataset.classes == ["a", "b"]
    found = rows(tmp_path / "d.zip")
    assert found["in/wrap/b/1.png"]["label"] == 1
    assert [dataset.label(i) for i in range(3)] == [0, 0, 1]


def test_several_sources_share_classes(tmp_path: Path) -> None:
    one = fill(tmp_path / "train", {"b/1.png": image(1), "a/2.png": image(2)})
    two = fill(tmp_path / "val", {"b/1.png": image(3)})
    figures = collect(request([one, two], tmp_path / "d.zip", labels="folders"))
    assert figures["labels"] == {"a": 1, "b": 2}
    assert set(rows(tmp_path / "d.zip")) == {"train/b/1.png", "train/a/2.png", "val/b/1.png"}


def test_sources_of_one_name_are_told_apart(tmp_path: Path) -> None:
    paths = [fill(tmp_path / side / "in", {"1.png": image(number)}) for number, side in enumerate("ab")]
    collect(request(paths, tmp_path / "d.zip"))
    assert set(rows(tmp_path / "d.zip")) == {f"{path.as_posix()}/1.png" for path in paths}


@pytest.mark.parametrize(
    ("text", "labels", "classes"),
    [
        ("name,label\nx/1.png,sun\n2.png,moon\n", {"moon": 1, "sun": 1}, ["moon", "sun"]),
        ("x/1.png,sun\r\n2.png,moon\r\n", {"moon": 1, "sun": 1}, ["moon", "sun"]),
        ("\ufefflabel,note,name\n3,a,x/1.png\n0,b,in/y/2.png\n", {"0": 1, "3": 1}, ["0", "3"]),
        ("label,name\n1,x/1.png\n0,in/y/2.png\n", {"0": 1, "1": 1}, None),
        ('"x/1.png","a, b"\nother.png,c\n', {"a, b": 1}, ["a, b"]),
    ],
)
def test_csv_labels(tmp_path: Path, text: str, labels: dict[str, int], classes: list[str] | None) -> None:
    source = fill(tmp_path / "in", {"x/1.png": image(1), "y/2.png": image(2), "y/3.png": image(3)})
    (tmp_path / "labels.csv").write_text(text, encoding="utf-8")
    figures = collect(request(source, tmp_path / "d.zip", labels=str(tmp_path / "labels.csv")))
    assert figures["labels"] == labels
    assert figures["unlabelled"] == 3 - sum(labels.values())
    assert figures["labels_unused"] == ("other" in text)
    assert ImageDataset(tmp_path / "d.zip").classes == classes
    assert rows(tmp_path / "d.zip")["in/y/3.png"]["reason"] == "no label"


def test_a_base_name_that_two_files_have_labels_neither(tmp_path: Path) -> None:
    source = fill(tmp_path / "in", {"x/1.png": image(1), "y/1.png": image(2), "y/2.png": image(3)})
    (tmp_path / "labels.csv").write_text("1.png,sun\n2.png,sun\n")
    figures = collect(request(source, tmp_path / "d.zip", labels=str(tmp_path / "labels.csv")))
    assert (figures["labels"], figures["unlabelled"]) == ({"sun": 1}, 2)


def test_limit_takes_the_first_by_path(tmp_path: Path) -> None:
    source = fill(tmp_path / "in", {f"{name}.png": image(number) for number, name in enumerate("cab")})
    collect(request(source, tmp_path / "d.zip", limit=2))
    assert set(rows(tmp_path / "d.zip")) == {"in/a.png", "in/b.png"}


def test_nothing_usable(tmp_path: Path) -> None:
    source = fill(tmp_path / "in", {"a.jpg": b"", "b.jpg": b"text", "c.txt": b"text"})
    with pytest.raises(RequestError, match="got none: empty 1, not an image 1, ignored 1"):
        collect(request(source, tmp_path / "out/d.zip"))
    assert list((tmp_path / "out").iterdir()) == []
    with pytest.raises(RequestError, match="got none: no files at all"):
        collect(request(fill(tmp_path / "void", {".x": b""}), None))


def test_dry_run_writes_nothing(tmp_path: Path) -> None:
    source = fill(tmp_path / "in", {"a.png": image(1), "b.jpg": b""})
    figures = collect(request(source, None))
    assert (figures["images"], figures["quarantined"], figures["archive"]) == (1, {"empty": 1}, None)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_existing_out_is_kept_until_it_is_replaced(tmp_path: Path) -> None:
    source, out = fill(tmp_path / "in", {"a.png": image(1)}), tmp_path / "out/d.zip"
    collect(request(source, out))
    (source / "link").symlink_to(out.parent)
    before = {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()}
    with pytest.raises(RequestError, match="`out` would replace"):
        request(source, out)
    fill(source, {"a.png": b"spoilt"})
    with pytest.raises(RequestError, match="got none"):
        collect(request(source, out, overwrite=True))
    fill(source, {"a.png": image(1)})
    assert {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()} == before
    fill(source, {"b.png": image(2)})
    figures = collect(request(source, out, overwrite=True))
    assert (figures["found"], figures["ignored"]) == (2, 0)  # its own output, which SOURCE links to, is no image
    assert set(rows(out)) == {"in/a.png", "in/b.png"}
    assert manifest.read(out.with_suffix(".manifest")).dataset == ImageDataset(out).fingerprint()
    assert hidden(out.parent) == []


def test_nothing_is_written_into_a_source(tmp_path: Path) -> None:
    source = fill(tmp_path / "in", {"deep/a.png": image(1)})
    collect(request(source, tmp_path / "d.zip"))
    before = (tmp_path / "d.zip").read_bytes()
    (tmp_path / "link").symlink_to(source)
    for sources, out in (
        ([source], source / "d.zip"),
        ([source], tmp_path / "link/deep/d.zip"),
        ([source, tmp_path / "d.zip"], tmp_path / "d.zip"),
    ):
        with pytest.raises(RequestError, match="`out` must lie outside `sources`, which stays as it is"):
            request(sources, out, overwrite=True)
    assert (tmp_path / "d.zip").read_bytes() == before and len(list(source.rglob("*"))) == 2


def test_a_folder_that_is_no_manifest_is_not_replaced(tmp_path: Path) -> None:
    fill(tmp_path / "d.manifest", {"precious.txt": b"x"})
    with pytest.raises(RequestError, match=r"d\.manifest exists and is no manifest: move it"):
        collect(request(fill(tmp_path / "in", {"a.png": image(1)}), tmp_path / "d.zip", overwrite=True))


@pytest.mark.parametrize(("name", "message"), [("d.tar", "must end in .zip"), ("folder.zip", "which is a folder")])
def test_out_that_cannot_be_meant(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "folder.zip").mkdir()
    with pytest.raises(RequestError, match=message):
        request(tmp_path, tmp_path / name, overwrite=True)


def test_sources_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "text.zip").write_text("no ZIP")
    os.mkfifo(tmp_path / "fifo")
    for name in ("nothing", "text.zip", "fifo"):
        with pytest.raises(
            RequestError,
            match="`sources` must be a folder, a ZIP, a tar or a Parquet file of images; got .*"
            + name
            + " instead, which is none",
        ):
            find([tmp_path / name], tmp_path / "scratch")


@pytest.mark.skipif(os.geteuid() == 0, reason="everything is readable for root")
def test_folder_without_permission(tmp_path: Path) -> None:
    source = fill(tmp_path / "in", {"a.png": image(1), "closed/b.png": image(2)})
    (source / "closed").chmod(0)
    try:
        assert collect(request(source, None))["quarantined"] == {"unreadable": 1}
    finally:
        (source / "closed").chmod(0o755)


@pytest.mark.parametrize("workers", [1, 2])
def test_dead_workers_cost_their_item_only(workers: int) -> None:
    # Expressions for `eval`: a function that workers know without importing this module.
    death = "__import__('os').kill(__import__('os').getpid(), 9)"
    items = [death if number in (0, 3, 7, 19) else f"{number}**2" for number in range(20)]
    found = list(fault_tolerant_map(eval, items, lambda item: "dead" if item is death else "wrong", workers))
    assert found == ["dead" if number in (0, 3, 7, 19) else number**2 for number in range(20)]


def test_workers_end_with_the_generator() -> None:
    results = fault_tolerant_map(eval, ["__import__('os').getpid()"] * 50, str, 2)
    workers = {next(results), next(results)}
    results.close()
    until(lambda: gone(workers))


def children_of(pid: int) -> set[int]:
    """All descendants of a process."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:  # it ended meanwhile
                continue
    found, new = set(), {pid}
    while new:
        found |= new
        new = {child for child, parent in parents.items() if parent in found} - found
    return found - {pid}


def gone(pids: set[int]) -> bool:
    def alive(pid: int) -> bool:
        try:
            return "\nState:\tZ" not in (Path("/proc") / str(pid) / "status").read_text()
        except OSError:
            return False

    return not any(alive(pid) for pid in pids)


def start(source: Path, out: Path, *options: str) -> "subprocess.Popen[bytes]":
    arguments = ["prepare", str(source), "--out", str(out), "--resolution", "64", "--workers", "2", *options]
    return subprocess.Popen(
        [sys.executable, "-m", "gan", *arguments],
        cwd=Path(__file__).parent.parent,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def large_images(folder: Path, copies: int = 0) -> Path:
    """60 files of one large image, and so many links to one of them, which take as long to read."""
    content = encoded(textured((1500, 1000)), "PNG")
    fill(folder, {f"{number:03d}.png": content for number in range(60)})
    for number in range(copies):
        os.link(folder / "059.png", folder / f"copy-{number:04d}.png")
    return folder


@pytest.mark.parametrize("name", ["SIGKILL", "SIGINT"])
def test_killed_run_leaves_nothing_half_done_and_the_next_one_finishes(tmp_path: Path, name: str) -> None:
    source, out = large_images(tmp_path / "in", copies=2000), tmp_path / "out/d.zip"  # far from done when it is killed
    with start(source, out) as process:
        rows_file = tmp_path / f"out/.d.zip.rows.{process.pid}.partial"
        until(lambda: rows_file.exists() and len(children_of(process.pid)) >= 3, process)
        below = children_of(process.pid)
        process.send_signal(getattr(signal, name))
        _, errors = process.communicate(timeout=HANG)
    assert process.returncode == (-signal.SIGKILL if name == "SIGKILL" else 130), errors
    until(lambda: gone(below))
    assert not out.exists() and not out.with_suffix(".manifest").exists()
    if name == "SIGINT":
        assert hidden(tmp_path / "out") == []
        assert errors.decode().strip() == "Stopped. Nothing was left half-written."
        return
    assert hidden(tmp_path / "out") != []
    for copy in source.glob("copy-*"):
        copy.unlink()
    figures = collect(request(source, out, workers=2))
    assert figures["duplicates"] == 59
    assert sorted(path.name for path in out.parent.iterdir()) == ["d.manifest", "d.report.json", "d.zip"]


def test_worker_killed_from_outside_costs_no_image(tmp_path: Path) -> None:
    source, out = large_images(tmp_path / "in"), tmp_path / "out/d.zip"
    with start(source, out) as process:
        rows_file = tmp_path / f"out/.d.zip.rows.{process.pid}.partial"
        until(lambda: rows_file.exists() and len(children_of(process.pid)) >= 3, process)

        def kill_a_worker() -> bool:
            servers = [p for p in children_of(process.pid) if children_of(p)]
            workers = set().union(*(children_of(p) for p in servers))
            for worker in workers:
                os.kill(worker, signal.SIGKILL)
                return True
            return False

        until(kill_a_worker, process)
        _, errors = process.communicate(timeout=HANG)
    assert process.returncode == 0, errors
    found = rows(out)
    assert len(found) == 60
    assert {row["verdict"] for row in found.values()} == {"keep", "drop"}
