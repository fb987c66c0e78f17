"""What columns are inferred to be, and that statistics are undone exactly."""

import json

import numpy as np
import pytest

from tfvae import data, tables
from tfvae.errors import InvalidArgument, InvalidData
from tfvae.schema import Column, Schema

SIZES = ("small", "medium", "large")


@pytest.fixture
def frame(rng):
    """Forty rows of every type of column."""
    return {
        "": np.arange(40),
        "alcohol": np.round(13 + rng.normal(size=40), 2),
        "proline": np.round(700 + 300 * rng.normal(size=40)),
        "price": np.exp(rng.normal(size=40)),
        "visits": np.array([0, *rng.poisson(20, 39)]),
        "quality": rng.permutation(np.arange(40) % 6 + 3),
        "red": np.arange(40) % 2,
        "size": [SIZES[n % 3] for n in range(40)],
        "country": ["France" if n % 3 else "Italy" for n in range(40)],
        "year": [2020] * 40,
        "note": [f"note {n}" for n in range(40)],
    }


COLUMNS = {
    "price": "positive",
    "size": {"type": "ordinal", "categories": list(SIZES)},
    "note": "ignored",
}


@pytest.fixture
def schema(frame):
    schema = Schema.inferred(frame, COLUMNS)
    return schema.fitted(schema.measured(frame))


def test_types_are_inferred(schema):
    assert {column.name: column.type for column in schema.columns} == {
        "": "ignored",
        "alcohol": "numeric",
        "proline": "numeric",
        "price": "positive",
        "visits": "count",
        "quality": "ordinal",
        "red": "categorical",
        "size": "ordinal",
        "country": "categorical",
        "year": "constant",
        "note": "ignored",
    }
    assert schema["quality"].categories == (3, 4, 5, 6, 7, 8)
    assert schema["country"].categories == ("France", "Italy")
    assert schema.size == 8
    assert "size     ordinal      small, medium, large" in str(schema)


def test_texts_of_numbers_are_numbers(frame, schema):
    texts = {name: [str(value) for value in values] for name, values in frame.items()}
    again = Schema.inferred(texts, COLUMNS)
    assert again.fitted(again.measured(texts)) == schema


