"""Averages over examples, however many of them are in a batch."""

import tensorflow as tf

from tfvae.averages import Averages, Refused


def values_of(averages):
    return {name: float(value) for name, value in averages.result().items()}


def test_every_example_counts_alike_in_batches_of_any_size():
    averages = Averages(("loss", "kl"))
    assert values_of(averages) == {"loss": 0.0, "kl": 0.0}
    averages.update_state(([1.0, 2.0, 3.0], [0.0, 0.0, 6.0]))
    averages.update_state(([8.0], [2.0]))
    assert values_of(averages) == {"loss": 14 / 4, "kl": 8 / 4}
    averages.reset_state()
    averages.update_state(([5.0], [7.0]))
    assert values_of(averages) == {"loss": 5.0, "kl": 7.0}


def test_the_weighted_sum_is_divided_by_the_sum_of_the_weights():
    averages = Averages(("loss",))
    averages.update_state(([1.0, 4.0, 100.0],), tf.constant([1, 2, 0]))
    averages.update_state(([5.0],), [0.5])
    averages.update_state(([2.0, 3.0],))  # each of weight 1
    assert values_of(averages) == {"loss": (1 + 8 + 2.5 + 5) / 5.5}


def test_refused_batches_are_counted():
    refused = Refused()
    for taken in (True, False, True, False):
        refused.update_state(tf.constant(taken))
    assert int(refused.result()) == 2
    refused.reset_state()
    assert int(refused.result()) == 0
