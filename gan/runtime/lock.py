"""A lock of the system's on a file: it ends with the process that holds it, however that ends."""

import errno
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from filelock import FileLock
from filelock import Timeout as Timeout

from gan.runtime.console import say

_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP)  # as some NFS, Lustre and FUSE say


def lock(path: Path, *, blocking: bool = True) -> AbstractContextManager[object]:
    """Hold the lock on the file `path`, which is made and stays. Without locks in its file system, say so and go on.

    Raises Timeout when another process holds it and `blocking` is False, OSError when the file cannot be made.
    """
    try:
        # A file that is a lock by being there, the fallback, would outlive a killed process.
        return FileLock(path, fallback_to_soft=False).acquire(blocking=blocking)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        say(f"The file system of {path.parent} has no locks ({error.strerror}): let no other process write there")
        return nullcontext()
