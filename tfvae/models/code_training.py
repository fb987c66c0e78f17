"""Training of a model of codes: the loss, its metrics, and the usage of the codes."""

import warnings
from typing import Any

import keras
import tensorflow as tf

from tfvae.conditions import Condition
from tfvae.errors import TfvaeWarning
from tfvae.models.code_usage import CodeUsage, with_warning_of_collapse
from tfvae.models.codebook_start import start_codebooks
from tfvae.models.generative_model import GenerativeModel
from tfvae.models.replaceable_prior import ReplaceablePrior
from tfvae.quantizers import Quantizer
from tfvae.training import arguments


class CodeTraining(ReplaceablePrior):
    """A model of codes that is trained on −log p(x|z_q(x)) + Σ_sites quantizer's loss.

    Subclasses implement `autoencode`, `by_codebook` and `vectors_to_start`; see `CodeModel`.

    Args:
        seed: with the step, decides all noise of training; quantizers have seeds of their own.
        condition: what y is; see `GenerativeModel`.
    """

    better = GenerativeModel.better | {
        "reconstruction": "min",
        "quantization": "min",
        "perplexity": "max",
        "code_usage": "max",
        "code_bits": None,
    }
    instead_of_loss = "Choose the `likelihood` and the quantizer's `commitment_cost` instead."

    def __init__(
        self,
        *,
        seed: int = 0,
        condition: int | tuple[int, ...] | Condition | None = None,
        **kwargs,
    ):
        averages = ("loss", "reconstruction", "quantization")
        super().__init__(averages, seed=seed, condition=condition, **kwargs)
        self._usage = CodeUsage()

    def compile(self, optimizer: str | keras.optimizers.Optimizer = "adam", **kwargs) -> None:
        """Set the optimizer, and Keras's `jit_compile`, `steps_per_execution`, `run_eagerly`.

        By the name "adam" the optimizer is that of `tfvae.optimizers`.

        Raises:
            InvalidArgument: `loss` or `metrics`: the loss is the model's own.
        """
        super().compile(optimizer, **kwargs)

    @property
    def trains_without_gradients(self):
        """Whether a codebook moves by averages, or starts dead codes anew."""
        layers = [each for each in self._flatten_layers() if isinstance(each, Quantizer)]
        return any(quantizer.trainable and quantizer.tracks_usage for quantizer in layers)

    @property
    def metrics(self):
        """The averages and code usage reported by `fit` and `evaluate`.

        `loss` = `reconstruction` + `quantization`, −log p(x|z_q) and the quantizer's own terms, in
        nats per example. With the frequencies p_k of the codes of a codebook over all batches of
        the epoch together, and H = −Σ_k p_k log p_k: `perplexity`, exp(H), averaged over codebooks;
        `code_usage`, the fraction of codes that occur; `code_bits`, Σ_codebooks sites · H / ln 2,
        the bits of an example whose codes are coded one by one.
        """
        return [*super().metrics, self._usage]

    @property
    def epoch_metrics(self):
        return [*super().epoch_metrics, self._usage]

    @property
    def code_counts(self) -> tf.Tensor:
        """How often each code came up since the epoch began, `[codebooks, codebook_size]`."""
        return self._usage.counts.value

    def train_step(self, data):
        """Make one gradient step; nothing here waits for the host."""
        x, y, sample_weight = self.begin_step(data, training=True)
        with tf.GradientTape() as tape:
            terms, codes = self._terms(x, y, training=True)
            loss = self.total_loss(sum(terms), x, y, training=True)
            scaled_loss = self.scaled_loss(loss, sample_weight)
        self.minimize(tape, scaled_loss)
        return self._update_metrics(loss, terms, codes, sample_weight)

    def test_step(self, data):
        """Measure one batch."""
        x, y, sample_weight = self.begin_step(data)
        terms, codes = self._terms(x, y, training=False)
        loss = self.total_loss(sum(terms), x, y, training=False)
        return self._update_metrics(loss, terms, codes, sample_weight)

    def fit(self, x: Any = None, y: Any = None, *args, **kwargs) -> keras.callbacks.History:
        """Train; see `keras.Model.fit`. y is the condition, where a network takes it.

        A codebook that starts from the data ("kmeans") does so here, once, from the encoder's
        output for up to 65,536 vectors: of examples all over an array, of the first batches of a
        dataset. A codebook of which hardly any code is used is warned about (`WarnOfCollapse`).

        Raises:
            InvalidData: as in `VAE.fit`, or too few examples to start the codebook from.
        """
        options = arguments("fit", *args, **kwargs)
        options["callbacks"] = with_warning_of_collapse(options.get("callbacks"))
        if self.has_fitted_prior:
            warnings.warn(
                "The prior was fitted on the codes that this model gives now. Training changes "
                "them, and the prior stays as it is: fit it anew on `model.encode(x)` afterwards.",
                TfvaeWarning,
                stacklevel=2,
            )
        return super().fit(x, y, **options)

    def _terms(self, x, y, training):
        """Return the two terms of the loss, `[B]` each in nats, and the codes."""
        x = tf.cast(x, tf.float32)
        quantized, p_x = self.autoencode(x, training, y if self.trains_on_condition else None)
        reconstruction = -p_x.log_prob(x)
        sites = list(range(1, len(quantized.loss.shape)))
        quantization = tf.reduce_sum(quantized.loss, axis=sites)
        return (reconstruction, quantization), quantized.codes

    def _update_metrics(self, loss, terms, codes, sample_weight):
        self.update_averages(loss, terms, sample_weight)
        self._usage.update_state(self.by_codebook(codes))
        return self.get_metrics_result()

    def start_from_data(self, x, y):
        """Initialize the codebooks that start from data."""
        start_codebooks(self, x, y, self._usage.sites)
