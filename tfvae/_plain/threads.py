"""Changes of the whole process that several threads make at the same time."""

import contextlib
import functools
import threading
from collections.abc import Callable


def shared(change: Callable) -> Callable:
    """Have the first thread that enters make a change, and the last one that leaves undo it.

    A context that puts back what it found undoes nothing where threads overlap: the second one
    finds what the first one made, and puts that back after the first one has left.

    Args:
        change: makes a context, without arguments.

    Returns:
        A function in its place. All its contexts that are open at the same time are one, and have
        the same value.
    """
    lock, entered = threading.Lock(), []

    @functools.wraps(change)
    @contextlib.contextmanager
    def context():
        with lock:
            if not entered:
                made = change()
                entered.append((made, made.__enter__()))
            else:
                entered.append(entered[0])
            value = entered[0][1]
        try:
            yield value
        finally:
            with lock:
                made, _ = entered.pop()
                if not entered:
                    made.__exit__(None, None, None)

    return context
