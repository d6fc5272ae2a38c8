"""Rows to compare with one another: published ones as they were printed, and ours from tables of runs."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from madlab.backbones import WEIGHTS
from madlab.benchmarks.score import DECATHLON_BASELINE, SKETCH_BASELINE, decathlon_score, domain_scores, published_rows
from madlab.files.jsonfiles import read_json
from madlab.tables.report import Table

BASELINES = {"decathlon": DECATHLON_BASELINE, "sketch": SKETCH_BASELINE}
BASE_DOMAINS = {"decathlon": "imagenet12", "sketch": "imagenet"}
"""The domain that the base network was trained on: nothing is adapted to it, its accuracy is the base's own."""
NETWORKS = {"resnet50": "ResNet-50", "densenet121": "DenseNet-121"}


@dataclass(frozen=True)
class Entry:
    """One row: accuracies in percent by domain, as many as are known; mean (percent) and score S of all domains.

    params: the budget of all domains as printed; ours: base and adapters relative to the base, "1.39x". networks: the
    same as a number, None where it is not said. baseline: accuracies in percent that S is measured against, as many as
    are known. computed: which of "mean" and "score" were computed here. partial: S over the domains that all of our
    rows have, None where one of them is not known.
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

    def score_over(self, domains: Sequence[str]) -> float | None:
        """S over some domains, None where an accuracy or the baseline lacks one of them."""
        if not domains or not set(domains) <= self.points.keys():
            return None
        return decathlon_score({domain: self.accuracies[domain] for domain in domains}, self.baseline)


def published_entries(benchmark: str) -> list[Entry]:
    """The published rows of a benchmark, "decathlon" or "sketch"; what can be computed is filled in."""
    return [_printed(row, benchmark) for row in published_rows(benchmark)]


def recorded_entries(table: Table) -> list[Entry]:
    """The methods that were run on all domains of a table, against its own fine-tuning; none where it has no S."""
    if table.why_no_score:
        return []
    return [_ours(table, str(method), table.domains, {}, _finetuned(table), []) for method in table.whole.index]


def benchmark_entries(table: Table, benchmark: str) -> list[Entry]:
    """The methods of a table of runs on the prepared domains of a benchmark, as far as they were run."""
    base, own_domain = base_accuracy(benchmark, table), BASE_DOMAINS[benchmark]
    its_own = {own_domain: base[0]} if base else {}
    words = [table.protocol]
    baseline = _official(benchmark, _network(table))
    if not baseline:  # our own fine-tuned networks, if they were run
        baseline = its_own | _finetuned(table)
        words += ["S against finetune of these runs"] if baseline else []
    if base:
        words.append(f"{own_domain}: the base network, {base[1]}")
    domains = list(BASELINES[benchmark])
    return [_ours(table, str(method), domains, its_own, baseline, words) for method in table.methods.index]


def base_accuracy(benchmark: str, table: Table) -> tuple[float, str] | None:
    """The base network's accuracy in percent on the domain that it was trained on, and where that is from.

    It is known from the log that data_scripts/pretrain_base.py writes beside the weights, for these very weights, and
    from torchvision's description of its own.
    """
    run = table.runs.iloc[0]
    source = None if pd.isna(run["base_source"]) else run["base_source"]
    if benchmark == "sketch" and source in NETWORKS:
        from torchvision.models import get_model_weights

        meta = get_model_weights(source)["IMAGENET1K_V1"].meta
        return meta["_metrics"]["ImageNet-1K"]["acc@1"], "as torchvision states it"
    if source is None:
        return None
    shipped = WEIGHTS / f"{source}.safetensors"
    log = (shipped if shipped.is_file() else Path(source)).with_suffix(".json")
    facts = read_json(log) if log.is_file() else {}
    if facts.get("domain") != BASE_DOMAINS[benchmark] or facts.get("sha256") != run["base_sha256"]:
        return None
    return facts["test_accuracy"], f"from {log.name}"


def budget(params: str | None) -> float | None:
    """How many base networks a method takes for all domains: 1.28 of "1.28x (6.04M)", None where it is not said."""
    number, sign, _ = (params or "").partition("x")
    return float(number) if sign and number.replace(".", "", 1).isdecimal() else None


def _official(benchmark: str, network: str) -> Mapping[str, float]:
    """The published baseline; Sketch has one for ResNet-50 only."""
    return BASELINES[benchmark] if benchmark == "decathlon" or network == NETWORKS["resnet50"] else {}


def _network(table: Table) -> str:
    name = table.runs["base"].iloc[0]
    return NETWORKS.get(name, name)


def _finetuned(table: Table) -> dict[str, float]:
    """The accuracies of finetune that points can be measured against: not where it was not run or makes no error."""
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
    its_own: Mapping[str, float],
    baseline: Mapping[str, float],
    words: Sequence[str],
) -> Entry:
    """A method's row; domains: all that a mean and a score need. its_own: accuracies of the base network itself."""
    row = table.methods.loc[method]
    ended = " to ".join(dict.fromkeys([row["first"], row["last"]])) or "date not recorded"
    source = "; ".join([f"ours, {row['seeds']} seed{'s' if row['seeds'] > 1 else ''}, {ended}", *words])
    accuracies = table.accuracies.loc[method].dropna().to_dict() | dict(its_own)
    params, networks = f"{row['total']:.2f}x", float(row["total"])
    entry = Entry(method, _network(table), params, networks, accuracies, baseline, None, None, source, ours=True)
    return _completed(entry, domains)


def _completed(entry: Entry, domains: Sequence[str]) -> Entry:
    """The entry with mean and score over `domains`, where they were not printed and can be computed."""
    computed = []
    if entry.mean is None and set(entry.accuracies) == set(domains):
        entry = replace(entry, mean=statistics.fmean(entry.accuracies.values()))
        computed.append("mean")
    if entry.score is None and (score := entry.score_over(domains)) is not None:
        entry = replace(entry, score=score)
        computed.append("score")
    return replace(entry, computed=tuple(computed))
