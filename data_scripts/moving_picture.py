"""Make the README's moving picture: the rank slider of notebook 05, drawn by the panel itself.

    python data_scripts/moving_picture.py

It runs the notebook's own cells up to the panel (about a minute), moves the slider up and down, and writes the pictures
as one animated WebP to notebooks/site/static/rank-slider.webp.
"""

import argparse
import io
from pathlib import Path

import matplotlib
import nbformat
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from PIL import Image

from madlab import figures
from madlab.errors import MadlabError
from madlab.figures import STYLE, blank, png
from madlab.files.plain import write_bytes
from madlab.widgets.panel import Panel

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
PICTURE = NOTEBOOKS / "site" / "static" / "rank-slider.webp"
RANKS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64, 96, 128)
MILLISECONDS, PAUSE = 220, 1500
"""How long a picture is shown, and the first and the last one."""
MOST = 1_000_000
"""Bytes of the file."""


def panel_of(number: str, control: str) -> Panel:
    """The first panel with such a control, from running a notebook's code cells up to the one that makes it."""
    (path,) = NOTEBOOKS.glob(f"{number}_*.ipynb")
    shell = InteractiveShell.instance()
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code" and not {"install", "exercise"} & set(cell.metadata.get("tags", [])):
            with capture_output():
                shell.run_cell(cell.source).raise_error()
        for value in list(shell.user_ns.values()):
            if isinstance(value, Panel) and control in value.controls:
                return value
    raise MadlabError(f"{path.name} has no panel with a control {control!r}.")


def track(rank: int, width: int) -> Image.Image:
    """The slider above the picture, which is a widget of the notebook and therefore not part of the panel's picture."""
    with matplotlib.rc_context(STYLE):
        figure = blank((width / 100, 0.45))
        axes = figure.add_axes((0.10, 0, 0.74, 1))
        axes.set_axis_off()
        axes.set(xlim=(0, len(RANKS) - 1), ylim=(-1, 1))
        axes.plot([0, len(RANKS) - 1], [0, 0], color="0.8", linewidth=4, solid_capstyle="round", clip_on=False)
        axes.plot(RANKS.index(rank), 0, "o", color="C0", markersize=12, clip_on=False)
        figure.text(0.02, 0.5, "rank I", va="center")
        figure.text(0.88, 0.5, str(rank), va="center", weight="bold")
        return Image.open(io.BytesIO(png(figure))).convert("RGB")


def picture(panel: Panel, rank: int) -> Image.Image:
    """What the panel shows at this rank, with the slider above it."""
    panel.rank.value = rank
    shown = Image.open(io.BytesIO(panel.image.value)).convert("RGB")
    slider = track(rank, shown.width)
    whole = Image.new("RGB", (shown.width, slider.height + shown.height), "white")
    whole.paste(slider, (0, 0))
    whole.paste(shown, (0, slider.height))
    return whole


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    figures.use_style()
    panel = panel_of("05", "rank")
    up = [picture(panel, rank) for rank in RANKS]
    frames = up + up[-2:0:-1]
    times = [PAUSE if frame in (up[0], up[-1]) else MILLISECONDS for frame in frames]
    data = io.BytesIO()
    frames[0].save(data, "WEBP", save_all=True, append_images=frames[1:], duration=times, loop=0, quality=60, method=6)
    if len(data.getvalue()) > MOST:
        raise MadlabError(f"The picture has {len(data.getvalue()):,} bytes, more than {MOST:,}: leave ranks out.")
    write_bytes(PICTURE, data.getvalue())
    print(f"{PICTURE.relative_to(NOTEBOOKS.parent)}: {len(frames)} pictures, {len(data.getvalue()):,} bytes")


if __name__ == "__main__":
    main()
