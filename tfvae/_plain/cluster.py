"""The workers of a training, as the environment variable TF_CONFIG describes them."""

import json
import os
from collections.abc import Mapping
from typing import NamedTuple

from tfvae.errors import InvalidArgument

STRATEGIES = ("mirrored", "multiworker")
_EXAMPLE = (
    '{"cluster": {"worker": ["host1:12345", "host2:12345"]}, '
    + '"task": {"type": "worker", "index": 0}}'
)
_EXPECTED = f"expected the same cluster on every worker and a task of its own, like {_EXAMPLE}"


class Worker(NamedTuple):
    """One process of a training.

    Attributes:
        number: its place among them, from 0 on; number 0 writes the files.
        addresses: host:port of each.
    """

    number: int
    addresses: tuple[str, ...]


def this_worker(environ: Mapping[str, str] | None = None) -> Worker:
    """Return which worker this process is.

    Args:
        environ: the variables; those of the process if None.

    Raises:
        InvalidArgument: TF_CONFIG is missing, is not JSON, or does not name two workers or more and
            this one of them.
    """
    text = (os.environ if environ is None else environ).get("TF_CONFIG", "")
    if not text.strip():
        raise InvalidArgument(
            f"'multiworker' reads the workers from the variable TF_CONFIG, which is not set; "
            f"{_EXPECTED}."
        )
    try:
        config = json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidArgument(f"TF_CONFIG is not JSON ({error}); {_EXPECTED}.") from None
    cluster, task = _section(config, "cluster"), _section(config, "task")
    others = sorted(set(cluster) - {"worker"})
    if others:
        raise InvalidArgument(
            f"TF_CONFIG names tasks of the type {', '.join(others)}; {_EXPECTED}, with workers "
            "alone: number 0 is the chief."
        )
    addresses = cluster.get("worker")
    well_formed = isinstance(addresses, list) and all(map(_is_address, addresses))
    if not well_formed or len(set(addresses)) < len(addresses):
        raise InvalidArgument(
            f"TF_CONFIG has the workers {addresses!r}; expected a list of different addresses, "
            'like ["host1:12345", "host2:12345"].'
        )
    if len(addresses) < 2:
        raise InvalidArgument(
            f"TF_CONFIG names {len(addresses)} worker; 'multiworker' is for two or more. Leave it "
            "out to train on one machine, or use 'mirrored' for its GPUs."
        )
    index = task.get("index")
    if task.get("type") != "worker" or type(index) is not int or not 0 <= index < len(addresses):
        raise InvalidArgument(
            f"TF_CONFIG has the task {task!r}; expected the type 'worker' and an index from 0 to "
            f"{len(addresses) - 1}, another one in every process."
        )
    return Worker(index, tuple(addresses))


def _section(config, name):
    section = config.get(name) if isinstance(config, dict) else None
    if not isinstance(section, dict):
        raise InvalidArgument(f"TF_CONFIG has no section {name!r}; {_EXPECTED}.")
    return section


def _is_address(address):
    host, colon, port = address.rpartition(":") if isinstance(address, str) else ("", "", "")
    return bool(host and colon and port.isdigit() and 0 < int(port) < 2**16)
