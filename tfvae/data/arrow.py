"""Tables of Hugging Face datasets on disk, as Arrow files, which are mapped, and Parquet files.

A column holds encoded pictures, as structures {bytes, path} or as bytes, or pixels as nested lists.
"""

import functools
import json
import mmap
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tfvae._plain import memory, untrusted
from tfvae.data.decoding import decoded, looks_encoded, stacked
from tfvae.data.source import Blocks, Source, stamp
from tfvae.errors import InvalidData
from tfvae.tables import open_parquet

_USUAL_NAMES = ("image", "img", "picture", "pixels", "x", "png", "jpg")
_MOST_OF_ROW_GROUP = 2**31
_ROWS_AT_ONCE = 64
_KEPT_BYTES = 2**29


class TableSource(Source):
    """The images in a column of a table; the base of Arrow and of Parquet files.

    Subclasses give the pieces of the table, and whole columns.

    Args:
        path: of the file.
        schema: of the table.
        counts: how many rows each piece of the table has.
        fit: what to do with each image; nothing if None.

    Raises:
        InvalidData: there are no rows, or no column of pictures.
    """

    def __init__(self, path: Path, schema, counts: list[int], fit: Callable | None = None):
        self.name, self.path, self.fit = str(path), path, fit
        self.ends = np.cumsum(counts)
        count = sum(counts)
        if not count:
            raise InvalidData(f"{path} holds no rows; expected images. Remove it.")
        self.features = _features(schema)
        self.column = self._column(schema)
        first = next(self._pictures(np.arange(1)))
        self.shape, self.dtype = (count, *first.shape), first.dtype

    def piece(self, number: int):
        """Return the column of images in one piece of the table, a `pa.Array`."""
        raise NotImplementedError

    def whole_column(self, name: str):
        """Return a column, a `pa.ChunkedArray`."""
        raise NotImplementedError

    def release(self) -> None:
        """Give back memory that holds what is in a file, once it was copied."""

    def read(self, index):
        shape = (len(index), *self.shape[1:])
        name_of = lambda place: self._name_of(index[place])  # noqa: E731
        return stacked(self._pictures(index), shape, self.dtype, name_of)

    def conditions(self, name: str) -> np.ndarray:
        """Return a column of numbers, `[N]`, or of lists of as many numbers each, `[N, C]`.

        Raises:
            InvalidData: there is no such column, or it holds something else.
        """
        if name not in self.names:
            raise InvalidData(
                f"{self.path} has no column {name!r}, which data.condition names; it has "
                f"{', '.join(self.names)}."
            )
        try:
            return np.array(self.whole_column(name).to_pylist())
        except ValueError:
            raise InvalidData(
                f"The column {name!r} of {self.path} holds lists of different lengths; expected "
                "labels, or vectors of one length."
            ) from None

    def _column(self, schema):
        import pyarrow as pa

        self.names = list(schema.names)
        declared = [n for n, f in self.features.items() if f.get("_type") in _IMAGE_FEATURES]
        likely = [n for n in self.names if _may_hold_images(schema.field(n).type, pa)]
        for names in (declared, likely):
            names = [name for name in names if name in self.names]
            usual = [name for name in _USUAL_NAMES if name in names]
            if len(names) == 1 or usual:
                return usual[0] if usual else names[0]
        raise InvalidData(
            f"{self.path} has the columns {', '.join(self.names)}, of which "
            f"{'several' if likely else 'none'} may hold images; expected one, or one named "
            "'image'. Keep that one alone: dataset.select_columns, dataset.rename_column."
        )

    def _rows(self, index):
        """Return the images of these rows as the table has them, in order: a `pa.Array`."""
        import pyarrow as pa

        index = np.asarray(index, np.int64)
        which = np.searchsorted(self.ends, index, side="right")
        parts, places = [], []
        for number in np.unique(which):
            here = np.flatnonzero(which == number)
            start = self.ends[number - 1] if number else 0
            parts.append(_plain(self.piece(int(number))).take(_indices(index[here] - start)))
            places.append(here)
        return pa.concat_arrays(parts).take(_indices(np.argsort(np.concatenate(places))))

    def _pictures(self, index):
        import pyarrow as pa

        values = self._rows(index)
        self.release()
        if pa.types.is_struct(values.type):
            content = values.field("bytes")
            encoded = (content[place].as_py() for place in range(len(content)))
        elif pa.types.is_binary(values.type) or pa.types.is_large_binary(values.type):
            encoded = (value.as_py() for value in values)
        else:
            yield from self._pixels(values, index)
            return
        for place, one in enumerate(encoded):
            name = self._name_of(index[place])
            if one is None:
                raise InvalidData(
                    f"{name} holds the path of a picture and not the picture. Save the dataset "
                    "with its pictures: dataset.save_to_disk, or to_parquet."
                )
            if not looks_encoded(one):
                raise InvalidData(f"{name} cannot be read as an image. Remove or repair it.")
            yield decoded(one, name, self.fit)

    def _pixels(self, values, index):
        """Yield pictures of nested lists `[H][W]` or `[H][W][C]`."""
        import pyarrow as pa

        feature, leaf = self.features.get(self.column, {}), _leaf(values.type)
        if not pa.types.is_integer(leaf) and not pa.types.is_floating(leaf):
            # A list of nulls may be of any length, and takes no room in a file.
            raise InvalidData(
                f"The column {self.column!r} of {self.path} is of type {values.type}; expected "
                "encoded pictures, or nested lists of numbers."
            )
        for place, value in enumerate(values):
            array = np.array(value.as_py())
            if array.dtype.kind not in "uif" or array.ndim not in (2, 3):
                raise InvalidData(
                    f"{self._name_of(index[place])} holds lists of shape {array.shape}; expected "
                    "numbers of shape [H, W] or [H, W, C]."
                )
            dtype = np.dtype(feature.get("dtype") or leaf.to_pandas_dtype())
            small = dtype in (np.uint8, np.uint16)
            array = array.astype(dtype if small else np.float32)
            array = array[..., np.newaxis] if array.ndim == 2 else array
            yield array if self.fit is None else self.fit(array)

    def _name_of(self, number):
        return f"Row {int(number)} of {self.path}"


