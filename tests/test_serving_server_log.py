"""What is read out of a server's log. The faults that a real server can be brought to are in test_serving_server."""

import pytest

from gan.errors import RequestError
from serving.server import server_log
from serving.server.server_log import ServerLog


def test_a_log_starts_where_the_one_before_ended(tmp_path):
    path = tmp_path / "log"
    path.write_text("successfully loaded 'before'\n")
    log = ServerLog(path)
    log.file.write(b"successfully loaded 'a'\n+---+\n| x |\n\nsuccessfully loaded 'b'\nloading: c:1\n")
    log.file.flush()
    assert log.loaded() == ["a", "b"] and log.fault() is None
    assert [line.strip() for line in log.last_lines().splitlines()] == [
        "successfully loaded 'a'",
        "successfully loaded 'b'",
        "loading: c:1",
    ]
    log.close()


@pytest.mark.parametrize(
    "line, reason",
    [
        (
            "stub: error while loading shared libraries: libpython3.11.so.1.0: cannot open",
            "library libpython3.11.so.1.0",
        ),
        ("failed to load 'a' version 1: Internal: no\\nmemory\\n\\nAt:\\n  model.py(3): x\"", "a: no memory. Remedy"),
    ],
)
def test_faults_are_named_with_their_remedy(line, reason):
    log = ServerLog(None)
    log.file.write(f"I1124 server.cc:1] start\nE1124 main.cc:257] {line}\nI1124 end\n".encode())
    log.file.flush()
    fault = log.fault()
    assert reason in str(fault) and "\n" not in str(fault)
    log.close()


def test_a_log_that_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(RequestError, match=r"`log` must be a file that can be written; got .*: Is a directory"):
        ServerLog(tmp_path)


def test_a_log_does_not_grow_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(server_log, "CAP", 1000)
    monkeypatch.setattr(server_log, "LOOKED_AT", 300)
    log = ServerLog(tmp_path / "log")
    for number in range(100):
        log.file.write(f"line {number} {'x' * 80}\n".encode())
        log.file.flush()
        log.cap()
        assert (tmp_path / "log").stat().st_size <= 1100
    assert (tmp_path / "log.1").stat().st_size <= 1100  # the part before
    assert "line 99 " in log.last_lines() and len(log.text()) <= 300
    kept = (tmp_path / "log.1").read_text() + (tmp_path / "log").read_text()
    assert [line.split()[1] for line in kept.splitlines()] == [str(n) for n in range(100)][-kept.count("\n") :]
    log.close()
    log.cap()  # as a watch may, after the end


def test_a_log_without_a_file_is_kept_small_too(monkeypatch):
    monkeypatch.setattr(server_log, "CAP", 1000)
    log = ServerLog(None)
    log.file.write(b"x" * 5000)
    log.file.flush()
    log.cap()
    log.file.write(b"\nthe end\n")
    log.file.flush()
    assert log.last_lines().splitlines()[-1].strip() == "the end"
    log.close()


def test_a_long_log_is_read_from_its_end(tmp_path, monkeypatch):
    path = tmp_path / "log"
    log = ServerLog(path)
    log.file.truncate(2**33)  # a hole of 8 GiB
    log.file.write(b"failed to load 'a' version 1: no\n")
    log.file.flush()
    assert "a: no." in str(log.fault())
    log.close()
