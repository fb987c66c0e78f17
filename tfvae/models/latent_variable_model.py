"""The one training loop: objective, estimator and number of samples are settings of `compile`."""

import numbers

import tensorflow as tf
import tensorflow_probability as tfp

from tfvae import estimators, objectives
from tfvae.errors import InvalidArgument
from tfvae.models.generative_model import GenerativeModel
from tfvae.random import Stream, fold_in, make_seed, stream_seed

METRICS = ("loss", "elbo", "reconstruction", "kl")
KL_CHOICES = ("auto", "exact", "monte_carlo")


class LatentVariableModel(GenerativeModel):
    """A prior p(z), a decoder p(x|z) and an encoder q(z|x), trained on a bound on log p(x).

    Subclasses set `prior`, a `tfvae.priors.Prior`, and `likelihood`, and implement

    - `q_z_given_x(x, training)`, `p_x_given_z(z, training)`: the distributions;
    - `x_parameters(z)`: the decoder's output;
    - `exact_kl(q)`: KL(q‖p) of each latent unit, `[B, U]`, where it is known in closed form;
    - `latent_kinds`: the kind of each stochastic layer, "continuous", "bernoulli", "categorical";
    - `layer_shapes`: the shape of each stochastic layer;
    - `latent_shape`, `x_shape`: shapes of one latent and one example, known once built.

    Calling the model on x gives reconstructions, E[x | z = E[z|x]]; so does `predict`.

    Args:
        seed: with the step, decides all noise of training and evaluation.
    """

    instead_of_loss = "Use `objective=` ('elbo', 'iwae')."
    better = GenerativeModel.better | {"elbo": "max", "reconstruction": "min", "kl": None}

    def __init__(self, seed: int = 0, **kwargs):
        super().__init__(METRICS, seed, **kwargs)

    def compile(
        self,
        optimizer="adam",
        objective="elbo",
        estimator=None,
        num_samples: int = 1,
        beta: float = 1.0,
        kl_warmup_steps: int = 0,
        kl: str = "auto",
        free_bits: float = 0.0,
        **kwargs,
    ):
        """Set how the model is trained.

        The loss is  −mean over the batch of objective(log w),
        log w = log p(x|z) + β_t (log p(z) − log q(z|x)),  β_t = β · min(1, t / kl_warmup_steps)
        at training step t = 1, 2, ….
        Validation always uses the final β, so that `val_loss` is comparable over epochs.

        Args:
            optimizer: any Keras optimizer, by name or as an object.
            objective: a bound on log p(x): "elbo", "iwae", another of
                `tfvae.objectives.REGISTRY.names()`, an object, or a function `[K, B] -> [B]`.
            estimator: the gradient estimator, one of `tfvae.estimators.REGISTRY.names()` or an
                object; by default the only one that the objective goes with, or "pathwise".
            num_samples: K, the number of samples of z for each example.
            beta: weight of the KL term. At 1 the objective bounds log p(x).
            kl_warmup_steps: training steps over which β_t rises to `beta`; 0 for none.
            free_bits: λ, nats of KL that each latent unit may use at no cost: the loss counts
                Σ_u max(λ, KL_u) for every example; Kingma et al. 2016, "Improved variational
                inference with inverse autoregressive flow", app. C.8, have it for the mean over a
                batch. The metrics show the KL itself.
            kl: "exact" uses the closed form of KL(q‖p) in place of its samples, "monte_carlo" does
                not, "auto" does where TFP knows it and the objective is linear in log w.
            kwargs: `jit_compile`, `steps_per_execution`, `run_eagerly`, `auto_scale_loss`, as in
                `keras.Model.compile`.

        Raises:
            InvalidArgument: a value that cannot be used, with what was expected.
        """
        _check_at_least("num_samples", num_samples, 1)
        _check_at_least("beta", beta, 0, numbers.Real)
        _check_at_least("kl_warmup_steps", kl_warmup_steps, 0)
        _check_at_least("free_bits", free_bits, 0, numbers.Real)
        if kl not in KL_CHOICES:
            raise InvalidArgument(f"`kl` is {kl!r}; expected one of {', '.join(KL_CHOICES)}.")
        objective = objectives.get(objective)
        objectives.check(objective, num_samples)
        if estimator is None:
            estimator = getattr(objective, "estimator", "pathwise")
        estimator = estimators.get(estimator)
        estimator.check(self.latent_kinds, objective, num_samples)
        self._check_kl(kl, free_bits, objective, estimator)
        if objective is objectives.exact and (beta != 1 or kl_warmup_steps):
            raise InvalidArgument(
                "The objective 'exact' is log p(x), which has no KL term to weigh: leave `beta` at "
                "1 and `kl_warmup_steps` at 0, or use objective='elbo'."
            )
        self.objective = objective
        self.num_samples = num_samples
        self.beta = beta
        self.kl_warmup_steps = kl_warmup_steps
        self.kl = kl
        self.free_bits = free_bits
        self._attached.hold(estimator=estimator)
        if self.built:
            estimator.prepare(self)
        super().compile(optimizer, **kwargs)

    def compile_arguments(self):  # noqa: D102
        names = ("num_samples", "beta", "kl_warmup_steps", "kl", "free_bits")
        parts = {"objective": self.objective, "estimator": self.estimator}
        return parts | {name: getattr(self, name) for name in names}

    def variables_of_training(self):
        """Return the variables of the estimator."""
        return [] if self.estimator is None else self.estimator.variables

    @property
    def estimator(self):
        """The gradient estimator, an `estimators.Estimator`."""
        return getattr(self._attached, "estimator", None)

    @property
    def uses_exact_kl(self) -> bool:
        """Whether training uses the closed form of KL(q‖p) (see `compile`)."""
        may = objectives.is_linear(self.objective) and self.estimator.takes_exact_kl
        if self.kl == "monte_carlo" or not may:
            return False
        if not self.has_exact_kl():
            if self.kl == "exact" or self.free_bits:
                raise InvalidArgument(
                    "`kl='exact'` and `free_bits` need KL(q‖p) in closed form, which TFP does not "
                    "know for this posterior and prior. Use kl='auto' or kl='monte_carlo', and "
                    "free_bits=0."
                )
            return False
        return True

    def p_z(self) -> tfp.distributions.Distribution:
        """Return the prior p(z)."""
        return self.prior.distribution()

    def log_weight_terms(self, x, z, log_q, training: bool = False) -> objectives.LogWeightTerms:
        """Return the parts of log w.

        Args:
            x: examples, `[B, *x_shape]`.
            z: latents, `[K, B, *latent_shape]`.
            log_q: log q(z|x), or the log-density of whatever z was drawn from, `[K, B]`.
            training: whether the networks run in training mode.
        """
        log_likelihood = self.p_x_given_z(z, training).log_prob(x)
        return objectives.LogWeightTerms(log_likelihood, log_q - self.p_z().log_prob(z))

    def log_weights(self, x, num_samples: int, seed: int = 0) -> tf.Tensor:
        """Return log p(x|z) + log p(z) − log q(z|x) for z ~ q(z|x), `[num_samples, B]`."""
        x = tf.cast(x, tf.float32)
        q = self.q_z_given_x(x)
        z = q.sample(num_samples, seed=fold_in(make_seed(seed), int(Stream.EVALUATE)))
        return self.log_weight_terms(x, z, q.log_prob(z)).log_weights()

    def call(self, x, training=False):
        """Return reconstructions, the mean of p(x|z) at the mean of q(z|x)."""
        return self.decode(self.encode(x, training), training)

    def encode(self, x, training=False) -> tf.Tensor:
        """Return the mean of q(z|x), `[B, *latent_shape]`."""
        try:
            return self.q_z_given_x(tf.cast(x, tf.float32), training).mean()
        except NotImplementedError as error:
            raise InvalidArgument(
                "The mean of q(z|x), which `encode`, `predict` and reconstructions are made of, is "
                f"not known for this posterior: {error}. Give its distribution a `_mean`, or draw "
                "with `model.q_z_given_x(x).sample()`."
            ) from error

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

    @property
    def metrics(self):
        """The averages reported by `fit` and `evaluate`, in nats per example.

        `loss` is minus the objective; `elbo` = −(`reconstruction` + `kl`), at β = 1 whatever the
        objective; `reconstruction` = −E_q[log p(x|z)]; `kl` = KL(q(z|x)‖p(z)).
        """
        return super().metrics

    def train_step(self, data):
        """Make one gradient step; nothing here waits for the host."""
        x, y, sample_weight = self._begin_step(data)
        seed = stream_seed(self.seed, Stream.TRAIN, self.step)
        with tf.GradientTape() as tape:
            estimate = self._estimate(x, self._current_beta(), seed, training=True)
            loss = self._total_loss(-estimate.surrogate, x, y, training=True)
            scaled_loss = self._scaled_loss(loss, sample_weight)
        self._minimize(tape, scaled_loss)
        if estimate.statistics is not None:
            self.estimator.update(estimate.statistics)
        return self._update_metrics(estimate, loss, sample_weight)

    def test_step(self, data):
        """Measure one batch, at the final β, with noise that is the same at every evaluation."""
        x, y, sample_weight = self._begin_step(data)
        seed = stream_seed(self.seed, Stream.TEST, self._averages.batches)
        estimate = self._estimate(x, self.beta, seed, training=False)
        loss = self._total_loss(-estimate.surrogate, x, y, training=False)
        return self._update_metrics(estimate, loss, sample_weight)

    def _estimate(self, x, beta, seed, training):
        return self.estimator.estimate(
            self.objective, self, tf.cast(x, tf.float32), self.num_samples, beta, seed, training
        )

    def _check_kl(self, kl, free_bits, objective, estimator):
        """Refuse a KL term in closed form where the objective or the estimator needs samples."""
        wanted = "`kl='exact'`" if kl == "exact" else "`free_bits`" if free_bits else None
        if kl == "monte_carlo" and free_bits:
            raise InvalidArgument("`free_bits` needs the KL in closed form: leave kl='auto'.")
        if wanted and not objectives.is_linear(objective):
            raise InvalidArgument(
                f"{wanted} needs an objective that is linear in the log-weights, such as 'elbo': "
                "inside a logarithm the expectation may not be taken first. Use kl='auto' and "
                "free_bits=0."
            )
        if wanted and self.built and not self.has_exact_kl():
            raise InvalidArgument(
                f"{wanted} needs KL(q‖p) in closed form, which is not known for this posterior and "
                "prior. Use kl='auto' and free_bits=0."
            )
        if wanted and not estimator.takes_exact_kl:
            raise InvalidArgument(
                f"{wanted} needs an estimator that takes the KL in closed form: "
                f"{', '.join(estimators.names(lambda e: e.takes_exact_kl))}. Got {estimator.name}."
            )

    def _current_beta(self):
        if not self.kl_warmup_steps:
            return self.beta
        progress = tf.cast(self.step.value + 1, tf.float32) / self.kl_warmup_steps
        return self.beta * tf.minimum(1.0, progress)

    def _update_metrics(self, estimate, loss, sample_weight):
        terms = estimate.terms
        reconstruction = -tf.reduce_mean(terms.log_likelihood, axis=0)
        kl = tf.reduce_mean(terms.kl, axis=0)
        self._update_averages(loss, (-(reconstruction + kl), reconstruction, kl), sample_weight)
        return self.get_metrics_result()


def _check_at_least(name, value, minimum, kind=numbers.Integral):
    if not isinstance(value, kind) or not value >= minimum:
        what = "whole number" if kind is numbers.Integral else "number"
        raise InvalidArgument(f"`{name}` is {value!r}; expected a {what} of at least {minimum}.")
