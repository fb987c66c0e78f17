"""Transformers between series or tokens and latent vectors."""

import keras
import numpy as np
from keras import layers, ops

from tfvae.errors import InvalidArgument
from tfvae.networks.ends import (
    condition_input,
    from_latents,
    given_condition,
    network_of,
    to_params,
    with_dropout,
)
from tfvae.networks.missing import ZeroImputation


@keras.saving.register_keras_serializable("tfvae")
class Positions(layers.Layer):
    """x `[B, T, D]` + a trained vector for each position, `[T, D]`.

    Source: Gehring et al. 2017, "Convolutional sequence to sequence learning", sec. 3.1.
    """

    def build(self, input_shape):
        """Add the vectors."""
        self.vectors = self.add_weight(
            shape=input_shape[1:],
            initializer=keras.initializers.RandomNormal(stddev=0.02, seed=0),
            name="vectors",
        )
        self.built = True

    def call(self, inputs):
        """Return the sum."""
        return inputs + self.vectors

    def compute_output_shape(self, input_shape):
        """Return the shape of the output."""
        return input_shape


@keras.saving.register_keras_serializable("tfvae")
class TokenEmbedding(layers.Layer):
    """Tokens `[B, T]`, as levels in [0, 1] → a trained vector for each, `[B, T, D]`.

    A token that is missing, NaN, has a vector of its own.

    Args:
        num_tokens: V; token v is the level v / (V − 1).
        hidden_size: D.
    """

    def __init__(self, num_tokens: int, hidden_size: int, **kwargs):
        # Half precision does not tell the levels of large vocabularies apart.
        super().__init__(autocast=False, **kwargs)
        self.num_tokens, self.hidden_size = num_tokens, hidden_size
        self._table = layers.Embedding(num_tokens + 1, hidden_size, dtype=self.dtype_policy)

    def build(self, input_shape):
        """Build the table."""
        self._table.build(input_shape)
        self.built = True

    def call(self, inputs):
        """Return the vectors."""
        missing = ops.isnan(inputs)
        levels = ops.where(missing, ops.zeros_like(inputs), inputs)
        numbers = ops.cast(ops.round(ops.cast(levels, "float32") * (self.num_tokens - 1)), "int32")
        return self._table(ops.where(missing, self.num_tokens, numbers))

    def compute_output_shape(self, input_shape):
        """Return the shape of the output."""
        return (*input_shape, self.hidden_size)

    def get_config(self):
        """Return the constructor arguments."""
        own = {"num_tokens": self.num_tokens, "hidden_size": self.hidden_size}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable("tfvae")
class ObservedSteps(layers.Layer):
    """x `[B, T]` or `[B, T, C]` → 1 for each step with an observed value, else 0; `[B, T, 1]`."""

    def call(self, inputs):
        """Return the mask."""
        observed = ops.cast(ops.logical_not(ops.isnan(inputs)), self.compute_dtype)
        if len(observed.shape) == 2:
            return observed[..., None]
        return ops.max(observed, axis=-1, keepdims=True)

    def compute_output_shape(self, input_shape):
        """Return the shape of the output."""
        return (*input_shape[:2], 1)


@keras.saving.register_keras_serializable("tfvae")
class MeanOfSteps(layers.Layer):
    """Values `[B, T, D]` and a mask `[B, T, 1]` → the mean over the steps of the mask, `[B, D]`."""

    def call(self, inputs):
        """Return the mean; of no step, 0."""
        values, mask = inputs
        count = ops.maximum(ops.sum(mask, axis=1), 1.0)
        return ops.sum(values * mask, axis=1) / count

    def compute_output_shape(self, input_shape):
        """Return the shape of the output."""
        return (input_shape[0][0], input_shape[0][-1])


