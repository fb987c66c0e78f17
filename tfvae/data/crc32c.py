"""The checksum of TFRecord files, CRC-32C.

Source: Castagnoli, Bräuer and Herrmann 1993, "Optimization of cyclic redundancy-check codes with 24
and 32 parity bits". A checksum is linear: what a byte adds to it depends on the byte and on how
many come after it, so the bytes of a block are looked up all at once.
"""

import functools

import numpy as np

_POLYNOMIAL = np.uint32(0x82F63B78)  # reflected
_BLOCK = 1024
_ONES = np.uint32(0xFFFFFFFF)


def crc32c(content: bytes) -> int:
    """Return the CRC-32C of at least four bytes."""
    tables, places = _tables()
    padded = np.zeros(-(-len(content) // _BLOCK) * _BLOCK, np.uint8)
    padded[len(padded) - len(content) :] = np.frombuffer(content, np.uint8)
    # The register starts with ones; zeros in front of the content change nothing.
    start = len(padded) - len(content)
    padded[start : start + 4] ^= 255
    blocks = padded.reshape(-1, _BLOCK)
    register = np.uint32(0)
    for block in np.bitwise_xor.reduce(tables[places, blocks], axis=1):
        shifted = tables[places[:4], np.frombuffer(register.tobytes(), np.uint8)]
        register = np.bitwise_xor.reduce(shifted) ^ block
    return int(register ^ _ONES)


def masked(content: bytes) -> int:
    """Return the checksum as a TFRecord file has it; 0 of fewer than four bytes."""
    crc = crc32c(content) if len(content) >= 4 else 0
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


@functools.cache
def _tables():
    """Return what each byte adds with k bytes after it, `[k, 256]`, and k for a block's bytes."""
    first = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        first = np.where(first & np.uint32(1), first >> np.uint32(1) ^ _POLYNOMIAL, first >> 1)
    tables = np.empty((_BLOCK, 256), np.uint32)
    tables[0] = first
    for after in range(1, _BLOCK):
        before = tables[after - 1]
        tables[after] = first[before & np.uint32(255)] ^ before >> np.uint32(8)
    return tables, np.arange(_BLOCK - 1, -1, -1)
