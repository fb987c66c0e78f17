"""A folder of checkpoints, written whole and checked by a checksum; the last two are kept.

A checkpoint is the state of a training after so many batches of an epoch, as a tree: dictionaries
with names as keys, and lists, of numbers, texts, None and arrays. Its file is a zip archive that is
not compressed: `tree.json`, in which an array is a number, and the bytes of the arrays. The comment
of the archive is the SHA-256 of all of them.
"""

import contextlib
import hashlib
import json
import math
import os
import re
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tfvae._plain.files import atomic, cannot_write, clear_strays
from tfvae._plain.locks import lock
from tfvae.errors import InvalidFile, TfvaeWarning

_FORMAT = 2
_KEPT = 2
_TREE = "tree.json"
_LOCK = ".lock"  # stays, for it is no file of one process
_MARK = "tfvae checkpoint sha256 "
_ARRAY = "array"  # the key that stands for an array in tree.json; no other dictionary has it


class Position(NamedTuple):
    """How far a training came.

    Attributes:
        epoch: the epochs that are complete, validation included.
        batch: the batches made of the next one.
    """

    epoch: int
    batch: int

    def __str__(self):
        if self.batch:
            return f"batch {self.batch} of epoch {self.epoch + 1}"
        return f"epoch {self.epoch}" if self.epoch else "the start"


class Checkpoints:
    """The checkpoints of one training.

    Args:
        path: the folder; it is made when it is first used.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._held = False  # the lock, by `in_use`

    def save(self, position: Position, tree: dict) -> None:
        """Keep a state, and the one before; delete older ones.

        Raises:
            InvalidFile: it cannot be written.
        """
        with atomic(self._file(position)) as temporary:
            _write(temporary, {"format": _FORMAT, **tree})
        for _, file in self._files()[:-_KEPT]:
            file.unlink()

    def load(self) -> tuple[Position, dict] | None:
        """Return the newest undamaged state, or None if there never was one.

        A damaged checkpoint is set aside under the name `….damaged`, with a warning.

        Raises:
            InvalidFile: all are damaged, or of another version of tfvae.
        """
        damaged = []
        for position, file in reversed(self._files()):
            try:
                tree = _read(file)
            except _Damaged as error:
                file.replace(f"{file}.damaged")
                damaged.append(f"{file} is damaged ({error}), and was set aside: {file}.damaged.")
                continue
            if tree.pop("format") != _FORMAT:
                raise InvalidFile(
                    f"{file} is a checkpoint of another version of tfvae. Go on with that version, "
                    f"or delete {self.path} to start anew."
                )
            if damaged:
                said = f"{' '.join(damaged)} The training goes on from the one before: {position}."
                warnings.warn(said, TfvaeWarning, stacklevel=2)
            return position, tree
        if damaged:
            raise InvalidFile(
                f"{' '.join(damaged)} There is no other checkpoint: give the same command again to "
                "start from the first step."
            )
        return None

    def last(self) -> Position:
        """Return how far the newest checkpoint came, by its name; (0, 0) if there is none."""
        return max((position for position, _ in self._files()), default=Position(0, 0))

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep other trainings from writing here, and remove what a killed process left unfinished.

        A training that is inside of this context may enter it again, by the same object.

        Raises:
            InvalidFile: another training is under way, or the folder cannot be written to.
        """
        if self._held:
            yield
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self.path).close()
            file = _open_to_lock(self.path / _LOCK)
        except OSError as error:
            raise cannot_write(self.path, error.strerror) from None
        with file:
            try:
                lock(file.fileno())
            except BlockingIOError:
                raise InvalidFile(
                    f"Another training is under way in {self.path}. Wait for it or end it, or "
                    "choose another folder."
                ) from None
            except OSError:  # a file system without locks
                pass
            clear_strays(self.path)
            self._held = True
            try:
                yield
            finally:
                self._held = False

    def _file(self, position):
        return self.path / f"epoch-{position.epoch:05d}-batch-{position.batch:08d}.zip"

    def _files(self):
        """Return the positions and files, oldest first."""
        files = self.path.glob("epoch-*-batch-*.zip")
        return sorted((Position(*map(int, re.findall(r"\d+", file.name))), file) for file in files)


def _open_to_lock(path):
    """Return a file for its lock, which in a shared folder may be that of another user."""
    try:
        return path.open("ab")
    except PermissionError:
        return path.open("rb")


class _Damaged(Exception):
    """A file whose content is not what was written."""


def _write(path, tree):
    arrays, digest = [], hashlib.sha256()
    text = json.dumps(_flatten(tree, arrays)).encode()
    with path.open("wb") as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for name, content in [(_TREE, text), *enumerate(map(_bytes, arrays))]:
                archive.writestr(str(name), content)
                digest.update(content)
            archive.comment = f"{_MARK}{digest.hexdigest()}".encode()
        file.flush()
        os.fsync(file.fileno())  # before it is renamed: a machine may lose its power


def _read(path):
    """Return the tree in a file.

    Raises:
        _Damaged: with the reason.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
                raise _Damaged("it is compressed")
            contents = {name: archive.read(name) for name in archive.namelist()}
            comment = archive.comment.decode(errors="replace")
    except _Damaged:
        raise
    except Exception as error:  # zipfile raises many kinds
        raise _Damaged(str(error) or type(error).__name__) from None
    digest = hashlib.sha256()
    for content in contents.values():
        digest.update(content)
    if comment != f"{_MARK}{digest.hexdigest()}":
        raise _Damaged("its checksum does not fit")
    try:
        tree = _unflatten(json.loads(contents[_TREE]), contents)
        return {"format": tree["format"], **tree}
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError):
        raise _Damaged("it holds something else") from None


def _flatten(tree, arrays):
    """Return a tree for JSON; append its arrays to a list."""
    if isinstance(tree, dict):
        return {str(name): _flatten(value, arrays) for name, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [_flatten(value, arrays) for value in tree]
    if not isinstance(tree, (np.ndarray, np.generic)):
        return tree
    array = np.asarray(tree)
    arrays.append(array)
    return {_ARRAY: len(arrays) - 1, "dtype": _name(array.dtype), "shape": array.shape}


def _unflatten(tree, contents):
    if isinstance(tree, list):
        return [_unflatten(value, contents) for value in tree]
    if not isinstance(tree, dict):
        return tree
    if _ARRAY not in tree:
        return {name: _unflatten(value, contents) for name, value in tree.items()}
    content, shape = contents[str(tree[_ARRAY])], tree["shape"]
    return np.frombuffer(content, _dtype(tree["dtype"]), math.prod(shape)).reshape(shape)


def _bytes(array):
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def _name(dtype):
    """Return what `_dtype` makes the type of: with the order of bytes and the length of texts."""
    return dtype.name if dtype.isbuiltin == 2 else dtype.str  # 2: a type that is not NumPy's


def _dtype(name):
    if name == "bfloat16":  # not one of NumPy's
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)
