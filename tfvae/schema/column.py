"""One column of a table, and what numbers stand for its values."""

import dataclasses
import numbers
import sys

from tfvae.errors import InvalidArgument, unknown_name

TYPES = (
    *("numeric", "positive", "count", "ordinal", "categorical"),
    *("constant", "condition", "ignored"),
)
WITH_CATEGORIES = ("ordinal", "categorical", "condition")
STANDARDIZED = ("numeric", "positive")
_DIGITS = 15  # that float64 holds


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
        if self.type in WITH_CATEGORIES and (count < 2 or len(set(self.categories)) < count):
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
        if self.type in STANDARDIZED:
            of = "log of it: " if self.type == "positive" else ""
            return f"{of}{self.mean:.6g} ± {self.scale:.6g}"
        return ""


def _is_finite(value):
    # Python compares whole numbers of any size, which `math.isfinite` makes floats of.
    return isinstance(value, numbers.Real) and abs(value) <= sys.float_info.max