def test_what_is_standardized_has_mean_0_and_deviation_1(frame, schema):
    x = schema.encode(frame)
    assert x.dtype == np.float32
    np.testing.assert_allclose(x[:, :3].mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(x[:, :3].std(0), 1, atol=1e-6)
    np.testing.assert_array_equal(x[:, 3], frame["visits"])
    np.testing.assert_allclose(x[:, 6], [n % 3 / 2 for n in range(40)])


def test_the_round_trip_is_exact(frame, schema):
    decoded = schema.decode(schema.encode(frame))
    assert list(decoded) == [c.name for c in schema.columns if c.type != "ignored"]
    for name, values in decoded.items():
        if name == "price":  # of more digits than float32 holds
            np.testing.assert_allclose(values, frame[name], rtol=2e-7)
        else:
            assert list(values) == list(frame[name]), name
    assert decoded["proline"].dtype == np.int64


def test_numbers_far_from_0_come_back_as_exactly_as_x_is():
    values = 1e8 + np.arange(200.0) / 7  # of more digits than are inferred
    schema = Schema.inferred({"v": values})
    schema = schema.fitted(schema.measured({"v": values}))
    back = schema.decode(schema.encode({"v": values}))["v"]
    np.testing.assert_allclose(back, values, rtol=0, atol=schema["v"].scale * 2.0**-23)
    assert len(set(back)) == 200


@pytest.mark.parametrize("kind", ["numeric", "positive"])
def test_drawn_numbers_have_the_decimals_of_the_data_even_where_float32_does_not_hold_them(kind):
    values = np.round(np.exp(np.linspace(8.0, 15.0, 50)), 2)
    schema = Schema.inferred({"v": values}, {"v": kind})
    schema = schema.fitted(schema.measured({"v": values}))
    x = np.linspace(-1, 1, 33, dtype=np.float32)[:, np.newaxis] / 3
    drawn = schema.decode(x)["v"]
    column = schema["v"]
    exact = x[:, 0].astype(np.float64) * column.scale + column.mean
    exact = np.exp(exact) if kind == "positive" else exact
    np.testing.assert_array_equal(drawn, np.round(exact, 2))
    assert not np.array_equal(schema.decode(schema.encode({"v": values}))["v"], values)


def test_whole_numbers_beyond_integers_stay_floats():
    column = Column("v", "positive", mean=0.0, scale=1.0, decimals=0)
    schema = Schema([column])
    x = np.array([[43.0], [44.0]], np.float32)
    assert schema.decode(x[:1])["v"].dtype == np.int64
    np.testing.assert_array_equal(schema.decode(x)["v"], np.round(np.exp([43.0, 44.0])))


def test_a_column_without_a_value_in_the_training_rows_is_refused():
    schema = Schema.inferred({"a": [1.5, 2, 3], "b": [1.5, 2.5, 4]})
    measured = schema.measured({"a": [1.5, 2, 3], "b": [None, 1.0, None]})
    with pytest.raises(InvalidData, match=r"'b' has no value in any of the training rows; .*=ign"):
        schema.fitted(measured[[0, 2]])


def test_rows_without_the_condition_are_read_and_have_none(tmp_path):
    rows = {"a": np.arange(20.0) + 0.5, "y": ["u", "v"] * 10}
    splits = data.load(rows, condition="y")
    schema = splits.schema
    tables.write_csv({"a": rows["a"]}, tmp_path / "x.csv")
    examples = data.read_examples(tmp_path / "x.csv", columns=schema)
    assert examples.conditions is None
    np.testing.assert_array_equal(examples.numpy(), schema.encode(rows))
    with pytest.raises(InvalidData, match="lacks the column 'y', which is the condition"):
        data.load(tmp_path / "x.csv", columns=schema)


def test_missing_values_are_nan_and_come_back(frame, schema):
    gone = {name: list(values) for name, values in frame.items()}
    for row, name in enumerate(schema.columns):
        gone[name.name][row] = None
    gone["year"][9] = 2020
    x = schema.encode(gone)
    assert np.isnan(x).sum() == 8
    decoded = schema.decode(x)
    for row, column in enumerate(schema.columns):
        if column.in_x:
            value = decoded[column.name][row]
            assert value is None or np.isnan(value)


def test_it_is_plain_data(schema):
    config = json.loads(json.dumps(schema.get_config()))
    assert Schema.from_config(config) == schema


@pytest.mark.parametrize(
    "config", [{}, None, {"columns": [{}]}, {"columns": [{"name": "a", "b": 1}]}]
)
def test_a_config_of_something_else_is_refused(config):
    with pytest.raises(InvalidArgument, match="No schema can be made"):
        Schema.from_config(config)


def test_a_number_that_is_always_the_same_is_not_scaled_by_rounding():
    schema = Schema([Column("a"), Column("b", "positive")])
    measured = schema.measured({"a": np.full(30, 0.1), "b": np.full(30, 0.7)})
    assert np.std(measured[:, 0]) > 0  # so says rounding
    fitted = schema.fitted(measured)
    assert [column.scale for column in fitted.columns] == [1.0, 1.0]
    np.testing.assert_allclose(fitted.encode({"a": [0.3], "b": [0.7]}), [[0.2, 0.0]], atol=1e-6)


def test_all_categories_of_a_condition_count():
    rows = {"a": np.arange(20.0) + 0.5, "y": ["u", "v"] * 10}
    columns = {"y": {"type": "condition", "categories": ["u", "v", "w"]}}
    assert data.load(rows, columns=columns).condition == 3


@pytest.mark.parametrize("condition", [-1, 2, [0, 5], [0, 1, 0], 0.0, "a"])
def test_a_condition_that_is_no_category_is_refused(condition):
    schema = Schema([Column("a"), Column("y", "condition", ("no", "yes"))])
    assert schema.decode(np.zeros((2, 1)), [0, 1])["y"].tolist() == ["no", "yes"]
    assert schema.decode(np.zeros((2, 1)), 1)["y"].tolist() == ["yes", "yes"]
    with pytest.raises(InvalidData, match="conditions are"):
        schema.decode(np.zeros((2, 1)), condition)


def test_columns_of_one_likelihood_that_stand_together_are_a_block(schema):
    assert [(name, size) for name, size, _ in schema.blocks()] == [
        ("normal", 3),
        ("negative_binomial", 1),
        ("ordinal", 1),
        ("bernoulli", 1),
        ("ordinal", 1),
        ("bernoulli", 1),
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alcohol": None}, "lacks the column 'alcohol' of the schema"),
        ({"ph": [3.0] * 40}, "has the column 'ph', which the schema does not know"),
        (
            {"alcohol": ["strong"] * 40},
            "Row 1 of the column 'alcohol' .* 'strong'; expected a number",
        ),
        ({"alcohol": [1.0, np.inf] * 20}, "Row 2 of the column 'alcohol' .* inf; expected finite"),
        ({"price": [1.0, 0.0] * 20}, "Row 2 of the column 'price' .* 0; expected a number above 0"),
        ({"visits": [1, -1] * 20}, "Row 2 of the column 'visits' .* -1; expected a count"),
        ({"visits": [1, 1.5] * 20}, "Row 2 of the column 'visits' .* 1.5; expected a whole"),
        ({"visits": [1, 1e9] * 20}, "Row 2 of the column 'visits' .* at most 2\\^24"),
        ({"quality": [3, 9] * 20}, "Row 2 of the column 'quality' .* 9; expected one of 3, 4"),
        ({"size": ["small", "tiny"] * 20}, "Row 2 of the column 'size' .* 'tiny'; expected one of"),
        ({"size": [1, np.inf] * 20}, "Row 2 of the column 'size' .* inf; expected finite"),
        ({"size": [1] * 40}, "Row 1 of the column 'size' .* 1; expected one of 'small'"),
        ({"year": [2020, 2021] * 20}, "Row 2 of the column 'year' .* 2021; expected 2020"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(frame, schema, change, message):
    other = {k: v for k, v in {**frame, **change}.items() if v is not None}
    with pytest.raises(InvalidData, match=message):
        schema.encode(other)


def test_an_empty_row_is_refused(frame, schema):
    other = {name: list(values) for name, values in frame.items()}
    for name in other:
        other[name][4] = None
    other["year"][4] = 2020
    with pytest.raises(InvalidData, match="Row 5 of the table is empty"):
        schema.encode(other)


def test_a_file_may_not_name_a_column_twice():
    with pytest.raises(InvalidArgument, match="two columns 'a'"):
        Schema([Column("a"), Column("a")])


def test_numbers_that_are_categories_keep_the_order_they_are_given_in():
    schema = Schema([Column("a", "ordinal", (30, 10, 20))])
    np.testing.assert_array_equal(schema.measured({"a": [10, 20, 30]}), [[0.5], [1], [0]])
    assert schema.decode([[0.5], [1], [0]])["a"].tolist() == [10, 20, 30]


def test_drawn_numbers_become_the_nearest_categories_and_counts():
    schema = Schema([Column("a", "ordinal", ("x", "y", "z")), Column("n", "count")])
    decoded = schema.decode([[-0.3, -0.7], [0.24, 0.4], [0.26, 0.6], [0.74, 7.0], [0.76, 7.6]])
    assert decoded["a"].tolist() == ["x", "x", "y", "y", "z"]
    assert decoded["n"].tolist() == [0, 0, 1, 7, 8]


def test_each_of_many_conditions_has_its_number():
    """Some of the levels k / 49, times 49, are a little less than k."""
    names = tuple(f"class {n:02}" for n in range(50))
    schema = Schema([Column("a"), Column("y", "condition", names)])
    found = schema.conditions({"a": np.zeros(50), "y": list(names)})
    np.testing.assert_array_equal(found, np.arange(50))


def test_ordinal_columns_have_a_block_each_and_categorical_ones_share_theirs():
    columns = [Column(name, "ordinal", (1, 2, 3)) for name in "ab"]
    columns += [Column(name, "categorical", (1, 2, 3)) for name in "cd"]
    levels = {"num_levels": 3}
    expected = [("ordinal", 1, levels), ("ordinal", 1, levels), ("categorical", 2, levels)]
    assert Schema(columns).blocks() == expected


def test_more_than_two_categories_are_told_apart_and_two_are_a_number():
    two, three = Column("b", "categorical", (0, 1)), Column("c", "categorical", ("u", "v", "w"))
    schema = Schema([Column("a"), two, three, Column("n", "count"), Column("o", "ordinal", (1, 2))])
    assert schema.features() == ["number", "number", 3, "count", "number"]


def test_the_statistics_are_those_of_the_rows_that_have_a_value():
    schema = Schema([Column("a"), Column("b", "positive"), Column("n", "count")])
    rows = {"a": [1.0, None, 4.0], "b": [None, np.exp(2.0), np.exp(6.0)], "n": [0, 5, None]}
    fitted = schema.fitted(schema.measured(rows))
    found = [(column.mean, column.scale) for column in fitted.columns]
    assert found == [(2.5, 1.5), (pytest.approx(4.0), pytest.approx(2.0)), (0.0, 1.0)]


def test_the_jacobian_is_that_of_the_values_that_are_observed():
    """dx/dv is 1 / scale of a number v, and 1 / (scale v) of a positive one."""
    columns = [Column("a", mean=5.0, scale=2.0), Column("b", "positive", mean=1.0, scale=0.5)]
    schema = Schema([*columns, Column("n", "count")])
    found = schema.log_jacobian([[0.3, 4.0, 7.0], [np.nan, np.nan, 0.0]])
    np.testing.assert_allclose(found, [[-np.log(2), np.log(2) - 3, 0], [0, 0, 0]], atol=1e-12)


def test_counts_are_those_that_float32_holds():
    schema = Schema([Column("n", "count")])
    assert schema.encode({"n": [2**24]}).tolist() == [[2.0**24]]
    with pytest.raises(InvalidData, match=r"Row 2 .* expected a count of at most 2\^24"):
        schema.encode({"n": [0, 2**24 + 1]})
