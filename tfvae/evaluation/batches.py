"""Examples to measure, checked and in batches."""

from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from tfvae.errors import InvalidData


def batches(model, x, batch_size) -> tuple[Iterator[tf.Tensor], int | None]:
    """Return an iterator over checked float32 batches, and how many there are if that is known."""
    if isinstance(x, tf.data.Dataset):
        if isinstance(x.element_spec, tuple):
            x = x.map(lambda x, *_: x)
        parts, count = x.unbatch().batch(batch_size).as_numpy_iterator(), None
    else:
        x = np.asarray(x)
        model.check_data(x)
        starts = range(0, len(x), batch_size)
        parts, count = (x[start : start + batch_size] for start in starts), len(starts)

    def checked():
        empty = True
        for part in parts:
            empty = False
            model.check_data(part)
            yield tf.constant(part, tf.float32)
        if empty:
            raise InvalidData("There are no examples to measure; expected at least one.")

    return checked(), count


def track(parts, total, description: str, show: bool = True):
    """Return the iterator `parts` itself, with a progress bar on standard error if `show`."""
    if not show:
        return parts
    import rich.progress
    from rich.console import Console

    console = Console(stderr=True)
    return rich.progress.track(parts, description, total, console=console, transient=True)