def transformer_encoder(
    x_shape: tuple[int, ...],
    params_size: int | tuple[int, ...],
    num_tokens: int = 0,
    hidden_size: int = 64,
    num_layers: int = 2,
    num_heads: int = 4,
    *,
    dropout: float = 0.0,
    condition_size: int = 0,
    missing: bool = False,
) -> keras.Model:
    """x `[B, T, C]`, or tokens `[B, T]` → blocks of attention → parameters `[B, params_size]`.

    The parameters are an affine map of the mean over the steps. A block is x + attention(norm x),
    then x + dense(norm x), over all steps at once.

    Source: Vaswani et al. 2017, "Attention is all you need"; with the norms first, as Xiong et al.
    2020, "On layer normalization in the transformer architecture".

    Args:
        x_shape: (T, C) of series, or (T,) of tokens.
        params_size: as in `dense_encoder`.
        num_tokens: V, how many tokens there are; 0 for series.
        hidden_size: of every step, a multiple of `num_heads`.
        num_layers: blocks.
        num_heads: heads of attention.
        dropout: share of the values that attention and dense layers add to x that are dropped in
            training.
        condition_size: as in `dense_encoder`; the condition is joined to the mean.
        missing: as in `dense_encoder`. Steps without an observed value, such as the padding of
            a shorter series, are not attended to and not counted in the mean.

    Raises:
        InvalidArgument: a shape of neither kind, or a size that is no multiple of `num_heads`.
    """
    _check(x_shape, num_tokens, hidden_size, num_heads)
    x = inputs = keras.Input(x_shape)
    mask = ObservedSteps(name="observed")(x) if missing else None
    if num_tokens:
        h = TokenEmbedding(num_tokens, hidden_size)(x)
    else:
        h = layers.Dense(hidden_size)(ZeroImputation()(x) if missing else x)
    h = _blocks(Positions()(h), num_layers, num_heads, dropout, mask)
    if mask is None:
        pooled = layers.GlobalAveragePooling1D("channels_last")(h)
    else:
        pooled = MeanOfSteps()([h, mask])
    condition = condition_input(condition_size)
    value = given_condition(pooled, condition)
    for layer in to_params(params_size):
        value = layer(value)
    return network_of([inputs, *condition], value, "encoder")


def transformer_decoder(
    latent_size: int | tuple[int, ...],
    output_shape: tuple[int, ...],
    num_steps: int | None = None,
    hidden_size: int = 64,
    num_layers: int = 2,
    num_heads: int = 4,
    *,
    dropout: float = 0.0,
    condition_size: int = 0,
) -> keras.Model:
    """z `[B, D]` → a vector for each of T steps → blocks of attention → parameters.

    Given z the steps are independent: p(x|z) = Π_t p(x_t|z), all decoded at once.

    Args:
        latent_size: D, or the shape of a latent, which is flattened first.
        output_shape: (T, likelihood.params_size(C)) of series; (likelihood.params_size(T),) of
            tokens.
        num_steps: T; needed for tokens alone.
        hidden_size: as in `transformer_encoder`.
        num_layers: as in `transformer_encoder`.
        num_heads: as in `transformer_encoder`.
        dropout: as in `transformer_encoder`.
        condition_size: as in `dense_encoder`.

    Raises:
        InvalidArgument: an output that cannot be shared out to the steps, or a size that is no
            multiple of `num_heads`.
    """
    total = int(np.prod(output_shape))
    steps = output_shape[0] if num_steps is None and len(output_shape) == 2 else num_steps
    if not steps or total % steps:
        raise InvalidArgument(
            f"The output {tuple(output_shape)} cannot be shared out to {steps} steps; expected "
            "(T, likelihood.params_size(C)) of series, or (likelihood.params_size(T),) of tokens, "
            "with num_steps=T."
        )
    _check((steps,), 1, hidden_size, num_heads)
    inputs, flatten = from_latents(latent_size)
    value = inputs
    for layer in flatten:
        value = layer(value)
    condition = condition_input(condition_size)
    value = layers.Dense(hidden_size)(given_condition(value, condition))
    h = Positions()(layers.RepeatVector(steps)(value))
    h = _blocks(h, num_layers, num_heads, dropout)
    params = layers.Dense(total // steps, name="params")(h)
    return network_of([inputs, *condition], layers.Reshape(output_shape)(params), "decoder")


def _blocks(h, num_layers, num_heads, dropout, mask=None):
    """Return values after blocks of attention over the steps that a mask `[B, T, 1]` has."""
    hidden_size = h.shape[-1]
    seen = None if mask is None else layers.Permute((2, 1))(mask)  # [B, 1, T]
    for _ in range(num_layers):
        attention = layers.MultiHeadAttention(num_heads, hidden_size // num_heads)
        y = layers.LayerNormalization()(h)
        y = attention(y, y, attention_mask=seen)
        h = layers.Add()([h, layers.Dropout(dropout)(y) if dropout else y])
        y = layers.LayerNormalization()(h)
        y = layers.Dense(4 * hidden_size, activation="silu")(y)
        for layer in with_dropout([layers.Dense(hidden_size)], dropout):
            y = layer(y)
        h = layers.Add()([h, y])
    return layers.LayerNormalization()(h)


def _check(x_shape, num_tokens, hidden_size, num_heads):
    if len(x_shape) != (1 if num_tokens else 2):
        raise InvalidArgument(
            f"A transformer got the shape {tuple(x_shape)} and num_tokens={num_tokens}; expected "
            "(T, C) of series, or (T,) of tokens with their number."
        )
    if hidden_size % num_heads:
        raise InvalidArgument(
            f"`hidden_size` is {hidden_size}; expected a multiple of num_heads={num_heads}."
        )
