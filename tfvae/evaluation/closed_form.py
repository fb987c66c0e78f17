"""log p(x|y) of linear-Gaussian models, in closed form for each condition."""

import numpy as np
import tensorflow as tf

from tfvae import exact
from tfvae.errors import InvalidArgument
from tfvae.evaluation.batches import alike


class NoClosedForm(InvalidArgument):
    """log p(x|y) has no closed form, for some y at least."""


class Marginals:
    """p(x|y) in closed form, of any condition y; the `most` that were found last are kept."""

    def __init__(self, model, most):
        self._model, self._most, self._kept = model, most, {}

    def __call__(self, y):
        """Return that of one condition, or of None without one."""
        key = None if y is None else y.tobytes()
        if key not in self._kept:
            if len(self._kept) == self._most:
                self._kept.pop(next(iter(self._kept)))
            self._kept[key] = _marginal(self._model, y)
        return self._kept[key]


def _marginal(model, y):
    """Return p(x) in closed form, given one condition y if the model has one."""
    marginal = exact.linear_gaussian(model, y)
    if marginal is None:
        raise NoClosedForm(
            "log p(x) of this model has no closed form: its latents are "
            f"{', '.join(model.latent_kinds)}. Expected discrete latents, or a standard normal "
            "prior with an affine decoder and a Normal likelihood of fixed scale. Use "
            "tfvae.log_likelihood, which estimates it by importance sampling."
        )
    return marginal


def log_prob_given(marginals, x, y) -> np.ndarray:
    """Return log p(x|y) of a batch in closed form, `[B]`: the examples of each y at once."""
    log_p = np.zeros(len(x))
    y = None if y is None else np.asarray(y)
    for chosen in alike(y, len(x)):
        marginal = marginals(None if y is None else y[chosen[0]])
        log_p[chosen] = marginal.log_prob(_flat(tf.gather(x, chosen))).numpy()
    return log_p


def _flat(x):
    return tf.reshape(x, [len(x), -1])
