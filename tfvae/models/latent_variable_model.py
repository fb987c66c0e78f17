"""Models with latents: the passes that draw them from q and from p, and what follows from these."""

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from tfvae import conditions, distributions, objectives
from tfvae._plain import checks
from tfvae.bound import Bound
from tfvae.distributions import tfd
from tfvae.errors import InvalidArgument
from tfvae.joint import Infer, Joint, StochasticLayer, representatives, sampler, values_of
from tfvae.likelihoods import Observed
from tfvae.models import joined_latents, step_memory
from tfvae.models.bound_training import BoundTraining
from tfvae.models.layer_losses import infer_with_losses
from tfvae.models.prior_start import start_at_examples
from tfvae.random import Stream, draw_seed, fold_in, make_seed

_DRAW_OF_X = 1 << 16  # the number of the stream of x, beyond those of the layers


class LatentVariableModel(BoundTraining):
    """A prior p(z), a decoder p(x|z) and an encoder q(z|x), trained on a bound on log p(x).

    The latent z has one or more stochastic layers z_1, …, z_L, z_1 next to x. Subclasses set
    `likelihood`, and implement

    - `bottom_up(x, training, condition)`: the features of x for inference, without any draw;
    - `infer(h, draw, training, condition)`: the pass that draws the layers from q, given h;
    - `generate(draw, training, condition)`: the pass that draws them from p;
    - `posterior_of_layer`, `layer_shapes`: the family of q and the shape of each layer;
    - `generative_parts`: the layers whose weights p(x, z) has;
    - `parts_given_condition`, if it may have a condition;
    - `latent_shape`, `x_shape`: shapes of one latent and one example, known once built.

    `tfvae.joint` says what a pass is. Outside of it a latent is one tensor: that of the only layer,
    or all layers flattened and joined, z_1 first, `[B, D_1 + … + D_L]`.

    With a condition y the model is p(x|y), with p(z|y), p(x|z, y) and q(z|x, y), each given y if it
    takes it. The three passes get c(y) `[B, C]`, see `tfvae.conditions`; every other method takes
    `condition` as labels or vectors `[B, ...]`, or one for all, and needs it.

    Calling the model on x gives reconstructions, E[x | z = E[z|x]]; so does `predict`.

    Args:
        num_layers: L.
        seed: with the step, decides all noise of training and evaluation.
        condition: what y is: a number of classes, the shape `(C,)` of vectors, or None.

    Attributes:
        condition: a `tfvae.conditions.Condition`, or None.
    """

    takes_condition_instead = "prior='conditional_normal' or prior='flow'"
    never_called: ClassVar = BoundTraining.never_called | {
        "infer": {
            "q_z_given_x": "Override `bottom_up(self, x, training)`, whose result q(z|x) is made "
            "of, or give the model a Posterior of your own.",
            "p_z": "Give the model a Prior of your own.",
            "p_x_given_z": "Give the model a Likelihood of your own.",
        }
    }

    @property
    def latent_kinds(self) -> tuple[str, ...]:
        """The kind of each stochastic layer, "continuous", "bernoulli" or "categorical"."""
        return tuple(posterior.kind for posterior in self.posterior_of_layer)

    def start_from_data(self, x, y):
        """Give training examples to a prior that starts at some."""
        if not self.prior.started and self.prior.num_examples_to_start:
            start_at_examples(self.prior, self.likelihood, x)

    # What a subclass implements: the passes.

    def bottom_up(
        self, x: tf.Tensor, training: bool = False, condition: tf.Tensor | None = None
    ) -> Any:
        """Return the features of x `[B, *x_shape]` for inference, without any draw."""
        raise NotImplementedError

    def infer(
        self, h: Any, draw: Callable, training: bool = False, condition: tf.Tensor | None = None
    ) -> tuple[tuple[StochasticLayer, ...], tf.Tensor]:
        """Draw the layers from q, and return them and the parameters of p(x|z), `[K, B, ...]`.

        Args:
            h: the result of `bottom_up`, or what takes its place, such as a free posterior.
            draw: see `tfvae.joint`.
            training: whether the networks run in training mode.
            condition: c(y), `[B, C]`, or None.
        """
        raise NotImplementedError

    def generate(
        self, draw: Callable, training: bool = False, condition: tf.Tensor | None = None
    ) -> tuple[tuple[StochasticLayer, ...], tf.Tensor]:
        """Draw the layers from p, and return them and the parameters of p(x|z), `[N, ...]`."""
        raise NotImplementedError

    # What follows from them.

    @property
    def inference_variables(self) -> list[keras.Variable]:
        """Trainable variables of q(z|x), which are neither of p(x, z) nor of the estimator."""
        others = (*self.generative_parts, self.estimator)
        skip = {id(v) for part in others if part is not None for v in part.trainable_variables}
        return [v for v in self.trainable_variables if id(v) not in skip]

    def inference(
        self,
        x: tf.Tensor,
        training: bool = False,
        h: Any = None,
        condition: np.ndarray | tf.Tensor | int | None = None,
        seed: tf.Tensor | None = None,
        counts_losses: bool = False,
    ) -> Infer:
        """Return the pass over a batch, from a `draw` to a `Joint`; x goes bottom up once.

        All its passes have the same noise of layers such as Dropout, so that the layers drawn in
        one have the same q and p in another that replays them. The losses that layers add, by
        `add_loss` or `activity_regularizer`, are those of the first pass.

        Args:
            x: examples, `[B, *x_shape]`.
            training: whether the networks run in training mode.
            h: what takes the place of `bottom_up(x)`.
            condition: y, `[B, ...]` or one for all.
            seed: `[2]` int32 of the latents, for what a likelihood draws; see `Likelihood.weigh`.
            counts_losses: whether q is trained on what layers add to the loss in the first pass.

        Raises:
            InvalidArgument: `counts_losses` is true, and layers add losses that depend on latents
                which are drawn without a gradient: q could not learn its part of them.
        """
        x = tf.cast(x, tf.float32)
        c = self.encode_condition(condition, tf.shape(x)[0])
        h = self.bottom_up(x, training, **conditions.as_argument(c)) if h is None else h
        given = conditions.as_argument(c)
        put_noise_back = self.repeatable_noise() if training else lambda: None
        put_losses_back = None

        def infer(draw):
            nonlocal put_losses_back
            put_noise_back()
            if put_losses_back is not None:
                layers, x_params = self.infer(h, draw, training, **given)
                put_losses_back()
            elif counts_losses:
                layers, x_params = infer_with_losses(self, h, draw, given)
            else:
                layers, x_params = self.infer(h, draw, training, **given)
            put_losses_back = put_losses_back or self.repeatable_losses()
            p_x = self._p_x(x_params)
            log_likelihood, of_x = self.likelihood.weigh(p_x, x, seed)
            return Joint(layers, log_likelihood, p_x, of_x, x_params)

        return infer

    def log_joint(
        self,
        x: tf.Tensor,
        z: tf.Tensor,
        training: bool = False,
        condition: np.ndarray | tf.Tensor | int | None = None,
    ) -> tf.Tensor:
        """Return log p(x, z) = log p(x|z) + log p(z) in nats, `[K, B]`.

        Args:
            x: examples, `[B, *x_shape]`.
            z: latents, `[K, B, *latent_shape]`.
            training: whether the networks run in training mode.
            condition: y, `[B, ...]` or one for all.
        """
        log_likelihood, log_p = self.log_joint_terms(x, z, training, condition)
        return log_likelihood + log_p

    def log_joint_terms(
        self,
        x: np.ndarray | tf.Tensor,
        z: np.ndarray | tf.Tensor,
        training: bool = False,
        condition: np.ndarray | tf.Tensor | int | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Return log p(x|z) and log p(z) in nats, each `[K, B]`; see `log_joint`."""
        x, z = tf.cast(x, tf.float32), tf.cast(z, tf.float32)
        c = self.encode_condition(condition, tf.shape(x)[0])
        layers, x_params = self.generate(
            values_of(self.split(z)), training, **conditions.as_argument(c)
        )
        log_p = sum(layer.log_p() for layer in layers)
        return self.likelihood.weigh(self._p_x(x_params), x)[0], log_p

    def log_weights(
        self,
        x: np.ndarray | tf.Tensor,
        num_samples: int,
        seed: int = 0,
        condition: np.ndarray | tf.Tensor | int | None = None,
    ) -> tf.Tensor:
        """Return log p(x|z) + log p(z) − log q(z|x) for z ~ q(z|x), `[num_samples, B]`.

        Raises:
            InvalidArgument: `num_samples` is no whole number of at least 1, or a condition is
                missing or not wanted.
        """
        checks.whole("num_samples", num_samples)
        seed = fold_in(make_seed(seed), int(Stream.EVALUATE))
        infer = self.inference(x, condition=condition, seed=seed)
        joint = infer(sampler(num_samples, seed))
        return Bound(objectives.elbo).terms(joint).log_weights()

    def p_x_given_z(
        self,
        z: tf.Tensor,
        training: bool = False,
        condition: np.ndarray | tf.Tensor | int | None = None,
    ) -> tfd.Distribution:
        """Return p(x|z), with the leading axes of z as its batch: `[B]` or `[K, B]`."""
        return self._p_x(self.x_parameters(z, training, condition))

    def x_parameters(
        self,
        z: tf.Tensor,
        training: bool = False,
        condition: np.ndarray | tf.Tensor | int | None = None,
    ) -> tf.Tensor:
        """Return the parameters of p(x|z), as `likelihood` takes them, `[..., *params_shape]`."""
        batch_ndims = len(z.shape) - len(self.latent_shape)
        c = self.encode_condition(condition, tf.shape(z)[batch_ndims - 1])
        return self.generate(values_of(self.split(z)), training, **conditions.as_argument(c))[1]

    def _p_x(self, x_params):
        return self.likelihood(x_params, len(x_params.shape) - len(self.x_shape))

    def split(self, z: tf.Tensor) -> list[tf.Tensor]:
        """Return the values of the layers of a latent, `[..., *latent_shape]`."""
        return joined_latents.split(z, self.layer_shapes)

    def join(self, values: list) -> tf.Tensor:
        """Return the latent whose layers have these values: the inverse of `split`."""
        return joined_latents.join(values, self.layer_shapes)

    def call(self, x, training=False, condition=None):
        """Return reconstructions, the mean of p(x|z) at what `encode` gives."""
        p_x = self._p_x(self._at_representatives(x, training, condition)[1])
        return distributions.representative(p_x)

    def _at_representatives(self, x, training, condition):
        """Return the layers, each at the point that represents q, and the parameters of p(x|z)."""
        x = tf.cast(x, tf.float32)
        c = self.encode_condition(condition, tf.shape(x)[0])
        h = self.bottom_up(x, training, **conditions.as_argument(c))
        try:
            return self.infer(h, representatives, training, **conditions.as_argument(c))
        except NotImplementedError as error:
            raise InvalidArgument(
                "The mean of q(z|x), which `encode`, `predict` and reconstructions are made of, is "
                f"not known for this posterior: {error}. Give its distribution a `_mean` or a "
                "method `representative`."
            ) from error

    def encode(
        self,
        x: np.ndarray | tf.Tensor,
        *,
        training: bool = False,
        condition: np.ndarray | tf.Tensor | int | None = None,
    ) -> tf.Tensor:
        """Return the point that represents q(z|x), `[B, *latent_shape]`: its mean, if it has one.

        With several layers, each is conditioned on the points of the layers drawn before.
        """
        layers, _ = self._at_representatives(x, training, condition)
        return self.join([layer.z for layer in layers])

    def decode(
        self,
        z: np.ndarray | tf.Tensor,
        *,
        training: bool = False,
        condition: np.ndarray | tf.Tensor | int | None = None,
    ) -> tf.Tensor:
        """Return the mean of p(x|z), `[B, *x_shape]`; images in [0, 1]."""
        p_x = self.p_x_given_z(tf.cast(z, tf.float32), training, condition)
        return distributions.representative(p_x)

    def draw(
        self,
        seed: tf.Tensor,
        index: tf.Tensor,
        temperature: float | Sequence[float] = 1.0,
        condition: np.ndarray | tf.Tensor | int | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Return draws number `index` of the stream `seed`: latents, and means or draws of x.

        A function of its arguments alone, made of operators that LiteRT has; see
        `tfvae.distributions.draw`.

        Args:
            seed: `[2]` int32.
            index: `[N]` int32.
            temperature: of all layers, or a list of one for each, z_1 first.
            condition: y, `[N, ...]` or one for all.
        """
        drawn = []
        c = self.encode_condition(condition, tf.shape(index)[0])

        def draw(number, p):
            layer_seed = draw_seed(seed, len(drawn))
            drawn.append(number)
            one = isinstance(temperature, (list, tuple))
            of_layer = temperature[number] if one else temperature
            return distributions.draw(p, layer_seed, index, of_layer)

        layers, x_params = self.generate(draw, **conditions.as_argument(c))
        p_x = self._p_x(x_params)
        if self.likelihood.draws_values:
            x = distributions.draw(p_x, draw_seed(seed, _DRAW_OF_X), index)
        else:
            x = distributions.representative(p_x)
        return self.join([layer.z for layer in layers]), x

    def sample(
        self,
        n: int,
        seed: int = 0,
        temperature: float = 1.0,
        condition: np.ndarray | tf.Tensor | int | None = None,
    ) -> tf.Tensor:
        """Return n examples, means of p(x|z) for z ~ p(z), `[n, *x_shape]`.

        For a table they are draws of x, as the likelihood says (`draws_values`); the temperature
        then changes z alone.

        The first examples of a longer sample are those of a shorter one with the same seed, and the
        exported decoders draw the same ones.

        Args:
            n: how many.
            seed: any integer.
            temperature: scales the spread of z; below 1, images are closer to the average one. Of
                several stochastic layers, a list sets that of each, z_1 first.
            condition: of what to draw images, y: labels `[n]` or vectors `[n, C]`, or one for all.

        Raises:
            InvalidArgument: n is below 1, or more than memory holds, a temperature is negative or
                not finite, or a condition is missing or not wanted.
            InvalidData: conditions of another type or shape, or out of range.
        """
        checks.whole("n", n)
        temperatures = [checks.temperature(value) for value in np.ravel(temperature)]
        if len(temperatures) not in (1, len(self.layer_shapes)):
            raise InvalidArgument(
                f"`sample` got {len(temperatures)} temperatures; expected one, or one for each of "
                f"the {len(self.layer_shapes)} stochastic layers."
            )
        self.check_count(n)
        temperature = temperatures[0] if len(temperatures) == 1 else temperatures
        index = tf.range(n, dtype=tf.int32)
        with self.blaming_file():
            return self.draw(make_seed(seed), index, temperature, condition)[1]

    def check_step(self, batch_size):
        step_memory.check(self, self.num_samples, batch_size)
        objectives.check_shape(self.objective, self.num_samples)

    def finish_build(self, x_shape: tuple[int, ...] | None) -> None:
        """Build the prior, and check that all parts fit, once the networks are built.

        Args:
            x_shape: of the examples, for a prior that is made of the q of the top layer; None where
                the model cannot give it one.

        Raises:
            InvalidArgument: a condition that no part takes, or that a prior made of the encoder
                would need; units of another number of values than x; or an encoder that returns NaN
                for missing values.
        """
        top, prior, condition = self.posterior_of_layer[-1], self.prior, self.condition
        prior.connect(top, x_shape, self.likelihood.support)
        if not prior.built:
            takes = condition is not None and prior.takes_condition
            prior.build(self.layer_shapes[-1], *([condition.size] if takes else []))
        self.check_condition_is_used()
        self.check_units_fit()
        if "encode" in self.uses_of_condition and prior.num_examples_to_start:
            raise InvalidArgument(
                f"The prior {type(prior).__name__} is made of q(z|x), but the encoder has a second "
                "input, the condition. Use prior='conditional_normal' or prior='flow', or an "
                "encoder without `condition_size=`."
            )
        self.check_missing()
        if self.settings is not None:
            self.prepare(self.settings)
        self.built = True

    def check_missing(self) -> None:
        """Refuse an encoder that returns NaN for missing values, if the likelihood takes them.

        Raises:
            InvalidArgument: with what takes them.
        """
        if not isinstance(self.likelihood, Observed):
            return
        x, y = self._example(1)
        given = conditions.as_argument(self.encode_condition(y, 1))
        features = tf.nest.flatten(self.bottom_up(x * math.nan, **given))
        if not all(bool(tf.reduce_all(tf.math.is_finite(part))) for part in features):
            raise InvalidArgument(
                "The likelihood is Observed, but for an example with missing values the encoder "
                "returns NaN. Build it with missing=True, or begin your own with "
                "tfvae.networks.ZeroImputation()."
            )
