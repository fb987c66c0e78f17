"""PixelCNN: gated convolutions that see only the codes above and to the left."""

import keras
import tensorflow as tf

from tfvae._plain import checks
from tfvae.code_priors.code_prior import REGISTRY, CodePrior
from tfvae.code_priors.gated_convolution import HorizontalLayer, VerticalLayer
from tfvae.code_priors.sampling import place
from tfvae.errors import InvalidArgument


@REGISTRY.register("pixelcnn")
class PixelCNN(CodePrior):
    """p(code_{r,c} | rows above, codes to the left) from gated convolutions, on grids (H, W).

    Two stacks of convolutions run over the embedded codes. The vertical one starts from the grid
    shifted down by a row and looks up and to both sides: it sees all rows above, and nothing of the
    row itself. The horizontal one starts from the grid shifted right by a column, looks left, and
    takes in the vertical one at every layer. Together they see all earlier codes, without a blind
    spot. Logits are W₂ relu(W₁ relu(h)) of the last horizontal features h.

    With L layers and kernels of size k, a position sees 1 + L (k − 1) / 2 rows up and as many
    columns to the left, and L (k − 1) / 2 columns to the right in the rows above: with the defaults
    everything before it in a grid of up to 17×17.

    Source: van den Oord et al. 2016, "Conditional image generation with PixelCNN decoders", sec. 2.
    Theirs masks the middle of the first kernel where this shifts its input: the same dependence.

    Args:
        codebook_size: K.
        num_filters: features at a position.
        num_layers: L.
        kernel_size: k, odd and at least 3.
        dropout: share of each layer's features that are dropped in training.
        num_classes: number of classes to be conditioned on; 0 for none.
        seed: with the step, decides which values dropout drops.

    Raises:
        InvalidArgument: sizes that cannot be used, or codes that are not a grid.
    """

    def __init__(
        self,
        codebook_size: int,
        num_filters: int = 128,
        num_layers: int = 8,
        kernel_size: int = 5,
        dropout: float = 0.0,
        num_classes: int = 0,
        seed: int = 0,
        **kwargs,
    ):
        super().__init__(codebook_size, num_classes, seed, **kwargs)
        self.num_filters = checks.whole("num_filters", num_filters)
        self.num_layers = checks.whole("num_layers", num_layers)
        self.kernel_size = _odd("kernel_size", kernel_size)
        self.dropout = float(checks.below_one("dropout", dropout))
        policy, sizes = self.dtype_policy, (num_filters, kernel_size, self.num_classes)
        self.embedding = keras.layers.Embedding(codebook_size, num_filters, dtype=policy)
        self.vertical = [VerticalLayer(*sizes, dtype=policy) for _ in range(num_layers)]
        self.horizontal = [HorizontalLayer(*sizes, dtype=policy) for _ in range(num_layers)]
        self.hidden = keras.layers.Dense(num_filters, "relu", dtype=policy)
        self.head = keras.layers.Dense(codebook_size, dtype=policy)

    def build(self, input_shape):
        super().build(input_shape)
        if len(self.code_shape) != 2:
            raise InvalidArgument(
                f"A PixelCNN got codes of shape {self.code_shape}; it takes grids (H, W). Use "
                "'transformer', which takes any shape."
            )
        self.embedding.build()
        features = (None, None, None, self.num_filters)
        for layer in (*self.vertical, *self.horizontal, self.hidden, self.head):
            layer.build(features)

    def network(self, codes, classes, dropout):
        embedded = self.embedding(codes)
        v = tf.pad(embedded[:, :-1], [[0, 0], [1, 0], [0, 0], [0, 0]])
        h = tf.pad(embedded[:, :, :-1], [[0, 0], [0, 0], [1, 0], [0, 0]])
        for vertical, horizontal in self._layers_of_both():
            v, across = vertical(v, classes=classes, dropout=dropout)
            h = horizontal(h, from_vertical=across, classes=classes, dropout=dropout)
        return self._logits(h)

    def first_state(self, classes):
        """Return the cache of the steps: a row of codes, and the last rows and columns of features.

        - `classes` `[B]`;
        - `row` `[B, W]`, the codes of this row so far, and beyond them those of the row above;
        - for each layer, `above` `[B, k // 2, W, F]`, the vertical features of the rows above;
          `across` `[B, 1, W, 2F]`, what the vertical stack gives this row; and `left`
          `[B, 1, k // 2, F]`, the horizontal features of the columns to the left.
        """
        count = tf.shape(classes)[0]
        width, features, reach = self.code_shape[1], self.num_filters, self.kernel_size // 2

        def zeros(*shape):
            return [tf.zeros([count, *shape], self.compute_dtype) for _ in range(self.num_layers)]

        return {
            "classes": classes,
            "row": tf.zeros([count, width], tf.int32),
            "above": zeros(reach, width, features),
            "across": zeros(1, width, 2 * features),
            "left": zeros(1, reach, features),
        }

    def step(self, state, position, previous):
        """Return the logits of one position; see `CodePrior.step`.

        The vertical stack runs on one row, at its first column; the horizontal one on one position.
        """
        width = self.code_shape[1]
        position = tf.convert_to_tensor(position, tf.int32)
        column = position % width
        # Before the first position the row above is all code 0; `_next_row` hides it.
        previous = tf.where(position == 0, 0, previous)
        row = place(state["row"], (position - 1) % width, previous)
        above, across = tf.cond(
            column == 0,
            lambda: self._next_row(state | {"row": row}, position),
            lambda: (state["above"], state["across"]),
        )
        here = [tf.gather(x, [column], axis=2) for x in across]
        h, left = self._next_column(state, column, previous, here)
        logits = tf.cast(self._logits(h)[:, 0, 0], tf.float32)
        return logits, state | {"row": row, "above": above, "across": across, "left": left}

    def get_config(self):
        """Return the constructor arguments."""
        names = ("num_filters", "num_layers", "kernel_size", "dropout")
        return super().get_config() | {name: getattr(self, name) for name in names}

    def _next_row(self, state, position):
        """Run the vertical stack on the row that `position` is in."""
        v = self.embedding(state["row"])[:, tf.newaxis]
        v = tf.where(position == 0, tf.zeros_like(v), v)
        above, across = [], []
        for layer, before in zip(self.vertical, state["above"], strict=True):
            rows = tf.concat([before, v], axis=1)
            v, to_horizontal = layer.rows(rows, state["classes"])
            above.append(rows[:, 1:])
            across.append(to_horizontal)
        return above, across

    def _next_column(self, state, column, previous, across):
        """Run the horizontal stack on one position."""
        h = self.embedding(previous)[:, tf.newaxis, tf.newaxis]
        h = tf.where(column == 0, tf.zeros_like(h), h)
        left = []
        for layer, before, here in zip(self.horizontal, state["left"], across, strict=True):
            before = tf.where(column == 0, tf.zeros_like(before), before)
            columns = tf.concat([before, h], axis=2)
            h = layer.columns(columns, here, state["classes"])
            left.append(columns[:, :, 1:])
        return h, left

    def _logits(self, h):
        return self.head(self.hidden(tf.nn.relu(h)))

    def _layers_of_both(self):
        return zip(self.vertical, self.horizontal, strict=True)


def _odd(name, value):
    if checks.whole(name, value) < 3 or value % 2 == 0:
        raise InvalidArgument(f"`{name}` is {value!r}; expected an odd number of at least 3.")
    return int(value)
