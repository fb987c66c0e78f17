"""Files that appear whole or not at all."""

import contextlib
import json
import os
import shutil
import tempfile
from pathlib import Path

from tfvae.errors import InvalidFile


@contextlib.contextmanager
def atomic(path: str | Path):
    """Yield a path beside `path` to write a file or folder to; rename it to `path` on success.

    If the body raises, what was written is removed and what was at `path` before is still there.

    Raises:
        InvalidFile: the folder does not exist and cannot be made or written to, or a file would
            take the place of a folder.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise InvalidFile(f"Cannot write {path}: {error.strerror}. Choose another path.") from None
    try:
        written = folder / path.name
        yield written
        if path.is_dir() and not written.is_dir():
            raise InvalidFile(f"Cannot write {path}: it is a folder. Choose another path.")
        if path.is_dir():  # a folder cannot be renamed onto another one
            path.rename(folder / "replaced")
        os.replace(written, path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def clear_strays(folder: str | Path) -> None:
    """Remove what `atomic` was writing in a folder when its process was killed.

    Nobody may be writing there now.
    """
    for path in Path(folder).glob(".*.????????"):
        name = path.name[1:-9]
        if path.is_dir() and {inside.name for inside in path.iterdir()} <= {name, "replaced"}:
            shutil.rmtree(path, ignore_errors=True)


def refuse_folder(path: Path) -> None:
    """Refuse a path where a file is to be written and a folder is, before the work and not after.

    Raises:
        InvalidFile: there is a folder.
    """
    if path.is_dir():
        raise InvalidFile(f"{path} is in the way: it is a folder. Choose another path.")


def write_json(path: str | Path, value: dict) -> None:
    """Write `value` as indented JSON, atomically."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2) + "\n")


def update_report(folder: str | Path, section: str, values: dict) -> None:
    """Merge `values` into one section of `folder`/report.json, creating what is not there.

    Raises:
        InvalidFile: there is a report.json which is not ours.
    """
    path = Path(folder) / "report.json"
    try:
        report = json.loads(path.read_text()) if path.exists() else {}
        report[section] = {**report.get(section, {}), **values}
    except (ValueError, TypeError, AttributeError, OSError):
        raise InvalidFile(f"{path} is in the way: it is not a report of tfvae.") from None
    write_json(path, report)
