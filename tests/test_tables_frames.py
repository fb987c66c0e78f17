import numpy as np
import pyarrow as pa
import pytest

from tfvae import tables
from tfvae.errors import InvalidData
from tfvae.schema import Schema


class Frame:
    """What pandas and polars frames have in common, and an ordered column of pandas."""

    class _Dtype:
        categories, ordered = ("low", "high"), True

    class _Ordered(list):
        dtype = None

        def to_numpy(self):
            return np.array(self, object)

    def __init__(self, columns):
        self.of_name = columns
        self.columns = list(columns)

    def __getitem__(self, name):
        return self.of_name[name]


def test_an_empty_column_of_ordered_categories_has_no_rows():
    kind = pa.dictionary(pa.int8(), pa.string(), ordered=True)
    empty = pa.table({"a": pa.chunked_array([], kind)})
    with pytest.raises(InvalidData, match="has no rows"):
        tables.of_data(empty)


def test_frames_say_the_order_of_their_categories():
    ordered = Frame._Ordered(["high", None, "low"])
    ordered.dtype = Frame._Dtype()
    table = tables.of_data(Frame({"size": ordered, "n": np.array([1, 2, 3])}))
    assert table.orders == {"size": ("low", "high")}
    assert Schema.inferred(table)["size"].type == "ordinal"


@pytest.mark.parametrize("package", ["pandas", "polars"])
def test_frames_of_pandas_and_polars(package):
    module = pytest.importorskip(package)
    frame = module.DataFrame({"a": [1, None, 3], "b": ["x", None, "y"], "c": [True, False, True]})
    table = tables.of_data(frame)
    np.testing.assert_array_equal(table.columns["a"], [1, np.nan, 3])
    assert list(table.columns["b"]) == ["x", None, "y"]
    assert list(table.columns["c"]) == ["True", "False", "True"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([1, 2], "the table is a list; expected a pandas or polars frame"),
        ({}, "no columns"),
        ({"a": []}, "no rows"),
        ({"a": [1, 2], "b": [1]}, "1 rows in column 'b' and 2 in 'a'"),
        ({"a": [[1], [2]]}, "'a' of the table holds values of type list"),
        ({"a": np.zeros((2, 2))}, "'a' of the table holds values"),
        ({"a": np.array(["2020-01-01"], "M8[D]")}, "datetime64.* such as the days since"),
        ({"a": [1, object()]}, "'a' of the table holds values of type"),
        ({"a": ["x", [1]]}, "'a' of the table holds values of type list"),
    ],
)
def test_what_is_no_frame_is_refused(data, message):
    with pytest.raises(InvalidData, match=message):
        tables.of_data(data)
