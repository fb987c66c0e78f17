"""Images, series and sound as files of codes.

A `CodeModel` with a prior is a lossy codec: the encoder chooses the codes, the prior and an entropy
coder pack them into −log2 p(codes) bits and a few bytes more.
"""

from tfvae.codec.comparison import quality
from tfvae.codec.compressed import Compressed
from tfvae.codec.file_format import FORMAT, condition_in, fingerprint
from tfvae.codec.lossless import Lossless, compress_lossless, decompress_lossless
from tfvae.codec.lossy import compress, compress_codes, decode, decompress, decompress_codes
from tfvae.codec.sounds import compress_sound, decompress_sound, windows_for

__all__ = [
    "FORMAT",
    "Compressed",
    "Lossless",
    "compress",
    "compress_codes",
    "compress_lossless",
    "compress_sound",
    "condition_in",
    "decode",
    "decompress",
    "decompress_codes",
    "decompress_lossless",
    "decompress_sound",
    "fingerprint",
    "quality",
    "windows_for",
]
