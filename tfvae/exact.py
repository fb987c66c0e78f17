"""log p(x) exactly: enumeration of small discrete latents, linear-Gaussian closed form."""

import math

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfvae.distributions import all_states, num_states
from tfvae.errors import InvalidArgument
from tfvae.likelihoods import Normal

MAX_STATES = 2**16


def states_by_layer(model) -> list[np.ndarray]:
    """Return every value of the model's latent, for each layer an array `[S, *layer_shape]`.

    Raises:
        InvalidArgument: a continuous latent, or more than `MAX_STATES` states.
    """
    check_num_states(num_latent_states(model), "the latent")
    kinds = [posterior.kind for posterior in model.posterior_of_layer]
    values = [all_states(*layer) for layer in zip(kinds, model.layer_shapes, strict=True)]
    index = np.indices([len(of_layer) for of_layer in values]).reshape(len(values), -1)
    return [of_layer[of_states] for of_layer, of_states in zip(values, index, strict=True)]


def latent_states(model) -> np.ndarray:
    """Return every value of the latent, `[S, *latent_shape]`; see `states_by_layer`."""
    return model.join(states_by_layer(model)).numpy()


def num_latent_states(model) -> int:
    """Return how many values the model's latent takes.

    Raises:
        InvalidArgument: a continuous latent.
    """
    if "continuous" in model.latent_kinds:
        raise InvalidArgument(
            "Enumeration needs discrete latents; these are continuous. Use "
            "tfvae.log_likelihood, or the objectives 'elbo' or 'iwae'."
        )
    layers = zip(model.latent_kinds, model.layer_shapes, strict=True)
    return math.prod(num_states(*layer) for layer in layers)


def check_num_states(count: int, what: str) -> None:
    """Refuse to enumerate too much.

    Raises:
        InvalidArgument: with the number of states and the limit.
    """
    if count > MAX_STATES:
        size = f"{count:,}" if count < 10**9 else f"about 10^{math.log10(count):.0f}"
        raise InvalidArgument(
            f"Enumeration goes over all states of {what}: {size}, but the limit is "
            f"{MAX_STATES:,} (2^16). Use fewer latents or samples, or an estimator that samples."
        )


def log_joint(model, x, states) -> tf.Tensor:
    """Return log p(x, z) of every state `[S, *latent_shape]`, `[S, B]`; each is decoded once."""
    return model.log_joint(x, tf.convert_to_tensor(states)[:, tf.newaxis])


def linear_gaussian(model) -> tfp.distributions.Distribution | None:
    """Return p(x) in closed form, N(b, W Wᵀ + σ² I), over flattened x; None where it has none.

    It has one for the standard normal prior, a Normal likelihood whose σ does not depend on z, and
    a decoder that is affine, z → W z + b: probabilistic principal component analysis where σ is
    one number, factor analysis where it is one for each value.

    Source: Tipping and Bishop 1999, "Probabilistic principal component analysis", eq. 6.
    """
    from tfvae.priors import StandardNormal

    of_z = not isinstance(model.likelihood, Normal) or model.likelihood.scale == "learned"
    if of_z or not isinstance(model.prior, StandardNormal):
        return None
    weights, bias = _affine_map(model)
    if weights is None:
        return None
    sigma = np.broadcast_to(np.ravel(model.likelihood.current_scale()), bias.shape)
    covariance = weights @ weights.T + np.diag(sigma.astype(np.float64) ** 2)
    return tfp.distributions.MultivariateNormalTriL(bias, np.linalg.cholesky(covariance))


def _affine_map(model):
    """Return (W, b) in float64 where the decoder is z → W z + b, else (None, None)."""
    size = math.prod(model.latent_shape)

    def decode(z):
        z = tf.constant(z.reshape(-1, *model.latent_shape), tf.float32)
        return np.asarray(model.decoder(z), np.float64).reshape(len(z), -1)

    bias = decode(np.zeros((1, size)))[0]
    weights = (decode(np.eye(size)) - bias).T
    z = 3.0 * np.random.default_rng(0).normal(size=(8, size))
    predicted, decoded = z @ weights.T + bias, decode(z)
    if np.max(np.abs(predicted - decoded)) > 1e-4 * (1.0 + np.max(np.abs(decoded))):
        return None, None
    return weights, bias
