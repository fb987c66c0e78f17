"""REBAR and RELAX: the likelihood ratio with a relaxation of the latents as control variate."""

import math

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfvae import objectives
from tfvae.checks import finite, positive, whole
from tfvae.distributions import as_chain
from tfvae.estimators.estimator import (
    REGISTRY,
    Estimate,
    Estimator,
    by_sample,
    draw_layers,
    zero,
)
from tfvae.estimators.score_function import signal, with_score


@REGISTRY.register("rebar")
class REBAR(Estimator):
    """The likelihood ratio less its value at a relaxed sample, corrected through the relaxation.

    With perturbed logits ζ = g(u, α), z = harden(ζ), ζ̃ ~ ζ | z and c(ζ) = η f(soften(ζ, τ)), the
    gradient in the logits α is

        (f(z) − c(ζ̃)) ∇ log q(z) + ∇ c(ζ) − ∇ c(ζ̃),

    unbiased for any η and τ; both are trained to lower its squared norm. Stochastic layers are
    taken one at a time; in c, those above are relaxed with it. The decoder runs 1 + 2·layers times.

    Source: Tucker et al. 2017, "REBAR: low-variance, unbiased gradient estimates for discrete
    latent variable models", eq. 8 and app. C.

    Args:
        temperature: τ at the start.
        scale: η at the start.
    """

    latents = ("bernoulli", "categorical")

    def __init__(self, temperature: float = 0.5, scale: float = 1.0, **kwargs):
        super().__init__(**kwargs)
        self.temperature = positive("temperature", temperature)
        self.scale = finite("scale", scale)

    def prepare(self, model):  # noqa: D102
        if self.built:
            return

        def weight(name, value):
            start = keras.initializers.Constant(value)
            return self.add_weight(shape=(), initializer=start, name=name, dtype="float32")

        self._log_temperature = weight("log_temperature", math.log(self.temperature))
        self._scale = weight("scale", self.scale)
        self.built = True

    def estimate(self, objective, model, x, num_samples, beta, seed, training):  # noqa: D102
        chain = as_chain(model.q_z_given_x(x, training=training))
        seeds = tfp.random.split_seed(seed, n=2 * chain.num_layers)

        def weigh(z):
            log_q = chain.log_prob(z)
            terms = model.log_weight_terms(x, z, log_q, training)
            return terms, log_q, terms.log_weights(beta)

        layers, noises, values = draw_layers(chain, num_samples, seeds)
        terms, log_q, log_w = weigh(chain.join(values))
        surrogate = with_score(objective, log_w, log_q, beta, tf.zeros_like(log_w))
        learning_signal = signal(objective, log_w)

        own = self.trainable_variables if training else []
        for number, layer in enumerate(layers):
            z, noise = values[number], noises[number]
            logits = tf.stop_gradient(tf.broadcast_to(layer.logits, tf.shape(noise)))
            leaf_noise = layer.draw_noise(
                () if number else (num_samples,), seeds[chain.num_layers + number]
            )

            def control(leaf, perturbed, number=number):
                soft = leaf.soften(perturbed, tf.exp(self._log_temperature))
                # The layers above are relaxed too: were they drawn, c would jump with ζ, and its
                # derivative would miss that.
                relaxed = [*values[:number], soft]
                for upper in range(number + 1, chain.num_layers):
                    above = chain.layer(upper, relaxed)
                    upper_perturbed = above.perturb(noises[upper])
                    relaxed.append(above.soften(upper_perturbed, tf.exp(self._log_temperature)))
                log_w = weigh(chain.join(relaxed))[2]
                return self._control(objective, log_w, perturbed, leaf, number, x)

            with tf.GradientTape() as own_tape:
                with tf.GradientTape() as tape:
                    tape.watch(logits)
                    leaf = type(layer)(logits, batch_ndims=2)
                    _, free = control(leaf, leaf.perturb(noise))
                    conditional, tied = control(leaf, leaf.perturb_given(z, leaf_noise))
                    total = tf.reduce_sum(free - tied)
                gradient = tape.gradient(total, logits)
                centred = _expand(learning_signal - conditional, z)
                gradient += centred * tf.stop_gradient(layer.score(z))
                variance = tf.reduce_sum(gradient**2)
            axes = [0, *range(2, len(z.shape))]
            surrogate += zero(tf.reduce_sum(tf.stop_gradient(gradient) * layer.logits, axis=axes))
            if own:
                slopes = own_tape.gradient(variance, own)
                own_loss = sum(
                    tf.reduce_sum(tf.stop_gradient(slope) * variable)
                    for slope, variable in zip(slopes, own, strict=True)
                    if slope is not None  # the networks of other layers
                )
                # The loss is a mean over the batch, which on a replica may be empty.
                surrogate -= zero(own_loss) / tf.cast(tf.maximum(1, tf.shape(x)[0]), tf.float32)
        return Estimate(surrogate, terms)

    def _control(self, objective, log_weights, perturbed, leaf, number, x):
        """Return c for every sample, `[K, B]`, and in all, `[B]`, from the relaxed log-weights."""
        of_each, total = by_sample(objective, log_weights)
        return self._scale * of_each, self._scale * total

    def get_config(self):  # noqa: D102
        own = {"temperature": self.temperature, "scale": self.scale}
        return {**super().get_config(), **own}


