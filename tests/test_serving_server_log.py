"""What is read out of a server's log. The faults that a real server can be brought to are in test_serving_server."""

import pytest

from gan.errors import RequestError
from serving.server.server_log import PortTaken, ServerLog


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
        ("failed to start HTTP service: Unavailable - Socket '127.0.0.1:8000' already in use ", "Port 8000 is taken"),
        ("failed to start HTTP service: Unavailable - Socket '[::1]:8000' already in use ", "Port 8000 is taken"),
        ("failed to load 'a' version 1: Internal: no\\nmemory\\n\\nAt:\\n  model.py(3): x\"", "a: no memory. Remedy"),
    ],
)
def test_faults_are_named_with_their_remedy(line, reason):
    log = ServerLog(None)
    log.file.write(f"I1124 server.cc:1] start\nE1124 main.cc:257] {line}\nI1124 end\n".encode())
    log.file.flush()
    fault = log.fault()
    assert reason in str(fault) and "\n" not in str(fault)
    assert isinstance(fault, PortTaken) == ("Port" in reason)
    log.close()


def test_a_log_that_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(RequestError, match=r"`log` must be a file that can be written; got .*: Is a directory"):
        ServerLog(tmp_path)
