import os
import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfvae import config, data, data_paths, runs
from tfvae.data.arrays import ArraySource
from tfvae.data.binarized import binarized_splits
from tfvae.data.splits import Part, join
from tfvae.errors import InvalidArgument, InvalidData

SPLITS = ("train", "validation", "test")
SHARED = Path(__file__).parents[2] / "shared"


def content(images):
    """Return the images as a set, for comparisons that do not depend on their order."""
    return {image.tobytes() for image in np.asarray(images)}


def epoch_of(images, number, seed=0, batch_size=10):
    """Return the batches of one epoch."""
    batches = images.batches(batch_size, seed)
    batches.start_at(number)
    return np.stack([batch.numpy() for batch in batches])


@pytest.fixture(scope="module")
def numbered():
    """Thirty-seven images, image n with all pixels n."""
    pixels = np.broadcast_to(np.arange(37, dtype=np.uint8)[:, None, None, None], (37, 2, 2, 1))
    return data.Examples(np.ascontiguousarray(pixels), max_value=255.0)


@pytest.fixture
def write_images(tmp_path, rng):
    """Return a function that writes random images into a folder, and gives their pixels."""

    def write(folder, count, shape=(4, 3), suffix=".png"):
        folder = tmp_path / folder
        folder.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (count, *shape), np.uint8)
        for number, image in enumerate(pixels):
            Image.fromarray(image).save(folder / f"{number:03}{suffix}")
        return pixels

    return write


class TestDigits:
    def test_they_are_shown_in_a_line_each(self):
        splits = data.load("digits", condition="label")
        shown = "<Splits of 'digits': images of shape (8, 8, 1); 1,437 train, 180 validation, 180 "
        assert repr(splits) == shown + "test>"
        test = "<Examples: 180 images of shape (8, 8, 1), uint8, in memory, with conditions>"
        assert repr(splits.test) == test

    def test_the_splits_hold_every_digit_once(self):
        from sklearn.datasets import load_digits

        splits = data.load("digits")
        assert [len(getattr(splits, split)) for split in SPLITS] == [1437, 180, 180]
        assert (splits.name, splits.shape, splits.num_values) == ("digits", (8, 8, 1), 64)
        together = np.concatenate([getattr(splits, split).values for split in SPLITS])
        every = load_digits().images.astype(np.uint8)
        assert sorted(i.tobytes() for i in together) == sorted(i.tobytes() for i in every)
        x = splits.train.numpy()
        assert x.dtype == np.float32
        assert (x.min(), x.max()) == (0, 1)

    def test_the_splits_are_a_function_of_the_seed(self):
        first, again, other = (data.load("digits", seed=seed) for seed in (3, 3, 4))
        np.testing.assert_array_equal(first.test.values, again.test.values)
        assert content(first.test.values) != content(other.test.values)


class TestBinarization:
    def test_static_pixels_are_binary_and_fixed(self):
        first, again, other = (
            data.load("digits", binarization="static", seed=seed) for seed in (1, 1, 2)
        )
        for split in SPLITS:
            x = getattr(first, split).numpy()
            assert set(np.unique(x)) == {0, 1}
            np.testing.assert_array_equal(x, getattr(again, split).numpy())
        assert not np.array_equal(first.train.values, other.train.values)
        epochs = [content(epoch_of(first.train, n, batch_size=1437)[0]) for n in (0, 1)]
        assert epochs[0] == epochs[1] == content(first.train.numpy())

    def test_static_pixels_have_their_intensity_as_probability(self, assert_mean):
        grey = data.load("digits", seed=1).train.numpy()
        binary = data.load("digits", binarization="static", seed=1).train.numpy()
        for level in np.unique(grey):
            assert_mean(binary[grey == level], level)

    def test_dynamic_training_pixels_are_drawn_anew_every_epoch(self, assert_mean):
        level = data.Examples(np.full((40, 8, 8, 1), 0.3, np.float32), resample=True)
        first, again, other = (epoch_of(level, n) for n in (5, 5, 6))
        assert set(np.unique(first)) == {0, 1}
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(epoch_of(level, 5, seed=1), first)
        assert not content(first.reshape(40, 64)) & content(other.reshape(40, 64))
        assert len(content(first.reshape(40, 64))) == 40, "batches share their noise"
        assert_mean(first.ravel(), 0.3)

    def test_dynamic_splits_to_measure_on_are_the_static_ones(self):
        static, dynamic = (
            data.load("digits", binarization=binarization) for binarization in ("static", "dynamic")
        )
        np.testing.assert_array_equal(dynamic.test.values, static.test.values)
        np.testing.assert_array_equal(dynamic.validation.values, static.validation.values)
        assert dynamic.train.resample
        assert len(np.unique(dynamic.train.numpy())) == 17

    @pytest.mark.parametrize("binarization", ["static", "dynamic"])
    def test_what_is_no_intensity_is_refused(self, tmp_path, binarization):
        np.savez(tmp_path / "x.npz", x=np.linspace(-1, 2, 20 * 4).reshape(20, 2, 2))
        with pytest.raises(InvalidData, match=r"from -1 to 2; .*\[0, 1\]"):
            data.load(str(tmp_path / "x.npz"), binarization=binarization)

    def test_an_unknown_one_is_refused(self):
        with pytest.raises(InvalidArgument, match="Did you mean 'dynamic'"):
            data.load("digits", binarization="dynamik")

    def test_batches_that_are_made_together_share_no_noise_with_the_next(self):
        level = data.Examples(np.full((40, 8, 8, 1), 0.3, np.float32), resample=True)
        assert len(content(epoch_of(level, 0, batch_size=1))) == 40

    def test_images_of_all_splits_have_noise_of_their_own(self):
        grey = data.Examples(np.full((5, 8, 8, 1), 0.5, np.float32))
        drawn = binarized_splits(data.Splits("made", grey, grey, grey), "static", seed=0)
        images = np.concatenate([getattr(drawn, split).values for split in SPLITS])
        assert len(content(images)) == 15

    @pytest.mark.parametrize("split", SPLITS)
    @pytest.mark.parametrize("wrong", [-0.1, 1.5])
    def test_a_single_value_that_is_no_intensity_is_refused(self, split, wrong):
        parts = {name: np.full((3, 2, 2, 1), 0.5, np.float32) for name in SPLITS}
        parts[split][1, 0, 1, 0] = wrong
        splits = data.Splits("made", **{name: data.Examples(x) for name, x in parts.items()})
        with pytest.raises(InvalidData, match=f"{wrong:g}.* expects intensities"):
            binarized_splits(splits, "dynamic", seed=0)


