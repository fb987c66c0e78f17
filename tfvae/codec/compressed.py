"""Images or series as the bytes of a file, and what these take."""

import dataclasses
import math

import numpy as np


@dataclasses.dataclass(frozen=True)
class Compressed:
    """Images or series as the bytes of a file.

    Attributes:
        content: the file, an `.npz`.
        codes: the codes of the images, `[N, *code_shape]` int32.
        prior_bits: −log2 p(codes), summed over the images, given their labels if the prior has
            classes; the size for an ideal coder.
        condition: y of the images, `[N, ...]`; None without a condition.
        stream_bytes: size of the entropy-coded part of `content`.
        image_shape: shape of one image, or of one series.
        sound: of a sound, its rate, how many frames it has, and the bytes of a value; else None.
    """

    content: bytes
    codes: np.ndarray
    prior_bits: float
    stream_bytes: int
    image_shape: tuple[int, ...]
    condition: np.ndarray | None = None
    sound: tuple[int, int, int] | None = None

    @property
    def bits_per_pixel(self) -> float:
        """Bits of the whole file for each pixel, a site of an image with all its channels.

        For series, bits for each step; for vectors, bits for each.
        """
        num_sites = len(self.codes) * math.prod(self.image_shape[:-1])
        return 8 * len(self.content) / num_sites

    def bits_per_second(self, rate: float) -> float:
        """Return the bits of the whole file for each second of series of `rate` steps a second."""
        num_steps = len(self.codes) * self.image_shape[0] if self.sound is None else self.sound[1]
        return 8 * len(self.content) * rate / num_steps

    def summary(self) -> dict:
        """Return the sizes as a dictionary of plain numbers, for JSON.

        For series it has `bits_per_step` in place of `bits_per_pixel`, for vectors
        `bits_per_example`, and for a sound also `bits_per_second` and `seconds`.
        """
        nouns = {3: ("images", "pixel"), 2: ("series", "step")}
        things, site = nouns.get(len(self.image_shape), ("examples", "example"))
        values = {
            f"num_{things}": len(self.codes),
            "bytes": len(self.content),
            "stream_bytes": self.stream_bytes,
            "prior_bits": self.prior_bits,
            f"bits_per_{site}": self.bits_per_pixel,
        }
        if self.sound is not None:
            rate, frames, _ = self.sound
            values |= {"bits_per_second": self.bits_per_second(rate), "seconds": frames / rate}
        return values
