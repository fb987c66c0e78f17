"""Image data: TFDS by name, the bundled digits, a folder of images, or an array file.

`load` returns `Splits`; training, validation and test images are never mixed. A split is held in
memory as it is stored (8-bit where it is 8-bit) and converted to floats in [0, 1] batch by batch.
The order of the data and the noise of a dynamic binarization are functions of (seed, epoch), so a
run that is resumed sees what it would have seen.
"""

import contextlib
import dataclasses
import logging
import math
import socket
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfvae.errors import InvalidArgument, InvalidData, unknown_name
from tfvae.random import Stream, fold_in, make_seed

BINARIZATIONS = ("none", "static", "dynamic")
_TFDS_HOST = "storage.googleapis.com"  # of TFDS's own files
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")


@dataclasses.dataclass(frozen=True)
class Images:
    """Images of one split.

    Attributes:
        pixels: `[N, H, W, C]`, of the dtype in which they are stored.
        max_value: the stored value that stands for 1.
        resample: whether `batches` draws binary pixels anew in every epoch, with the intensities
            as probabilities.
    """

    pixels: np.ndarray
    max_value: float = 1.0
    resample: bool = False

    def __len__(self):
        return len(self.pixels)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one image, (H, W, C)."""
        return self.pixels.shape[1:]

    def numpy(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Return images `start` to `stop` as float32 in [0, 1]."""
        return self.pixels[start:stop].astype(np.float32) / np.float32(self.max_value)

    def dataset(self, batch_size: int) -> tf.data.Dataset:
        """Return the batches in order, the last one smaller if need be: to evaluate on."""
        pixels = tf.data.Dataset.from_tensor_slices(self.pixels)
        return pixels.batch(batch_size).map(self._to_float).prefetch(2)

    def batches(self, batch_size: int, seed: int, epoch: tf.Variable) -> tf.data.Dataset:
        """Return the shuffled batches of one epoch: to train on.

        Iterating it anew gives the epoch that the variable `epoch` then holds. What does not fill a
        batch is left out, other images each time.

        Raises:
            InvalidData: there are fewer images than a batch holds.
        """
        count = len(self)
        if count < batch_size:
            raise InvalidData(
                f"The training split has {count} images, fewer than the batch size {batch_size}. "
                f"Choose a batch size of at most {count}."
            )
        pixels = tf.constant(self.pixels)
        order_seed = fold_in(make_seed(seed), int(Stream.SHUFFLE))
        pixel_seed = fold_in(make_seed(seed), int(Stream.BINARIZE))
        steps = count // batch_size

        def one_epoch(_):
            now = epoch.read_value()
            keys = tf.random.stateless_uniform([count], fold_in(order_seed, now), dtype=tf.float32)
            order = tf.argsort(keys, stable=True)[: steps * batch_size]
            batches = tf.data.Dataset.from_tensor_slices(tf.reshape(order, [steps, batch_size]))
            return batches.enumerate().map(lambda step, index: (now, step, index))

        def make_batch(now, step, index):
            x = self._to_float(tf.gather(pixels, index))
            if not self.resample:
                return x
            noise = tf.random.stateless_uniform(tf.shape(x), fold_in(pixel_seed, now, step))
            return tf.cast(noise < x, tf.float32)

        dataset = tf.data.Dataset.from_tensors(0).flat_map(one_epoch).map(make_batch)
        return dataset.apply(tf.data.experimental.assert_cardinality(steps)).prefetch(8)

    def _to_float(self, pixels):
        return tf.cast(pixels, tf.float32) * np.float32(1.0 / self.max_value)


