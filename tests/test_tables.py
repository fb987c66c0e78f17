"""Tables of every source: what is read, what is refused, and where."""

import csv
import io

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tfvae import tables
from tfvae.errors import InvalidData, TfvaeError
from tfvae.schema import Schema


@pytest.fixture
def written(tmp_path):
    """Return a function that writes a text and gives its path."""

    def write(text, name="x.csv"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


class TestCsv:
    @pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
    @pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
    def test_columns_come_by_name(self, written, delimiter, newline):
        lines = ['a,"b, c",d', "1,x,", '2.5,"y\u00e9",NA', "-1e3,x,?"]
        text = newline.join(lines).replace('"b, c"', "B").replace(",", delimiter)
        table = tables.read_csv(written("\ufeff" + text + newline))
        assert list(table.columns) == ["a", "B", "d"]
        np.testing.assert_array_equal(tables.numbers(table.columns["a"])[0], [1, 2.5, -1000])
        assert list(table.columns["B"]) == ["x", "y\u00e9", "x"]
        assert tables.is_missing(table.columns["d"]).all()

    @pytest.mark.parametrize(
        "names",
        [
            ['"a, in cm, dry"', "b"],
            ["b", ' "a ""x"", y,z"'],
            ['"a,\nb,c"', '"d"'],
            ['5" a', "b"],
        ],
        ids=str,
    )
    def test_delimiters_in_quoted_names_do_not_count(self, written, names):
        table = tables.read_csv(written(";".join(names) + "\n" + ";".join("1" for _ in names)))
        assert len(table.columns) == len(names)

    def test_a_quoted_cell_may_hold_anything(self, written):
        table = tables.read_csv(written('a,b\n"1,5 ""x""\n",2\n'))
        assert table.columns["a"][0] == '1,5 "x"'

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "no columns"),
            ("a,b\n", "no rows"),
            ("1,2\n3,4\n", r"numbers in its first line, 1, 2; expected the names"),
            ("a,a\n1,2\n", "two columns 'a'"),
            ("a,\n1,2\n", "no name for column 2"),
            ("a,b\n1,2\n3\n", "1 cells in row 2 and 2 columns"),
            ("a,b\n1,2\n3,4,5\n", "3 cells in row 2"),
            ('a,b\n1,"2\n', "cannot be read as CSV: unexpected end"),
            (b"a,b\n1,\xff\n", "not a text file in UTF-8: byte 6 is 0xff"),
            (b"a,b\n1,\0\n", "a zero byte"),
            ("a\n" + "x" * 200_000 + "\n", "cannot be read as CSV: field larger"),
        ],
    )
    def test_what_is_no_table_is_refused(self, written, text, message):
        with pytest.raises(InvalidData, match=message):
            tables.read_csv(written(text))

    def test_a_missing_file_is_refused(self, tmp_path):
        with pytest.raises(InvalidData, match="There is no file"):
            tables.read_csv(tmp_path / "x.csv")

    def test_more_than_memory_holds_is_refused_first(self, written, monkeypatch):
        monkeypatch.setenv("TFVAE_MAX_MEMORY", "100B")
        with pytest.raises(TfvaeError, match=r"bytes of .* would take about"):
            tables.read_csv(written("a,b\n" + "1,2\n" * 10))

    def test_what_is_written_is_read_again(self, tmp_path):
        columns = {
            "a, b": np.array([0.1, np.nan, 1e-30]),
            'c"': tables.as_objects(["x,y", None, "z\n"]),
            "d": np.array([1, 2, 3]),
        }
        tables.write_csv(columns, tmp_path / "x.csv")
        table = tables.read_csv(tmp_path / "x.csv")
        np.testing.assert_array_equal(tables.numbers(table.columns["a, b"])[0], columns["a, b"])
        assert list(table.columns['c"']) == ["x,y", None, "z"]
        assert list(table.columns["d"]) == ["1", "2", "3"]


class TestParquet:
    def test_numbers_and_texts_are_read(self, tmp_path):
        pa = pytest.importorskip("pyarrow")
        from pyarrow import parquet

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
    def test_a_damaged_file_is_refused(self, written, content):
        path = written(content, "x.parquet")
        for read in (tables.read_parquet, tables.is_table_of_values):
            with pytest.raises(InvalidData, match="cannot be read as a Parquet file"):
                read(path)

    def test_pictures_are_no_table(self, tmp_path):
        pa = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(pa.table({"image": [b"\x89PNG"]}), tmp_path / "x.parquet")
        assert not tables.is_table_of_values(tmp_path / "x.parquet")


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


_CELLS = st.one_of(
    st.sampled_from(
        ["", "NA", "1", "0", "-3", "2.5", "1e400", "inf", "x", "\u00e9", '"', ",", "\n"]
    ),
    st.text(max_size=3),
)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    content=st.one_of(st.binary(max_size=60), st.lists(st.lists(_CELLS, max_size=4), max_size=8))
)
def test_any_file_is_a_table_or_is_refused(content, tmp_path):
    """A fuzz: what is read comes back from x, and all else is an error of ours."""
    path = tmp_path / "fuzz.csv"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        text = io.StringIO()
        csv.writer(text).writerows(content)
        path.write_text(text.getvalue(), encoding="utf-8", errors="surrogatepass")
    try:
        table = tables.read_csv(path)
        schema = Schema.inferred(table)
        measured = schema.measured(table)
    except TfvaeError:
        return
    schema = schema.fitted(measured)
    decoded = schema.decode(schema.standardized(measured))
    again = schema.measured(decoded)
    np.testing.assert_allclose(again, measured, rtol=1e-5, atol=1e-5 * np.nanmax(np.abs(measured)))