class ArrowSource(TableSource):
    """The images of an Arrow file, the kind that `dataset.save_to_disk` writes."""

    def __init__(self, path: Path, fit: Callable | None = None):
        self.open = functools.partial(_arrow_table, path, stamp(path))
        table, _ = self.open()
        chunks = table.column(0).chunks if table.num_columns else []
        super().__init__(path, table.schema, [len(chunk) for chunk in chunks], fit)

    def _column(self, schema):
        column = super()._column(schema)
        self.whole_column(column)  # is looked at
        return column

    def piece(self, number):
        return self.open()[0].column(self.column).chunk(number)

    def release(self):
        self.open()[1].madvise(mmap.MADV_DONTNEED)  # it stays in the system's cache

    def whole_column(self, name):
        import pyarrow as pa

        column = self.open()[0].column(name)
        try:
            column.validate(full=True)  # else a wrong offset is followed out of the file
        except pa.ArrowException as error:
            raise InvalidData(
                f"The column {name!r} of {self.path} is damaged: {error}. Write the file anew, or "
                "remove it."
            ) from None
        return column


class ParquetSource(TableSource):
    """The images of a Parquet file, whose row groups are read as a whole."""

    def __init__(self, path: Path, fit: Callable | None = None):
        self.open = functools.partial(_parquet_file, path, stamp(path))
        metadata = self.open().metadata
        groups = [metadata.row_group(n) for n in range(metadata.num_row_groups)]
        counts, sizes = [g.num_rows for g in groups], [g.total_byte_size for g in groups]
        if groups and max(sizes) > _MOST_OF_ROW_GROUP:
            raise InvalidData(
                f"{path} has a row group of {max(sizes):,} bytes, which is read as a whole. Write "
                "it with smaller ones: dataset.to_parquet(path, batch_size=1000)."
            )
        self.stored = path.stat().st_size
        # Every row takes a number in memory, whatever it takes in the file.
        for unpacked in (*sizes, 8 * sum(counts)):
            memory.check_unpacked(str(path), unpacked, self.stored, InvalidData)
        super().__init__(path, self.open().schema_arrow, counts, fit)
        starts = np.unique(self.ends - counts)
        self.blocks = Blocks(starts, sum(sizes))

    def piece(self, number):
        return _GROUPS.get((self.open.args, self.column, number), self._group)

    def whole_column(self, name):
        return self._read(name, range(len(self.ends)))

    def _group(self, number):
        return self._read(self.column, [int(number)]).combine_chunks()

    def _read(self, name, groups):
        """Return a column of some row groups, of which a small file may hold very much."""
        import pyarrow as pa

        parts, unpacked, table = [], 0, self.open()
        try:
            for batch in table.iter_batches(_ROWS_AT_ONCE, row_groups=groups, columns=[name]):
                parts.append(batch.column(0))
                unpacked += parts[-1].nbytes
                memory.check_unpacked(str(self.path), unpacked, self.stored, InvalidData)
            return pa.chunked_array(parts, table.schema_arrow.field(name).type)
        except InvalidData:
            raise
        except Exception as error:  # of many kinds
            raise InvalidData(
                f"The column {name!r} of {self.path} cannot be read: {error}. Write the file anew, "
                "or remove it."
            ) from None


