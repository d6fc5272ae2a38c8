"""Our runs on a real benchmark beside the published rows, each with its source: `madlab report --benchmark`.

What was printed is shown as printed; a star marks what is computed here. Where our runs lack a domain, S is computed
over the domains that they do have, for every row that has these too: only scores over the same domains can be compared.
For ImageNet-to-Sketch that leaves ImageNet out in any case, which several published rows lack: all are compared over
the five domains that networks are adapted to.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from madlab.errors import MadlabError, printable
from madlab.files.plain import write_bytes
from madlab.runs.record import OnDamage, read_runs
from madlab.tables.entries import BASE_DOMAINS, BASELINES, Entry, benchmark_entries, published_entries
from madlab.tables.output import file_of, markdown
from madlab.tables.report import Table, collect


@dataclass(frozen=True)
class Comparison:
    """Published rows and, after them, ours.

    domains: all of the benchmark. shared: those that every one of our rows has, and for "sketch" not ImageNet.
    """

    benchmark: str
    domains: list[str]
    shared: list[str]
    entries: list[Entry]

    @property
    def complete(self) -> bool:
        return self.shared == self.domains


def write_comparison(
    runs: Path | str,
    benchmark: str,
    csv: Path | str | None = None,
    figure: Path | str | None = None,
    on_damage: OnDamage | None = None,
) -> str:
    """Our runs in a records file or below a folder, beside the published rows of a benchmark, as text.

    benchmark: "decathlon" or "sketch"; only runs that were trained on its prepared domains, decathlon:NAME or
    sketch:NAME, and tested on the official test images are counted. csv: a file for the same rows, unrounded. figure:
    a file (.png, .pdf, .svg) for S over the domains that our runs have. on_damage: as in `read_runs`. Raises
    MadlabError when there is no such run.
    """
    official = [run for run in read_runs(runs, on_damage) if run.config.source == f"{benchmark}:{run.result.domain}"]
    if not official:
        prepare = f"madlab prepare {benchmark}" + (" --labels FILE" if benchmark == "decathlon" else "")
        raise MadlabError(
            f"{runs} has no finished run on the official test images of {benchmark}: train on "
            f"{benchmark}:DOMAIN after `{prepare}`."
        )
    comparison = compare(collect(official), benchmark)
    if csv is not None:
        write_bytes(csv, _unrounded(comparison).to_csv(index=False, lineterminator="\n").encode())
    if figure is not None:
        write_bytes(figure, _draw(comparison, Path(figure).suffix[1:]))
    return _as_text(comparison)


def compare(tables: Sequence[Table], benchmark: str) -> Comparison:
    """Put tables, as `collect` returns them, beside the published rows."""
    official = list(BASELINES[benchmark])
    ours = [entry for table in tables for entry in benchmark_entries(table, benchmark)]
    adapted = [domain for domain in official if benchmark != "sketch" or domain != BASE_DOMAINS[benchmark]]
    shared = [domain for domain in adapted if ours and all(domain in entry.accuracies for entry in ours)]
    entries = [replace(entry, partial=entry.score_over(shared)) for entry in [*published_entries(benchmark), *ours]]
    return Comparison(benchmark, official, shared, entries)


def _as_text(comparison: Comparison) -> str:
    """The comparison as a Markdown table with a heading and notes."""
    entries, domains = comparison.entries, comparison.domains
    columns = {
        "": ["ours" if entry.ours else "" for entry in entries],
        "method": [entry.method for entry in entries],
        "network": [entry.network or "–" for entry in entries],
        "params": [entry.params or "–" for entry in entries],
        **{domain: [_cell(entry.accuracies.get(domain), 2) for entry in entries] for domain in domains},
        "mean": [_cell(entry.mean, 2, "mean" in entry.computed) for entry in entries],
        "S": [_cell(entry.score, 0, "score" in entry.computed) for entry in entries],
    }
    notes = ["Test accuracy in percent; params: of all domains, relative to the base network; *: computed here."]
    if not comparison.complete:
        shared = comparison.shared
        columns[f"mean of {len(shared)}"] = [_cell(entry.mean_over(shared), 2, True) for entry in entries]
        columns[f"S of {len(shared)}"] = [_cell(entry.partial, 0, True) for entry in entries]
        notes.append(f"Mean and S of {len(shared)}: over {', '.join(shared)}, which all of our rows have.")

    sources = list(dict.fromkeys(entry.source for entry in entries))
    columns["source"] = [f"[{sources.index(entry.source) + 1}]" for entry in entries]
    if comparison.benchmark == "sketch":
        notes.append("We assume that the published scores use the ResNet-50 baseline of ivclab/CPG.")
    notes += [f"[{i}] {printable(source)}" for i, source in enumerate(sources, start=1)]
    text = markdown(list(columns), columns.values())
    return "\n".join([f"{comparison.benchmark}: published rows and ours", "", text, "", *notes])


def _unrounded(comparison: Comparison) -> pd.DataFrame:
    rows = [
        {
            "ours": int(entry.ours),
            "method": entry.method,
            "network": entry.network,
            "params": entry.params,
            "mean": entry.mean,
            "score": entry.score,
            f"mean_of_{len(comparison.shared)}": entry.mean_over(comparison.shared),
            f"score_of_{len(comparison.shared)}": entry.partial,
            **{domain: entry.accuracies.get(domain) for domain in comparison.domains},
            "source": entry.source,
        }
        for entry in comparison.entries
    ]
    return pd.DataFrame(rows)


def _draw(comparison: Comparison, format: str) -> bytes:
    from madlab import figures
    from madlab.figures.rankings import ranking

    shown = [entry for entry in comparison.entries if entry.partial is not None]
    if not shown:
        raise MadlabError(
            "There is no S to draw: run every method on the same domains, and for a network other than ResNet-50 also "
            "the method finetune."
        )
    drawn, ax = figures.new(size=(8, 1.2 + 0.28 * len(shown)))
    names = [f"{entry.method} ({entry.network})" if entry.ours else entry.method for entry in shown]
    ranking(ax, names, [entry.partial or 0.0 for entry in shown], [entry.ours for entry in shown])
    ax.set(xlabel=f"S over {len(comparison.shared)} of {len(comparison.domains)} domains")
    ax.set_title(f"{comparison.benchmark}: published rows and ours")
    return file_of(drawn, format)


def _cell(value: float | None, digits: int, computed: bool = False) -> str:
    return "–" if value is None else f"{value:.{digits}f}" + ("*" if computed else "")
