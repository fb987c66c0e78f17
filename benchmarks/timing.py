"""What the benchmarks of speed share: processes of one thread, and ratios of several rounds."""

import statistics

# The environment of a process of one thread.
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"), "1"
)


def median_and_range(ratios) -> str:
    """Return the median of the ratios of all rounds, with the least and the largest."""
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
