"""The table of many runs: accuracy with its spread over seeds, parameters, and the score S against fine-tuning.

Runs can be compared when they share base network and recipe, all but the seed and what a method tunes (rates and
decays): each such protocol gets a table of its own.
"""

import csv
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

from madlab.adapters.base import join_method
from madlab.benchmarks.score import decathlon_score
from madlab.errors import MadlabError
from madlab.files import read_json, write_bytes
from madlab.recipe import Recipe
from madlab.runfolder import CONFIG, RESULT, Result

TUNED = ("adapter_lr", "head_lr", "batchnorm_lr", "adapter_decay", "head_decay")
"""The recipe's fields that a method may have of its own."""


@dataclass(frozen=True)
class Row:
    """One method under one protocol. accuracies: domain -> seed -> test accuracy in percent.

    parameters: of one domain's adapter, the mean over domains. total: base and the adapters of all domains, relative to
    the base, as the literature counts them (convolution weights; no BatchNorm, no heads). dates: the first and the last
    day on which one of its runs ended, as YYYY-MM-DD; empty where a run does not say it.
    """

    method: str
    accuracies: dict[str, dict[int, float]]
    parameters: float
    total: float
    dates: tuple[str, str] = ("", "")

    @property
    def seeds(self) -> int:
        """The smallest number of seeds that a domain was run with."""
        return min(len(runs) for runs in self.accuracies.values())

    def mean(self, domain: str) -> float:
        return statistics.fmean(self.accuracies[domain].values())

    def means(self) -> dict[str, float]:
        return {domain: self.mean(domain) for domain in self.accuracies}

    def by_seed(self) -> list[dict[str, float]]:
        """domain -> accuracy, for each seed that every domain was run with."""
        seeds = set.intersection(*(set(runs) for runs in self.accuracies.values()))
        return [{domain: runs[seed] for domain, runs in self.accuracies.items()} for seed in sorted(seeds)]


@dataclass(frozen=True)
class Table:
    """The rows of one protocol. why_no_score: why S is left out, in a sentence, or empty.

    base: name and sha256 of the base network; base_source: what it was loaded from, None for a network object.
    """

    protocol: str
    domains: list[str]
    rows: list[Row]
    why_no_score: str
    base: dict[str, str]
    base_source: str | None

    def whole(self, row: Row) -> bool:
        """Whether the method was run on every domain of the table."""
        return set(row.accuracies) == set(self.domains)

    def score(self, row: Row) -> tuple[float, float | None] | None:
        """S of the mean accuracies, and the spread of the S of single seeds; None where there is none."""
        if self.why_no_score or not self.whole(row):
            return None
        baseline = next(other for other in self.rows if other.method == "finetune").means()
        seeds = [decathlon_score(accuracies, baseline) for accuracies in row.by_seed()]
        return decathlon_score(row.means(), baseline), spread(seeds)


def write_report(runs: Path | str, csv: Path | str | None = None, figure: Path | str | None = None) -> str:
    """The results table of all finished runs below a folder, as text: `madlab report`.

    csv: a file for the same numbers, unrounded, one line a method. figure: a file (.png, .pdf, .svg) for accuracy
    against parameters with the Pareto line; it shows one protocol, so that runs of several are refused.
    Raises MadlabError when there is no finished run, and when two runs are the same cell of a table.
    """
    tables = collect(runs)
    if csv is not None:
        write_bytes(csv, _as_csv(tables).encode())
    if figure is not None:
        if len(tables) > 1:
            raise MadlabError(f"{runs} has runs of {len(tables)} protocols: draw the figure of a folder that has one.")
        write_bytes(figure, draw(tables[0], Path(figure).suffix[1:]))
    return "\n\n".join(_as_text(table) for table in tables)


