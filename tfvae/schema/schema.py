"""The columns of a table as a whole."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from tfvae import tables
from tfvae.errors import InvalidArgument, InvalidData, unknown_name
from tfvae.schema import inference, measurement
from tfvae.schema.column import STANDARDIZED, Column

_MOST_COLUMNS = 100_000


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
    def condition(self) -> Column | None:
        """The column that is the condition; None where none is."""
        return next((column for column in self.columns if column.type == "condition"), None)

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
            data: a pandas or polars frame, a `pyarrow.Table`, a NumPy array with named fields, or
                `{name: values}`, of numbers and texts.
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
        given = {
            n: inference.description(n, value) for n, value in {**table.types, **columns}.items()
        }
        for name in given:
            if name not in table.columns:
                raise unknown_name("column", name, table.columns)
        if len(table.columns) > _MOST_COLUMNS:
            raise InvalidData(
                f"{table.name} has {len(table.columns):,} columns; expected at most "
                f"{_MOST_COLUMNS:,}. Give an .npy file of vectors instead."
            )
        return cls(
            inference.inferred(table, name, values, given.get(name, {}))
            for name, values in table.columns.items()
        )

    def measured(self, data: Any) -> np.ndarray:
        """Return the numbers of a table before they are standardized, `[N, D]` float64.

        Missing values are NaN.

        Raises:
            InvalidData: a column is missing, but for the condition, or new, or holds a value that
                does not fit; with the column and the row, from 1 on.
        """
        table = tables.of_data(data)
        self._check_names(table)
        parts = []
        for column in self.columns:
            if column.type in ("ignored", "condition"):
                continue
            values = measurement.measured(column, table.columns[column.name], table.name)
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
            `[N]` int32; None where no column is, or the table lacks it.

        Raises:
            InvalidData: a cell of it is empty, or holds something else.
        """
        column, table = self.condition, tables.of_data(data)
        if column is None or column.name not in table.columns:
            return None
        values = table.columns[column.name]
        number = measurement.measured(column, values, table.name) * (len(column.categories) - 1)
        measurement.check_all(
            column, np.isnan(number), values, table.name, measurement.one_of(column.categories)
        )
        return np.round(number).astype(np.int32)

    def fitted(self, measured: np.ndarray) -> "Schema":
        """Return the schema with the statistics of training rows.

        Args:
            measured: of `measured`, `[N, D]`.

        Raises:
            InvalidData: a column has no value in any of these rows.
        """
        empty = np.flatnonzero(np.isnan(measured).all(axis=0))
        if len(empty):
            name = self.in_x[empty[0]].name
            raise InvalidData(
                f"The column {name!r} has no value in any of the training rows; expected one at "
                f"least. {measurement.leave_out(name)}."
            )
        found, place = [], 0
        for column in self.columns:
            if column.in_x:
                if column.type in STANDARDIZED:
                    column = measurement.fitted(column, measured[:, place])
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
                labels = measurement.checked_labels(column, condition, len(x))
                cells = [column.categories[label] for label in labels]
                decoded[column.name] = tables.as_objects(cells)
            elif column.in_x:
                decoded[column.name] = measurement.decoded(column, measured[:, place])
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
        needed = [n for n, c in known.items() if c.type not in ("ignored", "condition")]
        missing = [name for name in needed if name not in table.columns]
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


def _some(names):
    names = list(map(str, names))
    return ", ".join(names[:8]) + (f", … ({len(names)})" if len(names) > 8 else "")


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
