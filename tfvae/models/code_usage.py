"""How much of a codebook is used, over a whole epoch."""

import math
import warnings

import keras
import numpy as np
import tensorflow as tf

from tfvae.errors import TfvaeWarning


class CodeUsage(keras.metrics.Metric):
    """Counts codes over all batches of an epoch; `result()` is a dictionary of scalars.

    With the frequencies p_k of the codes of a codebook, and H = −Σ_k p_k log p_k,

    - `perplexity` = exp(H), between 1 and the size of the codebook, averaged over codebooks;
    - `code_usage`, the fraction of codes that occur at all;
    - `code_bits` = Σ_codebooks sites · H / ln 2, the bits an example takes if its codes are coded
      one by one with these frequencies.

    Counted over the epoch, since the perplexity of a batch depends on how large the batch is.
    """

    def __init__(self, name: str = "code_usage", **kwargs):
        super().__init__(name=name, **kwargs)
        self.counts = None

    def start(self, sites: list[int], codebook_size: int) -> None:
        """Set how many codes an example has of each codebook, and the codebooks' size."""
        self.sites, self.codebook_size = list(sites), codebook_size
        # float64 counts exactly up to 2^53, and strategies can sum it.
        self.counts = self.add_variable(
            (len(sites), codebook_size), "zeros", dtype="float64", name="counts"
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
        self.counts.assign_add(tf.stack(counts))

    def result(self):
        """Return the three measures; 0 before the first batch."""
        counts = self.counts.value
        p = tf.math.divide_no_nan(counts, tf.reduce_sum(counts, axis=1, keepdims=True))
        entropy = -tf.reduce_sum(tf.math.xlogy(p, p), axis=1)
        bits = tf.constant(self.sites, tf.float64) * entropy / math.log(2)
        seen = tf.cast(tf.reduce_sum(counts) > 0, tf.float64)
        values = {
            "perplexity": seen * tf.reduce_mean(tf.exp(entropy)),
            "code_usage": tf.reduce_mean(tf.cast(counts > 0, tf.float64)),
            "code_bits": tf.reduce_sum(bits),
        }
        return {name: tf.cast(value, tf.float32) for name, value in values.items()}


class WarnOfCollapse(keras.callbacks.Callback):
    """Warns, once, when an epoch used hardly any of the codes.

    Args:
        threshold: fraction of the codebook; a perplexity below that is a collapse.
        patience: epochs to wait for first.
    """

    def __init__(self, threshold: float = 0.05, patience: int = 3):
        super().__init__()
        self.threshold, self.patience = threshold, patience
        self.epochs, self.warned = 0, False

    def on_epoch_end(self, epoch, logs=None):
        """Look at the perplexity of the epoch."""
        self.epochs += 1
        perplexity = float((logs or {}).get("perplexity", np.inf))
        size = self.model.codebook_size
        if self.warned or self.epochs < self.patience or perplexity >= self.threshold * size:
            return
        self.warned = True
        warnings.warn(
            f"The codebook has collapsed: in epoch {epoch + 1} its perplexity was "
            f"{perplexity:.1f} of {size} codes, {float(logs['code_usage']):.0%} of them used at "
            "all. Use the quantizer 'ema' with threshold_ema_dead_code=1 and "
            "initializer='kmeans', or 'fsq', or a smaller codebook.",
            TfvaeWarning,
            stacklevel=2,
        )
