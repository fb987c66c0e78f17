"""Files of records, TFRecord and ArrayRecord, whose records are `tf.train.Example`s."""

import functools
import mmap
import os
import struct
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfvae._plain import untrusted
from tfvae.data.crc32c import masked
from tfvae.data.decoding import decoded, looks_encoded, orientation, stacked, upright
from tfvae.data.source import Source, stamp
from tfvae.errors import InvalidData

_JPEG = b"\xff\xd8\xff"
_HEADER, _FOOTER = 12, 4  # length and its checksum; checksum of the content
_USUAL_NAMES = ("image", "image/encoded", "image_raw", "img", "picture", "x", "png", "jpg")


class RecordSource(Source):
    """The images in a file of records, which is indexed once and read record by record.

    Args:
        path: of the file; one with "array_record" or "arrayrecord" in its name is an ArrayRecord
            file, any other a TFRecord file.
        feature: the feature that holds an encoded picture, or the pixels; "" for the only one that
            holds an encoded picture.
        shape: (H, W, C) where the feature holds pixels; None for an encoded picture.
        dtype: of the pixels, where the feature holds them.
        fit: what to do with each image; nothing if None.

    Raises:
        InvalidData: the file is damaged or holds something else.
    """

    def __init__(
        self,
        path: Path,
        feature: str = "",
        shape: tuple[int, ...] | None = None,
        dtype=np.uint8,
        fit: Callable | None = None,
    ):
        self.name, self.path, self.fit = str(path), path, fit
        self.pixel_shape, self.pixel_dtype = shape, np.dtype(dtype)
        is_array_record = "array_record" in path.name or "arrayrecord" in path.name
        opened = _array_records if is_array_record else _tf_records
        self.open = functools.partial(opened, path, stamp(path))
        count = len(self.open())
        if not count:
            raise InvalidData(f"{path} holds no records; expected images. Remove it.")
        self.feature = feature or self._only_picture()
        first = self._decode(0)
        self.shape, self.dtype = (count, *first.shape), first.dtype

    def read(self, index):
        shape = (len(index), *self.shape[1:])
        pictures = (self._decode(number) for number in index)
        return stacked(pictures, shape, self.dtype, lambda place: self._name_of(index[place]))

    def conditions(self, name: str) -> np.ndarray:
        """Return a feature of every record, a number each, `[N]`, or as many, `[N, C]`.

        Raises:
            InvalidData: a record has no such feature, or another number of values.
        """
        found = []
        for number in range(len(self)):
            features = self._example(number).features.feature
            if name not in features:
                raise InvalidData(
                    f"{self._name_of(number)} has no feature {name!r}, which data.condition "
                    f"names; it has {', '.join(sorted(features))}."
                )
            found.append(np.squeeze(_numbers(features[name])))
            if found[-1].shape != found[0].shape:
                raise InvalidData(
                    f"{self._name_of(number)} has {found[-1].size} values in {name!r}, the first "
                    f"record {found[0].size}; expected labels, or vectors of one length."
                )
        return np.array(found)

    def _only_picture(self):
        features = self._example(0).features.feature
        encoded = [
            name
            for name, value in features.items()
            if len(value.bytes_list.value) == 1 and looks_encoded(value.bytes_list.value[0])
        ]
        usual = [name for name in _USUAL_NAMES if name in encoded]
        if len(encoded) != 1 and not usual:
            what = ", ".join(sorted(features)) or "none"
            raise InvalidData(
                f"The records of {self.path} have the features {what}, of which "
                f"{'several' if encoded else 'none'} hold encoded pictures; expected one "
                "(PNG, JPEG, GIF or BMP), or one named 'image'. Write the shards so."
            )
        return usual[0] if usual else encoded[0]

    def _decode(self, number):
        features = self._example(number).features.feature
        if self.feature not in features:
            raise InvalidData(
                f"{self._name_of(number)} has no feature {self.feature!r}; it has "
                f"{', '.join(sorted(features)) or 'none'}."
            )
        value = features[self.feature]
        if self.pixel_shape is not None:
            picture = self._pixels(value, number)
        else:
            content = value.bytes_list.value[0] if value.bytes_list.value else b""
            name = f"The picture in {self._name_of(number)}"
            if not content.startswith(_JPEG):
                return decoded(content, name, self.fit)
            picture = _decoded_jpeg(content, name)
        try:
            return picture if self.fit is None else self.fit(picture)
        except InvalidData as error:
            raise InvalidData(f"{self._name_of(number)} does not fit. {error}") from None

    def _pixels(self, value, number):
        raw = value.bytes_list.value
        array = np.frombuffer(raw[0], self.pixel_dtype) if raw else _numbers(value)
        if array.size != np.prod(self.pixel_shape):
            raise InvalidData(
                f"{self._name_of(number)} has {array.size} values in {self.feature!r}; expected "
                f"{self.pixel_shape}."
            )
        small = self.pixel_dtype in (np.uint8, np.uint16)
        return array.astype(self.pixel_dtype if small else np.float32).reshape(self.pixel_shape)

    def _example(self, number):
        try:
            return tf.train.Example.FromString(self.open()[int(number)])
        except InvalidData:
            raise
        except Exception:  # protobuf has many kinds of errors, and so has ArrayRecord
            raise InvalidData(
                f"{self._name_of(number)} is damaged, or no tf.train.Example. Write the file anew, "
                "or remove it."
            ) from None

    def _name_of(self, number):
        return f"Record {int(number)} of {self.path}"


