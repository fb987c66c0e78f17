"""What the latents carry: active units, posterior means."""

import numpy as np
import tensorflow as tf

from tfvae.evaluation.batches import batches


def active_units(model, x, threshold: float = 0.01) -> int:
    """Count the latent dimensions that the data moves: Var_x(E[z_u|x]) > threshold.

    Source: Burda, Grosse and Salakhutdinov 2016, sec. 5.2.

    Args:
        model: a `VAE`.
        x: an array `[N, *x_shape]`, or a batched `tf.data.Dataset` of such.
        threshold: variance above which a unit counts as active.
    """
    return int(np.count_nonzero(posterior_means(model, x).var(axis=0) > threshold))


def posterior_means(model, x, batch_size: int = 500) -> np.ndarray:
    """Return E[z|x] for all examples, flattened to `[N, D]`."""
    encode = tf.function(model.encode, reduce_retracing=True)
    parts, _ = batches(model, x, batch_size)
    means = np.concatenate([encode(batch).numpy() for batch in parts])
    return means.reshape(len(means), -1)
