"""Datasets of several files: which there are, of what kind, and to which split they belong."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tfvae.data.arrays import npy_source
from tfvae.data.arrow import ArrowSource, ParquetSource
from tfvae.data.conditions import as_conditions
from tfvae.data.decoding import resize_remedy
from tfvae.data.folder import FolderSource, list_files
from tfvae.data.records import RecordSource
from tfvae.data.source import chained
from tfvae.data.splits import Part
from tfvae.data_paths import IMAGE_SUFFIXES, shard_kind
from tfvae.errors import InvalidData
from tfvae.kinds import check_stored_pictures

_SPLITS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}


def open_folder(
    folder: Path,
    layout: str = "auto",
    fit: Callable | None = None,
    condition: str = "",
    kind: str = "auto",
) -> tuple[dict[str, Part], bool]:
    """Return the parts of a folder by split, and whether it holds shards, not image files.

    Shards are files of one kind: `.npy`, TFRecord, ArrayRecord, Arrow or Parquet. The split is that
    of a folder or a word in the name of a file, "train", "validation" or "test" and what is usual
    for them; "x" where there is none.

    Raises:
        InvalidData: files of several kinds, some without a split, or damaged ones.
    """
    paths = list(list_files(folder))
    kinds = {path: shard_kind(path) for path in paths}
    shards = [path for path in paths if kinds[path]]
    if not shards:
        check_stored_pictures(str(folder), layout, kind)
        return _open_images(folder, paths, fit, condition), False
    pictures = next((p for p in paths if p.lower().endswith(IMAGE_SUFFIXES)), None)
    found = sorted({kinds[path] for path in shards})
    if len(found) > 1 or pictures:
        named = [next(p for p in shards if kinds[p] == kind) for kind in found]
        named += [pictures] if pictures else []
        raise InvalidData(
            f"{folder} holds files of several kinds, such as {' and '.join(named)}; "
            "expected one kind. Give the path of a folder of one of them."
        )
    return open_shards(folder, shards, layout, fit, condition, kind), True


def open_shards(
    folder: Path,
    paths: list[str],
    layout: str = "auto",
    fit: Callable | None = None,
    condition: str = "",
    kind: str = "auto",
    **record,
) -> dict[str, Part]:
    """Return the parts of shards by split.

    Args:
        folder: that they are in.
        paths: relative to it.
        layout: of `.npy` files.
        fit: what to do with each image; nothing if None.
        condition: the column or feature of the conditions; "" for none.
        kind: of the examples in `.npy` files.
        record: more arguments of `RecordSource`.
    """
    parts = {}
    for split, mine in by_split(folder, paths).items():
        sources = [_open(folder / path, layout, fit, kind, record) for path in mine]
        y = _conditions(sources, condition, f"{folder}[{condition}]") if condition else None
        values = chained(f"{folder}", sources)
        parts[split] = Part(values, y, values.kind)
    return parts


def _open_images(folder, paths, fit, condition):
    if condition:
        raise InvalidData(
            f"data.condition is {condition!r}, but the folder {folder} holds images alone. Put "
            "images and labels into an .npz file, or into Parquet files."
        )
    parts = _split_folders(folder)
    if not parts:
        return {"x": Part(FolderSource(folder, paths, fit))}
    inside = {name: [] for name in parts.values()}
    for path in paths:
        name, _, rest = path.partition("/")
        if name in inside:
            inside[name].append(rest)
        elif path.lower().endswith(IMAGE_SUFFIXES):
            names = ", ".join(f"{name}/" for name in inside)
            raise InvalidData(
                f"{folder} has the folders {names}, and {path} lies in none of them; expected "
                "every picture in the folder of a split. Move or remove it."
            )
    sources = {p: FolderSource(folder / name, inside[name], fit) for p, name in parts.items()}
    shapes = {source.shape[1:] for source in sources.values()}
    if len(shapes) > 1:
        for source in sources.values():  # has a better message where sizes differ within one
            source.check()
        raise InvalidData(
            f"{folder} holds images of shapes {sorted(shapes)}; expected one shape. "
            + resize_remedy([shape[:2] for shape in shapes])
        )
    return {p: Part(source) for p, source in sources.items()}


def _split_folders(folder):
    """Return the names of the folders that are splits, by split."""
    found = {}
    for path in sorted(folder.iterdir()):
        split = _SPLITS.get(path.name.lower())
        if split is None or not path.is_dir():
            continue
        if split in found:
            raise InvalidData(
                f"{folder} has {found[split]}/ and {path.name}/, which both are the {split} split; "
                "expected one folder of each split. Put their pictures into one."
            )
        found[split] = path.name
    return found


def by_split(folder: Path, paths: list[str]) -> dict[str, list[str]]:
    """Return the paths of the files of each split, of "x" where none is named.

    Raises:
        InvalidData: some name their split and some do not.
    """
    of_path = {path: _split_of(path) for path in paths}
    by_split = {}
    for path, split in of_path.items():
        by_split.setdefault(split, []).append(path)
    if None in by_split and len(by_split) > 1:
        named = next(path for path, split in of_path.items() if split)
        raise InvalidData(
            f"Of the files in {folder}, {named} names its split and {by_split[None][0]} does not; "
            "expected all or none to. Rename them (train-00000…, validation-…, test-…), or move "
            "them into folders train/, validation/ and test/."
        )
    return {split or "x": mine for split, mine in by_split.items()}


def _split_of(path):
    *folders, name = path.lower().split("/")
    words = [*folders, *re.split("[^a-z]+", name)]
    return next((_SPLITS[word] for word in words if word in _SPLITS), None)


def _open(path, layout, fit, kind, record):
    file = shard_kind(path.name)
    if file == "npy":
        return npy_source(path, layout, fit, kind)
    check_stored_pictures(str(path), layout, kind)
    if file == "records":
        return RecordSource(path, fit=fit, **record)
    return (ArrowSource if file == "arrow" else ParquetSource)(path, fit)


def _conditions(sources, condition, name):
    if not all(hasattr(source, "conditions") for source in sources):
        raise InvalidData(
            f"data.condition is {condition!r}, but {sources[0].name} holds images alone. Put "
            "images and labels into an .npz file, or into Parquet files."
        )
    values = np.concatenate([source.conditions(condition) for source in sources])
    return as_conditions(values, sum(len(source) for source in sources), name)
