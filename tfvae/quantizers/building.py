"""The building of a quantizer for the vectors of a network."""

from tfvae.errors import InvalidArgument
from tfvae.quantizers.quantizer import Quantizer


def build_quantizer(quantizer: Quantizer, vectors_shape, role: str) -> None:
    """Build a quantizer for vectors of a shape.

    Raises:
        InvalidArgument: they are not of its `embedding_dim`.
    """
    if vectors_shape[-1] != quantizer.embedding_dim:
        raise InvalidArgument(
            f"The {role} gives vectors of {vectors_shape[-1]} numbers, the last axis of "
            f"{vectors_shape}, but the quantizer takes {quantizer.embedding_dim}. End the {role} "
            f"in {quantizer.embedding_dim} channels, or change the quantizer."
        )
    if not quantizer.built:
        quantizer.build((None, *vectors_shape))
