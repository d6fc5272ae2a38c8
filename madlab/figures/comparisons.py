"""Figures that compare methods: by domain, by number of training images, in groups, and as a table of numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from madlab.adapters.base import split_method
from madlab.figures.runs import LOOKS, look
from madlab.figures.style import BLACK, BLUE, GREY, MARKERS, ORANGE, PALETTE, as_array


def before_and_after(
    ax: Axes, pairs: Mapping[str, tuple[float, float]], methods: tuple[str, str], *, xlabel: str = "test accuracy (%)"
) -> None:
    """Draw two values per row, joined by a line: row name -> (value of the first method, value of the second)."""
    places = range(len(pairs))
    for place, pair in zip(places, pairs.values(), strict=True):
        ax.plot(pair, (place, place), color="0.8", linewidth=3, zorder=1)
    for column, method in enumerate(methods):
        ax.plot([pair[column] for pair in pairs.values()], places, linestyle="", label=method, **look(method))
    ax.set_yticks(places, list(pairs))
    ax.invert_yaxis()
    ax.tick_params(axis="y", length=0)
    ax.set(xlabel=xlabel)
    ax.legend(loc="lower left", fontsize=9)


def gains_by_size(ax: Axes, sizes: Mapping[str, int], gains: Mapping[str, Mapping[str, float]]) -> None:
    """Draw gains in points of accuracy against the number of training images: method -> domain -> gain.

    sizes: domain -> training images, drawn on a logarithmic axis. The horizontal line marks a gain of zero.
    """
    ax.axhline(0, color=BLACK, linewidth=1)
    for method, values in gains.items():
        ax.plot([sizes[name] for name in values], list(values.values()), linestyle="", label=method, **look(method))
    for name in next(iter(gains.values())):
        lowest = min(values[name] for values in gains.values())
        ax.annotate(name, (sizes[name], lowest), (0, -14), textcoords="offset points", fontsize=8, ha="center")
    ax.set_xscale("log")
    ax.margins(x=0.12, y=0.15)
    ax.set(xlabel="training images of the domain", ylabel="gain (points of accuracy)")
    ax.legend(loc="lower left", fontsize=9)


def accuracy_by_size(ax: Axes, results: Mapping[str, Mapping[int, Sequence[float]]], *, xlabel: str) -> None:
    """Draw accuracy in percent against a number of images: method -> number of images -> one value per seed.

    The line runs through the means; each seed is a small dot. A name that is not a method gets a colour and a marker by
    its place in `results`.
    """
    for place, (method, by_size) in enumerate(results.items()):
        sizes = sorted(by_size)
        style = look(method)
        if split_method(method)[0] not in LOOKS:  # look() might give two such names the same colour and marker
            style = {"color": PALETTE[place % len(PALETTE)], "marker": MARKERS[place % len(MARKERS)]}
        ax.plot(sizes, [float(np.mean(by_size[size])) for size in sizes], label=method, **style)
        for size in sizes:
            ax.plot([size] * len(by_size[size]), by_size[size], ls="", marker=".", markersize=4, color=style["color"])
    shown = sorted({size for by_size in results.values() for size in by_size})
    ax.set_xscale("log")
    ax.set_xticks(shown, [str(size) for size in shown])
    ax.minorticks_off()
    ax.set(xlabel=xlabel, ylabel="test accuracy (%)")
    ax.legend(loc="upper left", fontsize=9)


def accuracy_by_group(
    ax: Axes, results: Mapping[str, Sequence[float]], groups: Mapping[str, str], *, title: str, xlabel: str
) -> None:
    """Draw accuracy in percent, one row per method, the highest mean on top, in a shade of grey and a marker by group.

    results: method -> one value per seed; small dots are seeds, the marker is their mean, the line their standard
    deviation. groups: method -> its group, in the order of the legend. title: of the legend.
    """
    import pandas
    import seaborn  # imported here, because together they take half a second

    order = sorted(results, key=lambda method: -float(np.mean(results[method])))
    runs = [(method, groups[method], value) for method in order for value in results[method]]
    names = list(dict.fromkeys(groups.values()))
    common: dict[str, Any] = {
        "data": pandas.DataFrame(runs, columns=["method", "group", "accuracy"]),
        "x": "accuracy",
        "y": "method",
        "hue": "group",
        "hue_order": names,
        "palette": list(_SHADES[: len(names)]),
        "ax": ax,
    }
    seaborn.stripplot(**common, jitter=False, size=4, alpha=0.6, legend=False)
    markers = list(MARKERS[: len(names)])
    seaborn.pointplot(**common, errorbar="sd", linestyle="none", linewidth=1.5, markers=markers, markersize=8)
    ax.set(xlabel=xlabel, ylabel="")
    ax.grid(axis="x", color="0.93")
    ax.legend(title=title, loc="lower right", fontsize=9)


_SHADES = (BLACK, "0.4", "0.65", "0.8")
"""Of groups, because colours are those of methods."""


def number_map(
    ax: Axes,
    values: Any,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    form: str = ".0f",
    low: float = 0.0,
    high: float = 1.0,
    cmap: str = "Blues",
) -> None:
    """Draw a table (R, C) as coloured cells with their numbers in them.

    form: format of a number, as in f-strings. low, high: the values at the two ends of the colour map.
    """
    import seaborn  # imported here, because it takes half a second

    cells = {"annot": True, "annot_kws": {"fontsize": 9}, "fmt": form, "cbar": False}
    names = {"xticklabels": list(columns), "yticklabels": list(rows)}
    seaborn.heatmap(as_array(values), ax=ax, vmin=low, vmax=high, cmap=cmap, **cells, **names)
    ax.tick_params(length=0, rotation=0)


def accuracy_by_domain(ax: Axes, results: Mapping[str, Mapping[str, Sequence[float]]]) -> None:
    """Draw the mean over seeds of each method on each domain, with a bar of one standard deviation up and down.

    results: method -> domain -> accuracies in percent, one per seed. The domains stand in the order of the last method.
    """
    last = list(results.values())[-1]
    domains = sorted(last, key=lambda name: float(np.mean(last[name])))
    for place, (method, values) in enumerate(results.items()):
        shift = 0.16 * (place - (len(results) - 1) / 2)  # side by side, so that no bar hides another
        means = [np.mean(values[name]) for name in domains]
        spread = [np.std(values[name], ddof=1) if len(values[name]) > 1 else 0.0 for name in domains]
        x = np.arange(len(domains)) + shift
        ax.errorbar(x, means, spread, linestyle="", markersize=5, elinewidth=1, label=method, **look(method))
    ax.set_xticks(range(len(domains)), domains, rotation=45, ha="right", rotation_mode="anchor")
    ax.set(ylabel="test accuracy (%)", ylim=(0, 100))
    ax.legend(fontsize=8, loc="lower right")


def shares_by_layer(
    ax: Axes, shares: Mapping[str, Sequence[Sequence[float]]], chance: float, *, ylabel: str = "share of the change (%)"
) -> None:
    """Draw shares in percent by layer, one line per name: the mean over runs, with a band from the least to the most.

    shares: name -> one list per run, with a value for each layer. chance: what a random change would have, in percent.
    """
    for (name, runs), (colour, marker) in zip(shares.items(), ((BLACK, "D"), (GREY, "s")), strict=False):
        values = np.asarray(runs, dtype=float)
        layers = np.arange(1, values.shape[1] + 1)
        ax.fill_between(layers, values.min(0), values.max(0), color=colour, alpha=0.15, linewidth=0)
        ax.plot(layers, values.mean(0), marker=marker, markersize=4, color=colour, label=name)
    ax.axhline(chance, color=BLACK, linestyle=":", linewidth=1)
    ax.annotate("chance", (1, chance), (0, -4), textcoords="offset points", fontsize=9, va="top")
    ax.set(xlabel="convolution, from the images to the head", ylabel=ylabel)
    ax.set_ylim(bottom=0)
    ax.legend(fontsize=9)


def means_by_row(
    ax: Axes, rows: Mapping[str, Mapping[str, float]], *, xlabel: str, marked: str | None = None, line: float = 0.0
) -> None:
    """Draw the mean of each row with its interval of 95 %, and every value as a small dot: row -> domain -> value.

    The interval is Student's, over the domains. marked: the domain whose dots are drawn larger and in orange. line: a
    value to look back at, e.g. zero for differences.
    """
    from madlab.statistics import t_interval  # imported here, because SciPy takes half a second

    ax.axvline(line, color=GREY, linewidth=1, zorder=0)
    for place, values in enumerate(rows.values()):
        ax.plot(list(values.values()), [place] * len(values), ls="", marker=".", markersize=4, color="0.7", zorder=1)
        if (interval := t_interval(list(values.values()))) is not None:
            ax.plot((interval.low, interval.high), (place, place), color=BLUE, linewidth=1.5)
            ax.plot(interval.estimate, place, marker="o", markersize=6, color=BLUE)
        if marked is not None and marked in values:
            ax.plot(values[marked], place, marker="D", markersize=6, color=ORANGE)
    ax.set_yticks(range(len(rows)), list(rows), fontsize=8)
    ax.tick_params(axis="y", length=0)
    ax.set(xlabel=xlabel, ylim=(len(rows) - 0.5, -0.5))
