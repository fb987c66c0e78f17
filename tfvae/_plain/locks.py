"""Locks of open files, by which processes see each other."""

import contextlib
import os
import time
from pathlib import Path

_PAUSE = 0.01  # seconds between two tries
_MOST = 60  # seconds; what is done under a lock that is waited for takes a few thousandths


def lock(file: int) -> None:
    """Lock a file until it is closed, which the system does when its process dies.

    A process that was forked meanwhile has the same lock, which is held until it, too, has closed
    the file.

    Args:
        file: number of an open file; network file systems ask for one that can be written to.

    Raises:
        BlockingIOError: it is held through another opening of the file, here or in another process.
        OSError: the file system has no locks, or does not allow them.
    """
    _lock(file)


@contextlib.contextmanager
def one_at_a_time(path: Path):
    """Wait until no other process or thread is in the context of this path.

    On a file system without locks there is no waiting.

    Args:
        path: of a file that is there during the context, for its lock.

    Raises:
        TimeoutError: another one stays in it for a minute.
        OSError: the file cannot be made.
    """
    end = time.monotonic() + _MOST
    while not (file := _opened_and_locked(path)):
        if time.monotonic() > end:
            raise TimeoutError(f"Another process holds the lock {path}")
        time.sleep(_PAUSE)
    with file:
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # some systems keep it while it is open
                path.unlink()


def _opened_and_locked(path):
    """Return the file of a path, locked; None if another one holds it, or has just removed it."""
    file = path.open("ab")
    try:
        lock(file.fileno())
        is_there = os.path.samestat(os.fstat(file.fileno()), path.stat())
    except (BlockingIOError, FileNotFoundError):
        is_there = False
    except OSError:  # a file system without locks
        is_there = True
    if is_there:
        return file
    file.close()
    return None


try:
    import fcntl
except ModuleNotFoundError:  # Windows
    import msvcrt

    def _lock(file):
        try:
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        except PermissionError as error:  # as Windows calls a lock that is held
            raise BlockingIOError(error.errno, error.strerror) from None
else:

    def _lock(file):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
