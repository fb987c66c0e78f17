"""The one training loop: objective, estimator and number of samples are settings of `compile`."""

import numbers

import keras
import numpy as np
import tensorflow as tf

from tfvae import estimators, objectives
from tfvae.errors import InvalidArgument
from tfvae.models.averages import Averages
from tfvae.random import Stream, stream_seed

METRICS = ("loss", "elbo", "reconstruction", "kl")
KL_CHOICES = ("auto", "exact", "monte_carlo")


class LatentVariableModel(keras.Model):
    """A prior p(z), a decoder p(x|z) and an encoder q(z|x), trained on a bound on log p(x).

    Subclasses implement

    - `q_z_given_x(x, training)`, `p_z()`, `p_x_given_z(z, training)`: the distributions;
    - `log_weight_terms(x, z, q, exact_kl, training)`: the parts of log w, `[K, B]`;
    - `has_exact_kl()`: whether KL(q‖p) is known in closed form;
    - `check_data(x, name)`: refuse arrays that do not fit the model.

    Args:
        seed: with the step, decides all noise of training and evaluation.
    """

    def __init__(self, seed: int = 0, **kwargs):
        super().__init__(**kwargs)
        self.seed = seed
        # A variable of the model, not the optimizer's counter: it survives a new `compile`, counts
        # every batch under gradient accumulation, and is saved and resumed with the weights.
        self.step = self.add_weight(
            shape=(),
            initializer="zeros",
            dtype="int64",
            trainable=False,
            name="step",
            aggregation="only_first_replica",
        )
        self._averages = Averages(METRICS)

    def compile(
        self,
        optimizer="adam",
        objective="elbo",
        estimator="pathwise",
        num_samples: int = 1,
        beta: float = 1.0,
        kl_warmup_steps: int = 0,
        kl: str = "auto",
        **kwargs,
    ):
        """Set how the model is trained.

        The loss is  −mean over the batch of objective(log w),
        log w = log p(x|z) + β_t (log p(z) − log q(z|x)),  β_t = β · min(1, t / kl_warmup_steps)
        at training step t = 1, 2, ….
        Validation always uses the final β, so that `val_loss` is comparable over epochs.

        Args:
            optimizer: any Keras optimizer, by name or as an object.
            objective: a bound on log p(x): "elbo", "iwae", or a function `[K, B] -> [B]`.
            estimator: the gradient estimator: "pathwise".
            num_samples: K, the number of samples of z for each example.
            beta: weight of the KL term. At 1 the objective bounds log p(x).
            kl_warmup_steps: training steps over which β_t rises to `beta`; 0 for none.
            kl: "exact" uses the closed form of KL(q‖p) in place of its samples, "monte_carlo" does
                not, "auto" does where TFP knows it and the objective is linear in log w.
            kwargs: `jit_compile`, `steps_per_execution`, `run_eagerly`, `auto_scale_loss`, as in
                `keras.Model.compile`.

        Raises:
            InvalidArgument: a value that cannot be used, with what was expected.
        """
        for name in ("loss", "metrics", "weighted_metrics", "loss_weights"):
            if kwargs.get(name) is not None:
                raise InvalidArgument(
                    f"`compile` got `{name}`, but a latent-variable model is trained on a bound on "
                    "log p(x) and reports loss, elbo, reconstruction and kl by itself. "
                    "Use `objective=` ('elbo', 'iwae')."
                )
        _check_at_least("num_samples", num_samples, 1)
        _check_at_least("beta", beta, 0, numbers.Real)
        _check_at_least("kl_warmup_steps", kl_warmup_steps, 0)
        if kl not in KL_CHOICES:
            raise InvalidArgument(f"`kl` is {kl!r}; expected one of {', '.join(KL_CHOICES)}.")
        self.objective = objectives.get(objective)
        self.estimator = estimators.get(estimator)
        self.num_samples = num_samples
        self.beta = beta
        self.kl_warmup_steps = kl_warmup_steps
        self.kl = kl
        if kl == "exact" and not objectives.is_linear(self.objective):
            raise InvalidArgument(
                "`kl='exact'` needs an objective that is linear in the log-weights, such as "
                "'elbo': inside a logarithm the expectation may not be taken first. Use kl='auto'."
            )
        super().compile(optimizer=optimizer, **kwargs)
        self._compile_options = {
            name: kwargs[name]
            for name in ("jit_compile", "steps_per_execution", "run_eagerly", "auto_scale_loss")
            if name in kwargs
        }

    def get_compile_config(self):
        """Return what `compile_from_config` needs to compile a loaded model in the same way."""
        if not self.compiled:
            return None
        config = {
            "optimizer": self.optimizer,
            "objective": self.objective,
            "estimator": self.estimator,
            "num_samples": self.num_samples,
            "beta": self.beta,
            "kl_warmup_steps": self.kl_warmup_steps,
            "kl": self.kl,
            **self._compile_options,
        }
        return {k: keras.saving.serialize_keras_object(v) for k, v in config.items()}

    def compile_from_config(self, config):
        """Compile from the result of `get_compile_config`, the optimizer's variables included."""
        self.compile(**{k: keras.saving.deserialize_keras_object(v) for k, v in config.items()})
        if self.built:
            self.optimizer.build(self.trainable_variables)

    @property
    def uses_exact_kl(self) -> bool:
        """Whether training uses the closed form of KL(q‖p) (see `compile`)."""
        if self.kl == "monte_carlo" or not objectives.is_linear(self.objective):
            return False
        if not self.has_exact_kl():
            if self.kl == "exact":
                raise InvalidArgument(
                    "`kl='exact'`, but TFP knows no closed form of KL(q‖p) for this posterior and "
                    "prior. Use kl='auto' or kl='monte_carlo'."
                )
            return False
        return True

    @property
    def metrics(self):
        """The averages reported by `fit` and `evaluate`, in nats per example.

        `loss` is minus the objective; `elbo` = −(`reconstruction` + `kl`), at β = 1 whatever the
        objective; `reconstruction` = −E_q[log p(x|z)]; `kl` = KL(q(z|x)‖p(z)).
        """
        return [self._averages]

    def train_step(self, data):
        """Make one gradient step; nothing here waits for the host."""
        x, _, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        seed = stream_seed(self.seed, Stream.TRAIN, self.step)
        with tf.GradientTape() as tape:
            surrogate, terms = self._surrogate(x, self._current_beta(), seed, training=True)
            # `losses` holds what layers add, weight decay by `kernel_regularizer` among it.
            loss = _weighted_mean(-surrogate, sample_weight) + sum(self.losses)
            loss = loss / tf.distribute.get_strategy().num_replicas_in_sync
            scaled_loss = self.optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled_loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        self.step.assign_add(1)
        return self._update_metrics(surrogate, terms, sample_weight)

    def test_step(self, data):
        """Measure one batch, at the final β, with noise that is the same at every evaluation."""
        x, _, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        examples_before = self._averages.weight
        seed = stream_seed(self.seed, Stream.TEST, examples_before)
        surrogate, terms = self._surrogate(x, self.beta, seed, training=False)
        return self._update_metrics(surrogate, terms, sample_weight)

    def fit(self, x=None, y=None, *args, **kwargs):
        """Train; see `keras.Model.fit`. Labels, where the data has them, are not used.

        Raises:
            InvalidData: an array has another shape than the encoder's input, is not finite, or is
                outside the range that the likelihood gives a meaning to.
        """
        self._prepare(x, "x")
        validation = kwargs.get("validation_data")
        if validation is not None:
            first = validation[0] if isinstance(validation, (tuple, list)) else validation
            self._prepare(first, "validation_data")
        return super().fit(x, _labels(y, kwargs), *args, **kwargs)

    def evaluate(self, x=None, y=None, *args, **kwargs):
        """Average the metrics over data; see `keras.Model.evaluate`, and `tfvae.log_likelihood`."""
        self._prepare(x, "x")
        as_dict = kwargs.pop("return_dict", False)
        logs = super().evaluate(x, _labels(y, kwargs), *args, return_dict=True, **kwargs)
        return logs if as_dict else [logs[name] for name in METRICS]

    def _prepare(self, x, name):
        """Check arrays, and build networks that wait for the shape of the data."""
        if isinstance(x, np.ndarray):
            self.check_data(x, name)
        if not self.built:
            spec = x.element_spec if isinstance(x, tf.data.Dataset) else x
            spec = spec[0] if isinstance(spec, tuple) else spec
            self.build((None, *spec.shape[1:]))

    def _surrogate(self, x, beta, seed, training):
        x = tf.cast(x, tf.float32)
        return self.estimator(
            self.objective, self, x, self.num_samples, beta, seed, training=training
        )

    def _current_beta(self):
        if not self.kl_warmup_steps:
            return self.beta
        progress = tf.cast(self.step.value + 1, tf.float32) / self.kl_warmup_steps
        return self.beta * tf.minimum(1.0, progress)

    def _update_metrics(self, surrogate, terms, sample_weight):
        reconstruction = -tf.reduce_mean(terms.log_likelihood, axis=0)
        kl = tf.reduce_mean(terms.kl, axis=0)
        values = (-surrogate, -(reconstruction + kl), reconstruction, kl)
        self._averages.update_state(values, sample_weight)
        return self.get_metrics_result()


def _labels(y, options):
    """Keras passes sample weights on only beside labels: let the weights themselves stand in."""
    return options.get("sample_weight") if y is None else y


def _weighted_mean(values, sample_weight):
    """The mean over the batch; the only place where a loss is averaged."""
    if sample_weight is not None:
        values = values * tf.cast(sample_weight, values.dtype)
    return tf.reduce_mean(values)


def _check_at_least(name, value, minimum, kind=numbers.Integral):
    if not isinstance(value, kind) or not value >= minimum:
        what = "whole number" if kind is numbers.Integral else "number"
        raise InvalidArgument(f"`{name}` is {value!r}; expected a {what} of at least {minimum}.")
