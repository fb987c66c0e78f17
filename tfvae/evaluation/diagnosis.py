"""A comparison of gradient estimators on the user's own model and data."""

import dataclasses
import math

import numpy as np
import tensorflow as tf

from tfvae import estimators, exact, objectives
from tfvae._plain.checks import whole
from tfvae.errors import InvalidArgument
from tfvae.evaluation.batches import track
from tfvae.evaluation.gradient_bias import scale_and_bias
from tfvae.evaluation.gradient_draws import GROUPS, GradientDraws
from tfvae.models import LatentVariableModel, step_memory
from tfvae.random import Stream


@dataclasses.dataclass(frozen=True)
class GradientMeasures:
    """Measures of an estimator's gradient in the weights of q, averaged over a batch.

    Scale and direction are separated: E[g] = s · (g* + b) with b perpendicular to the reference
    gradient g*. The scale s makes no difference to an optimizer like Adam and acts like another
    learning rate on one like SGD; the bias b remains. Together they give
    ‖E[g] − g*‖² / ‖g*‖² = (s − 1)² + s² · bias².

    Attributes:
        estimator: its name.
        objective: the name of the objective.
        num_samples: K.
        scale: s = ⟨E[g], g*⟩ / ‖g*‖²; 1 for an unbiased estimator.
        scale_standard_error: of `scale`.
        bias: of the direction, ‖E[g]/s − g*‖ / ‖g*‖ = ‖b‖ / ‖g*‖, the tangent of the angle between
            E[g] and g*. Its square is estimated without bias, so it can be slightly below 0; bias
            is then the negative root.
        bias_standard_error: of `bias`; an unbiased estimator stays within about 2 of them. Only
            where `scale` is several of its errors from 0 do they say anything about bias.
        variance: the trace of Cov[g], that is E‖g − E[g]‖².
        snr: signal-to-noise ratio, ‖E[g]‖ / √variance.
        ms_per_step: median time of the value and all gradients, in milliseconds.
    """

    estimator: str
    objective: str
    num_samples: int
    scale: float
    scale_standard_error: float
    bias: float
    bias_standard_error: float
    variance: float
    snr: float
    ms_per_step: float


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """The table of `diagnose`.

    Attributes:
        rows: the `GradientMeasures` of each estimator that fits, for each objective.
        reference: for each objective, "exact" where g* was enumerated, else the name of the
            estimator over whose draws g* is the mean.
        num_draws: gradients drawn for each row, a multiple of 20.
        batch_size: examples in the batch.
    """

    rows: list[GradientMeasures]
    reference: dict[str, str]
    num_draws: int
    batch_size: int

    def summary(self) -> dict:
        """Return the table as plain numbers, for JSON; what is not finite is None."""
        rows = [
            {
                key: None if isinstance(value, float) and not math.isfinite(value) else value
                for key, value in dataclasses.asdict(row).items()
            }
            for row in self.rows
        ]
        return {**dataclasses.asdict(self), "rows": rows}


