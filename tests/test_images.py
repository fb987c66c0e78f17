from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tfvae.errors import InvalidArgument, InvalidData
from tfvae.images import fit, grid, save_grid
from tfvae.outputs import save

MODEL = SimpleNamespace(schema=None, standardization=None, num_tokens=0)  # of pictures
GREY = 128  # what stands between images and in empty cells


def picture_by_loops(images, columns, gap):
    count, height, width, channels = images.shape
    rows = -(-count // columns)
    shape = (rows * (height + gap) - gap, columns * (width + gap) - gap, channels)
    picture = np.full(shape, GREY, np.uint8)
    for number, image in enumerate(images):
        top = (number // columns) * (height + gap)
        left = (number % columns) * (width + gap)
        picture[top : top + height, left : left + width] = np.round(255 * image)
    return picture


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("gap", [0, 1, 2])
@pytest.mark.parametrize(
    ("count", "columns"), [(1, 1), (6, 3), (5, 3), (2, 5), (4, 1)], ids=lambda value: str(value)
)
def test_images_lie_row_by_row(rng, count, columns, gap, channels):
    images = rng.random((count, 3, 4, channels)).astype(np.float32)
    picture = grid(images, columns, gap)
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(picture, picture_by_loops(images, columns, gap))


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (4, 2), (5, 3), (9, 3), (10, 4)])
def test_a_picture_is_about_as_many_images_wide_as_high(count, columns):
    rows = -(-count // columns)
    assert grid(np.zeros((count, 2, 2, 1)), gap=0).shape == (2 * rows, 2 * columns, 1)


def test_a_missing_value_is_grey():
    picture = grid(np.float32([0.0, np.nan, 1.0]).reshape(1, 1, 3, 1), gap=0)
    np.testing.assert_array_equal(picture.ravel(), [0, 128, 255])


def test_values_beyond_0_and_1_are_black_and_white():
    values = np.array([-np.inf, -0.1, 0.0, 1.0, 1.1, np.inf]).reshape(1, 1, 6, 1)
    np.testing.assert_array_equal(grid(values).ravel(), [0, 0, 0, 255, 255, 255])


@pytest.mark.parametrize("shape", [(4, 4), (3, 4, 4), (3, 4, 4, 2), (0, 4, 4, 1), (1, 3, 4, 4, 1)])
def test_what_is_no_picture_is_refused(tmp_path, shape):
    with pytest.raises(InvalidData, match="no picture"):
        grid(np.zeros(shape))
    with pytest.raises(InvalidData, match="no picture"):
        save(np.zeros(shape), tmp_path / "picture.png", MODEL)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("channels", [1, 3])
def test_a_saved_picture_shows_small_images_enlarged(tmp_path, rng, channels):
    images = rng.random((4, 8, 8, channels))
    save_grid(images, tmp_path / "picture.png")
    with Image.open(tmp_path / "picture.png") as file:
        shown = np.asarray(file)
    expected = grid(images).repeat(8, axis=0).repeat(8, axis=1)
    np.testing.assert_array_equal(shown.reshape(expected.shape), expected)


def test_large_images_are_not_enlarged(tmp_path):
    save_grid(np.zeros((1, 65, 20, 3)), tmp_path / "picture.png")
    with Image.open(tmp_path / "picture.png") as file:
        assert file.size == (20, 65)


@pytest.mark.parametrize("name", ["a.npy", "a.NPY"])
def test_npy_holds_the_values_themselves(tmp_path, rng, name):
    images = rng.normal(size=(3, 4, 4, 2)).astype(np.float32)
    save(images, tmp_path / name, MODEL)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    np.testing.assert_array_equal(np.load(tmp_path / name), images)


@pytest.mark.parametrize("ending", ["png", "PNG", "jpg", "JPG", "jpeg", "webp", "bmp"])
def test_every_accepted_ending_gives_a_picture_of_that_kind(tmp_path, ending):
    path = tmp_path / f"picture.{ending}"
    save(np.full((2, 4, 4, 1), 0.5), path, MODEL)
    with Image.open(path) as file:
        assert file.format.lower() == ending.lower().replace("jpg", "jpeg")
    assert [path.name for path in tmp_path.iterdir()] == [f"picture.{ending}"]


@pytest.mark.parametrize("name", ["picture.gif", "picture", "picture.txt", "picture.tflite"])
def test_other_endings_are_refused(tmp_path, name):
    with pytest.raises(InvalidArgument, match=r"\.png or \.npy"):
        save(np.zeros((1, 4, 4, 1)), tmp_path / name, MODEL)
    assert list(tmp_path.iterdir()) == []


def test_the_middle_is_cut_out():
    pixels = np.arange(5 * 8 * 2, dtype=np.uint8).reshape(5, 8, 2)
    np.testing.assert_array_equal(fit(pixels, crop=(3, 4)), pixels[1:4, 2:6])
    np.testing.assert_array_equal(fit(pixels), pixels)
    with pytest.raises(InvalidData, match="5×8 pixels, which is less than the crop of 6×4"):
        fit(pixels, crop=(6, 4))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_scaling_averages_and_cuts_off_what_overhangs_evenly(dtype):
    # 4×8: two columns on either side do not fit into a square; the filter sees one of them.
    pixels = np.zeros((4, 8, 3), dtype)
    pixels[:, :1], pixels[:, 7:] = 90, 90
    pixels[..., 1] = 7
    pixels[:2, 2:4, 0] = 100
    small = fit(pixels, resize=(2, 2))
    assert (small.dtype, small.shape) == (dtype, (2, 2, 3))
    assert np.all(small[..., 1] == 7)  # what is even stays even
    assert np.all(small[..., 2] == 0)  # nothing of what is cut off is seen
    assert small[0, 0, 0] > 50 > small[1, 1, 0]


def test_a_picture_is_cut_before_it_is_scaled():
    pixels = np.zeros((9, 9, 1), np.float32)
    pixels[3:6, 3:6] = 1
    np.testing.assert_allclose(fit(pixels, resize=(6, 6), crop=(3, 3)), 1)
    assert fit(pixels, resize=(6, 6)).min() == 0


@pytest.mark.parametrize(
    ("shape", "size"), [((11, 15), (49, 49)), ((28, 28), (150, 150)), ((853, 1280), (128, 128))]
)
def test_rounding_does_not_make_the_part_that_is_scaled_larger_than_the_picture(shape, size):
    assert np.all(fit(np.full((*shape, 1), 7, np.uint8), resize=size) == 7)


def test_every_small_size_is_scaled_to_every_other():
    for height in range(1, 30):
        for side in range(1, 60):
            assert fit(np.zeros((height, 29, 1), np.uint8), resize=(side, side)).shape[0] == side
