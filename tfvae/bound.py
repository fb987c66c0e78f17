"""The bound on log p(x) that `compile` sets: a function of the terms of one pass."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from tfvae import objectives
from tfvae.errors import InvalidArgument
from tfvae.joint import Joint

KL_CHOICES = ("auto", "exact", "monte_carlo")


class LogWeightTerms(NamedTuple):
    """The parts of a log-weight, in nats.

    Attributes:
        log_likelihood: log p(x|z), `[K, B]`.
        kls: for each stochastic layer, log q(z_l|…) − log p(z_l|…), `[K, B]`, a one-sample estimate
            of the KL in each entry; or KL(q‖p) in closed form, `[1 or K, B]`.
        counted: the terms that the loss counts in place of `kls`, where free bits change them.
    """

    log_likelihood: tf.Tensor
    kls: tuple[tf.Tensor, ...]
    counted: tuple[tf.Tensor, ...] | None = None

    @property
    def kl(self) -> tf.Tensor:
        """The sum over layers, `[1 or K, B]`."""
        return sum(self.kls)

    def log_weights(self, beta: float | tf.Tensor | Sequence = 1.0) -> tf.Tensor:
        """Return log p(x|z) + Σ_l β_l (log p(z_l|…) − log q(z_l|…)), `[K, B]`."""
        counted = self.kls if self.counted is None else self.counted
        betas = by_layer(beta, len(counted))
        return self.log_likelihood - sum(b * kl for b, kl in zip(betas, counted, strict=True))


class Bound(NamedTuple):
    """A bound, and the weights of its parts.

    Attributes:
        objective: `[K, B] -> [B]`, see `tfvae.objectives`.
        num_samples: K.
        beta: β, the weight of the KL; a number for all layers, or one for each.
        kl: "monte_carlo" samples the KL of every layer; "auto" takes the closed form of the layers
            where it is known; "exact" refuses layers where it is not.
        free_bits: λ, nats of KL that each unit may use at no cost; a number, or one for each layer;
            None for none, of all layers or of one. A layer with free bits needs its KL in closed
            form.
    """

    objective: Callable
    num_samples: int = 1
    beta: float | tf.Tensor | Sequence = 1.0
    kl: str = "monte_carlo"
    free_bits: float | tf.Tensor | Sequence | None = None

    def terms(self, joint: Joint) -> LogWeightTerms:
        """Return the parts of the log-weights of a pass."""
        if self.kl == "monte_carlo":
            kls = [layer.log_q - layer.log_p() for layer in joint.layers]
            return LogWeightTerms(joint.log_likelihood, tuple(kls))
        by_unit = [layer.kl_by_unit() for layer in joint.layers]
        free_bits = by_layer(self.free_bits, len(by_unit))
        for number, (units, free) in enumerate(zip(by_unit, free_bits, strict=True)):
            if units is None and (self.kl == "exact" or free is not None):
                raise InvalidArgument(unknown_kl(joint, number))
        kls = tuple(
            layer.log_q - layer.log_p() if units is None else tf.reduce_sum(units, -1)
            for layer, units in zip(joint.layers, by_unit, strict=True)
        )
        if self.free_bits is None:
            return LogWeightTerms(joint.log_likelihood, kls)
        counted = tuple(
            kl if free is None else tf.reduce_sum(tf.maximum(units, free), -1)
            for kl, units, free in zip(kls, by_unit, free_bits, strict=True)
        )
        return LogWeightTerms(joint.log_likelihood, kls, counted)

    def log_weights(self, terms: LogWeightTerms) -> tf.Tensor:
        """Return the log-weights with β as it is set, `[K, B]`."""
        return terms.log_weights(self.beta)

    def weighted_log_q(self, joint: Joint) -> tf.Tensor:
        """Return Σ_l β_l log q(z_l|…), the part of q in the log-weights at fixed z, `[K, B]`."""
        betas = by_layer(self.beta, len(joint.layers))
        return sum(b * layer.log_q for b, layer in zip(betas, joint.layers, strict=True))

    @property
    def encoder_objective(self) -> Callable:
        """The objective that the encoder's gradient follows."""
        return objectives.for_encoder(self.objective)

    @property
    def is_linear(self) -> bool:
        """Whether the encoder's objective is a mean of log-weights."""
        return objectives.is_linear(self.encoder_objective)


def by_layer(value: Any, num_layers: int) -> list:
    """Return one value for each layer, of one for all or of one for each."""
    if isinstance(value, (list, tuple)):
        return list(value)
    if tf.is_tensor(value) and value.shape.rank == 1:
        return tf.unstack(value, num_layers)
    return [value] * num_layers


def unknown_kl(joint: Joint, number: int) -> str:
    """Return the message for a layer whose KL is not known in closed form."""
    layer = joint.layers[number]
    what = f"z{number + 1}" if len(joint.layers) > 1 else "the latent"
    why = (
        "whose p is given a layer that is drawn later"
        if layer.p_sees_later
        else (f"of the posterior {layer.q.name} and the prior {layer.p.name}")
    )
    return (
        f"`kl='exact'` and `free_bits` need KL(q‖p) in closed form, which is not known for {what}, "
        f"{why}. Use kl='auto', and no free bits for it."
    )