def collect(runs: Path | str, benchmark: str | None = None) -> list[Table]:
    """The tables of all finished runs below a folder, at any depth: one a protocol.

    benchmark: only runs on domains that were prepared for it, BENCHMARK:NAME, and tested on its official test images.
    """
    grouped: dict[str, list[tuple[Path, dict[str, Any], Result]]] = {}
    for path in sorted(Path(runs).rglob(RESULT)):
        result, config = Result.read(path.parent), read_json(path.parent / CONFIG)
        if benchmark is None or config["source"] == f"{benchmark}:{result.domain}":
            grouped.setdefault(_protocol(result, config), []).append((path.parent, config, result))
    if not grouped and benchmark is not None:
        raise MadlabError(
            f"Below {runs} is no finished run on the official test images of {benchmark}: train on {benchmark}:DOMAIN "
            f"after `madlab prepare {benchmark}{' --labels FILE' if benchmark == 'decathlon' else ''}`."
        )
    if not grouped:
        raise MadlabError(f"There is no finished run below {runs}: make some with madlab train or madlab sweep.")
    return [_table(protocol, found) for protocol, found in sorted(grouped.items())]


def spread(values: Sequence[float]) -> float | None:
    """The sample standard deviation (n - 1), or None for fewer than two values."""
    return statistics.stdev(values) if len(values) > 1 else None


def draw(table: Table, format: str) -> bytes:
    """The picture of a table in one of matplotlib's file formats: mean accuracy against adapter parameters."""
    from madlab import figures
    from madlab.figures.runs import pareto_line

    points = {
        row.method: (row.parameters, statistics.fmean(row.means().values())) for row in table.rows if table.whole(row)
    }
    drawn, ax = figures.new(size=(7, 4.5))
    figures.accuracy_against_parameters(ax, points, ylabel=f"mean test accuracy of {len(table.domains)} domains (%)")
    pareto_line(ax, list(points.values()))
    ax.set_title(table.protocol)
    return file_of(drawn, format)


def file_of(figure: Any, format: str) -> bytes:
    """A figure in one of matplotlib's file formats; MadlabError for a format that it has not."""
    import matplotlib

    from madlab import figures

    if format not in figure.canvas.get_supported_filetypes():
        raise MadlabError(f"A figure cannot be written as {format!r}: choose .png, .pdf or .svg.")
    data = BytesIO()
    with matplotlib.rc_context(figures.STYLE):
        figure.savefig(data, format=format, dpi=150)
    return data.getvalue()


def _protocol(result: Result, config: Mapping[str, Any]) -> str:
    """What runs have to share, as a heading: of the recipe only what is not as usual."""
    usual = asdict(Recipe())
    own = {k: v for k, v in config["recipe"].items() if k not in (*TUNED, "seed", "epochs") and v != usual.get(k)}
    base = f"{result.base['name'] or 'base without a name'} ({result.base['sha256'][:8]})"
    return ", ".join([base, f"{result.epochs} epochs", *(f"{key} {value}" for key, value in own.items())])


def _label(result: Result, layers: str) -> str:
    method = join_method(result.method, result.rank)
    return method if layers == "all" else f"{method} ({layers})"


def _table(protocol: str, found: Sequence[tuple[Path, dict[str, Any], Result]]) -> Table:
    accuracies: dict[str, dict[str, dict[int, float]]] = {}
    sizes: dict[str, dict[str, int]] = {}
    dates: dict[str, list[str]] = {}
    base = 0
    seen: dict[tuple[str, str, int], Path] = {}
    for folder, config, result in found:
        method = _label(result, config["layers"])
        cell = method, result.domain, result.seed
        if cell in seen:
            raise MadlabError(
                f"{seen[cell]} and {folder} are both {method} on {result.domain}, seed {result.seed}: keep one of them."
            )
        seen[cell], base = folder, result.base_parameters
        accuracies.setdefault(method, {}).setdefault(result.domain, {})[result.seed] = result.test_accuracy
        sizes.setdefault(method, {})[result.domain] = result.adapter_parameters
        dates.setdefault(method, []).append(result.date)
    domains = sorted({domain for runs in accuracies.values() for domain in runs})
    rows = [
        Row(
            method,
            {domain: accuracies[method][domain] for domain in domains if domain in accuracies[method]},
            statistics.fmean(sizes[method].values()),
            1 + len(domains) * statistics.fmean(sizes[method].values()) / base,
            (min(dates[method]), max(dates[method])) if all(dates[method]) else ("", ""),
        )
        for method in accuracies
    ]
    rows.sort(key=lambda row: (row.parameters, row.method))
    _, config, result = found[0]
    why_no_score = _why_no_score(accuracies.get("finetune", {}), domains)
    return Table(protocol, domains, rows, why_no_score, result.base, config["base_source"])


