"""Plain Keras encoders and decoders: tensors in, parameters of a distribution out.

Any Keras model can take their place; these are the usual ones, with the sizes of the papers. Models
use networks by `connect`, `apply` and `conditional`.
"""

from tfvae.networks.columns import ColumnFeatures
from tfvae.networks.convolutional import conv_decoder, conv_encoder
from tfvae.networks.dense import GATED, GatedDense, dense_decoder, dense_encoder
from tfvae.networks.ends import log_bias, logit_bias
from tfvae.networks.ladder import dense_ladder, residual_ladder
from tfvae.networks.missing import ZeroImputation
from tfvae.networks.residual import residual_decoder, residual_encoder
from tfvae.networks.transformer import (
    MeanOfSteps,
    ObservedSteps,
    Positions,
    TokenEmbedding,
    transformer_decoder,
    transformer_encoder,
)
from tfvae.networks.wiring import (
    apply,
    apply_given,
    beside_condition,
    build,
    conditional,
    connect,
    connect_decoder,
    connect_inputs,
    example_shape,
    output_shape,
    output_shapes,
    shape_beside_condition,
    takes_condition,
)

__all__ = [
    "GATED",
    "ColumnFeatures",
    "GatedDense",
    "MeanOfSteps",
    "ObservedSteps",
    "Positions",
    "TokenEmbedding",
    "ZeroImputation",
    "apply",
    "apply_given",
    "beside_condition",
    "build",
    "conditional",
    "connect",
    "connect_decoder",
    "connect_inputs",
    "conv_decoder",
    "conv_encoder",
    "dense_decoder",
    "dense_encoder",
    "dense_ladder",
    "example_shape",
    "log_bias",
    "logit_bias",
    "output_shape",
    "output_shapes",
    "residual_decoder",
    "residual_encoder",
    "residual_ladder",
    "shape_beside_condition",
    "takes_condition",
    "transformer_decoder",
    "transformer_encoder",
]
