"""Supervisor of a server process: it runs exactly as long as the process that started it. A program of its own:

    python supervisor.py PREFIX COMMAND...

starts COMMAND, prints its process id, and stops it when standard input ends, which a pipe does when the other side
closes it or dies, by whatever signal. Then SIGTERM, some seconds for requests in flight, SIGKILL for what is left of
its process group, and its shared memory, whose names begin with PREFIX, is removed. Exits with the code of COMMAND.
"""

import ctypes
import os
import select
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

GRACE = 15.0  # seconds that the server has to finish requests; its own limit, --exit-timeout-secs, is below
SHARED_MEMORY = Path("/dev/shm")
PR_SET_PDEATHSIG = 1  # of prctl(2)


def supervise(prefix: str, command: list[str]) -> int:
    """Exit code of `command`, which runs until it ends or standard input does; 128 + signal where one ended it."""
    parent = os.getpid()
    libc = ctypes.CDLL(None, use_errno=True)  # loaded here: not between fork and exec

    def die_with_parent() -> None:  # in the server, before it starts: it dies when this process is killed
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    server = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=sys.stderr, process_group=0, preexec_fn=die_with_parent
    )
    ended = os.pidfd_open(server.pid)
    try:
        print(server.pid, flush=True)
        ready, _, _ = select.select([sys.stdin.buffer, ended], [], [])
        if ended not in ready:
            server.terminate()
            select.select([ended], [], [], GRACE)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)  # not yet waited for, so that its number is still its own
        code = server.wait()
        os.close(ended)
        for region in SHARED_MEMORY.glob(f"{prefix}*"):
            region.unlink(missing_ok=True)
    return 128 - code if code < 0 else code


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)  # its end is that of standard input; not SIG_IGN, which exec hands on
    try:
        sys.exit(supervise(sys.argv[1], sys.argv[2:]))
    except OSError as error:  # such as of a file that is no program
        sys.exit(f"{sys.argv[2]}: {error.strerror}")
