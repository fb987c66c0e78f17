"""VQ-VAE-2: several grids of codes, in which fine codes add to what coarse codes describe."""

import math
from collections.abc import Sequence

import keras
import tensorflow as tf

from tfvae import code_priors, likelihoods, quantizers
from tfvae.conditions import Condition
from tfvae.errors import InvalidArgument
from tfvae.models.code_model import CodeModel
from tfvae.networks import wiring
from tfvae.quantizers import Quantized, Quantizer
from tfvae.quantizers.building import build_quantizer
from tfvae.quantizers.composite import copies


@keras.saving.register_keras_serializable("tfvae")
class HierarchicalVQVAE(CodeModel):
    """A VQ-VAE of L grids of codes, from fine (1) to coarse (L).

    - Up: h_1 = encoder_1(x),  h_l = encoder_l(h_{l−1}).
    - Down: z_L = quantize_L(W_L h_L),  d_L = decoder_L(z_L),
      z_l = quantize_l(W_l [h_l, d_{l+1}]),  d_l = decoder_l([z_l, d_{l+1}]).

    d_1 holds the parameters of p(x|z_1, …, z_L). The W_l are learned affine maps to the
    quantizers' `embedding_dim`; every d_{l+1} has the height and width of h_l.

    An example's codes are one list, those of the coarsest grid first, each grid in raster order:
    a prior that reads from left to right, such as the Transformer, is p(coarse) p(fine|coarse).

    With a condition each network that has one more input gets c(y) there; see `VQVAE`.

    Source: Razavi, van den Oord and Vinyals 2019, "Generating diverse high-fidelity images with
    VQ-VAE-2", sec. 3.1. There the decoder gets z_2 through a transposed convolution of its own,
    here through d_2.

    Args:
        encoders: L Keras models, from the finest up; features `[B, h_l, w_l, channels]`.
        quantizers: L quantizers, by name or as objects, which have the same codebook size and give
            one code for each vector; or one name for all, whose seeds are then 0, …, L − 1. What
            they draw for one grid is independent of the draws of others whatever their seeds.
        decoders: L Keras models, from the finest up; the first ends in the likelihood's parameters.
        prior: as in `VQVAE`.
        likelihood: as in `VQVAE`.
        seed: with the step, decides all noise.
        condition: as in `VQVAE`.

    Raises:
        InvalidArgument: numbers or shapes that do not fit together, or a condition that no network
            takes.
    """

    _decoder_role = "decoder 1"

    def __init__(
        self,
        encoders: Sequence[keras.Model],
        quantizers: str | Sequence[str | Quantizer],
        decoders: Sequence[keras.Model],
        *,
        prior: code_priors.CodePrior | None = None,
        likelihood: str | likelihoods.Likelihood = "normal",
        seed: int = 0,
        condition: int | tuple[int, ...] | Condition | None = None,
        **kwargs,
    ):
        count = len(encoders)
        codebooks = _codebooks(quantizers, count)
        if count == 0 or len(decoders) != count or len(codebooks) != count:
            raise InvalidArgument(
                f"There are {count} encoders, {len(codebooks)} quantizers and {len(decoders)} "
                "decoders; expected one of each for every grid."
            )
        super().__init__(
            codebooks,
            prior=prior,
            likelihood=likelihood,
            seed=seed,
            condition=condition,
            **kwargs,
        )
        self.encoders = tuple(encoders)
        self.decoders = tuple(decoders)
        self.projections = tuple(
            # In float32, as the quantizers: rounded vectors may have other codes.
            keras.layers.Dense(q.embedding_dim, dtype="float32", name=f"to_vectors_{number}")
            for number, q in enumerate(codebooks, start=1)
        )
        if encoders[0].built and getattr(encoders[0], "input_shape", None) is not None:
            self.build(wiring.shape_beside_condition(encoders[0], self._condition))

    @property
    def decoder(self) -> keras.Model:
        """The network that emits the likelihood's parameters."""
        return self.decoders[0]

    @property
    def code_grids(self) -> tuple[tuple[int, ...], ...]:
        """The grids that the codes of an example are made of, the coarsest first."""
        return self.grids[::-1]

    def connect(self):
        features = [self.x_shape]
        for number, encoder in enumerate(self.encoders, start=1):
            features.append(self._built(encoder, features[-1], f"encoder {number}"))
        grids, joined, above = [], [], 0
        for level in reversed(range(len(self.encoders))):
            *sites, channels = features[level + 1]
            projection, quantizer = self.projections[level], self.codebooks[level]
            quantizer.grid = level
            if not projection.built:
                projection.build((None, *sites, channels + above))
            vectors = (*sites, quantizer.embedding_dim)
            build_quantizer(quantizer, vectors, f"encoder {level + 1}")
            grids.insert(0, tuple(sites))
            latent_shape = (*sites, quantizer.embedding_dim + above)
            joined.insert(0, latent_shape)
            if level:
                shape = self._built(self.decoders[level], latent_shape, f"decoder {level + 1}")
                if shape[:-1] != tuple(features[level][:-1]):
                    raise InvalidArgument(
                        f"Decoder {level + 1} gives features of {shape[:-1]}, but the grid below "
                        f"is {tuple(features[level][:-1])}; expected the same height and width."
                    )
                above = shape[-1]
        self.grids = tuple(grids)
        self._feature_shapes, self._joined_shapes = tuple(features), tuple(joined)
        sizes = [math.prod(grid) for grid in grids]
        return latent_shape, (sum(sizes),), sizes

    def _built(self, network, input_shape, role):
        """Build a network for an input, and return the shape of its output."""
        shape = wiring.beside_condition(network, input_shape, self._condition)
        return wiring.connect_inputs(network, shape, role)

    def parts_given_condition(self):
        """As in `GenerativeModel`; encoding runs down to the finest grid, as decoding does."""
        decodes = [wiring.takes_condition(decoder) for decoder in self.decoders]
        encodes = any(map(wiring.takes_condition, self.encoders))
        return {
            "encode": encodes or any(decodes[1:]),
            "decode": any(decodes),
            "sample": any(decodes),
        }

    def quantized(self, x, training=False, condition=None):
        features = self._features(x, training, condition)
        results, above = [], None
        for level in reversed(range(len(features))):
            vectors = self._vectors(level, features[level], above)
            results.append(self.codebooks[level](vectors, training=training))
            joined = _join(results[-1].vectors, above)
            above = self._next(level, joined, condition, training) if level else None
        codes, losses = (
            tf.concat([tf.reshape(part, [tf.shape(part)[0], -1]) for part in parts], axis=1)
            for parts in ([r.codes for r in results], [r.loss for r in results])
        )
        return Quantized(joined, codes, losses)

    def lookup(self, codes, condition=None):
        above = None
        for level, part in reversed(list(enumerate(self.by_codebook(codes)))):
            grid = tf.reshape(part, [-1, *self.grids[level]])
            joined = _join(self.codebooks[level].lookup(grid), above)
            above = self._next(level, joined, condition) if level else None
        return joined

    def by_codebook(self, codes):
        sizes = [math.prod(grid) for grid in self.grids]
        return tf.split(codes, sizes[::-1], axis=1)[::-1]

    def vectors_to_start(self, index, x, condition=None):
        features = self._features(x, False, condition)
        above = None
        for level in reversed(range(index + 1, len(features))):
            vectors = self._vectors(level, features[level], above)
            joined = _join(self.codebooks[level](vectors).vectors, above)
            above = self._next(level, joined, condition)
        return self._vectors(index, features[index], above)

    def get_config(self):
        """Return the constructor arguments, serialized."""
        parts = {
            "encoders": list(self.encoders),
            "quantizers": list(self.codebooks),
            "decoders": list(self.decoders),
            "likelihood": self.likelihood,
        }
        config = {k: keras.saving.serialize_keras_object(v) for k, v in parts.items()}
        config["trainable_projections"] = [each.trainable for each in self.projections]
        return super().get_config() | config

    @classmethod
    def from_config(cls, config):
        """Return the model described by `get_config`."""
        config = dict(config)
        trainable = config.pop("trainable_projections", ())
        model = super().from_config(config)
        for projection, each in zip(model.projections, trainable, strict=False):
            projection.trainable = each
        return model

    def _features(self, x, training, condition):
        """Return h_1, …, h_L."""
        features = []
        for encoder, shape in zip(self.encoders, self._feature_shapes[:-1], strict=True):
            x = wiring.apply_given(encoder, x, shape, condition, training)
            features.append(x)
        return features

    def _next(self, level, joined, condition, training=False):
        """Return d_l, given the quantizer's vectors and d_{l+1}."""
        shape = self._joined_shapes[level]
        return wiring.apply_given(self.decoders[level], joined, shape, condition, training)

    def _vectors(self, level, features, above):
        """Return W_l [h_l, d_{l+1}]; `above` is d_{l+1}, None at the top."""
        return self.projections[level](_join(features, above))


def _join(values, above):
    """Return [values, d_{l+1}] along the channels; the values alone at the top."""
    if above is None:
        return values
    return tf.concat([values, tf.cast(above, values.dtype)], axis=-1)


def _codebooks(given, count):
    """Return the quantizers, checked: one name stands for one of that name in each grid."""
    if isinstance(given, str):
        found = copies(quantizers.get(given), count)
    else:
        found = [quantizers.get(name) for name in given]
    for quantizer in found:
        if quantizer.codes_per_vector:
            raise InvalidArgument(
                f"{type(quantizer).__name__} gives {quantizer.codes_per_vector} codes for each "
                "vector; expected quantizers of one code for each vector in every grid."
            )
    if len({id(quantizer) for quantizer in found}) < len(found):
        raise InvalidArgument(
            "Two grids have the same quantizer, and so one table; expected one for each grid. Make "
            "as many as there are encoders."
        )
    sizes = {quantizer.codebook_size for quantizer in found}
    if len(sizes) > 1:
        raise InvalidArgument(
            f"The codebooks have {sorted(sizes)} codes; expected one size for all grids, so that "
            "one prior covers them."
        )
    return found
