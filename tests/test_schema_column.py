"""What a column cannot be."""

import pytest

from tfvae.errors import InvalidArgument
from tfvae.schema import Column, Schema


@pytest.mark.parametrize(
    "column",
    [
        {"name": "a", "type": "numbers"},
        {"name": "a", "type": "ordinal", "categories": ["x"]},
        {"name": "a", "type": "ordinal", "categories": ["x", "x"]},
        {"name": "a", "scale": 0.0},
        {"name": "a", "mean": float("nan")},
        {"name": "a", "type": "ignored"},
        {"name": 3},
        {"name": "a", "decimals": "x"},
        {"name": "a", "scale": "x"},
        {"name": "a", "type": "ordinal", "categories": [[1], [2]]},
        {"name": "a", "type": "ordinal", "categories": 3},
        {"name": "a", "type": "ordinal", "categories": [0, 10**400]},
        {"name": "a", "type": "ordinal", "categories": [0, "x"]},
        {"name": "a", "type": "ordinal", "categories": [0, float("nan")]},
        {"name": "a", "mean": 10**400},
        {"name": "a", "scale": 10**400},
        {"name": "a", "decimals": 10**400},
    ],
)
def test_a_damaged_column_is_refused(column):
    with pytest.raises(InvalidArgument):
        Schema.from_config({"columns": [column]})


def test_a_constant_column_has_its_value():
    with pytest.raises(InvalidArgument, match="constant and has 0 categories"):
        Column("a", "constant")
