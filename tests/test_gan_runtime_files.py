"""Files that are either whole or absent."""

import errno
import hashlib
import os
import shutil
import stat
import subprocess
import sys

import pytest
from conftest import full_disk

from gan.errors import RequestError, SalonError
from gan.runtime import files


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_sha256(tmp_path):
    (tmp_path / "file").write_bytes(b"painting")
    assert files.sha256(tmp_path / "file") == hashlib.sha256(b"painting").hexdigest()


def test_atomic_writes_a_file_and_makes_its_folder(tmp_path):
    target = tmp_path / "new" / "file.txt"
    with files.atomic(target) as temporary:
        temporary.write_text("whole")
        assert temporary.parent == target.parent and not target.exists()
    assert target.read_text() == "whole" and names(target.parent) == ["file.txt"]


def test_atomic_writes_a_folder(tmp_path):
    with files.atomic(tmp_path / "folder") as temporary:
        (temporary / "deep").mkdir(parents=True)
        (temporary / "deep" / "file").write_text("whole")
    assert (tmp_path / "folder" / "deep" / "file").read_text() == "whole" and names(tmp_path) == ["folder"]


def test_atomic_leaves_what_was_there_when_the_writer_fails(tmp_path):
    target = tmp_path / "file.txt"
    target.write_text("old")
    with pytest.raises(ZeroDivisionError), files.atomic(target) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError), files.atomic(target) as temporary:
        temporary.mkdir()
        (temporary / "part").write_text("half")
        raise ZeroDivisionError
    assert target.read_text() == "old" and names(tmp_path) == ["file.txt"]


def test_atomic_replaces_the_partial_of_a_killed_process_of_the_same_number(tmp_path):
    stale = tmp_path / f".folder.{os.getpid()}.partial"
    stale.mkdir()
    (stale / "half").write_text("half")
    with files.atomic(tmp_path / "folder") as temporary:
        temporary.mkdir()
    assert names(tmp_path) == ["folder"] and names(tmp_path / "folder") == []


def test_a_full_disk_is_one_clear_error_and_keeps_the_old_file(tmp_path):
    target = tmp_path / "file.bin"
    target.write_bytes(b"old")
    with full_disk(1000), pytest.raises(SalonError, match="GB are free") as caught, files.atomic(target) as temporary:
        temporary.write_bytes(bytes(2000))
    assert caught.value.exit_code == 1 and str(target) in str(caught.value)
    assert target.read_bytes() == b"old" and names(tmp_path) == ["file.bin"]


def test_a_place_where_no_file_can_be_is_a_fault_of_the_request(tmp_path):
    (tmp_path / "file").write_text("a file, no folder")
    (tmp_path / "folder").mkdir()
    for target in (tmp_path / "file" / "inside", tmp_path / "folder"):
        with pytest.raises(RequestError, match="could not be written"), files.atomic(target) as temporary:
            temporary.write_text("lost")
    assert names(tmp_path) == ["file", "folder"]


def test_json_round_trip_and_what_is_no_json(tmp_path):
    value = {"title": "Seerosenteich 睡蓮", "years": [1899, None]}
    files.write_json(tmp_path / "value.json", value)
    assert files.read_json(tmp_path / "value.json") == value
    (tmp_path / "torn.json").write_text('{"title": ')
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    for name in ("torn.json", "binary.json", "absent.json", "."):
        with pytest.raises(RequestError, match="must be a readable JSON file"):
            files.read_json(tmp_path / name)


def test_cache_folder_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("SALON_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert files.cache_folder() == tmp_path / "own"
    monkeypatch.delenv("SALON_CACHE")
    assert files.cache_folder() == tmp_path / "xdg" / "salon"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert files.cache_folder() == tmp_path / "home" / ".cache" / "salon"


def test_partials_of_dead_processes_are_removed_and_others_kept(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (tmp_path / f".gone.{dead.pid}.partial").write_text("half")
    (tmp_path / f".gone-folder.{dead.pid}.partial").mkdir()
    kept = [f".alive.{os.getpid()}.partial", ".someone.partial", "gone.partial", "file.txt"]
    for name in kept:
        (tmp_path / name).write_text("mine")
    files.remove_stale_partials(tmp_path)
    assert names(tmp_path) == sorted(kept)


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS])
def test_a_file_system_that_cannot_sync_folders_is_written_to_all_the_same(tmp_path, monkeypatch, number):
    sync = os.fsync

    def refuse_folders(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse_folders)
    with files.atomic(tmp_path / "folder" / "inner") as temporary:
        temporary.mkdir()
        (temporary / "file").write_text("whole")
    assert (tmp_path / "folder" / "inner" / "file").read_text() == "whole"


def test_a_disk_that_fails_to_sync_is_told(tmp_path, monkeypatch):
    def fail(descriptor):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(SalonError, match="Input/output error"), files.atomic(tmp_path / "file") as temporary:
        temporary.write_text("lost")
    assert not names(tmp_path)


def test_names_of_other_bytes_than_utf_8(tmp_path):
    name = os.fsdecode(b"k\xe4se")
    files.write_json(tmp_path / name / "value.json", {"name": name, "title": "睡蓮"})
    assert files.read_json(tmp_path / name / "value.json") == {"name": name, "title": "睡蓮"}
    with files.utf8_path(tmp_path / name / "value.json") as path:
        assert files.escaped(str(path)) == str(path) and name in path.read_text().encode().decode("unicode_escape")
    with files.utf8_path(tmp_path / "睡蓮") as path:
        assert path == tmp_path / "睡蓮"


HOMELESS = "from gan.runtime.files import cache_folder; print(cache_folder())"


def test_a_user_without_a_home_has_a_cache_of_its_own(tmp_path):
    user = ["unshare", "--user", "--map-user=54321"]  # that no system has
    if shutil.which("unshare") is None or subprocess.run([*user, "true"], capture_output=True).returncode:
        pytest.skip("no user namespaces")
    environment = {"TMPDIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}

    def ask():
        return subprocess.run([*user, sys.executable, "-c", HOMELESS], env=environment, capture_output=True, text=True)

    folder = tmp_path / "salon-54321"
    assert ask().stdout.strip() == str(folder) == ask().stdout.strip() and folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o777)  # others may have put libraries there
    assert f"{folder} belongs to others; set SALON_CACHE" in ask().stderr
