"""Image data: TFDS by name, the bundled digits, a folder of images, or an array file.

`load` returns `Splits`; training, validation and test images are never mixed. A split is held in
memory as it is stored (8-bit where it is 8-bit) and converted to floats in [0, 1] batch by batch.
The order of the data and the noise of a dynamic binarization are functions of (seed, epoch), and an
epoch can begin at any of its batches (`Batches`), so a run that is resumed sees what it would have
seen.
"""

from tfvae.data.batches import Batches, shuffled_batches
from tfvae.data.images import Images, Splits
from tfvae.data.loading import BINARIZATIONS, load
from tfvae.data.local import LAYOUTS, read_images

__all__ = [
    "BINARIZATIONS",
    "LAYOUTS",
    "Batches",
    "Images",
    "Splits",
    "load",
    "read_images",
    "shuffled_batches",
]
