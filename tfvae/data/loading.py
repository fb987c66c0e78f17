"""From the name of a dataset to its three splits."""

import dataclasses
import math
import numbers
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfvae.data import bundled
from tfvae.data.arrays import open_arrays
from tfvae.data.binarized import BINARIZATIONS, binarized_splits
from tfvae.data.decoding import fitting
from tfvae.data.examples import Examples, in_float32, is_above_1, stored_maximum
from tfvae.data.folder import FolderSource, list_files
from tfvae.data.shards import open_folder, open_shards
from tfvae.data.source import Source, in_memory
from tfvae.data.splits import SPLITS, Part, Splits, by_shuffle, join
from tfvae.data.standardized import check_resolution, fitted, with_units
from tfvae.data.standardized import standardized as standardized_examples
from tfvae.data.tables import open_tables, standardized, tables_in
from tfvae.data.tfds import open_tfds
from tfvae.data_paths import dataset_kind, is_table
from tfvae.errors import InvalidArgument, InvalidData, TfvaeWarning, unknown_name
from tfvae.kinds import check_options, check_stored_pictures, plural
from tfvae.schema import Schema
from tfvae.standardization import Standardization
from tfvae.tables import Table, is_frame, of_data, read


def load(
    name: str | Path | Mapping | Any,
    data_dir: str | Path | None = None,
    binarization: str = "none",
    seed: int = 0,
    download: bool = False,
    layout: str = "auto",
    resize: tuple[int, int] | None = None,
    crop: tuple[int, int] | None = None,
    condition: str = "",
    memory_gb: float = 1.0,
    kind: str = "auto",
    columns: Mapping | Schema | None = None,
    missing: bool = False,
    standardize: bool | Standardization = False,
    full_range: bool = False,
) -> Splits:
    """Load a dataset and its splits.

    What has no splits is split by a seeded shuffle, 80%, 10% and 10%. A TFDS dataset, and shards
    and tables that have a training split, give up the last tenth of `train`, at most 10,000
    examples, where there is no validation split, and the last tenth where there is no test split.

    Args:
        name: one of these:

            - a pandas or polars frame, or a dictionary `{column: values}`;
            - the path of a CSV or Parquet file of such a table, or of a folder of them, whose names
              or folders may say the splits; or of an AnnData file, `.h5ad`;
            - "wine" (178 wines, 13 measurements of each and the cultivar) or "digits" (1,797
              handwritten digits of 8×8 pixels and 17 grey levels; with `kind="vector"`, 64 counts
              from 0 to 16), which scikit-learn brings, or "vowels" (640 series of 7 frames of
              speech, 12 values each), which the package aeon brings;
            - the name of a TFDS dataset;
            - the path of an `.npy` file, or of an `.npz` file, which may hold the arrays `train`,
              `validation` and `test`;
            - the path of a folder of images, which may hold `train/`, `validation/` and `test/`;
            - the path of a folder of shards (`.npy`, TFRecord, ArrayRecord, Arrow or Parquet
              files), whose names or folders may say the splits.
        data_dir: where TFDS finds prepared data; its own default if None.
        binarization: "none"; "static": every pixel is drawn once, with its intensity as
            probability; "dynamic": training pixels are drawn anew every epoch, those of the other
            splits once.
        seed: decides splits and the pixels that are drawn once.
        download: let TFDS download what is not prepared.
        layout: the axes of an array file, "NHW" (grey pictures), "NHWC" or "NCHW". "auto" takes
            four axes for `[N, H, W, C]`, unless the channels seem to come first, and three for grey
            pictures `[N, H, W]` where that is clear: they are squares, or of 8 or 16 bits with no
            side more than four times the other. What is not clear, such as series `[N, T, C]`, is
            refused.
        resize: (height, width) that every image is scaled to, its proportions kept: it is scaled
            until it covers this size, by averages over pixels, and cropped equally on both sides.
        crop: (height, width) of the middle that is cut out of every image before that.
        condition: where the labels or vectors of the images are, for a model with a condition: the
            name of a TFDS feature, "label" of the digits, or an array of an `.npz`, beside
            "train", "validation" and "test" the arrays "train_label" and so on, or a column or
            feature of shards. "" for none.
        memory_gb: data that takes at most so many 10⁹ bytes, as 8-bit pixels where they have 8
            bits and as float32 where they have more than 32, is held in memory. Larger data is read
            as it is needed.
        kind: what the examples of an array file are: "image", "vector" (`[N, D]`), "series"
            (`[N, T, C]` or `[N, T]`) or "tokens" (`[N, T]` whole numbers from 0 on). "auto" takes
            floats of two axes for vectors, and what `layout` says for pictures.
        columns: what the columns of a table are to be other than inferred, `{name: type}` or
            `{name: {"type": ..., "categories": [...]}}`; or the `Schema` to read it by. See
            `Schema.inferred` and `Column`.
        missing: whether NaN in an array file is a missing value, and no error. Empty cells of a
            table are missing values in any case.
        standardize: whether the values of vectors and series are given as (v − mean) / scale, of
            each column or channel over the training examples; or the `Standardization` to use. The
            splits have it as `standardization`, which a model takes. Tables are standardized by
            their schema in any case.
        full_range: whether the largest value of their type stands for 1 in pixels that are
            integers, even where all are 0 or 1, such as black pictures of 8 bits. Those are taken
            for binary ones otherwise.

    Raises:
        InvalidArgument: an unknown name, binarization or layout, or a size that is none.
        InvalidData: data that is missing or does not fit, or an empty split.
    """
    if binarization not in BINARIZATIONS:
        raise unknown_name("binarization", binarization, BINARIZATIONS)
    fit = fitting(resize, crop)
    check_options(layout, kind, fit is not None)
    if data_dir and (is_frame(name) or dataset_kind(str(name)) != "tfds"):
        raise InvalidArgument(
            "`data_dir` is where TFDS finds prepared data, and "
            f"{'a frame' if is_frame(name) else name} is no TFDS dataset. Leave it out."
        )
    found = _tables(name)
    if found is not None:
        if kind not in ("auto", "vector"):
            raise InvalidArgument(f"{name} is a table, and `kind` is {kind!r}. Leave it out.")
        check_options(layout, "vector", fit is not None)
        return _load_table(name, found, columns, condition, seed, binarization)
    _check_options(name, binarization, memory_gb, columns, missing)
    parts, fill = _open(str(name), data_dir, download, layout, fit, condition, kind)
    parts = _settled(parts, memory_gb, missing)
    if name == "digits":
        part = parts["x"]
        splits = by_shuffle(name, part, 16.0 if part.kind == "image" else 1.0, seed)
    else:
        splits = join(str(name), parts, seed, fill, full_range)
    _check_parts(splits)
    return _transformed(splits, binarization, seed, missing, standardize)


