"""The errors that tfvae raises on purpose.

Each message says what happened, what was expected, and how to fix it.
"""

import difflib
import re
import shlex
from collections.abc import Iterable

from tfvae.synonyms import SYNONYMS


class TfvaeError(Exception):
    """Base of every error raised on purpose; the command line prints the message alone."""


class InvalidArgument(TfvaeError, ValueError):
    """An argument, option or name that does not exist or cannot be used (exit status 2)."""


class InvalidData(TfvaeError, ValueError):
    """Data that does not fit: wrong shape or range, not finite, or not there."""


class InvalidFile(TfvaeError, ValueError):
    """A file or folder that is missing, damaged, foreign, or in the way."""


class ExportError(TfvaeError, RuntimeError):
    """An export that could not be written, or that does not reproduce the model."""


class NonFiniteLoss(TfvaeError, RuntimeError):
    """Training met a loss that is infinite or not a number."""


class DivergedLoss(TfvaeError, RuntimeError):
    """Training ended with a loss far above that of the untrained model."""


class MissingDependency(TfvaeError, ImportError):
    """A part of tfvae that needs an extra which is not installed."""


class HubError(TfvaeError, RuntimeError):
    """The Hugging Face Hub refused a request or could not be reached, or there is no token."""


class TfvaeWarning(UserWarning):
    """Something that works and is probably not what was meant."""


def command(*words) -> str:
    """Return the command `tfvae WORDS…` for a message, so that a shell takes it as it stands."""
    return shlex.join(["tfvae", *map(str, words)])


def unknown_name(kind: str, name: str, valid: Iterable[str]) -> InvalidArgument:
    """Return the error for a name that is not one of `valid`, with the closest valid name.

    The closest is the one that differs in capitals and hyphens alone, what is called so elsewhere,
    or one that is spelt alike, in this order.
    """
    valid = sorted(valid)
    hint = _same_letters(name, valid) or _from_elsewhere(kind, name, valid) or _alike(name, valid)
    hint = f" Did you mean {hint}?" if hint else ""
    return InvalidArgument(f"Unknown {kind} {name!r}.{hint} Valid names: {', '.join(valid)}.")


def _same_letters(name, valid):
    return next((repr(known) for known in valid if _letters(known) == _letters(name)), None)


def _from_elsewhere(kind, name, valid):
    meant = SYNONYMS.get(kind, {}).get(_letters(name))
    if meant is None:
        return None
    here = re.match(r"[\w.-]+", meant)[0]
    return f"{here!r}{meant[len(here) :]}" if here in valid else None


def _alike(name, valid):
    close = difflib.get_close_matches(str(name), valid, n=1, cutoff=0.5)
    return repr(close[0]) if close else None


def _letters(name):
    return re.sub(r"[\W_]+", "", str(name).lower())
