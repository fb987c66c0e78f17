"""The parts of a step by themselves: the gradient step, and what is counted in an epoch."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfvae.training import Loss


@pytest.fixture
def model(make_vae):
    model = make_vae()
    model.compile(keras.optimizers.Adam(0.1))
    return model


def test_rows_of_a_table_that_are_looked_up_twice_are_trained_as_those_looked_up_once(model):
    """The first step of Adam is the rate times the sign of the sum of a row's gradients."""
    table = next(weight for weight in model.trainable_variables if len(weight.shape) == 2)
    before = np.asarray(table).copy()
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.gather(table.value, [0, 2, 0]))
    model.minimize(tape, loss, [table])
    moved = np.zeros_like(before)
    moved[[0, 2]] = -0.1
    np.testing.assert_allclose(np.asarray(table) - before, moved, atol=1e-6)
    assert model.steps_made == 1


def test_refused_batches_are_forgotten_with_the_averages(model):
    model._refused.update_state(tf.constant(False))
    model.reset_metrics()
    model.get_metrics_result()


def test_the_regularization_of_a_batch_counts_for_each_of_its_examples(model):
    """Three examples of 1 and one of 5: in the mean 2, in the loss too."""
    model.layers_add_losses = True
    others = len(model._averages.names) - 1
    for count, regularization in ((3, 1.0), (1, 5.0)):
        zeros = tf.zeros([count])
        loss = Loss(zeros, None, tf.constant(regularization))
        model.update_averages(loss, [zeros] * others, None)
    found = model.get_metrics_result()
    assert (float(found["loss"]), float(found["regularization"])) == (2.0, 2.0)
