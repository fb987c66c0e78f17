"""Files that appear whole or not at all, and the errors of the system that prevent it."""

import contextlib
import errno
import json
import os
import re
import shutil
import tempfile
from pathlib import Path

from tfvae._plain.locks import lock, one_at_a_time
from tfvae.errors import InvalidFile

_SHORT = r"\d+ requested and \d+ written"  # what NumPy says of a full disk
_LARGEST_TEXT = 16 << 20  # bytes; what a run says of itself has some thousand
_TRIES = 100  # to make a folder that no other process clears at once

# Errors of the system that keep a file from being written, for which no program is to blame.
_HINDRANCES = {
    errno.ENOSPC: "No space left on device",
    errno.EDQUOT: "Disk quota exceeded",
    errno.EFBIG: "File too large",
    errno.EROFS: "Read-only file system",
    errno.EACCES: "Permission denied",
    errno.EPERM: "Operation not permitted",
    errno.EIO: "Input/output error",
}


@contextlib.contextmanager
def atomic(path: str | Path):
    """Yield a path beside `path` to write a file or folder to; rename it to `path` on success.

    If the body raises, what was written is removed and what was at `path` before is still there.

    Raises:
        InvalidFile: the folder does not exist and cannot be made or written to, a file would take
            the place of a folder, or the disk is full.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder, in_use = _new_folder(path)
    except OSError as error:
        raise cannot_write(path, error.strerror) from None
    try:
        written = folder / path.name
        yield written
        if path.is_dir() and not written.is_dir():
            raise InvalidFile(f"Cannot write {path}: it is a folder. Choose another path.")
        if path.is_dir():  # a folder cannot be renamed onto another one
            path.rename(_replaced(folder, path.name))
        try:
            os.replace(written, path)
        except BaseException:  # an interruption too
            _put_back(folder, path)
            raise
    except Exception as error:
        reason = hindrance(error)
        if reason is None or isinstance(error, InvalidFile):
            raise
        raise cannot_write(path, reason) from None
    finally:
        in_use.close()
        shutil.rmtree(folder, ignore_errors=True)


def clear_strays(folder: str | Path) -> None:
    """Remove what `atomic` left unfinished in a folder when its process was killed.

    A folder that was about to be replaced is put back. What a process is writing, on this machine
    or another that sees the folder, is left alone, and so is all on a file system without locks.
    """
    for path in Path(folder).glob(".*.????????"):
        name = path.name[1:-9]
        mark, own = _mark(path, name), {name, _mark(path, name).name, _replaced(path, name).name}
        with contextlib.suppress(OSError):  # it is in use, or not of `atomic`
            if mark.exists():
                with mark.open("r+b") as file:
                    lock(file.fileno())
                    if not own.issuperset(found.name for found in path.iterdir()):
                        continue
                    _put_back(path, Path(folder) / name)
                    shutil.rmtree(path, ignore_errors=True)  # while no process can begin to use it
                mark.unlink(missing_ok=True)  # some systems keep it while it is open
            path.rmdir()  # which is empty where a process was killed before it made the mark


def _new_folder(path):
    """Return a new folder beside a path, and the open file in it that says it is in use."""
    for _ in range(_TRIES):
        folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        mark = _mark(folder, path.name)
        try:
            file = mark.open("xb")
        except FileNotFoundError:  # a process cleared the folder
            continue
        except OSError:
            folder.rmdir()
            raise
        try:
            lock(file.fileno())
            cleared = not mark.exists()
        except BlockingIOError:  # by a process that came between the two
            cleared = True
        except OSError:  # without locks nothing is cleared
            cleared = False
        if not cleared:
            return folder, file
        file.close()
        shutil.rmtree(folder, ignore_errors=True)
    raise BlockingIOError(errno.EAGAIN, "Other processes clear what is begun there")


def _mark(folder, name):
    """Return the file that is locked as long as its folder is in use."""
    return folder / f"{name}.lock"


def _replaced(folder, name):
    return folder / f"{name}.replaced"


def _put_back(folder, path):
    """Put a folder that was to be replaced back, if nothing has taken its place."""
    replaced = _replaced(folder, path.name)
    if replaced.exists() and not path.exists():
        replaced.rename(path)


def hindrance(error: BaseException) -> str | None:
    """Return the system's reason why a file could not be written; None for any other error.

    Libraries that write from C++ have errors of their own, which quote the system's message.
    """
    if isinstance(error, OSError) and error.errno in _HINDRANCES:
        return error.strerror or _HINDRANCES[error.errno]
    if isinstance(error, OSError) and re.fullmatch(_SHORT, str(error)):
        return _HINDRANCES[errno.ENOSPC]
    if type(error).__module__ == "builtins" and not isinstance(error, OSError | RuntimeError):
        return None
    return next((words for words in _HINDRANCES.values() if words in str(error)), None)


def cannot_write(path: Path, reason: str) -> InvalidFile:
    """Return the error for a file that cannot be written."""
    kept = "The one before is still there. " if path.exists() and not path.is_dir() else ""
    full = reason in [_HINDRANCES[n] for n in (errno.ENOSPC, errno.EDQUOT)]
    remedy = "Make room, or choose another path." if full else "Choose another path."
    return InvalidFile(f"Cannot write {path}: {reason}. {kept}{remedy}")


def check_writable(path: str | Path) -> None:
    """Refuse a path of a file that cannot be written, before the work and not after.

    Raises:
        InvalidFile: there is a folder, a file where a folder should be, or its folder is read-only.
    """
    path = Path(path)
    if path.is_dir():
        raise InvalidFile(f"{path} is in the way: it is a folder. Choose another path.")
    check_writable_folder(path.parent, path)


def check_writable_folder(folder: Path, path: Path | None = None) -> None:
    """Refuse a folder that nothing can be written into, whether it exists or is to be made.

    Args:
        folder: the folder.
        path: what is to be written, for the message.

    Raises:
        InvalidFile: it is read-only, or a file is in its place.
    """
    path = path or folder
    there = next((f for f in (folder, *folder.parents) if f.exists()), Path())
    if not there.is_dir():
        raise cannot_write(path, f"{there} is a file, not a folder")
    if not os.access(there, os.W_OK):
        read_only = hasattr(os, "statvfs") and os.statvfs(there).f_flag & os.ST_RDONLY
        raise cannot_write(path, _HINDRANCES[errno.EROFS if read_only else errno.EACCES])


def read_text(path: str | Path) -> str:
    """Return a configuration, a report or the like, UTF-8, no larger than such a file can be.

    Raises:
        InvalidFile: it is larger.
        OSError: it cannot be read.
        UnicodeDecodeError: it is no text.
    """
    with Path(path).open("rb") as file:
        content = file.read(_LARGEST_TEXT + 1)
    if len(content) > _LARGEST_TEXT:
        raise InvalidFile(
            f"{path} has more than {_LARGEST_TEXT >> 20} MiB, which no file of its kind has."
        )
    return content.decode()


def write_json(path: str | Path, value: dict) -> None:
    """Write `value` as indented JSON, atomically."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2) + "\n")


