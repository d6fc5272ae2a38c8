"""`madlab compare`: two finished runs beside each other, on the same images."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest
from torch import nn

from madlab import figures
from madlab.benchmarks.domain import Domain
from madlab.errors import MadlabError
from madlab.files.plain import write_bytes
from madlab.inspection import numbers
from madlab.inspection.answers import Answers
from madlab.inspection.page import SHOWN, TEMPLATES, as_percent, curves_of, finished
from madlab.inspection.pictures import Figure, answered, figure
from madlab.runs.config import RunConfig, command_again
from madlab.runs.loaded import LoadedRun
from madlab.runs.record import Run
from madlab.statistics import DRAWS, Interval, bootstrap_interval, resampled_accuracies


@dataclass(frozen=True)
class Paired:
    """How many images both runs get right, only the first, only the second, and neither.

    mcnemar: how probable it is that the images on which they differ are split at least as unevenly, if each run were as
    likely to be the right one (exact, two-sided). difference: second minus first, in percentage points, by drawing
    images again.
    """

    both: int
    first: int
    second: int
    neither: int
    mcnemar: float
    difference: Interval


def paired(first: Answers, second: Answers, prepared_alike: bool = True) -> Paired:
    """The comparison of two runs' answers; MadlabError unless they are on the same images.

    prepared_alike: whether both runs saw the images in the same size and window, so that their pixels are the same too.
    """
    if not np.array_equal(first.labels, second.labels) or (
        prepared_alike and not np.array_equal(first.images, second.images)
    ):
        raise MadlabError("The two runs were not given the same images: give both the same ones with --domain FOLDER.")
    one, other = first.right, second.right
    only_first, only_second = int((one & ~other).sum()), int((other & ~one).sum())
    p = binomtest(only_first, only_first + only_second).pvalue if only_first + only_second else 1.0
    drawn = resampled_accuracies([one[None], other[None]], np.random.default_rng(0))
    estimate = 100 * (only_second - only_first) / len(one)
    interval = bootstrap_interval(estimate, drawn[:, 1] - drawn[:, 0])
    return Paired(int((one & other).sum()), only_first, only_second, int((~one & ~other).sum()), float(p), interval)


PAGE = "compare.html"
CLASSES = 20
"""Classes that the figure of differences shows at most."""


def compare_runs(
    first: Path | str,
    second: Path | str,
    out: Path | str = PAGE,
    *,
    domain: Domain | Path | str | None = None,
    split: str = "test",
    base: nn.Module | Path | str | None = None,
    device: str | None = None,
) -> tuple[Path, str]:
    """Write a page about two runs; returns its path and the sentence that says whether they differ.

    domain: the images for both; without it the second run, too, is given those of the first. The other arguments are
    those of `inspect_run`. Raises MadlabError where that does, and for runs that cannot be given the same images.
    """
    page = Path(out)
    one, own = finished(first, page, domain, split, base, device)
    if domain is None and RunConfig.read(second).source != one.config.source:
        domain = one.config.source
    other, others = finished(second, page, domain, split, base, device)
    for run in (one, other):
        if split == "val" and run.config.recipe.trainval:
            raise MadlabError(f"The run {run.path} was trained on its validation images: compare on the test images.")
    comparison = paired(own, others, prepared_alike=_preparation(one) == _preparation(other))
    names = _names(one, other)
    verdict = _verdict(names, comparison)
    told = [_numbers(answers) for answers in (own, others)]
    text = TEMPLATES.get_template("compare.html.j2").render(
        names=names,
        domain=one.config.domain,
        split=split,
        images_count=len(own.labels),
        numbers=told,
        rows=_rows([one, other], told),
        paired=comparison,
        draws=DRAWS,
        verdict=verdict,
        figures=_figures(names, [one, other], [own, others]),
        numbered=_numbered([own, others]),
        pictures=_pictures(names, own, others),
        options=_options(one.config, other.config),
        commands=[command_again(run.path, run.config, "-again") for run in (one, other)],
    )
    write_bytes(page, text.encode("utf-8", "backslashreplace"))
    return page, verdict


def _preparation(run: LoadedRun) -> tuple[object, ...]:
    """What decides which pixels of an image a run sees."""
    side = run.size.resize
    return side, run.crop(side), run.facts.squash, run.facts.grey


def _names(one: LoadedRun, other: LoadedRun) -> list[str]:
    """What the two are called: by their methods, or by their folders if those are the same."""
    methods = [Run.read(run.path).method for run in (one, other)]
    return methods if methods[0] != methods[1] else [f"{run.path}" for run in (one, other)]


def _verdict(names: list[str], found: Paired) -> str:
    gap, low, high = found.difference.estimate, found.difference.low, found.difference.high
    better, worse = names[1], names[0]
    if gap < 0:
        better, worse, gap, low, high = worse, better, -gap, -high, -low
    told = f"{gap:.2f} percentage points (95 % interval {low:.2f} to {high:.2f}; McNemar p = {found.mcnemar:.2g})"
    if found.mcnemar < 0.05:
        return f"{better} is right more often than {worse}, by {told}."
    ahead = f"{better} is ahead by {told}" if gap else f"both are right equally often, a difference of {told}"
    return f"These images do not tell {better} and {worse} apart: {ahead}."


def _numbers(answers: Answers) -> dict[str, Any]:
    return {
        "classes": len(answers.class_names),
        "accuracy": numbers.accuracy(answers),
        "balanced": numbers.balanced_accuracy(answers),
        "calibration": numbers.calibration(answers),
    }


def _rows(runs: list[LoadedRun], told: list[dict[str, Any]]) -> list[tuple[str, list[str]]]:
    """The table of both: what a row is called, and its two cells."""

    def shares(key: str) -> list[str]:
        found = [one[key] for one in told]
        return [f"{share.percent:.2f} % ({share.low:.1f} to {share.high:.1f})" for share in found]

    results = [run.result for run in runs]
    stored = [run.net.stored_bytes(run.domain, run.config.recipe.finish_bits, "folded") for run in runs]
    return [
        ("accuracy, with its 95 % interval", shares("accuracy")),
        ("balanced accuracy", shares("balanced")),
        ("calibration error", [f"{one['calibration'].error:.1f} %" for one in told]),
        ("validation accuracy", [as_percent(result.val_accuracy) for result in results]),
        ("adapter parameters", [f"{result.adapter_parameters:,}" for result in results]),
        ("bytes of adapter, norms, head", [f"{one.adapter:,}, {one.norms:,}, {one.head:,}" for one in stored]),
        ("epochs, best of them", [f"{result.epochs}, {result.best_epoch}" for result in results]),
        ("seconds", [f"{result.seconds:.0f} on {result.device}" for result in results]),
        ("base network", [result.base.name or "without a name" for result in results]),
    ]


def _most_different(answers: list[Answers]) -> tuple[list[float], list[int]]:
    """The difference of the recalls of each class, and the numbers of the classes where it is largest, falling."""
    recalls = [numbers.by_class(one)["recall"] for one in answers]
    gaps = [float(gap) for gap in recalls[1] - recalls[0]]
    known = [k for k, gap in enumerate(gaps) if gap == gap]  # a class without images has no recall
    chosen = sorted(known, key=lambda k: -abs(gaps[k]))[:CLASSES]
    return gaps, sorted(chosen, key=lambda k: -gaps[k])


def _numbered(answers: list[Answers]) -> list[tuple[int, str]]:
    """The classes of the figure whose names its font cannot write."""
    names = answers[0].class_names
    chosen = _most_different(answers)[1]
    shown = figures.axis_names([names[k] for k in chosen], chosen)
    return [(k, names[k]) for k, text in zip(chosen, shown, strict=True) if text == f"class {k}" != names[k]]


def _figures(names: list[str], runs: list[LoadedRun], answers: list[Answers]) -> dict[str, Figure]:
    gaps, chosen = _most_different(answers)
    classes = [answers[0].class_names[k] for k in chosen]
    found = {
        "differences": figure(
            lambda ax: figures.differences(ax, classes, [gaps[k] for k in chosen], chosen),
            f"Differences of the recalls of {len(classes)} classes, from {gaps[chosen[0]]:+.1f} points for "
            f"{classes[0]} to {gaps[chosen[-1]]:+.1f} for {classes[-1]}.",
            (7, 1 + 0.24 * len(classes)),
        )
    }
    if all(run.log for run in runs):
        curves = {name: curves_of(run) for name, run in zip(names, runs, strict=True)}
        last = " and ".join(
            f"{as_percent(run.log[-1].val_accuracy)} for {n}" for n, run in zip(names, runs, strict=True)
        )
        told = f"Losses and validation accuracies of both runs; the last accuracies are {last}."
        found["curves"] = figure(lambda axes: figures.learning_curves(axes, curves), told, (9, 3.4), columns=2)
    return found


def _pictures(names: list[str], own: Answers, others: Answers) -> list[tuple[str, list[Any]]]:
    """Images that only one run gets right, each with the answer of the one that is wrong, its surest first."""
    pairs = [(names[0], names[1], own, others), (names[1], names[0], others, own)]
    shown = []
    for right, wrong, good, bad in pairs:
        places = [place for place in bad.worst_mistakes(len(bad.labels)).tolist() if good.right[place]][:SHOWN]
        shown.append((f"Right in {right}; what {wrong} says", answered(bad, places)))
    return shown


def _options(one: RunConfig, other: RunConfig) -> list[tuple[str, str, str]]:
    """The options in which two runs differ: name, and both values."""
    return [(name, one.shown(name), other.shown(name)) for name in one.differences(other)]
