"""The documentation site, as far as it can be checked without building it.

A build, by `sphinx-build -W docs docs/_build/html`, executes the notebooks of the course too and
fails on any warning. The last test builds the pages that are written by hand, without executing
them, and nightly all pages, without and with. The docstrings of the others are read one by one.
"""

import ast
import importlib.util
import inspect
import io
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tiers import nightly_but

import tfvae

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in [
        *sorted(ROOT.glob("*.md")),
        *sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts),
    ]
}
NOTEBOOKS = [page for page, text in PAGES.items() if text.startswith("---\n")]
LINK = re.compile(r"\]\(([^)\s:]+)\)")
CELL = re.compile(r"^```\{code-cell\}[^\n]*\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def reference():
    """Import docs/reference.py, which writes the API reference."""
    spec = importlib.util.spec_from_file_location("reference", DOCS / "reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


NAMES = reference().public_names()


def anchors(text):
    """Return the fragments that lead to the headings of a page."""
    headings = re.findall(r"^#+ +(.*)$", re.sub(r"^```.*?^```$", "", text, flags=re.S | re.M), re.M)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.strip().replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_a_page_and_a_heading_that_exist(page):
    text = re.sub(r"^```.*?^```$", "", PAGES[page], flags=re.S | re.M)
    for link in LINK.findall(text):
        target, _, fragment = link.partition("#")
        path = ((ROOT / page).parent / target).resolve() if target else ROOT / page
        assert path.exists(), f"{page} links to {link}"
        if fragment:
            assert fragment in anchors(path.read_text()), f"{page} links to {link}"


def test_every_page_is_in_the_table_of_contents():
    listed = set()
    for index in ("docs/index.md", "docs/course/index.md"):
        for block in re.findall(r"^```\{toctree\}\n(.*?)^```$", PAGES[index], re.S | re.M):
            listed |= {f"{Path(index).parent}/{line}.md" for line in block.splitlines()}
    left_out = [page for page in PAGES if page.startswith("docs/") and page not in listed]
    left_out = [page for page in left_out if not page.startswith("docs/reports/")]
    assert left_out == ["docs/index.md"], "name the page in a toctree of docs/index.md"


LISTED = {f"{module}.{name}" for module, names in NAMES.items() for name in names} | set(NAMES)


def docstrings():
    """Yield each part of the public names and its docstring; of classes their members' too."""
    for module, names in NAMES.items():
        home = importlib.import_module(module)
        yield home, home.__doc__
        for part in (getattr(home, name) for name in names):
            if not callable(part):
                continue
            yield part, inspect.getdoc(part)
            members = vars(part) if inspect.isclass(part) else {}
            for name, member in members.items():
                text = getattr(member, "__doc__", None)
                if not name.startswith("_") and text != type(member).__doc__:
                    yield part, text


def lost(part, text):
    """Return the names in a docstring that lead to no page of the reference."""
    paths = re.findall(r"`(tfvae\.[\w.]+)[`(]", text)
    # A page has the members of its classes and registries too.
    found = [
        p for p in paths if p not in LISTED and p.rpartition(".")[0] not in LISTED - set(NAMES)
    ]
    short = {path.rpartition(".")[2] for path in LISTED}
    for name in re.findall(r"\b(?:[Ss]ee|as in) `(\w+|[A-Z]\w+[.\w]*)[`(]", text):
        if name.partition(".")[0] not in short and not hasattr(part, name):
            found.append(name)
    return found


def test_what_a_docstring_refers_to_has_a_page():
    missing = {}
    for part, text in docstrings():
        for name in lost(part, text or ""):
            missing.setdefault(name, getattr(part, "__qualname__", part.__name__))
    assert not missing, "write it where it is read, or name what is public"


def test_a_name_without_a_page_is_found():
    text = "`tfvae.data.Column`, `tfvae.objectives.REGISTRY.names()`, `tfvae.VAE.fit`, see `encode`"
    assert lost(tfvae.VAE, text) == []
    text = "See `tfvae.likelihoods.scales`, as in `Counts`, `tfvae.data.source.Source`"
    assert lost(tfvae.VAE, text) == [
        "tfvae.likelihoods.scales",
        "tfvae.data.source.Source",
        "Counts",
    ]


@pytest.mark.parametrize("module", NAMES)
def test_every_public_name_is_in_the_reference_and_described(module):
    page = reference().pages()[module]
    home = tfvae if module == "tfvae" else getattr(tfvae, module.removeprefix("tfvae."))
    assert inspect.getdoc(home)
    for name in NAMES[module]:
        assert re.search(rf"\b{name}\b", page), f"{module}.{name} is not in the reference"
        part = getattr(home, name)
        if callable(part) and not hasattr(part, "names"):
            assert part.__doc__, f"{module}.{name} has no docstring"


def test_every_public_module_has_a_page():
    modules = {f"tfvae.{name}" for name, home in tfvae._PUBLIC.items() if home is None}
    assert modules | {"tfvae", "index"} == set(reference().pages())


def test_writing_the_reference_leaves_nothing_of_an_older_one(tmp_path):
    (tmp_path / "tfvae.gone.rst").touch()
    reference().write(tmp_path)
    assert {path.stem for path in tmp_path.glob("*.rst")} == set(reference().pages())


@pytest.mark.parametrize("page", [page for page in NOTEBOOKS if "/course/" in page])
def test_a_page_of_the_course_computes_and_asks(page):
    cells = [re.sub(r"^[:%].*$", "", cell, flags=re.M) for cell in CELL.findall(PAGES[page])]
    for cell in cells:
        ast.parse(cell)
    assert any("assert" in cell for cell in cells), "a claim is checked by a cell"
    exercises = PAGES[page].split("\n## Exercises\n")[1]
    solutions = exercises.count("{dropdown} Solution")
    assert solutions == len(re.findall(r"^\*\*\d+\.\*\*", exercises, re.M)) >= 3


needs_sphinx = pytest.mark.skipif(
    importlib.util.find_spec("myst_nb") is None, reason="the site needs pip install -e '.[docs]'"
)


@pytest.fixture(scope="module")
def said_of():
    """Return a function that gives what docutils says of a docstring, read as the site reads it."""
    from docutils import frontend, nodes, utils
    from docutils.parsers import rst
    from sphinx.ext.napoleon import Config, GoogleDocstring
    from sphinx.util.docstrings import prepare_docstring

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [*sys.path])  # to which it adds
        spec = importlib.util.spec_from_file_location("conf", DOCS / "conf.py")
        conf = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(conf)
    options = Config(napoleon_use_ivar=conf.napoleon_use_ivar)
    settings = frontend.get_default_settings(rst.Parser)
    settings.report_level = 2
    role = lambda role, raw, text, *rest, **more: ([nodes.literal(raw, text)], [])  # noqa: E731
    rst.roles.register_local_role("link", role)

    def said(text):
        lines = prepare_docstring(text)
        conf._escape_formulas(None, None, None, None, None, lines)
        lines = GoogleDocstring(lines, options).lines()
        settings.warning_stream = io.StringIO()
        document = utils.new_document("docstring", settings)
        rst.Parser().parse("\n".join([".. default-role:: link", "", *lines]), document)
        return settings.warning_stream.getvalue()

    return said


@needs_sphinx
def test_every_docstring_is_markup(said_of):
    texts = {text: getattr(part, "__qualname__", part.__name__) for part, text in docstrings()}
    found = {name: said_of(text) for text, name in texts.items() if text}
    assert not {name: said for name, said in found.items() if said}


@needs_sphinx
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Of `x.\n", "Inline interpreted text .* start-string without end-string"),
        ("Of:\n\n    a\n  b\n", "Block quote ends without a blank line"),
        ("Of.\n\nArgs:\n    x: ``b.\n", "Inline literal start-string without end-string"),
    ],
)
def test_a_docstring_that_is_no_markup_is_found(said_of, text, message):
    assert re.search(message, said_of(text))


@pytest.mark.slow
@needs_sphinx
@pytest.mark.parametrize("pages", nightly_but(["prose", "all", "executed"], "prose"))
def test_the_site_is_built_without_a_warning(tmp_path, capsys, monkeypatch, pages):
    options = ["-W", "--keep-going", "-q"]
    left_out = ",toc.excluded" if pages == "prose" else ""
    if pages != "executed":
        # Read and with its references resolved, but not written, which is a third of the time. What
        # is not executed has no kernel, which would say how its cells are coloured.
        options += ["-b", "dummy", "-D", "nb_execution_mode=off"]
        options += ["-D", f"suppress_warnings=myst-nb.lexer{left_out}"]
    if pages == "prose":  # in this process, where the package is imported already
        from sphinx.cmd.build import main

        monkeypatch.setattr(sys, "path", [*sys.path])
        options += ["-D", "exclude_patterns=_build,reference/tfvae*"]
        assert main([*options, str(DOCS), str(tmp_path)]) == 0, capsys.readouterr().err
        return
    command = [sys.executable, "-m", "sphinx", *options, str(DOCS), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr
    if pages == "executed":
        assert "latent-variable models" in (tmp_path / "index.html").read_text()
