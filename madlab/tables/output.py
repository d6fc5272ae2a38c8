"""How tables leave: as Markdown, and figures of them as files."""

from collections.abc import Iterable, Sequence
from io import BytesIO
from typing import Any

import pandas as pd

from madlab.errors import MadlabError, printable


def file_of(figure: Any, format: str) -> bytes:
    """The bytes of a figure in one of matplotlib's file formats; MadlabError for a format that it does not have.

    An SVG that is made again is the same file: it bears no date, and its marks are named by what they are.
    """
    import matplotlib

    from madlab import figures

    if format not in figure.canvas.get_supported_filetypes():
        raise MadlabError(f"A figure cannot be written as {format!r}: choose .png, .pdf or .svg.")
    data = BytesIO()
    metadata = {"Date": None, "Creator": None} if format == "svg" else None
    with matplotlib.rc_context(figures.STYLE | {"svg.hashsalt": "madlab"}):
        figure.savefig(data, format=format, dpi=150, metadata=metadata)
    return data.getvalue()


def markdown(heads: Sequence[str], columns: Iterable[Sequence[str]]) -> str:
    """Columns of texts as a Markdown table of even width; a line break in a text does not begin a row."""
    cells = [[printable(cell) for cell in column] for column in columns]
    rows = pd.DataFrame(list(zip(*cells, strict=True)), columns=[printable(head) for head in heads])
    return rows.to_markdown(index=False, disable_numparse=True)
