"""The integers of a file that stand for real numbers, by their definition."""

import numpy as np

from tfvae.ondevice.signature import Signature


class Runner:
    """What LiteRT says of a signature of 8-bit integers beside plain ones."""

    def get_input_details(self):
        return {
            "x": {"dtype": np.int8, "shape_signature": [-1, 2], "quantization": (0.5, -3)},
            "seed": {"dtype": np.int32, "shape_signature": [2], "quantization": (0.0, 0)},
        }

    def get_output_details(self):
        return {
            "y": {"dtype": np.int8, "quantization": (0.25, 10)},
            "codes": {"dtype": np.int32, "quantization": (0.0, 0)},
        }


def test_real_numbers_become_the_nearest_integers_within_their_range():
    x = np.array([[0.74, -0.76], [0.76, 1e3], [-1e3, 0.0]])
    found = Signature(Runner()).from_real({"x": x, "seed": np.array([3, -1])})
    assert (found["x"].dtype, found["seed"].dtype) == (np.int8, np.int32)
    np.testing.assert_array_equal(found["x"], [[-2, -5], [-1, 127], [-128, -3]])
    np.testing.assert_array_equal(found["seed"], [3, -1])


def test_integers_become_the_real_numbers_that_they_stand_for():
    y, codes = np.array([10, 14, -128, 127], np.int8), np.array([200, -1], np.int32)
    found = Signature(Runner()).to_real({"y": y, "codes": codes})
    assert (found["y"].dtype, found["codes"].dtype) == (np.float32, np.int32)
    np.testing.assert_array_equal(found["y"], [0.0, 1.0, -34.5, 29.25])
    np.testing.assert_array_equal(found["codes"], codes)
