"""The base of quantizers that consist of several copies of one quantizer."""

import keras

from tfvae._plain.checks import integer
from tfvae.errors import InvalidArgument
from tfvae.quantizers.quantizer import REGISTRY, Quantizer


class Composite(Quantizer):
    """Q copies of a quantizer of one code a vector, each with weights of its own.

    Args:
        quantizer: the one to copy, or its name. It is left as it is.
        count: Q.
        seed: any integer; copy number q is made with seed + q, where it takes a seed.

    Attributes:
        parts: the copies.

    Raises:
        InvalidArgument: not a quantizer of one code a vector.
    """

    def __init__(self, quantizer, count: int, seed: int = 0, **kwargs):
        quantizer = REGISTRY.get(quantizer)
        if not isinstance(quantizer, Quantizer) or quantizer.codes_per_vector:
            raise InvalidArgument(
                f"`quantizer` is {quantizer!r}; expected a quantizer of one code a vector, such as "
                "'vq', 'ema' or 'fsq': residual and product quantizers do not nest."
            )
        seed = integer("seed", seed)
        super().__init__(quantizer.embedding_dim, quantizer.codebook_size, seed, **kwargs)
        self.codes_per_vector = (count,)
        self.parts = copies(quantizer, count, seed)

    def build(self, input_shape):
        """Build the copies."""
        super().build(input_shape)
        for part in self.parts:
            part.ensure_built()

    @property
    def needs_data(self) -> bool:
        """Whether a copy waits for `initialize`."""
        return any(part.needs_data for part in self.parts)

    def get_config(self):
        # The first copy represents all of them: its name and seed are replaced again.
        quantizer = keras.saving.serialize_keras_object(self.parts[0])
        trainable = [part.trainable for part in self.parts]
        return {**super().get_config(), "quantizer": quantizer, "trainable_parts": trainable}

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        trainable = config.pop("trainable_parts", ())
        config["quantizer"] = keras.saving.deserialize_keras_object(config["quantizer"])
        made = super().from_config(config)
        for part, each in zip(made.parts, trainable, strict=False):
            part.trainable = each
        return made


def copies(quantizer: Quantizer, count: int, seed: int = 0) -> list[Quantizer]:
    """Return copies of a quantizer, each with weights and noise of its own.

    Copy number n is made with seed + n, where it takes a seed. A Keras initializer with a seed,
    which draws the same table each time, has its seed plus n.
    """
    return [_copy(quantizer, number, seed) for number in range(count)]


def _copy(quantizer, number, seed):
    config = {**quantizer.get_config(), "name": f"part_{number}"}
    if "seed" in config:
        config["seed"] = seed + number
    initializer = config.get("initializer")
    if isinstance(initializer, dict) and isinstance(initializer["config"], dict):
        config["initializer"] = {**initializer, "config": _later(initializer["config"], number)}
    return type(quantizer).from_config(config)


def _later(config, number):
    """Return a configuration whose seed, or that of its `keras.random.SeedGenerator`, is moved."""
    seed = config.get("seed")
    if isinstance(seed, dict):
        return {**config, "seed": {**seed, "config": _later(seed["config"], number)}}
    return {**config, "seed": seed + number} if isinstance(seed, int) else config
