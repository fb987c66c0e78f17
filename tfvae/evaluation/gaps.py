"""The approximation gap and the amortization gap of inference."""

import dataclasses

import numpy as np
import tensorflow as tf

from tfvae.errors import InvalidArgument
from tfvae.evaluation.batches import arrays_beside_condition
from tfvae.evaluation.exact import exact_or_none
from tfvae.evaluation.free_posterior import FreePosterior, check_family, fit_posterior
from tfvae.evaluation.results import error_or_none, standard_error
from tfvae.models import VAE

GAPS = ("approximation_gap", "amortization_gap", "inference_gap")


@dataclasses.dataclass(frozen=True)
class AmortizationGap:
    """Where the variational bound is lost; all values in nats, arrays of shape `[N]`.

    Attributes:
        log_likelihood: log p(x), exact or importance-sampled.
        free_bound: the bound of posteriors fitted to each example.
        encoder_bound: the bound of the encoder's posteriors.
        is_exact: whether `log_likelihood` is exact; if not, it is low in expectation, and so are
            the approximation and the inference gap.
        num_samples: draws that the bounds were measured with, where they are not sums over states.
    """

    log_likelihood: np.ndarray
    free_bound: np.ndarray
    encoder_bound: np.ndarray
    is_exact: bool
    num_samples: int

    @property
    def approximation_gap(self) -> np.ndarray:
        """log p(x) − free bound: what the posterior family cannot express."""
        return self.log_likelihood - self.free_bound

    @property
    def amortization_gap(self) -> np.ndarray:
        """Free bound − encoder bound: what one network for all examples costs."""
        return self.free_bound - self.encoder_bound

    @property
    def inference_gap(self) -> np.ndarray:
        """log p(x) − encoder bound: the sum of the two."""
        return self.log_likelihood - self.encoder_bound

    def summary(self) -> dict:
        """Return means and, as `..._error`, standard errors over examples, for JSON.

        The standard error of a single example is None.
        """
        values = {}
        for name in ("log_likelihood", "free_bound", "encoder_bound", *GAPS):
            values[name] = float(getattr(self, name).mean())
            values[f"{name}_error"] = error_or_none(getattr(self, name))
        return {**values, "is_exact": self.is_exact, "num_examples": len(self.free_bound)}

    def __str__(self):
        gaps = (
            f"{name.replace('_', ' ')} {values.mean():.3f} ± {standard_error(values):.3f}"
            for name, values in ((name, getattr(self, name)) for name in GAPS)
        )
        return (
            f"log p(x) = {self.log_likelihood.mean():.3f} nats, {', '.join(gaps)}, "
            f"{len(self.free_bound)} examples"
        )


def amortization_gap(
    model: VAE,
    x: np.ndarray | tf.Tensor | tf.data.Dataset,
    *,
    condition: np.ndarray | tf.Tensor | int | None = None,
    num_samples: int | None = None,
    posterior: FreePosterior | None = None,
    seed: int = 0,
    progress: bool = True,
) -> AmortizationGap:
    """Split the inference gap log p(x) − ELBO into approximation and amortization.

        log p(x) − L[q]  =  (log p(x) − L[q*])  +  (L[q*] − L[q]),

    L[q] = E_q[log p(x, z) − log q(z)], q the encoder's q(z|x) and q* the best member of its family
    for this x alone. log p(x) is exact where `tfvae.exact_log_likelihood` can compute it for all
    examples, else importance-sampled from q* or q; bounds are exact for discrete latents of few
    states. A fit that stops early makes the amortization gap look smaller and the approximation gap
    larger.

    Source: Cremer, Li and Duvenaud 2018, "Inference suboptimality in variational autoencoders",
    table 1.

    Args:
        model: a `VAE`.
        x: an array `[N, *x_shape]`, or a batched `tf.data.Dataset` of such, of pairs (x, y) for a
            model with a condition; held in memory.
        condition: y of log p(x|y), labels `[N]` or vectors `[N, C]` or one for all, for a model
            with a condition.
        num_samples: K, draws for each example that bounds and log p(x) are measured with, by
            default 5000; not with a `posterior`, whose bounds have been measured.
        posterior: what `tfvae.fit_posterior` gave for these examples; by default it is called, with
            its own defaults.
        seed: decides all noise; unused with `posterior`.
        progress: whether to show progress bars on standard error.

    Returns:
        An `AmortizationGap`.

    Raises:
        InvalidArgument: a value that cannot be used, a `posterior` of other examples, or a
            condition that is missing or not wanted.
        InvalidData: data that is empty or does not fit the model, or conditions that do not.
    """
    check_family(model)
    x, y = arrays_beside_condition(model, x, condition)
    if posterior is None:
        options = {} if num_samples is None else {"num_fresh_samples": num_samples}
        posterior = fit_posterior(model, x, condition=y, seed=seed, progress=progress, **options)
    elif num_samples is not None:
        raise InvalidArgument(
            "`num_samples` is given beside `posterior`, whose bounds were measured with "
            f"{posterior.num_samples} samples. Leave it out, or call "
            "`tfvae.fit_posterior(..., num_fresh_samples=...)`."
        )
    if len(posterior.per_example) != len(x):
        raise InvalidArgument(
            f"`posterior` has {len(posterior.per_example)} posteriors, but there are {len(x)} "
            "examples; expected the FreePosterior that was fitted to these."
        )
    found = exact_or_none(model, x, condition=y, progress=progress)
    log_p = posterior.log_likelihood if found is None else found.per_example
    return AmortizationGap(
        np.asarray(log_p),
        posterior.per_example,
        posterior.encoder_bound,
        found is not None,
        posterior.num_samples,
    )
