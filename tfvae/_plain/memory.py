"""The memory of the machine, and the limits on what a request or a foreign file may take.

The environment variable `TFVAE_MAX_MEMORY`, such as `8GB`, replaces both limits.
"""

import os
import re
import sys
from pathlib import Path

from tfvae.errors import InvalidArgument, InvalidFile

VARIABLE = "TFVAE_MAX_MEMORY"
# A compressed file may unpack to so many times its size, and any file to this many bytes.
EXPANSION, FLOOR = 100, 256 << 20
PICTURE_FLOOR = 32 << 20  # of one picture, since there are many: 11 megapixels in colour
# Up to this many bytes, asking the system what is free would cost more than the picture does.
_SMALL = 1 << 20

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_SIZE = re.compile(r"\s*(\d+(?:\.\d*)?)\s*([KMGT]?)(?:i?B)?\s*", re.IGNORECASE)
# Files of a control group, of version 2 and 1: its limit, what is used, and what that is made of,
# with what the names of counters begin with that are of the groups within it, too.
_CGROUPS = (
    (
        "/sys/fs/cgroup/memory.max",
        "/sys/fs/cgroup/memory.current",
        "/sys/fs/cgroup/memory.stat",
        "",
    ),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        "/sys/fs/cgroup/memory/memory.stat",
        "total_",
    ),
)


def chosen() -> int | None:
    """Return the limit that the user set, in bytes, or None.

    Raises:
        InvalidArgument: it is no size.
    """
    given = os.environ.get(VARIABLE, "")
    if not given:
        return None
    match = _SIZE.fullmatch(given)
    if match is None or not float(match[1]):
        raise InvalidArgument(
            f"{VARIABLE} is {given!r}; expected a size in bytes above 0, such as 8GB or 500MB."
        )
    return int(float(match[1]) * _UNITS[match[2].upper()])


def available() -> int:
    """Return how many bytes this process can still take.

    This is the least of what the machine, a control group (a container) and `ulimit -v` leave. The
    page cache, copies of files that the system drops when memory is asked for, counts as free. If
    the system does not say how much is free, it is the installed memory.
    """
    if not hasattr(os, "sysconf"):  # on Windows, which does not have the files below either
        return sys.maxsize
    import resource

    left = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    info = _fields("/proc/meminfo")
    if "MemAvailable" in info:
        left.append(info["MemAvailable"])
    for most, used, counters, prefix in _CGROUPS:
        most, used = _number(most), _number(used)
        if most is not None and used is not None:
            parts = _fields(counters)
            cache = sum(parts.get(f"{prefix}{kind}_file", 0) for kind in ("active", "inactive"))
            left.append(most - max(0, used - cache))
    allowed = resource.getrlimit(resource.RLIMIT_AS)[0]
    if allowed != resource.RLIM_INFINITY:
        left.append(allowed - _fields("/proc/self/status").get("VmSize", 0))
    return max(0, min(left))


def limit() -> int:
    """Return how many bytes a request may take: the user's limit, or the free memory."""
    given = chosen()
    return available() if given is None else given


def check_request(count: int, bytes_each: int, what: str, remedy: str) -> None:
    """Refuse a request that does not fit into memory, before anything is allocated.

    Args:
        count: how many things are asked for.
        bytes_each: memory that each takes, about.
        what: the name of the things in the plural, such as "images".
        remedy: a sentence in which `{most}` stands for how many would fit.

    Raises:
        InvalidArgument: with how many would fit, and the variable that raises the limit.
    """
    most = limit() // max(1, bytes_each)
    if count > most:
        raise InvalidArgument(
            f"{count:,} {what} would take about {text(count * bytes_each)} of memory, and "
            f"{text(limit())} can be had. {remedy.format(most=f'{most:,}')} If more memory is "
            f"there, raise the limit: {VARIABLE}={_rounded_up(count * bytes_each)}."
        )


def unpacked_limit(stored: int, floor: int = FLOOR) -> int:
    """Return how many bytes a file of `stored` bytes may unpack to.

    As set by the user; by default `floor`, or 100 times its size, as far as there is memory.
    """
    given = chosen()
    return min(available(), max(floor, EXPANSION * stored)) if given is None else given


def check_unpacked(
    name: str, unpacked: int, stored: int, error: type = InvalidFile, floor: int = FLOOR
) -> None:
    """Refuse a file that unpacks to more than a file of its size may.

    Args:
        name: what to call the file.
        unpacked: bytes that it says it holds.
        stored: bytes that it has.
        error: the class of the error.
        floor: bytes that a file of any size may unpack to.

    Raises:
        InvalidFile: or `error`, with what to set to read it all the same.
    """
    if unpacked <= _SMALL and chosen() is None:
        return
    most = unpacked_limit(stored, floor)
    if unpacked > most:
        raise error(
            f"{name} has {text(stored)} and would take {text(unpacked)} of memory once it is "
            f"unpacked; at most {text(most)} are allowed for a file of its size. If you trust it, "
            f"and the memory is there, raise the limit: {VARIABLE}={_rounded_up(unpacked)}."
        )


def text(num_bytes: int) -> str:
    """Return a number of bytes for people, such as "4.1 GB"."""
    for unit in ("GB", "MB", "kB"):
        size = {"GB": 10**9, "MB": 10**6, "kB": 10**3}[unit]
        if num_bytes >= size:
            return f"{num_bytes / size:,.1f} {unit}"
    return f"{num_bytes} bytes"


def widths(network) -> list[int]:
    """Return how many numbers each layer of a Keras network gives for one example.

    Those of layers whose shapes are not known are left out.
    """
    found = []
    for layer in getattr(network, "layers", ()):
        try:
            sizes = layer.output.shape[1:]
        except (AttributeError, ValueError):  # several outputs, or none yet
            continue
        if None not in sizes:
            size = 1
            for number in sizes:
                size *= number
            found.append(size)
    return found


def _rounded_up(num_bytes):
    return f"{-(-num_bytes // 10**9)}GB"


def _fields(path):
    """Return the sizes in a file of lines as `VmSize:  1234 kB` or `active_file 56`, in bytes."""
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return {}
    sizes = (re.fullmatch(r"(\w+):?\s+(\d+)( kB)?", line) for line in lines)
    return {size[1]: int(size[2]) * (1024 if size[3] else 1) for size in sizes if size}


def _number(path):
    try:
        return int(Path(path).read_text())
    except (OSError, ValueError):  # not there, or "max"
        return None
