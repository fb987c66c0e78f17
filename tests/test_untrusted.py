"""Files that would unpack to far more than they are: sized before anything is unpacked."""

import io
import json
import resource
import zipfile

import numpy as np
import pytest
from PIL import Image

from tfvae import data, memory, runs, untrusted
from tfvae.errors import InvalidData, InvalidFile


def packed(path, shape, content=0, dtype="|u1"):
    """Write an `.npz` whose array "x" says that it has a shape, and has so many zeros."""
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("x.npy", "w", force_zip64=True) as file,
    ):
        header = {"descr": dtype, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for _ in range(content >> 20):
            file.write(bytes(1 << 20))
    return path


@pytest.fixture
def bomb(tmp_path):
    """320 MiB of zeros in 0.3 MB."""
    return packed(tmp_path / "bomb.npz", (320, 1024, 1024, 1), 320 << 20)


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def test_an_archive_is_sized_before_it_is_unpacked(bomb):
    assert bomb.stat().st_size < 1 << 20
    before = peak()
    with pytest.raises(InvalidData, match=r"bomb\.npz has .* TFVAE_MAX_MEMORY=1GB"):
        data.load(str(bomb))
    assert peak() - before < 50 << 20


def test_the_limit_can_be_raised(bomb, monkeypatch):
    monkeypatch.setenv(memory.VARIABLE, "1GB")
    untrusted.check_arrays(bomb, str(bomb))


def test_bits_are_counted_as_the_floats_that_they_become(tmp_path):
    path = packed(tmp_path / "a.npz", (80, 1024, 1024, 1), 80 << 20, "|b1")
    with pytest.raises(InvalidData, match=r"335\.5 MB"):
        data.load(str(path))


@pytest.mark.parametrize("shape", [(10**9, 28, 28, 1), (10**6, 0, 10**6, 1)])
@pytest.mark.parametrize("ending", [".npy", ".npz"])
def test_an_array_that_says_it_has_more_than_its_file_is_refused(tmp_path, shape, ending):
    path = tmp_path / f"a{ending}"
    if ending == ".npz":
        packed(path, shape, 1 << 20)
    else:
        with path.open("wb") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
    with pytest.raises(InvalidData, match=r"says it holds 784\.0 GB|each example is empty"):
        data.load(str(path))


def test_a_picture_is_sized_before_it_is_decoded(tmp_path):
    for number in range(3):
        Image.new("RGB", (4000, 3000)).save(tmp_path / f"{number}.png")
    with pytest.raises(InvalidData, match=r"0\.png, a picture of 3,000×4,000 pixels.*36\.0 MB"):
        data.read_images(tmp_path, resize=(8, 8))


def test_a_large_picture_that_is_no_bomb_is_read(tmp_path, rng):
    pixels = rng.integers(0, 256, (3000, 4000, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "0.jpg")
    assert data.read_images(tmp_path, resize=(8, 8)).shape == (8, 8, 3)


def test_a_file_of_another_format_is_no_picture(tmp_path):
    """Pillow would have Ghostscript run this one."""
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n")
    with pytest.raises(InvalidData, match=r"a\.png cannot be read as an image"):
        data.read_images(tmp_path)


@pytest.fixture
def model_file(make_vae, tmp_path):
    make_vae().save(tmp_path / "model.keras")
    return tmp_path / "model.keras"


def changed(path, name, change):
    """Replace a member of an archive."""
    with zipfile.ZipFile(path) as archive:
        members = {member: archive.read(member) for member in archive.namelist()}
    members[name] = change(members[name])
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in members.items():
            archive.writestr(member, content)


def test_a_model_is_sized_before_it_is_unpacked(model_file):
    changed(model_file, "metadata.json", lambda _: bytes(300 << 20))
    with pytest.raises(InvalidFile, match=r"model\.keras has .* MB of memory once"):
        runs.load_model(model_file)


def test_weights_of_a_model_are_sized_before_they_are_read(model_file):
    import h5py

    def grown(content):
        file = io.BytesIO(content)
        with h5py.File(file, "a") as weights:
            weights.create_dataset("more", (10**6, 10**6), "f4")  # of which nothing is stored
        return file.getvalue()

    changed(model_file, "model.weights.h5", grown)
    with pytest.raises(InvalidFile, match=r"model\.keras has .* 4,000\.0 GB"):
        runs.load_model(model_file)


def test_layers_of_a_model_are_sized_before_they_are_made(model_file):
    def widened(content):
        return json.dumps(
            json.loads(content.replace(b'"units": 8', b'"units": 800000000'))
        ).encode()

    changed(model_file, "config.json", widened)
    before = peak()
    with pytest.raises(InvalidFile, match=r"model\.keras describes a model whose weights take"):
        runs.load_model(model_file)
    assert peak() - before < 200 << 20


def test_a_model_whose_parts_do_not_work_together_is_named(model_file, monkeypatch):
    model = runs.load_model(model_file)
    assert model.loaded_from == model_file

    def fails(*_, **__):
        raise ValueError("Dimensions must be equal, but are 2 and 3.\nmore")

    monkeypatch.setattr(model, "generate", fails)
    expected = r"model.*\.keras holds a model whose parts do not work together: Dim.* 2 and 3\.$"
    with pytest.raises(InvalidFile, match=expected):
        model.sample(1)
    model.loaded_from = None  # a model of one's own
    with pytest.raises(ValueError, match="Dimensions") as raised:
        model.sample(1)
    assert not isinstance(raised.value, InvalidFile)
