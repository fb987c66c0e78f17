"""The VampPrior: the aggregated posterior of a few learned pseudo-inputs."""

import math

import keras
import numpy as np
import tensorflow as tf

from tfvae._plain.checks import whole
from tfvae.distributions.normal_mixture import NormalMixture
from tfvae.errors import InvalidArgument
from tfvae.likelihoods.support import Support
from tfvae.optimizers import Clip
from tfvae.posteriors import DiagonalNormal
from tfvae.priors.prior import REGISTRY, Prior

AUTO = "auto"


@REGISTRY.register("vamp")
class VampPrior(Prior):
    """p(z) = (1/C) Σ_c q(z|u_c), with pseudo-inputs u_c that are trained with the model.

    The prior that maximizes the bound is the mixture of the posteriors of all N training examples;
    here C learned examples take their place. `fit` starts the pseudo-inputs at training examples,
    `train_on_batch` at those of its first batch. Where these are fewer than C, the others start at
    random, near the middle of the range: two that are alike would stay alike. A draw encodes the
    one it picks. In a ladder q(z|u) is that of the top layer.

    Source: Tomczak and Welling 2018, "VAE with a VampPrior", eq. 10.

    Args:
        num_components: C.
        bounds: the range to which pseudo-inputs are clipped after every step; by default that of
            the values which the likelihood takes, and None for no bounds.
    """

    def __init__(
        self, num_components: int = 500, bounds: tuple[float, float] | str | None = AUTO, **kwargs
    ):
        super().__init__(**kwargs)
        self.num_components = whole("num_components", num_components)
        self.bounds = bounds if bounds in (AUTO, None) else tuple(map(float, bounds))

    def connect(self, posterior, x_shape, support):
        """Take in the shape of an example, and the values that it may have.

        Raises:
            InvalidArgument: a posterior other than independent normals, or one of which x is not
                the input.
        """
        if not isinstance(posterior, DiagonalNormal):
            raise InvalidArgument(
                f"The prior 'vamp' is a mixture of normals q(z|u), but the posterior is "
                f"{type(posterior).__name__}. Use posterior='diagonal_normal', or "
                "prior='mixture' or prior='flow'."
            )
        if x_shape is None:
            raise InvalidArgument(
                "The prior 'vamp' is a mixture of q(z_L|u) of the top layer, which has no density "
                "where q(z_L|z_{L-1}) sees x through the layers below alone. Use a LadderVAE "
                "(`model.family = \"ladder\"`), or prior='mixture' or prior='flow'."
            )
        self.x_shape = tuple(x_shape)
        self.limits = (support.low, support.high) if self.bounds == AUTO else self.bounds

    def build(self, latent_shape):
        low, high = self.limits or (-math.inf, math.inf)
        middle = Support(low, high, is_open=True).inside()
        self._initializer = keras.initializers.RandomNormal(middle, 0.1, seed=0)
        self.pseudo_inputs = self.add_weight(
            shape=(self.num_components, *self.x_shape),
            initializer=self._initializer,
            constraint=Clip(low, high) if (low, high) != (-math.inf, math.inf) else None,
            name="pseudo_inputs",
            dtype="float32",
            autocast=False,
        )
        super().build(latent_shape)

    def get_build_config(self):
        """Return what `build_from_config` needs."""
        shapes = {"latent_shape": self.latent_shape, "x_shape": self.x_shape}
        return shapes | {"limits": self.limits}

    def build_from_config(self, config):
        """Build as the prior that was saved."""
        self.x_shape = tuple(config["x_shape"])
        self.limits = config["limits"] and tuple(map(float, config["limits"]))
        self.build(tuple(config["latent_shape"]))

    @property
    def num_examples_to_start(self):
        return self.num_components

    @property
    def started(self):
        """Whether the pseudo-inputs have left the values that they are made with in `build`."""
        if not self.built:
            return False
        made_with = self._initializer(self.pseudo_inputs.shape, "float32")
        return not np.allclose(self.pseudo_inputs, made_with, atol=1e-4)

    def start(self, x):
        """Start the first pseudo-inputs at examples, all of them if there are as many."""
        inputs = np.asarray(self.pseudo_inputs).copy()
        inputs[: len(x)] = x[: self.num_components]
        self.pseudo_inputs.assign(inputs)

    def given(self, posterior_of=None, training=False, condition=None):
        return AggregatedPosterior(tf.convert_to_tensor(self.pseudo_inputs), posterior_of)

    def distribution(self):
        """Refuse: without the encoder there is no p(z).

        Raises:
            InvalidArgument: always.
        """
        raise InvalidArgument(
            "The prior 'vamp' is made of the encoder's posteriors: ask the model, with "
            "model.p_z() or model.draw(...)."
        )

    def get_config(self):
        return {
            **super().get_config(),
            "num_components": self.num_components,
            "bounds": list(self.bounds) if isinstance(self.bounds, tuple) else self.bounds,
        }


class AggregatedPosterior(NormalMixture):
    """(1/C) Σ_c q(z|u_c), with the posteriors made when they are asked for.

    Args:
        inputs: u, `[C, *x_shape]`.
        posterior_of: the function x → q(z|x), independent normals.
    """

    def __init__(self, inputs, posterior_of):
        self._inputs, self._posterior_of = inputs, posterior_of
        normal = posterior_of(inputs).distribution
        logits = tf.zeros(tf.shape(inputs)[:1])
        super().__init__(logits, normal.loc, tf.math.log(normal.scale), "AggregatedPosterior")

    def _of_component(self, component, noise):
        """Return draws from the posteriors of the pseudo-inputs `component` `[N]`, no others."""
        normal = self._posterior_of(tf.gather(self._inputs, component)).distribution
        return normal.loc + normal.scale * noise
