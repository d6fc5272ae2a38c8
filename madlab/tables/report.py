"""The table of many runs: stored bytes, accuracy with its spread over seeds, and the score S against fine-tuning.

Runs can be compared when they share the base network and the recipe, except for the seed and what is tuned for each
method (rates and decays). Each such protocol gets a table of its own.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from madlab.benchmarks.score import decathlon_score
from madlab.errors import MadlabError, printable
from madlab.files.plain import write_bytes
from madlab.runs.record import OnDamage, Run, read_runs
from madlab.tables.budgets import best_at_budgets, stored_forms
from madlab.tables.drawing import draw_forms
from madlab.tables.frame import as_frame
from madlab.tables.outcomes import outcomes
from madlab.tables.output import markdown


@dataclass(frozen=True, eq=False)
class Table:
    """The methods of one protocol, from the fewest bytes stored for a domain to the most.

    runs: the rows of `as_frame` that it is made from. by_seed: (method, seed) x domain, test accuracies in percent.
    accuracies, spreads: method x domain, means and standard deviations (n - 1) over seeds; NaN for what was not run,
    and for the spread of a single seed. balanced: method x domain, means over seeds of the balanced accuracies; NaN
    unless all of them were recorded. methods: one row per method with

    family, bits      as in `as_frame`
    adapter_bytes, norm_bytes
                      stored for one domain besides its head, means over domains; NaN for norms that are not known
    parameters        of one domain's adapter, the mean over domains
    total             base and the adapters of all domains, relative to the base, as the literature counts them
                      (convolution weights; no BatchNorm, no heads)
    seeds             the smallest number of seeds that a domain was run with
    first, last       the days on which its first and last runs ended; both "" where a run does not say so
    mean, mean_std    over domains, and its spread over seeds; NaN for a method that lacks a domain
    balanced, balanced_std
                      the same of the balanced accuracies
    score, score_std  S of the mean accuracies, and the spread of S over seeds; NaN if there is none

    why_no_score: why the table has no S, in a sentence; "" if it has one.
    """

    protocol: str
    runs: pd.DataFrame
    by_seed: pd.DataFrame
    accuracies: pd.DataFrame
    spreads: pd.DataFrame
    balanced: pd.DataFrame
    methods: pd.DataFrame
    why_no_score: str

    @property
    def domains(self) -> list[str]:
        return list(self.accuracies)

    @property
    def whole(self) -> pd.DataFrame:
        """The rows of `methods` that were run on every domain of the table."""
        return self.methods[self.accuracies.notna().all(axis="columns")]


def write_report(
    runs: Path | str, csv: Path | str | None = None, figure: Path | str | None = None, on_damage: OnDamage | None = None
) -> str:
    """The results table of all finished runs in a records file or below a folder, as text: `madlab report`.

    csv: a file for the same numbers, unrounded, one line per method and stored form. figure: a file (.png, .pdf, .svg)
    for accuracy against bytes with the Pareto line; it shows one protocol, so runs of several are refused. on_damage:
    as in `read_runs`. Raises MadlabError when there is no finished run, and when two runs belong to the same cell of a
    table.
    """
    found = read_runs(runs, on_damage)
    tables = collect(found)
    if not tables:
        raise MadlabError(f"There is no finished run in {runs}: make some with madlab train or madlab sweep.")
    if csv is not None:
        write_bytes(csv, _as_csv(collect(found, rounded=True)).encode())
    if figure is not None:
        if len(tables) > 1:
            raise MadlabError(f"{runs} has runs of {len(tables)} protocols: draw the figure for runs of one protocol.")
        write_bytes(figure, draw_forms(outcomes(found), tables[0].protocol, Path(figure).suffix[1:]))
    stored = outcomes(found)
    texts = []
    for table in tables:
        forms = stored_forms(one for one in stored if one.protocol == table.protocol)
        texts += [_as_text(table), *best_at_budgets(forms)]
    return "\n\n".join(texts)


def collect(runs: Iterable[Run], rounded: bool = False) -> list[Table]:
    """The tables of some runs, one per protocol; MadlabError when two runs belong to the same cell of a table.

    rounded: with a row also for each form that was rounded after training.
    """
    return [_table(str(protocol), rows) for protocol, rows in as_frame(runs, rounded).groupby("protocol")]


def _table(protocol: str, runs: pd.DataFrame) -> Table:
    _refuse_doubles(runs)
    by_seed, balanced_by_seed = (
        runs.pivot(index=["method", "seed"], columns="domain", values=f"{kind}_accuracy")
        for kind in ("test", "balanced")
    )
    accuracies = by_seed.groupby(level="method").mean()
    spreads = by_seed.groupby(level="method").std()
    recorded = (by_seed.isna() | balanced_by_seed.notna()).groupby(level="method").all()
    balanced = balanced_by_seed.groupby(level="method").mean().where(recorded)
    balanced_std = balanced_by_seed.dropna().mean(axis="columns").groupby("method").std()
    whole = by_seed.dropna()

    sizes = runs.groupby(["method", "domain"])["adapter_parameters"].mean().groupby("method").mean()
    stored = runs.groupby(["method", "domain"])[["adapter_bytes", "norm_bytes"]].mean()
    bytes_stored = stored.astype(float).groupby("method").mean()
    of_method = runs.groupby("method")
    dates = of_method["date"]
    counts = by_seed.groupby(level="method").count()
    methods = pd.DataFrame(
        {
            "family": of_method["family"].first(),
            "bits": of_method["bits"].first(),
            "adapter_bytes": bytes_stored["adapter_bytes"],
            "norm_bytes": bytes_stored["norm_bytes"],
            "parameters": sizes,
            "total": 1 + len(accuracies.columns) * sizes / runs["base_parameters"].iloc[0],
            "seeds": counts[counts > 0].min(axis="columns").astype(int),
            "first": dates.min(),
            "last": dates.max().where(dates.min() != "", ""),
            "mean": accuracies.mean(axis="columns", skipna=False),
            "mean_std": whole.mean(axis="columns").groupby("method").std(),
            "balanced": balanced.mean(axis="columns", skipna=False),
            "balanced_std": balanced_std.where(recorded.all(axis="columns")),
            "score": math.nan,
            "score_std": math.nan,
        }
    ).sort_values(["adapter_bytes", "norm_bytes", "method"])

    why_no_score = _why_no_score(accuracies)
    if not why_no_score:
        baseline = accuracies.loc["finetune"].to_dict()
        methods["score"] = _scores(accuracies.dropna(), baseline)
        methods["score_std"] = _scores(whole, baseline).groupby("method").std()
    order = methods.index
    return Table(
        protocol, runs, by_seed, accuracies.loc[order], spreads.loc[order], balanced.loc[order], methods, why_no_score
    )


def _refuse_doubles(runs: pd.DataFrame) -> None:
    cell = ["method", "domain", "seed"]
    double = runs[runs.duplicated(cell)].head(1)
    if not double.empty:
        one, other = runs.merge(double[cell])["path"].head(2)
        method, domain, seed = double[cell].iloc[0]
        raise MadlabError(f"{one} and {other} are both {method} on {domain}, seed {seed}: keep one of them.")


def _scores(accuracies: pd.DataFrame, baseline: Mapping[str, float]) -> pd.Series:
    """S of each row of a frame, whose columns are domains and whose entries are accuracies in percent."""
    scores = [decathlon_score(row.to_dict(), baseline) for _, row in accuracies.iterrows()]
    return pd.Series(scores, accuracies.index, dtype=float)


def _why_no_score(accuracies: pd.DataFrame) -> str:
    """Why there is no S, in a sentence; "" if there is one."""
    finetune = accuracies.reindex(["finetune"]).iloc[0]
    if finetune.isna().any():
        lacking = ", ".join(finetune.index[finetune.isna()])
        return f"S is left out, because its baseline, finetune, was not run on {lacking}."
    if (finetune >= 100).any():
        perfect = ", ".join(finetune.index[finetune >= 100])
        return f"S is left out, because its baseline, finetune, makes no error on {perfect}."
    return ""


def _as_text(table: Table) -> str:
    methods = table.methods
    columns = {
        "method": methods.index,
        "adapter kB": methods["adapter_bytes"].map(kilobytes),
        "norms kB": methods["norm_bytes"].map(kilobytes),
        "parameters": methods["parameters"].map("{:,.0f}".format),
        "total": methods["total"].map("{:.2f}×".format),
    }
    cells = [(domain, with_spreads(table.accuracies[domain], table.spreads[domain], 2)) for domain in table.domains]
    cells.append(("mean", with_spreads(methods["mean"], methods["mean_std"], 2)))
    told = ""
    if methods["balanced"].notna().any():  # results of earlier versions have none
        cells.append(("balanced", with_spreads(methods["balanced"], methods["balanced_std"], 2)))
        told = "; balanced: the mean in which every class counts alike"
    cells.append(("S", with_spreads(methods["score"], methods["score_std"], 0)))
    heads = [*columns, *(name for name, _ in cells), "seeds"]
    note = (
        f"Test accuracy in percent ± standard deviation over seeds{told}; "
        "kB: 1,000 bytes stored per domain, head apart; "
        "parameters: of one domain's adapter, without BatchNorm and head; total: base and "
        f"{len(table.domains)} adapters, relative to the base's convolutions"
    )
    note += "." if table.why_no_score else "; S: against finetune of these runs, which is 250 per domain by definition."
    text = markdown(heads, [*columns.values(), *(column for _, column in cells), methods["seeds"].map(str)])
    return "\n".join([printable(table.protocol), "", text, "", note, *filter(None, [printable(table.why_no_score)])])


def kilobytes(size: float) -> str:
    """Bytes as text in kB of 1,000, or a dash where they are not known."""
    return "–" if pd.isna(size) else f"{size / 1000:,.1f}"


def with_spreads(values: pd.Series, spreads: pd.Series, digits: int) -> list[str]:
    """Each value as text, with its spread where that is known."""
    return [
        "–" if pd.isna(value) else f"{value:.{digits}f}" + ("" if pd.isna(spread) else f" ± {spread:.{digits}f}")
        for value, spread in zip(values, spreads, strict=True)
    ]


def _as_csv(tables: Sequence[Table]) -> str:
    domains = sorted({domain for table in tables for domain in table.domains})
    return pd.concat([_unrounded(table, domains) for table in tables]).to_csv(index=False, lineterminator="\n")


def _unrounded(table: Table, domains: Sequence[str]) -> pd.DataFrame:
    """One line per method and stored form; the columns of `domains` are the same in every table."""
    own = ["method", "bits", "adapter_bytes", "norm_bytes", "parameters", "total", "seeds"]
    own += ["mean", "mean_std", "balanced", "balanced_std", "score", "score_std"]
    head = table.methods.reset_index()[own].rename(columns={"parameters": "adapter_parameters"})
    head.insert(0, "protocol", table.protocol)
    accuracies = table.accuracies.reindex(columns=domains).reset_index(drop=True)
    spreads = table.spreads.reindex(columns=domains).add_suffix("_std").reset_index(drop=True)
    balanced = table.balanced.reindex(columns=domains).add_suffix("_balanced").reset_index(drop=True)
    parts = [part.iloc[:, [place]] for place in range(len(domains)) for part in (accuracies, spreads, balanced)]
    return pd.concat([head, *parts], axis="columns")
