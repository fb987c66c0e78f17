"""log p(x) without sampling: small discrete latents, and the linear-Gaussian model."""

import dataclasses
import functools
import math

import numpy as np
import tensorflow as tf

from tfvae import exact
from tfvae._plain.checks import whole
from tfvae.evaluation import enumeration
from tfvae.evaluation.batches import batches_beside_condition, count_values, join, track
from tfvae.evaluation.closed_form import Marginals, NoClosedForm, log_prob_given
from tfvae.evaluation.results import Measured
from tfvae.likelihoods import Observed
from tfvae.models import LatentVariableModel


@dataclasses.dataclass(frozen=True)
class ExactLogLikelihood(Measured):
    """log p(x) itself, in nats per example.

    Attributes:
        per_example: log p(x), `[N]`.
        num_values: dimensions of x, what bits/dim divides by.
    """

    per_example: np.ndarray
    num_values: float


def exact_log_likelihood(
    model: LatentVariableModel,
    x: np.ndarray | tf.Tensor | tf.data.Dataset,
    *,
    condition: np.ndarray | tf.Tensor | int | None = None,
    batch_size: int = 100,
    progress: bool = True,
) -> ExactLogLikelihood:
    """Compute log p(x), or log p(x|y), without sampling, to the rounding of float32.

    On GPUs that support TF32, TensorFlow rounds the factors of float32 products to 11 bits, unless
    `tf.config.experimental.enable_tensor_float_32_execution(False)` is called.

    - Discrete latents of at most `tfvae.exact.MAX_STATES` states: log Σ_z p(x|z) p(z).
    - The linear-Gaussian model (a standard normal prior, an affine decoder, a Normal likelihood of
      fixed scale): log N(x; b, W Wᵀ + σ² I), see `tfvae.exact.linear_gaussian`. With a condition y,
      W and b may depend on it; those of the latest y are kept, of as many as 64 MiB hold.

    Source: Tipping and Bishop 1999, "Probabilistic principal component analysis", sec. 3.1.

    Args:
        model: a `LatentVariableModel`.
        x: an array `[N, *x_shape]`, or a batched `tf.data.Dataset` of such; of pairs (x, y) for a
            model with a condition.
        condition: y of log p(x|y), labels `[N]` or vectors `[N, C]` or one for all, for a model
            with a condition.
        batch_size: the most examples to go over the states with at a time; memory is bounded
            whatever it is, but all states are decoded anew for every batch.
        progress: whether to show a progress bar on standard error.

    Returns:
        An `ExactLogLikelihood`.

    Raises:
        InvalidArgument: log p(x) has neither of these forms, with a condition for one of those in
            the data; the latent has too many states; or a condition is missing or not wanted.
        InvalidData: data that is empty or does not fit the model, or conditions that do not.
    """
    whole("batch_size", batch_size)
    log_p, size = _log_p(model)
    batch_size = min(batch_size, max(1, enumeration.CHUNK_SIZE // size))
    parts = track(*batches_beside_condition(model, x, condition, batch_size), "log p(x)", progress)
    results = [[np.asarray(log_p(batch, y)), count_values(batch)] for batch, y in parts]
    per_example, num_values = join(results)
    return ExactLogLikelihood(per_example, float(num_values.mean()))


def exact_or_none(model, x, **options) -> ExactLogLikelihood | None:
    """Return what `exact_log_likelihood` does, or None where it cannot measure the model.

    A decoder may be affine given some conditions and not given others, which only a pass over all
    of them shows.
    """
    if "continuous" not in model.latent_kinds and exact.num_latent_states(model) > exact.MAX_STATES:
        return None
    try:
        return exact_log_likelihood(model, x, **options)
    except NoClosedForm:
        return None


def _log_p(model):
    """Return the function from a batch and its conditions to its log p(x), `[B]`, and its memory.

    The memory is how many numbers an example takes.
    """
    if "continuous" not in model.latent_kinds:
        states = tf.constant(exact.latent_states(model))
        log_sum = functools.partial(enumeration.log_joint_sum, model, states=states)
        return log_sum, enumeration.numbers_of_a_state(model, 1)
    size, latents = math.prod(model.x_shape), math.prod(model.latent_shape)
    marginals = Marginals(model, max(1, enumeration.CHUNK_SIZE // (size * latents)))
    if isinstance(model.likelihood, Observed):
        size = max(size, latents) * latents
    if model.condition is None:
        marginals(None)  # which refuses the model before x is read
    return functools.partial(log_prob_given, marginals), size
