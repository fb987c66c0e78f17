"""Registries of parts, so that a part is given by name or as an object."""

import functools
import inspect
import os
import re
import sys
from pathlib import Path

from tfvae.errors import InvalidArgument, unknown_name

# What Keras layers take behind their own arguments.
_OF_EVERY_LAYER = ("name", "dtype", "trainable")


class Registry:
    """Names of one kind of part.

    Args:
        kind: what the parts are, as it stands in error messages, for instance "objective".
    """

    def __init__(self, kind: str):
        self.kind = kind
        self._parts = {}

    def register(self, name: str):
        """Decorate a function or class: known here by `name`, and to Keras as serializable.

        Keras finds it in files by its own name in Python. A module may register its parts again,
        as a cell of a notebook does that runs a second time, and a script that another module
        imports.

        Raises:
            InvalidArgument: another module has a part of that name, or one that Keras would take
                for this one.
        """

        import keras  # the names alone need none

        def decorate(part):
            in_files = f"tfvae>{part.__name__}"
            self._check_free(name, self._parts.get(name), part)
            self._check_free(part.__name__, keras.saving.get_registered_object(in_files), part)
            self._parts[name] = part
            return keras.saving.register_keras_serializable("tfvae")(part)

        return decorate

    def _check_free(self, name, known, part):
        """Refuse a name by which models of another module would get this part from now on."""
        if known is not None and _home(known) != _home(part):
            raise InvalidArgument(
                f"The {self.kind} {name!r} of {part.__module__} cannot be registered, since "
                f"{known.__module__} has registered a part of that name, which models and their "
                "files go by. Give it another name."
            )

    def names(self) -> list[str]:
        """Return the known names, sorted."""
        return sorted(self._parts)

    def part(self, name: str):
        """Return the function or class registered by this name."""
        return self._parts[name]

    def get(self, identifier, **options):
        """Return the part for a name, or the given object itself.

        Args:
            identifier: a name, or any callable object.
            options: constructor arguments of a named class.

        Raises:
            InvalidArgument: no part has that name, or an option is unknown or cannot be used.
        """
        if not isinstance(identifier, str):
            known = callable(identifier) or type(identifier) in self._parts.values()
            if known and not inspect.isclass(identifier):
                return identifier
            raise InvalidArgument(
                f"The {self.kind} is {identifier!r}; expected one of the names "
                f"{', '.join(self.names())}, or an object of that kind (an instance, not a class)."
            )
        if identifier not in self._parts:
            raise unknown_name(self.kind, identifier, self._parts)
        part = self._parts[identifier]
        if not inspect.isclass(part):
            return part
        valid = _arguments(part)
        for option in options:
            if option not in (*valid, *_OF_EVERY_LAYER):
                raise unknown_name(f"option of the {self.kind} {identifier!r}", option, valid)
        try:
            return part(**options)
        except TypeError as error:
            raise InvalidArgument(
                f"The {self.kind} {identifier!r} does not take {options}: {error}."
            ) from None


def _home(part) -> str:
    """Return the source file of a part's module, or the module's name where it has none.

    The module that Python runs is named `__main__`, and once more where another imports it.
    """
    file = getattr(sys.modules.get(part.__module__), "__file__", None)
    return part.__module__ if file is None else os.path.realpath(file)


def _arguments(part) -> list[str]:
    """Return the names of a class's own constructor arguments."""
    parameters = inspect.signature(part).parameters.values()
    return [p.name for p in parameters if p.kind is not inspect.Parameter.VAR_KEYWORD]


@functools.cache
def names_in_source() -> dict[str, list[str]]:
    """Return {kind: names} of the parts that the package brings, sorted, without importing them.

    Importing the parts takes seconds, and a misspelt name should be refused at once. The names are
    read from the calls of `Registry` and `register` in the source.
    """
    root = Path(__file__).parent
    kinds, found = {}, []
    for path in root.rglob("*.py"):
        package, text = path.relative_to(root).parts[0], path.read_text(encoding="utf-8")
        for variable, kind in re.findall(r'^(\w+) = Registry\("(.+)"\)', text, re.M):
            kinds[package, variable] = kinds[variable] = kind
        for place in re.findall(r'^@(?:\w+\.)?(\w+)\.register\("(.+)"\)', text, re.M):
            found.append((package, *place))
    names = {kind: set() for kind in kinds.values()}
    for package, variable, name in found:  # a part may stand in another package than its registry
        kind = kinds.get((package, variable)) or kinds.get(variable)
        if kind is not None:
            names[kind].add(name)
    return {kind: sorted(those) for kind, those in names.items()}
