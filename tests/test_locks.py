"""Locks, and which of the system's answers say that another process holds one."""

import errno
import subprocess
import sys
import time
import types
from concurrent.futures import ThreadPoolExecutor

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


def test_one_is_in_a_context_at_a_time(tmp_path):
    path, inside, most = tmp_path / "lock", [], []

    def enter(_):
        for _ in range(5):
            with locks.one_at_a_time(path):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.001)
                inside.pop()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(enter, range(4)))
    assert most == [1] * 20
    assert not path.exists()


def test_a_lock_that_is_never_given_back_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "_MOST", 0.05)
    path = tmp_path / "lock"
    with locks.one_at_a_time(path):
        waits = locks.one_at_a_time(path)
        with pytest.raises(TimeoutError, match="Another process holds"):
            waits.__enter__()


def test_what_a_killed_process_left_is_no_lock(tmp_path):
    (tmp_path / "lock").touch()
    with locks.one_at_a_time(tmp_path / "lock"):
        pass
    assert not (tmp_path / "lock").exists()


def test_without_locks_nobody_waits(tmp_path, monkeypatch):
    def none(file):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locks, "lock", none)
    path = tmp_path / "lock"
    with locks.one_at_a_time(path), locks.one_at_a_time(path):
        assert path.exists()
