"""Training of a model with latents on a bound on log p(x): objective, estimator, β, metrics."""

import numbers
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfvae import distributions, estimators, objectives
from tfvae._plain.checks import whole
from tfvae.averages import Averages
from tfvae.bound import KL_CHOICES, Bound, LogWeightTerms, by_layer
from tfvae.conditions import Condition
from tfvae.errors import InvalidArgument
from tfvae.models.generative_model import GenerativeModel
from tfvae.models.settings import AttachedSetting, Scheduled, Setting
from tfvae.random import Stream, make_seed, stream_seed
from tfvae.schedules import LinearWarmup

METRICS = ("loss", "elbo", "reconstruction", "kl")


class BoundTraining(GenerativeModel):
    """A model with latents that is trained on a bound on log p(x), set by `compile`.

    Subclasses implement `inference`, the pass over a batch that a bound is made of, and
    `posterior_of_layer`, the family of q of each layer; see `LatentVariableModel`.

    Args:
        num_layers: L, the number of stochastic layers, each with a metric of its own if L > 1.
        seed: with the step, decides all noise of training and evaluation.
        condition: what y is: a number of classes, the shape `(C,)` of vectors, or None.
    """

    instead_of_loss = "Use `objective=` ('elbo', 'iwae')."
    better = GenerativeModel.better | {
        "elbo": "max",
        "reconstruction": "min",
        "kl": None,
        "penalty": "min",
    }

    objective = Setting("objective")
    estimator = AttachedSetting("estimator")
    num_samples = Setting("num_samples")
    kl = Setting("kl")
    kl_warmup_steps = Setting("kl_warmup_steps")
    beta = Scheduled("beta")
    free_bits = Scheduled("free_bits")

    def __init__(
        self,
        *,
        num_layers: int = 1,
        seed: int = 0,
        condition: int | tuple[int, ...] | Condition | None = None,
        **kwargs,
    ):
        by_layer = [f"kl_{number}" for number in range(1, num_layers + 1) if num_layers > 1]
        super().__init__((*METRICS, *by_layer), seed=seed, condition=condition, **kwargs)
        self._penalty = Averages(("penalty",), name="penalty")

    def compile(
        self,
        optimizer: str | keras.optimizers.Optimizer = "adam",
        objective: str | objectives.Objective | Callable = "elbo",
        estimator: str | estimators.Estimator | None = None,
        num_samples: int = 1,
        beta: float | Callable | Sequence = 1.0,
        kl_warmup_steps: int = 0,
        kl: str = "auto",
        free_bits: float | Callable | Sequence = 0.0,
        **kwargs,
    ) -> None:
        """Set how the model is trained.

        The loss is  −mean over the batch of objective(log w),
        log w = log p(x|z) + Σ_l β_l (log p(z_l|…) − log q(z_l|…)),
        with β a number, or a function of the training step. Assigning a number to `model.beta` or
        `model.free_bits`, as a callback may, takes effect in the next step; assigning any other
        setting is refused. Validation uses the final β of `kl_warmup_steps` and of the schedules in
        `tfvae.schedules`, so that `val_loss` is comparable over epochs.

        Args:
            optimizer: any Keras optimizer, by name or as an object; by the name "adam", the one of
                `tfvae.optimizers`, which makes the same steps in less time.
            objective: a bound on log p(x): "elbo", "iwae", another of
                `tfvae.objectives.REGISTRY.names()`, an object, or a function `[K, B] -> [B]`.
            estimator: the gradient estimator, one of `tfvae.estimators.REGISTRY.names()` or an
                object; by default the only one that the objective goes with, or "pathwise".
            num_samples: K, the number of samples of z for each example.
            beta: weight of the KL term: a number, a list of one for each stochastic layer (z_1
                first), a schedule of `tfvae.schedules`, any Keras `LearningRateSchedule` or any
                function of the step. At 1 the objective bounds log p(x); above 1 the ELBO still
                does.
            kl_warmup_steps: training steps over which β rises linearly to the number `beta`; 0 for
                none. `beta=tfvae.schedules.LinearWarmup(steps)` is the same.
            free_bits: λ, nats of KL that each latent unit may use at no cost: the loss counts
                Σ_u max(λ, KL_u) for every example; a number, a list of one for each layer, or a
                schedule. Kingma et al. 2016, "Improved variational inference with inverse
                autoregressive flow", app. C.8, have it for the mean over a batch. The metrics show
                the KL itself. Layers that have free bits need their KL in closed form.
            kl: "exact" uses the closed form of KL(q‖p), and is an error where there is none;
                "monte_carlo" always uses the samples; "auto" uses the closed form in each layer
                where it is known given the layers drawn before, if the objective is linear in log w
                and the estimator allows it.
            kwargs: `jit_compile`, `steps_per_execution`, `run_eagerly`, `auto_scale_loss`, as in
                `keras.Model.compile`.

        Raises:
            InvalidArgument: a value that cannot be used, with what was expected.
        """
        whole("num_samples", num_samples)
        whole("kl_warmup_steps", kl_warmup_steps, least=0)
        if kl not in KL_CHOICES:
            raise InvalidArgument(f"`kl` is {kl!r}; expected one of {', '.join(KL_CHOICES)}.")
        objective = objectives.get(objective)
        objectives.check(objective, num_samples)
        if estimator is None:
            estimator = getattr(objective, "estimator", "pathwise")
        estimator = estimators.get(estimator)
        estimator.check(self.posterior_of_layer, objective, num_samples)
        self._check_beta(beta, kl_warmup_steps, objective, estimator)
        if kl_warmup_steps and not isinstance(beta, numbers.Real):
            raise InvalidArgument(
                "`kl_warmup_steps` raises one number `beta`; here `beta` is "
                f"{beta!r}. Leave it out, and let a schedule say how β rises."
            )
        Setting.set(
            self,
            objective=objective,
            num_samples=num_samples,
            kl=kl,
            kl_warmup_steps=kl_warmup_steps,
        )
        Scheduled.set(self, "beta", beta)
        Scheduled.set(self, "free_bits", free_bits)
        self._check_kl(kl, objective, estimator)
        self._attached.hold(estimator=estimator)
        if self.built:
            self._ready()
        super().compile(optimizer, **kwargs)

    def compile_arguments(self):
        names = ("num_samples", "kl_warmup_steps", "kl")
        parts = {"objective": self.objective, "estimator": self.estimator}
        return parts | {name: getattr(self, name) for name in (*names, "beta", "free_bits")}

    def assigned_settings(self):
        return Scheduled.variables(self)

    @property
    def compiled_numbers(self):
        return Scheduled.given(self)

    def variables_of_training(self):
        """Return the variables of the estimator."""
        return [] if self.estimator is None else self.estimator.variables

    @property
    def metrics(self):
        """The averages reported by `fit` and `evaluate`, in nats per example.

        `loss` is minus the objective; `elbo` = −(`reconstruction` + `kl`), at β = 1 whatever the
        objective; `reconstruction` = −E_q[log p(x|z)]; `kl` = KL(q(z|x)‖p(z)), the sum of `kl_1`,
        …, `kl_L` where there are several layers; `penalty`, where the objective has one, is what it
        subtracts for a whole batch.
        """
        if self.compiled and objectives.penalty(self.objective) is not None:
            return [*super().metrics, self._penalty]
        return super().metrics

    def train_step(self, data):
        """Make one gradient step; nothing here waits for the host."""
        x, y, sample_weight = self.begin_step(data, training=True)
        seed = stream_seed(self.seed, Stream.TRAIN, self.step)
        with tf.GradientTape() as tape:
            estimate = self._estimate(x, y, self.training_bound(), seed, training=True)
            loss = self.total_loss(-estimate.surrogate, x, y, training=True)
            scaled_loss = self.scaled_loss(loss, sample_weight)
        self.minimize(tape, scaled_loss)
        if estimate.statistics is not None:
            self.estimator.update(estimate.statistics)
        return self._update_metrics(estimate, loss, sample_weight)

    def test_step(self, data):
        """Measure one batch, at the final β, with noise that is the same at every evaluation."""
        x, y, sample_weight = self.begin_step(data)
        seed = stream_seed(self.seed, Stream.TEST, self._averages.batches)
        estimate = self._estimate(x, y, self.validation_bound(), seed, training=False)
        loss = self.total_loss(-estimate.surrogate, x, y, training=False)
        return self._update_metrics(estimate, loss, sample_weight)

    def _estimate(self, x, y, bound, seed, training):
        x = tf.cast(x, tf.float32)
        y = y if self.trains_on_condition else None
        infer = self.inference(x, training, condition=y, seed=seed)
        context = self.likelihood.filled(x)
        return self.estimator.estimate(bound, infer, context, seed, training)

    def training_bound(self) -> Bound:
        """Return the bound that the next training step maximizes."""
        beta = Scheduled.at(self, "beta", self.step.value)
        if self.kl_warmup_steps:
            beta *= LinearWarmup(self.kl_warmup_steps)(self.step.value)
        return self._bound(beta, Scheduled.at(self, "free_bits", self.step.value))

    def validation_bound(self) -> Bound:
        """Return the bound that `evaluate` measures, with the final β and free bits."""
        final = [Scheduled.final(self, name, self.step.value) for name in ("beta", "free_bits")]
        return self._bound(*final)

    def _bound(self, beta, free_bits):
        used = Scheduled.layers_that_use(self, "free_bits")
        if any(used):
            each = zip(by_layer(free_bits, len(used)), used, strict=True)
            free_bits = [value if uses else None for value, uses in each]
        may_be_exact = objectives.is_linear(self.objective) and self.estimator.takes_exact_kl
        return Bound(
            self.objective,
            self.num_samples,
            beta,
            self.kl if may_be_exact else "monte_carlo",
            free_bits if any(used) else None,
        )

    def _ready(self):
        """Prepare the estimator, once the model is built and compiled."""
        if self.kl == "exact" or Scheduled.is_used(self, "free_bits"):
            # A pass shows whether the layers have their KL in closed form.
            x, y = self._example(1)
            infer = self.inference(x, condition=y, seed=make_seed(0))
            self.validation_bound().terms(infer(_draw_representatives))
        if objectives.penalty(self.objective) is not None:
            # A pass shows whether the penalty knows this posterior.
            self._estimate(*self._example(2), self.training_bound(), make_seed(0), False)
        self.estimator.prepare(self)

    def _example(self, count):
        """Return examples of zeros, and conditions for them or None."""
        y = None if self.condition is None else self.condition.example(count)
        return tf.zeros([count, *self.x_shape]), y

    def check_assigned(self, name: str, value: Any) -> None:
        """Check a value that is assigned to `beta` or `free_bits`, as `compile` does."""
        if name == "beta":
            self._check_beta(value, self.kl_warmup_steps, self.objective, self.estimator)

    def _check_beta(self, beta, kl_warmup_steps, objective, estimator):
        """Refuse a β that the objective or the estimator does not take."""
        if objective is objectives.exact and (beta != 1 or kl_warmup_steps):
            raise InvalidArgument(
                "The objective 'exact' is log p(x), which has no KL term to weigh: leave `beta` at "
                "1 and `kl_warmup_steps` at 0, or use objective='elbo'."
            )
        if isinstance(beta, (list, tuple)) and not estimator.takes_betas:
            raise InvalidArgument(
                f"The estimator {estimators.registered_name(type(estimator))!r} takes one β for "
                f"all layers; got {beta!r}. Use 'pathwise' or 'sticking_the_landing'."
            )

    def _check_kl(self, kl, objective, estimator):
        """Refuse a KL term in closed form where the objective or the estimator needs samples."""
        free_bits = Scheduled.is_used(self, "free_bits")
        wanted = "`kl='exact'`" if kl == "exact" else "`free_bits`" if free_bits else None
        if kl == "monte_carlo" and free_bits:
            raise InvalidArgument("`free_bits` needs the KL in closed form: leave kl='auto'.")
        if wanted and not objectives.is_linear(objective):
            raise InvalidArgument(
                f"{wanted} needs an objective that is linear in the log-weights, such as 'elbo': "
                "inside a logarithm the expectation may not be taken first. Use kl='auto' and "
                "free_bits=0."
            )
        if wanted and not estimator.takes_exact_kl:
            raise InvalidArgument(
                f"{wanted} needs an estimator that takes the KL in closed form: "
                f"{', '.join(estimators.names(lambda e: e.takes_exact_kl))}. Got {estimator.name}."
            )

    def _update_metrics(self, estimate, loss, sample_weight):
        terms: LogWeightTerms = estimate.terms
        reconstruction = -tf.reduce_mean(terms.log_likelihood, axis=0)
        kls = [tf.reduce_mean(kl, axis=0) for kl in terms.kls]
        kl = sum(kls)
        by_layer = kls if len(kls) > 1 else []
        others = (-(reconstruction + kl), reconstruction, kl, *by_layer)
        self.update_averages(loss, others, sample_weight)
        if estimate.penalty is not None:
            self._penalty.update_state([estimate.penalty], sample_weight)
        return self.get_metrics_result()


def _draw_representatives(number, q):
    z = distributions.representative(q)[tf.newaxis]
    return z, q.log_prob(z)
