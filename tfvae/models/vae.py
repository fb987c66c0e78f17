"""The variational autoencoder: any Keras encoder and decoder, distributions from TFP."""

import keras
import numpy as np
import tensorflow as tf

from tfvae import likelihoods, posteriors, priors
from tfvae.conditions import Condition
from tfvae.distributions import tfd
from tfvae.errors import InvalidArgument
from tfvae.joint import StochasticLayer
from tfvae.models.latent_variable_model import LatentVariableModel
from tfvae.networks import wiring

_SIZE_OF_PARAMETERS = (
    " For D latents the last axis of the encoder's output has posterior.params_size(D) numbers."
)


@keras.saving.register_keras_serializable("tfvae")
class VAE(LatentVariableModel):
    """p(x) = ∫ p(x|z) p(z) dz with an amortized posterior q(z|x).

    β-VAE, IWAE and warm-up are settings of `compile`, not other classes. Calling the model on x
    gives reconstructions, E[x | z = E[z|x]]; so does `predict`. For several stochastic layers see
    `HierarchicalVAE`.

    With `condition` this is the conditional VAE, p(x|y) = ∫ p(x|z, y) p(z|y) dz with q(z|x, y). An
    encoder or decoder that takes y is a network of two inputs, x or z and c(y) `[B, C]`; a prior
    that does has `takes_condition`. The others are not given it. y is the second argument of `fit`
    and `evaluate`, and `condition` everywhere else.

    Source: Kingma and Welling 2014, "Auto-encoding variational Bayes"; Rezende et al. 2014; Kingma
    et al. 2014, "Semi-supervised learning with deep generative models", and Sohn, Lee and Yan 2015,
    "Learning structured output representation using deep conditional generative models", for y.

    Args:
        encoder: Keras model, x `[B, *x_shape]` to the posterior's parameters
            `[B, ..., posterior.params_size(channels)]`; for "diagonal_normal" and a latent of size
            D that is `[B, 2·D]`.
        decoder: Keras model, z `[B, *latent_shape]` to the likelihood's parameters
            `[B, ..., likelihood.params_size(channels)]`; for "bernoulli" that is the shape of x.
        prior: one of `tfvae.priors.REGISTRY.names()`, or a `tfvae.priors.Prior`; by default
            "standard_normal", "bernoulli" or "categorical", by the kind of the posterior's latents.
        posterior: one of `tfvae.posteriors.REGISTRY.names()`, or a `tfvae.posteriors.Posterior`.
            "categorical" latents are one-hot along the last axis of the encoder's output.
        likelihood: one of `tfvae.likelihoods.REGISTRY.names()`, or a
            `tfvae.likelihoods.Likelihood`.
        seed: with the step, decides all noise.
        condition: what y is: a number C of classes, c(y) one-hot; or the shape `(C,)` of vectors;
            None for a model p(x), which is not given the y of `fit`.

    Raises:
        InvalidArgument: networks whose shapes do not fit each other or the distributions, or none
            of which takes the condition.
    """

    def __init__(
        self,
        encoder: keras.Model,
        decoder: keras.Model,
        *,
        prior: str | priors.Prior | None = None,
        posterior: str | posteriors.Posterior = "diagonal_normal",
        likelihood: str | likelihoods.Likelihood = "bernoulli",
        seed: int = 0,
        condition: int | tuple[int, ...] | Condition | None = None,
        **kwargs,
    ):
        super().__init__(seed=seed, condition=condition, **kwargs)
        self.encoder = encoder
        self.decoder = decoder
        self.posterior = posteriors.get(posterior)
        self.prior = priors.get(priors.default(self.posterior.kind) if prior is None else prior)
        self.likelihood = likelihoods.get(likelihood)
        if encoder.built and getattr(encoder, "input_shape", None) is not None:
            self.build(wiring.shape_beside_condition(encoder, self.condition))

    def build(self, input_shape):
        """Build what is not built yet, and check that the shapes fit together."""
        if self.built:
            return
        self.x_shape = wiring.example_shape(input_shape, "encoder")
        inputs = wiring.beside_condition(self.encoder, self.x_shape, self.condition)
        self.latent_shape = wiring.connect(self.encoder, inputs, self.posterior, "encoder")
        inputs = wiring.beside_condition(self.decoder, self.latent_shape, self.condition)
        wiring.connect_decoder(
            self.decoder, inputs, self.likelihood, self.x_shape, advice=_SIZE_OF_PARAMETERS
        )
        check_prior(self.prior, self.posterior)
        self.finish_build(self.x_shape)

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

    def parts_given_condition(self):
        decodes = wiring.takes_condition(self.decoder)
        return {
            "encode": wiring.takes_condition(self.encoder),
            "decode": decodes,
            "sample": decodes or self.prior.takes_condition,
        }

    def bottom_up(self, x, training=False, condition=None):
        """Return the parameters of q(z|x), `[B, ...]`."""
        return wiring.apply_given(self.encoder, x, self.x_shape, condition, training)

    def infer(self, h, draw, training=False, condition=None):
        """Draw z from q(z|x), of parameters h."""
        q = self.posterior(h)
        z, log_q = draw(0, q)
        layer = StochasticLayer(self._p_z(training, condition), z, q, log_q)
        return (layer,), self._x_params(z, training, condition)

    def generate(self, draw, training=False, condition=None):
        """Draw z from p(z)."""
        p = self._p_z(training, condition)
        z = draw(0, p)
        return (StochasticLayer(p, z),), self._x_params(z, training, condition)

    def _x_params(self, z, training, condition):
        return wiring.apply_given(self.decoder, z, self.latent_shape, condition, training)

    def _p_z(self, training=False, condition=None):
        return given_prior(
            self.prior,
            lambda x: self.posterior(self.bottom_up(x, training)),
            [self.encoder],
            training,
            condition,
        )

    def q_z_given_x(
        self,
        x: tf.Tensor,
        training: bool = False,
        condition: np.ndarray | tf.Tensor | int | None = None,
    ) -> tfd.Distribution:
        """Return q(z|x), or q(z|x, y), batch shape `[B]`."""
        c = self.encode_condition(condition, tf.shape(x)[0])
        return self.posterior(self.bottom_up(x, training, c))

    def p_z(self, condition: np.ndarray | tf.Tensor | int | None = None) -> tfd.Distribution:
        """Return the prior p(z); where it takes a condition, p(z|y), with the batch shape `[B]`.

        Args:
            condition: y, `[B, ...]`, or a single one, for B = 1.
        """
        if not self.prior.takes_condition or self.condition is None:
            return self._p_z()
        y = self.check_condition(condition)
        is_single = y.shape.rank < self.condition.spec.shape.rank
        return self._p_z(condition=self.encode_condition(y, 1 if is_single else tf.shape(y)[0]))

    def get_config(self):
        """Return the constructor arguments, serialized."""
        config = super().get_config()
        for name in ("encoder", "decoder", "prior", "posterior", "likelihood"):
            config[name] = keras.saving.serialize_keras_object(getattr(self, name))
        return config


def given_prior(prior, posterior_of, networks, training, condition):
    """Return p(z_L), or p(z_L|y), in a pass of a model.

    Args:
        prior: p(z_L).
        posterior_of: the function x → q(z_L|x), for a prior that is made of it.
        networks: those that `posterior_of` calls.
        training: whether they run in training mode.
        condition: c(y), `[B, C]`, or None.

    Raises:
        InvalidArgument: a prior made of networks that add losses of their own, in training.
    """

    def posterior_again(x):
        if training and any(map(_adds_losses, networks)):
            raise InvalidArgument(
                f"The prior {type(prior).__name__} calls the encoder a second time, on "
                "its pseudo-inputs, and Keras then forgets the losses that the encoder added "
                "for x (`add_loss`, `activity_regularizer`). Use prior='mixture' or "
                "prior='flow', an encoder without these, or `additional_loss` of the model."
            )
        return posterior_of(x)

    return prior.given(posterior_again, training, condition if prior.takes_condition else None)


def _adds_losses(network):
    """Whether a network added losses in its last call, besides those of its weights."""
    of_weights = sum(weight.regularizer is not None for weight in network.trainable_weights)
    return len(network.losses) > of_weights


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
