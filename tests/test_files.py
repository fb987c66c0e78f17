import errno
import json
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from tfvae._plain import files
from tfvae._plain.files import atomic, clear_strays, update_report, write_json
from tfvae._plain.locks import lock
from tfvae.errors import InvalidFile


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def write_half(path, error, write):
    """Write with `write`, then fail before it is done."""
    with atomic(path) as temporary:
        write(temporary)
        raise error


def write_folder(path, content):
    path.mkdir()
    (path / "inside.txt").write_text(content)


def test_a_file_appears_and_nothing_else_does(tmp_path):
    with atomic(tmp_path / "new" / "a.txt") as temporary:
        temporary.write_text("whole")
        assert not (tmp_path / "new" / "a.txt").exists()
    assert (tmp_path / "new" / "a.txt").read_text() == "whole"
    assert names(tmp_path / "new") == ["a.txt"]


def test_a_file_is_replaced(tmp_path):
    (tmp_path / "a.txt").write_text("old")
    with atomic(tmp_path / "a.txt") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "a.txt").read_text() == "new"
    assert names(tmp_path) == ["a.txt"]


def test_a_folder_replaces_the_whole_folder_that_was_there(tmp_path):
    write_folder(tmp_path / "folder", "old")
    (tmp_path / "folder" / "stale.txt").write_text("stale")
    with atomic(tmp_path / "folder") as temporary:
        write_folder(temporary, "new")
    assert names(tmp_path) == ["folder"]
    assert names(tmp_path / "folder") == ["inside.txt"]
    assert (tmp_path / "folder" / "inside.txt").read_text() == "new"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, error):
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(error):
        write_half(tmp_path / "a.txt", error, lambda path: path.write_text("half"))
    assert (tmp_path / "a.txt").read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_failure_leaves_the_old_folder_and_nothing_else(tmp_path):
    write_folder(tmp_path / "folder", "old")
    with pytest.raises(RuntimeError):
        write_half(tmp_path / "folder", RuntimeError, lambda path: write_folder(path, "half"))
    assert names(tmp_path) == ["folder"]
    assert (tmp_path / "folder" / "inside.txt").read_text() == "old"


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (OSError(errno.EACCES, "Permission denied"), InvalidFile),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_a_folder_that_cannot_be_replaced_is_put_back(tmp_path, monkeypatch, error, raised):
    old = tmp_path / "model"
    old.mkdir()
    (old / "kept").touch()

    def refuse(*_):
        raise error

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(raised), atomic(old) as path:
        path.mkdir()
    assert [file.name for file in tmp_path.rglob("*")] == ["model", "kept"]


# Writes a folder in the place of another one, says so when half of it is there, and waits.
WRITES = """
import sys
import tempfile
import threading
from pathlib import Path
from tfvae._plain.files import atomic

with atomic(sys.argv[1]) as folder:
    folder.mkdir()
    (folder / "half").touch()
    print("writing", flush=True)
    sys.stdin.readline()
    (folder / "whole").touch()
"""


@pytest.fixture
def writing(tmp_path):
    """A second process that is writing a folder, which ends at a line of input."""
    command = [sys.executable, "-c", WRITES, str(tmp_path / "model")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as process:
        assert process.stdout.readline() == "writing\n"
        yield process
        process.kill()


def test_what_another_process_is_writing_is_no_stray(tmp_path, writing):
    clear_strays(tmp_path)
    writing.communicate("go on\n")
    assert writing.returncode == 0
    assert names(tmp_path) == ["model"]
    assert names(tmp_path / "model") == ["half", "whole"]


def test_what_a_killed_process_was_writing_is_a_stray(tmp_path, writing):
    writing.kill()
    writing.wait()
    (stray,) = tmp_path.iterdir()
    clear_strays(tmp_path)
    assert names(tmp_path) == []
    assert stray.name.startswith(".model.")


def test_a_folder_that_was_being_replaced_at_a_kill_is_put_back(tmp_path):
    stray = tmp_path / ".model.abcdefgh"
    (stray / "model").mkdir(parents=True)
    (stray / "model.replaced").mkdir()
    (stray / "model.replaced" / "kept").touch()
    (stray / "model.lock").touch()
    clear_strays(tmp_path)
    assert sorted(file.name for file in tmp_path.rglob("*")) == ["kept", "model"]


def test_what_is_cleared_before_it_is_in_use_is_made_anew(tmp_path, monkeypatch):
    """A process that looks for strays comes between the making of the folder and its lock."""
    taken = []

    def lock_late(file):
        monkeypatch.undo()
        taken.extend(tmp_path.iterdir())
        clear_strays(tmp_path)
        lock(file)

    monkeypatch.setattr("tfvae._plain.files.lock", lock_late)
    with atomic(tmp_path / "a.txt") as temporary:
        temporary.write_text("whole")
    assert len(taken) == 1
    assert not taken[0].exists()
    assert (tmp_path / "a.txt").read_text() == "whole"
    assert names(tmp_path) == ["a.txt"]


def test_a_folder_that_is_cleared_before_it_has_a_mark_is_made_anew(tmp_path, monkeypatch):
    """A process that looks for strays comes between the making of the folder and its mark."""
    made = []

    def make_late(prefix, dir):
        monkeypatch.undo()
        made.append(tempfile.mkdtemp(prefix=prefix, dir=dir))
        clear_strays(tmp_path)
        return made[0]

    monkeypatch.setattr("tfvae._plain.files.tempfile.mkdtemp", make_late)
    with atomic(tmp_path / "a.txt") as temporary:
        temporary.write_text("whole")
        assert not Path(made[0]).exists()  # it was empty, as a killed process leaves it
    assert names(tmp_path) == ["a.txt"]


def test_what_is_always_held_is_refused_and_leaves_nothing(tmp_path, monkeypatch):
    def held(file):
        raise BlockingIOError(errno.EAGAIN, "held")

    monkeypatch.setattr("tfvae._plain.files.lock", held)
    with (
        pytest.raises(InvalidFile, match=r"Cannot write .*a\.txt: Other processes clear"),
        atomic(tmp_path / "a.txt"),
    ):
        pass
    assert names(tmp_path) == []


def test_a_folder_of_another_program_is_no_stray(tmp_path):
    other = tmp_path / ".poetry.packages"
    other.mkdir()
    (other / "poetry.lock").touch()
    (other / "pyproject.toml").touch()
    clear_strays(tmp_path)
    assert names(other) == ["poetry.lock", "pyproject.toml"]


def test_without_locks_files_are_written_and_nothing_is_a_stray(tmp_path, monkeypatch):
    def no_locks(file):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("tfvae._plain.files.lock", no_locks)
    with atomic(tmp_path / "a.txt") as temporary:
        temporary.write_text("whole")
        clear_strays(tmp_path)
    assert names(tmp_path) == ["a.txt"]


def test_a_failure_where_nothing_was_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError):
        write_half(tmp_path / "a.txt", RuntimeError, lambda path: path.write_text("half"))
    assert names(tmp_path) == []


