"""The vector-quantized autoencoder: a grid of indices into a table as the latent."""

import math

import keras
import tensorflow as tf

from tfvae import code_priors, likelihoods, quantizers
from tfvae.conditions import Condition
from tfvae.models.code_model import CodeModel
from tfvae.networks import wiring
from tfvae.quantizers import Quantizer
from tfvae.quantizers.building import build_quantizer


@keras.saving.register_keras_serializable("tfvae")
class VQVAE(CodeModel):
    """p(x) = Σ_codes p(x|codes) p(codes), with a deterministic encoder x → codes.

    The encoder gives a vector z_e for every site, the quantizer its code and the vector z_q that
    the table has there, the decoder the likelihood p(x|z_q). One example costs, in nats,

        −log p(x|z_q(x)) + Σ_sites (‖sg[z_e] − e‖² + β‖z_e − sg[e]‖²),

    the sum over sites being what `quantizer` adds (shown for "vq"; the others have their own), sg
    the stop-gradient.
    The only average is that over the batch, so the weight β of the commitment does not depend on
    the sizes of image, grid or batch; it is traded off against the scale of the likelihood. The
    gradient at z_q is copied to z_e.

    The prior p(codes) is uniform until one is fitted:

        codes = model.encode(x)
        prior = tfvae.code_priors.get("transformer", codebook_size=model.codebook_size)
        prior.compile("adam")
        prior.fit(codes)
        model.prior = prior

    With a condition y the model is p(x|y) = Σ_codes p(x|codes, y) p(codes|y): a network with a
    second input gets c(y) `[B, C]` there, and a prior made with `num_classes=` gets the label. Fit
    such a prior on the codes and the labels: `prior.fit(model.encode(x, condition=y), y)`.

    Calling the model on x gives reconstructions, the mean of p(x|z_q(x)); so does `predict`.

    Source: van den Oord et al. 2017, "Neural discrete representation learning", sec. 3.

    Args:
        encoder: Keras model, x `[B, *x_shape]` to vectors `[B, ..., D]`.
        quantizer: "vq", "ema", "lfq", …, or a `tfvae.quantizers.Quantizer`; by name it is made with
            the encoder's D as `embedding_dim`, where it has that argument. "fsq" has none: by name
            it is of vectors of D = 4, so that the encoder needs 4 channels.
        decoder: Keras model, vectors `[B, ..., D]` to the likelihood's parameters.
        prior: a `tfvae.code_priors.CodePrior`; uniform if None.
        likelihood: one of `tfvae.likelihoods.REGISTRY.names()`, or a
            `tfvae.likelihoods.Likelihood`.
        seed: with the step, decides all noise.
        condition: what y of the networks is: a number C of classes, c(y) one-hot; or the shape
            `(C,)` of vectors; None where no network takes it.

    Raises:
        InvalidArgument: networks whose shapes do not fit each other, the quantizer or the
            likelihood, a prior over codes of another shape or codebook, or with other classes, or
            a condition that no network takes.
    """

    def __init__(
        self,
        encoder: keras.Model,
        quantizer: str | Quantizer,
        decoder: keras.Model,
        *,
        prior: code_priors.CodePrior | None = None,
        likelihood: str | likelihoods.Likelihood = "normal",
        seed: int = 0,
        condition: int | tuple[int, ...] | Condition | None = None,
        **kwargs,
    ):
        codebooks = [quantizers.get(quantizer)]
        super().__init__(
            codebooks,
            prior=prior,
            likelihood=likelihood,
            seed=seed,
            condition=condition,
            **kwargs,
        )
        self._quantizer_name = quantizer if isinstance(quantizer, str) else None
        self.encoder = encoder
        self.decoder = decoder
        if encoder.built and getattr(encoder, "input_shape", None) is not None:
            self.build(wiring.shape_beside_condition(encoder, self._condition))

    @property
    def quantizer(self) -> quantizers.Quantizer:
        """The quantizer."""
        return self.codebooks[0]

    def connect(self):
        inputs = wiring.beside_condition(self.encoder, self.x_shape, self._condition)
        shape = wiring.connect_inputs(self.encoder, inputs, "encoder")
        if self._quantizer_name is not None:
            self._resize_quantizer(shape[-1])
        build_quantizer(self.quantizer, shape, "encoder")
        code_shape = self.quantizer.code_shape(shape)
        count = math.prod(self.quantizer.codes_per_vector)
        return shape, code_shape, [math.prod(code_shape) // count] * count

    def parts_given_condition(self):
        encodes, decodes = map(wiring.takes_condition, (self.encoder, self.decoder))
        return {"encode": encodes, "decode": decodes, "sample": decodes}

    def quantized(self, x, training=False, condition=None):
        return self.quantizer(self._vectors(x, training, condition), training=training)

    def lookup(self, codes, condition=None):
        return self.quantizer.lookup(codes)

    def by_codebook(self, codes):
        return tf.unstack(codes, axis=-1) if self.quantizer.codes_per_vector else [codes]

    def vectors_to_start(self, index, x, condition=None):
        return self._vectors(x, False, condition)

    def _vectors(self, x, training, condition):
        return wiring.apply_given(self.encoder, x, self.x_shape, condition, training)

    def _resize_quantizer(self, embedding_dim):
        """Give the quantizer that was asked for by name the size of the encoder's vectors."""
        config = self.quantizer.get_config()
        if "embedding_dim" in config:
            config["embedding_dim"] = embedding_dim
            self._tracker.untrack(self.quantizer)
            self.codebooks = (type(self.quantizer).from_config(config),)

    def get_config(self):
        """Return the constructor arguments, serialized."""
        config = super().get_config()
        for name in ("encoder", "quantizer", "decoder", "likelihood"):
            config[name] = keras.saving.serialize_keras_object(getattr(self, name))
        if self._quantizer_name is not None and not self.built:
            config["quantizer"] = self._quantizer_name  # whose size is that of the encoder
        return config
