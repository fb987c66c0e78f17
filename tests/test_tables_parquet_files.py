import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from tfvae import tables
from tfvae.errors import InvalidData


def test_numbers_and_texts_are_read(tmp_path):
    ordered = pa.DictionaryArray.from_arrays([0, 1, 0], ["low", "high"], ordered=True)
    content = {"a": [1, None, 3], "b": ["x", None, "y"], "c": [True, False, True], "d": ordered}
    parquet.write_table(pa.table(content), tmp_path / "x.parquet")
    assert tables.is_table_of_values(tmp_path / "x.parquet")
    table = tables.read_parquet(tmp_path / "x.parquet")
    np.testing.assert_array_equal(table.columns["a"], [1, np.nan, 3])
    assert list(table.columns["b"]) == ["x", None, "y"]
    assert list(table.columns["c"]) == ["True", "False", "True"]
    assert table.orders == {"d": ("low", "high")}


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + bytes(100) + b"PAR1"])
def test_a_damaged_file_is_refused(tmp_path, content):
    path = tmp_path / "x.parquet"
    path.write_bytes(content)
    for read in (tables.read_parquet, tables.is_table_of_values):
        with pytest.raises(InvalidData, match="cannot be read as a Parquet file"):
            read(path)


def test_pictures_are_no_table(tmp_path):
    parquet.write_table(pa.table({"image": [b"\x89PNG"]}), tmp_path / "x.parquet")
    assert not tables.is_table_of_values(tmp_path / "x.parquet")
