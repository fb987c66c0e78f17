"""Signals that end a training once its step is done."""

import signal
import sys
import threading


class Signals:
    """A context in which SIGINT and SIGTERM are recorded and do not end the process.

    Attributes:
        received: the signal, or None.
    """

    def __init__(self):
        self.received = None

    def __enter__(self):
        self._before = {}
        if threading.current_thread() is threading.main_thread():  # others get none
            for number in (signal.SIGINT, signal.SIGTERM):
                ignored = signal.getsignal(number) == signal.SIG_IGN  # of a job in the background
                if not ignored:
                    self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _receive(self, number, frame):
        if self.received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = self.received or number
        name, again = signal.Signals(number).name, ""
        if number == signal.SIGINT:
            again = " (Ctrl-C again does not wait)"
        print(f"{name}: finishing the step{again}.", file=sys.stderr, flush=True)


def stop(number: int, message: str) -> None:
    """End the training as a signal asks for it.

    Raises:
        KeyboardInterrupt: with the message, after SIGINT.
        SystemExit: with status 0, after SIGTERM, once the message is on standard error.
    """
    if number == signal.SIGINT:
        raise KeyboardInterrupt(message)
    print(message, file=sys.stderr, flush=True)
    raise SystemExit(0)
