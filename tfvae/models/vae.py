"""The variational autoencoder: any Keras encoder and decoder, distributions from TFP."""

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfvae import distributions, priors
from tfvae.errors import InvalidArgument, InvalidData
from tfvae.models.latent_variable_model import LatentVariableModel
from tfvae.random import Stream, fold_in, make_seed

tfd = tfp.distributions


@keras.saving.register_keras_serializable("tfvae")
class VAE(LatentVariableModel):
    """p(x) = ∫ p(x|z) p(z) dz with an amortized posterior q(z|x).

    β-VAE, IWAE and warm-up are settings of `compile`, not other classes. Calling the model on x
    gives reconstructions, E[x | z = E[z|x]]; so does `predict`.

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
        self.x_shape = tuple(input_shape[1:])
        if not self.encoder.built:
            self.encoder.build(input_shape)
        params = self._output_shape(self.encoder, input_shape, "encoder")
        self.params_shape = params[1:]
        self.latent_shape = self.posterior.event_shape(self.params_shape)
        if not self.decoder.built:
            self.decoder.build((None, *self.latent_shape))
        wanted = getattr(self.decoder, "input_shape", None)
        if wanted is not None and tuple(wanted[1:]) != self.latent_shape:
            raise InvalidArgument(
                f"The decoder takes latents of shape {tuple(wanted[1:])}, but the encoder's output "
                f"{self.params_shape} gives latents of shape {self.latent_shape} with the "
                f"{type(self.posterior).__name__} posterior. For D latents the encoder's last "
                f"axis must be posterior.params_size(D)."
            )
        params = self._output_shape(self.decoder, (None, *self.latent_shape), "decoder")
        shape = self.likelihood.event_shape(params[1:])
        if shape != self.x_shape:
            raise InvalidArgument(
                f"The decoder's output {params[1:]} describes values of shape {shape} under the "
                f"{type(self.likelihood).__name__} likelihood, but the encoder takes "
                f"{self.x_shape}. Expected a decoder output of shape "
                f"{(*self.x_shape[:-1], self.likelihood.params_size(self.x_shape[-1]))}."
            )
        if not self.prior.built:
            self.prior.build(self.latent_shape)
        self._check_prior()
        self.built = True
        if self.estimator is not None:
            self.estimator.prepare(self)

    def q_z_given_x(self, x: tf.Tensor, training: bool = False) -> tfd.Distribution:
        """Return q(z|x), batch shape `[B]`."""
        return self.posterior(self.encoder(x, training=training))

    def p_z(self) -> tfd.Distribution:
        """Return the prior p(z)."""
        return self.prior.distribution()

    def p_x_given_z(self, z: tf.Tensor, training: bool = False) -> tfd.Distribution:
        """Return p(x|z), with the leading axes of z as its batch: `[B]` or `[K, B]`."""
        batch_ndims = len(z.shape) - len(self.latent_shape)
        if batch_ndims == 1:
            return self.likelihood(self.decoder(z, training=training))
        batch_shape = tf.shape(z)[:batch_ndims]
        params = self.decoder(tf.reshape(z, [-1, *self.latent_shape]), training=training)
        params = tf.reshape(params, tf.concat([batch_shape, params.shape[1:]], 0))
        return self.likelihood(params, batch_ndims)

    def log_weights(self, x, num_samples: int, seed: int = 0) -> tf.Tensor:
        """Return log p(x|z) + log p(z) − log q(z|x) for z ~ q(z|x), `[num_samples, B]`."""
        x = tf.cast(x, tf.float32)
        q = self.q_z_given_x(x)
        z = q.sample(num_samples, seed=fold_in(make_seed(seed), int(Stream.EVALUATE)))
        return self.log_weight_terms(x, z, q.log_prob(z)).log_weights()

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
        try:
            self.exact_kl(self.posterior(tf.zeros([1, *self.params_shape])))
        except (NotImplementedError, AttributeError):
            return False
        return True

    def _check_prior(self):
        if self.prior.kind != self.posterior.kind:
            raise InvalidArgument(
                f"The {type(self.posterior).__name__} posterior has {self.posterior.kind} latents, "
                f"but the prior {type(self.prior).__name__} is over {self.prior.kind} ones. "
                f"Use prior={priors.default(self.posterior.kind)!r}."
            )

    def call(self, x, training=False):
        """Return reconstructions, the mean of p(x|z) at the mean of q(z|x)."""
        return self.decode(self.encode(x, training), training)

    def encode(self, x, training=False) -> tf.Tensor:
        """Return the mean of q(z|x), `[B, *latent_shape]`."""
        return self.q_z_given_x(tf.cast(x, tf.float32), training).mean()

    def decode(self, z, training=False) -> tf.Tensor:
        """Return the mean of p(x|z), `[B, *x_shape]`; images in [0, 1]."""
        return self.p_x_given_z(tf.cast(z, tf.float32), training).mean()

    def sample(self, n: int, seed: int = 0, temperature: float = 1.0) -> tf.Tensor:
        """Return n images, the means of p(x|z) for z ~ p(z), `[n, *x_shape]`.

        The first images of a longer sample are those of a shorter one with the same seed, and the
        exported decoders draw the same ones.

        Args:
            n: how many.
            seed: any integer.
            temperature: scales the spread of z; below 1, images are closer to the average one.

        Raises:
            InvalidArgument: n is below 1 or the temperature is negative.
        """
        if n < 1 or not temperature >= 0:
            raise InvalidArgument(
                f"`sample` got n={n} and temperature={temperature}; expected n of at least 1 and a "
                "temperature of at least 0."
            )
        z = self.prior.sample(make_seed(seed), tf.range(n, dtype=tf.int32), float(temperature))
        return self.decode(z)

    def check_data(self, x: np.ndarray, name: str = "x") -> None:
        """Refuse an array that the model cannot be trained or measured on.

        Raises:
            InvalidData: no examples, another shape than the encoder's input, values that are not
                finite or that the likelihood gives no meaning to.
        """
        if len(x) == 0:
            raise InvalidData(f"`{name}` is empty; expected at least one example.")
        if self.built and tuple(x.shape[1:]) != self.x_shape:
            raise InvalidData(
                f"`{name}` holds examples of shape {tuple(x.shape[1:])}; the encoder takes "
                f"{self.x_shape}. Reshape the data, or build networks for its shape."
            )
        self.likelihood.check(x, name)

    def get_config(self):
        """Return the constructor arguments, serialized."""
        config = {"name": self.name, "seed": self.seed}
        for name in ("encoder", "decoder", "prior", "posterior", "likelihood"):
            config[name] = keras.saving.serialize_keras_object(getattr(self, name))
        return config

    @classmethod
    def from_config(cls, config):
        """Return the model described by `get_config`."""
        return cls(**{k: keras.saving.deserialize_keras_object(v) for k, v in config.items()})

    @staticmethod
    def _output_shape(network, input_shape, role):
        try:
            shape = network.compute_output_shape(input_shape)
        except NotImplementedError:
            raise InvalidArgument(
                f"The output shape of the {role} is not known before it is called. Define "
                f"`compute_output_shape(self, input_shape)` in {type(network).__name__}."
            ) from None
        if not isinstance(shape, tuple) or (shape and isinstance(shape[0], (tuple, list))):
            raise InvalidArgument(
                f"The {role} has several outputs, {shape}; expected one tensor. Join them on the "
                "last axis with keras.layers.Concatenate()."
            )
        if len(shape) < 2 or None in shape[1:]:
            raise InvalidArgument(
                f"The {role}'s output has shape {shape}; expected a batch axis and at least one "
                "more, all of known size but the batch."
            )
        return tuple(shape)