def diagnose(
    model: LatentVariableModel,
    x: np.ndarray,
    *,
    condition: np.ndarray | tf.Tensor | int | None = None,
    num_samples: int = 4,
    names: list[str] | None = None,
    objective_names: tuple[str, ...] = ("elbo", "iwae"),
    num_draws: int = 400,
    num_warmup: int = 200,
    seed: int = 0,
    progress: bool = True,
) -> Diagnosis:
    """Compare gradient estimators on a model, for one batch, in the weights of q(z|x).

    The reference is the exact gradient where the states of K samples can be enumerated
    (`exact.MAX_STATES`), else the mean over 10·num_draws draws of an unbiased estimator of low
    variance, whose own error is accounted for. Estimators that learn something (baselines,
    control variates) do so for `num_warmup` steps first. The model is not changed.

    Args:
        model: a `LatentVariableModel`, trained or not.
        x: the batch, `[B, *x_shape]`.
        condition: y, labels `[B]` or vectors `[B, C]` or one for all, for a model with a condition.
        num_samples: K.
        names: estimators; None for all that fit.
        objective_names: objectives.
        num_draws: gradients drawn for each row, at least 20; rounded up to a multiple of 20.
        num_warmup: steps in which an estimator's own parts are trained.
        seed: decides all draws.
        progress: whether to show a progress bar on standard error.

    Returns:
        A `Diagnosis`.

    Raises:
        InvalidArgument: an unknown name, an estimator that fits none of the objectives, too few
            draws, or a condition that is missing or not wanted.
        InvalidData: data that does not fit the model, or conditions that do not.
    """
    if not isinstance(model, LatentVariableModel):
        raise InvalidArgument(
            f"`diagnose` got {type(model).__name__}, which has no gradient estimators to compare; "
            "expected a model with latents, such as a VAE."
        )
    num_draws = -(-whole("num_draws", num_draws, least=GROUPS) // GROUPS) * GROUPS
    whole("num_warmup", num_warmup, least=0)
    model.check_data(x)
    y = model.check_condition(condition, len(x))
    _check_names(model, names, objective_names, num_samples)
    step_memory.check(model, num_samples, len(x))
    model = model.copy()
    x = tf.constant(x, tf.float32)
    rows, reference = [], {}
    plan = []  # of each objective the reference, then the estimators that are compared with it
    for objective_name in objective_names:
        objective = objectives.get(objective_name)
        reference[objective_name] = _reference_name(model, objective, num_samples)
        chosen = _fitting(model, objective, num_samples, names)
        plan += [(objective_name, objective, name) for name in (None, *chosen)]
    for objective_name, objective, name in track(plan, len(plan), "gradients", progress):
        kind = reference[objective_name] if name is None else name
        draws = GradientDraws(model, x, y, objective, kind, num_samples, seed)
        draws.warm_up(num_warmup)
        if name is None:
            count = 1 if kind == "exact" else 10 * num_draws
            exact_gradient = draws.groups(count, Stream.EVALUATE)
        else:
            measured = draws.groups(1 if kind == "exact" else num_draws, Stream.TEST)
            rows.append(
                _measures(name, objective_name, num_samples, measured, exact_gradient, draws)
            )
    return Diagnosis(rows, reference, num_draws, len(x))


def _measures(name, objective_name, num_samples, measured, reference, draws):
    groups, mean_square, count = measured
    mean = groups.mean(axis=0)
    if name == "exact":  # without noise
        mean_square, count = float(mean @ mean), 1
    variance = max(0.0, (mean_square - float(mean @ mean)) * count / max(1, count - 1))
    signal = math.sqrt(max(0.0, float(mean @ mean) - variance / count))
    scale, scale_error, bias, bias_error = scale_and_bias(groups, reference[0])
    is_noisy = variance > 1e-12 * float(np.sum(reference[0].mean(axis=0) ** 2))
    return GradientMeasures(
        name,
        objective_name,
        num_samples,
        scale,
        scale_error,
        bias,
        bias_error,
        variance,
        signal / math.sqrt(variance) if is_noisy else math.inf,
        draws.milliseconds(),
    )


def _check_names(model, names, objective_names, num_samples):
    """Refuse unknown names, and estimators of which none fits, before anything is measured."""
    if names is not None and not len(names):
        raise InvalidArgument(
            "`names` is empty; expected names of estimators, or None for all that fit."
        )
    if not len(objective_names):
        raise InvalidArgument("`objective_names` is empty; expected at least one objective.")
    for name in names or []:
        estimators.get(name)
    fitting = []
    for objective in map(objectives.get, objective_names):
        objectives.check(objective, num_samples)
        _reference_name(model, objective, num_samples)
        fitting += _fitting(model, objective, num_samples, names)
    if not fitting:
        raise InvalidArgument(
            f"None of {', '.join(names or estimators.REGISTRY.names())} fits "
            f"{', '.join(objective_names)} with {', '.join(model.latent_kinds)} latents and "
            f"num_samples={num_samples}."
        )


def _fitting(model, objective, num_samples, names):
    def fits(cls):
        return cls.misfit(model.posterior_of_layer, objective, num_samples) is None

    fitting = estimators.names(fits)
    if "exact" in fitting and not _enumerable(model, objective, num_samples):
        fitting.remove("exact")
    return [name for name in fitting if names is None or name in names]


def _enumerable(model, objective, num_samples):
    if "continuous" in model.latent_kinds:
        return False
    states = exact.num_latent_states(model)
    samples = 1 if objectives.is_linear(objective) else num_samples
    return states**samples <= exact.MAX_STATES


def _reference_name(model, objective, num_samples):
    if _enumerable(model, objective, num_samples):
        return "exact"
    linear = objectives.is_linear(objective)
    for name in (
        "sticking_the_landing" if linear else "dreg",
        "rloo" if linear else "vimco",
        "disarm",
        "rebar",
        "score_function",
    ):
        cls = estimators.REGISTRY.part(name)
        if cls.misfit(model.posterior_of_layer, objective, num_samples) is None:
            return name
    raise InvalidArgument(
        f"The objective {objective!r} has no reference gradient for this model: its states cannot "
        "be enumerated, and no unbiased estimator fits. Leave it out of the objectives."
    )
