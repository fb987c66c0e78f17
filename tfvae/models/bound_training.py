"""Training of a model with latents on a bound on log p(x): objective, estimator, β, metrics."""

from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from tfvae import distributions, estimators, objectives
from tfvae.averages import Averages
from tfvae.bound import Bound, LogWeightTerms
from tfvae.conditions import Condition
from tfvae.models.bound_settings import BoundSettings
from tfvae.models.generative_model import GenerativeModel
from tfvae.models.settings import ScheduledSetting, Setting
from tfvae.random import Stream, make_seed, stream_seed

METRICS = ("loss", "elbo", "reconstruction", "kl")


class BoundTraining(GenerativeModel):
    """A model with latents that is trained on a bound on log p(x), set by `compile`.

    Subclasses implement `inference`, the pass over a batch that a bound is made of, and
    `posterior_of_layer`, the family of q of each layer; see `LatentVariableModel`.

    Args:
        num_layers: L, the number of stochastic layers, each with a metric of its own if L > 1.
        seed: with the step, decides all noise of training and evaluation.
        condition: what y is: a number of classes, the shape `(C,)` of vectors, or None.

    Attributes:
        settings: what `compile` set; None before.
    """

    instead_of_loss = "Use `objective=` ('elbo', 'iwae')."
    better = GenerativeModel.better | {
        "elbo": "max",
        "reconstruction": "min",
        "kl": None,
        "penalty": "min",
    }

    objective = Setting("objective")
    estimator = Setting("estimator")
    num_samples = Setting("num_samples")
    kl = Setting("kl")
    kl_warmup_steps = Setting("kl_warmup_steps")
    beta = ScheduledSetting("beta")
    free_bits = ScheduledSetting("free_bits")

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
        self.settings: BoundSettings | None = None
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
        `tfvae.schedules`, so that `val_loss` is comparable over epochs. It counts free bits too:
        with these, or β below 1, it is no bound on log p(x); `val_elbo` is one.

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
        settings = BoundSettings(
            self.posterior_of_layer,
            objective=objective,
            estimator=estimator,
            num_samples=num_samples,
            beta=beta,
            kl_warmup_steps=kl_warmup_steps,
            kl=kl,
            free_bits=free_bits,
        )
        optimizer = self.check_compile(optimizer, **kwargs)
        if self.built:
            self.prepare(settings)
        # Nothing is refused from here on: the model has all of the new settings or none.
        self.settings = settings
        self._attached.hold(estimator=settings.estimator)
        super().compile(optimizer, **kwargs)

    def compile_arguments(self):
        return self.settings.arguments()

    def assigned_settings(self):
        if self.settings is None:
            return []
        return [each.variable for each in self.settings.scheduled if each.variable is not None]

    @property
    def compiled_numbers(self):
        if self.settings is None:
            return {}
        return {e.name: e.given for e in self.settings.scheduled if e.given is not None}

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
        trains_q = training and bool(self.inference_variables)
        infer = self.inference(x, training, condition=y, seed=seed, counts_losses=trains_q)
        context = self.likelihood.filled(x)
        return self.estimator.estimate(bound, infer, context, seed, training)

    def training_bound(self) -> Bound:
        """Return the bound that the next training step maximizes."""
        return self.settings.training_bound(self.step.value)

    def validation_bound(self) -> Bound:
        """Return the bound that `evaluate` measures, with the final β and free bits."""
        return self.settings.validation_bound(self.step.value)

    def prepare(self, settings: BoundSettings) -> None:
        """Check the built model against settings, and prepare their estimator for it.

        Raises:
            InvalidArgument: settings that do not fit the model.
        """
        bound = settings.validation_bound(self.step.value)
        if settings.needs_known_kl:
            # A pass shows whether the layers have their KL in closed form.
            x, y = self._example(1)
            infer = self.inference(x, condition=y, seed=make_seed(0))
            bound.terms(infer(_draw_representatives))
        if objectives.penalty(settings.objective) is not None:
            # A pass shows whether the penalty knows this posterior.
            x, y = self._example(2)
            infer = self.inference(x, condition=y, seed=make_seed(0))
            settings.estimator.estimate(bound, infer, x, make_seed(0), training=False)
        settings.estimator.prepare(self, bound)

    def _example(self, count):
        """Return examples of zeros, and conditions for them or None."""
        y = None if self.condition is None else self.condition.example(count)
        return tf.zeros([count, *self.x_shape]), y

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
