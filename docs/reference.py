"""The pages of the API reference, one for each public module, made from the package itself."""

import inspect
import shutil
from pathlib import Path

import tfvae

_TOP = "tfvae"
_OPTIONS = "   :members:\n   :member-order: bysource\n   :show-inheritance:\n"


def public_names() -> dict[str, list[str]]:
    """Return the public names of every public module, `tfvae` itself first."""
    parts = {name: getattr(tfvae, name) for name in tfvae._PUBLIC}
    modules = {f"{_TOP}.{name}": part for name, part in parts.items() if inspect.ismodule(part)}
    names = {_TOP: [name for name, part in parts.items() if not inspect.ismodule(part)]}
    return names | {name: _names_of(module) for name, module in sorted(modules.items())}


def pages() -> dict[str, str]:
    """Return the text of every page, in reStructuredText, by the name of its module."""
    names = public_names()
    return {module: _page(module, names[module], names[_TOP]) for module in names} | {
        "index": _index(names)
    }


def write(folder: Path) -> None:
    """Write the pages into a folder, which holds nothing else; those that did not change stay."""
    new = {folder / f"{name}.rst": text for name, text in pages().items()}
    for path in set(folder.glob("*")) - set(new):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    folder.mkdir(exist_ok=True)
    for path, text in new.items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def _names_of(module):
    """Return what `__all__` lists, or what is defined in the module under a public name."""
    if hasattr(module, "__all__"):
        return list(module.__all__)
    return [
        name
        for name, part in vars(module).items()
        if not name.startswith("_") and getattr(part, "__module__", None) == module.__name__
    ]


def _title(text, line="="):
    return f"{text}\n{line * len(text)}\n"


def _index(names):
    lines = "".join(f"   {name}\n" for name in names)
    return (
        _title("API reference")
        + "\nEvery public name of the package, from its docstrings. Values are in nats per\n"
        "example, and shapes are in brackets: ``[K, B]`` is K samples for each of B examples.\n\n"
        f".. autosummary::\n\n{lines}\n.. toctree::\n   :hidden:\n\n{lines}"
    )


def _page(module, names, at_top):
    text = _title(module) + f"\n.. automodule:: {module}\n   :no-members:\n\n"
    home = _import(module)
    elsewhere = [name for name in names if module != _TOP and name in at_top]
    here = [name for name in names if name not in elsewhere]
    if elsewhere:
        links = ", ".join(f":py:obj:`tfvae.{name}`" for name in elsewhere)
        text += f"Described under :doc:`tfvae`: {links}.\n\n"
    described = [name for name in here if callable(getattr(home, name))]
    if described:
        lines = "".join(f"   {name}\n" for name in described)
        text += f".. autosummary::\n   :nosignatures:\n\n{lines}\n"
    return text + "".join(_entry(name, getattr(home, name)) for name in here)


def _entry(name, part):
    if inspect.isclass(part):
        return f".. autoclass:: {name}\n{_OPTIONS}\n"
    if callable(part):
        return f".. autofunction:: {name}\n\n"
    if inspect.ismodule(part):
        return f".. autosummary::\n\n   ~{part.__name__}\n\n"
    return f".. py:data:: {name}\n\n   {_value(part)}\n\n"


def _value(part):
    """Return what a constant holds: the parts of a registry by name, or the value."""
    if hasattr(part, "names"):
        listed = ", ".join(f"``{name!r}``" for name in part.names())
        return f"The parts that have a name: {listed}."
    return f"``{part!r}``"


def _import(module):
    return tfvae if module == _TOP else getattr(tfvae, module.removeprefix(f"{_TOP}."))
