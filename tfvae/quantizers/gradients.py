"""Gradient estimators for the choice of the nearest code, whose own derivative is zero.

Each function takes vectors z and the values q they were replaced by, both `[..., D]`, and returns a
tensor whose value is exactly q, with an estimated gradient in z and none in q.
"""

import tensorflow as tf

from tfvae.surrogates import gradient_only


def straight_through(z: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """Copy the gradient: ∂q/∂z is taken to be the identity.

    Source: Bengio, Léonard and Courville 2013, "Estimating or propagating gradients through
    stochastic neurons for conditional computation", sec. 4; van den Oord et al. 2017, sec. 3.2.
    """
    return tf.stop_gradient(values) + gradient_only(z)


def rotation(z: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """Rotate and scale the gradient: ∂q/∂z is taken to be λR, as a constant.

    R is the rotation in the plane of z and q that turns z/‖z‖ into q/‖q‖, and λ = ‖q‖/‖z‖, so that
    λRz = q. With ẑ = z/‖z‖, q̂ = q/‖q‖ and r = (ẑ + q̂)/‖ẑ + q̂‖,

        R = I − 2 r rᵀ + 2 q̂ ẑᵀ.

    The angle between the gradient at q and q is that between the gradient at z and z. Where z is 0
    there is no direction to turn, and the gradient is 0.

    Source: Fifty et al. 2024, "Restructuring vector quantization with the rotation trick", sec. 4.
    """
    fixed, values = tf.stop_gradient(z), tf.stop_gradient(values)
    scale = tf.math.divide_no_nan(tf.norm(values, axis=-1), tf.norm(fixed, axis=-1))
    start = tf.math.l2_normalize(fixed, axis=-1)
    end = tf.math.l2_normalize(values, axis=-1)
    middle = tf.math.l2_normalize(start + end, axis=-1)
    turned = z - 2.0 * middle * _dot(middle, z) + 2.0 * end * _dot(start, z)
    return values + gradient_only(scale[..., tf.newaxis] * turned)


def _dot(a, b):
    return tf.reduce_sum(a * b, axis=-1, keepdims=True)


GRADIENTS = {"straight_through": straight_through, "rotation": rotation}
