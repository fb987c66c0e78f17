"""Batches of the examples that weights start at: of an array, of a dataset, of nothing else."""

import numpy as np
import pytest
import tensorflow as tf

from tfvae import inputs
from tfvae.errors import InvalidArgument

X, Y = np.arange(450.0), np.arange(450)


@pytest.mark.parametrize("of", [np.asarray, tf.constant])
@pytest.mark.parametrize("step", [1, 2, 7, 500])
def test_of_an_array_they_hold_every_so_many_th_example(of, step):
    batches = list(inputs.batches_to_start(of(X), of(Y), "It", "f", step))
    assert max(len(x) for x, _ in batches) <= 100
    np.testing.assert_array_equal(np.concatenate([x for x, _ in batches]), X[::step])
    np.testing.assert_array_equal(np.concatenate([y for _, y in batches]), Y[::step])


@pytest.mark.parametrize("paired", [False, True])
def test_of_a_dataset_they_are_its_own(paired):
    dataset = tf.data.Dataset.from_tensor_slices((X, Y) if paired else X).batch(200)
    batches = list(inputs.batches_to_start(dataset, None, "It", "f"))
    assert [len(x) for x, _ in batches] == [200, 200, 50]
    np.testing.assert_array_equal(np.concatenate([x for x, _ in batches]), X)
    for n, (_, y) in enumerate(batches):
        assert (y is None) != paired
        if paired:
            np.testing.assert_array_equal(y, Y[200 * n :][:200])


def test_examples_that_come_only_once_are_refused():
    with pytest.raises(InvalidArgument, match=r"It starts at .* got a generator.*or call f first"):
        next(inputs.batches_to_start((x for x in X), None, "It", "f"))