@REGISTRY.register("relax")
class RELAX(REBAR):
    """REBAR with a network r beside the relaxation: c(ζ) = η f(soften(ζ, τ)) + r(soften(ζ, 1), x).

    r has one hidden layer and starts at 0, so RELAX starts as REBAR. It is trained, as η and τ are,
    to lower the squared norm of the gradient in the logits.

    Source: Grathwohl et al. 2018, "Backpropagation through the void", eq. 8 and app. C.1.

    Args:
        hidden: units of r's hidden layer.
        temperature: τ at the start.
        scale: η at the start.
    """

    def __init__(self, hidden: int = 100, temperature: float = 0.5, scale: float = 1.0, **kwargs):
        super().__init__(temperature, scale, **kwargs)
        self.hidden = whole("hidden", hidden)

    def prepare(self, model):  # noqa: D102
        if self.built:
            return
        self._networks = [
            keras.Sequential(
                [
                    keras.Input((math.prod(shape) + math.prod(model.x_shape),)),
                    keras.layers.Dense(self.hidden, activation="tanh", dtype="float32"),
                    keras.layers.Dense(1, kernel_initializer="zeros", dtype="float32"),
                ]
            )
            for shape in model.layer_shapes
        ]
        super().prepare(model)

    def _control(self, objective, log_weights, perturbed, leaf, number, x):
        of_each, total = super()._control(objective, log_weights, perturbed, leaf, number, x)
        num_samples, batch_size = tf.unstack(tf.shape(log_weights))
        # Sizes are named, for a batch that may be empty.
        x_size = math.prod(x.shape[1:])
        z_size = self._networks[number].input_shape[1] - x_size
        soft = tf.reshape(leaf.soften(perturbed, 1.0), [num_samples * batch_size, z_size])
        flat = tf.tile(tf.reshape(x, [batch_size, x_size]), [num_samples, 1])
        inputs = tf.concat([soft, flat], axis=1)
        extra = tf.reshape(self._networks[number](inputs), [num_samples, batch_size])
        extra /= tf.cast(num_samples, tf.float32)
        of_all = tf.reduce_sum(extra, axis=0)
        linear = objectives.is_linear(objectives.for_encoder(objective))
        return of_each + (extra if linear else of_all), total + of_all

    def get_config(self):  # noqa: D102
        return {**super().get_config(), "hidden": self.hidden}


def _expand(values, like):
    """Return values `[K, B]` with as many axes as `like`."""
    ones = tf.ones(len(like.shape) - 2, tf.int32)
    return tf.reshape(values, tf.concat([tf.shape(values), ones], 0))
