"""Data that is read as it is needed: the same images in the same order as in memory."""

import io
import itertools
import os

import keras
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import tensorflow as tf
from PIL import Image
from tiers import nightly_but

import tfvae
from tfvae import data
from tfvae.data.arrays import npy_source
from tfvae.data.arrow import ParquetSource
from tfvae.data.crc32c import crc32c
from tfvae.data.shards import by_split, open_shards
from tfvae.data.source import Blocks, Chain, Subset
from tfvae.errors import InvalidArgument, InvalidData
from tfvae.runs.evaluate import load_run

pytestmark = pytest.mark.slow  # Compiles graphs of whole models.

COUNT = 60
SPLITS = ("train", "validation", "test")
FORMATS = ["npy", "npy shards", "folder", "tfrecord", "array_record", "arrow", "parquet", "lists"]


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (COUNT, 5, 4, 3), np.uint8)


@pytest.fixture(scope="module")
def labels():
    return np.arange(COUNT) % 7


def png(image):
    content = io.BytesIO()
    Image.fromarray(image.squeeze()).save(content, "png")
    return content.getvalue()


def example(image, label):
    feature = {
        "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[png(image)])),
        "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
    }
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def table(pixels, labels):
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pictures = pa.array([{"bytes": png(image), "path": None} for image in pixels], kind)
    return pa.table({"label": pa.array(labels), "image": pictures})


def write_arrow(path, rows, chunk=7):
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, rows.schema) as writer:
        for batch in rows.to_batches(max_chunksize=chunk):
            writer.write_batch(batch)


