"""The prior over codes, which a model may be given at any time."""

import keras
import numpy as np
import tensorflow as tf

from tfvae import code_priors
from tfvae.errors import InvalidArgument
from tfvae.models.generative_model import GenerativeModel


class ReplaceablePrior(GenerativeModel):
    """A model of codes whose prior p(codes) is fitted by itself and may be replaced at any time.

    The prior has a `fit` of its own; the training of the model does not change it. It may have a
    condition where the networks have none. Subclasses set `codebooks`, call `start_prior` in their
    constructor and, once `code_shape` and the size of the codebooks are known, `build_prior`.
    """

    takes_condition_instead = "no condition, and a prior with `num_classes=`"

    @property
    def codebook_size(self) -> int:
        """How many values a code takes."""
        return self.codebooks[0].codebook_size

    def start_prior(self, prior: code_priors.CodePrior | None) -> None:
        """Take the first prior, uniform if None."""
        self.prior = code_priors.UniformCodePrior(self.codebook_size) if prior is None else prior
        self._has_default_prior = prior is None

    def build_prior(self) -> None:
        """Build the prior for the codes of the model.

        Raises:
            InvalidArgument: it is over other codes, or has another condition.
        """
        if self._has_default_prior:  # of the codebook size that is known only now
            self.prior = code_priors.UniformCodePrior(self.codebook_size)
        self._check_prior(self.prior)

    @property
    def prior(self) -> code_priors.CodePrior:
        """The prior p(codes). Set it to one that was fitted to codes of this model."""
        return self._attached.prior

    @prior.setter
    def prior(self, prior):
        if not isinstance(prior, code_priors.CodePrior):
            raise InvalidArgument(
                f"`prior` is {prior!r}; expected a tfvae.code_priors.CodePrior. Make one by name "
                f'with code_priors.get("transformer", codebook_size={self.codebook_size}).'
            )
        if self.built:
            self._check_prior(prior)
        self._attached.hold(prior=prior)
        self._has_default_prior = False

    def __setattr__(self, name, value):
        """Set an attribute; Keras would track a prior here before the setter sees it."""
        if name == "prior":
            type(self).prior.fset(self, value)
        else:
            super().__setattr__(name, value)

    @property
    def trainable_variables(self):
        """What `fit` trains: networks and codebooks, not the prior."""
        return _without(self.prior.variables, super().trainable_variables)

    @property
    def trainable_weights(self):
        """As `trainable_variables`."""
        return _without(self.prior.variables, super().trainable_weights)

    @property
    def non_trainable_variables(self):
        """The weights that `fit` does not train by gradients, those of the prior included."""
        return _without(self.trainable_variables, self.variables)

    @property
    def non_trainable_weights(self):
        """As `non_trainable_variables`, without seeds."""
        return _without(self.trainable_variables, self.weights)

    def get_config(self):
        """Return the constructor arguments that these models have, serialized."""
        # The size of the default prior is known once the model is built.
        prior = None if self._has_default_prior and not self.built else self.prior
        return super().get_config() | {"prior": keras.saving.serialize_keras_object(prior)}

    # The condition of the networks, set by the constructor; otherwise that of the prior.

    @property
    def condition(self):
        """What y is, a `tfvae.conditions.Condition`; None if neither networks nor prior take it."""
        return self._condition or self.prior.condition

    @property
    def uses_of_condition(self):
        """Which of "encode", "decode" and "sample" depend on y."""
        return super().uses_of_condition | ({"sample"} if self.prior.condition else set())

    @property
    def trains_on_condition(self):
        """Whether `fit`, `evaluate` and `predict` need y beside x: where a network takes it."""
        return self._condition is not None

    def condition_of_prior(
        self, y: np.ndarray | tf.Tensor | int | None
    ) -> np.ndarray | tf.Tensor | int | None:
        """Return y for the prior; None if the prior has no classes."""
        return None if self.prior.condition is None else y

    def encode_condition(self, y, count):
        """Return c(y), `[count, C]`, for the networks; None where they take none.

        Raises:
            InvalidArgument: a condition that is missing, or that is not wanted.
            InvalidData: conditions of another type or shape, or out of range.
        """
        if self._condition is None and (y is None or self.condition is not None):
            return None
        return super().encode_condition(y, count)

    @property
    def has_fitted_prior(self) -> bool:
        """Whether the prior was fitted to codes."""
        uniform = isinstance(self.prior, code_priors.UniformCodePrior)
        return not uniform and int(self.prior.training_step) > 0

    def _check_prior(self, prior):
        if not prior.built and prior.codebook_size == self.codebook_size:
            prior.build((None, *self.code_shape))
        shape = tuple(prior.code_shape) if prior.built else "any shape"
        if (shape, prior.codebook_size) != (tuple(self.code_shape), self.codebook_size):
            raise InvalidArgument(
                f"The prior is over codes of {shape} from a codebook of {prior.codebook_size}, but "
                f"this model has codes of {tuple(self.code_shape)} from a codebook of "
                f"{self.codebook_size}. Fit a prior on `model.encode(x)` of this model."
            )
        given = self._condition
        if given and prior.condition and given.num_classes != prior.num_classes:
            classes = f"with num_classes={given.num_classes}"
            raise InvalidArgument(
                f"The prior has {prior.num_classes} classes, but the condition of this model is "
                f"{given}. Use a prior {classes if given.num_classes else 'without classes'}."
            )


def _without(removed, variables):
    removed = {id(variable) for variable in removed}
    return [variable for variable in variables if id(variable) not in removed]
