"""Data, in memory or read as it is needed: arrays, folders, shards, TFDS, Hugging Face.

`load` returns `Splits`; training, validation and test examples are never mixed. Small data is held
in memory as it is stored, 8-bit where it is 8-bit; larger data stays where it is, a `Source` that
reads examples as they are indexed. Pixels become floats in [0, 1] as batches are made.
The order of the data and the noise of a dynamic binarization are functions of (seed, epoch), and an
epoch can begin at any of its batches (`Batches`), so a run that is resumed sees what it would have
seen.
"""

from tfvae.data.batches import Batches, shuffled_batches
from tfvae.data.binarized import BINARIZATIONS
from tfvae.data.contents import contents_of
from tfvae.data.examples import Examples
from tfvae.data.loading import load, read_examples
from tfvae.data.missing import masked, padded
from tfvae.data.source import Blocks, Source
from tfvae.data.splits import SPLITS, Splits
from tfvae.kinds import KINDS, LAYOUTS
from tfvae.schema import Column, Schema
from tfvae.standardization import Standardization

__all__ = [
    "BINARIZATIONS",
    "KINDS",
    "LAYOUTS",
    "SPLITS",
    "Batches",
    "Blocks",
    "Column",
    "Examples",
    "Schema",
    "Source",
    "Splits",
    "Standardization",
    "contents_of",
    "load",
    "masked",
    "padded",
    "read_examples",
    "shuffled_batches",
]