class TestBatches:
    def test_an_epoch_is_a_fixed_number_of_full_batches_without_repetition(self, numbered):
        dataset = numbered.batches(10)
        assert len(dataset) == 3
        batches = np.stack([batch.numpy() for batch in dataset])
        assert batches.shape == (3, 10, 2, 2, 1)
        assert batches.dtype == np.float32
        drawn = np.round(255 * batches[..., 0, 0, 0].ravel())
        assert len(set(drawn)) == 30
        assert set(drawn) < set(range(37))

    def test_the_order_is_a_function_of_seed_and_epoch(self, numbered):
        orders = {
            (seed, epoch): tuple(epoch_of(numbered, epoch, seed)[..., 0, 0, 0].ravel())
            for seed in (0, 2**32)
            for epoch in (0, 1, 2)
        }
        assert len(set(orders.values())) == 6
        for (seed, epoch), order in orders.items():
            assert tuple(epoch_of(numbered, epoch, seed)[..., 0, 0, 0].ravel()) == order

    def test_iterating_again_gives_the_epoch_where_it_was_told_to_start(self, numbered):
        dataset = numbered.batches(10)
        for number in (0, 3, 0):
            dataset.start_at(number)
            batches = np.stack([batch.numpy() for batch in dataset])
            np.testing.assert_array_equal(batches, epoch_of(numbered, number))

    @pytest.mark.parametrize("resample", [False, True])
    @pytest.mark.slow
    def test_an_epoch_can_begin_at_any_batch(self, rng, resample):
        images = data.Examples(rng.random((37, 2, 2, 1), np.float32), resample=resample)
        batches = images.batches(1, seed=5)
        for epoch in (0, 4):
            whole = epoch_of(images, epoch, seed=5, batch_size=1)
            for first in (0, 1, 19, 20, 33, 36, 37):
                batches.start_at(epoch, first)
                rest = [batch.numpy() for batch in batches]
                np.testing.assert_array_equal(rest or whole[37:], whole[first:])
                assert len(batches) == 37, "the size is that of a whole epoch"

    def test_what_is_left_out_is_not_prepared(self):
        seen = []

        def prepare(x, uniforms):
            tf.py_function(lambda x: seen.append(len(x)), [x], [])
            return x

        batches = data.shuffled_batches(np.arange(2000), 10, prepare=prepare)
        batches.start_at(0, 180)
        assert len(list(batches)) == 20
        assert seen == [200], "of ten times twenty batches, only the last twenty"

    def test_batches_say_what_they_depend_on(self, numbered):
        assert numbered.batches(10, 3).identity == {"examples": 37, "batch_size": 10, "seed": 3}

    def test_other_images_are_left_out_each_time(self, numbered):
        left_out = [
            set(range(37)) - set(np.round(255 * epoch_of(numbered, n)[..., 0, 0, 0].ravel()))
            for n in range(8)
        ]
        assert len(set.union(*left_out)) > 20

    def test_batches_hold_what_numpy_gives(self, numbered):
        drawn = epoch_of(numbered, 0, batch_size=37)[0]
        order = np.argsort(drawn[:, 0, 0, 0])
        np.testing.assert_allclose(drawn[order], numbered.numpy(), rtol=1e-6)

    def test_values_of_any_type_come_in_the_order_of_images(self, numbered):
        codes = data.shuffled_batches(np.arange(37, dtype=np.int32)[:, np.newaxis], 10)
        codes.start_at(2)
        batches = np.stack([b.numpy() for b in codes])
        assert batches.dtype == np.int32
        images = np.round(255 * epoch_of(numbered, 2))
        np.testing.assert_array_equal(batches[..., 0], images[..., 0, 0, 0])

    def test_fewer_images_than_a_batch_are_refused(self, numbered):
        with pytest.raises(InvalidData, match="37 examples, fewer than the batch size 38"):
            numbered.batches(38)

    def test_dataset_is_complete_and_in_order(self, numbered):
        batches = [batch.numpy() for batch in numbered.dataset(10)]
        assert [len(batch) for batch in batches] == [10, 10, 10, 7]
        np.testing.assert_allclose(np.concatenate(batches), numbered.numpy(), rtol=1e-6)

    def test_numpy_gives_a_range(self, numbered):
        np.testing.assert_array_equal(numbered.numpy(5, 9), numbered.numpy()[5:9])


