"""Our runs on a real benchmark beside the published rows, each with its source: `madlab report --benchmark`.

What was printed is shown as printed; a star marks what is computed here. Where our runs lack a domain, S over those
that they have is computed for every row that has these: only scores over the same domains can be compared.
"""

import csv
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Any

from madlab.backbones import WEIGHTS
from madlab.benchmarks.score import DECATHLON_BASELINE, SKETCH_BASELINE, decathlon_score, published_rows
from madlab.errors import MadlabError
from madlab.files import read_json, write_bytes
from madlab.tables.report import Table, collect, file_of, lay_out

BASELINES = {"decathlon": DECATHLON_BASELINE, "sketch": SKETCH_BASELINE}
BASE_DOMAINS = {"decathlon": "imagenet12", "sketch": "imagenet"}
"""The domain that the base network was trained on: nothing is adapted to it, its accuracy is the base's own."""
NETWORKS = {"resnet50": "ResNet-50", "densenet121": "DenseNet-121"}


@dataclass(frozen=True)
class Entry:
    """One row: accuracies in percent by domain, as many as are known; mean (percent) and score S of all domains.

    params: as printed; ours: base and adapters relative to the base, "1.39x". computed: which of "mean" and "score"
    were computed here. partial: S over the domains that all of our rows have, None where one of them is not known.
    """

    method: str
    network: str
    params: str
    accuracies: dict[str, float]
    mean: float | None
    score: float | None
    source: str
    ours: bool = False
    computed: tuple[str, ...] = ()
    partial: float | None = None


@dataclass(frozen=True)
class Comparison:
    """Published rows and, after them, ours; shared: the domains that every one of ours has."""

    benchmark: str
    domains: list[str]
    shared: list[str]
    entries: list[Entry]

    @property
    def complete(self) -> bool:
        return self.shared == self.domains


def write_comparison(
    runs: Path | str, benchmark: str, csv: Path | str | None = None, figure: Path | str | None = None
) -> str:
    """Our runs below a folder beside the published rows of a benchmark, as text.

    benchmark: "decathlon" or "sketch"; only runs count that were trained on its prepared domains, decathlon:NAME or
    sketch:NAME, and tested on the official test images. csv: a file for the same rows, unrounded. figure: a file
    (.png, .pdf, .svg) for S over the domains that we have. Raises MadlabError when there is no such run.
    """
    comparison = compare(collect(runs, benchmark), benchmark)
    if csv is not None:
        write_bytes(csv, _as_csv(comparison).encode())
    if figure is not None:
        write_bytes(figure, _draw(comparison, Path(figure).suffix[1:]))
    return _as_text(comparison)


def compare(tables: Sequence[Table], benchmark: str) -> Comparison:
    """Set tables, as `collect` gives them, beside the published rows."""
    official = BASELINES[benchmark]
    ours = [(entry, baseline) for table in tables for entry, baseline in _ours(table, benchmark)]
    shared = [d for d in official if ours and all(d in entry.accuracies for entry, _ in ours)]
    rows = [_printed(row, benchmark) for row in published_rows(benchmark)] + ours
    entries = [replace(entry, partial=_score(entry.accuracies, baseline, shared)) for entry, baseline in rows]
    return Comparison(benchmark, list(official), shared, entries)


def budget(params: str | None) -> float | None:
    """How many base networks a method takes for all domains: 1.28 of "1.28x (6.04M)", None where it is not said."""
    number, sign, _ = (params or "").partition("x")
    return float(number) if sign and number.replace(".", "", 1).isdecimal() else None


def base_accuracy(benchmark: str, table: Table) -> tuple[float, str] | None:
    """The base network's accuracy in percent on the domain that it was trained on, and where that is from.

    It is known from the log that data_scripts/pretrain_base.py writes beside the weights, for these very weights, and
    from torchvision's description of its own.
    """
    source = table.base_source
    if benchmark == "sketch" and source in NETWORKS:
        from torchvision.models import get_model_weights

        meta = get_model_weights(source)["IMAGENET1K_V1"].meta
        return meta["_metrics"]["ImageNet-1K"]["acc@1"], "as torchvision states it"
    if source is None:
        return None
    shipped = WEIGHTS / f"{source}.safetensors"
    log = (shipped if shipped.is_file() else Path(source)).with_suffix(".json")
    facts = read_json(log) if log.is_file() else {}
    if facts.get("domain") != BASE_DOMAINS[benchmark] or facts.get("sha256") != table.base["sha256"]:
        return None
    return facts["test_accuracy"], f"from {log.name}"


def _score(accuracies: Mapping[str, float], baseline: Mapping[str, float], domains: Sequence[str]) -> float | None:
    """S over `domains`, None where an accuracy or the baseline lacks one of them."""
    if not domains or not (set(domains) <= set(accuracies) and set(domains) <= set(baseline)):
        return None
    return decathlon_score({domain: accuracies[domain] for domain in domains}, baseline)


def _official(benchmark: str, network: str) -> Mapping[str, float]:
    """The published baseline; Sketch has one for ResNet-50 only."""
    return BASELINES[benchmark] if benchmark == "decathlon" or network == NETWORKS["resnet50"] else {}


