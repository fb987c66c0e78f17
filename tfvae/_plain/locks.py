"""Locks of open files, by which processes see each other."""


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
