"""Images as files of codes: the encoder chooses them, the prior and an entropy coder pack them.

A `CodeModel` with a prior is a lossy image codec, whose files take −log2 p(codes) bits and a few
bytes more.
"""

from tfvae.codec.file_format import FORMAT, fingerprint
from tfvae.codec.interface import (
    Compressed,
    compress,
    compress_codes,
    decode,
    decompress,
    decompress_codes,
    quality,
)

__all__ = [
    "FORMAT",
    "Compressed",
    "compress",
    "compress_codes",
    "decode",
    "decompress",
    "decompress_codes",
    "fingerprint",
    "quality",
]