def _printed(row: Mapping[str, Any], benchmark: str) -> tuple[Entry, Mapping[str, float]]:
    baseline, accuracies = _official(benchmark, row["network"]), row["accuracies"]
    whole = set(accuracies) == set(BASELINES[benchmark])
    found: dict[str, float | None] = {
        "mean": statistics.fmean(accuracies.values()) if whole else None,
        "score": _score(accuracies, baseline, list(BASELINES[benchmark])),
    }
    computed = tuple(key for key in found if row[key] is None and found[key] is not None)
    mean, score = (found[key] if row[key] is None else row[key] for key in found)
    source = "; ".join(part for part in (row["source"], row["note"]) if part)
    if row["provenance"] != "sourced":
        source += f" ({row['provenance']})"
    entry = Entry(row["method"], row["network"] or "", row["params"] or "", accuracies, mean, score, source)
    return replace(entry, computed=computed), baseline


def _ours(table: Table, benchmark: str) -> list[tuple[Entry, Mapping[str, float]]]:
    base, own_domain = base_accuracy(benchmark, table), BASE_DOMAINS[benchmark]
    its_own = {own_domain: base[0]} if base else {}
    network = NETWORKS.get(table.base["name"], table.base["name"])
    baseline = _official(benchmark, network)
    words = [table.protocol]
    if not baseline:  # our own fine-tuned networks, where they are there
        baseline = its_own | next((row.means() for row in table.rows if row.method == "finetune"), {})
        words += ["S against finetune of these runs"] if baseline else []
    if base:
        words.append(f"{own_domain}: the base network, {base[1]}")
    entries = []
    for row in table.rows:
        accuracies = row.means() | its_own
        whole = set(accuracies) == set(BASELINES[benchmark])
        ended = " to ".join(dict.fromkeys(row.dates)) or "date not recorded"
        source = "; ".join([f"ours, {row.seeds} seed{'s' if row.seeds > 1 else ''}, {ended}", *words])
        mean, score = statistics.fmean(accuracies.values()), _score(accuracies, baseline, list(BASELINES[benchmark]))
        entry = Entry(
            row.method, network, f"{row.total:.2f}x", accuracies, mean if whole else None, score, source, True
        )
        entries.append((replace(entry, computed=("mean", "score")), baseline))
    return entries


def _as_text(comparison: Comparison) -> str:
    sources = list(dict.fromkeys(entry.source for entry in comparison.entries))
    partial = [] if comparison.complete else [f"S of {len(comparison.shared)}"]
    lines = [["", "method", "network", "params", *comparison.domains, "mean", "S", *partial, "source"]]
    for entry in comparison.entries:
        cells = [_cell(entry.accuracies.get(domain), 2) for domain in comparison.domains]
        cells += [_cell(entry.mean, 2, "mean" in entry.computed), _cell(entry.score, 0, "score" in entry.computed)]
        cells += [_cell(entry.partial, 0, True)] if partial else []
        number = f"[{sources.index(entry.source) + 1}]"
        lines.append(
            ["ours" if entry.ours else "", entry.method, entry.network or "–", entry.params or "–", *cells, number]
        )
    notes = ["Test accuracy in percent; params: all domains, relative to the base network. * computed here."]
    if partial:
        notes.append(f"{partial[0]}: over {', '.join(comparison.shared)}, which all of our rows have.")
    if comparison.benchmark == "sketch":
        notes.append("That the published scores use the ResNet-50 baseline of ivclab/CPG is our assumption.")
    notes += [f"[{i}] {source}" for i, source in enumerate(sources, start=1)]
    return "\n".join([f"{comparison.benchmark}: published rows and ours", "", lay_out(lines), "", *notes])


def _as_csv(comparison: Comparison) -> str:
    text = StringIO()
    out = csv.writer(text, lineterminator="\n")
    partial = f"score_of_{len(comparison.shared)}"
    out.writerow(["ours", "method", "network", "params", "mean", "score", partial, *comparison.domains, "source"])
    for entry in comparison.entries:
        numbers = [entry.mean, entry.score, entry.partial, *(entry.accuracies.get(d) for d in comparison.domains)]
        out.writerow([int(entry.ours), entry.method, entry.network, entry.params, *numbers, entry.source])
    return text.getvalue()


def _draw(comparison: Comparison, format: str) -> bytes:
    from madlab import figures
    from madlab.figures.rankings import ranking

    shown = [entry for entry in comparison.entries if entry.partial is not None]
    if not shown:
        raise MadlabError(
            "There is no S to draw: run one set of domains with every method, for another network than ResNet-50 with "
            "finetune among them."
        )
    drawn, ax = figures.new(size=(8, 1.2 + 0.28 * len(shown)))
    names = [f"{entry.method} ({entry.network})" if entry.ours else entry.method for entry in shown]
    ranking(ax, names, [entry.partial or 0.0 for entry in shown], [entry.ours for entry in shown])
    ax.set(xlabel=f"S over {len(comparison.shared)} of {len(comparison.domains)} domains")
    ax.set_title(f"{comparison.benchmark}: published rows and ours")
    return file_of(drawn, format)


def _cell(value: float | None, digits: int, computed: bool = False) -> str:
    return "–" if value is None else f"{value:.{digits}f}" + ("*" if computed else "")
