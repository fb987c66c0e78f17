import errno
import math
import shutil
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from tfvae.checkpoints import Checkpoints, Position
from tfvae.errors import InvalidFile, TfvaeWarning

TREE = {
    "variables": [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.array(7, np.int64),
        np.zeros((0, 3), np.float64),
        np.array([1.5, -0.0, math.nan], ml_dtypes.bfloat16),
        np.array([True, False]),
    ],
    "callbacks": [{"class": "History", "state": {"loss": [0.1, 1e-300, 1 / 3], "best": None}}],
    "text": "β",
    "step": np.int64(3),
    "ended": False,
}


def same(a, b):
    """Whether two trees are the same, bit by bit."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, (np.ndarray, np.generic)):
        return (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
    return type(a) is type(b) and a == b


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def two(tmp_path):
    """A folder with two checkpoints."""
    checkpoints = Checkpoints(tmp_path / "kept")
    checkpoints.save(Position(2, 30), {"number": 1, "x": np.arange(100)})
    checkpoints.save(Position(3, 0), {"number": 2, "x": np.arange(100)})
    return checkpoints


def test_a_state_comes_back_as_it_was(tmp_path):
    checkpoints = Checkpoints(tmp_path / "a" / "b")
    assert checkpoints.load() is None
    assert checkpoints.last() == (0, 0)
    checkpoints.save(Position(4, 17), TREE)
    position, tree = checkpoints.load()
    assert position == checkpoints.last() == (4, 17)
    assert same(tree, TREE)


def test_the_last_two_are_kept(two):
    two.save(Position(3, 200), {"number": 3})
    assert names(two.path) == ["epoch-00003-batch-00000000.zip", "epoch-00003-batch-00000200.zip"]
    assert two.load() == (Position(3, 200), {"number": 3})


def test_a_position_says_what_was_done():
    assert [str(Position(*each)) for each in ((0, 0), (3, 0), (3, 20))] == [
        "the start",
        "epoch 3",
        "batch 20 of epoch 4",
    ]


def flipped(content):
    middle = content.index(bytes(range(50, 60)))  # within the array
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


DAMAGE = {
    "truncated": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "text": lambda content: b"not a checkpoint",
    "zeros": lambda content: bytes(len(content)),
    "flipped": flipped,
    "other checksum": lambda content: content[:-1] + bytes([content[-1] ^ 1]),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_one_is_set_aside_and_the_one_before_is_used(tmp_path, damage):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(Position(2, 30), {"number": 1})
    checkpoints.save(Position(3, 0), {"number": 2, "x": np.arange(100, dtype=np.uint8)})
    newest = tmp_path / "epoch-00003-batch-00000000.zip"
    newest.write_bytes(DAMAGE[damage](newest.read_bytes()))
    with pytest.warns(TfvaeWarning, match=r"is damaged .* the one before: batch 30 of epoch 3"):
        position, tree = checkpoints.load()
    assert (position, tree["number"]) == ((2, 30), 1)
    assert names(tmp_path) == ["epoch-00002-batch-00000030.zip", f"{newest.name}.damaged"]
    assert checkpoints.last() == (2, 30)
    checkpoints.save(Position(2, 40), {"number": 3})
    assert checkpoints.load()[1] == {"number": 3}


def test_no_byte_can_change_unnoticed(two, tmp_path, rng):
    newest = two.path / "epoch-00003-batch-00000000.zip"
    content, (_, expected) = newest.read_bytes(), two.load()
    noticed = 0
    for place in rng.choice(len(content), 150, replace=False):
        copy = Checkpoints(tmp_path / f"{place}")
        copy.path.mkdir()
        changed = bytearray(content)
        changed[place] ^= 1 << rng.integers(8)
        (copy.path / newest.name).write_bytes(changed)
        try:
            _, tree = copy.load()
        except InvalidFile:
            noticed += 1
        else:
            assert same(tree, expected), "what zip says of dates and systems is nothing of ours"
    assert noticed > 100


def test_what_has_a_checksum_and_is_something_else_is_damaged(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(Position(1, 0), {"x": np.arange(3)})
    (file,) = tmp_path.iterdir()
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("more", b"", zipfile.ZIP_DEFLATED)
    with pytest.raises(InvalidFile, match="it is compressed"):
        checkpoints.load()


def test_what_says_it_is_encrypted_is_damaged(two):
    newest = max(two.path.iterdir())
    content = bytearray(newest.read_bytes())
    for header, flags in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        content[content.index(header) + flags] |= 1
    newest.write_bytes(content)
    with pytest.warns(TfvaeWarning, match=r"is damaged .*encrypted.* the one before"):
        assert two.load()[1]["number"] == 1


def test_a_tree_that_is_too_deep_is_damaged(two, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("tfvae.checkpoints.json.dumps", lambda _: "[" * 100_000)
        two.save(Position(4, 0), {})
    with pytest.warns(TfvaeWarning, match="it holds something else"):
        assert two.load()[1]["number"] == 2


def test_where_all_are_damaged_the_user_is_told_and_can_start_anew(two):
    for file in two.path.iterdir():
        file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(InvalidFile, match=r"damaged.*set aside.*start from the first step"):
        two.load()
    assert two.load() is None
    assert [name.endswith(".damaged") for name in names(two.path)] == [True, True]


def test_one_of_another_version_is_refused_and_left_alone(two, monkeypatch):
    before = names(two.path)
    monkeypatch.setattr("tfvae.checkpoints._FORMAT", 3)
    with pytest.raises(InvalidFile, match="another version of tfvae"):
        two.load()
    assert names(two.path) == before


def test_what_a_dead_process_was_writing_is_cleared_and_nothing_else(two):
    stray = two.path / ".epoch-00003-batch-00000010.zip.abcd_123"
    shutil.copytree(two.path, stray.with_name("copied"))
    stray.mkdir()
    (stray / "epoch-00003-batch-00000010.zip").write_bytes(b"half")
    (stray / "epoch-00003-batch-00000010.zip.lock").touch()
    other = two.path / ".mine.abcdefgh"
    other.mkdir()
    (other / "precious").touch()
    (two.path / ".hidden.abcdefgh").touch()
    with two.in_use():
        left = names(two.path)
    assert stray.name not in left
    assert {other.name, ".hidden.abcdefgh", "copied"} < set(left)
    assert (other / "precious").exists()


def test_two_trainings_in_one_folder_are_refused(two):
    with (
        two.in_use(),
        pytest.raises(InvalidFile, match=f"Another training is under way in {two.path}"),
        Checkpoints(two.path).in_use(),
    ):
        pass
    with two.in_use():  # it was let go of
        pass


def test_a_training_may_say_again_that_it_is_one(two):
    with two.in_use():
        with two.in_use():
            pass
        with (
            pytest.raises(InvalidFile, match="Another training is under way"),
            Checkpoints(two.path).in_use(),
        ):
            pass


def test_the_lock_of_another_user_is_seen(two, monkeypatch):
    opened = Path.open

    def of_another_user(path, mode="r", *rest, **options):
        if path.name == ".lock" and mode != "rb":
            raise PermissionError(errno.EACCES, "Permission denied")
        return opened(path, mode, *rest, **options)

    with two.in_use():
        monkeypatch.setattr(Path, "open", of_another_user)
        with (
            pytest.raises(InvalidFile, match="Another training is under way"),
            Checkpoints(two.path).in_use(),
        ):
            pass


def test_a_folder_that_cannot_be_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(InvalidFile, match=r"Cannot write .*file: "),
        Checkpoints(tmp_path / "file").in_use(),
    ):
        pass


def test_arrays_of_texts_and_of_any_order_of_bytes_come_back(tmp_path):
    tree = {
        "texts": np.array([["a", "bcd"], ["", "\u03b2"]]),
        "text": np.str_("best"),
        "bytes": np.array([b"a", b"bc"]),
        "big": np.arange(3, dtype=">f4"),
        "little": np.arange(3, dtype="<i8"),
        "days": np.array(["2020-01-01"], "M8[D]"),
    }
    Checkpoints(tmp_path).save(Position(0, 1), tree)
    _, found = Checkpoints(tmp_path).load()
    assert same(found, tree)
    np.testing.assert_array_equal(found["big"], [0, 1, 2])
