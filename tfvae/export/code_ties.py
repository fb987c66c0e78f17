"""Codes that differ between two computations of one model, and the test for ties among them."""

import numpy as np
import tensorflow as tf

from tfvae.conditions import as_argument


def count_flips(
    model, x: np.ndarray, ours: np.ndarray, theirs: np.ndarray, tolerance: float, condition=None
) -> tuple[int, int]:
    """Return how many codes of x differ, and how many of these are ties.

    A code is a tie if Keras gives the other code too once the vector is moved towards that code, by
    no more than other floats of an export may differ. The test uses only the contract of a
    quantizer, so it holds for tables, for rounding and for signs alike.

    Codes that depend on a code that differs are not counted: those of later levels of a residual
    quantizer, and those of finer grids of an image with several.

    Args:
        model: a `CodeModel`.
        x: examples, `[B, *x_shape]`.
        ours: the codes in Keras, `[B, *code_shape]`.
        theirs: the codes that are in question, `[B, *code_shape]`.
        tolerance: how far a vector is moved, relative to the largest number in the vectors of x.
        condition: y of x, `[B, ...]`, where networks take it.
    """
    flips = ties = 0
    same_above = np.ones(len(x), bool)
    c = as_argument(model.encode_condition(condition, len(x)))
    for index in reversed(range(len(model.codebooks))):  # coarse grids decide what is below them
        quantizer = model.codebooks[index]
        vectors = model.vectors_to_start(index, tf.constant(x), **c)
        pair = [_at_vectors(model, index, codes, vectors.shape) for codes in (ours, theirs)]
        differ = np.any(pair[0] != pair[1], axis=-1) & same_above[:, np.newaxis]
        flat = tf.reshape(vectors, [*differ.shape, vectors.shape[-1]])
        reach = tolerance * tf.reduce_max(tf.abs(flat))
        is_tie = _are_ties(quantizer, flat[differ], *(codes[differ] for codes in pair), reach)
        flips, ties = flips + int(differ.sum()), ties + int(is_tie.sum())
        same_above &= ~differ.any(axis=1)
    return flips, ties


def _at_vectors(model, index, codes, vectors_shape):
    """Return the codes that one quantizer gives, `[B, sites, codes of a vector]`."""
    if len(model.codebooks) > 1:
        codes = model.by_codebook(tf.constant(codes))[index]
    num_sites = int(np.prod(vectors_shape[1:-1]))
    return np.reshape(codes, (len(codes), num_sites, -1))


def _are_ties(quantizer, vectors, ours, theirs, reach):
    """Return which codes are ties, `[N]` bool, for vectors `[N, D]` and codes `[N, Q]`."""
    if not len(ours):
        return np.zeros(0, bool)
    first = np.arange(len(ours)), np.argmax(ours != theirs, axis=1)
    # With only that code replaced: the later ones are of another remainder.
    other = ours.copy()
    known = (theirs[first] >= 0) & (theirs[first] < quantizer.codebook_size)
    other[first] = np.where(known, theirs[first], ours[first])
    shape = (-1, *quantizer.codes_per_vector)
    towards = quantizer.lookup(other.reshape(shape)) - quantizer.lookup(ours.reshape(shape))
    length = tf.norm(towards, axis=-1, keepdims=True)
    moved = vectors + reach * tf.math.divide_no_nan(towards, length)
    codes = np.reshape(quantizer(moved).codes, ours.shape)
    # Two codes of one vector are a tie wherever they are.
    return known & ((codes[first] == theirs[first]) | (np.ravel(length) == 0))
