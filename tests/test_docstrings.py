"""Docstrings: every public method has one, or overrides a method, and does what that one says."""

import importlib
import inspect
import pkgutil

import tfvae


def modules():
    """Import the modules of the package whose dependencies are all there."""
    for info in pkgutil.walk_packages(tfvae.__path__, "tfvae."):
        try:
            yield importlib.import_module(info.name)
        except ModuleNotFoundError as error:
            if (error.name or "").startswith("tfvae"):
                raise


def public_classes():
    for module in modules():
        for cls in vars(module).values():
            is_own = inspect.isclass(cls) and cls.__module__ == module.__name__
            if is_own and not cls.__name__.startswith("_"):
                yield cls


def undescribed(cls):
    """Return the public methods and properties of a class that no docstring describes."""
    return [
        f"{cls.__module__}.{cls.__qualname__}.{name}"
        for name, member in vars(cls).items()
        if inspect.isroutine(member) or isinstance(member, property)
        if not name.startswith("_")
        and not inspect.getdoc(member)
        and not any(name in vars(base) for base in cls.__mro__[1:])
    ]


def test_every_public_method_has_a_docstring_or_overrides_one():
    classes = list(public_classes())
    assert len(classes) > 200
    assert [name for cls in classes for name in undescribed(cls)] == []


class Base:
    def method(self):
        """Say something."""


class Overriding(Base):
    def method(self):
        pass

    def other(self):
        pass


def test_a_method_that_overrides_none_is_found():
    assert undescribed(Base) == []
    (name,) = undescribed(Overriding)
    assert name.endswith("Overriding.other")
