"""Products of likelihoods, one for each block of columns."""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from tfvae import distributions
from tfvae._plain.checks import whole
from tfvae.distributions import tfd
from tfvae.errors import InvalidArgument
from tfvae.likelihoods.likelihood import REGISTRY, Likelihood, get
from tfvae.random import draw_seed


@REGISTRY.register("columns")
class Columns(Likelihood):
    """p(x|z) = Π_b p_b(x_b|z): each block of columns of a table has a likelihood of its own.

    The blocks share the last axis of x in their order, and their parameters that of the network's
    output. Samples of a model are draws of x; reconstructions, and what `decode` gives, are the
    most likely level of columns with levels, and the mean of others.

    Args:
        blocks: for each block, a likelihood (a name or an object) and its number of columns, and a
            dictionary of constructor arguments where the likelihood is a name:
            `[("normal", 3), ("bernoulli", 2), ("categorical", 1, {"num_levels": 4})]`. Those of a
            table are what `blocks()` of its `tfvae.data.Schema` returns.

    Raises:
        InvalidArgument: no blocks, or one of another form.
    """

    draws_values = True

    def __init__(self, blocks: Sequence, **kwargs):
        super().__init__(**kwargs)
        blocks = [_block(block) for block in blocks] if isinstance(blocks, (list, tuple)) else []
        if not blocks:
            raise InvalidArgument(
                "`blocks` is empty; expected (likelihood, number of columns) for each block of "
                "columns, such as [('normal', 3), ('bernoulli', 2)]."
            )
        self.likelihoods = [likelihood for likelihood, _ in blocks]
        self.sizes = [size for _, size in blocks]

    @property
    def is_density(self):
        """Whether any block has a density."""
        return any(likelihood.is_density for likelihood in self.likelihoods)

    @property
    def missing_unit(self):
        """None where the columns of a block depend on each other."""
        pairs = zip(self.likelihoods, self.sizes, strict=True)
        units = {
            "value" if (p.missing_unit, n) == ("site", 1) else p.missing_unit for p, n in pairs
        }
        return "value" if units == {"value"} else None

    def num_categories(self, channels):
        pairs = zip(self.likelihoods, self.sizes, strict=True)
        return np.concatenate([likelihood.num_categories(size) for likelihood, size in pairs])

    def placeholder(self, channels):
        pairs = zip(self.likelihoods, self.sizes, strict=True)
        return np.concatenate([likelihood.placeholder(size) for likelihood, size in pairs])

    @property
    def unbounded(self):
        """The unbounded parameters of all blocks."""
        sizes, found, start = self._params_sizes(), {}, 0
        for number, (likelihood, size) in enumerate(zip(self.likelihoods, sizes, strict=True)):
            for name, (low, high) in likelihood.unbounded.items():
                ends = ((start + share * size) / sum(sizes) for share in (low, high))
                found[f"{name} of block {number + 1}"] = tuple(ends)
            start += size
        return found

    def build(self, params_shape):
        for likelihood, size in zip(self.likelihoods, self._params_sizes(), strict=True):
            if not likelihood.built:  # a loaded one is
                likelihood.build((*params_shape[:-1], size))
        super().build(params_shape)

    def _params_sizes(self):
        pairs = zip(self.likelihoods, self.sizes, strict=True)
        return [likelihood.params_size(size) for likelihood, size in pairs]

    def draw_width(self, channels):
        pairs = zip(self.likelihoods, self.sizes, strict=True)
        return sum(likelihood.draw_width(size) for likelihood, size in pairs)

    def params_size(self, channels):
        """Return how many parameters the columns need, which must be as many as the blocks have.

        Raises:
            InvalidArgument: another number of columns.
        """
        if channels != sum(self.sizes):
            raise InvalidArgument(
                f"The blocks {self.sizes} have {sum(self.sizes)} columns, but the examples have "
                f"{channels}; expected as many."
            )
        return sum(self._params_sizes())

    def event_shape(self, params_shape):
        *sites, size = params_shape
        if size != sum(self._params_sizes()):
            raise InvalidArgument(
                f"A network that feeds Columns ends in an axis of size {size}; expected "
                f"{sum(self._params_sizes())} parameters for {sum(self.sizes)} columns."
            )
        return (*sites, sum(self.sizes))

    def check(self, x, name="x"):
        """Refuse data that the likelihood of a block gives no meaning to, naming the columns."""
        start = 0
        for likelihood, size in zip(self.likelihoods, self.sizes, strict=True):
            columns = f"columns {start} to {start + size - 1}" if size > 1 else f"column {start}"
            likelihood.check(np.asarray(x)[..., start : start + size], f"{name}, {columns}")
            start += size

    def takes(self, x):
        parts = tf.split(x, self.sizes, axis=-1)
        taken = [p.takes(part) for p, part in zip(self.likelihoods, parts, strict=True)]
        return tf.reduce_all(tf.stack(taken))

    def expected(self):
        return " ".join(dict.fromkeys(likelihood.expected() for likelihood in self.likelihoods))

    def off_levels(self, x):
        ends = np.cumsum(self.sizes)[:-1]
        parts = np.split(np.asarray(x), ends, axis=-1)
        pairs = zip(self.likelihoods, parts, strict=True)
        return max(likelihood.off_levels(part) for likelihood, part in pairs)

    def distribution(self, params, batch_ndims):
        parts = tf.split(params, self._params_sizes(), axis=-1)
        pairs = zip(self.likelihoods, parts, strict=True)
        has_levels = [bool(likelihood.num_categories(1)[0]) for likelihood in self.likelihoods]
        return _Product([p(part, batch_ndims) for p, part in pairs], self.sizes, has_levels)

    def get_config(self):
        pairs = zip(self.likelihoods, self.sizes, strict=True)
        blocks = [[keras.saving.serialize_keras_object(p), size] for p, size in pairs]
        return {"blocks": blocks, **super().get_config()}