def _decoded_jpeg(content, name):
    """Return the pixels that TFDS gives for a JPEG, turned upright.

    Decoders differ in the last bits.
    """
    from PIL import UnidentifiedImageError

    try:
        with untrusted.open_picture(content, name) as image:  # is not too large
            turned_by = orientation(image)
        return upright(tf.io.decode_jpeg(tf.constant(content)).numpy(), turned_by)
    except (tf.errors.InvalidArgumentError, UnidentifiedImageError, OSError):
        raise InvalidData(f"{name} cannot be read as an image. Remove or repair it.") from None


def _numbers(value):
    kind = value.WhichOneof("kind")
    return np.asarray(getattr(value, kind).value if kind else [])


class _TFRecords:
    """The records of a TFRecord file by number.

    Args:
        path: of the file.
        begins: where they begin, and where the last one ends, `[N + 1]`.
    """

    def __init__(self, path, begins):
        self.path, self.begins, self.file = path, begins, path.open("rb", buffering=0)

    def __len__(self):
        return len(self.begins) - 1

    def __getitem__(self, number):
        begin, end = self.begins[number : number + 2]
        read = os.pread(self.file.fileno(), int(end - begin) - _HEADER, int(begin) + _HEADER)
        content, checksum = read[:-_FOOTER], read[-_FOOTER:]
        if len(read) != end - begin - _HEADER or masked(content) != int.from_bytes(
            checksum, "little"
        ):
            raise InvalidData(
                f"Record {number} of {self.path} is damaged: its checksum does not fit. Write the "
                "file anew, or remove it."
            )
        return content


@functools.lru_cache(maxsize=10_000)
def _begins(path, stamp):
    """Return where the records of a TFRecord file begin, and where the last ends, `[N + 1]`."""
    size, begins, place = path.stat().st_size, [], 0
    if not size:
        return np.zeros(1, np.int64)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as content:
        if content[:2] == b"\x1f\x8b":
            raise InvalidData(
                f"{path} is compressed, and cannot be read record by record. Decompress it: "
                "gunzip, or TFRecordDataset(..., compression_type='GZIP') and a TFRecordWriter."
            )
        while place < size:
            begins.append(place)
            if place + _HEADER + _FOOTER > size:
                break
            (length,) = struct.unpack_from("<Q", content, place)
            place += _HEADER + length + _FOOTER
    if place != size:
        raise InvalidData(
            f"{path} is damaged, or no TFRecord file: record {len(begins) - 1}, at byte "
            f"{begins[-1]}, does not end within its {size} bytes. Write it anew, or remove it."
        )
    return np.array([*begins, size], np.int64)


# Few of many shards are open at a time. What costs a pass over the file is kept.
@functools.lru_cache(maxsize=64)
def _tf_records(path, stamp):
    return _TFRecords(path, _begins(path, stamp))


class _ArrayRecords:
    """The records of an ArrayRecord file by number."""

    def __init__(self, path):
        from array_record.python.array_record_module import ArrayRecordReader

        untrusted.check_array_record(path)
        try:
            self.reader, self.lock = ArrayRecordReader(os.fspath(path)), threading.Lock()
            self.count = self.reader.num_records()
        except Exception as error:
            raise InvalidData(
                f"{path} cannot be read as an ArrayRecord file: {error}. Write it anew, or remove "
                "it."
            ) from None

    def __len__(self):
        return self.count

    def __getitem__(self, number):
        with self.lock:
            return self.reader.read([number])[0]


@functools.lru_cache(maxsize=64)
def _array_records(path, stamp):
    return _ArrayRecords(path)
