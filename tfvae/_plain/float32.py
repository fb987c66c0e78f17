"""The numbers of 32-bit floating point, in Python's own numbers: nothing here needs NumPy."""

LARGEST = float.fromhex("0x1.fffffep+127")


def shortest(value) -> float:
    """Return a float32 of NumPy as the number of fewest digits that it stands for: 0.1 as 0.1."""
    return float(str(value))
