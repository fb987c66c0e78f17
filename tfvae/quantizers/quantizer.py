"""The contract of a quantizer."""

from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tfvae import random
from tfvae._plain.checks import integer, whole
from tfvae.errors import InvalidArgument, InvalidData
from tfvae.registry import Registry

REGISTRY = Registry("quantizer")
get = REGISTRY.get


class Quantized(NamedTuple):
    """What a quantizer returns for vectors `[..., D]`.

    Attributes:
        vectors: `[..., D]` float32; the value is exactly `lookup(codes)`, and the gradient is that
            of the quantizer.
        codes: `[..., *codes_per_vector]` int32, from 0 to K − 1; −1 at levels of a residual
            quantizer that dropout has left out.
        loss: `[...]` float32, the quantizer's contribution to the loss for each vector: a sum over
            D, not an average over anything.
    """

    vectors: tf.Tensor
    codes: tf.Tensor
    loss: tf.Tensor


class Quantizer(keras.layers.Layer):
    """A Keras layer that replaces vectors `[..., D]` by vectors that integer codes identify.

    A subclass implements `quantize_flat` and `lookup`, and `update` if it has state that no
    gradient trains. `call` handles any leading axes.

    Everything is computed in float32 whatever the global precision policy: a distance to a code in
    half precision would choose other codes. Inputs of lower precision are cast. For
    products in TF32 on a GPU see `search.nearest`.

    State that no gradient trains changes in calls with `training=True` only, as in batch
    normalization, by statistics summed over all replicas. So the vectors that such a call returns
    are `lookup(codes)` of the state before it. With `trainable = False` neither gradients nor
    statistics change a codebook; what is drawn in training goes on.

    Args:
        embedding_dim: D, the size of a vector.
        codebook_size: K, the number of values that one code takes.
        seed: with the step, decides all noise; None for a quantizer without.

    Attributes:
        codes_per_vector: `()` for one code a vector, `(Q,)` for Q.
        needs_data: whether the codebook waits for `initialize`.
        tracks_usage: whether `update` moves averages over batches, by which the codebook learns.
        grid: the number of its grid in a model of several: what is drawn for one is independent of
            what is drawn for another, also where their seeds are equal.
        gradient: name in `gradients.GRADIENTS` of the function that passes the gradient through;
            None where the vectors have a gradient of their own kind.

    Raises:
        InvalidArgument: a size below 1, a seed that is not a whole number, or another `dtype` than
            float32; at build and call, vectors of another size than D.
    """

    codes_per_vector = ()
    needs_data = False
    tracks_usage = False
    gradient = None
    grid = 0
    step = None

    def __init__(self, embedding_dim: int, codebook_size: int, seed: int | None = None, **kwargs):
        policy = keras.dtype_policies.get(kwargs.pop("dtype", None) or "float32")
        if policy.name != "float32":
            raise InvalidArgument(
                f"`dtype` of a quantizer is {policy.name!r}; expected 'float32', in which it "
                "computes whatever the other layers do. Leave it out."
            )
        super().__init__(dtype="float32", **kwargs)
        self.embedding_dim = whole("embedding_dim", embedding_dim)
        self.codebook_size = codebook_size
        self.seed = None if seed is None else integer("seed", seed)

    def build(self, input_shape):
        """Check the shape of the vectors; subclasses add their weights here."""
        self._check_size(input_shape)
        if self.seed is not None:
            self.step = self.add_state("step", (), "zeros", dtype="int64")

    def call(self, inputs, training=False) -> Quantized:
        """Quantize vectors `[..., D]`; see `Quantized`."""
        self._check_size(inputs.shape)
        flat = tf.reshape(tf.cast(inputs, tf.float32), [-1, self.embedding_dim])
        quantized = self.quantize_flat(flat, training)
        if training:
            self.update(flat, quantized.codes)
        leading = keras.ops.shape(inputs)[:-1]
        return Quantized(*(tf.reshape(part, [*leading, *part.shape[1:]]) for part in quantized))

    def quantize_flat(self, vectors: tf.Tensor, training: bool) -> Quantized:
        """Quantize vectors `[N, D]`, float32, without changing any state."""
        raise NotImplementedError

    def update(self, vectors: tf.Tensor, codes: tf.Tensor, active: bool | tf.Tensor = True) -> None:
        """Update the state by a training batch; called once a training call, after `quantize_flat`.

        Args:
            vectors: `[N, D]`.
            codes: what they were quantized to, `[N, *codes_per_vector]`.
            active: a boolean tensor; where False, nothing changes.
        """
        if self.step is not None:
            # Where the data ends, a step has begun that no batch comes to.
            with tf.control_dependencies([codes]):
                self.step.assign_add(tf.cast(active, tf.int64))

    def lookup(self, codes: tf.Tensor) -> tf.Tensor:
        """Return the vectors `[..., D]` that codes `[..., *codes_per_vector]` stand for."""
        raise NotImplementedError

    def code_shape(self, latent_shape: tuple[int, ...]) -> tuple:
        """Return the shape of the codes of vectors of shape `latent_shape`."""
        return (*latent_shape[:-1], *self.codes_per_vector)

    def initialize(self, vectors: np.ndarray | tf.Tensor) -> None:
        """Start from data if `needs_data` is True, else do nothing. Eager, before training.

        Args:
            vectors: `[..., D]`, the untrained encoder's output for a sample of the data.

        Raises:
            InvalidData: too few vectors, of the wrong size, or not finite.
        """

    def check_codes(self, codes: np.ndarray) -> None:
        """Refuse an array that is not one of codes.

        Raises:
            InvalidData: not whole numbers, outside of `expected_codes`, or not Q to a vector.
        """
        codes = np.asarray(codes)
        if not np.issubdtype(codes.dtype, np.integer):
            raise InvalidData(
                f"Codes are {codes.dtype}; expected {self.expected_codes}. Cast them to int32."
            )
        per_vector = codes.shape[max(0, codes.ndim - len(self.codes_per_vector)) :]
        if per_vector != self.codes_per_vector:
            raise InvalidData(
                f"Codes have the shape {codes.shape}; expected a last axis of "
                f"{self.codes_per_vector[0]}, the codes of one vector."
            )
        if not self.are_codes(codes):
            raise InvalidData(
                f"Codes go from {codes.min()} to {codes.max()}; expected {self.expected_codes}. "
                "They belong to a quantizer with more codes, or are not codes."
            )

    def are_codes(self, numbers: np.ndarray) -> bool:
        """Return whether whole numbers `[..., *codes_per_vector]` are codes."""
        return not numbers.size or bool(0 <= numbers.min() <= numbers.max() < self.codebook_size)

    @property
    def expected_codes(self) -> str:
        """Which numbers are codes, for messages."""
        return f"whole numbers from 0 to {self.codebook_size - 1}"

    def get_config(self):
        # Subclasses add their own arguments: not all of them take D and K.
        seed = {} if self.seed is None else {"seed": self.seed}
        return {**super().get_config(), **seed}

    def add_state(
        self,
        name: str,
        shape: tuple[int, ...],
        initializer: str | keras.Initializer,
        dtype: str = "float32",
        trainable: bool = False,
    ) -> keras.Variable:
        """Add a weight that calls may set, from values that are the same on every replica."""
        return self.add_weight(
            name=name,
            shape=shape,
            initializer=initializer,
            dtype=dtype,
            trainable=trainable,
            # `lookup` is also called from layers of lower precision.
            autocast=False,
            aggregation="only_first_replica",
        )

    def draw_seed(self) -> tf.Tensor:
        """Return the `[2]` int32 seed of this training call, the same on every replica."""
        return random.stream_seed(self.seed, random.Stream.QUANTIZE, self.grid, self.step)

    def ensure_built(self) -> None:
        """Add the weights, unless a call has added them."""
        if not self.built:
            self.build((None, self.embedding_dim))

    def _check_size(self, shape):
        shape = tf.TensorShape(shape)
        if shape.rank and shape[-1] == self.embedding_dim:
            return
        raise InvalidArgument(
            f"{type(self).__name__} got vectors of shape {shape}; expected a last axis of "
            f"embedding_dim = {self.embedding_dim}, known statically. Give the encoder "
            f"{self.embedding_dim} output channels, or the quantizer another embedding_dim."
        )
