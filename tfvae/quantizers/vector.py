"""Vector quantization with a table that the gradient trains."""

import tensorflow as tf

from tfvae.quantizers.nearest import NearestCode, squared_distance
from tfvae.quantizers.quantizer import REGISTRY


@REGISTRY.register("vq")
class VectorQuantizer(NearestCode):
    """The nearest row e of a trained table, with the loss

        ‖sg[z] − e‖² + β ‖z − sg[e]‖².

    The first term moves the table, the second the encoder. The vectors give the table no gradient.
    See `NearestCode` for the arguments.

    Source: van den Oord, Vinyals and Kavukcuoglu 2017, "Neural discrete representation learning",
    eq. 3.
    """

    def loss(self, vectors, values):
        """Return ‖sg[z] − e‖² + β ‖z − sg[e]‖², `[N]`."""
        return super().loss(vectors, values) + squared_distance(tf.stop_gradient(vectors), values)
