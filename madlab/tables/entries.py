"""Rows of a benchmark that can be compared: published ones as they were printed, and ours from tables of runs."""

import os
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic.dataclasses import dataclass as schema

from madlab.backbones import WEIGHTS
from madlab.benchmarks.score import DECATHLON_BASELINE, SKETCH_BASELINE, decathlon_score, domain_scores, published_rows
from madlab.errors import MadlabError
from madlab.files.jsonfiles import read_json
from madlab.files.schemas import OPEN, validated
from madlab.runs.record import Percent
from madlab.tables.report import Table

BASELINES = {"decathlon": DECATHLON_BASELINE, "sketch": SKETCH_BASELINE}
BASE_DOMAINS = {"decathlon": "imagenet12", "sketch": "imagenet"}
"""Benchmark -> the domain that the base network was trained on. It needs no adapter: its accuracy is the base's own."""
NETWORKS = {"resnet50": "ResNet-50", "densenet121": "DenseNet-121"}


@schema(frozen=True, config=OPEN)
class Pretraining:
    """What is used of the log that data_scripts/pretrain_base.py writes beside a base network's weights."""

    domain: str
    sha256: str
    test_accuracy: Percent


@dataclass(frozen=True)
class Entry:
    """One row of a comparison.

    params: the budget of all domains as printed; in our rows base and adapters relative to the base, "1.39x".
    networks: the same as a number; None where it is not stated. accuracies: domain -> percent, as far as known.
    baseline: the same for the networks that S is measured against. mean, score: mean accuracy (percent) and S over all
    domains; None where unknown. source: where the row is from, in words. ours: whether it is made of our runs.
    computed: which of "mean" and "score" were computed here. partial: S over the domains that all of our rows have;
    None where this row lacks one of them.
    """

    method: str
    network: str
    params: str
    networks: float | None
    accuracies: dict[str, float]
    baseline: Mapping[str, float]
    mean: float | None
    score: float | None
    source: str
    ours: bool = False
    computed: tuple[str, ...] = ()
    partial: float | None = None

    @property
    def points(self) -> dict[str, float]:
        """Each domain's share of S, from 0 to 1000, as far as the baseline is known."""
        known = {domain: value for domain, value in self.accuracies.items() if domain in self.baseline}
        return domain_scores(known, self.baseline) if known else {}

    def mean_over(self, domains: Sequence[str]) -> float | None:
        """Mean accuracy in percent over some domains; None if one of them is not known."""
        if not domains or not set(domains) <= self.accuracies.keys():
            return None
        return statistics.fmean(self.accuracies[domain] for domain in domains)

    def score_over(self, domains: Sequence[str]) -> float | None:
        """S over some domains; None if one of them has no known accuracy or baseline."""
        if not domains or not set(domains) <= self.points.keys():
            return None
        return decathlon_score({domain: self.accuracies[domain] for domain in domains}, self.baseline)


def published_entries(benchmark: str) -> list[Entry]:
    """The published rows of a benchmark, "decathlon" or "sketch"; means and scores are filled in where possible."""
    return [_printed(row, benchmark) for row in published_rows(benchmark)]


def recorded_entries(table: Table) -> list[Entry]:
    """The methods that were run on all domains of a table, with S against its own fine-tuning; none if it has no S."""
    if table.why_no_score:
        return []
    adapted = len(table.domains)
    return [
        _ours(table, str(method), table.domains, adapted, {}, _finetuned(table), []) for method in table.whole.index
    ]


def benchmark_entries(table: Table, benchmark: str) -> list[Entry]:
    """The methods of a table of runs on the prepared domains of a benchmark, on as many domains as they were run."""
    domains, own_domain, notes = list(BASELINES[benchmark]), BASE_DOMAINS[benchmark], [table.protocol]
    found = base_accuracy(benchmark, table)
    of_base = {} if found is None else {own_domain: found[0]}

    baseline = _official(benchmark, _network(table))
    if not baseline:  # our own fine-tuned networks, if they were run
        baseline = of_base | _finetuned(table)
        if baseline:
            notes.append("S against finetune of these runs")
    if found is not None:
        notes.append(f"{own_domain}: the base network, {found[1]}")
    adapted = len(domains) - 1  # all but the base's own, also where they were not run
    return [_ours(table, str(method), domains, adapted, of_base, baseline, notes) for method in table.methods.index]


