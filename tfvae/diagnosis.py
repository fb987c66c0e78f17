"""A comparison of gradient estimators on the user's own model and data."""

import dataclasses
import math
import statistics
import time

import numpy as np
import tensorflow as tf

from tfvae import estimators, exact, objectives
from tfvae._plain.checks import whole
from tfvae.bound import Bound
from tfvae.errors import InvalidArgument
from tfvae.evaluation.batches import track
from tfvae.models import LatentVariableModel
from tfvae.optimizers import Adam
from tfvae.random import Stream, fold_in, make_seed

_GROUPS = 20
_TIMED = 5


@dataclasses.dataclass(frozen=True)
class Row:
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
            where `scale` is several of its errors from 0 does the row say anything about bias.
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
        rows: one for each estimator and objective.
        reference: for each objective, "exact" where g* was enumerated, else the name of the
            estimator over whose draws g* is the mean.
        num_draws: gradients drawn for each row, a multiple of 20.
        batch_size: examples in the batch.
    """

    rows: list[Row]
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
    num_draws = -(-whole("num_draws", num_draws, least=_GROUPS) // _GROUPS) * _GROUPS
    whole("num_warmup", num_warmup, least=0)
    model.check_data(x)
    y = model.check_condition(condition, len(x))
    _check_names(model, names, objective_names, num_samples)
    model.check_memory(num_samples, len(x))
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
        draws = _Draws(model, x, y, objective, kind, num_samples, seed)
        draws.warm_up(num_warmup)
        if name is None:
            count = 1 if kind == "exact" else 10 * num_draws
            exact_gradient = draws.groups(count, Stream.EVALUATE)
        else:
            measured = draws.groups(1 if kind == "exact" else num_draws, Stream.TEST)
            rows.append(_row(name, objective_name, num_samples, measured, exact_gradient, draws))
    return Diagnosis(rows, reference, num_draws, len(x))


class _Draws:
    """Gradients of one estimator on one batch."""

    def __init__(self, model, x, y, objective, name, num_samples, seed):
        model.compile(Adam(1e-3), objective=objective, estimator=name, num_samples=num_samples)
        self.seed = make_seed(seed)
        self.estimator = estimator = model.estimator
        optimizer = Adam(1e-2)
        own = estimator.trainable_variables
        bound = Bound(objective, num_samples)
        parts = (*model.generative_parts, estimator)
        skip = {id(v) for part in parts for v in part.trainable_variables}
        q = [variable for variable in model.trainable_variables if id(variable) not in skip]

        def gradients(seed, variables, training):
            with tf.GradientTape() as tape:
                infer = model.inference(x, training, None, y, seed)
                context = model.likelihood.filled(x)
                estimate = estimator.estimate(bound, infer, context, seed, training)
                loss = -tf.reduce_mean(estimate.surrogate)
            return tape.gradient(loss, variables), estimate

        @tf.function(autograph=False)
        def draw(seed):
            found, _ = gradients(seed, q, training=False)
            pairs = zip(found, q, strict=True)
            parts = [tf.zeros(v.shape) if g is None else g for g, v in pairs]
            return tf.concat([tf.reshape(part, [-1]) for part in parts], 0)

        @tf.function(autograph=False)
        def group(stream, start, end):
            """Return the sum of the draws from `start` on to before `end`, and of their squares."""

            def add(number, total, square):
                g = tf.cast(draw(fold_in(self.seed, stream, number)), tf.float64)
                return number + 1, total + g, square + tf.reduce_sum(g**2)

            size = sum(variable.shape.num_elements() for variable in q)
            zeros = tf.zeros(size, tf.float64), tf.zeros((), tf.float64)
            _, total, square = tf.while_loop(
                lambda number, *_: number < end, add, (start, *zeros), parallel_iterations=1
            )
            return total, square

        @tf.function(autograph=False)
        def warm_up(seed):
            found, estimate = gradients(seed, own, training=True)
            if own:
                optimizer.apply_gradients(zip(found, own, strict=True))
            if estimate.statistics is not None:
                estimator.update(estimate.statistics)

        @tf.function(autograph=False)
        def step(seed):
            found, _ = gradients(seed, model.trainable_variables, training=True)
            return [tf.reduce_sum(g) for g in found if g is not None]

        learned = {id(v) for v in estimator.variables}
        moved = [v for v in model.non_trainable_variables if id(v) not in learned]
        self._state = [(variable, variable.numpy()) for variable in moved]
        self.learns = bool(estimator.weights)
        self._draw, self._group, self._warm_up, self._step = draw, group, warm_up, step

    def warm_up(self, num_steps):
        for number in range(num_steps if self.learns else 0):
            self._warm_up(fold_in(self.seed, int(Stream.TRAIN), number))
        self._restore()

    def _restore(self):
        """Undo what passes in training did to the model, such as to the means of a batch norm.

        All rows and their reference are of the same function.
        """
        for variable, value in self._state:
            variable.assign(value)

    def groups(self, count, stream):
        """Return means of groups of draws `[G, P]`, the mean squared norm, and the count."""
        num_groups = min(_GROUPS, count)
        size = count // num_groups  # without a rest: a multiple, or fewer than the groups
        starts = range(0, num_groups * size, size)
        sums = [self._group(int(stream), tf.constant(n), tf.constant(n + size)) for n in starts]
        totals, squares = zip(*sums, strict=True)
        mean_square = float(sum(squares)) / (num_groups * size)
        return np.stack(totals) / size, mean_square, num_groups * size

    def milliseconds(self, repeats=30):
        """Return the median time of a value with all its gradients."""
        times = []
        for number in range(repeats + _TIMED):
            start = time.perf_counter()
            self._step(fold_in(self.seed, number))[0].numpy()
            times.append(time.perf_counter() - start)
        self._restore()
        return 1e3 * statistics.median(times[_TIMED:])


def _row(name, objective_name, num_samples, measured, reference, draws) -> Row:
    groups, mean_square, count = measured
    mean = groups.mean(axis=0)
    if name == "exact":  # without noise
        mean_square, count = float(mean @ mean), 1
    variance = max(0.0, (mean_square - float(mean @ mean)) * count / max(1, count - 1))
    signal = math.sqrt(max(0.0, float(mean @ mean) - variance / count))
    scale, scale_error, bias, bias_error = _scale_and_bias(groups, reference[0])
    is_noisy = variance > 1e-12 * float(np.sum(reference[0].mean(axis=0) ** 2))
    return Row(
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


def _scale_and_bias(groups, reference):
    """Return s, its standard error, the bias of the direction, and its standard error; see `Row`.

    Args:
        groups: means of groups of draws, `[G, P]`.
        reference: such means of the reference estimator, or the exact gradient, `[1, P]`.
    """
    centre = reference.mean(axis=0)
    # Without the noise of a sampled reference, which makes its mean longer than g*.
    norm_square, _ = _between_groups(reference)
    if norm_square <= 0:
        return (math.nan,) * 4
    scale = float(groups.mean(axis=0) @ centre) / norm_square
    # To first order in the noise of the groups and in that of the reference.
    slope = groups.mean(axis=0) - 2 * scale * centre
    errors = _standard_error(groups @ centre), _standard_error(reference @ slope)
    scale_error = math.hypot(*errors) / norm_square
    if not scale:
        return scale, scale_error, math.nan, math.nan
    square, error = _squared_bias(_across(groups, centre) / scale, _across(reference, centre))
    norm = math.sqrt(norm_square)
    bias = math.copysign(math.sqrt(abs(square)), square) / norm
    # Near zero the square root has no slope: there, √(error of the square) is what it can reach.
    spread = (error / (2 * math.sqrt(square)) if square > 4 * error else math.sqrt(error)) / norm
    return scale, scale_error, bias, math.hypot(spread, bias * scale_error / scale)


def _across(rows, direction):
    """Return the rows without their components along a direction."""
    unit = direction / np.linalg.norm(direction)
    return rows - np.outer(rows @ unit, unit)


def _standard_error(values):
    """Return the standard error of the mean of values; 0 for a single one, which is exact."""
    return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else 0.0


def _squared_bias(groups, reference):
    """Return ‖E[g] − g*‖² estimated without bias, and its standard error by the jackknife.

    Of G independent group means m_i, the products (m_i − g*)·(m_j − g*), i ≠ j, have it as their
    expectation; so do those with the group means of a sampled g*.
    """
    centre = reference.mean(axis=0)
    estimate = _between_groups(groups - centre)
    if len(reference) == 1:
        return estimate
    # The noise of a sampled reference adds its own squared error to the estimate.
    noise = reference - centre
    own = float(np.sum(noise**2)) / (len(noise) * (len(noise) - 1))
    own_groups = np.sum(noise**2, axis=1) / (len(noise) - 1)
    return estimate[0] - own, math.hypot(estimate[1], _standard_error(own_groups))


def _between_groups(deviations):
    if len(deviations) == 1:
        return float(deviations[0] @ deviations[0]), 0.0
    products = deviations @ deviations.T
    count = len(products)

    def mean_product(keep):
        part = products[np.ix_(keep, keep)]
        return (part.sum() - np.trace(part)) / (len(part) * (len(part) - 1))

    everything = np.arange(count)
    without = [mean_product(np.delete(everything, i)) for i in range(count)]
    error = math.sqrt((count - 1) * np.var(without))
    return float(mean_product(everything)), error


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
