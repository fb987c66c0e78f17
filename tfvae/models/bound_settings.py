"""What `compile` sets of a training on a bound, checked as a whole."""

import numbers
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfvae import estimators, objectives
from tfvae._plain.checks import whole
from tfvae.bound import KL_CHOICES, Bound, by_layer
from tfvae.errors import InvalidArgument
from tfvae.models.settings import Scheduled
from tfvae.schedules import LinearWarmup


class BoundSettings:
    """The settings of a training on a bound; `BoundTraining.compile` describes them.

    Args:
        posteriors: the family of q of each layer; the other arguments are those of `compile`.

    Raises:
        InvalidArgument: a value that cannot be used, or values that do not go together.
    """

    def __init__(
        self,
        posteriors: Sequence,
        *,
        objective: str | objectives.Objective | Callable,
        estimator: str | estimators.Estimator | None,
        num_samples: int,
        beta: float | Callable | Sequence,
        kl_warmup_steps: int,
        kl: str,
        free_bits: float | Callable | Sequence,
    ):
        self.num_samples = whole("num_samples", num_samples)
        self.kl_warmup_steps = whole("kl_warmup_steps", kl_warmup_steps, least=0)
        if kl not in KL_CHOICES:
            raise InvalidArgument(f"`kl` is {kl!r}; expected one of {', '.join(KL_CHOICES)}.")
        self.kl = kl
        self.objective = objectives.get(objective)
        objectives.check(self.objective, num_samples)
        if estimator is None:
            estimator = getattr(self.objective, "estimator", "pathwise")
        self.estimator = estimators.get(estimator)
        self.estimator.check(posteriors, self.objective, num_samples)
        self._check_beta(beta)
        if kl_warmup_steps and not isinstance(beta, numbers.Real):
            raise InvalidArgument(
                "`kl_warmup_steps` raises one number `beta`; here `beta` is "
                f"{beta!r}. Leave it out, and let a schedule say how β rises."
            )
        self.beta = Scheduled("beta", beta, len(posteriors))
        self.free_bits = Scheduled("free_bits", free_bits, len(posteriors))
        self._check_kl()

    @property
    def scheduled(self) -> tuple[Scheduled, ...]:
        """The settings whose numbers may be assigned while the model trains."""
        return (self.beta, self.free_bits)

    @property
    def needs_known_kl(self) -> bool:
        """Whether layers must have their KL in closed form."""
        return self.kl == "exact" or self.free_bits.is_used

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of `compile`, as objects, with the numbers as they are now."""
        names = ("objective", "estimator", "num_samples", "kl_warmup_steps", "kl")
        values = {each.name: each.value for each in self.scheduled}
        return {name: getattr(self, name) for name in names} | values

    def assign(self, name: str, value: float | Sequence) -> None:
        """Assign a number to `beta` or `free_bits`, checked as `compile` does.

        Raises:
            InvalidArgument: it follows a schedule, or the compiled graph has no place for it.
        """
        scheduled = getattr(self, name)
        number, used = scheduled.checked(value), scheduled.layers_that_use
        if name == "beta":
            self._check_beta(value)
        elif np.any((number != 0) & ~np.asarray(used)):
            where = "in a layer " if any(used) else ""
            raise InvalidArgument(
                f"`free_bits` was 0 {where}when the model was compiled, so its graph does not "
                f"count them there. Call model.compile(..., free_bits={value!r})."
            )
        scheduled.assign(value)

    def training_bound(self, step: tf.Tensor) -> Bound:
        """Return the bound that the training step after `step` others maximizes."""
        beta = self.beta.at(step)
        if self.kl_warmup_steps:
            beta *= LinearWarmup(self.kl_warmup_steps)(step)
        return self._bound(beta, self.free_bits.at(step))

    def validation_bound(self, step: tf.Tensor) -> Bound:
        """Return the bound with the final β and free bits."""
        return self._bound(self.beta.final(step), self.free_bits.final(step))

    def _bound(self, beta, free_bits):
        used = self.free_bits.layers_that_use
        if any(used):
            each = zip(by_layer(free_bits, len(used)), used, strict=True)
            free_bits = [value if uses else None for value, uses in each]
        may_be_exact = objectives.is_linear(self.objective) and self.estimator.takes_exact_kl
        return Bound(
            self.objective,
            self.num_samples,
            beta,
            self.kl if may_be_exact else "monte_carlo",
            free_bits if any(used) else None,
        )

    def _check_beta(self, beta):
        """Refuse a β that the objective or the estimator does not take."""
        if objectives.takes_log_joint(self.objective) and (beta != 1 or self.kl_warmup_steps):
            raise InvalidArgument(
                "The objective 'exact' is log p(x), which has no KL term to weigh: leave `beta` at "
                "1 and `kl_warmup_steps` at 0, or use objective='elbo'."
            )
        if isinstance(beta, (list, tuple)) and not self.estimator.takes_betas:
            name = estimators.registered_name(type(self.estimator))
            raise InvalidArgument(
                f"The estimator {name!r} takes one β for all layers; got {beta!r}. Use 'pathwise' "
                "or 'sticking_the_landing'."
            )

    def _check_kl(self):
        """Refuse a KL term in closed form where the objective or the estimator needs samples."""
        if not self.needs_known_kl:
            return
        if self.kl == "monte_carlo":
            raise InvalidArgument("`free_bits` needs the KL in closed form: leave kl='auto'.")
        wanted = "`kl='exact'`" if self.kl == "exact" else "`free_bits`"
        if not objectives.is_linear(self.objective):
            raise InvalidArgument(
                f"{wanted} needs an objective that is linear in the log-weights, such as 'elbo': "
                "inside a logarithm the expectation may not be taken first. Use kl='auto' and "
                "free_bits=0."
            )
        if not self.estimator.takes_exact_kl:
            raise InvalidArgument(
                f"{wanted} needs an estimator that takes the KL in closed form: "
                f"{', '.join(estimators.names(lambda e: e.takes_exact_kl))}. Got "
                f"{self.estimator.name}."
            )
