"""What the columns of a table are, and what numbers stand for their values."""

import dataclasses
import numbers
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from tfvae import tables
from tfvae.errors import InvalidArgument, InvalidData, unknown_name
from tfvae.standardization import scale_of

TYPES = (
    *("numeric", "positive", "count", "ordinal", "categorical"),
    *("constant", "condition", "ignored"),
)
_WITH_CATEGORIES = ("ordinal", "categorical", "condition")
_STANDARDIZED = ("numeric", "positive")
_FEW = 10  # so many whole numbers are levels, not measurements
_MOST_CATEGORIES = 50
_MOST_DECIMALS = 9  # that are inferred
_DIGITS = 15  # that float64 holds
_LARGEST_COUNT = 2**24  # up to which float32 holds every whole number
_LARGEST_INFERRED = 500  # up to which whole numbers are counts unless a user says otherwise
_MOST_COLUMNS = 100_000


@dataclasses.dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        name: of the column.
        type: one of

            - "numeric": any number v, as (v − mean) / scale;
            - "positive": a number above 0, as (log v − mean) / scale;
            - "count": a whole number of at least 0, as it is;
            - "ordinal": one of `categories`, which have an order, as its level in [0, 1];
            - "categorical": one of `categories`, likewise;
            - "constant": always the one value in `categories`, and no part of x;
            - "condition": one of `categories`, whose number is the condition y of the row, and no
              part of x;
            - "ignored": no part of x, and not given back.
        categories: L values, texts or numbers; the level of number k is k / (L − 1).
        mean: of the training rows.
        scale: their standard deviation.
        decimals: to which decoded numbers are rounded, None where they are not.
    """

    name: str
    type: str = "numeric"
    categories: tuple = ()
    mean: float = 0.0
    scale: float = 1.0
    decimals: int | None = None

    def __post_init__(self):
        if self.type not in TYPES:
            raise unknown_name(f"type of the column {self.name!r}", self.type, TYPES)
        texts = [isinstance(c, str) for c in self.categories]
        plain = all(texts) or all(
            isinstance(c, (int, float)) and _is_finite(c) for c in self.categories
        )
        whole = self.decimals is None or (
            type(self.decimals) is int and abs(self.decimals) <= _DIGITS
        )
        if not (isinstance(self.name, str) and plain and whole):
            raise InvalidArgument(
                f"A column has the name {self.name!r}, the categories {list(self.categories)} and "
                f"{self.decimals!r} decimals; expected text, all texts or all finite numbers, and "
                f"a whole number of at most {_DIGITS}."
            )
        count = len(self.categories)
        if self.type == "constant" and count != 1:
            raise InvalidArgument(
                f"The column {self.name!r} is constant and has {count} categories; expected its "
                "one value."
            )
        if self.type in _WITH_CATEGORIES and (count < 2 or len(set(self.categories)) < count):
            raise InvalidArgument(
                f"The column {self.name!r} is {self.type} and has the categories "
                f"{list(self.categories)}; expected two different ones at least."
            )
        if not (_is_finite(self.mean) and _is_finite(self.scale) and self.scale > 0):
            raise InvalidArgument(
                f"The column {self.name!r} has the mean {self.mean!r} and the scale "
                f"{self.scale!r}; expected finite numbers, and a scale above 0."
            )

    @property
    def in_x(self) -> bool:
        """Whether it is one of the numbers of an example."""
        return self.type not in ("constant", "condition", "ignored")

    @property
    def holds_text(self) -> bool:
        """Whether its categories are texts."""
        return bool(self.categories) and isinstance(self.categories[0], str)

    def described(self) -> str:
        """Return what is said of it beside its name and type."""
        if self.type == "constant":
            return f"{self.categories[0]}"
        if self.categories:
            shown = ", ".join(map(str, self.categories[:6]))
            more = f", … ({len(self.categories)})" if len(self.categories) > 6 else ""
            return shown + more
        if self.type in _STANDARDIZED:
            of = "log of it: " if self.type == "positive" else ""
            return f"{of}{self.mean:.6g} ± {self.scale:.6g}"
        return ""


class Schema:
    """The columns of a table: how its rows become vectors x `[N, D]`, and how they come back.

    Args:
        columns: `Column`s, in the order of the table.

    Raises:
        InvalidArgument: none that is a part of x, or two of one name.
    """

    def __init__(self, columns: Iterable[Column]):
        self.columns = tuple(columns)
        names = [column.name for column in self.columns]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise InvalidArgument(f"A schema has two columns {twice!r}; expected other names.")
        if not self.in_x:
            types = {column.name: column.type for column in self.columns}
            raise InvalidArgument(
                f"No column is left to train on: {types}; expected one at least that is not "
                "constant or ignored."
            )

    @property
    def in_x(self) -> tuple[Column, ...]:
        """The columns that are numbers of an example, in their order."""
        return tuple(column for column in self.columns if column.in_x)

    @property
    def size(self) -> int:
        """D, how many numbers an example has."""
        return len(self.in_x)

    def __len__(self):
        return len(self.columns)

    def __eq__(self, other):
        return isinstance(other, Schema) and self.columns == other.columns

    def __hash__(self):
        return hash(self.columns)

    def __getitem__(self, name: str) -> Column:
        return next(column for column in self.columns if column.name == name)

    def __str__(self):
        rows = [(c.name, c.type, c.described()) for c in self.columns]
        first, second = (max(len(row[n]) for row in rows) for n in (0, 1))
        return "\n".join(f"{a:<{first}}  {b:<{second}}  {c}".rstrip() for a, b, c in rows)

    __repr__ = __str__

    @classmethod
    def inferred(cls, data: Any, columns: Mapping | None = None, condition: str = "") -> "Schema":
        """Return the schema of a table, without statistics.

        Texts are categories, in alphabetical order unless the frame has one; numbers are numeric,
        but for whole ones: of at most ten values they are ordinal (0 and 1: categorical), and from
        0 up to 500, with 0 among them, counts. A column of one value is constant.

        Args:
            data: what `tfvae.tables.of_data` takes.
            columns: what is to be other than inferred, `{name: type}`, or
                `{name: {"type": ..., "categories": [...]}}`.
            condition: the column that is the condition, "" for none.

        Raises:
            InvalidData: a column that is neither numbers nor categories, or does not fit its type.
            InvalidArgument: no such column or type.
        """
        table = tables.of_data(data)
        columns = dict(columns or {})
        if condition:
            if condition not in table.columns:
                raise InvalidData(
                    f"{table.name} has no column {condition!r}, which data.condition names; it has "
                    f"{_some(table.columns)}."
                )
            if condition in columns:
                raise InvalidArgument(
                    f"The column {condition!r} is the condition, and data.columns describes it "
                    "too. Leave one of them out."
                )
            columns[condition] = "condition"
        given = {n: _given(n, value) for n, value in {**table.types, **columns}.items()}
        for name in given:
            if name not in table.columns:
                raise unknown_name("column", name, table.columns)
        if len(table.columns) > _MOST_COLUMNS:
            raise InvalidData(
                f"{table.name} has {len(table.columns):,} columns; expected at most "
                f"{_MOST_COLUMNS:,}. Give an .npy file of vectors instead."
            )
        return cls(
            _infer(table, name, values, given.get(name, {}))
            for name, values in table.columns.items()
        )

    def measured(self, data: Any) -> np.ndarray:
        """Return the numbers of a table before they are standardized, `[N, D]` float64.

        Missing values are NaN.

        Raises:
            InvalidData: a column is missing or new, or holds a value that does not fit; with the
                column and the row, from 1 on.
        """
        table = tables.of_data(data)
        self._check_names(table)
        parts = []
        for column in self.columns:
            if column.type in ("ignored", "condition"):
                continue
            values = _measure(column, table.columns[column.name], table.name)
            if column.in_x:
                parts.append(values)
        x = np.stack(parts, axis=1)
        empty = np.all(np.isnan(x), axis=1)
        if empty.any():
            raise InvalidData(
                f"Row {np.argmax(empty) + 1} of {table.name} is empty; expected a value in one "
                "column at least. Remove the row."
            )
        return x

    def conditions(self, data: Any) -> np.ndarray | None:
        """Return the number of the category of each row in the column that is the condition.

        Returns:
            `[N]` int32; None where no column is.

        Raises:
            InvalidData: it is missing, or holds something else.
        """
        column = next((c for c in self.columns if c.type == "condition"), None)
        if column is None:
            return None
        table = tables.of_data(data)
        values = table.columns[column.name]
        number = _measure(column, values, table.name) * (len(column.categories) - 1)
        _check_all(column, np.isnan(number), values, table.name, _one_of(column.categories))
        return np.round(number).astype(np.int32)

    def fitted(self, measured: np.ndarray) -> "Schema":
        """Return the schema with the statistics of training rows.

        Args:
            measured: of `measured`, `[N, D]`.
        """
        found, place = [], 0
        for column in self.columns:
            if column.in_x:
                if column.type in _STANDARDIZED:
                    column = _fit(column, measured[:, place])
                place += 1
            found.append(column)
        return Schema(found)

    def standardized(self, measured: np.ndarray) -> np.ndarray:
        """Return x of what `measured` gave, `[..., D]` float32."""
        mean, scale = self._statistics()
        return ((measured - mean) / scale).astype(np.float32)

    def encode(self, data: Any) -> np.ndarray:
        """Return x `[N, D]` float32 of a table: what the model is given.

        Args:
            data: a pandas or polars frame, or `{name: values}`; the order of the columns does not
                matter. Missing values are NaN in x.

        Raises:
            InvalidData: see `measured`.
        """
        return self.standardized(self.measured(data))

    def decode(
        self, x: np.ndarray, condition: np.ndarray | int | None = None
    ) -> dict[str, np.ndarray]:
        """Return the columns of x `[N, D]`, in their order and units: the inverse of `encode`.

        Categories are the nearest ones, counts are rounded, and so are numbers to the decimals that
        the training data has. Missing values, NaN, are NaN or None.

        Args:
            x: the numbers.
            condition: y, `[N]` or one for all, where a column is the condition; without, that
                column is left out.

        Raises:
            InvalidData: x has another shape, or a condition is none of the categories.
        """
        x = np.asarray(x, np.float64)
        if x.ndim != 2 or x.shape[1] != self.size:
            raise InvalidData(
                f"x has the shape {x.shape}; the schema has {self.size} columns and decodes "
                f"[N, {self.size}]."
            )
        mean, scale = self._statistics()
        measured, place, decoded = x * scale + mean, 0, {}
        for column in self.columns:
            if column.type == "constant":
                decoded[column.name] = tables.as_objects([column.categories[0]] * len(x))
            elif column.type == "condition" and condition is not None:
                labels = _checked_labels(column, condition, len(x))
                cells = [column.categories[label] for label in labels]
                decoded[column.name] = tables.as_objects(cells)
            elif column.in_x:
                decoded[column.name] = _value(column, measured[:, place])
                place += 1
        return decoded

    def log_jacobian(self, x: np.ndarray) -> np.ndarray:
        """Return log |dx/dv| of each value v of the table, `[N, D]`; 0 where it is missing.

        That is −log scale of numbers, −log(scale · v) of positive ones, and 0 of all that have
        probabilities. Added to log p(x), their sum gives the log-density of rows in their units.
        """
        x = np.asarray(x, np.float64)
        mean, scale = self._statistics()
        logs = x * scale + mean  # of positive values
        is_positive = np.array([column.type == "positive" for column in self.in_x])
        return np.where(np.isnan(x), 0.0, -np.log(scale) - np.where(is_positive, logs, 0.0))

    def blocks(self) -> list[tuple]:
        """Return the blocks of the likelihood "columns": (name, number of columns, options)."""
        found = []
        for column in self.in_x:
            name, options = _likelihood(column)
            if found and (found[-1][0], found[-1][2]) == (name, options) and name != "ordinal":
                found[-1] = (name, found[-1][1] + 1, options)
            else:
                found.append((name, 1, options))
        return found

    def features(self) -> list:
        """Return what `tfvae.networks.ColumnFeatures` makes of each number of an example."""
        found = {"count": "count"}
        return [
            len(column.categories)
            if column.type == "categorical" and len(column.categories) > 2
            else found.get(column.type, "number")
            for column in self.in_x
        ]

    def get_config(self) -> dict:
        """Return the columns as plain data, for JSON."""
        return {"columns": [_without_defaults(column) for column in self.columns]}

    @classmethod
    def of(cls, value: "Schema | dict") -> "Schema":
        """Return a schema as it is, or the one that `get_config` described.

        Raises:
            InvalidArgument: it is neither.
        """
        return value if isinstance(value, cls) else cls.from_config(value)

    @classmethod
    def from_config(cls, config: dict) -> "Schema":
        """Return the schema that `get_config` described.

        Raises:
            InvalidArgument: it is none.
        """
        try:
            columns = [
                Column(**{**column, "categories": tuple(column.get("categories", ()))})
                for column in config["columns"]
            ]
            return cls(columns)
        except (TypeError, KeyError, AttributeError, OverflowError):
            raise InvalidArgument(f"No schema can be made of {str(config)[:200]}.") from None

    def _statistics(self):
        return tuple(np.array([getattr(c, name) for c in self.in_x]) for name in ("mean", "scale"))

    def _check_names(self, table):
        known = {column.name: column for column in self.columns}
        missing = [n for n, c in known.items() if n not in table.columns and c.type != "ignored"]
        if missing:
            raise InvalidData(
                f"{table.name} lacks the column {missing[0]!r}"
                + (f" and {len(missing) - 1} more" if len(missing) > 1 else "")
                + f" of the schema; it has {_some(table.columns)}. Add it."
            )
        beside = {name for name, kind in table.types.items() if kind == "ignored"}
        new = [name for name in table.columns if name not in known and name not in beside]
        if new:
            raise InvalidData(
                f"{table.name} has the column {new[0]!r}, which the schema does not know; expected "
                f"{_some(known)}. Leave it out."
            )


def _is_finite(value):
    # Python compares whole numbers of any size, which `math.isfinite` makes floats of.
    return isinstance(value, numbers.Real) and abs(value) <= sys.float_info.max


def _checked_labels(column, condition, count):
    """Return y of each row, `[N]`, as it stands for a category of the column."""
    labels, last = np.asarray(condition), len(column.categories) - 1
    if labels.dtype.kind not in "ui" or labels.shape not in ((), (count,)):
        raise InvalidData(
            f"The conditions are an array of {labels.dtype} of shape {labels.shape}; expected one "
            f"whole number, or {count}, one for each row."
        )
    if labels.size and not 0 <= labels.min() <= labels.max() <= last:
        raise InvalidData(
            f"The conditions are from {labels.min()} to {labels.max()}; expected 0 to {last}, a "
            f"category of the column {column.name!r} each."
        )
    return np.broadcast_to(labels, (count,))


def _some(names):
    names = list(map(str, names))
    return ", ".join(names[:8]) + (f", … ({len(names)})" if len(names) > 8 else "")


def _given(name, value):
    """Return what a user says of a column as a dictionary."""
    value = {"type": value} if isinstance(value, str) else value
    if not isinstance(value, Mapping) or not set(value) <= {"type", "categories"}:
        raise InvalidArgument(
            f"The column {name!r} is described by {value!r}; expected a type, such as 'ordinal', "
            "or {type = 'ordinal', categories = ['low', 'high']}."
        )
    if not isinstance(value.get("categories", []), (list, tuple)):
        raise InvalidArgument(
            f"The categories of the column {name!r} are {value['categories']!r}; expected a list."
        )
    kind = value.get("type", "categorical" if "categories" in value else None)
    if kind is not None and kind not in TYPES:
        raise unknown_name(f"type of the column {name!r}", kind, TYPES)
    return {"type": kind, "categories": tuple(value.get("categories", ()))}


def _infer(table, name, values, given):
    """Return one column as it is, or as it is given."""
    kind, categories = given.get("type"), given.get("categories", ())
    if kind == "ignored":
        return Column(name, "ignored")
    gone = tables.is_missing(values)
    if gone.all():
        raise InvalidData(
            f"The column {name!r} of {table.name} is empty; expected a value in one row at least. "
            f"{_leave_out(name)}"
        )
    found, text_at = tables.numbers(values)
    categories = categories or table.orders.get(name, ())
    if text_at is not None or (categories and isinstance(categories[0], str)):
        return _of_texts(table, name, values, gone, kind, categories)
    _check_finite(name, found, table.name)
    levels = np.unique(found[~gone])
    is_whole = bool(np.all(levels == np.round(levels)))
    if kind is None and not name and _is_index(found):
        return Column(name, "ignored")
    kind = kind or ("ordinal" if categories else _type_of_numbers(levels, is_whole))
    if kind == "constant":
        return _constant(table, name, [_plain(level) for level in levels])
    if kind in _WITH_CATEGORIES:
        levels = tuple(_plain(level) for level in levels)
        return Column(name, kind, _checked_categories(table, name, categories or levels))
    return Column(name, kind, decimals=_decimals(found[~gone]) if kind in _STANDARDIZED else None)


def _of_texts(table, name, values, gone, kind, categories):
    values = as_texts(values)
    levels = sorted(set(values[~gone]))
    kind = kind or ("constant" if len(levels) == 1 else None)
    if kind == "constant":
        return _constant(table, name, levels)
    if kind not in (None, *_WITH_CATEGORIES):
        _, row = tables.numbers(values)
        raise InvalidData(
            f"Row {row + 1} of the column {name!r} of {table.name} holds {values[row]!r}; expected "
            f"numbers in a column that is {kind}."
        )
    if kind is None and not categories:
        most = min(_MOST_CATEGORIES, len(values) / 2)
        if len(levels) > max(2, most):
            raise InvalidData(
                f"The column {name!r} of {table.name} holds {len(levels)} different texts in "
                f"{len(values)} rows, such as {levels[0]!r}: neither numbers nor few categories. "
                f"{_leave_out(name)}, or call it categorical."
            )
    order = table.orders.get(name)
    kind = kind or ("ordinal" if order else "categorical")
    return Column(name, kind, _checked_categories(table, name, categories or tuple(levels)))


def as_texts(values: np.ndarray) -> np.ndarray:
    """Return a column as texts and None."""
    if values.dtype == object:
        return values
    return tables.as_objects([None if v != v else str(_plain(v)) for v in values])


def _leave_out(name):
    return (
        f"Leave it out with --set data.columns.{name}=ignored, columns={{{name!r}: 'ignored'}} in "
        "Python"
    )


def _constant(table, name, levels):
    if len(levels) > 1:
        raise InvalidData(
            f"The column {name!r} of {table.name} is called constant and holds {levels[0]!r} and "
            f"{levels[1]!r}; expected one value."
        )
    return Column(name, "constant", tuple(levels))


def _checked_categories(table, name, categories):
    if len(categories) < 2:
        raise InvalidData(
            f"The column {name!r} of {table.name} has {len(categories)} category; expected two at "
            "least."
        )
    if len(set(map(type, categories)) - {int, float}) > 1:
        raise InvalidArgument(
            f"The categories of the column {name!r} are {list(categories)}; expected all texts, or "
            "all numbers."
        )
    return tuple(categories)


def _type_of_numbers(levels, is_whole):
    if len(levels) == 1:
        return "constant"
    if not is_whole:
        return "numeric"
    if len(levels) <= _FEW:
        return "categorical" if list(levels) == [0, 1] else "ordinal"
    return "count" if levels[0] == 0 and levels[-1] <= _LARGEST_INFERRED else "numeric"


def _is_index(values):
    """Whether numbers count the rows, as the column without a name does that pandas writes."""
    first = values[0]
    return first in (0, 1) and np.array_equal(values, np.arange(len(values)) + first)


def _plain(number):
    """Return a number as Python has it, whole where it is."""
    return int(number) if number == int(number) else float(number)


def _decimals(values):
    """Return how many decimals hold all values exactly; None if it takes too many."""
    for decimals in range(_MOST_DECIMALS + 1):
        if np.array_equal(np.round(values, decimals), values):
            return decimals
    return None


def _measure(column, values, source):
    """Return the numbers of one column before they are standardized, `[N]` float64."""
    gone = tables.is_missing(values)
    if column.holds_text:
        texts = as_texts(values)
        places = {text: place for place, text in enumerate(column.categories)}
        found = np.array([np.nan if t is None else places.get(t, -1) for t in texts], np.float64)
    else:
        found, row = tables.numbers(values)
        if row is not None:
            raise _unfit(column, row, values[row], source, "a number")
        _check_finite(column.name, found, source)
    if column.categories and not column.holds_text:
        found = _places(column, found, gone)
    if column.categories:
        _check_all(column, found < 0, values, source, _one_of(column.categories))
        return found / max(1, len(column.categories) - 1)
    if column.type == "positive":
        _check_all(column, found <= 0, values, source, "a number above 0")
        return np.log(found)
    if column.type == "count":
        _check_all(column, found < 0, values, source, "a count, at least 0")
        _check_all(column, found > _LARGEST_COUNT, values, source, "a count of at most 2^24")
        _check_all(column, (found != np.round(found)) & ~gone, values, source, "a whole number")
    return found


def _places(column, found, gone):
    levels = np.array(column.categories, np.float64)
    order = np.argsort(levels)
    place = np.clip(np.searchsorted(levels[order], found), 0, len(levels) - 1)
    places = np.where(levels[order][place] == found, order[place], -1).astype(np.float64)
    places[gone] = np.nan
    return places


def _one_of(categories):
    shown = ", ".join(repr(c) for c in categories[:6])
    more = f", … ({len(categories)})" if len(categories) > 6 else ""
    return f"{'one of ' if len(categories) > 1 else ''}{shown}{more}"


def _check_finite(name, values, source):
    bad = np.isinf(values)
    if bad.any():
        row = int(np.argmax(bad))
        raise InvalidData(
            f"Row {row + 1} of the column {name!r} of {source} holds {values[row]}; expected "
            "finite numbers. Leave the cell empty if the value is not known."
        )


def _check_all(column, bad, values, source, expected):
    if bad.any():
        row = int(np.argmax(bad))
        raise _unfit(column, row, values[row], source, expected)


def _unfit(column, row, value, source, expected):
    value = value if isinstance(value, str) or value is None or value != value else _plain(value)
    return InvalidData(
        f"Row {row + 1} of the column {column.name!r} of {source} holds {value!r}; expected "
        f"{expected}, since the column is {_a_type(column.type)}."
    )


def _a_type(name):
    return {"count": "a count", "condition": "the condition"}.get(name, name)


def _fit(column, values):
    values = values[~np.isnan(values)]
    mean, scale = float(np.mean(values)), float(np.std(values))
    scale = float(scale_of(mean, scale))
    fitted = dataclasses.replace(column, mean=mean, scale=scale)
    if fitted.decimals is None:
        return fitted
    # Decimals that float32 does not hold are not promised.
    back = ((values - mean) / scale).astype(np.float32).astype(np.float64) * scale + mean
    if column.type == "positive":
        values, back = np.exp(values), np.exp(back)
    exact = np.abs(back - values) < 0.4 * 10.0**-fitted.decimals
    return fitted if exact.all() else dataclasses.replace(fitted, decimals=None)


def _value(column, measured):
    """Return the values of one column, `[N]`, of numbers before they were standardized."""
    if column.categories:
        levels = len(column.categories) - 1
        gone = np.isnan(measured)
        place = np.clip(np.round(np.where(gone, 0.0, measured) * levels), 0, levels).astype(int)
        cells = [None if n else column.categories[p] for n, p in zip(gone, place, strict=True)]
        return tables.as_objects(cells)
    if column.type == "count":
        return _whole(np.maximum(np.round(measured), 0.0))
    values = np.exp(measured) if column.type == "positive" else measured
    if column.decimals is None:
        return values.astype(np.float32).astype(np.float64)
    rounded = np.round(values, column.decimals) + 0.0  # no negative zeros
    return _whole(rounded) if column.decimals == 0 else rounded


def _whole(values):
    return values if np.isnan(values).any() else values.astype(np.int64)


def _likelihood(column):
    """Return the likelihood of a column by name, and its options."""
    if column.type == "count":
        return "negative_binomial", {"dispersion": "by_value"}
    if column.type == "ordinal" and len(column.categories) > 2:
        return "ordinal", {"num_levels": len(column.categories)}
    if column.categories and len(column.categories) == 2:
        return "bernoulli", {}
    if column.categories:
        return "categorical", {"num_levels": len(column.categories)}
    return "normal", {"scale": "by_value"}


def _without_defaults(column):
    values = dataclasses.asdict(column)
    defaults = {f.name: f.default for f in dataclasses.fields(Column)}
    kept = {k: v for k, v in values.items() if k in ("name", "type") or v != defaults[k]}
    return {k: list(v) if isinstance(v, tuple) else v for k, v in kept.items()}
