"""Schedules of β against the same formulas in NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfvae import schedules
from tfvae.errors import InvalidArgument

STEPS = np.arange(25)  # how many steps were made before
SCHEDULES = {
    "linear": (
        schedules.LinearWarmup(10, final=2.0),
        2.0 * np.minimum(1, (STEPS + 1) / 10),
    ),
    "sigmoid": (
        schedules.SigmoidWarmup(8, 1.5, final=0.5),
        0.5 / (1 + np.exp(-(STEPS + 1 - 8) / 1.5)),
    ),
    "cyclical": (
        schedules.CyclicalWarmup(10, rise=0.4, final=3.0),
        3.0 * np.minimum(1, (STEPS % 10 + 1) / 4),
    ),
}


@pytest.mark.parametrize("name", SCHEDULES)
class TestValues:
    def test_values_are_those_of_the_formula(self, name):
        schedule, expected = SCHEDULES[name]
        values = [float(schedule(tf.constant(step, tf.int64))) for step in STEPS]
        np.testing.assert_allclose(values, expected, rtol=1e-6)

    def test_a_schedule_comes_back_from_its_config(self, name):
        schedule, expected = SCHEDULES[name]
        config = keras.saving.serialize_keras_object(schedule)
        again = keras.saving.deserialize_keras_object(config)
        assert type(again) is type(schedule)
        assert float(again(7)) == pytest.approx(expected[7])
        assert again.get_config() == schedule.get_config()

    def test_validation_is_told_the_final_value(self, name):
        schedule, expected = SCHEDULES[name]
        assert schedule.final == pytest.approx(expected.max(), rel=1e-4)


def test_cycles_go_on_beyond_the_whole_numbers_of_float32():
    schedule = schedules.CyclicalWarmup(10, rise=1.0)
    steps = 2**25 + np.arange(20)
    values = [float(schedule(tf.constant(step, tf.int64))) for step in steps]
    np.testing.assert_allclose(values, (steps % 10 + 1) / 10, rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: schedules.LinearWarmup(0), "`steps` is 0; expected a whole number"),
        (lambda: schedules.LinearWarmup(2.5), "`steps` is 2.5"),
        (lambda: schedules.LinearWarmup(5, final=-1.0), "`final` is -1.0; expected .* at least 0"),
        (lambda: schedules.SigmoidWarmup(float("nan"), 1.0), "`midpoint` is nan"),
        (lambda: schedules.SigmoidWarmup(1, 0.0), "`width` is 0.0; expected a number above 0"),
        (lambda: schedules.CyclicalWarmup(10, rise=0.0), "`rise` is 0.0; expected a share above 0"),
        (lambda: schedules.CyclicalWarmup(10, rise=1.5), "`rise` is 1.5"),
        (lambda: schedules.CyclicalWarmup("10"), "`period` is '10'"),
    ],
)
def test_what_makes_no_schedule_is_refused(make, message):
    with pytest.raises(InvalidArgument, match=message):
        make()
