"""A folder of image files, listed once and decoded as they are indexed."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from tfvae._plain import untrusted
from tfvae.data.decoding import (
    decoded,
    pixel_format,
    resize_remedy,
    stacked,
    upright_size,
)
from tfvae.data.source import Source
from tfvae.data_paths import IMAGE_SUFFIXES
from tfvae.errors import InvalidData

_THREADS = min(8, 2 * (os.cpu_count() or 1))


class FolderSource(Source):
    """The images of a folder and those below it, in the order of their names.

    The first one is decoded, to know what all are like.

    Args:
        folder: of the images.
        paths: of the files, relative to it.
        fit: what to do with each image; nothing if None.

    Raises:
        InvalidData: there are no files, or the first is no image.
    """

    def __init__(self, folder: Path, paths: list[str], fit: Callable | None = None):
        if not paths:
            raise InvalidData(
                f"{folder} holds no images; expected {', '.join(IMAGE_SUFFIXES)}, … files."
            )
        self.name, self.folder, self.fit = str(folder), folder, fit
        # A million strings would take several times as much memory.
        encoded = [os.fsencode(path) for path in paths]
        self.paths = b"".join(encoded)
        self.ends = np.cumsum([len(path) for path in encoded])
        try:
            first = self._decode(0)
        except InvalidData:
            self.check()  # names all files that are no images
            raise
        self.shape, self.dtype = (len(paths), *first.shape), first.dtype

    def path(self, number: int) -> Path:
        """Return the path of an image."""
        start = self.ends[number - 1] if number else 0
        return self.folder / os.fsdecode(self.paths[start : self.ends[number]])

    def read(self, index):
        shape = (len(index), *self.shape[1:])
        pictures = (self._decode(number) for number in index)
        try:
            return stacked(pictures, shape, self.dtype, lambda place: self.path(index[place]))
        except InvalidData:
            self.check()  # has a better message where sizes differ
            raise

    def check(self, missing: bool = False) -> None:
        """Read the head of every file, so that those that are no images are named before training.

        Raises:
            InvalidData: some are no images, or of another size or colour mode where nothing makes
                sizes equal.
        """
        kinds, first_of, unreadable = Counter(), {}, []
        with ThreadPoolExecutor(_THREADS) as pool:
            for number, kind in enumerate(pool.map(self._head, range(len(self.ends)))):
                if kind is None:
                    unreadable.append(number)
                    continue
                kinds[kind] += 1
                first_of.setdefault(kind, number)
        if unreadable:
            raise self._no_images(unreadable)
        if len(kinds) == 1:
            return
        sizes = Counter()
        for (size, _), count in kinds.items():
            sizes[size] += count
        if self.fit is None and len(sizes) > 1:
            most = [f"{height}×{width} ({n})" for (height, width), n in sizes.most_common(5)]
            more = f" and {len(sizes) - 5} more sizes" if len(sizes) > 5 else ""
            raise InvalidData(
                f"{self.folder} holds pictures of different sizes, height×width: "
                f"{', '.join(most)}{more}; expected images of one size and colour mode. "
                f"{resize_remedy(list(sizes))}"
            )
        modes = {mode: self.path(n) for (_, mode), n in reversed(first_of.items())}
        if len(modes) > 1:
            one, other, *_ = reversed(modes.values())
            raise InvalidData(
                f"{self.folder} holds pictures in grey and in colour, or of 8 and of 16 bits, such "
                f"as {one} and {other}; expected images of one size and colour mode. Convert them "
                "first."
            )

    def _decode(self, number):
        path = self.path(number)
        try:
            return decoded(path, str(path), self.fit)
        except InvalidData as error:
            if "cannot be read" not in str(error):
                raise
            raise self._no_images([number]) from None

    def _head(self, number):
        """Return ((H, W), (channels, type)) of a file; None where it is no image."""
        path = self.path(number)
        try:
            with untrusted.open_picture(path) as image:
                return upright_size(image), pixel_format(image, str(path))
        except InvalidData:
            raise
        except (OSError, ValueError, SyntaxError):
            return None

    def _no_images(self, numbers):
        """Return the error that names the files of these numbers, which are no images."""
        paths = [self.path(number) for number in numbers]
        foreign = [path for path in paths if path.suffix.lower() not in IMAGE_SUFFIXES]
        if not foreign:
            if len(paths) == 1:
                return InvalidData(f"{paths[0]} cannot be read as an image. Remove or repair it.")
            named = ", ".join(str(path.relative_to(self.folder)) for path in paths[:5])
            more = f" and {len(paths) - 5} more" if len(paths) > 5 else ""
            return InvalidData(
                f"{len(paths)} of the {len(self.ends)} files of {self.folder} cannot be read as "
                f"images: {named}{more}. Remove or repair them."
            )
        endings = Counter(self.path(n).suffix or self.path(n).name for n in range(len(self.ends)))
        found = ", ".join(f"{count} {ending}" for ending, count in endings.most_common(5))
        more = f" and {len(endings) - 5} more endings" if len(endings) > 5 else ""
        return InvalidData(
            f"{foreign[0]} cannot be read as an image, and {self.folder} holds {found}{more}; "
            f"expected images alone ({', '.join(IMAGE_SUFFIXES)}, …) in a folder of images, tables "
            "alone (.csv, .parquet, …) in one of tables. Move the other files out of it."
        )


def list_files(folder: Path) -> Iterator[str]:
    """Yield the paths below a folder, relative to it, in the order of their names.

    What begins with a dot is hidden and left out. Links to folders are followed where they lie
    directly in the folder and lead out of it, and left out elsewhere.

    Raises:
        InvalidData: it cannot be listed, or is the whole file system.
    """
    if folder.resolve() == folder.resolve().parent:
        raise InvalidData(
            f"{folder} is the whole file system; expected the folder of a dataset. Give its path."
        )

    inside = folder.resolve()
    followed = []

    def is_folder(entry, prefix):
        if entry.is_dir(follow_symlinks=False):
            return True
        if prefix or not entry.is_dir():
            return False
        target = Path(entry.path).resolve()
        # What contains the folder would never end; what it contains is listed anyway.
        known = [inside, *followed]
        if any(target.is_relative_to(k) or k.is_relative_to(target) for k in known):
            return False
        followed.append(target)
        return True

    def below(path, prefix):
        with os.scandir(path) as entries:
            shown = sorted((e for e in entries if e.name[0] != "."), key=lambda e: e.name)
        for entry in shown:
            if is_folder(entry, prefix):
                yield from below(entry.path, f"{prefix}{entry.name}/")
            elif entry.is_file():
                yield prefix + entry.name

    try:
        yield from below(folder, "")
    except OSError as error:
        raise InvalidData(
            f"{error.filename or folder} cannot be listed: {error.strerror}. Give the path of a "
            "folder of images that you may read."
        ) from None