def test_a_file_does_not_replace_a_folder(tmp_path):
    write_folder(tmp_path / "folder", "precious")
    with pytest.raises(InvalidFile, match="folder"), atomic(tmp_path / "folder") as temporary:
        temporary.write_text("a file")
    assert names(tmp_path) == ["folder"]
    assert (tmp_path / "folder" / "inside.txt").read_text() == "precious"


def test_a_path_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidFile, match="Choose another path"), atomic(tmp_path / "file" / "a"):
        pass


def test_json_reads_back(tmp_path):
    write_json(tmp_path / "a.json", {"a": [1, 2.5, None]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [1, 2.5, None]}


def test_a_report_keeps_other_sections_and_other_values(tmp_path):
    update_report(tmp_path, "evaluation", {"elbo": -1.0, "kl": 2.0})
    update_report(tmp_path, "training", {"epochs": 3})
    update_report(tmp_path, "evaluation", {"kl": 4.0, "active_units": 5})
    assert json.loads((tmp_path / "report.json").read_text()) == {
        "evaluation": {"elbo": -1.0, "kl": 4.0, "active_units": 5},
        "training": {"epochs": 3},
    }
    update_report(tmp_path, "evaluation of digits", {"elbo": -2.0})
    update_report(tmp_path, "training", {"epochs": 4}, outdated=("evaluation",))
    assert json.loads((tmp_path / "report.json").read_text()) == {"training": {"epochs": 4}}
    assert names(tmp_path) == ["report.json"]


def test_a_report_keeps_what_another_writes_at_the_same_time(tmp_path, monkeypatch):
    inside, done, write = threading.Event(), threading.Event(), files.write_json

    def slowly(path, value):
        inside.set()
        done.wait(0.1)  # in vain, if the other one has to wait
        write(path, value)

    monkeypatch.setattr(files, "write_json", slowly)
    first = threading.Thread(target=update_report, args=(tmp_path, "exports", {"a": 1}))
    first.start()
    assert inside.wait(10)
    monkeypatch.setattr(files, "write_json", write)
    update_report(tmp_path, "exports", {"b": 2})
    done.set()
    first.join()
    assert json.loads((tmp_path / "report.json").read_text()) == {"exports": {"a": 1, "b": 2}}
    assert names(tmp_path) == ["report.json"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not JSON",
        b'{"training": ',
        b"[1]",
        b"3",
        b'"text"',
        b'{"training": [1]}',
        b"\xff\xfe",
    ],
)
def test_a_report_that_is_not_ours_is_refused_and_left_alone(tmp_path, content):
    (tmp_path / "report.json").write_bytes(content)
    with pytest.raises(InvalidFile, match=r"report\.json is in the way"):
        update_report(tmp_path, "training", {"epochs": 3})
    assert (tmp_path / "report.json").read_bytes() == content


def test_a_folder_called_report_json_is_refused(tmp_path):
    (tmp_path / "report.json").mkdir()
    with pytest.raises(InvalidFile, match=r"report\.json"):
        update_report(tmp_path, "training", {"epochs": 3})
