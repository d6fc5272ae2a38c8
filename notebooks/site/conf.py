"""Sphinx with MyST-NB: the course with its results as web pages. `make site` builds them; living/ makes them live.

The source folder is notebooks/, so that links between pages and notebooks are the same here and on GitHub.
"""

import hashlib
import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
BUILD = ROOT / "build"
sys.path.insert(0, str(HERE))

project = "madlab"
author = "the madlab authors"
copyright = "2026, the madlab authors"
root_doc = "site/index"
extensions = ["myst_nb", "living.pages", "living.formulas", "inference"]
exclude_patterns = ["**/.ipynb_checkpoints", "site/template.ipynb"]
templates_path = ["templates"]

html_theme = "furo"
html_title = "madlab"
html_static_path = ["static"]
html_css_files = ["site.css", "inference.css"]
html_additional_pages = {"index": "redirect.html"}
html_copy_source = False
html_math_renderer = "katex"
html_show_sphinx = False
html_show_search_summary = False  # it fetches pages, which a page opened from a folder must not

myst_enable_extensions = ["attrs_block", "dollarmath", "amsmath", "substitution"]
myst_heading_anchors = 3


def _library() -> str:
    """A fingerprint of the library and of the recorder: results are cached until this or a notebook's code changes."""
    code = [path for path in (ROOT / "madlab").rglob("*") if path.suffix in (".py", ".json", ".jsonl")]
    digest = hashlib.sha256()
    for path in sorted([*code, HERE / "living" / "record.py", HERE / "living" / "pictures.py"]):
        digest.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:16]


# What kernels inherit: no progress bars; one thread, because two become ten times slower beside other work; where to
# write pictures; and a profile whose start-up file begins to record.
madlab_pictures = str(BUILD / "site-pictures")
os.environ |= {
    "TQDM_DISABLE": "1",
    "OMP_NUM_THREADS": "1",
    "MADLAB_SITE_PICTURES": madlab_pictures,
    "IPYTHONDIR": str(BUILD / "site-ipython"),
}
Path(madlab_pictures).mkdir(parents=True, exist_ok=True)
startup = BUILD / "site-ipython" / "profile_default" / "startup" / "record.py"
startup.parent.mkdir(parents=True, exist_ok=True)
startup.write_text(f"import sys\nsys.path.insert(0, {str(HERE)!r})\nimport living.record\nliving.record.install()\n")

nb_execution_mode = "cache"
nb_execution_cache_path = str(BUILD / "site-results" / _library())
nb_execution_timeout = 1800
nb_execution_raise_on_error = True
nb_merge_streams = True
nb_render_markdown_format = "myst"  # as in the pages: tables and formulas
nb_ipywidgets_js: dict[str, dict[str, str]] = {}  # they need a kernel; living/ does not
