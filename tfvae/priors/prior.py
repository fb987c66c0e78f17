"""The contract of a prior."""

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfvae.priors.draws import draw
from tfvae.registry import Registry

PRIORS = Registry("prior")


class Prior(keras.layers.Layer):
    """p(z) as a Keras layer, so that what it learns is trained and saved with the model.

    `build(latent_shape)` is called with the shape of one latent, without batch axes. Subclasses
    implement `distribution`, and `sample` unless `draws.draw` knows that distribution.

    Attributes:
        kind: what its values are, as of a posterior: "continuous", "bernoulli" or "categorical".
    """

    kind = "continuous"

    def build(self, latent_shape):
        """Remember the shape of one latent; subclasses add their weights here."""
        self.latent_shape = tuple(latent_shape)

    def distribution(self) -> tfp.distributions.Distribution:
        """Return p(z), built anew: inside a gradient tape this is what makes it trainable."""
        raise NotImplementedError

    def log_prob(self, z: tf.Tensor) -> tf.Tensor:
        """Return log p(z) in nats, for z of shape `[..., *latent_shape]`."""
        return self.distribution().log_prob(z)

    def sample(self, seed: tf.Tensor, index: tf.Tensor, temperature=1.0) -> tf.Tensor:
        """Return draws number `index` of the stream `seed`, `[N, *latent_shape]`.

        A function of its arguments alone, made of operators that LiteRT has: the same draws come
        out in Keras, in a SavedModel and on a device.

        Args:
            seed: `[2]` int32.
            index: `[N]` int32.
            temperature: 1 draws from p(z); below 1, closer to its centre.
        """
        return draw(self.distribution(), seed, index, temperature)


def default(kind: str) -> str:
    """Return the name of the usual prior of a kind of latents."""
    return {"continuous": "standard_normal"}.get(kind, kind)
