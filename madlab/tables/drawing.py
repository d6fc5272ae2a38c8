"""The picture of a results table: accuracy against the bytes that are stored for a domain."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from madlab.errors import MadlabError
from madlab.tables.budgets import stored_forms
from madlab.tables.duels import grid_of, mean_interval
from madlab.tables.outcomes import Outcome
from madlab.tables.output import file_of

if TYPE_CHECKING:
    from madlab.figures import FormPoint

BELOW = 8.0
"""Points below the worst method, as it was trained, at which the picture ends: what rounding breaks is no choice."""


def draw_forms(outcomes: Sequence[Outcome], title: str, format: str) -> bytes:
    """All stored forms of one protocol that were run on every domain, in one of matplotlib's file formats.

    Raises MadlabError if no method was run on every domain.
    """
    from madlab import figures

    found = [one for one in outcomes if one.protocol == title]
    points, forms = form_points(found), stored_forms(found)
    drawn, ax = figures.new(size=(9, 6))
    figures.accuracy_against_bytes(ax, points)
    if forms["bits"].notna().any():
        ax.set_ylim(bottom=max(0.0, float(forms.loc[forms["bits"].isna(), "mean"].min()) - BELOW))
    count = len({one.domain for one in found})
    what = "adapter and norms" if _norms_known(forms) else "adapter"
    ax.set(xlabel=f"{what} of one domain (kB)", ylabel=f"mean test accuracy of {count} domains (%)")
    drawn.suptitle(title)  # above the names of the front
    figures.say_cut_axes(drawn)
    return file_of(drawn, format)


def form_points(found: Sequence[Outcome]) -> "dict[str, FormPoint]":
    """What is drawn of each stored form of one protocol that was run on every domain: size, accuracy and interval.

    Kilobytes are those of adapter and norms, of the adapter alone where those of some norms are not known. Raises
    MadlabError if no method was run on every domain.
    """
    from madlab.figures import FormPoint

    forms, grid = stored_forms(found), grid_of(found)
    if forms.empty:
        raise MadlabError("No method was run on every domain, so that there are no means to draw: run one on all.")
    sizes = forms["adapter_bytes"] + (forms["norm_bytes"] if _norms_known(forms) else 0)
    points = {}
    for method, size in sizes.items():
        interval = mean_interval(grid[str(method)])
        reach = None if interval is None else (interval.low, interval.high)
        points[str(method)] = FormPoint(size / 1000, float(forms.loc[method, "mean"]), reach)
    return points


def _norms_known(forms: pd.DataFrame) -> bool:
    return bool(forms["norm_bytes"].notna().all())