class TestArrayFiles:
    @pytest.mark.parametrize("suffix", [".npy", ".npz"])
    @pytest.mark.parametrize("shape", [(20, 4, 4), (20, 4, 3, 2)], ids=str)
    def test_one_array_is_split(self, tmp_path, rng, suffix, shape):
        x = rng.random(shape, np.float32)
        path = tmp_path / f"x{suffix}"
        np.save(path, x) if suffix == ".npy" else np.savez(path, x=x)
        splits = data.load(str(path))
        assert [len(getattr(splits, split)) for split in SPLITS] == [16, 2, 2]
        assert splits.shape == (shape[1:] if len(shape) == 4 else (4, 4, 1))
        together = [getattr(splits, split).numpy() for split in SPLITS]
        assert content(np.concatenate(together)) == content(x)

    def test_named_splits_are_kept(self, tmp_path, rng):
        parts = {split: rng.random((n, 2, 2)) for split, n in zip(SPLITS, (5, 1, 2), strict=True)}
        np.savez(tmp_path / "x.npz", **parts)
        splits = data.load(str(tmp_path / "x.npz"))
        for split, x in parts.items():
            images = getattr(splits, split).numpy()
            np.testing.assert_array_equal(images, x[..., np.newaxis].astype(np.float32))

    @pytest.mark.parametrize(
        ("dtype", "sizes"),
        [("f4", (100, 6)), ("f4", (28, 20)), ("u1", (100, 6)), ("i8", (10, 8)), ("u1", (28, 3))],
        ids=str,
    )
    def test_three_axes_that_may_be_series_are_not_taken_for_pictures(self, tmp_path, dtype, sizes):
        path = str(tmp_path / "x.npy")
        np.save(path, np.zeros((20, *sizes), dtype))
        with pytest.raises(InvalidData, match=r"20 series of .* --set data.kind=series"):
            data.load(path)
        assert data.load(path, kind="series").shape == sizes
        with pytest.raises(InvalidData, match="expected numbers of shape \\[N, H, W, C\\]"):
            data.load(path, layout="NHWC")
        assert data.load(path, layout="NHW").shape == (*sizes, 1)
        with pytest.raises(InvalidData, match="20 series of"):
            data.read_examples(path)
        assert data.read_examples(path, layout="NHW").shape == (*sizes, 1)

    @pytest.mark.parametrize(
        ("dtype", "sizes"), [("f8", (28, 28)), ("u1", (28, 20)), ("?", (16, 64)), ("u2", (5, 9))]
    )
    def test_three_axes_that_are_clearly_pictures_are_read(self, tmp_path, dtype, sizes):
        np.save(tmp_path / "x.npy", np.zeros((20, *sizes), dtype))
        assert data.load(str(tmp_path / "x.npy")).shape == (*sizes, 1)

    def test_channels_that_come_first_are_not_taken_for_rows(self, tmp_path, rng):
        x = rng.random((20, 3, 8, 8), np.float32)
        path = str(tmp_path / "x.npy")
        np.save(path, x)
        with pytest.raises(InvalidData, match=r"3×8 pixels with 8 channels.*data.layout=NCHW"):
            data.load(path)
        images = data.read_examples(path, layout="NCHW").numpy()
        np.testing.assert_array_equal(images, x.transpose(0, 2, 3, 1))
        assert data.load(path, layout="NHWC").shape == (3, 8, 8)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"layout": "HWN"}, "Unknown layout 'HWN'"),
            ({"resize": (8,)}, r"`resize` is \[8\]; expected a height and a width"),
            ({"crop": (8, 0)}, r"`crop` is \[8, 0\]"),
            ({"resize": ("8", "8")}, "`resize` is"),
        ],
    )
    def test_an_option_that_is_none_is_refused(self, tmp_path, options, message):
        np.save(tmp_path / "x.npy", np.zeros((20, 4, 4)))
        for read in (data.load, data.read_examples):
            with pytest.raises(InvalidArgument, match=message):
                read(str(tmp_path / "x.npy"), **options)

    def test_bytes_are_scaled_and_floats_are_not(self, tmp_path):
        x = np.tile(np.array([0, 51, 255], np.uint8), (20, 2, 1))
        for name, array in (("bytes", x), ("floats", x.astype(np.float64))):
            np.savez(tmp_path / f"{name}.npz", x=array)
        by_bytes = data.load(str(tmp_path / "bytes.npz")).test.numpy()
        by_floats = data.load(str(tmp_path / "floats.npz"), layout="NHW").test.numpy()
        np.testing.assert_allclose(by_bytes[0, 0, :, 0], [0, 0.2, 1], rtol=1e-6)
        np.testing.assert_array_equal(by_floats[0, 0, :, 0], [0, 51, 255])

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float64])
    def test_all_splits_are_scaled_by_their_type(self, tmp_path, dtype):
        white = 1 if dtype == np.float64 else np.iinfo(dtype).max
        parts = {
            s: np.full((5, 2, 2), v, dtype) for s, v in zip(SPLITS, (white, 1, 0), strict=True)
        }
        np.savez(tmp_path / "x.npz", **parts)
        splits = data.load(str(tmp_path / "x.npz"))
        of_splits = [getattr(splits, split).numpy().max() for split in SPLITS]
        np.testing.assert_allclose(of_splits, [1, 1 / white, 0], rtol=1e-6)

    @pytest.mark.parametrize("memory_gb", [0, 1])
    def test_dark_pictures_are_told_from_binary_ones(self, tmp_path, memory_gb):
        path = tmp_path / "x.npy"
        x = np.zeros((2001, 2, 2), np.uint8)
        x[1] = 1  # not one of a thousand that are evenly spaced
        np.save(path, x)
        for full_range, white in ((False, 1), (True, 255)):
            splits = data.load(path, memory_gb=memory_gb, full_range=full_range)
            assert splits.full_range is full_range
            assert {getattr(splits, split).max_value for split in SPLITS} == {white}
        assert data.read_examples(path, memory_gb=memory_gb).max_value == 1
        x[1] = 2
        np.save(path, x)
        splits = data.load(path, memory_gb=memory_gb, binarization="static")
        assert splits.full_range
        assert data.read_examples(path, memory_gb=memory_gb).max_value == 255

    @pytest.mark.parametrize("full_range", [False, True])
    def test_all_examples_are_looked_at_no_more_than_once(self, tmp_path, monkeypatch, full_range):
        np.save(tmp_path / "x.npy", np.full((40, 2, 2), 7, np.uint8))
        read, seen = ArraySource.read, []

        def noted(source, index):
            seen.extend(index.tolist())
            return read(source, index)

        monkeypatch.setattr(ArraySource, "read", noted)
        examples = data.read_examples(tmp_path / "x.npy", memory_gb=0, full_range=full_range)
        assert examples.max_value == 255
        assert seen == [*range(40)]

    @pytest.mark.parametrize(("train", "test"), [("u1", "u2"), ("u1", "i8"), ("f4", "u1")], ids=str)
    def test_splits_of_different_types_are_refused(self, tmp_path, train, test):
        parts = {s: np.ones((5, 2, 2), train) for s in SPLITS} | {"test": np.ones((5, 2, 2), test)}
        np.savez(tmp_path / "x.npz", **parts)
        with pytest.raises(InvalidData, match=r"The test split of .* expected one type"):
            data.load(str(tmp_path / "x.npz"))

    @pytest.mark.parametrize(
        ("arrays", "message"),
        [
            ({"x": np.full((20, 2, 2), np.nan)}, "80 values that are infinite or not a number"),
            ({"x": np.zeros(20)}, r"shape \(20,\); expected numbers of shape \[N, H, W\]"),
            ({"x": np.full((20, 2, 2), "a")}, "an array of <U1"),
            ({"x": np.zeros((9, 2, 2))}, "9 examples; at least 10 are needed"),
            ({"a": np.zeros((9, 2, 2)), "b": np.zeros((9, 2, 2))}, "holds a, b; expected 'train'"),
            ({}, "holds nothing; expected 'train'"),
            (
                {"train": np.zeros((9, 2, 2)), **{s: np.zeros((9, 3, 3)) for s in SPLITS[1:]}},
                r"validation split .* of shape \(3, 3, 1\), the training split of \(2, 2, 1\)",
            ),
            (
                {"test": np.zeros((0, 2, 2)), **{s: np.zeros((9, 2, 2)) for s in SPLITS[:2]}},
                "test split of .* is empty",
            ),
        ],
        ids=["nan", "one axis", "text", "too few", "names", "nothing", "shapes", "empty"],
    )
    def test_arrays_that_are_no_images_are_refused(self, tmp_path, arrays, message):
        np.savez(tmp_path / "x.npz", **arrays)
        with pytest.raises(InvalidData, match=message):
            data.load(str(tmp_path / "x.npz"))

    @pytest.mark.parametrize("suffix", [".npy", ".npz"])
    def test_a_missing_file_is_refused(self, tmp_path, suffix):
        path = tmp_path / f"none{suffix}"
        with pytest.raises(InvalidData, match=f"There is no file {re.escape(str(path))}"):
            data.load(str(path))

    @pytest.mark.parametrize("suffix", [".npy", ".npz"])
    @pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "text", "pickle"])
    def test_a_damaged_file_is_refused(self, tmp_path, suffix, damage):
        path = tmp_path / f"x{suffix}"
        x = np.arange(320).reshape(20, 4, 4)
        x = x.astype(object) if damage == "pickle" else x
        np.save(path, x) if suffix == ".npy" else np.savez_compressed(path, x=x)
        raw = path.read_bytes()
        middle = len(raw) // 2
        if damage == "flipped" and suffix == ".npy":
            middle = 4  # an .npy has no checksum: only damage to its header can be seen
        damaged = {
            "truncated": raw[:middle],
            "flipped": raw[:middle]
            + bytes(255 - b for b in raw[middle : middle + 8])
            + raw[middle + 8 :],
            "empty": b"",
            "text": b"these are no numbers",
            "pickle": raw,
        }
        path.write_bytes(damaged[damage])
        with pytest.raises(InvalidData, match="cannot be read as an array"):
            data.load(str(path))


