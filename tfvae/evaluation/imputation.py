"""Imputation of missing values: importance-weighted means, and draws."""

import dataclasses

import numpy as np
import tensorflow as tf

from tfvae import distributions, objectives
from tfvae._plain.checks import whole
from tfvae.bound import Bound
from tfvae.errors import InvalidArgument
from tfvae.evaluation.batches import batches_beside_condition, join, sample_size, track
from tfvae.graphs import in_graph
from tfvae.joint import sampler
from tfvae.likelihoods import Observed
from tfvae.models import LatentVariableModel
from tfvae.random import Stream, fold_in, gumbel, make_seed, stateless_uniform

# Numbers in one tensor of decoder outputs; importance sampling has twice as many, and less of it.
_CHUNK_SIZE = 2**20
_BATCH_SIZE = 50


@dataclasses.dataclass(frozen=True)
class Imputation:
    """Examples with their missing values filled in.

    Attributes:
        values: x, with E[x_d|x_obs] in place of each missing value; for categorical values, the
            most probable category. `[N, *x_shape]`.
        mean: E[x_d|x_obs] of every missing value, categories too; of an observed one, itself.
        standard_error: of `mean`, over the samples drawn; 0 for an observed value, NaN for a
            missing one where K is 1. It is too small where the effective sample size is near 1.
        effective_sample_size: (Σ w)² / Σ w², between 1 and K, `[N]`.
        draws: complete examples, drawn from p(x|x_obs), `[draws, N, *x_shape]`.
        num_samples: K.
    """

    values: np.ndarray
    mean: np.ndarray
    standard_error: np.ndarray
    effective_sample_size: np.ndarray
    draws: np.ndarray
    num_samples: int