@dataclasses.dataclass(frozen=True)
class Splits:
    """The three splits of a dataset, and its name."""

    name: str
    train: Images
    validation: Images
    test: Images

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one image, (H, W, C)."""
        return self.train.shape

    @property
    def num_values(self) -> int:
        """H·W·C, the number of dimensions in "bits per dimension"."""
        return math.prod(self.shape)


def load(
    name: str,
    data_dir: str | Path | None = None,
    binarization: str = "none",
    seed: int = 0,
    download: bool = False,
) -> Splits:
    """Load a dataset.

    Args:
        name: "digits" (1,797 handwritten digits of 8×8 pixels and 17 grey levels, bundled with
            scikit-learn), the name of a TFDS dataset, or the path of an `.npy` or `.npz` file or of
            a folder of images. A folder may hold `train/`, `validation/` and `test/`; an `.npz` may
            hold arrays of these names. What has no such parts is split by a seeded shuffle, 80%,
            10% and 10%. A TFDS dataset without a validation split gives up the last tenth of
            `train`, at most 10,000 images.
        data_dir: where TFDS finds prepared data; its own default if None.
        binarization: "none"; "static": every pixel is drawn once, with its intensity as
            probability; "dynamic": training pixels are drawn anew every epoch, those of the other
            splits once.
        seed: decides splits and the pixels that are drawn once.
        download: let TFDS download what is not prepared.

    Raises:
        InvalidArgument: an unknown name or binarization.
        InvalidData: data that is missing or not images, or an empty split.
    """
    if binarization not in BINARIZATIONS:
        raise unknown_name("binarization", binarization, BINARIZATIONS)
    splits = _read(str(name), data_dir, seed, download)
    for split in ("train", "validation", "test"):
        images = getattr(splits, split)
        if len(images) == 0:
            raise InvalidData(f"The {split} split of {name!r} is empty; expected images.")
        if images.shape != splits.shape:
            raise InvalidData(
                f"The {split} split of {name!r} has images of shape {images.shape}, the training "
                f"split of {splits.shape}; expected one shape."
            )
    return splits if binarization == "none" else _binarize(splits, binarization, seed)


def _read(name, data_dir, seed, download):
    if name == "digits":
        return _load_digits(seed)
    path = Path(name)
    if path.suffix in (".npy", ".npz"):
        return _load_arrays(path, seed)
    if path.is_dir():
        return _load_folder(path, seed)
    if path.exists() or "/" in name or "\\" in name:
        raise InvalidData(
            f"{name} is not a dataset: expected a folder of images, an .npy or .npz file, 'digits' "
            "or the name of a TFDS dataset."
            if path.exists()
            else f"There is no file or folder {name}."
        )
    return _load_tfds(name, data_dir, download)


def _binarize(splits, binarization, seed):
    def draw(images, split):
        rng = np.random.default_rng([seed, int(Stream.BINARIZE), split])
        drawn = np.empty(images.pixels.shape, np.uint8)
        for start in range(0, len(images), 1000):
            x = images.numpy(start, start + 1000)
            drawn[start : start + 1000] = rng.random(x.shape, np.float32) < x
        return Images(drawn)

    _check_unit_range(splits)
    dynamic = dataclasses.replace(splits.train, resample=True)
    train = dynamic if binarization == "dynamic" else draw(splits.train, 0)
    return Splits(splits.name, train, draw(splits.validation, 1), draw(splits.test, 2))


def _check_unit_range(splits):
    for images in (splits.train, splits.validation, splits.test):
        low, high = float(images.pixels.min()), float(images.pixels.max())
        if not (low >= 0 and high <= images.max_value):
            raise InvalidData(
                f"{splits.name!r} has pixels from {low:g} to {high:g}; binarization expects "
                "intensities in [0, 1]. Rescale the data, or use binarization 'none'."
            )


def _load_digits(seed):
    from sklearn.datasets import load_digits

    pixels = load_digits().images.astype(np.uint8)[..., np.newaxis]
    return _split_by_shuffle("digits", pixels, 16.0, seed)


def _split_by_shuffle(name, pixels, max_value, seed):
    count = len(pixels)
    if count < 10:
        raise InvalidData(
            f"{name!r} has {count} images; at least 10 are needed to split them into training, "
            "validation and test. Give the splits yourself (train/, validation/, test/)."
        )
    order = np.random.default_rng([seed, int(Stream.SHUFFLE)]).permutation(count)
    held_out = max(1, round(count / 10))
    test, validation, train = np.split(order, [held_out, 2 * held_out])
    # Sorted, so that the content of a split is all that the shuffle decides.
    return Splits(
        name, *(Images(pixels[np.sort(i)], max_value) for i in (train, validation, test))
    )


def _load_arrays(path, seed):
    try:
        with np.load(path, allow_pickle=False) as loaded:
            arrays = {key: loaded[key] for key in loaded.files}
    except AttributeError:  # an .npy is loaded as the array itself
        arrays = {"x": np.load(path, allow_pickle=False)}
    except FileNotFoundError:
        raise InvalidData(f"There is no file {path}.") from None
    except (OSError, ValueError, EOFError, KeyError) as error:
        raise InvalidData(f"{path} cannot be read as an array: {error}") from None
    arrays = {key: _as_images(array, f"{path}[{key}]") for key, array in arrays.items()}
    max_value = 255.0 if all(a.dtype == np.uint8 for a in arrays.values()) else 1.0
    return _join_splits(str(path), arrays, max_value, seed)


def _join_splits(name, arrays, max_value, seed):
    """Make `Splits` of {"train", "validation", "test"}, or of one array."""
    if set(arrays) == {"train", "validation", "test"}:
        return Splits(
            name, *(Images(arrays[k], max_value) for k in ("train", "validation", "test"))
        )
    if len(arrays) == 1:
        return _split_by_shuffle(name, next(iter(arrays.values())), max_value, seed)
    raise InvalidData(
        f"{name} holds {', '.join(sorted(arrays)) or 'nothing'}; expected 'train', 'validation' "
        "and 'test', or one set of images that is then split."
    )


def _as_images(array, name):
    if array.ndim == 3:
        array = array[..., np.newaxis]
    if array.ndim != 4 or array.dtype.kind not in "buif":
        raise InvalidData(
            f"{name} is an array of {array.dtype} of shape {array.shape}; expected numbers of "
            "shape [N, H, W] or [N, H, W, C]."
        )
    if array.dtype == np.uint8:
        return array
    array = array.astype(np.float32)
    if not np.all(np.isfinite(array)):
        raise InvalidData(
            f"{name} holds {np.count_nonzero(~np.isfinite(array))} values that are infinite or not "
            "a number; expected finite pixels. Clean the data first."
        )
    return array


def _load_folder(path, seed):
    parts = [p for p in ("train", "validation", "test") if (path / p).is_dir()]
    folders = {p: path / p for p in parts} or {"x": path}
    arrays = {key: _read_folder(folder) for key, folder in folders.items()}
    shapes = {array.shape[1:] for array in arrays.values()}
    if len(shapes) > 1:
        raise InvalidData(f"{path} holds images of shapes {sorted(shapes)}; expected one shape.")
    return _join_splits(str(path), arrays, 255.0, seed)


def _read_folder(folder):
    """Return the images of a folder and those below it, in the order of their names."""
    from PIL import Image, UnidentifiedImageError

    files = sorted(f for f in folder.rglob("*") if f.is_file() and not f.name.startswith("."))
    images = []
    for file in files:
        try:
            with Image.open(file) as image:
                grey = image.mode in ("1", "L", "I;16")
                images.append(np.asarray(image.convert("L" if grey else "RGB")))
        except (UnidentifiedImageError, OSError, ValueError):
            raise InvalidData(
                f"{file} cannot be read as an image; expected only images "
                f"({', '.join(IMAGE_SUFFIXES)}) in {folder}. Remove or repair it."
            ) from None
        if images[-1].shape != images[0].shape:
            raise InvalidData(
                f"{file} has shape {images[-1].shape}, {files[0]} has {images[0].shape}; expected "
                "images of one size and colour mode. Resize or convert them first."
            )
    if not images:
        raise InvalidData(f"{folder} holds no images; expected {', '.join(IMAGE_SUFFIXES)} files.")
    stacked = np.stack(images)
    return stacked if stacked.ndim == 4 else stacked[..., np.newaxis]


def _load_tfds(name, data_dir, download):
    logging.getLogger("absl").setLevel(logging.ERROR)
    import tensorflow_datasets as tfds

    builder = _tfds_builder(tfds, name, data_dir)
    if download and not builder.is_prepared():
        _download(builder, name)
    feature = next(
        (key for key, f in (builder.info.features or {}).items() if _is_image(tfds, f)), None
    )
    if feature is None:
        raise InvalidData(f"The TFDS dataset {name!r} has no image feature; expected images.")

    def read(split):
        try:
            dataset = builder.as_dataset(split=split, shuffle_files=False)
        except AssertionError:
            raise InvalidData(
                f"The TFDS dataset {name!r} is not prepared in {builder.data_path}. Pass the "
                "folder that holds it as data_dir (--data-dir), or allow the download "
                "(download=True, --download)."
            ) from None
        images = [example[feature] for example in dataset.as_numpy_iterator()]
        if len({image.shape for image in images}) > 1:
            raise InvalidData(
                f"The images of the TFDS dataset {name!r} differ in size; expected one size."
            )
        return np.stack(images) if images else np.empty((0,))

    return _tfds_splits(name, builder, read)


def _download(builder, name):
    remedy = "Check the network, or pass the folder of prepared data as data_dir (--data-dir)."
    try:  # TFDS itself would retry for minutes
        socket.getaddrinfo(_TFDS_HOST, 443)
    except OSError:
        raise InvalidData(
            f"TFDS cannot download {name!r}: there is no network ({_TFDS_HOST} was not found). "
            + remedy
        ) from None
    try:
        with contextlib.redirect_stdout(sys.stderr):  # standard output is for results
            builder.download_and_prepare()
    except Exception as error:  # TFDS lets errors of many libraries through
        raise InvalidData(
            f"TFDS could not download {name!r}: {type(error).__name__}: {error}. {remedy}"
        ) from None


def _is_image(tfds, feature):
    return isinstance(feature, tfds.features.Image) or (
        isinstance(feature, tfds.features.Tensor) and len(feature.shape) == 3
    )


def _tfds_builder(tfds, name, data_dir):
    if data_dir is not None and not Path(data_dir).is_dir():
        raise InvalidData(f"The data_dir {data_dir} is not a folder.")
    try:
        return tfds.builder(name, data_dir=data_dir, try_gcs=False)
    except tfds.core.DatasetNotFoundError:
        prepared = [p.parent.parent.name for p in Path(data_dir or ".").glob("*/*/features.json")]
        names = ["digits", *prepared, *tfds.list_builders(with_community_datasets=False)]
        error = unknown_name("dataset", name, names)
        few = ", ".join(sorted({"digits", *prepared, "mnist", "fashion_mnist", "binarized_mnist"}))
        text = str(error).split(" Valid names:")[0]
        raise InvalidArgument(
            f"{text} Expected 'digits', the path of a folder of images or of an .npy or .npz file, "
            f"or the name of a TFDS dataset, such as {few}."
        ) from None


def _tfds_splits(name, builder, read):
    train = read("train")
    available = builder.info.splits
    is_scaled = train.dtype.kind == "f" or train.max(initial=0) <= 1
    max_value = 1.0 if is_scaled else float(np.iinfo(train.dtype).max)
    if "validation" in available:
        validation = read("validation")
    else:
        held_out = min(10_000, len(train) // 10)
        train, validation = train[:-held_out], train[-held_out:]
    if "test" not in available:
        held_out = max(1, len(train) // 10)
        train, test = train[:-held_out], train[-held_out:]
    else:
        test = read("test")
    return Splits(name, *(Images(part, max_value) for part in (train, validation, test)))
