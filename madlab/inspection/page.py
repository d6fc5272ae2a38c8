"""`madlab inspect`: everything that a finished run shows of itself, on one page that needs no network."""

from dataclasses import asdict
from math import nan
from pathlib import Path
from typing import Any

import jinja2
from torch import Tensor, nn

from madlab import figures
from madlab.benchmarks.domain import Domain
from madlab.errors import MadlabError
from madlab.files.plain import check_writable, write_bytes
from madlab.hub import ADAPTER
from madlab.inspection import numbers
from madlab.inspection.answers import Answers, answers_of, check_split
from madlab.inspection.change import MOVED, LayerChange, alphas_of, by_layer, stored
from madlab.inspection.pictures import Figure, answered, figure
from madlab.runs.config import command_again
from madlab.runs.evaluate import check_data, domain_of
from madlab.runs.loaded import LoadedRun, check_finished, load_run
from madlab.runs.record import Run

PAGE = "inspect.html"
"""What the page is called where no other name is given; it lies in the run folder."""
SHOWN = 12
"""Images of each kind that a page shows."""
ALL_LAYERS = 20
"""Layers up to which their table is open from the start, and classes likewise."""

TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("madlab.inspection"),
    autoescape=True,  # class names come from folders, which may be a stranger's
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def inspect_run(
    run: Path | str,
    out: Path | str | None = None,
    *,
    domain: Domain | Path | str | None = None,
    split: str = "test",
    base: nn.Module | Path | str | None = None,
    device: str | None = None,
) -> tuple[Path, str]:
    """Write the page of a finished run; returns its path and one sentence with the numbers at its top.

    out: the HTML file, RUN/inspect.html if it is None. domain: the images, where the run's own are elsewhere or were a
    Domain object. split: "test", or "val" for whoever will change something because of what is seen. base: as in
    `load_run`. Raises MadlabError for a run that has not finished, and for images that are missing or of other classes.
    """
    path = Path(run) / PAGE if out is None else Path(out)
    loaded, answers = finished(run, path, domain, split, base, device)
    alphas = alphas_of(loaded)
    layers = by_layer(loaded.net.view(loaded.domain), alphas)
    told, whole = _told(answers), Run.read(run)
    text = TEMPLATES.get_template("inspect.html.j2").render(
        title=f"{whole.config.domain}, {whole.method}",
        run=whole,
        split=split,
        trainval=whole.config.recipe.trainval,
        command=command_again(run, loaded.config, "-again"),
        numbers=told,
        classes=numbers.by_class(answers).to_dict("records"),
        mixed_up=numbers.mixed_up(answers).to_dict("records"),
        figures=_figures(loaded, answers, layers, alphas),
        worst=answered(answers, answers.worst_mistakes(SHOWN)),
        uncertain=answered(answers, answers.least_certain(SHOWN)),
        layers=layers,
        moved=MOVED,
        stored=stored(loaded),
        file_bytes=(Path(run) / ADAPTER).stat().st_size,
        all_layers=ALL_LAYERS,
    )
    write_bytes(path, text.encode("utf-8", "backslashreplace"))
    accuracy, balanced = told["accuracy"], told["balanced"]
    return path, (
        f"{split} accuracy {accuracy.percent:.2f} % ({accuracy.low:.1f} to {accuracy.high:.1f}) of {told['images']:,} "
        f"images, balanced {balanced.percent:.2f} %, calibration error {told['calibration'].error:.1f} %"
    )


def finished(
    run: Path | str,
    page: Path,
    domain: Domain | Path | str | None,
    split: str,
    base: nn.Module | Path | str | None,
    device: str | None,
) -> tuple[LoadedRun, Answers]:
    """A finished run and its answers on a split; MadlabError for whatever stands in the way of a page about it."""
    check_split(split)
    if page.suffix.lower() not in (".html", ".htm"):
        raise MadlabError(f"The page is HTML, and {page} does not end in .html: choose such a name.")
    check_finished(run)
    check_data(run, domain)
    check_writable(page)
    loaded = load_run(run, base, device)
    return loaded, answers_of(loaded, domain_of(loaded, domain), split)


