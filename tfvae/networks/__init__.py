"""Plain Keras encoders and decoders: tensors in, parameters of a distribution out.

Any Keras model can take their place; these are the usual ones, of the sizes that the papers use.
`connect` and `conditional` are what models and priors do with a network, whichever it is.
"""

from tfvae.networks.convolutional import conv_decoder, conv_encoder
from tfvae.networks.dense import dense_decoder, dense_encoder
from tfvae.networks.ends import logit_bias
from tfvae.networks.residual import residual_decoder, residual_encoder
from tfvae.networks.wiring import (
    build,
    conditional,
    connect,
    connect_decoder,
    example_shape,
    output_shape,
)

__all__ = [
    "build",
    "conditional",
    "connect",
    "connect_decoder",
    "conv_decoder",
    "conv_encoder",
    "dense_decoder",
    "dense_encoder",
    "example_shape",
    "logit_bias",
    "output_shape",
    "residual_decoder",
    "residual_encoder",
]