def base_accuracy(benchmark: str, table: Table) -> tuple[float, str] | None:
    """The base network's accuracy in percent on the domain that it was trained on, and where that comes from.

    It is known from the log that data_scripts/pretrain_base.py writes beside the weights, if it is of these very
    weights, and from torchvision's description of its own weights; otherwise None.
    """
    run = table.runs.iloc[0]
    source = None if pd.isna(run["base_source"]) else run["base_source"]
    if benchmark == "sketch" and source in NETWORKS:
        from torchvision.models import get_model_weights

        meta = get_model_weights(source)["IMAGENET1K_V1"].meta
        return meta["_metrics"]["ImageNet-1K"]["acc@1"], "as stated by torchvision"
    if source is None:
        return None
    shipped = WEIGHTS / f"{source}.safetensors"
    log = Path(os.path.splitext(shipped if shipped.is_file() else source)[0] + ".json")
    try:
        facts = validated(Pretraining, read_json(log), str(log)) if os.path.isfile(log) else None
    except MadlabError:  # something else that lies beside the weights
        return None
    if facts is None or facts.domain != BASE_DOMAINS[benchmark] or facts.sha256 != run["base_sha256"]:
        return None
    return facts.test_accuracy, f"from {log.name}"


def budget(params: str | None) -> float | None:
    """How many base networks' worth all domains take: 1.28 for "1.28x (6.04M)"; None where that is not stated."""
    found = re.match(r"([0-9]+(?:\.[0-9]+)?)x", params or "")
    return float(found[1]) if found else None


def _official(benchmark: str, network: str) -> Mapping[str, float]:
    """The published baseline; for ImageNet-to-Sketch there is one for ResNet-50 only."""
    return BASELINES[benchmark] if benchmark == "decathlon" or network == NETWORKS["resnet50"] else {}


def _network(table: Table) -> str:
    name = table.runs["base"].iloc[0]
    return NETWORKS.get(name, name)


def _finetuned(table: Table) -> dict[str, float]:
    """The accuracies of finetune in percent, without the domains where it was not run or makes no error."""
    found = table.accuracies.reindex(["finetune"]).iloc[0]
    return found[found < 100].to_dict()


def _printed(row: Mapping[str, Any], benchmark: str) -> Entry:
    source = "; ".join(part for part in (row["source"], row["note"]) if part)
    if row["provenance"] != "sourced":
        source += f" ({row['provenance']})"
    network, params = row["network"] or "", row["params"] or ""
    baseline = _official(benchmark, network)
    entry = Entry(
        row["method"], network, params, budget(params), row["accuracies"], baseline, row["mean"], row["score"], source
    )
    return _completed(entry, list(BASELINES[benchmark]))


def _ours(
    table: Table,
    method: str,
    domains: Sequence[str],
    adapted: int,
    of_base: Mapping[str, float],
    baseline: Mapping[str, float],
    notes: Sequence[str],
) -> Entry:
    """A method's row.

    domains: all that a mean and a score need. adapted: how many of them have an adapter. of_base: accuracies of the
    base network itself. notes: for its source.
    """
    row = table.methods.loc[method]
    ended = " to ".join(dict.fromkeys([row["first"], row["last"]])) or "date not recorded"
    source = "; ".join([f"ours, {row['seeds']} seed{'s' if row['seeds'] > 1 else ''}, {ended}", *notes])
    accuracies = table.accuracies.loc[method].dropna().to_dict() | dict(of_base)
    networks = 1 + adapted * (float(row["total"]) - 1) / len(table.accuracies.columns)
    params = f"{networks:.2f}x"
    entry = Entry(method, _network(table), params, networks, accuracies, baseline, None, None, source, ours=True)
    return _completed(entry, domains)


def _completed(entry: Entry, domains: Sequence[str]) -> Entry:
    """The entry with its mean and score over `domains`, where they were not printed but can be computed."""
    computed = []
    if entry.mean is None and set(entry.accuracies) == set(domains):
        entry = replace(entry, mean=statistics.fmean(entry.accuracies.values()))
        computed.append("mean")
    if entry.score is None and (score := entry.score_over(domains)) is not None:
        entry = replace(entry, score=score)
        computed.append("score")
    return replace(entry, computed=tuple(computed))
