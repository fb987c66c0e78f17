"""REBAR and RELAX: the likelihood ratio with a relaxation of the latents as control variate."""

import math

import keras
import tensorflow as tf

from tfvae._plain.checks import between, positive, whole
from tfvae.bound import Bound, by_layer
from tfvae.errors import InvalidFile
from tfvae.estimators.estimator import (
    REGISTRY,
    Drawn,
    Estimate,
    Estimator,
    by_sample,
    discrete_sampler,
    objective_gradient,
    of_layer,
    sum_event,
)
from tfvae.estimators.score_function import signal
from tfvae.joint import Infer, replay
from tfvae.optimizers import Clip, ScaleFreeAdam
from tfvae.random import fold_in
from tfvae.surrogates import gradient_only

# Outside of these limits a relaxation is a step function or a constant, and c is useless.
_TEMPERATURES = (0.05, 10.0)
_SCALES = (1e-3, 10.0)


@REGISTRY.register("rebar")
class REBAR(Estimator):
    """The likelihood ratio less its value at a relaxed sample, corrected through the relaxation.

    With perturbed logits ζ = g(u, α), z = harden(ζ), ζ̃ ~ ζ | z and c(ζ) = η f(soften(ζ, τ)), the
    gradient in the logits α is

        (f(z) − c(ζ̃)) ∇ log q(z) + ∇ c(ζ) − ∇ c(ζ̃),

    unbiased for any η and τ. Both are trained to lower its squared norm, on their logarithms, by
    Adam, whose steps do not depend on the size of that norm and so not on the model's optimizer.
    Stochastic layers are taken one at a time; in c, those above are relaxed with it. The decoder
    runs 1 + 2·layers times.

    Source: Tucker et al. 2017, "REBAR: low-variance, unbiased gradient estimates for discrete
    latent variable models", eq. 8 and app. C.

    Args:
        temperature: τ at the start, from 0.05 to 10.
        scale: η at the start, from 0.001 to 10.
        learning_rate: of log τ and log η.

    Raises:
        InvalidArgument: a value that cannot be used.
    """

    latents = ("bernoulli", "categorical")

    def __init__(
        self,
        temperature: float = 0.5,
        scale: float = 1.0,
        learning_rate: float = 0.01,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.temperature = between("temperature", temperature, *_TEMPERATURES)
        self.scale = between("scale", scale, *_SCALES)
        self.learning_rate = positive("learning_rate", learning_rate)

    def prepare(self, model, bound):
        if self.built:
            return

        def bounded(name, value, bounds):
            return self.add_weight(
                shape=(),
                initializer=keras.initializers.Constant(math.log(value)),
                constraint=Clip(*map(math.log, bounds)),
                trainable=False,
                autocast=False,
                name=name,
                dtype="float32",
            )

        self._log_temperature = bounded("log_temperature", self.temperature, _TEMPERATURES)
        self._log_scale = bounded("log_scale", self.scale, _SCALES)
        self._optimizer = ScaleFreeAdam(self, self.control_variables, self.learning_rate)
        self.built = True

    def load_own_variables(self, store):
        """Load the weights.

        Raises:
            InvalidFile: the file is from before η and τ were trained by themselves.
        """
        # Of an empty store, of a model that had another estimator, Keras says what is missing.
        if len(store.keys()) not in (0, len(self._non_trainable_variables)):
            raise InvalidFile(
                f"The weights of the estimator {self.name!r} in the file were written by a "
                "development version of tfvae 0.1.0. Load the model without them, with "
                "keras.saving.load_model(path, compile=False), and compile it again."
            )
        super().load_own_variables(store)

    @property
    def control_variables(self) -> list:
        """The variables of c, which are trained to lower the squared norm of the gradient."""
        return [self._log_temperature, self._log_scale]

    def estimate(self, bound, infer, context, seed, training):
        draw, drawn = discrete_sampler(bound.num_samples, lambda n: fold_in(seed, 0, n))
        joint = infer(draw)
        terms = bound.terms(joint)
        log_w = bound.log_weights(terms)
        surrogate = bound.objective(log_w + gradient_only(bound.weighted_log_q(joint)))
        signals = _signals(bound, log_w, len(joint.layers))

        own = [variable.value for variable in self.control_variables] if training else []
        slopes = [tf.zeros_like(variable) for variable in own]
        for number, layer in drawn.items():
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(own)
                noise = layer.q.draw_noise(layer.sample_shape, fold_in(seed, 1, number))
                f = signals[number]
                gradient = self._in_logits(bound, infer, drawn, number, noise, f, context)
                squared_norm = _squared_norm(bound, layer, gradient)
            constant = tf.stop_gradient(gradient)
            surrogate += gradient_only(tf.reduce_sum(sum_event(constant * layer.q.logits), axis=0))
            if own:
                of_this = tape.gradient(
                    squared_norm, own, unconnected_gradients=tf.UnconnectedGradients.ZERO
                )
                slopes = [a + b for a, b in zip(slopes, of_this, strict=True)]
        return Estimate(surrogate, terms, slopes or None)

    def _in_logits(self, bound, infer, drawn, number, leaf_noise, f, context):
        """Return the gradient in the logits α of one layer, `[K, B, *shape]` (Tucker et al. eq. 8).

        Args:
            bound: what is estimated.
            infer: the pass.
            drawn: the layers as they were drawn, in order.
            number: of the layer.
            leaf_noise: uniforms of ζ̃ ~ ζ | z.
            f: the learning signal of the layer, `[K, B]`.
            context: the batch.
        """
        layer = drawn[number]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            alpha = tf.stop_gradient(tf.broadcast_to(layer.q.logits, tf.shape(layer.noise)))
            tape.watch(alpha)
            leaf = type(layer.q)(alpha, batch_ndims=2)
            zeta = leaf.perturb(layer.noise)
            zeta_given_z = leaf.perturb_given(layer.z, leaf_noise)
            _, c = self._control(bound, infer, drawn, number, leaf, zeta, context)
            c_by_sample, c_given_z = self._control(
                bound, infer, drawn, number, leaf, zeta_given_z, context
            )
            total = tf.reduce_sum(c - c_given_z)
        score = of_layer(f - c_by_sample, layer.z) * tf.stop_gradient(layer.q.score(layer.z))
        return score + tape.gradient(total, alpha)

    def _control(self, bound, infer, drawn, number, leaf, zeta, context):
        """Return c(ζ) = η f(soften(ζ, τ)) for every sample, `[K, B]`, and in all, `[B]`."""
        tau = tf.exp(self._log_temperature.value)
        log_w = _relaxed_log_weights(bound, infer, drawn, number, leaf.soften(zeta, tau), tau)
        of_each, total = by_sample(bound.objective, log_w)
        eta = tf.exp(self._log_scale.value)
        return eta * of_each, eta * total

    def update(self, statistics):
        self._optimizer.step(statistics)

    def get_config(self):
        own = {"temperature": self.temperature, "scale": self.scale}
        return {**super().get_config(), **own, "learning_rate": self.learning_rate}


def _signals(bound: Bound, log_weights, num_layers):
    """Return the factor of ∇ log q(z_l | …) for each layer, `[K, B]`, as constants.

    It is the learning signal f and, in an objective that is no mean of log-weights, the derivative
    through log q at fixed z besides.
    """
    f = signal(bound, log_weights)
    if bound.is_linear:
        return [f] * num_layers
    at_fixed_z = objective_gradient(bound.objective, log_weights)
    return [f - tf.stop_gradient(beta) * at_fixed_z for beta in by_layer(bound.beta, num_layers)]


def _squared_norm(bound: Bound, layer: Drawn, gradient):
    """Return what the control variables lower: the squared norm, of `[K, B, *shape]`, in all.

    The samples of the layer that is drawn first share their logits, whose gradient is the sum over
    K. Of a mean of log-weights, the samples are independent: the products of two of their gradients
    have an expectation that no control variable changes, and are left out as noise.
    """
    if layer.sample_shape and not bound.is_linear:
        gradient = tf.reduce_sum(gradient, axis=0)
    return tf.reduce_sum(gradient**2)


def _relaxed_log_weights(bound: Bound, infer: Infer, drawn: dict[int, Drawn], number, soft, tau):
    """Return the log-weights `[K, B]` with one layer relaxed, and those drawn after it.

    If those layers were drawn again, c would jump with ζ, and its derivative would miss the jumps.
    """
    order = list(drawn)
    before = {n: drawn[n].z for n in order[: order.index(number)]}

    def relaxed(other, q):
        z = q.soften(q.perturb(drawn[other].noise), tau)
        return z, q.log_prob(z)

    joint = infer(replay({**before, number: soft}, relaxed))
    return bound.log_weights(bound.terms(joint))


@REGISTRY.register("relax")
class RELAX(REBAR):
    """REBAR with a network r beside the relaxation: c(ζ) = η f(soften(ζ, τ)) + r(soften(ζ, 1), x).

    r has one hidden layer and starts at 0, so RELAX starts as REBAR. It is trained, as η and τ are,
    to lower the squared norm of the gradient in the logits.

    Source: Grathwohl et al. 2018, "Backpropagation through the void", eq. 8 and app. C.1.

    Args:
        hidden: units of r's hidden layer.
        temperature: τ at the start, from 0.05 to 10.
        scale: η at the start, from 0.001 to 10.
        learning_rate: of log τ, log η and the weights of r.
    """

    def __init__(
        self,
        hidden: int = 100,
        temperature: float = 0.5,
        scale: float = 1.0,
        learning_rate: float = 0.01,
        **kwargs,
    ):
        super().__init__(temperature, scale, learning_rate, **kwargs)
        self.hidden = whole("hidden", hidden)

    def prepare(self, model, bound):
        if self.is_prepared_for(
            x_shape=tuple(model.x_shape), layer_shapes=tuple(map(tuple, model.layer_shapes))
        ):
            return
        self._networks = [ControlNetwork(self.hidden) for _ in model.layer_shapes]
        for network, shape in zip(self._networks, model.layer_shapes, strict=True):
            network.build((None, math.prod(shape) + math.prod(model.x_shape)))
        super().prepare(model, bound)

    @property
    def control_variables(self):
        return super().control_variables + [w for net in self._networks for w in net.weights]

    def _control(self, bound, infer, drawn, number, leaf, zeta, context):
        of_each, total = super()._control(bound, infer, drawn, number, leaf, zeta, context)
        extra = self._r(number, leaf.soften(zeta, 1.0), context)  # [K, B]
        of_all = tf.reduce_sum(extra, axis=0)
        return of_each + (extra if bound.is_linear else of_all), total + of_all

    def _r(self, number, soft, x):
        """Return r(soften(ζ, 1), x) / K, `[K, B]`."""
        num_samples, batch_size = tf.unstack(tf.shape(soft)[:2])
        # Sizes are named, for a batch that may be empty.
        x_size = math.prod(x.shape[1:])
        z_size = self._networks[number].size - x_size
        flat_z = tf.reshape(soft, [num_samples * batch_size, z_size])
        flat_x = tf.tile(tf.reshape(x, [batch_size, x_size]), [num_samples, 1])
        values = self._networks[number](tf.concat([flat_z, flat_x], axis=1))
        return tf.reshape(values, [num_samples, batch_size]) / tf.cast(num_samples, tf.float32)

    def get_config(self):
        return {**super().get_config(), "hidden": self.hidden}


class ControlNetwork(keras.layers.Layer):
    """r: one hidden layer of tanh, and an output that starts at 0.

    The estimator trains its weights. They are none that Keras trains, whatever `trainable` of the
    model is set to.
    """

    def __init__(self, hidden, **kwargs):
        super().__init__(dtype="float32", **kwargs)
        self.hidden = hidden

    def build(self, input_shape):
        def weight(name, shape, initializer):
            return self.add_weight(
                shape=shape, initializer=initializer, trainable=False, name=name, autocast=False
            )

        self.size = input_shape[-1]
        self._kernel = weight("kernel", (self.size, self.hidden), "glorot_uniform")
        self._bias = weight("bias", (self.hidden,), "zeros")
        self._slope = weight("slope", (self.hidden, 1), "zeros")
        self._level = weight("level", (1,), "zeros")
        self.built = True

    def call(self, inputs):
        hidden = tf.tanh(tf.matmul(inputs, self._kernel.value) + self._bias.value)
        return tf.matmul(hidden, self._slope.value) + self._level.value