def _check_options(name, binarization, memory_gb, columns, missing):
    """Refuse options that are none, or that do not go with data that is no table."""
    if missing and binarization != "none":
        raise InvalidArgument(
            "Binarization takes no missing values. Draw the pixels beforehand, or use "
            "binarization 'none'."
        )
    if columns:
        raise InvalidArgument(
            f"`columns` describes the columns of a table, and {name!r} is none. Leave it out."
        )
    if not isinstance(memory_gb, numbers.Real) or not memory_gb >= 0:
        raise InvalidArgument(f"`memory_gb` is {memory_gb!r}; expected a number of at least 0.")


def _check_parts(splits):
    """Refuse splits that are empty, or whose examples are not of the shape of the training ones."""
    for split in SPLITS:
        examples = getattr(splits, split)
        if len(examples) == 0:
            raise InvalidData(
                f"The {split} split of {splits.name!r} is empty; expected {plural(splits.kind)}."
            )
        if examples.shape != splits.shape:
            raise InvalidData(
                f"The {split} split of {splits.name!r} has {plural(examples.kind)} of shape "
                f"{examples.shape}, the training split of {splits.shape}; expected one shape."
            )


def _transformed(splits, binarization, seed, missing, standardize):
    """Return the splits as they were asked for: standardized, binarized, or as they are."""
    if standardize:
        if binarization != "none":
            raise InvalidArgument(
                "Binarization is for intensities in [0, 1], which are not standardized. Leave one "
                "of them out."
            )
        return standardized_examples(splits, standardize)
    if missing and splits.kind in ("vector", "series"):
        fitted(splits)  # refuses what has no value at all
    check_resolution(splits)
    splits = dataclasses.replace(splits, **{p: in_float32(getattr(splits, p)) for p in SPLITS})
    return splits if binarization == "none" else binarized_splits(splits, binarization, seed)


def _tables(name):
    """Return the tables that a name stands for by split; None where it is something else."""
    if is_frame(name):
        return {"x": of_data(name)}
    path = Path(name)
    source = dataset_kind(str(name))
    if source == "wine":
        return {"x": bundled.wine()}
    if source == "table" or (source == "shard" and is_table(path)):
        return {"x": read(path)}
    if source == "folder":
        paths = list(list_files(path))
        if paths and all(is_table(path / inside) for inside in paths):
            return tables_in(path, paths)
    return None


