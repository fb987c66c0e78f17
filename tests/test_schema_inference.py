"""What cannot be inferred of a column."""

import numpy as np
import pytest

from tfvae.errors import InvalidArgument, InvalidData
from tfvae.schema import Schema


@pytest.mark.parametrize(
    ("values", "columns", "message"),
    [
        ([None, None], {}, "'a' of the table is empty"),
        ([f"{n}x" for n in range(9)], {}, "9 different texts in 9 rows, such as '0x'.*=ignored"),
        ([1, np.inf], {}, "Row 2 of the column 'a' .* holds inf"),
        ([1, np.inf], {"a": {"categories": ["1", "2"]}}, "Row 2 of the column 'a' .* holds inf"),
        (["1", "2", "x"], {"a": "numeric"}, "Row 3 of the column 'a' .* 'x'; expected numbers"),
        ([1, 2], {"a": "constant"}, "called constant and holds 1 and 2"),
        (["x", "x"], {"a": "categorical"}, "has 1 category"),
    ],
)
def test_a_column_that_is_not_clear_is_refused(values, columns, message):
    with pytest.raises(InvalidData, match=message):
        Schema.inferred({"a": values, "b": np.arange(len(values)) / 3}, columns)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"c": "numeric"}, "Unknown column 'c'"),
        ({"a": "number"}, "Unknown type of the column 'a' 'number'.*numeric"),
        ({"a": 3}, "'a' is described by 3; expected a type"),
        ({"a": {"type": "ordinal", "categories": "xy"}}, "expected a list"),
        ({"a": {"kind": "ordinal"}}, "is described by"),
        ({"a": "ignored", "b": "ignored"}, "No column is left"),
    ],
)
def test_a_description_that_is_none_is_refused(columns, message):
    with pytest.raises(InvalidArgument, match=message):
        Schema.inferred({"a": [1.5, 2, 3], "b": [1, 2, 2.5]}, columns)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([0, 1, 2, 3], "ignored"),
        (["7", "3", "12", "5"], "ignored"),
        ([3, 1, 1, 2], "ordinal"),
        ([0.5, 1, 2, 3], "numeric"),
        ([0, 1, None, 3], "ordinal"),
        (["x", "y", "x", "y"], "categorical"),
    ],
    ids=str,
)
def test_a_column_without_a_name_is_an_index_if_its_whole_numbers_differ(values, kind):
    rows = {"": values, "b": np.arange(4) / 3}
    assert Schema.inferred(rows)[""].type == kind
    assert Schema.inferred(rows, {"": "categorical"})[""].type == "categorical"


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([0, 1], "categorical"),
        ([1, 2], "ordinal"),
        (range(10), "ordinal"),
        (range(11), "count"),
        (range(1, 12), "numeric"),
        (range(-1, 10), "numeric"),
        (range(501), "count"),
        (range(502), "numeric"),
        ([*range(10), 0.5], "numeric"),
    ],
    ids=str,
)
def test_whole_numbers_are_levels_if_few_and_counts_from_0_to_500(values, kind):
    assert Schema.inferred({"a": list(values)})["a"].type == kind


@pytest.mark.parametrize(("levels", "rows"), [(2, 3), (4, 8), (50, 200)])
def test_texts_are_categories_up_to_half_of_the_rows_and_50(levels, rows):
    fits, other = ([f"text {n % most}" for n in range(rows)] for most in (levels, levels + 1))
    column = Schema.inferred({"a": fits})["a"]
    assert (column.type, len(column.categories)) == ("categorical", levels)
    with pytest.raises(InvalidData, match=f"holds {levels + 1} different texts"):
        Schema.inferred({"a": other})
