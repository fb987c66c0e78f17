import csv
import io

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tfvae import tables
from tfvae.errors import InvalidData, TfvaeError
from tfvae.schema import Schema


@pytest.fixture
def written(tmp_path):
    """Return a function that writes a text and gives its path."""

    def write(text):
        path = tmp_path / "x.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_columns_come_by_name(written, delimiter, newline):
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
def test_delimiters_in_quoted_names_do_not_count(written, names):
    table = tables.read_csv(written(";".join(names) + "\n" + ";".join("1" for _ in names)))
    assert len(table.columns) == len(names)


def test_a_quoted_cell_may_hold_anything(written):
    table = tables.read_csv(written('a,b\n"1,5 ""x""\n",2\n'))
    assert table.columns["a"][0] == '1,5 "x"'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no columns"),
        ("a,b\n", "no rows"),
        ("1,2\n3,4\n", r"numbers in its first line, 1, 2; expected the names"),
        ("0.12,-0.3,a\n1,2,b\n", r"numbers in its first line, 0.12, -0.3; expected the names"),
        ("-3,a\n1,b\n", "numbers in its first line, -3; expected the names"),
        ("5,3,a\n1,2,b\n", "numbers in its first line, 5, 3; expected the names"),
        ("5.1,3.5,1.4,0.2,Iris-setosa\n4.9,3.0,1.4,0.2,Iris-setosa\n", "line, 5.1, 3.5, 1.4, 0.2;"),
        ("2.5,2,1.5\n1,2,3\n", "numbers in its first line, 2.5, 2, 1.5; .* beside a text"),
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
def test_what_is_no_table_is_refused(written, text, message):
    with pytest.raises(InvalidData, match=message):
        tables.read_csv(written(text))


@pytest.mark.parametrize(
    "names",
    [
        ["", "0", "1", "2"],
        ["land", "1999", "2004"],
        ["inf", "a"],
        ["country", "2020", "2019", "2018"],
        ["sample", "900.5", "901.0", "901.5"],
        ["0.1", "0.2", "0.3", "0.4", "class"],
        ["sample", "3999.6", "3995.8", "3991.9", "3988.1", "3984.2", "3980.4"],
    ],
    ids=str,
)
def test_numbers_in_the_order_of_names_are_names(written, names):
    table = tables.read_csv(written(",".join(names) + "\n" + ",".join("1" * len(names))))
    assert list(table.columns) == names


@pytest.mark.parametrize(
    ("text", "cells"),
    [
        ("a\n1\n\n3\n", ["1", None, "3"]),
        ("a\n\n\n3\n\n\n", [None, None, "3"]),
        ("\n\na,b\n1,2\n\n3,4\n", ["1", "3"]),
    ],
)
def test_a_blank_line_is_an_empty_cell_of_a_single_column(written, text, cells):
    assert list(tables.read_csv(written(text)).columns["a"]) == cells


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InvalidData, match="There is no file"):
        tables.read_csv(tmp_path / "x.csv")


def test_more_than_memory_holds_is_refused_first(written, monkeypatch):
    monkeypatch.setenv("TFVAE_MAX_MEMORY", "100B")
    with pytest.raises(TfvaeError, match=r"bytes of .* would take about"):
        tables.read_csv(written("a,b\n" + "1,2\n" * 10))


def test_what_is_written_is_read_again(tmp_path):
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


def test_numbers_are_written_with_all_of_their_digits(tmp_path):
    numbers = np.array([1 / 3, 0.1 + 0.2, 123456789.12345679, 5e-324, -1.7976931348623157e308])
    columns = {"a": numbers, "b": np.float32([0.1, 1 / 3, 1e-30, 7, -2.5])}
    tables.write_csv(columns, tmp_path / "x.csv")
    table = tables.read_csv(tmp_path / "x.csv")
    for name, values in columns.items():
        np.testing.assert_array_equal(tables.numbers(table.columns[name])[0], values)
