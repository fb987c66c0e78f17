"""Models of the mask: the probability that a value is missing, given the value."""

import keras
import tensorflow as tf

from tfvae._plain.checks import choice
from tfvae.distributions.factory import from_arguments, frozen
from tfvae.registry import Registry

MISSINGNESS = Registry("missingness")
SIGNS = ("any", "high", "low")


class Missingness(keras.layers.Layer):
    """p(s|x), s the mask of an example: a Keras layer, trained and saved with the model.

    Subclasses add their weights in `build(x_shape)`, with `autocast=False`, and implement `logits`.
    """

    def __init__(self, **kwargs):
        super().__init__(dtype="float32", **kwargs)

    def logits(self, x: tf.Tensor) -> tf.Tensor:
        """Return the log-odds of each value to be missing, for complete examples.

        Args:
            x: `[..., *x_shape]`.

        Returns:
            `[..., *x_shape]`.
        """
        raise NotImplementedError

    def log_prob(self, missing: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        """Return log p(s|x) in nats, `[...]`.

        Args:
            missing: s, whether each value is missing; its leading axes are broadcast against x's.
            x: complete examples, `[..., *x_shape]`.
        """
        logits = self.logits(x)
        axes = list(range(-len(self.x_shape), 0))
        signed = tf.where(missing, logits, -logits)
        return tf.reduce_sum(tf.math.log_sigmoid(signed), axis=axes)

    def build(self, x_shape):
        """Take in the shape of an example."""
        self.x_shape = tuple(x_shape)
        self.built = True

    def get_config(self) -> dict:
        """Return the constructor arguments, and whether the weights are frozen."""
        return frozen(self)

    @classmethod
    def from_config(cls, config: dict):
        """Return the model with these constructor arguments."""
        return from_arguments(cls, config)


@MISSINGNESS.register("self_masking")
class SelfMasking(Missingness):
    """P(x_d missing|x) = sigmoid(a_d x_d + b_d), which depends on the value x_d itself alone.

    Source: Ipsen, Mattei and Frellsen 2021, "not-MIWAE: deep generative modelling with missing not
    at random data", sec. 3.1.

    Args:
        sign: of a_d. If it is known whether high or low values go missing, say "high" or "low": the
            model then need not learn the sign from values that it does not see.
    """

    def __init__(self, sign: str = "any", **kwargs):
        super().__init__(**kwargs)
        self.sign = choice("sign", sign, SIGNS)

    def build(self, x_shape):
        options = {"shape": x_shape, "initializer": "zeros", "autocast": False}
        self.raw_slope = self.add_weight(name="raw_slope", **options)
        self.bias = self.add_weight(name="bias", **options)
        super().build(x_shape)

    def logits(self, x):
        slope = tf.convert_to_tensor(self.raw_slope)
        if self.sign != "any":
            slope = tf.nn.softplus(slope) * (1.0 if self.sign == "high" else -1.0)
        return slope * x + self.bias

    def get_config(self):
        return {"sign": self.sign, **super().get_config()}


@MISSINGNESS.register("linear_masking")
class LinearMasking(Missingness):
    """P(x_d missing|x) = sigmoid(Σ_e W_de x_e + b_d), over all values of the example.

    Source: as `SelfMasking`, sec. 3.1.
    """

    def build(self, x_shape):
        size = 1
        for length in x_shape:
            size *= length
        options = {"initializer": "zeros", "autocast": False}
        self.kernel = self.add_weight(shape=(size, size), name="kernel", **options)
        self.bias = self.add_weight(shape=(size,), name="bias", **options)
        super().build(x_shape)

    def logits(self, x):
        size = self.kernel.shape[0]
        shape = tf.shape(x)
        flat = tf.reshape(x, [-1, size])
        return tf.reshape(tf.matmul(flat, self.kernel) + self.bias, shape)
