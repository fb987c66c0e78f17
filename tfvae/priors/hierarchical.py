"""Several stochastic layers, each generated from the one above."""

import math

import keras
import tensorflow as tf

from tfvae import distributions, networks, random
from tfvae.distributions import Chain
from tfvae.errors import InvalidArgument
from tfvae.priors.draws import draw
from tfvae.priors.prior import PRIORS, Prior


@keras.saving.register_keras_serializable("tfvae")
class HierarchicalPrior(Prior):
    """p(z) = p(z_L) p(z_{L−1}|z_L) … p(z_1|z_2), over z_1, …, z_L flattened and joined.

    Its networks run in inference mode, also while the model is trained: dropout or batch
    normalization in them has no effect.

    Source: Burda et al. 2016, "Importance weighted autoencoders", sec. 2 and 5; Mnih and Gregor
    2014, "Neural variational inference and learning in belief networks", sec. 4 (sigmoid belief
    networks).

    Args:
        top: p(z_L), a `Prior` or its name.
        decoders: Keras models, z_{l+1} → parameters of p(z_l|z_{l+1}), for l = 1, …, L − 1.
        conditionals: the families of these distributions, `tfvae.distributions.Factory` objects or
            names of posteriors.

    Raises:
        InvalidArgument: a network whose output does not fit its layer.
    """

    def __init__(self, top, decoders, conditionals, **kwargs):
        super().__init__(**kwargs)
        self.top = PRIORS.get(top)
        self.decoders = list(decoders)
        self.conditionals = [distributions.POSTERIORS.get(c) for c in conditionals]
        self.kind = self.top.kind

    def build(self, layer_shapes):
        """Build the networks for the shapes of z_1, …, z_L, and check that they fit."""
        self.layer_shapes = tuple(tuple(shape) for shape in layer_shapes)
        for number, (decoder, factory) in enumerate(
            zip(self.decoders, self.conditionals, strict=True), start=1
        ):
            lower, upper = self.layer_shapes[number - 1 : number + 1]
            shape = networks.connect(decoder, upper, factory, f"decoder of z{number + 1}")
            if shape != lower:
                raise InvalidArgument(
                    f"The decoder of z{number + 1} describes a z{number} of shape {shape}, but the "
                    f"encoder gives one of shape {lower}. Expected a decoder output of shape "
                    f"{(*lower[:-1], factory.params_size(lower[-1]))}."
                )
        if not self.top.built:
            self.top.build(self.layer_shapes[-1])
        super().build((sum(map(math.prod, self.layer_shapes)),))

    def distribution(self):
        """Return p(z), a `Chain` whose layers are drawn from the top and held from the bottom."""
        pairs = zip(self.decoders, self.conditionals, self.layer_shapes[1:], strict=True)
        conditionals = [networks.conditional(*pair) for pair in pairs]
        return Chain(
            self.top.distribution(), conditionals[::-1], self.layer_shapes[::-1], last_first=True
        )

    def sample(self, seed, index, temperature=1.0):
        """Return ancestral draws; the temperature applies to every layer. See `Prior.sample`."""
        chain = self.distribution()
        values = [self.top.sample(seed, index, temperature)]
        for number in range(1, chain.num_layers):
            layer = chain.layer(number, values)
            values.append(draw(layer, _layer_seed(seed, number), index, temperature))
        return chain.join(values)

    def get_config(self):  # noqa: D102
        config = super().get_config()
        for name in ("top", "decoders", "conditionals"):
            part = getattr(self, name)
            part = list(part) if name != "top" else part
            config[name] = keras.saving.serialize_keras_object(part)
        return config

    @classmethod
    def from_config(cls, config):  # noqa: D102
        return cls(**{k: keras.saving.deserialize_keras_object(v) for k, v in config.items()})


def _layer_seed(seed, number):
    """Return a stream of its own for a layer, with operators that LiteRT has.

    The counter (number, −1) is one that no draw uses: draws count pairs from 0.
    """
    words = random.threefry2x32((seed[0], seed[1]), (tf.constant(number), tf.constant(-1)))
    return tf.stack(words)
