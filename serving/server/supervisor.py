"""Supervisor of a server process: it runs exactly as long as the process that started it. A program of its own:

    python supervisor.py PREFIX FOLDER COMMAND...

starts COMMAND, prints its process id, and stops it when standard input ends, which a pipe does when the other side
closes it or dies, by whatever signal. Then SIGTERM, some seconds for requests in flight, SIGKILL for what is left of
its process group; its shared memory, whose names begin with PREFIX, and FOLDER, which holds its socket, are removed.
Exits with the code of COMMAND.
"""

import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

GRACE = 15.0  # seconds that the server has to finish requests; its own limit, --exit-timeout-secs, is below
SHARED_MEMORY = Path("/dev/shm")
PR_SET_PDEATHSIG = 1  # of prctl(2)


def supervise(prefix: str, folder: Path, command: list[str]) -> int:
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
        clean(prefix, folder)
    return 128 - code if code < 0 else code


def clean(prefix: str, folder: Path) -> None:
    """Remove what a server left: processes of its models that wait for it, its shared memory, its socket's folder."""
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        pid = int(line.parent.name)
        with suppress(OSError):
            if pid != os.getpid() and prefix.encode() in line.read_bytes():
                os.kill(pid, signal.SIGKILL)
    for region in SHARED_MEMORY.glob(f"{prefix}*"):
        region.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)  # its end is that of standard input; not SIG_IGN, which exec hands on
    try:
        sys.exit(supervise(sys.argv[1], Path(sys.argv[2]), sys.argv[3:]))
    except OSError as error:  # such as of a file that is no program
        sys.exit(f"{sys.argv[3]}: {error.strerror}")
