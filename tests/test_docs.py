"""The pages of docs/ run as they are written, and name every part there is.

All ```python blocks of a page run in order, in one namespace and an empty folder. A block whose
first line is `# not run: REASON` is left out. A page that saves a figure saves PAGE.png.
"""

import re
import warnings
from pathlib import Path

import keras
import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest
from tiers import nightly_but

import tfvae
from tfvae import (
    code_priors,
    estimators,
    flows,
    likelihoods,
    objectives,
    posteriors,
    priors,
    quantizers,
)

DOCS = Path(__file__).parents[1] / "docs"
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in sorted(DOCS.glob("*.md"))}
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LEFT_OUT = "# not run"
REGISTRIES = [
    objectives.REGISTRY,
    estimators.REGISTRY,
    flows.REGISTRY,
    posteriors.REGISTRY,
    likelihoods.REGISTRY,
    priors.REGISTRY,
    quantizers.REGISTRY,
    code_priors.REGISTRY,
]
# As they were before any page added its own.
DOCUMENTED = (objectives.REGISTRY, estimators.REGISTRY, flows.REGISTRY, priors.REGISTRY)
NAMES = {registry.kind: registry.names() for registry in DOCUMENTED}


def blocks(text, language="python"):
    """Return the blocks of a language and the lines they start at, from 0."""
    return [
        (text[: match.start(2)].count("\n"), match[2])
        for match in FENCE.finditer(text)
        if match[1] == language
    ]


def has_python(page):
    return bool(blocks(PAGES[page]))


# The page that a reader tries first; the code of all other pages runs with the nightly tests.
RUN_EVERY_TIME = ("first-model",)


@pytest.fixture
def own_registries(monkeypatch):
    """Forget what a page registers, in our registries and in Keras."""
    for registry in REGISTRIES:
        monkeypatch.setattr(registry, "_parts", dict(registry._parts))
    yield
    custom = keras.saving.get_custom_objects()
    # What the package registers while a page runs stays: a module is imported only once.
    for name in [n for n, part in custom.items() if part.__module__.startswith("docs_")]:
        del custom[name]


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", nightly_but([p for p, t in PAGES.items() if blocks(t)], *RUN_EVERY_TIME)
)
def test_the_python_of_a_page_runs(page, tmp_path, monkeypatch, own_registries):
    monkeypatch.chdir(tmp_path)
    run = [(line, code) for line, code in blocks(PAGES[page]) if not code.startswith(LEFT_OUT)]
    namespace = {"__name__": f"docs_{page.replace('-', '_')}"}
    with mpl.rc_context(), warnings.catch_warnings():
        plt.switch_backend("agg")
        for line, code in run:
            # Blank lines before it, so that a traceback points into the page.
            exec(compile("\n" * line + code, DOCS / f"{page}.md", "exec"), namespace)
    plt.close("all")
    figures = re.findall(r'savefig\("([^"]+)"\)', PAGES[page])
    assert figures in ([], [f"{page}.png"])
    assert sorted(path.name for path in tmp_path.glob("*.png")) == figures


@pytest.mark.parametrize("page", PAGES)
def test_python_that_is_left_out_says_why_and_is_python(page):
    for line, code in blocks(PAGES[page]):
        compile(code, f"{page}.md, line {line}", "exec")
        if code.startswith(LEFT_OUT):
            assert re.match(LEFT_OUT + r": \w+", code), f"{page}.md, line {line}: give a reason"


@pytest.mark.parametrize("page", PAGES)
def test_toml_is_a_configuration(page):
    import tomllib

    from tfvae import config

    for _, code in blocks(PAGES[page], "toml"):
        assert config.from_dict(tomllib.loads(code))


def test_every_python_block_is_found():
    assert sum(text.count("```python") for text in PAGES.values()) == sum(
        len(blocks(text)) for text in PAGES.values()
    )


@pytest.mark.parametrize("kind", NAMES)
def test_every_part_is_documented(kind):
    text = "\n".join(PAGES.values())
    missing = [name for name in NAMES[kind] if f"`{name}`" not in text]
    assert not missing, f"docs/ has no `{missing[0]}`, an {kind}"


def test_every_public_measure_is_documented():
    text = PAGES["measures"]
    functions = [name for name, home in tfvae._PUBLIC.items() if home == "tfvae.evaluation"]
    missing = [name for name in functions if name[0].islower() and name not in text]
    assert not missing
