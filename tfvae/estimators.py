"""Gradient estimators: how an expectation over q(z|x) is differentiated.

An estimator is a function  (objective, model, x, num_samples, beta, seed, training) ->
(surrogate `[B]`, `LogWeightTerms`).  The surrogate's value is the objective's; its gradient is the
estimator's. To add one, write and register the function here, and re-export it.
"""

from collections.abc import Callable

import tensorflow as tf
import tensorflow_probability as tfp

from tfvae.errors import InvalidArgument
from tfvae.objectives import LogWeightTerms
from tfvae.registry import Registry

REGISTRY = Registry("estimator")
get = REGISTRY.get


@REGISTRY.register("pathwise")
def pathwise(
    objective: Callable, model, x, num_samples: int, beta, seed, training: bool
) -> tuple[tf.Tensor, LogWeightTerms]:
    """The reparameterization estimator: z = g(ε, x) is differentiated through g.

    Works for posteriors whose samples are differentiable functions of their parameters.

    Source: Kingma and Welling 2014, "Auto-encoding variational Bayes", sec. 2.4.

    Raises:
        InvalidArgument: the posterior cannot be reparameterized.
    """
    q = model.q_z_given_x(x, training=training)
    if q.reparameterization_type != tfp.distributions.FULLY_REPARAMETERIZED:
        raise InvalidArgument(
            f"The pathwise estimator needs a posterior that can be reparameterized; "
            f"{q.name} cannot. Use a Gaussian posterior."
        )
    z = q.sample(num_samples, seed=seed)
    terms = model.log_weight_terms(x, z, q, exact_kl=model.uses_exact_kl, training=training)
    return objective(terms.log_weights(beta)), terms
