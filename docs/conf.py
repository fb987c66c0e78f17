"""Settings of the documentation site: `sphinx-build -W docs docs/_build/html`."""

import inspect
import os
import re
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).parent))

import reference
from sphinx.util.inspect import stringify_signature

import tfvae

project = "tfvae"
version = release = tfvae.__version__
html_title = "tfvae"
html_theme = "furo"
html_copy_source = False
html_show_copyright = False
html_static_path = ["static"]
html_css_files = ["site.css"]

extensions = [
    "myst_nb",  # Markdown, and notebooks in Markdown
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_design",
    "sphinx-mathjax-offline",  # a copy of MathJax in the site, so that reading needs no network
]
exclude_patterns = ["_build"]

myst_enable_extensions = ["amsmath", "dollarmath", "colon_fence"]
myst_heading_anchors = 3
nb_execution_mode = "cache"  # below docs/_build, so a fresh clone executes every notebook
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_output_stderr = "remove"
nb_merge_streams = True

# A single pair of backquotes in a docstring is code, and a link where it names something public.
default_role = "py:obj"
napoleon_use_ivar = True
autosummary_generate = False
autodoc_inherit_docstrings = False
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True


def _escape_formulas(app, what, name, part, options, lines):
    """Have a docstring's |x|, *x and z_ outside of code read as text, and `Column`s as a plural."""
    for number, line in enumerate(lines):
        pieces = re.split(r"(`+[^`]*`+)", line)
        pieces[::2] = [re.sub(r"([|*]|(?<=\w)_(?!\w))", r"\\\1", piece) for piece in pieces[::2]]
        # Markup ends before a letter only where a space says so: `Column`s.
        pieces[2::2] = [re.sub(r"^(?=\w)", r"\\ ", piece) for piece in pieces[2::2]]
        lines[number] = "".join(pieces)


def _skip_foreign(app, what, name, part, skip, options):
    """Leave out a method whose description is a base class's from another package."""
    return True if "tensorflow_prob" in (getattr(part, "__module__", None) or "") else None


def _constructor(app, what, name, part, options, signature, returned):
    """Give the arguments of `__init__`, which Keras hides behind a `__new__` of any arguments."""
    if what != "class" or signature != "(*args, **kwargs)":
        return None
    found = inspect.signature(part.__init__)
    found = found.replace(parameters=list(found.parameters.values())[1:])
    return stringify_signature(found, unqualified_typehints=True), returned


def _leave_out_of_contents(app, name, text):
    """Let the reports on exported files, to which pages link, be in no table of contents."""
    if name.startswith("reports/"):
        text[0] = f"---\norphan: true\n---\n\n{text[0]}"


def setup(app):
    """Write the pages of the reference before Sphinx looks for pages."""
    app.connect("builder-inited", lambda app: reference.write(Path(app.srcdir) / "reference"))
    app.connect("source-read", _leave_out_of_contents)
    app.connect("autodoc-process-docstring", _escape_formulas, priority=100)
    app.connect("autodoc-process-signature", _constructor)
    app.connect("autodoc-skip-member", _skip_foreign)