def _why_no_score(finetune: Mapping[str, Mapping[int, float]], domains: Sequence[str]) -> str:
    lacking = [domain for domain in domains if domain not in finetune]
    if lacking:
        return f"S is left out, because its baseline, finetune, was not run on {', '.join(lacking)}."
    perfect = [domain for domain in domains if statistics.fmean(finetune[domain].values()) >= 100]
    if perfect:
        return f"S is left out, because its baseline, finetune, makes no error on {', '.join(perfect)}."
    return ""


def _as_text(table: Table) -> str:
    lines = [["method", "parameters", "total", *table.domains, "mean", "S", "seeds"]]
    for row in table.rows:
        cells = [
            _percent(row.mean(d), spread(list(row.accuracies[d].values()))) if d in row.accuracies else "–"
            for d in table.domains
        ]
        mean, score = _mean(table, row), table.score(row)
        whole = [_percent(*mean) if mean else "–", _number(score[0], score[1], 0) if score else "–"]
        lines.append([row.method, f"{row.parameters:,.0f}", f"{row.total:.2f}×", *cells, *whole, str(row.seeds)])
    note = (
        "Test accuracy in percent ± standard deviation over seeds; parameters: of one domain's adapter, without "
        f"BatchNorm and head; total: base and {len(table.domains)} adapters, relative to the base's convolutions"
    )
    note += "." if table.why_no_score else "; S: against finetune of these runs, which is 250 a domain by definition."
    return "\n".join(
        [table.protocol, "", lay_out(lines), "", note, *([table.why_no_score] if table.why_no_score else [])]
    )


def lay_out(lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table with columns of even width: the head, then the rows."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    whole = [lines[0], ["-" * width for width in widths], *lines[1:]]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in whole
    )


def _as_csv(tables: Sequence[Table]) -> str:
    domains = sorted({domain for table in tables for domain in table.domains})
    text = StringIO()
    head = ["protocol", "method", "adapter_parameters", "total", "seeds", "mean", "mean_std", "score", "score_std"]
    out = csv.writer(text, lineterminator="\n")
    out.writerow(head + [f"{domain}{suffix}" for domain in domains for suffix in ("", "_std")])
    for table in tables:
        for row in table.rows:
            cells: list[Any] = [table.protocol, row.method, row.parameters, row.total, row.seeds]
            cells += [*(_mean(table, row) or (None, None)), *(table.score(row) or (None, None))]
            for domain in domains:
                values = list(row.accuracies.get(domain, {}).values())
                cells += [row.mean(domain), spread(values)] if values else [None, None]
            out.writerow(cells)
    return text.getvalue()


def _mean(table: Table, row: Row) -> tuple[float, float | None] | None:
    """Mean over domains and its spread over seeds; None for a method that lacks a domain."""
    if not table.whole(row):
        return None
    return statistics.fmean(row.means().values()), spread([statistics.fmean(s.values()) for s in row.by_seed()])


def _percent(value: float, deviation: float | None) -> str:
    return _number(value, deviation, 2)


def _number(value: float, deviation: float | None, digits: int) -> str:
    return f"{value:.{digits}f}" + ("" if deviation is None else f" ± {deviation:.{digits}f}")