def curves_of(run: LoadedRun) -> figures.Curves:
    """Losses and accuracies by epoch; no number where validation images were trained on."""
    known = [(e.train_loss, nan if e.val_loss is None else e.val_loss) for e in run.log]
    accuracies = [nan if e.val_accuracy is None else e.val_accuracy for e in run.log]
    return [train for train, _ in known], [val for _, val in known], accuracies


def as_percent(accuracy: float | None) -> str:
    """An accuracy as a page tells it; a run that trained on its validation images has none on them."""
    return "unknown" if accuracy is None else f"{accuracy:.2f} %"


def _told(answers: Answers) -> dict[str, Any]:
    """The numbers at the top of the page."""
    return {
        "images": len(answers.labels),
        "classes": len(answers.class_names),
        "wrong": int((~answers.right).sum()),
        "accuracy": numbers.accuracy(answers),
        "balanced": numbers.balanced_accuracy(answers),
        "calibration": numbers.calibration(answers),
        "confidence": 100 * float(answers.confidence.mean()),
        "bins": numbers.BINS,
    }


def _figures(
    run: LoadedRun, answers: Answers, layers: list[LayerChange], alphas: dict[str, Tensor]
) -> dict[str, Figure]:
    """The page's figures by name; those that the run has nothing for are left out."""
    counts = numbers.confusion(answers)
    order = numbers.order_by_confusion(counts)
    names = [answers.class_names[k] for k in order]
    side = 3.5 + 0.22 * len(names) if len(names) <= figures.MOST_NAMES else 7.0
    fit = asdict(numbers.calibration(answers))
    found = {
        "confusion": figure(
            lambda ax: figures.confusion_map(ax, counts[order][:, order], names, order),
            f"Confusion matrix of {len(names)} classes; the pairs that are mixed up most are in the table below it.",
            (side * 1.15, side),
        ),
        "calibration": figure(
            lambda ax: figures.calibration(ax, fit["confidence"], fit["accuracy"], fit["counts"]),
            f"Share of right answers by their probability; the expected calibration error is {fit['error']:.1f} %.",
            (5, 4),
        ),
    }
    if run.log:
        found["curves"] = figure(
            lambda axes: figures.learning_curves(axes, {run.config.method: curves_of(run)}),
            f"Losses and validation accuracy over {len(run.log)} epochs; the last validation accuracy is "
            f"{as_percent(run.log[-1].val_accuracy)}.",
            (9, 3.4),
            columns=2,
        )
    if layers:
        most = max(layers, key=lambda layer: layer.change)
        found["change"] = figure(
            lambda ax: figures.change_by_layer(ax, [layer.change for layer in layers]),
            f"Change of the filters in {len(layers)} layers, the largest {most.change:.0%} in {most.name}.",
            (9, 3),
        )
    if alphas:
        found |= _alpha_figures(alphas, layers)
    return found


def _alpha_figures(alphas: dict[str, Tensor], layers: list[LayerChange]) -> dict[str, Figure]:
    import torch

    furthest = max(alphas, key=lambda name: float((alphas[name] - 1).square().mean()))
    values = [torch.linalg.svdvals(alpha.double() - 1) for alpha in alphas.values()]
    needed = [layer.directions for layer in layers if layer.directions is not None]
    rows, columns = alphas[furthest].shape
    span = max(float((alphas[furthest] - 1).abs().quantile(0.99)) if rows * columns < 2**24 else 1.0, 1e-6)
    return {
        "alphas": figure(
            lambda ax: figures.alpha_by_layer(ax, list(alphas.values())),
            f"Distribution of alpha in {len(alphas)} layers around one, the base's own filters.",
            (9, 3),
        ),
        "map": figure(
            lambda ax: figures.alpha_map(ax, alphas[furthest], span=span),
            f"Alpha of layer {furthest}, {rows} output by {columns} input channels; full colour is {span:.2g} from "
            "one.",
            (9, 4),
        ),
        "spectra": figure(
            lambda ax: figures.spectra(ax, values),
            f"Spectra of alpha - 1: {min(needed)} to {max(needed)} directions hold 90 % of the squared change.",
            (6, 3.6),
        ),
    }
