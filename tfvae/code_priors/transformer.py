"""A causal transformer over codes in raster order."""

import keras
import tensorflow as tf

from tfvae._plain import checks
from tfvae.code_priors.attention import CausalSelfAttention
from tfvae.code_priors.code_prior import REGISTRY, CodePrior
from tfvae.errors import InvalidArgument


@REGISTRY.register("transformer")
class TransformerCodePrior(CodePrior):
    """p(code_i | codes before i) from a causal transformer; `code_shape` may have any rank.

    The input at position i is the embedding of code i − 1, at position 0 that of the class, or a
    begin token, plus a learned embedding of the position. Then come pre-LayerNorm blocks,

    x ← x + attention(LN(x)),  x ← x + W₂ gelu(W₁ LN(x)),

    the MLP being four times as wide as x, a last LayerNorm, and a linear map to logits. Dropout
    acts on the first input and on what each branch adds.

    Sources: Vaswani et al. 2017, "Attention is all you need"; Radford et al. 2019, "Language models
    are unsupervised multitask learners", sec. 2.3 (this form); Xiong et al. 2020, "On layer
    normalization in the transformer architecture" (why LayerNorm comes first); Esser et al. 2021,
    "Taming transformers for high-resolution image synthesis", sec. 3.2 (over the codes of images).

    Args:
        codebook_size: K.
        num_layers: number of blocks.
        num_heads: number of attention heads in each.
        hidden_size: size of x at a position, a multiple of `num_heads`.
        dropout: share of the values that are dropped in training.
        num_classes: number of classes to be conditioned on; 0 for none.
        seed: with the step, decides which values dropout drops.

    Raises:
        InvalidArgument: sizes that cannot be used.
    """

    def __init__(
        self,
        codebook_size: int,
        num_layers: int = 4,
        num_heads: int = 4,
        hidden_size: int = 256,
        dropout: float = 0.0,
        num_classes: int = 0,
        seed: int = 0,
        **kwargs,
    ):
        super().__init__(codebook_size, num_classes, seed, **kwargs)
        self.num_layers = checks.whole("num_layers", num_layers)
        self.num_heads = checks.whole("num_heads", num_heads)
        self.hidden_size = checks.whole("hidden_size", hidden_size)
        self.dropout = float(checks.below_one("dropout", dropout))
        if hidden_size % num_heads:
            raise InvalidArgument(
                f"`hidden_size` is {hidden_size} and `num_heads` {num_heads}; expected a multiple, "
                f"such as {(hidden_size // num_heads + 1) * num_heads}."
            )
        policy = self.dtype_policy
        self.begin = _embedding(max(self.num_classes, 1), hidden_size, policy)
        self.embedding = _embedding(codebook_size, hidden_size, policy)
        self.blocks = [Block(num_heads, hidden_size, dtype=policy) for _ in range(num_layers)]
        self.norm = keras.layers.LayerNormalization(dtype=policy)
        self.head = keras.layers.Dense(codebook_size, dtype=policy)

    def build(self, input_shape):
        super().build(input_shape)
        self.begin.build()
        self.embedding.build()
        self.positions = self.add_weight(
            shape=(self.num_positions, self.hidden_size),
            initializer=_small(),
            name="positions",
        )
        for layer in (*self.blocks, self.norm, self.head):
            layer.build((None, self.num_positions, self.hidden_size))

    def network(self, codes, classes, dropout):
        before = tf.reshape(codes, [-1, self.num_positions])[:, :-1]
        begin = self.begin(classes)[:, tf.newaxis]
        x = tf.concat([begin, self.embedding(before)], axis=1) + self._positions()
        x = dropout(x)
        for block in self.blocks:
            x = block(x, dropout=dropout)
        logits = self.head(self.norm(x))
        return tf.reshape(logits, [-1, *self.code_shape, self.codebook_size])

    def first_state(self, classes):
        """Return the classes, and empty keys and values of every block."""
        size = tf.shape(classes)[0], self.num_positions
        return classes, [block.attention.empty_cache(*size) for block in self.blocks]

    def step(self, state, position, previous):
        classes, caches = state
        first = tf.equal(position, 0)
        token = self.embedding(tf.where(first, 0, previous))
        x = tf.where(first, self.begin(classes), token) + self._positions()[position]
        x, updated = x[:, tf.newaxis], []
        for block, cache in zip(self.blocks, caches, strict=True):
            x, cache = block.step(x, cache, position)
            updated.append(cache)
        logits = self.head(self.norm(x))[:, 0]
        return tf.cast(logits, tf.float32), (classes, updated)

    def get_config(self):
        """Return the constructor arguments."""
        names = ("num_layers", "num_heads", "hidden_size", "dropout")
        return super().get_config() | {name: getattr(self, name) for name in names}

    def _positions(self):
        return tf.cast(self.positions, self.compute_dtype)


class Block(keras.layers.Layer):
    """x + attention(LN(x)), and then x + MLP(LN(x)).

    Args:
        num_heads: of the attention.
        hidden_size: of x at a position; the MLP is four times as wide.
    """

    def __init__(self, num_heads: int, hidden_size: int, **kwargs):
        super().__init__(**kwargs)
        policy = self.dtype_policy
        self.attention = CausalSelfAttention(num_heads, hidden_size, dtype=policy)
        self.norms = [keras.layers.LayerNormalization(dtype=policy) for _ in range(2)]
        self.widen = keras.layers.Dense(4 * hidden_size, dtype=policy)
        self.narrow = keras.layers.Dense(hidden_size, dtype=policy)

    def build(self, input_shape):
        for layer in (self.attention, *self.norms, self.widen):
            layer.build(input_shape)
        self.narrow.build((*input_shape[:-1], self.widen.units))

    def call(self, x, dropout):
        """Return `[B, P, D]` for x `[B, P, D]`."""
        x = x + dropout(self.attention(self.norms[0](x)))
        return x + dropout(self._mlp(x))

    def step(self, x, cache, position):
        """Return what `call` has at one position, and its cache; see the attention's `step`."""
        attended, cache = self.attention.step(self.norms[0](x), cache, position)
        x = x + attended
        return x + self._mlp(x), cache

    def _mlp(self, x):
        # The exact gelu needs erf, which LiteRT does not have.
        return self.narrow(keras.activations.gelu(self.widen(self.norms[1](x)), approximate=True))


def _embedding(size, hidden_size, policy):
    return keras.layers.Embedding(size, hidden_size, embeddings_initializer=_small(), dtype=policy)


def _small():
    return keras.initializers.RandomNormal(stddev=0.02)
