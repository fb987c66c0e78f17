"""Locks of open files, by which processes see each other."""

import errno

_HELD = (errno.EAGAIN, errno.EACCES)  # the second one of Windows, and of some network file systems


def lock(file: int) -> None:
    """Lock a file until it is closed, which the system does when its process dies.

    Args:
        file: number of an open file that can be written to, as network file systems ask for it.

    Raises:
        BlockingIOError: another process holds it.
        OSError: the file system has no locks.
    """
    try:
        _lock(file)
    except OSError as error:
        if error.errno in _HELD:
            raise BlockingIOError(error.errno, error.strerror) from None
        raise


try:
    import fcntl
except ModuleNotFoundError:  # Windows
    import msvcrt

    def _lock(file):
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
else:

    def _lock(file):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