def impute(
    model: LatentVariableModel,
    x: np.ndarray | tf.Tensor | tf.data.Dataset,
    *,
    condition: np.ndarray | tf.Tensor | int | None = None,
    num_samples: int = 1000,
    draws: int = 0,
    seed: int = 0,
    progress: bool = True,
) -> Imputation:
    """Fill in missing values by their distribution given the observed ones.

    The estimate is self-normalized importance sampling, with w_k = p(x_obs|z_k) p(z_k) /
    q(z_k|x_obs) and z_k ~ q(z|x_obs),

        E[x_d|x_obs] ≈ Σ_k w_k E[x_d|z_k] / Σ_k w_k,

    with a bias of the order of 1/K. With a model of the mask (see `Observed`), w_k has the
    probability of the mask given drawn values x_d ~ p(x_d|z_k) as a factor, and these values take
    the place of E[x_d|z_k].

    For multiple imputation, `draws` complete examples are drawn for each: z_k with a probability in
    proportion to w_k, then x ~ p(x|z_k). Analyse each of the completed data sets as if it had been
    observed, and pool the results by Rubin's rules: the spread between them shows the uncertainty
    of the missing values.

    Source: Mattei and Frellsen 2019, "MIWAE: deep generative modelling and imputation of incomplete
    data sets", sec. 3; Rubin 1987, "Multiple imputation for nonresponse in surveys".

    Args:
        model: a `LatentVariableModel` with the likelihood `Observed`.
        x: an array `[N, *x_shape]` with NaN for what is missing, or a batched `tf.data.Dataset` of
            such; of pairs (x, y) for a model with a condition.
        condition: y, labels `[N]` or vectors `[N, C]` or one for all, for a model with a condition.
        num_samples: K.
        draws: how many complete examples to draw for each. What is estimated does not depend on
            it, and the first of many draws are those of fewer.
        seed: decides all noise.
        progress: whether to show a progress bar on standard error.

    Returns:
        An `Imputation`.

    Raises:
        InvalidArgument: a number out of range, a model that takes no missing values, or a condition
            that is missing or not wanted.
        InvalidData: data that is empty or does not fit the model, or conditions that do not.
    """
    whole("num_samples", num_samples)
    whole("draws", draws, least=0)
    if not isinstance(model, LatentVariableModel) or not isinstance(model.likelihood, Observed):
        likelihood = type(getattr(model, "likelihood", None)).__name__
        raise InvalidArgument(
            f"`impute` got a {type(model).__name__} with the likelihood {likelihood}; expected a "
            "VAE that was trained with likelihoods.Observed(...), which takes missing values."
        )
    rows = max(1, _CHUNK_SIZE // sample_size(model))
    stream = fold_in(make_seed(seed), int(Stream.IMPUTE))
    parts = batches_beside_condition(model, x, condition, min(_BATCH_SIZE, rows))
    results = []
    for number, (batch, y) in enumerate(track(*parts, "imputing", progress)):
        total = _Total()
        chunk = min(num_samples, max(1, rows // len(batch)))
        for start in range(0, num_samples, chunk):
            size = tf.constant(min(chunk, num_samples - start))
            chunk_seed = fold_in(stream, number, start)
            parts = _chunk(model, batch, y, chunk_seed, size, tf.constant(draws))
            total.add([part.numpy() for part in parts])
        results.append(_filled(model, batch.numpy(), total, num_samples))
    *parts, drawn = join(results)
    return Imputation(*parts, np.moveaxis(drawn, 1, 0), num_samples)


def _filled(model, x, total, num_samples) -> list[np.ndarray]:
    """Return the parts of an `Imputation` for a batch, arrays `[B, ...]`."""
    missing = np.isnan(x)
    mean = np.where(missing, total.mean, x)
    categories = _categories(model)
    values = mean
    if categories.any():
        likeliest = total.levels.argmax(axis=0) / np.maximum(categories - 1, 1)
        values = np.where(missing & (categories > 0), likeliest, mean)
    error = np.where(missing, np.sqrt(total.variance) if num_samples > 1 else np.nan, 0.0)
    drawn = np.moveaxis(np.where(missing, total.drawn, x), 0, 1)
    parts = (values, mean, error, total.effective_sample_size, drawn)
    return [part.astype(np.float32) for part in parts]


def _categories(model):
    return model.likelihood.complete().num_categories(model.x_shape[-1])


class _Total:
    """Weighted means over chunks of samples, kept relative to the sum of weights so far.

    Attributes:
        mean: of the values, `[B, *x_shape]`.
        levels: the probability of each level, `[L, B, *x_shape]`.
        drawn: of each draw the chosen example, `[draws, B, *x_shape]`.
    """

    def __init__(self):
        self._log_sum = self._log_squares = -np.inf
        self.mean = self.levels = self.drawn = 0.0
        self._moments = [0.0, 0.0, 0.0]

    def add(self, part):
        """Take in what `_chunk` gave."""
        log_sum, log_squares, mean, levels, drawn, uniform, *moments = part
        total = np.logaddexp(self._log_sum, log_sum)
        column = (-1, *[1] * (mean.ndim - 1))
        logs = (self._log_sum, log_sum)
        old, new = (np.exp(log - total).reshape(column) for log in logs)
        combined = old * self.mean + new * mean
        before = _about(combined, self.mean, self._moments)
        pairs = zip(before, _about(combined, mean, moments), strict=True)
        self._moments = [old**2 * a + new**2 * b for a, b in pairs]
        self.levels = old * self.levels + new * levels
        # A draw is of this chunk with the chunk's share of the weights so far.
        chosen = uniform.reshape(*uniform.shape, *[1] * (mean.ndim - 1)) < new
        self.drawn = np.where(chosen, drawn, self.drawn)
        self.mean, self._log_sum = combined, total
        self._log_squares = np.logaddexp(self._log_squares, log_squares)

    @property
    def variance(self):
        """Σ_k w_k² (v_k − mean)² / (Σ_k w_k)², that of a ratio of two means, `[B, *x_shape]`."""
        return np.maximum(self._moments[2], 0.0)

    @property
    def effective_sample_size(self):
        """`[B]`."""
        return np.exp(2.0 * self._log_sum - self._log_squares)


def _about(centre, mean, moments):
    """Return Σ w² (v − c)^j for j = 0, 1, 2 about another centre c than the mean."""
    zeroth, first, second = moments
    shift = mean - centre
    return zeroth, first + shift * zeroth, second + 2.0 * shift * first + shift**2 * zeroth


@in_graph
def _chunk(model, x, condition, seed, size, draws):
    """Return what `_Total.add` takes of `size` samples for each example of a batch."""
    infer = model.inference(x, condition=condition, seed=seed)
    joint = infer(sampler(size, seed))
    log_w = Bound(objectives.iwae).terms(joint).log_weights()  # [K, B]
    are_drawn = len(joint.x.shape) > len(x.shape)
    expected = joint.x if are_drawn else joint.p_x.mean()  # [K, B, *x_shape]
    weights = tf.nn.softmax(log_w, axis=0)
    weights = tf.reshape(weights, tf.concat([tf.shape(log_w), [1] * (len(x.shape) - 1)], 0))
    mean = tf.reduce_sum(weights * expected, axis=0)
    moments = [tf.reduce_sum((weights**2) * (expected - mean) ** j, axis=0) for j in range(3)]

    levels = [tf.zeros_like(x)]
    categories = _categories(model)
    for level in range(categories.max()):
        value = tf.constant(np.minimum(level / np.maximum(categories - 1, 1), 1.0), tf.float32)
        log_p = distributions.log_prob_by_value(joint.p_x, tf.zeros_like(x) + value)
        probability = tf.where(level < categories, tf.exp(log_p), 0.0)
        levels += [tf.reduce_sum(weights * probability, axis=0)]

    def draw(number):
        """Return a complete example for each, `[B, *x_shape]`, and a uniform, `[B]`."""
        # A sample in proportion to its weight: the largest log-weight with Gumbel noise.
        noise = gumbel(stateless_uniform(tf.shape(log_w), _noise(seed, 1, number)))
        chosen = tf.argmax(log_w + noise, axis=0)
        index = tf.stack([chosen, tf.range(tf.shape(x, tf.int64)[0])], -1)
        if are_drawn:
            drawn = tf.gather_nd(joint.x, index)
        else:
            params = tf.gather_nd(joint.x_params, index)  # [B, ...]
            drawn = model.likelihood.complete()(params).sample(seed=_noise(seed, 2, number))
        drawn = tf.ensure_shape(drawn, x.shape)
        return drawn, stateless_uniform(tf.shape(x)[:1], _noise(seed, 3, number))

    # One after the other: noise of every draw for each sample would take memory for all of them.
    signature = tf.TensorSpec(x.shape), tf.TensorSpec(x.shape[:1])
    numbers = tf.range(tf.maximum(draws, 1))  # map_fn stacks nothing where the batch is not known
    drawn, uniform = tf.map_fn(draw, numbers, fn_output_signature=signature, parallel_iterations=1)
    drawn, uniform = drawn[:draws], uniform[:draws]
    sums = [tf.reduce_logsumexp(n * log_w, axis=0) for n in (1.0, 2.0)]
    return *sums, mean, tf.stack(levels[1:] or levels), drawn, uniform, *moments


def _noise(seed, purpose, number):
    """Return a seed of one draw, that neither latents nor missing values have."""
    return fold_in(seed, int(Stream.IMPUTE), purpose, number)
