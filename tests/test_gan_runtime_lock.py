"""Locks of the system's on files."""

import errno
import fcntl
import os

import pytest

from gan.runtime.lock import Timeout, lock


def refuse(number):
    def flock(descriptor, operation):
        raise OSError(number, os.strerror(number))

    return flock


def test_a_lock_is_held_once_and_given_back(tmp_path):
    with lock(tmp_path / "lock"), pytest.raises(Timeout), lock(tmp_path / "lock", blocking=False):
        pass
    with lock(tmp_path / "lock", blocking=False):
        pass


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_told_and_used(tmp_path, monkeypatch, capsys, number):
    monkeypatch.setattr(fcntl, "flock", refuse(number))
    with lock(tmp_path / "lock", blocking=False):
        told = capsys.readouterr().err
    assert f"The file system of {tmp_path} has no locks ({os.strerror(number)})" in told


def test_only_a_lock_that_is_held_counts_as_held(tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", refuse(errno.EWOULDBLOCK))
    with pytest.raises(Timeout):
        lock(tmp_path / "lock", blocking=False)
    monkeypatch.setattr(fcntl, "flock", refuse(errno.EIO))
    with pytest.raises(OSError, match="Input/output error"):
        lock(tmp_path / "lock", blocking=False)
