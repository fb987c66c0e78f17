"""The contract of a prior."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfvae import distributions
from tfvae._plain import checks
from tfvae.distributions import tfd
from tfvae.random import make_seed
from tfvae.registry import Registry

REGISTRY = Registry("prior")
get = REGISTRY.get


class Prior(keras.layers.Layer):
    """p(z) as a Keras layer, so that its weights are trained and saved with the model.

    `build(latent_shape)` is called with the shape of one latent, without batch axes. Subclasses
    implement `distribution`; one that depends on more than its own weights overrides `given`.

    A prior with `takes_condition` is p(z|y) in a model with a condition: its `build` then takes the
    width C of the vectors c(y) as a further argument, and its `distribution` the vectors. In such a
    model any other prior is p(z|y) = p(z).

    Attributes:
        kind: what its values are, as of a posterior: "continuous", "bernoulli" or "categorical".
        takes_condition: whether it can be p(z|y).
        started: whether the weights that begin at training examples have begun: `fit` leaves them.
            Weights tell it, so that a copy and a loaded model know it.
    """

    kind = "continuous"
    takes_condition = False
    started = False

    def build(self, latent_shape):
        """Remember the shape of one latent; subclasses add their weights here."""
        self.latent_shape = tuple(latent_shape)
        self.built = True

    def distribution(self) -> tfd.Distribution:
        """Return p(z), made again at each call, so that a gradient tape sees the weights."""
        raise NotImplementedError

    def given(
        self,
        posterior_of: Callable | None = None,
        training: bool = False,
        condition: tf.Tensor | None = None,
    ) -> tfd.Distribution:
        """Return p(z), or p(z|y), in a pass of a model.

        Args:
            posterior_of: the function x → q(z|x) of the model, for a prior that is made of it.
            training: whether networks run in training mode.
            condition: c(y), `[B, C]`; None where the model has none or the prior takes none.
        """
        p = self.distribution() if condition is None else self.distribution(condition)
        if type(self).draw is not Prior.draw:
            p.draw = self.draw  # a prior's own draws are those of its distribution
        return p

    def connect(self, posterior: Any, x_shape: tuple[int, ...], support: Any) -> None:
        """Take the posterior and what the data is; called by a model before `build`.

        Args:
            posterior: the family of q(z|x).
            x_shape: shape of one example; None where z depends on x through other latents alone.
            support: the values that the likelihood takes, its `support`.

        Raises:
            InvalidArgument: the prior does not go with this posterior.
        """

    @property
    def num_examples_to_start(self) -> int:
        """How many training examples `start` takes; 0 for none."""
        return 0

    def start(self, x: np.ndarray) -> None:
        """Set initial weights from training examples; called by `fit` before the first step."""

    def log_prob(self, z: tf.Tensor) -> tf.Tensor:
        """Return log p(z) in nats, for z of shape `[..., *latent_shape]`."""
        return self.distribution().log_prob(z)

    def draw(
        self, seed: tf.Tensor, index: tf.Tensor, temperature: float | tf.Tensor = 1.0
    ) -> tf.Tensor:
        """Return draws number `index` of the stream `seed`, `[N, *latent_shape]`.

        See `tfvae.distributions.draw`, which makes them.
        """
        return distributions.draw(self.distribution(), seed, index, temperature)

    def sample(self, n: int, seed: int = 0, temperature: float = 1.0) -> np.ndarray:
        """Return n draws on the host, `[n, *latent_shape]`: those that `draw` numbers from 0.

        Raises:
            InvalidArgument: n is below 1, or the temperature is negative or not finite.
        """
        checks.whole("n", n)
        temperature = checks.temperature(temperature)
        return self.draw(make_seed(seed), tf.range(n, dtype=tf.int32), temperature).numpy()


def default(kind: str) -> str:
    """Return the name of the usual prior of a kind of latents."""
    return {"continuous": "standard_normal"}.get(kind, kind)
