"""Outlier scores for data where log p(x) alone does not find outliers.

For pictures, log p(x) is known to fail: it grows with smoothness and falls with the number of
details, so that simple pictures from other data score above those that the model was trained on.
Both functions here return scores like log p(x): the higher, the more ordinary.
"""

import numpy as np

from tfvae._plain.checks import integer, probability, whole
from tfvae.errors import InvalidData


def typicality(log_likelihood: np.ndarray, ordinary: np.ndarray) -> np.ndarray:
    """Return −|log p(x) − mean of log p over ordinary examples|, `[N]` in nats.

    Ordinary examples have log p(x) near its mean, which is minus the entropy. An example that
    scores far above the mean is as unlikely to be one of them as an example that scores far below.

    Source: Nalisnick, Matsukawa, Teh and Lakshminarayanan 2019, "Detecting out-of-distribution
    inputs to deep generative models using typicality", eq. 5, for one example at a time.

    Args:
        log_likelihood: scores of the examples in question, `[N]`.
        ordinary: scores of held-out ordinary examples, `[n]`.

    Raises:
        InvalidData: there are no ordinary examples.
    """
    ordinary = np.asarray(ordinary, np.float64)
    if ordinary.size == 0:
        raise InvalidData("`ordinary` is empty; expected scores of held-out ordinary examples.")
    return -np.abs(np.asarray(log_likelihood, np.float64) - ordinary.mean())


def corrupted(x: np.ndarray, rate: float, seed: int = 0, levels: int | None = None) -> np.ndarray:
    """Return examples with a share of their values replaced, to train a background model on.

    log p(x) − log p_background(x) is the likelihood ratio of Ren et al. 2019, "Likelihood ratios
    for out-of-distribution detection", sec. 3: terms that both models have in common, such as
    those of a plain background, cancel, and the dependence between values, which the corruption
    destroyed, remains.

    Args:
        x: examples, `[N, *x_shape]`.
        rate: the probability of each value to be replaced; 0.1 to 0.3 in the paper.
        seed: any integer; decides which, and by what.
        levels: L, to replace values by any of 0, 1/(L − 1), …, 1 with equal probabilities, as in
            the paper, at least 2, of floats, or 2 of Booleans; None to replace them by those of
            other examples at the same place (column), which leaves the distribution of each as it
            is.

    Raises:
        InvalidArgument: a rate that is no probability, or fewer than two levels.
        InvalidData: integers, which have no such levels, Booleans with more than two; or fewer than
            two examples without `levels`.
    """
    rng = np.random.default_rng(integer("seed", seed) % 2**64)
    x = np.asarray(x)
    replaced = rng.random(x.shape) < probability("rate", rate)
    if levels is not None:
        whole("levels", levels, least=2)
        if x.dtype.kind != "f" and (x.dtype.kind, levels) != ("b", 2):
            raise InvalidData(
                f"`x` is of type {x.dtype.name}, which does not hold {levels} levels from 0 to 1; "
                "expected floats, such as pixels divided by 255, or Booleans and `levels=2`. Or "
                "leave `levels` out."
            )
        values = rng.integers(0, levels, x.shape) / (levels - 1)
    else:
        if len(x) < 2:
            raise InvalidData(
                f"There are {len(x)} examples, and values are replaced by those of others; "
                "expected at least two. Or give `levels`."
            )
        values = rng.permuted(x, axis=0)
    return np.where(replaced, values, x).astype(x.dtype)
