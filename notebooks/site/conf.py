"""Sphinx with MyST-NB: the course with its results as web pages. `make site` builds them without network access.

The source folder is notebooks/, so that links between pages and notebooks are the same here and on GitHub.
"""

import hashlib
import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE))
os.environ["TQDM_DISABLE"] = "1"  # notebook kernels inherit it

project = "madlab"
author = "the madlab authors"
copyright = "2026, the madlab authors"
root_doc = "site/index"
extensions = ["myst_nb", "rendering", "inference"]
exclude_patterns = ["**/.ipynb_checkpoints", "site/template.ipynb"]
templates_path = ["templates"]

html_theme = "furo"
html_title = "madlab"
html_static_path = ["static"]
html_css_files = ["site.css", "inference.css"]
html_additional_pages = {"index": "redirect.html"}
html_copy_source = False
html_math_renderer = "mathml"

myst_enable_extensions = ["dollarmath", "amsmath", "substitution"]
myst_heading_anchors = 3


def _library() -> str:
    """A fingerprint of the library: a notebook's results are cached until this or its own code changes."""
    digest = hashlib.sha256()
    for path in sorted(p for p in (ROOT / "madlab").rglob("*") if p.suffix in (".py", ".json", ".jsonl")):
        digest.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:16]


nb_execution_mode = "cache"
nb_execution_cache_path = str(ROOT / "build" / "site-results" / _library())
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_merge_streams = True
nb_ipywidgets_js: dict[str, dict[str, str]] = {}  # controls need a kernel; see rendering.py