class TestFolders:
    @pytest.mark.parametrize(("shape", "channels"), [((4, 3), 1), ((4, 3, 3), 3)])
    def test_one_folder_is_split(self, tmp_path, write_images, shape, channels):
        pixels = write_images(".", 20, shape)
        splits = data.load(str(tmp_path))
        assert splits.shape == (4, 3, channels)
        parts = [getattr(splits, split) for split in SPLITS]
        assert [len(part) for part in parts] == [16, 2, 2]
        assert content(np.concatenate([part.values for part in parts])) == content(pixels)
        np.testing.assert_array_equal(
            parts[0].numpy(), parts[0].values.astype(np.float32) / np.float32(255)
        )

    def test_folders_named_after_splits_are_kept_in_the_order_of_their_files(
        self, tmp_path, write_images
    ):
        written = {
            split: write_images(split, n) for split, n in zip(SPLITS, (6, 2, 3), strict=True)
        }
        splits = data.load(str(tmp_path))
        for split, pixels in written.items():
            np.testing.assert_array_equal(getattr(splits, split).values[..., 0], pixels)

    @pytest.mark.parametrize(
        "names",
        [("Train", "Val", "TEST"), ("training", "valid", "testing"), ("train", "dev", "test")],
        ids=str,
    )
    def test_folders_of_splits_go_by_their_usual_names(self, tmp_path, write_images, names):
        written = [write_images(name, n) for name, n in zip(names, (6, 2, 3), strict=True)]
        splits = data.load(str(tmp_path))
        for split, pixels in zip(SPLITS, written, strict=True):
            np.testing.assert_array_equal(getattr(splits, split).values[..., 0], pixels)

    def test_two_folders_of_one_split_are_refused(self, tmp_path, write_images):
        for name in ("train", "val", "valid"):
            write_images(name, 3)
        with pytest.raises(InvalidData, match="val/ and valid/, which both are the validation"):
            data.load(str(tmp_path))

    @pytest.mark.parametrize("beside", [".", "more"])
    def test_a_picture_beside_the_folders_of_the_splits_is_refused(
        self, tmp_path, write_images, beside
    ):
        for name in (*SPLITS, beside):
            write_images(name, 3)
        with pytest.raises(InvalidData, match=r"000\.png lies in none of them"):
            data.load(str(tmp_path))

    def test_links_in_the_folder_are_followed_and_loops_are_not(self, tmp_path, write_images):
        written = [write_images(f"elsewhere/{split}", 2) for split in SPLITS]
        folder = tmp_path / "images"
        folder.mkdir()
        for split in SPLITS:
            (folder / split).symlink_to(tmp_path / "elsewhere" / split)
        (tmp_path / "elsewhere/train/loop").symlink_to(folder)
        for name, target in (("here", folder), ("above", tmp_path)):
            (folder / name).symlink_to(target)
        splits = data.load(str(folder))
        for split, pixels in zip(SPLITS, written, strict=True):
            np.testing.assert_array_equal(getattr(splits, split).values[..., 0], pixels)

    @pytest.mark.parametrize("memory_gb", [0, 1])
    def test_pictures_are_upright(self, tmp_path, memory_gb):
        upright = np.arange(12, dtype=np.uint8).reshape(4, 3)
        # How a camera stores it, by the orientation that it writes into the file.
        stored = {
            1: upright,
            2: upright[:, ::-1],
            3: upright[::-1, ::-1],
            4: upright[::-1],
            5: upright.T,
            6: np.rot90(upright),
            7: upright[::-1, ::-1].T,
            8: np.rot90(upright, -1),
        }
        for orientation, pixels in (stored | {9: upright, 10: upright}).items():
            exif = Image.Exif()
            exif[0x0112] = orientation
            image = Image.fromarray(np.ascontiguousarray(pixels))
            image.save(tmp_path / f"{orientation:02}.png", exif=exif)
        images = data.load(str(tmp_path), memory_gb=memory_gb).train.values[:]
        np.testing.assert_array_equal(images[..., 0], [upright] * 8)

    def test_a_picture_with_damaged_exif_is_read_as_it_lies(self, tmp_path):
        Image.fromarray(np.zeros((4, 3), np.uint8)).save(tmp_path / "x.png", exif=b"Exif\0\0MM\0*")
        assert data.read_examples(tmp_path).shape == (4, 3, 1)

    def test_transparency_is_left_out(self, tmp_path):
        grey = np.array([[[10, 0], [20, 255]]] * 2, np.uint8)
        Image.fromarray(grey).save(tmp_path / "x.png")
        examples = data.read_examples(tmp_path)
        np.testing.assert_array_equal(examples.values[0], grey[..., :1])

    def test_folders_below_are_read_and_hidden_files_are_not(self, tmp_path, write_images):
        pixels = [write_images(f"class {label}", 10) for label in "ab"]
        (tmp_path / ".DS_Store").write_bytes(b"no image")
        splits = data.load(str(tmp_path))
        parts = np.concatenate([getattr(splits, split).values for split in SPLITS])
        assert content(parts) == content(np.concatenate(pixels))

    def test_images_of_16_bits_keep_their_intensities(self, tmp_path):
        levels = np.array([[0, 256, 13107], [32768, 65279, 65535]], np.uint16)
        for number in range(10):
            Image.fromarray(levels).save(tmp_path / f"{number}.png")
        x = data.load(str(tmp_path)).train.numpy()[0, ..., 0]
        np.testing.assert_allclose(x, levels / 65535, atol=1 / 255)

    def test_16_bits_of_a_format_that_pillow_widens_keep_their_intensities(self, tmp_path):
        levels = np.array([[0, 256, 13107], [32768, 65279, 65535]], np.uint16)
        for number in range(10):
            head = b"P5 3 2 65535\n"
            (tmp_path / f"{number}.pgm").write_bytes(head + levels.astype(">u2").tobytes())
        train = data.load(str(tmp_path), memory_gb=0).train
        assert (train.values.dtype, train.max_value) == (np.uint16, 65535)
        np.testing.assert_array_equal(train.values[0][..., 0], levels)

    @pytest.mark.parametrize(("dtype", "mode"), [(np.float32, "'F'"), (np.int32, "'I'")])
    @pytest.mark.parametrize("first", [True, False])
    def test_pixels_without_a_white_are_refused(self, tmp_path, write_images, dtype, mode, first):
        write_images(".", 10)
        name = "0.tif" if first else "x.tif"
        Image.fromarray(np.ones((4, 3), dtype)).save(tmp_path / name)
        with pytest.raises(InvalidData, match=rf"{name} has pixels that are .*{mode} of Pillow"):
            data.load(str(tmp_path), memory_gb=0)

    def test_splits_of_different_bits_are_refused(self, tmp_path, write_images):
        for split in SPLITS:
            write_images(split, 3)
        for number in range(3):
            levels = np.full((4, 3), 65535, np.uint16)
            Image.fromarray(levels).save(tmp_path / f"test/{number:03}.png")
        with pytest.raises(
            InvalidData, match=r"test split of .* type uint16, .* of uint8; expected"
        ):
            data.load(str(tmp_path))

    @pytest.mark.parametrize("name", ["-first", "004-middle", "notes-last"])
    def test_a_file_that_is_no_image_is_refused_wherever_it_stands(
        self, tmp_path, write_images, name
    ):
        write_images(".", 10)
        (tmp_path / f"{name}.txt").write_text("not an image")
        message = rf"{name}.txt cannot be read as an image, .* holds 10 .png, 1 .txt; expected"
        with pytest.raises(InvalidData, match=message):
            data.load(str(tmp_path))

    def test_a_truncated_image_is_refused(self, tmp_path, write_images):
        write_images(".", 10, (40, 40))
        path = tmp_path / "003.png"
        path.write_bytes(path.read_bytes()[:200])
        with pytest.raises(InvalidData, match=r"003.png cannot be read as an image"):
            data.load(str(tmp_path))

    @pytest.mark.parametrize("memory_gb", [0.0, 1.0])
    @pytest.mark.parametrize("first", [0, 1])
    def test_all_files_that_are_no_images_are_named_at_once(
        self, tmp_path, write_images, first, memory_gb
    ):
        write_images(".", 10)
        broken = [tmp_path / f"{number:03}.png" for number in range(first, 10, 4)]
        for path in broken:
            path.write_text("not an image")
        named = ", ".join(path.name for path in broken)
        message = f"{len(broken)} of the 10 files of {tmp_path} cannot be read as images: {named}. "
        with pytest.raises(InvalidData, match=re.escape(message)):
            data.load(str(tmp_path), memory_gb=memory_gb)
        for number in range(10):
            (tmp_path / f"{number:03}.png").write_text("not an image")
        with pytest.raises(InvalidData, match=r"^10 of .* 003\.png, 004\.png and 5 more\. Remove"):
            data.load(str(tmp_path), memory_gb=memory_gb)

    def test_images_of_two_sizes_are_refused_with_the_sizes_and_what_to_do(
        self, tmp_path, write_images
    ):
        write_images("a", 10, (9, 20))
        write_images("b", 2, (30, 10))
        with pytest.raises(InvalidData, match=r"height×width: 9×20 \(10\), 30×10 \(2\)") as error:
            data.load(str(tmp_path))
        assert "--set data.resize=[8,8]" in str(error.value)
        splits = data.load(str(tmp_path), resize=(8, 8))
        assert splits.shape == (8, 8, 1)
        assert [len(getattr(splits, split)) for split in SPLITS] == [10, 1, 1]

    def test_images_in_grey_and_in_colour_are_refused(self, tmp_path, write_images):
        write_images("a", 10)
        write_images("b", 1, (4, 3, 3))
        with pytest.raises(InvalidData, match=r"in grey and in colour, .*such as .*Convert them"):
            data.load(str(tmp_path))

    def test_an_image_that_is_smaller_than_the_crop_is_named(self, tmp_path, write_images):
        write_images("a", 10, (8, 8))
        write_images("b", 1, (4, 9))
        with pytest.raises(InvalidData, match=r"b/000.png .* 4×9 pixels, .* crop of 6×6"):
            data.load(str(tmp_path), crop=(6, 6))

    def test_splits_that_differ_are_refused(self, tmp_path, write_images):
        for split in SPLITS:
            write_images(split, 3, (4, 4) if split == "test" else (4, 3))
        with pytest.raises(InvalidData, match=r"\(4, 3, 1\), \(4, 4, 1\).*expected one shape"):
            data.load(str(tmp_path))

    @pytest.mark.parametrize("folders", [["."], ["train", "validation", "test"]], ids=str)
    def test_an_empty_folder_is_refused(self, tmp_path, folders):
        for folder in folders:
            (tmp_path / folder).mkdir(exist_ok=True)
        with pytest.raises(InvalidData, match=r"holds no images; expected .png"):
            data.load(str(tmp_path))

    def test_a_folder_that_cannot_be_listed_is_refused(self, tmp_path, write_images, monkeypatch):
        write_images("images/below", 3)
        scandir = os.scandir

        def denied(path):
            if str(path).endswith("below"):
                raise PermissionError(13, "Permission denied", str(path))
            return scandir(path)

        monkeypatch.setattr("os.scandir", denied)
        folder = tmp_path / "images"
        with pytest.raises(InvalidData, match=rf"^{folder}/below cannot be listed: Permission"):
            data.load(str(folder))

    def test_the_whole_file_system_is_refused(self):
        with pytest.raises(InvalidData, match=r"^/ is the whole file system; expected the folder"):
            data.load("/")

    @pytest.mark.parametrize(
        ("option", "message"),
        [
            ({"kind": "series"}, "holds pictures, and `kind` is 'series', as given or as that of"),
            ({"layout": "NHW"}, "axes of an array file, and .* is none"),
            ({"data_dir": "prepared"}, "`data_dir` is where TFDS .* is no TFDS dataset"),
        ],
        ids=str,
    )
    def test_options_of_other_data_are_refused(self, tmp_path, write_images, option, message):
        write_images(".", 10)
        with pytest.raises(InvalidArgument, match=message):
            data.load(str(tmp_path), **option)
        with pytest.raises(InvalidArgument, match=r"`kind` is|axes of|no TFDS dataset"):
            data.load("digits", **option)
        if "kind" in option:
            with pytest.raises(InvalidArgument, match=message):
                data.read_examples(tmp_path, **option)

    @pytest.mark.parametrize("beside", ["README.md", "labels.csv", "a/dataset_info.json"])
    @pytest.mark.parametrize("shard", ["train.npy", "train.NPY"])
    def test_the_layout_is_that_of_shards_whatever_lies_beside_them(self, tmp_path, beside, shard):
        (tmp_path / "a").mkdir()
        (tmp_path / beside).write_text("")
        with (tmp_path / shard).open("wb") as file:
            np.save(file, np.zeros((60, 3, 8, 8), np.uint8))
        given = config.Config().override({"data.name": str(tmp_path), "data.layout": "NCHW"})
        data_paths.check_given(given.data, ["data.layout"])
        assert runs.load_data(given).shape == (8, 8, 3)

    def test_a_part_of_the_splits_is_refused(self, tmp_path, write_images):
        write_images("train", 10)
        write_images("test", 10)
        with pytest.raises(InvalidData, match="holds test, train; expected 'train', 'validation'"):
            data.load(str(tmp_path))


