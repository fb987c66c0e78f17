"""Plain Keras encoders and decoders: tensors in, parameters of a distribution out.

Any Keras model can take their place; these are the usual ones, with the sizes of the papers. A
model of your own runs its networks by `apply` and `apply_given`.
"""

from tfvae.networks.columns import ColumnFeatures
from tfvae.networks.convolutional import conv_decoder, conv_encoder
from tfvae.networks.dense import GatedDense, dense_decoder, dense_encoder
from tfvae.networks.dense_ladder import dense_ladder
from tfvae.networks.ends import log_bias, logit_bias
from tfvae.networks.missing import ZeroImputation
from tfvae.networks.residual import residual_decoder, residual_encoder
from tfvae.networks.residual_ladder import residual_ladder
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
    takes_condition,
)

__all__ = [
    "ColumnFeatures",
    "GatedDense",
    "MeanOfSteps",
    "ObservedSteps",
    "Positions",
    "TokenEmbedding",
    "ZeroImputation",
    "apply",
    "apply_given",
    "conv_decoder",
    "conv_encoder",
    "dense_decoder",
    "dense_encoder",
    "dense_ladder",
    "log_bias",
    "logit_bias",
    "residual_decoder",
    "residual_encoder",
    "residual_ladder",
    "takes_condition",
    "transformer_decoder",
    "transformer_encoder",
]
