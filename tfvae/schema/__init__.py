"""What the columns of a table are, and what numbers stand for their values."""

from tfvae.schema.column import TYPES, Column
from tfvae.schema.schema import Schema

__all__ = ["TYPES", "Column", "Schema"]
