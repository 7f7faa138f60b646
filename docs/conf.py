"""Settings of the documentation site: ``make docs`` builds it into ``build/docs``.

Sphinx, because the API reference comes from the docstrings that the interpreter itself sees (names
here are imported late, by ``__getattr__``), because it reads the Markdown and the notebooks that
are there, and because it is kept: MkDocs has had no release since 2024, and its Material theme is
in maintenance only.

The source folder is the checkout and not ``docs/``: README, the guide and the notebooks link to
each other and to tests by paths that also work in a plain view of the repository. So one set of
links serves both, and each of them is checked.
"""

from __future__ import annotations

from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING

import pool
import store

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "actorpool"
author = "The actorpool developers"
copyright = author
release = version = pool.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "numpydoc"]
include_patterns = [
    "README.md",
    "README.ko.md",
    "CHANGELOG.md",
    "bench/results/results.md",
    "docs/**",
    "notebooks/*.ipynb",
]
exclude_patterns = ["**/.ipynb_checkpoints"]
root_doc = "README"

# ---------------------------------------------------------------- pages

myst_heading_anchors = 3
# Executed and checked by .ci/notebooks.py; here their stored output is shown.
nb_execution_mode = "off"

# ---------------------------------------------------------------- reference

# A name between single backticks becomes a link where it is one of ours, and code otherwise.
default_role = "py:obj"
add_module_names = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_default_options = {"members": True}
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

# ---------------------------------------------------------------- look

html_theme = "furo"
html_title = f"actorpool {release}"
html_copy_source = False
html_show_sphinx = False
templates_path = ["_templates"]
# The front page is README.html; servers look for index.html.
html_additional_pages = {"index": "to_readme.html"}


def pages(folder: str, *first: str) -> str:
    """Return the pages of a folder of ``docs/``, a line each: those named, then the others."""
    there = sorted(page.stem for page in (Path(__file__).parent / folder).glob("*.md"))
    names = [*first, *(name for name in there if name not in first)]
    return "\n".join(f"docs/{folder}/{name}" for name in names)


# README is read in the repository too, where Sphinx's directives would be seen as text.
CONTENTS = f"""
```{{toctree}}
:hidden:
:caption: Guide

{pages("guide", "moving", "failures", "tuning", "notebooks", "web")}
```

```{{toctree}}
:hidden:
:caption: Notebooks
:glob:

notebooks/*
```

```{{toctree}}
:hidden:
:caption: Reference

{pages("reference", "pool", "results", "errors", "contexts")}
bench/results/results
CHANGELOG
```

```{{toctree}}
:hidden:
:caption: How it works

{pages("design", "overview")}
```

```{{toctree}}
:hidden:
:caption: 한국어

README.ko
```

"""


def add_contents(app: Sphinx, name: str, source: list[str]) -> None:
    """Append the table of contents to the front page."""
    if name == root_doc:
        source[0] += CONTENTS


def tell_sources() -> None:
    """Let each class say where it is written: autodoc finds the order of its methods there.

    To users it says where they find it.
    """
    for module in (pool, store):
        for name in dir(module):
            kind = getattr(module, name)
            if isinstance(kind, type) and kind.__module__ == module.__name__:
                homes = {
                    method.__module__
                    for method in vars(kind).values()
                    if isinstance(method, FunctionType)
                }
                if homes:
                    kind.__module__ = min(homes)


def setup(app: Sphinx) -> None:
    """Connect what this project adds to Sphinx."""
    tell_sources()
    app.connect("source-read", add_contents)
