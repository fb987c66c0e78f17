"""The variational autoencoder: any Keras encoder and decoder, distributions from TFP."""

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfvae import distributions, networks, priors
from tfvae.errors import InvalidArgument
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
        prior: "standard_normal", "bernoulli" or "categorical", or a `tfvae.priors.Prior`; by
            default the one that fits the posterior.
        posterior: "diagonal_normal", "bernoulli" or "categorical", or a
            `tfvae.distributions.Factory`. "categorical" latents are one-hot along the last axis of
            the encoder's output.
        likelihood: "bernoulli", "categorical", "normal", "discretized_logistic_mixture", or a
            `tfvae.distributions.Likelihood` object.
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
        self.posterior = distributions.POSTERIORS.get(posterior)
        self.prior = priors.get(priors.default(self.posterior.kind) if prior is None else prior)
        self.likelihood = distributions.LIKELIHOODS.get(likelihood)
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
        if not self.prior.built:
            self.prior.build(self.latent_shape)
        self.built = True
        if self.estimator is not None:
            self.estimator.prepare(self)

    def q_z_given_x(self, x: tf.Tensor, training: bool = False) -> tfd.Distribution:
        """Return q(z|x), batch shape `[B]`."""
        return self.posterior(self.encoder(x, training=training))

    def p_x_given_z(self, z: tf.Tensor, training: bool = False) -> tfd.Distribution:
        """Return p(x|z), with the leading axes of z as its batch: `[B]` or `[K, B]`."""
        given = networks.conditional(self.decoder, self.likelihood, self.latent_shape, training)
        return given(z)

    def x_parameters(self, z: tf.Tensor) -> tf.Tensor:
        """Return the parameters of p(x|z), as `likelihood` takes them, for a batch of z."""
        return self.decoder(z)

    @property
    def latent_kinds(self) -> tuple[str, ...]:
        """The kind of the latent, for the one stochastic layer."""
        return (self.posterior.kind,)

    @property
    def layer_shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shape of each stochastic layer, here one."""
        return (self.latent_shape,)

    def exact_kl(self, q) -> tf.Tensor:
        """Return KL(q‖p) in nats, by unit where the units are independent: `[B, U]`.

        Raises:
            NotImplementedError: TFP knows no closed form.
        """
        p = self.p_z()
        if isinstance(q, tfd.Independent) and isinstance(p, tfd.Independent):
            q, p = q.distribution, p.distribution
        by_unit = q.kl_by_unit(p) if hasattr(q, "kl_by_unit") else q.kl_divergence(p)
        return tf.reshape(by_unit, [tf.shape(by_unit)[0], -1])

    def has_exact_kl(self) -> bool:
        """Whether KL(q(z|x)‖p(z)) is known in closed form."""
        *sites, channels = self.latent_shape
        params = tf.zeros([1, *sites, self.posterior.params_size(channels)])
        try:
            self.exact_kl(self.posterior(params))
        except (NotImplementedError, AttributeError):
            return False
        return True

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
