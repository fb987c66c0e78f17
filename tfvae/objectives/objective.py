"""The contract of an objective, and the functions that read its attributes."""

from collections.abc import Callable

import tensorflow as tf

from tfvae.errors import InvalidArgument
from tfvae.registry import Registry

REGISTRY = Registry("objective")
get = REGISTRY.get


class Objective:
    """What training maximizes, `[K, B] -> [B]` in nats, as an object with parameters.

    A plain function of log-weights `[K, B]` is an objective too. Either may carry attributes:

    - `is_linear`: it is the mean of the log-weights;
    - `for_encoder`: another objective, the one that the encoder's gradient follows;
    - `check(num_samples)`: raises `InvalidArgument` for a K that it cannot take;
    - `estimator`: the only estimator that it makes sense with;
    - `takes_log_joint`: it is of log p(x, z) over all states of z, and has no q and no KL term;
    - `penalty(layer, seed)`: a term that depends on the whole batch and is subtracted, `[B]`.

    To add one, implement `__call__` and `get_config`, register it, and re-export it.
    """

    def __call__(self, log_weights: tf.Tensor) -> tf.Tensor:
        """Return the bound `[B]` of log-weights `[K, B]`."""
        raise NotImplementedError

    def get_config(self) -> dict:
        """Return the constructor arguments."""
        raise NotImplementedError

    @classmethod
    def from_config(cls, config: dict) -> "Objective":
        """Return the objective with these constructor arguments."""
        return cls(**config)

    def __repr__(self):
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.get_config().items())
        return f"{type(self).__name__}({arguments})"


def is_linear(objective: Callable) -> bool:
    """Whether the objective is a mean of log-weights, so that the KL term may be exact."""
    return getattr(objective, "is_linear", False)


def takes_log_joint(objective: Callable) -> bool:
    """Whether the objective is of log p(x, z) over all states of z, in place of log-weights."""
    return getattr(objective, "takes_log_joint", False)


def for_encoder(objective: Callable) -> Callable:
    """Return the objective that the encoder's gradient follows: itself, unless it names another."""
    return getattr(objective, "for_encoder", objective)


def check(objective: Callable, num_samples: int) -> None:
    """Refuse a number of samples that the objective cannot take.

    Raises:
        InvalidArgument: with the numbers that it can take.
    """
    if hasattr(objective, "check"):
        objective.check(num_samples)


def check_shape(objective: Callable, num_samples: int) -> None:
    """Refuse what gives no number for each example, which a step might sum up all the same.

    Raises:
        InvalidArgument: with the shape that it returns.
    """
    shape = tuple(objective(tf.zeros([num_samples, 2])).shape)
    if shape != (2,):
        name = getattr(objective, "__name__", objective)
        raise InvalidArgument(
            f"The objective {name} gives the shape {shape} for log-weights [K, B] of the shape "
            f"{(num_samples, 2)}; expected [B], here (2,), a number for each example. Reduce the "
            "first axis alone."
        )


def penalty(objective: Callable) -> Callable | None:
    """Return what the objective subtracts for a batch as a whole, `(layer, seed) -> [B]`, or None.

    `layer` is the `tfvae.joint.StochasticLayer` of the batch, drawn from q, and `seed` `[2]` int32.
    """
    return getattr(objective, "penalty", None)