def read_report(folder: str | Path) -> dict:
    """Return what `folder`/report.json says; nothing where there is none.

    Raises:
        InvalidFile: it is not a report of tfvae.
    """
    path = Path(folder) / "report.json"
    try:
        report = json.loads(read_text(path)) if path.exists() else {}
        if all(isinstance(section, dict) for section in report.values()):
            return report
    except (ValueError, AttributeError, OSError, RecursionError):
        pass
    raise InvalidFile(
        f"{path} is in the way: it is not a report of tfvae. Move it away, or repair it."
    )


def update_report(
    folder: str | Path, section: str, values: dict, outdated: tuple[str, ...] = ()
) -> None:
    """Merge `values` into one section of `folder`/report.json, creating what is not there.

    Sections whose names begin with one of `outdated` are removed: they say what a model was that is
    replaced. Processes that do so at the same time wait for each other.

    Raises:
        InvalidFile: there is a report.json which is not ours, or it cannot be written.
    """
    path = Path(folder) / "report.json"
    with contextlib.ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(one_at_a_time(path.with_name(f".{path.name}.lock")))
        except OSError as error:
            raise cannot_write(path, error.strerror or str(error)) from None
        report = read_report(folder)
        report = {name: old for name, old in report.items() if not name.startswith(outdated)}
        report[section] = {**report.get(section, {}), **values}
        write_json(path, report)