class TestNames:
    @pytest.mark.parametrize(
        ("name", "closest"), [("digit", "digits"), ("mnsit", "mnist"), ("cifar1O", "cifar10")]
    )
    def test_an_unknown_dataset_is_refused_with_the_closest_name(self, tmp_path, name, closest):
        with pytest.raises(InvalidArgument, match=f"Unknown dataset '{name}'.*'{closest}'"):
            data.load(name, data_dir=str(tmp_path))

    def test_a_missing_folder_is_refused(self, tmp_path):
        with pytest.raises(InvalidData, match=r"There is no file or folder .*/none"):
            data.load(str(tmp_path / "none"))

    def test_a_file_of_another_kind_is_refused(self, tmp_path):
        path = tmp_path / "x.doc"
        path.write_text("1,2")
        with pytest.raises(InvalidData, match=r"x.doc is not a dataset: expected a table"):
            data.load(str(path))

    def test_a_missing_data_dir_is_refused(self, tmp_path):
        with pytest.raises(InvalidData, match=r"data_dir .*none is not a folder"):
            data.load("mnist", data_dir=str(tmp_path / "none"))

    def test_a_tfds_dataset_that_is_not_prepared_is_refused_without_a_download(self, tmp_path):
        with pytest.raises(InvalidData, match=r"'mnist' is not prepared in .*--download"):
            data.load("mnist", data_dir=str(tmp_path))
        assert not list(tmp_path.iterdir())

    @pytest.mark.slow
    @pytest.mark.nightly
    def test_binarized_mnist_is_read_from_prepared_data(self):
        folders = [f for f in (SHARED, SHARED / "tfds") if (f / "binarized_mnist").is_dir()]
        if not folders:
            pytest.skip(f"binarized_mnist is not prepared in {SHARED}")
        splits = data.load("binarized_mnist", data_dir=str(folders[0]))
        assert [len(getattr(splits, split)) for split in SPLITS] == [50_000, 10_000, 10_000]
        assert (splits.shape, splits.num_values) == ((28, 28, 1), 784)
        for split in SPLITS:
            assert set(np.unique(getattr(splits, split).numpy(0, 1000))) == {0, 1}
            values = getattr(splits, split).values
            assert np.array_equal(values, values != 0)


@pytest.mark.parametrize("split", SPLITS)
def test_labels_of_all_splits_count_as_classes(split):
    labels = {name: np.array([1, 0], np.int32) for name in SPLITS}
    labels[split][0] = 4
    x = np.zeros((2, 2, 2, 1), np.float32)
    parts = {name: data.Examples(x, conditions=y) for name, y in labels.items()}
    assert data.Splits("made", **parts).condition == 5


def test_a_training_split_gives_up_a_tenth_and_for_validation_at_most_10_000():
    """The last ones are for validation, and the last of those left for the test."""
    part = Part(np.arange(200_000.0)[:, np.newaxis], kind="vector")
    splits = join("made", {"train": part}, seed=0, fill=True)
    for split, first, end in (
        ("train", 0, 170_000),
        ("test", 170_000, 190_000),
        ("validation", 190_000, 200_000),
    ):
        np.testing.assert_array_equal(getattr(splits, split).values[:, 0], np.arange(first, end))
