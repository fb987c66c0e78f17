"""The variational autoencoder: any Keras encoder and decoder, distributions from TFP."""

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfvae import likelihoods, networks, posteriors, priors
from tfvae.errors import InvalidArgument
from tfvae.joint import StochasticLayer
from tfvae.models.latent_variable_model import LatentVariableModel

tfd = tfp.distributions


@keras.saving.register_keras_serializable("tfvae")
class VAE(LatentVariableModel):
    """p(x) = ∫ p(x|z) p(z) dz with an amortized posterior q(z|x).

    β-VAE, IWAE and warm-up are settings of `compile`, not other classes. Calling the model on x
    gives reconstructions, E[x | z = E[z|x]]; so does `predict`. For several stochastic layers see
    `HierarchicalVAE`.

    Source: Kingma and Welling 2014, "Auto-encoding variational Bayes"; Rezende et al. 2014.

    Args:
        encoder: Keras model, x `[B, *x_shape]` to the posterior's parameters
            `[B, ..., posterior.params_size(channels)]`; for "diagonal_normal" and a latent of size
            D that is `[B, 2·D]`.
        decoder: Keras model, z `[B, *latent_shape]` to the likelihood's parameters
            `[B, ..., likelihood.params_size(channels)]`; for "bernoulli" that is the shape of x.
        prior: one of `tfvae.priors.REGISTRY.names()`, or a `tfvae.priors.Prior`; by default the one
            that fits the posterior.
        posterior: one of `tfvae.posteriors.REGISTRY.names()`, or a `tfvae.posteriors.Posterior`.
            "categorical" latents are one-hot along the last axis of the encoder's output.
        likelihood: one of `tfvae.likelihoods.REGISTRY.names()`, or a
            `tfvae.likelihoods.Likelihood`.
        seed: with the step, decides all noise.

    Raises:
        InvalidArgument: networks whose shapes do not fit each other or the distributions.
    """

    def __init__(
        self,
        encoder: keras.Model,
        decoder: keras.Model,
        prior=None,
        posterior="diagonal_normal",
        likelihood="bernoulli",
        seed: int = 0,
        **kwargs,
    ):
        super().__init__(seed=seed, **kwargs)
        self.encoder = encoder
        self.decoder = decoder
        self.posterior = posteriors.get(posterior)
        self.prior = priors.get(priors.default(self.posterior.kind) if prior is None else prior)
        self.likelihood = likelihoods.get(likelihood)
        if encoder.built and getattr(encoder, "input_shape", None) is not None:
            self.build(encoder.input_shape)

    def build(self, input_shape):
        """Build what is not built yet, and check that the shapes fit together."""
        if self.built:
            return
        self.x_shape = networks.example_shape(input_shape, "encoder")
        self.latent_shape = networks.connect(self.encoder, self.x_shape, self.posterior, "encoder")
        networks.connect_decoder(self.decoder, self.latent_shape, self.likelihood, self.x_shape)
        check_prior(self.prior, self.posterior)
        self.prior.connect(self.posterior, self.x_shape)
        if not self.prior.built:
            self.prior.build(self.latent_shape)
        self.built = True
        if self.estimator is not None:
            self._ready()

    @property
    def posterior_of_layer(self) -> tuple[posteriors.Posterior, ...]:
        """The family of q(z|x), for the one stochastic layer."""
        return (self.posterior,)

    @property
    def layer_shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shape of each stochastic layer, here one."""
        return (self.latent_shape,)

    @property
    def generative_parts(self) -> tuple[keras.layers.Layer, ...]:
        """What p(x, z) is made of."""
        return (self.decoder, self.prior, self.likelihood)

    def bottom_up(self, x, training=False):
        """Return the parameters of q(z|x), `[B, ...]`."""
        return self.encoder(x, training=training)

    def infer(self, h, draw, training=False):
        """Draw z from q(z|x), of parameters h."""
        q = self.posterior(h)
        z, log_q = draw(0, q)
        layer = StochasticLayer(self._p_z(training), z, q, log_q)
        return (layer,), networks.apply(self.decoder, z, self.latent_shape, training)

    def generate(self, draw, training=False):
        """Draw z from p(z)."""
        p = self._p_z(training)
        z = draw(0, p)
        x_params = networks.apply(self.decoder, z, self.latent_shape, training)
        return (StochasticLayer(p, z),), x_params

    def _p_z(self, training=False):
        return self.prior.given(lambda x: self.q_z_given_x(x, training), training)

    def q_z_given_x(self, x: tf.Tensor, training: bool = False) -> tfd.Distribution:
        """Return q(z|x), batch shape `[B]`."""
        return self.posterior(self.bottom_up(x, training))

    def p_z(self) -> tfd.Distribution:
        """Return the prior p(z)."""
        return self._p_z()

    def get_config(self):
        """Return the constructor arguments, serialized."""
        config = {"name": self.name, "seed": self.seed}
        for name in ("encoder", "decoder", "prior", "posterior", "likelihood"):
            config[name] = keras.saving.serialize_keras_object(getattr(self, name))
        return config


def check_prior(prior, posterior) -> None:
    """Refuse a prior over another kind of latents than the posterior's.

    Raises:
        InvalidArgument: with the usual prior of that kind.
    """
    if prior.kind != posterior.kind:
        raise InvalidArgument(
            f"The {type(posterior).__name__} posterior has {posterior.kind} latents, but the prior "
            f"{type(prior).__name__} is over {prior.kind} ones. "
            f"Use prior={priors.default(posterior.kind)!r}."
        )
