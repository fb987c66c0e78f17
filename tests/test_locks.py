"""Locks, and which of the system's answers say that another process holds one."""

import errno
import subprocess
import sys
import types

import pytest

from tfvae._plain import locks

HOLDS = """
import sys
from tfvae._plain.locks import lock

with open(sys.argv[1], "ab") as file:
    lock(file.fileno())
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_a_lock_is_held_by_one_process_until_it_dies(tmp_path):
    path = tmp_path / "file"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with (
        subprocess.Popen([sys.executable, "-c", HOLDS, str(path)], **pipes) as process,
        path.open("ab") as file,
    ):
        assert process.stdout.readline() == "held\n"
        with pytest.raises(BlockingIOError):
            locks.lock(file.fileno())
        process.kill()
        process.wait()
        locks.lock(file.fileno())


@pytest.mark.parametrize(
    ("number", "raised"),
    [
        (errno.EAGAIN, BlockingIOError),
        (errno.EACCES, PermissionError),  # of a policy that forbids locks
        (errno.ENOLCK, OSError),
    ],
)
def test_a_held_lock_is_told_from_a_file_system_without(monkeypatch, number, raised):
    def refuse(*_):
        raise OSError(number, "refused")

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(OSError, match="refused") as error:
        locks.lock(0)
    assert error.type is raised


@pytest.fixture
def windows(monkeypatch):
    """Return a function that makes the module as on Windows, of what stands in for `locking`."""

    def of(locking):
        stand_in = types.ModuleType("msvcrt")
        stand_in.LK_NBLCK, stand_in.locking = 2, locking
        monkeypatch.setitem(sys.modules, "msvcrt", stand_in)
        monkeypatch.setitem(sys.modules, "fcntl", None)
        source = types.ModuleType("locks")
        with open(locks.__file__) as file:
            exec(compile(file.read(), "locks", "exec"), vars(source))
        return source

    return of


def test_on_windows_it_is_a_lock_of_one_byte(windows):
    calls = []
    windows(lambda *given: calls.append(given)).lock(7)
    assert calls == [(7, 2, 1)]


def test_on_windows_no_permission_says_that_it_is_held(windows):
    def refuse(*_):
        raise OSError(errno.EACCES, "refused")

    with pytest.raises(BlockingIOError, match="refused"):
        windows(refuse).lock(7)