def _block(block):
    """Return (likelihood, number of columns) of what a user gave for a block."""
    if not isinstance(block, (list, tuple)) or len(block) not in (2, 3):
        raise InvalidArgument(
            f"A block is {block!r}; expected (likelihood, number of columns), with a dictionary of "
            "options behind it where the likelihood is a name."
        )
    likelihood, size, *options = block
    likelihood = get(likelihood, **(options[0] if options else {}))
    if likelihood.complete() is not likelihood:
        raise InvalidArgument(
            "A block of columns has the likelihood Observed; put it around all of them instead: "
            "likelihoods.Observed(likelihoods.Columns(...))."
        )
    return likelihood, whole("number of columns", size)


class _Product(tfd.Distribution):
    """Independent blocks of the last axis."""

    def __init__(self, parts, sizes, has_levels):
        self._parts, self._sizes, self._has_levels = parts, sizes, has_levels
        super().__init__(
            dtype=tf.float32,
            reparameterization_type=(
                tfd.FULLY_REPARAMETERIZED
                if {p.reparameterization_type for p in parts} == {tfd.FULLY_REPARAMETERIZED}
                else tfd.NOT_REPARAMETERIZED
            ),
            validate_args=False,
            allow_nan_stats=True,
            name="Columns",
        )

    def _batch_shape(self):
        return self._parts[0].batch_shape

    def _batch_shape_tensor(self):
        return self._parts[0].batch_shape_tensor()

    def _event_shape(self):
        *sites, _ = self._parts[0].event_shape
        return tf.TensorShape([*sites, sum(self._sizes)])

    def _event_shape_tensor(self):
        return tf.constant(self._event_shape().as_list(), tf.int32)

    def _log_prob(self, x):
        parts = tf.split(x, self._sizes, axis=-1)
        return tf.add_n([p.log_prob(part) for p, part in zip(self._parts, parts, strict=True)])

    def log_prob_by_value(self, x):
        """Return log p of each column, `[..., *event]`."""
        parts = tf.split(x, self._sizes, axis=-1)
        pairs = zip(self._parts, parts, strict=True)
        return tf.concat([distributions.log_prob_by_value(p, part) for p, part in pairs], -1)

    def log_prob_by_level(self, x, values):
        """Return log p of each of the L values of each column, `[..., *event, L]`."""
        parts = tf.split(x, self._sizes, axis=-1)
        pairs = zip(self._parts, parts, strict=True)
        return tf.concat([distributions.log_prob_by_level(p, y, values) for p, y in pairs], -2)

    def _sample_n(self, n, seed=None):
        seeds = tfd.split_seed(seed, n=len(self._parts))
        pairs = zip(self._parts, seeds, strict=True)
        return tf.concat([tf.cast(p.sample(n, seed=s), tf.float32) for p, s in pairs], -1)

    def _mean(self):
        return tf.concat([part.mean() for part in self._parts], -1)

    def representative(self):
        """Return the most likely level, or the mean, of each column."""
        pairs = zip(self._parts, self._has_levels, strict=True)
        return tf.concat([part.mode() if levels else part.mean() for part, levels in pairs], -1)

    def draw(self, seed, index, temperature=1.0):
        """Return draws number `index` of all columns, each block from a stream of its own."""
        drawn = [
            distributions.draw(part, draw_seed(seed, number), index, temperature)
            for number, part in enumerate(self._parts)
        ]
        return tf.concat(drawn, -1)
