"""What the coders have in common that read a stream."""


class Undecodable(Exception):
    """Nothing would have given this stream."""