def _load_table(name, found, columns, condition, seed, binarization):
    if binarization != "none":
        raise InvalidArgument("Binarization is for pictures, not for tables. Leave it 'none'.")
    parts, schema = open_tables(found, columns, condition)
    for table in found.values():
        if schema.condition is not None and schema.condition.name not in table.columns:
            raise InvalidData(
                f"{table.name} lacks the column {schema.condition.name!r}, which is the condition. "
                "Add it."
            )
    name = "the table" if is_frame(name) else str(name)
    return standardized(join(name, parts, seed, fill=True), schema, isinstance(columns, Schema))


def read_examples(
    path: str | Path,
    layout: str = "auto",
    resize: tuple[int, ...] = (),
    crop: tuple[int, ...] = (),
    memory_gb: float = 1.0,
    kind: str = "auto",
    columns: Mapping | Schema | None = None,
    missing: bool = False,
    standardization: Standardization | None = None,
    full_range: bool = False,
) -> Examples:
    """Read all images of a folder, a table, or an `.npy` or `.npz` file of one array, unsplit.

    Images of a folder come in the order of their names. The options are those of `load`; a table
    that a model is to see is read by its schema, `columns=model.schema`, and arrays are
    standardized by its `standardization`.

    Raises:
        InvalidArgument: an option that does not exist.
        InvalidData: there is no such path, or it holds something else.

    Warns:
        TfvaeWarning: all pixels are 0 or 1, and `full_range` says that they are dark.
    """
    fit = fitting(resize, crop)
    check_options(layout, kind, fit is not None)
    table = read_table(path)
    if table is not None:
        return _rows(table, columns)
    path = Path(path)
    if path.is_dir():
        check_stored_pictures(str(path), "auto", kind)  # the layout is that of the run's own files
        parts = {"x": Part(FolderSource(path, list(list_files(path)), fit))}
    else:
        parts = open_arrays(path, layout, fit, "", kind)
        if len(parts) != 1:
            names = ", ".join(sorted(parts)) or "nothing"
            raise InvalidData(f"{path} holds {names}; expected one array of examples.")
    (part,) = _settled(parts, memory_gb, missing).values()
    maximum = stored_maximum(part.values, part.kind, full_range)
    if full_range and maximum > 1 and not is_above_1(part.values):
        warnings.warn(
            f"All pixels of {path} are 0 or 1, of {maximum:g} that stand for white, since the "
            "training data had others. If they are binary, make them floats.",
            TfvaeWarning,
            stacklevel=2,
        )
    examples = Examples(part.values, maximum, kind=part.kind)
    return examples if standardization is None else with_units(examples, standardization)


def read_table(path: str | Path) -> Table | None:
    """Return the table of a file, or of a folder of tables as one; None where it is no table.

    Raises:
        InvalidData: it cannot be read, or is split into several.
    """
    found = _tables(path)
    if found is None:
        return None
    if len(found) != 1:
        raise InvalidData(f"Found {', '.join(sorted(found))}; expected one table.")
    (table,) = found.values()
    return table


def _rows(table, columns):
    parts, schema = open_tables({"x": table}, columns, "")
    (part,) = parts.values()
    if not isinstance(columns, Schema):
        schema = schema.fitted(part.values)
    x = schema.standardized(part.values)
    return Examples(x, conditions=part.conditions, kind="vector", schema=schema)


def _open(name, data_dir, download, layout, fit, condition, kind):
    """Return the parts of a dataset, and whether "train" gives up examples for missing ones."""
    source, path = dataset_kind(name), Path(name)
    if source in ("digits", "vowels"):
        check_stored_pictures(name, layout, "auto")  # they say themselves which kinds they have
    if source == "digits":
        return {"x": bundled.digits(fit, condition, kind)}, False
    if source == "vowels":
        return {"x": bundled.vowels(condition, kind)}, False
    if source == "arrays":
        return open_arrays(path, layout, fit, condition, kind), False
    if source == "folder":
        return open_folder(path, layout, fit, condition, kind)
    if source == "shard":
        return open_shards(path.parent, [path.name], layout, fit, condition, kind), True
    check_stored_pictures(name, layout, kind)
    return open_tfds(name, data_dir, download, fit, condition), True


def _settled(parts, memory_gb, missing=False):
    """Return the parts, with their values in memory if they are small."""
    total = sum(_held_bytes(part.values) for part in parts.values())
    streamed = total > memory_gb * 1e9
    settled = {}
    for key, part in parts.items():
        if isinstance(part.values, Source) and (streamed or part.values.dtype.kind in "if"):
            part.values.check(missing)
        settled[key] = part
        if not streamed:
            settled[key] = dataclasses.replace(part, values=in_memory(part.values))
    return settled


def _held_bytes(values):
    """Return what values take once they are standardized or checked, as float32 at most."""
    return math.prod(values.shape) * min(np.dtype(values.dtype).itemsize, 4)