def write(folder, kind, pixels, labels, prefix=""):
    """Write images as a dataset of a kind; return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "npy":
        np.save(folder / "x.npy", pixels)
        return folder / "x.npy"
    if kind == "npy shards":
        for number, start in enumerate(range(0, len(pixels), 25)):
            np.save(folder / f"{prefix}{number:05}.npy", pixels[start : start + 25])
    elif kind == "folder":
        for number, image in enumerate(pixels):
            (folder / f"{number:03}.png").write_bytes(png(image))
    elif kind == "tfrecord":
        with tf.io.TFRecordWriter(str(folder / f"{prefix}x.tfrecord-00000-of-00001")) as writer:
            for pair in zip(pixels, labels, strict=True):
                writer.write(example(*pair))
    elif kind == "array_record":
        from array_record.python.array_record_module import ArrayRecordWriter

        writer = ArrayRecordWriter(str(folder / f"{prefix}x.array_record"), "group_size:1")
        for pair in zip(pixels, labels, strict=True):
            writer.write(example(*pair))
        writer.close()
    elif kind == "arrow":
        write_arrow(folder / f"{prefix}data-00000-of-00001.arrow", table(pixels, labels))
        (folder / "state.json").write_text("{}")
    elif kind == "parquet":
        path = folder / f"{prefix}data-00000-of-00001.parquet"
        pa.parquet.write_table(table(pixels, labels), path, row_group_size=8)
    else:
        rows = pa.table(
            {"pixels": pa.array(pixels.tolist(), pa.list_(pa.list_(pa.list_(pa.uint8()))))}
        )
        write_arrow(folder / "data.arrow", rows)
    return folder


def _read_all(splits):
    for split in SPLITS:
        getattr(splits, split).numpy()


def epoch_of(images, number=0, first=0, batch_size=4, **options):
    batches = images.batches(batch_size, 1, **options)
    batches.start_at(number, first)
    return [batch[0].numpy() if isinstance(batch, tuple) else batch.numpy() for batch in batches]


@pytest.mark.parametrize(
    ("kind", "size"),
    # What is resized are arrays, or pictures of any size.
    nightly_but(
        itertools.product(FORMATS, ["whole", "resized"]),
        *((kind, "whole") for kind in FORMATS),
        ("folder", "resized"),
    ),
)
def test_images_are_those_in_memory_to_the_bit(tmp_path, pixels, labels, kind, size):
    path, resize = write(tmp_path / "x", kind, pixels, labels), (4, 4) if size == "resized" else ()
    held, streamed = (data.load(str(path), memory_gb=gb, resize=resize) for gb in (1.0, 0.0))
    assert held.train.in_memory
    assert not streamed.train.in_memory
    for split in SPLITS:
        one, other = getattr(held, split), getattr(streamed, split)
        np.testing.assert_array_equal(one.numpy(), other.numpy())
        assert (one.max_value, one.shape) == (other.max_value, other.shape)
    for a, b in zip(held.test.dataset(5), streamed.test.dataset(5), strict=True):
        np.testing.assert_array_equal(a, b)
    if not resize:
        every = np.concatenate([getattr(streamed, split).numpy() for split in SPLITS])
        wanted = pixels / np.float32(255)
        assert sorted(x.tobytes() for x in every) == sorted(x.tobytes() for x in wanted)
    if kind != "parquet":  # its order is a block shuffle
        np.testing.assert_array_equal(epoch_of(held.train, 3), epoch_of(streamed.train, 3))


BINARIZED = list(itertools.product(["npy", "folder", "parquet"], ["static", "dynamic"]))


@pytest.mark.parametrize(
    ("kind", "binarization"),
    nightly_but(BINARIZED, ("folder", "static"), ("npy", "dynamic"), ("parquet", "dynamic")),
)
def test_binarization_of_streams(tmp_path, pixels, labels, kind, binarization):
    path = write(tmp_path / "x", kind, pixels[:, :3, :3, :1], labels)  # an odd number of pixels
    options = {"binarization": binarization, "seed": 3}
    held, streamed = (data.load(str(path), memory_gb=gb, **options) for gb in (1.0, 0.0))
    for split in SPLITS[1:]:
        one, other = getattr(held, split), getattr(streamed, split)
        assert set(np.unique(other.numpy())) == {0, 1}
        np.testing.assert_array_equal(one.numpy(), other.numpy())
        np.testing.assert_array_equal(one.numpy(2, 4), other.numpy(2, 4))
    assert set(np.unique(epoch_of(streamed.train))) == {0, 1}
    if kind != "parquet":
        np.testing.assert_array_equal(epoch_of(held.train), epoch_of(streamed.train))


@pytest.mark.parametrize("kind", ["tfrecord", "array_record", "arrow", "parquet"])
def test_conditions_stay_beside_their_images(tmp_path, pixels, labels, kind):
    for name, part in {"train": slice(0, 40), "test": slice(40, 60)}.items():
        write(tmp_path / "x", kind, pixels[part], labels[part], f"{name}-")
    splits = data.load(str(tmp_path / "x"), condition="label", memory_gb=0)
    assert [len(getattr(splits, split)) for split in SPLITS] == [36, 4, 20]
    assert splits.condition == 7
    np.testing.assert_array_equal(splits.test.numpy(), pixels[40:] / np.float32(255))
    np.testing.assert_array_equal(splits.test.conditions, labels[40:])
    label_of = {image.tobytes(): label for image, label in zip(pixels, labels, strict=True)}
    for x, y in splits.train.batches(5):
        for image, label in zip(x.numpy(), y.numpy(), strict=True):
            assert label_of[np.round(255 * image).astype(np.uint8).tobytes()] == label
    with pytest.raises(InvalidData, match=r"no (column|feature) 'class', which data.condition"):
        data.load(str(tmp_path / "x"), condition="class")


@pytest.fixture(scope="module")
def streams(tmp_path_factory, pixels, labels):
    """An index shuffle and a block shuffle, with pixels drawn anew."""
    folder = tmp_path_factory.mktemp("streams")
    paths = {kind: write(folder / kind, kind, pixels, labels) for kind in ("npy", "parquet")}
    options = {"binarization": "dynamic", "memory_gb": 0}
    return {kind: data.load(str(path), **options).train for kind, path in paths.items()}


class TestOrder:
    @pytest.mark.parametrize("num_workers", nightly_but([2, 3], 3))
    @pytest.mark.parametrize("kind", ["npy", "parquet"])
    def test_workers_together_get_the_batches_of_one(self, streams, kind, num_workers):
        whole = epoch_of(streams[kind], 2)
        parts = [
            epoch_of(streams[kind], 2, worker=worker, num_workers=num_workers)
            for worker in range(num_workers)
        ]
        together = [np.concatenate(part) for part in zip(*parts, strict=True)]
        np.testing.assert_array_equal(together, whole)

    @pytest.mark.parametrize("kind", ["npy", "parquet"])
    def test_an_epoch_begins_at_any_batch(self, streams, kind):
        whole = epoch_of(streams[kind], 1)
        for first in (1, 5, 11, 12):
            rest = epoch_of(streams[kind], 1, first)
            assert len(rest) == len(whole) - first
            for a, b in zip(rest, whole[first:], strict=True):
                np.testing.assert_array_equal(a, b)

    @pytest.mark.parametrize("kind", ["npy shards", "parquet"])
    def test_nothing_is_lost_and_nothing_comes_twice(self, tmp_path, pixels, labels, kind):
        train = data.load(str(write(tmp_path / "x", kind, pixels, labels)), memory_gb=0).train
        for epoch in (0, 1):
            drawn = np.concatenate(epoch_of(train, epoch, batch_size=6))
            assert sorted(x.tobytes() for x in drawn) == sorted(x.tobytes() for x in train.numpy())

    def test_only_what_is_asked_for_is_read(self, pixels):
        read = []

        class Counted(data.Source):
            name, shape, dtype = "counted", (1000, 2, 2, 1), np.dtype(np.uint8)

            def read(self, index):
                read.extend(index)
                return np.zeros((len(index), 2, 2, 1), np.uint8)

        batches = data.Examples(Counted()).batches(10)
        batches.start_at(0, 90)
        assert len(list(batches)) == 10
        assert len(read) == len(set(read)) == 200, "of five times twenty batches, the last twenty"

    def test_no_such_worker(self, streams):
        with pytest.raises(InvalidArgument, match="`worker` is 2 of 2 with batches of 4"):
            streams["npy"].batches(4, worker=2, num_workers=2)


class TestSources:
    @pytest.fixture
    def blocks(self, tmp_path, pixels, labels):
        write(tmp_path, "parquet", pixels, labels)
        return ParquetSource(tmp_path / "data-00000-of-00001.parquet")

    def test_a_window_holds_as_many_blocks_as_fit(self):
        starts = np.arange(0, 100_000, 1000)
        assert Blocks(starts, 100).in_window(100_000) == 17
        assert Blocks(starts, 100 * 2**27).in_window(100_000) == 2
        assert Blocks(starts, 100 * 2**30).in_window(100_000) == 1
        assert Blocks(starts[:3], 100).in_window(3000) == 3

    def test_parts_of_sources_keep_their_blocks(self, blocks):
        np.testing.assert_array_equal(blocks.blocks.starts, np.arange(0, COUNT, 8))
        some = Subset(blocks, np.array([3, 4, 9, 40, 41, 59]))
        np.testing.assert_array_equal(some.blocks.starts, [0, 2, 3, 5])
        joined = Chain("both", [blocks, some])
        np.testing.assert_array_equal(joined.blocks.starts, [*range(0, 60, 8), 60, 62, 63, 65])
        np.testing.assert_array_equal(joined[[61, 0, 65]], blocks[[4, 0, 59]])
        assert joined[3].shape == (5, 4, 3)

    @pytest.mark.parametrize("dtype", [int, np.int32, np.uint32])
    def test_it_is_indexed_as_an_array_is(self, tmp_path, rng, dtype):
        x = rng.integers(0, 256, (5, 4, 4), np.uint8)
        np.save(tmp_path / "x.npy", x)
        source, x = npy_source(tmp_path / "x.npy"), x[..., np.newaxis]
        np.testing.assert_array_equal(source[-1], x[-1])
        np.testing.assert_array_equal(source[[-5, 4, -2]], x[[-5, 4, -2]])
        np.testing.assert_array_equal(source[np.array([3, 0], dtype)], x[[3, 0]])
        np.testing.assert_array_equal(list(source), x)  # and ends
        for index in (5, -6, [0, 5]):
            with pytest.raises(IndexError, match="has 5 examples"):
                source[index]

    def test_a_checksum(self):
        assert crc32c(b"123456789") == 0xE3069283
        assert crc32c(bytes(32)) == 0x8A9136AA

    @pytest.mark.parametrize("length", [4, 1023, 1024, 1025, 5000])
    def test_checksums_are_those_that_tensorflow_writes(self, tmp_path, rng, length):
        content = rng.integers(0, 256, length, np.uint8).tobytes()
        with tf.io.TFRecordWriter(str(tmp_path / "x")) as writer:
            writer.write(content)
        from tfvae.data.crc32c import masked

        assert masked(content) == int.from_bytes((tmp_path / "x").read_bytes()[-4:], "little")


@pytest.mark.parametrize("name", ["train.npy", "train/0.npy"])
def test_a_training_split_alone_gives_up_its_end(tmp_path, name):
    x = np.arange(30, dtype=np.uint8).repeat(16).reshape(30, 4, 4)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    np.save(tmp_path / name, x)
    splits = data.load(str(tmp_path))
    found = [part.values[:, 0, 0, 0].tolist() for part in (splits.train, splits.validation)]
    assert found == [list(range(24)), [27, 28, 29]]
    assert splits.test.values[:, 0, 0, 0].tolist() == [24, 25, 26]


def test_a_jpeg_in_a_record_is_turned_upright(tmp_path):
    buffer, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6  # lies on its left side
    upright = np.zeros((16, 8), np.uint8)
    upright[:8] = 255
    Image.fromarray(np.ascontiguousarray(np.rot90(upright))).save(buffer, "JPEG", exif=exif)
    value = tf.train.BytesList(value=[buffer.getvalue()])
    features = tf.train.Features(feature={"image": tf.train.Feature(bytes_list=value)})
    with tf.io.TFRecordWriter(str(tmp_path / "x.tfrecord")) as writer:
        for _ in range(10):
            writer.write(tf.train.Example(features=features).SerializeToString())
    (image, *_) = data.load(str(tmp_path)).train.values
    np.testing.assert_allclose(image[..., 0], upright, atol=3)


class TestRefusals:
    @pytest.mark.parametrize("kind", ["npy shards", "tfrecord", "array_record", "arrow", "parquet"])
    @pytest.mark.parametrize("damage", ["empty", "cut", "text"])
    def test_a_damaged_shard_is_named(self, tmp_path, pixels, labels, kind, damage):
        folder = write(tmp_path / "x", kind, pixels, labels)
        path = sorted(p for p in folder.iterdir() if p.suffix != ".json")[-1]
        content = path.read_bytes()
        damaged = {"empty": b"", "cut": content[: len(content) // 2 + 5], "text": b"no data" * 50}
        path.write_bytes(damaged[damage])
        with pytest.raises(InvalidData, match=path.name):
            data.load(str(folder))

    @pytest.mark.parametrize("memory_gb", [0.0, 1.0])
    def test_a_record_whose_checksum_does_not_fit_is_named(
        self, tmp_path, pixels, labels, memory_gb
    ):
        path = next(write(tmp_path / "x", "tfrecord", pixels, labels).iterdir())
        content = bytearray(path.read_bytes())
        content[-20] ^= 1
        path.write_bytes(content)
        with pytest.raises(InvalidData, match=r"Record 59 of .*tfrecord.* is damaged: its checks"):
            _read_all(data.load(str(tmp_path / "x"), memory_gb=memory_gb))

    def test_a_picture_that_cannot_be_decoded_while_a_model_trains_is_named(
        self, tmp_path, pixels, labels, make_vae
    ):
        folder = write(tmp_path / "x", "folder", pixels, labels)
        splits = data.load(str(folder), memory_gb=0)
        bad = splits.train.values.source.path(splits.train.values.index[30])
        bad.write_bytes(bad.read_bytes()[:60])
        model = make_vae(x_shape=(5, 4, 3))
        model.compile("adam", run_eagerly=True)
        with pytest.raises(InvalidData, match=rf"^{bad} cannot be read as an image\. Remove or"):
            model.fit(splits.train.batches(4), verbose=0)
        with pytest.raises(InvalidData, match=f"^{bad} cannot be read as an image"):
            tfvae.log_likelihood(model, splits.train, num_samples=2, progress=False)

    def test_files_of_a_large_folder_are_looked_at_before_training(self, tmp_path, pixels, labels):
        folder = write(tmp_path / "x", "folder", pixels, labels)
        Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(folder / "040.png")
        with pytest.raises(InvalidData, match=r"5×4 \(59\), 9×9 \(1\).*data.resize"):
            data.load(str(folder), memory_gb=0)
        (folder / "040.png").write_text("no image")
        with pytest.raises(InvalidData, match=r"040\.png cannot be read as an image"):
            data.load(str(folder), memory_gb=0)

    def test_shards_that_differ_are_named(self, tmp_path):
        for number, size in enumerate((4, 5)):
            np.save(tmp_path / f"{number}.npy", np.zeros((20, size, size), np.uint8))
        with pytest.raises(InvalidData, match=r"0.npy holds .*\(4, 4, 1\).*1.npy .*\(5, 5, 1\)"):
            data.load(str(tmp_path))

    def test_a_split_that_only_some_files_name(self, tmp_path):
        for name in ("train-0", "extra"):
            np.save(tmp_path / f"{name}.npy", np.zeros((20, 4, 4), np.uint8))
        with pytest.raises(
            InvalidData, match=r"train-0.npy names its split and extra.npy does not"
        ):
            data.load(str(tmp_path))

    def test_files_of_several_kinds(self, tmp_path, pixels, labels):
        write(tmp_path, "npy shards", pixels, labels)
        write(tmp_path, "parquet", pixels, labels)
        with pytest.raises(InvalidData, match=r"several kinds, such as .*npy and .*parquet"):
            data.load(str(tmp_path))

    def test_floats_of_a_stream_are_looked_at_in_one_pass(self, tmp_path):
        x = np.zeros((50, 4, 4), np.float32)
        x[37, 1, 1] = np.nan
        np.save(tmp_path / "x.npy", x)
        with pytest.raises(InvalidData, match="holds 1 values that are infinite or not a number"):
            data.load(str(tmp_path / "x.npy"), memory_gb=0)

    def test_compressed_records(self, tmp_path):
        import gzip

        (tmp_path / "x.tfrecord").write_bytes(gzip.compress(b"records"))
        with pytest.raises(InvalidData, match=r"x.tfrecord is compressed.*gunzip"):
            data.load(str(tmp_path))

    @pytest.mark.parametrize("memory_gb", [-1, float("nan"), "much"])
    def test_memory_that_is_none(self, memory_gb):
        with pytest.raises(InvalidArgument, match="`memory_gb` is"):
            data.load("digits", memory_gb=memory_gb)


IN_BOTH, STREAMED = (1.0, 0.0), (0.0,)  # gigabytes of data that are held in memory


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize(
    ("kind", "sizes"),
    nightly_but(
        [("npy", IN_BOTH), ("parquet", IN_BOTH), ("parquet", STREAMED)], ("parquet", STREAMED)
    ),
)
def test_a_run_on_a_stream_is_that_in_memory(tmp_path, pixels, labels, kind, sizes):
    """Training, evaluation and pictures; the order of an index shuffle gives the same weights."""
    path = write(tmp_path / "x", kind, pixels[..., :1], labels)
    settings = {
        "data.name": str(path),
        "data.binarization": "dynamic",
        "model.hidden": [8],
        "model.latent_size": 3,
        "model.prior": "vamp",
        "model.prior_options": {"num_components": 4},
        "training.epochs": 1,
        "training.batch_size": 8,
        "training.steps_per_execution": 1,
    }
    weights = []
    for gigabytes in sizes:
        keras.utils.set_random_seed(0)
        config = tfvae.config.Config().override({**settings, "data.memory_gb": gigabytes})
        run = tfvae.runs.train(config, tmp_path / f"run-{gigabytes}", progress=False)
        assert (run.path / "samples.png").exists()
        model, config, splits = load_run(run.path, {})
        assert not config.data.full_range, "its files are binarized"
        assert splits.train.in_memory == (gigabytes == 1)
        values = tfvae.runs.evaluate(model, splits, 10, progress=False)
        weights.append((model.get_weights(), values["log_likelihood"]))
    assert all(np.isfinite(value) for _, value in weights)
    if sizes == STREAMED:
        return
    if kind == "npy":
        for one, other in zip(weights[0][0], weights[1][0], strict=True):
            np.testing.assert_array_equal(one, other)
        assert weights[0][1] == weights[1][1]
    else:
        assert abs(weights[0][1] - weights[1][1]) < 20


def test_codes_that_start_from_a_stream_start_at_the_centres_of_all_of_it(tmp_path):
    """Black pictures, then white ones: those that come first in the file would give one centre."""
    x = np.repeat(np.array([0, 255], np.uint8), 30).reshape(60, 1, 1, 1) * np.ones((1, 4, 4, 1))
    np.save(tmp_path / "x.npy", x.astype(np.uint8))
    tables = []
    for gigabytes in (1.0, 0.0):
        keras.utils.set_random_seed(0)
        train = data.load(str(tmp_path / "x.npy"), memory_gb=gigabytes).train
        model = tfvae.VQVAE(
            encoder=keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Conv2D(3, 4)]),
            decoder=keras.Sequential([keras.Input((1, 1, 3)), keras.layers.Conv2DTranspose(1, 4)]),
            quantizer=tfvae.quantizers.VectorQuantizer(2, 3, initializer="kmeans"),
        )
        model.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
        model.fit(train.batches(8), verbose=0)
        tables.append(model.quantizer.table.numpy())
        vectors = model.encoder(np.float32([x[0], x[-1]]) / 255).numpy()[:, 0, 0]
        order, wanted = np.argsort(tables[-1][:, 0]), np.argsort(vectors[:, 0])
        np.testing.assert_allclose(tables[-1][order], vectors[wanted], atol=1e-5)
    np.testing.assert_array_equal(*tables)


def test_a_file_that_is_cut_off_while_it_is_read_is_named(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, np.zeros((60, 4, 4), np.uint8))
    train = data.load(str(path), memory_gb=0).train
    with path.open("r+b") as file:
        file.truncate(500)
    with pytest.raises(InvalidData, match=r"x\.npy"):
        train.numpy()


@pytest.mark.parametrize("dtype", ["u1", ">u2", "<f8", "?"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_images_of_an_npy_file_by_number(tmp_path, rng, dtype, order):
    x = (200 * rng.random((20, 3, 2, 1))).astype(dtype)
    np.save(tmp_path / "x.npy", np.asarray(x, order=order))
    source = npy_source(tmp_path / "x.npy")
    for index in ([4, 5, 6, 0, 19, 19, 18, 1, 2], range(20), [7], []):
        index = np.array(index, np.int64)
        read = source.read(index)
        assert read.dtype == source.dtype
        np.testing.assert_array_equal(read, x[index].astype(source.dtype))


@pytest.mark.parametrize("kind", ["arrow", "parquet", "tfrecord"])
def test_conditions_of_several_shards_stay_beside_their_images(tmp_path, pixels, labels, kind):
    for prefix, part in (("a-", slice(0, 25)), ("b-", slice(25, 28)), ("c-", slice(28, 40))):
        write(tmp_path, kind, pixels[part], labels[part], prefix)
    names = sorted(path.name for path in tmp_path.iterdir() if path.name != "state.json")
    part = open_shards(tmp_path, names, condition="label")["x"]
    np.testing.assert_array_equal(part.values[:], pixels[:40])
    np.testing.assert_array_equal(part.conditions, labels[:40])


def test_the_split_of_a_shard_is_that_of_its_folder_or_else_of_a_word_in_its_name(tmp_path):
    splits = {
        "train": ["train/a.npy", "x/Train2.npy"],
        "validation": ["Dev/b.npy", "x-val-00000-of-00001.npy"],
        "test": ["test/train-00000.npy", "a/testing/c.npy"],
    }
    paths = [path for mine in zip(*splits.values(), strict=True) for path in mine]
    assert by_split(tmp_path, paths) == splits
    without = ["attest.npy", "trains/0.npy"]
    assert by_split(tmp_path, without) == {"x": without}


def test_a_read_that_gives_fewer_bytes_than_asked_for_goes_on_where_it_stopped(
    tmp_path, pixels, monkeypatch
):
    np.save(tmp_path / "x.npy", pixels)
    whole = os.preadv
    monkeypatch.setattr(
        os, "preadv", lambda file, buffers, place: whole(file, [buffers[0][:7]], place)
    )
    some = npy_source(tmp_path / "x.npy").read(np.array([3, 4, 5, 1]))
    np.testing.assert_array_equal(some, pixels[[3, 4, 5, 1]])