class _Groups:
    """The row groups that were read last, of all files together."""

    def __init__(self):
        self.kept, self.lock = OrderedDict(), threading.Lock()

    def get(self, key, read):
        with self.lock:
            if key not in self.kept:
                self.kept[key] = read(key[-1])
            self.kept.move_to_end(key)
            group = self.kept[key]
            while len(self.kept) > 1 and sum(g.nbytes for g in self.kept.values()) > _KEPT_BYTES:
                self.kept.popitem(last=False)
            return group


_GROUPS = _Groups()
_IMAGE_FEATURES = ("Image", "Array2D", "Array3D")


@functools.lru_cache(maxsize=64)
def _arrow_table(path, stamp):
    """Return the table of an Arrow file, and the map of the file that holds its values."""
    import pyarrow as pa

    try:
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        stream = pa.py_buffer(mapped)
        if mapped[:6] == b"ARROW1":  # a stream between a mark and a table of contents
            pa.ipc.open_file(pa.BufferReader(stream))
            stream = stream.slice(8)
        untrusted.check_arrow(stream, str(path))
        return pa.ipc.open_stream(pa.BufferReader(stream)).read_all(), mapped
    except InvalidData:
        raise
    except (OSError, ValueError, pa.ArrowException) as error:
        raise InvalidData(
            f"{path} cannot be read as an Arrow file: {error}. Write it anew, or remove it."
        ) from None


@functools.lru_cache(maxsize=64)
def _parquet_file(path, stamp):
    return open_parquet(path)


def _features(schema) -> dict:
    """Return the features of a Hugging Face dataset by name; none where a table says nothing."""
    try:
        described = json.loads((schema.metadata or {})[b"huggingface"])
        return dict(described["info"]["features"])
    except (KeyError, ValueError, TypeError):
        return {}


def _may_hold_images(kind, pa):
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return True
    return pa.types.is_nested(kind) and pa.types.is_nested(getattr(kind, "value_type", pa.null()))


def _plain(values):
    """Return an array without an extension type, such as that of Array3D."""
    return getattr(values, "storage", values)


def _leaf(kind):
    while hasattr(kind, "value_type"):
        kind = kind.value_type
    return kind


def _indices(index):
    import pyarrow as pa

    return pa.array(np.asarray(index, np.int64))
