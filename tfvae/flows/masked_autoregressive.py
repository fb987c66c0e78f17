"""Masked autoregressive flows: MAF, whose density is fast, and IAF, whose draws are."""

import numpy as np
import tensorflow as tf

from tfvae._plain.checks import positive, whole
from tfvae.flows.affine_coupling import bounded
from tfvae.flows.conditioner import Conditioner
from tfvae.flows.flow import REGISTRY, Flow


def _in_turn(degrees, width):
    """Return the degrees of so many units: all of them in turn, or as many as there are units."""
    if width >= len(degrees):
        return np.resize(degrees, width)
    places = np.linspace(0, len(degrees) - 1, width)
    return degrees[np.round(places).astype(int)]


class _Autoregressive(Flow):
    """z_d = u_d·exp(α_d) + μ_d, with μ, α from a masked network of values before d.

    The network is a MADE: units have degrees, and a unit sees only those of the layer before whose
    degree is not above its own. Inputs have the degrees 1 … D, the parameters of value d the degree
    d − 1, hidden units those between, in turn. A layer of fewer units than there are degrees
    between spreads over them; the parameters of value d then see all values before it but the
    last few, so choose `hidden` of at least D − 1.

    Source: Germain et al. 2015, "MADE: masked autoencoder for distribution estimation", sec. 4.

    Args:
        hidden: widths of the hidden layers of the network (μ, α).
        activation: of these layers.
        max_log_scale: c; α = c·tanh(raw / c).
    """

    def __init__(self, hidden=(64, 64), activation="tanh", max_log_scale=2.0, **kwargs):
        super().__init__(**kwargs)
        self.hidden = tuple(whole("hidden", units) for units in hidden)
        self.activation = activation
        self.max_log_scale = positive("max_log_scale", max_log_scale)
        self.made = Conditioner(self.hidden, activation, dtype=self.dtype_policy)

    def build(self, event_shape, context_size=0):
        super().build(event_shape, context_size)
        units = np.arange(1, self.size + 1)
        # A unit of degree 0 sees the context alone, on which alone the parameters of z_1 depend.
        lowest = 0 if context_size or self.size == 1 else 1
        between = np.arange(lowest, self.size)
        degrees = [_in_turn(between, width) for width in self.hidden]
        degrees = [units, *degrees, np.tile(units - 1, 2)]
        self.made.build(self.size, 2 * self.size, context_size, degrees)

    def _parameters(self, values, context):
        """Return μ and α, `[..., D]`; those of value d depend on the values before d."""
        raw, loc = tf.split(self.made(values, context), 2, axis=-1)
        return loc, bounded(raw, self.max_log_scale)

    def _solve(self, step, like, context):
        """Return x with x = step(μ(x), α(x)), and α(x), by D passes: pass d finds x_d.

        Values that are not found yet stay 0, since they could grow without bound from pass to pass.
        """
        units = tf.range(self.size)

        def find(number, x):
            x = step(*self._parameters(x, context))
            return number + 1, tf.where(units <= number, x, tf.zeros_like(x))

        start = tf.constant(0), tf.zeros_like(like)
        last = self.size - 1
        _, x = tf.while_loop(lambda number, x: number < last, find, start, maximum_iterations=last)
        loc, log_scale = self._parameters(x, context)
        return step(loc, log_scale), log_scale

    def get_config(self):
        config = super().get_config()
        names = ("hidden", "activation", "max_log_scale")
        return {**config, **{name: getattr(self, name) for name in names}}


@REGISTRY.register("masked_autoregressive")
class MaskedAutoregressive(_Autoregressive):
    """MAF: z_d = u_d·exp(α_d(z_{<d})) + μ_d(z_{<d}),  log|det ∂z/∂u| = Σ_d α_d.

    With normal u this is p(z) = Π_d N(z_d; μ_d(z_{<d}), exp(2 α_d(z_{<d}))). `inverse`, and so the
    density, is one pass; `forward`, and so a draw, is a loop of D passes.

    Source: Papamakarios et al. 2017, "Masked autoregressive flow for density estimation",
    eq. 3 to 5.

    Args:
        hidden: widths of the hidden layers of the network (μ, α).
        activation: of these layers.
        max_log_scale: c; α = c·tanh(raw / c).
    """

    forward_is_parallel = False

    def _forward(self, u, context):
        z, log_scale = self._solve(lambda loc, a: u * tf.exp(a) + loc, u, context)
        return z, tf.reduce_sum(log_scale, -1)

    def _inverse(self, z, context):
        loc, log_scale = self._parameters(z, context)
        return (z - loc) * tf.exp(-log_scale), -tf.reduce_sum(log_scale, -1)


@REGISTRY.register("inverse_autoregressive")
class InverseAutoregressive(_Autoregressive):
    """IAF: z_d = u_d·exp(α_d(u_{<d})) + μ_d(u_{<d}),  log|det ∂z/∂u| = Σ_d α_d.

    `forward`, and so a draw with its own log q, is one pass; `inverse`, and so the density of a z
    from elsewhere, is a loop of D passes.

    Source: Kingma et al. 2016, "Improved variational inference with inverse autoregressive flow",
    eq. 9 to 11.

    Args:
        hidden: widths of the hidden layers of the network (μ, α).
        activation: of these layers.
        max_log_scale: c; α = c·tanh(raw / c).
    """

    inverse_is_parallel = False

    def _forward(self, u, context):
        loc, log_scale = self._parameters(u, context)
        return u * tf.exp(log_scale) + loc, tf.reduce_sum(log_scale, -1)

    def _inverse(self, z, context):
        u, log_scale = self._solve(lambda loc, a: (z - loc) * tf.exp(-a), z, context)
        return u, -tf.reduce_sum(log_scale, -1)
