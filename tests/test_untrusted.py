"""Files that would unpack to far more than they are: sized before anything is unpacked."""

import functools
import io
import json
import resource
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import tensorflow as tf
from PIL import Image

from tfvae import data, runs
from tfvae._plain import memory, untrusted
from tfvae.errors import InvalidData, InvalidFile

pytestmark = pytest.mark.slow  # Runs the command line.


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


@pytest.fixture(scope="module")
def bomb(tmp_path_factory):
    """320 MiB of zeros in 0.3 MB."""
    return packed(tmp_path_factory.mktemp("bomb") / "bomb.npz", (320, 1024, 1024, 1), 320 << 20)


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
        data.read_examples(tmp_path, resize=(8, 8))


def test_a_large_picture_that_is_no_bomb_is_read(tmp_path, rng):
    pixels = rng.integers(0, 256, (3000, 4000, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "0.jpg")
    assert data.read_examples(tmp_path, resize=(8, 8)).shape == (8, 8, 3)


def test_threads_that_open_pictures_leave_the_limit_of_pillow_as_it_was(tmp_path, monkeypatch):
    Image.new("L", (4, 4)).save(tmp_path / "x.png")
    given, opened = Image.MAX_IMAGE_PIXELS, Image.open
    both = threading.Barrier(2, timeout=10)

    def slowly(*arguments, **options):
        both.wait()  # both threads are inside
        return opened(*arguments, **options)

    def leave(first):
        with untrusted.open_picture(tmp_path / "x.png") as image:
            return image.size

    monkeypatch.setattr(Image, "open", slowly)
    for _ in range(20):
        with ThreadPoolExecutor(2) as pool:
            assert list(pool.map(leave, range(2))) == [(4, 4)] * 2
        assert given == Image.MAX_IMAGE_PIXELS


def test_a_file_of_another_format_is_no_picture(tmp_path):
    """Pillow would have Ghostscript run this one."""
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n")
    with pytest.raises(InvalidData, match=r"a\.png cannot be read as an image"):
        data.read_examples(tmp_path)


def write_table(path, table, **options):
    """Write an Arrow stream, an Arrow file or a Parquet file, by the name."""
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(table, path, **options)
        return
    new = pa.ipc.new_file if "file" in path.name else pa.ipc.new_stream
    with new(str(path), table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)


@pytest.mark.parametrize("name", ["a.arrow", "file.arrow", "a.parquet"])
def test_a_table_is_sized_before_it_is_unpacked(tmp_path, name):
    table = pa.table({"image": pa.array([bytes(75 << 20)] * 4)})
    write_table(tmp_path / name, table, compression="zstd")
    del table
    pa.default_memory_pool().release_unused()
    assert (tmp_path / name).stat().st_size < 1 << 20
    with pytest.raises(
        InvalidData, match=rf"{name} has .* would take 3\d\d.* TFVAE_MAX_MEMORY=1GB"
    ):
        data.load(str(tmp_path / name))
    assert pa.total_allocated_bytes() < 1 << 20


@pytest.mark.parametrize("kind", ["plain", "dictionary"])
def test_compressed_parts_of_every_kind_are_counted(tmp_path, kind):
    values = pa.array([bytes(2000)] * 9)
    if kind == "dictionary":
        values = values.dictionary_encode()
    write_table(tmp_path / "a.arrow", pa.table({"x": values}), compression="lz4")
    stream = pa.py_buffer((tmp_path / "a.arrow").read_bytes())
    messages = list(pa.ipc.MessageReader.open_stream(pa.BufferReader(stream)))
    sizes = [untrusted._unpacked_batch(message) for message in messages]
    if kind == "dictionary":
        assert [message.type for message in messages] == ["schema", "dictionary", "record batch"]
        assert (sizes[0], sizes[1] // 1000) == (0, 2)
    else:
        assert (sizes[0], sizes[1] // 1000) == (0, 18)


def test_a_table_whose_pages_repeat_a_picture_is_sized_as_it_is_read(tmp_path):
    """The metadata of a dictionary count each picture once."""
    table = pa.table({"image": pa.array([bytes(1 << 20)] * 400)})
    write_table(tmp_path / "a.parquet", table, dictionary_pagesize_limit=1 << 24)
    metadata = pyarrow.parquet.read_metadata(tmp_path / "a.parquet").row_group(0)
    assert metadata.total_byte_size < 2 << 20
    with pytest.raises(InvalidData, match=r"a\.parquet has .* would take 2\d\d"):
        data.load(str(tmp_path / "a.parquet"))


def test_rows_that_take_no_room_are_counted(tmp_path):
    write_table(tmp_path / "a.parquet", pa.table({"image": pa.nulls(40_000_000, pa.binary())}))
    assert (tmp_path / "a.parquet").stat().st_size < 1 << 20
    with pytest.raises(InvalidData, match=r"a\.parquet has .* would take 320\.0 MB"):
        data.load(str(tmp_path / "a.parquet"))


def test_a_list_of_nulls_is_not_made(tmp_path):
    nulls = pa.list_(pa.list_(pa.null(), 2**25), 1)
    write_table(tmp_path / "a.arrow", pa.table({"image": pa.nulls(1, nulls)}))
    with pytest.raises(InvalidData, match="nested lists of numbers"):
        data.load(str(tmp_path / "a.arrow"))


def test_an_offset_that_leads_out_of_an_arrow_file_is_found(tmp_path):
    write_table(tmp_path / "a.arrow", pa.table({"image": pa.array([b"\x89PNG" * 30] * 3)}))
    content = (tmp_path / "a.arrow").read_bytes()
    offsets = np.array([0, 120, 240, 360], "<i4").tobytes()
    assert content.count(offsets) == 1
    wrong = np.array([0, 120, 2**30, 360], "<i4").tobytes()
    (tmp_path / "a.arrow").write_bytes(content.replace(offsets, wrong))
    with pytest.raises(InvalidData, match=r"column 'image' of .* is damaged"):
        data.load(str(tmp_path / "a.arrow"))


@functools.cache
def large_picture(suffix):
    """The bytes of a picture that takes 108 MB in memory."""
    content = io.BytesIO()
    Image.new("RGB", (6000, 6000)).save(content, suffix)
    return content.getvalue()


@pytest.mark.parametrize("suffix", ["png", "jpeg"])
@pytest.mark.parametrize("kind", ["arrow", "tfrecord"])
def test_a_picture_in_a_shard_is_sized_before_it_is_decoded(tmp_path, suffix, kind):
    content = large_picture(suffix)
    path = tmp_path / f"a.{kind}"
    if kind == "arrow":
        write_table(path, pa.table({"image": pa.array([content] * 3)}))
    else:
        value = tf.train.BytesList(value=[content])
        features = tf.train.Features(feature={"image": tf.train.Feature(bytes_list=value)})
        with tf.io.TFRecordWriter(str(path)) as writer:
            writer.write(tf.train.Example(features=features).SerializeToString())
    before = peak()
    with pytest.raises(InvalidData, match=r"0 of .* a picture of 6,000×6,000 pixels.*108\.0 MB"):
        data.load(str(path), resize=(8, 8))
    assert peak() - before < 50 << 20


@pytest.mark.parametrize(("group", "options"), [(1, ""), (8, ",uncompressed")])
def test_chunks_of_array_records_are_found(tmp_path, rng, monkeypatch, group, options):
    """Those that lie in one block, and those that go across several."""
    from array_record.python.array_record_module import ArrayRecordWriter

    writer = ArrayRecordWriter(str(tmp_path / "x.array_record"), f"group_size:{group}{options}")
    sizes = [*rng.integers(0, 70_000, 40), *[0] * 200]
    for size in sizes:
        writer.write(rng.bytes(size))
    writer.close()
    found = []
    monkeypatch.setattr(memory, "check_unpacked", lambda _, unpacked, *__: found.append(unpacked))
    untrusted.check_array_record(tmp_path / "x.array_record")
    wanted = np.sum(np.reshape(sizes, (-1, group)), 1).tolist()
    assert found[: len(wanted) + 1] == [0, *wanted], "a signature and the records"
    assert len(found) == len(wanted) + 5, "and an index of them, padded to a block, twice"


def test_a_record_is_sized_before_it_is_unpacked(tmp_path):
    from array_record.python.array_record_module import ArrayRecordWriter

    writer = ArrayRecordWriter(str(tmp_path / "x.array_record"), "group_size:1")
    for record in (b"small", bytes(300 << 20)):
        writer.write(record)
    writer.close()
    with pytest.raises(InvalidData, match=r"x\.array_record has .* would take 314\.6 MB"):
        data.load(str(tmp_path / "x.array_record"))


def test_a_record_that_says_it_is_longer_than_its_file_is_refused(tmp_path):
    with tf.io.TFRecordWriter(str(tmp_path / "a.tfrecord")) as writer:
        writer.write(bytes(100))
    content = (tmp_path / "a.tfrecord").read_bytes()
    for length in (10**12, 2**64 - 1, 2**64 - 16):
        (tmp_path / "a.tfrecord").write_bytes(length.to_bytes(8, "little") + content[8:])
        with pytest.raises(InvalidData, match="record 0, at byte 0, does not end within its 116"):
            data.load(str(tmp_path / "a.tfrecord"))


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
