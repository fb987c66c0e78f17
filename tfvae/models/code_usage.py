"""The usage of a codebook over a whole epoch."""

import math
import warnings

import keras
import numpy as np
import tensorflow as tf

from tfvae import replicas
from tfvae.errors import InvalidArgument, TfvaeWarning

_MOST = 2**24  # codes of a codebook, whose counts take 128 MiB


class CodeUsage(keras.metrics.Metric):
    """Counts codes over all batches of an epoch; `result()` is a dictionary of scalars.

    With the frequencies p_k of the codes of a codebook, and H = −Σ_k p_k log p_k,

    - `perplexity` = exp(H), between 1 and the size of the codebook, averaged over codebooks;
    - `code_usage`, the fraction of codes that occur at all;
    - `code_bits` = Σ_codebooks sites · H_codebook / ln 2, the bits that an example would take if
      each of its codes were coded by itself, with the frequencies of the codes of its codebook.

    Counted over the epoch, since the perplexity of a batch depends on how large the batch is. Every
    example counts once, whatever its weight in the loss. Codes of −1, of the levels that quantizer
    dropout leaves out, do not count.
    """

    names = ("perplexity", "code_usage", "code_bits")

    def __init__(self, name: str = "code_usage", **kwargs):
        super().__init__(name=name, **kwargs)
        self.counts = None

    def start(self, sites: list[int], codebook_size: int) -> None:
        """Set how many codes an example has of each codebook, and the codebooks' size.

        Raises:
            InvalidArgument: more than 2^24 codes, each of which is counted by itself.
        """
        if codebook_size > _MOST:
            raise InvalidArgument(
                f"The codebook has {codebook_size:,} codes; expected at most {_MOST:,} in a model, "
                "which counts how often each of them is used. Use at most 24 bits in 'lfq' or "
                "fewer levels in 'fsq', or split the vectors with ProductQuantizer."
            )
        self.sites, self.codebook_size = list(sites), codebook_size
        # float64 counts exactly up to 2^53, and strategies can sum it. See `Averages` for the rest.
        self.counts = self.add_variable(
            (len(sites), codebook_size),
            "zeros",
            dtype="float64",
            aggregation="only_first_replica",
            name="counts",
        )

    def update_state(self, codes: list[tf.Tensor], sample_weight=None):
        """Add a batch: the codes of each codebook, of any shape."""
        counts = [
            tf.math.unsorted_segment_sum(
                tf.ones_like(tf.reshape(part, [-1]), tf.float64),
                tf.reshape(part, [-1]),
                self.codebook_size,
            )
            for part in codes
        ]
        self.counts.assign_add(replicas.sums([tf.stack(counts)])[0])

    def result(self):
        """Return the three measures; 0 before the first batch."""
        counts = self.counts.value
        entropy = _entropy(counts)
        bits = tf.constant(self.sites, tf.float64) * entropy / math.log(2)
        seen = tf.cast(tf.reduce_sum(counts) > 0, tf.float64)
        values = (
            seen * tf.reduce_mean(tf.exp(entropy)),
            tf.reduce_mean(tf.cast(counts > 0, tf.float64)),
            tf.reduce_sum(bits),
        )
        values = [tf.cast(value, tf.float32) for value in values]
        return dict(zip(self.names, values, strict=True))


def _entropy(counts):
    """Return H in nats of each row of counts."""
    p = tf.math.divide_no_nan(counts, tf.reduce_sum(counts, axis=1, keepdims=True))
    return -tf.reduce_sum(tf.math.xlogy(p, p), axis=1)


class WarnOfCollapse(keras.callbacks.Callback):
    """Warns, once, when a training epoch used hardly any of the codes of a codebook.

    The perplexity can be from 1 to M, the size of the codebook or, if that is smaller, the number
    of codes in the epoch. Below 1 + threshold · (M − 1) it is a collapse. Each codebook counts by
    itself: the average would hide one among several.

    Args:
        threshold: fraction of the way from one code to all of them.
        patience: epochs to wait for first.
    """

    def __init__(self, threshold: float = 0.05, patience: int = 3):
        super().__init__()
        self.threshold, self.patience = threshold, patience
        self.epochs, self.warned, self._counts = 0, False, None

    def get_state(self) -> dict:
        """Return the state that a resumed training needs."""
        return {"epochs": self.epochs, "warned": self.warned}

    def set_state(self, state: dict) -> None:
        """Go on from what `get_state` returned."""
        self.epochs, self.warned = state["epochs"], state["warned"]

    def on_epoch_begin(self, epoch, logs=None):
        """Forget the counts of the epoch before."""
        self._counts = None

    def on_test_begin(self, logs=None):
        """Take the counts of training, before validation starts its own."""
        self._take_counts()

    def on_epoch_end(self, epoch, logs=None):
        """Look at the codes of the epoch."""
        self.epochs += 1
        if self.warned or self.epochs < self.patience:
            return
        self._take_counts()
        size, totals = self._counts.shape[1], np.sum(self._counts, axis=1)
        perplexities = np.exp(_entropy(self._counts))
        reachable = np.minimum(size, totals)
        collapsed = perplexities - 1 < self.threshold * (reachable - 1)
        if not np.any(collapsed):
            return
        self.warned = True
        number = int(np.argmax(collapsed))
        which = f"Codebook {number + 1} of {len(totals)}" if len(totals) > 1 else "The codebook"
        used = np.mean(self._counts[number] > 0)
        warnings.warn(
            f"{which} has collapsed: in epoch {epoch + 1} its perplexity was "
            f"{perplexities[number]:.1f} of {size} codes, {used:.0%} of them used at all. Use the "
            "quantizer 'ema' with threshold_ema_dead_code=1 and initializer='kmeans', or 'fsq', or "
            "a smaller codebook.",
            TfvaeWarning,
            stacklevel=2,
        )

    def _take_counts(self):
        if self._counts is None:
            self._counts = np.asarray(self.model.code_counts)


def with_warning_of_collapse(callbacks):
    """Return callbacks, however they are given, with a warning of collapse among them."""
    if isinstance(callbacks, keras.callbacks.CallbackList):
        return callbacks
    if callbacks is None:
        callbacks = []
    elif not isinstance(callbacks, (list, tuple)):
        callbacks = [callbacks]
    if any(isinstance(callback, WarnOfCollapse) for callback in callbacks):
        return list(callbacks)
    # First, so that no other callback resets the counts before it sees them.
    return [WarnOfCollapse(), *callbacks]
