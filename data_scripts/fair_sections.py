"""The sections of the fair table's page: each takes what was recorded and returns paragraphs and tables as Markdown."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from statistics import fmean

import pandas as pd
from fair_records import Recorded, counted, listed
from scipy.stats import kendalltau, rankdata, spearmanr

from madlab.runs.record import Run
from madlab.tables.budgets import best_at_budgets, best_forms, nearest_forms
from madlab.tables.drawing import draw_forms
from madlab.tables.duel_report import (
    NOTE_AT,
    bases_of,
    budget_table,
    difference,
    draw_ranks,
    duels_at_budgets,
    rank_methods,
    ranking_note,
    told,
)
from madlab.tables.duels import DOMAIN, MEAN, SCORE, UNKNOWN, Duel, duels, grid_of, mean_interval
from madlab.tables.output import markdown
from madlab.tables.report import kilobytes, with_spreads

NEAR = 1.25
"""Sizes whose ratio is at most this are called equal."""
GOAL, LOSS = 20, 1.0
"""Kilobytes that a domain may take, and points of mean accuracy that it may lose against exact full MAD."""


def accuracy(one: Recorded, pictures: dict[str, bytes]) -> list[str]:
    """The table of all methods, the best forms by bytes, and the two pictures."""
    if not one.ready:
        return [one.not_yet()]
    name = one.name.removeprefix("fair-")
    pictures[f"fair-{name}-bytes.svg"] = draw_forms(one.found, one.table.protocol, "svg")
    parts = [
        *one.so_far(),
        _methods(one),
        _note(one),
        f"![Mean test accuracy on {one.told} against the kilobytes of adapter and norms, each method exact and "
        f"rounded, with the Pareto front.](static/fair-{name}-bytes.svg)",
        "**The best forms that fit.** A form is a method as it was trained, or rounded after that to 8, 4, 3 or 2 bits "
        "with folded norms.",
        *best_at_budgets(one.forms),
    ]
    if ranked := rank_methods(one.found):
        pictures[f"fair-{name}-ranks.svg"] = draw_ranks(ranked, f"Mean ranks on {one.told}", "svg")
        parts += [
            "**Mean ranks** of the methods as they were trained, whatever their size:",
            f"![Mean ranks on {one.told}; bars join methods that cannot be told apart.](static/fair-{name}-ranks.svg)",
            ranking_note(ranked[1]),
        ]
    return parts


def _methods(one: Recorded) -> str:
    rows = one.table.whole
    return markdown(
        ["method", "parameters", "adapter kB", "norms kB", "mean", "interval", "S", "seeds"],
        [
            rows.index,
            rows["parameters"].map("{:,.0f}".format),
            rows["adapter_bytes"].map(kilobytes),
            rows["norm_bytes"].map(kilobytes),
            with_spreads(rows["mean"], rows["mean_std"], 2),
            [_interval(one, str(method)) for method in rows.index],
            with_spreads(rows["score"], rows["score_std"], 0),
            rows["seeds"].map(str),
        ],
    )


def _interval(one: Recorded, method: str) -> str:
    interval = mean_interval(one.grid[method])
    return UNKNOWN if interval is None else f"{interval.low:.1f} to {interval.high:.1f}"


def _note(one: Recorded) -> str:
    spread = "± is the standard deviation over seeds. " if (one.table.methods["seeds"] > 1).any() else ""
    return (
        f"Mean test accuracy in percent over {listed(one.table.domains)}. {spread}The interval of 95 % is that of the "
        "mean, from test images drawn again, and from seeds where a row has several. Parameters and kB are those of "
        "one domain, without its head; norms are stored as trained, with their statistics. "
        + (one.table.why_no_score or "S is against `finetune` of this table.")
    )


def duels_of_mad(one: Recorded) -> list[str]:
    """MAD against every rival at the nearest bytes, at the nearest numbers, and within the budgets."""
    if not one.ready:
        return [one.not_yet()]
    parts = []
    for what in EQUAL:
        parts += [f"**At equal {what}**, the form of MAD that is nearest in {EQUAL[what].told}:"]
        parts += _fought(one, what)
    if at := duels_at_budgets(one.grid, one.forms, "mad"):
        own = [duel for found in at.values() for duel in found.values()]
        parts += ["**Within the same kilobytes**, rounded forms too, each the best on validation:", budget_table(at)]
        parts += [NOTE_AT, *(f"At most {size} kB: {verdicts(found.values())}" for size, found in at.items())]
        parts.append(f"The intervals come from {bases_of(own)}.")
    return parts


@dataclass(frozen=True)
class Equal:
    """What is equal in a duel: its column in a table of forms, how it is written, its unit, and what it is."""

    column: str
    written: Callable[[float], str]
    unit: str
    told: str


EQUAL = {
    "bytes": Equal("stored", kilobytes, "kB", "what a domain stores, adapter and norms"),
    "numbers": Equal("parameters", "{:,.0f}".format, "parameters", "parameters, as the literature counts them"),
}


def sizes_of(one: Recorded, what: str) -> pd.Series:
    """The sizes that are to be equal, by method: "bytes" or "numbers"."""
    return (one.forms if what == "bytes" else one.table.whole)[EQUAL[what].column]


@cache
def equal_duels(one: Recorded, what: str) -> tuple[list[Duel], list[str]]:
    """The duels of MAD with the rivals that have its size within NEAR, and the rivals that no form of MAD is near."""
    rows, sizes = one.forms if what == "bytes" else one.table.whole, sizes_of(one, what)
    nearest = nearest_forms(rows, EQUAL[what].column)
    near = {rival: mad for rival, mad in nearest.items() if 1 / NEAR <= sizes[mad] / sizes[rival] <= NEAR}
    fought = duels(one.grid, [(mad, rival) for rival, mad in near.items()])
    return fought, [rival for rival in nearest if rival not in near]


def means_of(fought: Iterable[Duel]) -> list[Duel]:
    """The duels over the mean of domains, the highest lead first."""
    return sorted((duel for duel in fought if duel.kind == MEAN), key=lambda duel: -duel.difference)


def _fought(one: Recorded, what: str) -> list[str]:
    """The duels as a table, and who leads, ties and loses."""
    (fought, far), sizes, equal = equal_duels(one, what), sizes_of(one, what), EQUAL[what]
    parts = []
    if means := means_of(fought):
        scores = {duel.second: duel for duel in fought if duel.kind == SCORE}
        columns = {
            "MAD": [duel.first for duel in means],
            f"its {equal.unit}": [equal.written(sizes[duel.first]) for duel in means],
            "rival": [duel.second for duel in means],
            f"the rival's {equal.unit}": [equal.written(sizes[duel.second]) for duel in means],
            "points": [told(duel, 1) for duel in means],
            "S": [told(scores[duel.second], 0) if duel.second in scores else UNKNOWN for duel in means],
        }
        parts += [markdown(list(columns), columns.values()), f"In mean accuracy {verdicts(means)}"]
        if scores:
            parts[-1] += f" In S {verdicts(scores[duel.second] for duel in means if duel.second in scores)}"
        parts.append(f"Verdicts after Holm's correction over each column; intervals from {bases_of(means)}.")
    if far:
        parts.append(f"No form of MAD is within {NEAR - 1:.0%} of the size of {listed(far)}, so that there is no duel.")
    return parts


def verdicts(fought: Iterable[Duel]) -> str:
    """Whom MAD leads, ties with and loses to, as a sentence; in brackets the form of MAD, unless it is full MAD."""
    said: dict[str, list[str]] = {"leads": [], "ties": [], "loses": [], UNKNOWN: []}
    for duel in fought:
        said[duel.verdict].append(duel.second if duel.first == "mad" else f"{duel.second} ({duel.first})")
    text = "MAD " + "; ".join(f"**{word}**: {listed(said[word])}" for word in ("leads", "ties", "loses")) + "."
    return text if not said[UNKNOWN] else f"{text} Without an interval: {listed(said[UNKNOWN])}."


def smallest_domain(one: Recorded) -> list[str]:
    """Whether a stored domain of at most GOAL kB loses at most LOSS points against full MAD, and if not, why not."""
    own = one.forms[one.forms["family"] == "mad"] if one.ready else one.forms
    goal = (
        f"The goal: all that is stored for a domain, its head apart, in at most {GOAL} kB, with at most {LOSS:.0f} "
        "point lost against full MAD in exact numbers, as a mean over the domains."
    )
    if "mad" not in own.index:
        return [goal, one.not_yet()]
    rounded = own[own["bits"].notna()].sort_values("stored", kind="stable")
    front = rounded[rounded["validation"] > rounded["validation"].cummax().shift(fill_value=0)]
    forms = list(dict.fromkeys([*front.index, *filter(None, [_within_goal(own)])]))
    lost = {duel.first: duel for duel in duels(one.grid, [(form, "mad") for form in forms]) if duel.kind == MEAN}
    parts = [
        goal,
        *one.so_far(),
        "Forms of MAD that are better on validation than every smaller one; kB are means over the domains, at most: of "
        "the largest domain:",
        _sizes_and_losses(own.loc[forms].sort_values("stored"), lost),
    ]
    return [*parts, *_reached(one, own, lost), f"The intervals come from {bases_of(list(lost.values()))}."]


def _within_goal(own: pd.DataFrame) -> str | None:
    return best_forms(own, GOAL).get("mad")


def _sizes_and_losses(forms: pd.DataFrame, lost: Mapping[str, Duel]) -> str:
    return markdown(
        ["form", "adapter kB", "norms kB", "at most kB", "points against full MAD"],
        [
            forms.index,
            forms["adapter_bytes"].map(kilobytes),
            forms["norm_bytes"].map(kilobytes),
            forms["stored"].map(kilobytes),
            [difference(lost[str(form)], 2) for form in forms.index],
        ],
    )


def _reached(one: Recorded, own: pd.DataFrame, lost: Mapping[str, Duel]) -> list[str]:
    """Whether the goal is reached, what the chosen form loses by its form and by its rounding, and what would do."""
    form = _within_goal(own)
    if form is None:
        least = own["stored"].idxmin()
        size, norms = (kilobytes(own.loc[least, column]) for column in ("stored", "norm_bytes"))
        return [f"**Not reached:** the smallest form, {least}, takes {size} kB, of which {norms} are norms."]
    duel = lost[form]
    parts = [f"**{_judged(duel)}** The best on validation within {GOAL} kB is {form}: {difference(duel, 2)} points."]
    exact = form.partition(" in ")[0]
    if exact != "mad" and form != exact:
        pairs = [(exact, "mad"), (form, exact)]
        by_form, by_rounding = (duel for duel in duels(one.grid, pairs) if duel.kind == MEAN)
        parts.append(
            f"Before it is rounded, {exact} is {difference(by_form, 2)} points from full MAD; rounding it and folding "
            f"its norms adds {difference(by_rounding, 2)}."
        )
    if duel.difference < -LOSS:
        parts.append(_in_the_way(own, lost))
    rivals = {family: found for family, found in best_forms(one.forms, GOAL).items() if family != "mad"}
    if rivals:
        best = max(rivals.values(), key=lambda name: float(one.forms.loc[name, "validation"]))
        (against,) = (d for d in duels(one.grid, [(best, "mad")]) if d.kind == MEAN)
        parts.append(f"The best of the other methods within {GOAL} kB is {best}: {difference(against, 2)} points.")
    return parts


def _judged(duel: Duel) -> str:
    if duel.interval is None:
        return "Reached." if duel.difference >= -LOSS else "Not reached."
    if duel.interval.low >= -LOSS:
        return "Reached, beyond doubt."
    if duel.interval.high < -LOSS:
        return "Not reached, beyond doubt."
    return ("Reached" if duel.difference >= -LOSS else "Not reached") + ", but the interval holds both."


def _in_the_way(own: pd.DataFrame, lost: Mapping[str, Duel]) -> str:
    """What the smallest form takes that loses little enough, and what full MAD takes in the fewest bits."""
    enough = [form for form in lost if lost[form].difference >= -LOSS]
    text = f"No form in the table above loses at most {LOSS:.0f} point."
    if enough:
        form = min(enough, key=lambda name: float(own.loc[name, "stored"]))
        size = kilobytes(own.loc[form, "stored"])
        text = f"The smallest form above that loses at most {LOSS:.0f} point is {form}, in {size} kB."
    full = own[own.index.str.startswith("mad in ")]
    if full.empty:
        return text
    least = full["adapter_bytes"].idxmin()
    sizes = kilobytes(full.loc[least, "adapter_bytes"]), kilobytes(full.loc[least, "norm_bytes"])
    return (
        f"**What stands in the way:** full α in the fewest bits ({least}) takes {sizes[0]} kB and its norms {sizes[1]} "
        f"kB. {text}"
    )


def below_frozen(records: Sequence[Recorded]) -> list[str]:
    """Which runs end below frozen features on the same domain with the same seed."""
    found = {(o.method, o.domain, o.seed): o for one in records for o in one.found if o.bits is None}
    if not any(method == "frozen" for method, _, _ in found):
        return [records[0].not_yet()]
    pairs = {key: found["frozen", *key[1:]] for key in found if key[0] != "frozen" and ("frozen", *key[1:]) in found}
    below = {key for key, floor in pairs.items() if found[key].test_accuracy < floor.test_accuracy}
    parts = [
        f"An adapter whose training ends below a linear head on frozen features has harmed. That is so for {len(below)} "
        f"of {counted(len(pairs), 'run')}, each compared with `frozen` on the same domain with the same seed."
    ]
    if not below:
        return parts
    methods = dict.fromkeys(method for method, _, _ in found if method != "frozen")
    fought = duels(grid_of(list(found.values())), [(method, "frozen") for method in methods])
    means = [duel for duel in fought if duel.kind == DOMAIN and duel.difference < 0]
    means.sort(key=lambda duel: duel.difference)
    domains = dict.fromkeys(duel.where for duel in means)
    own = {domain: [duel for duel in means if duel.where == domain] for domain in domains}
    cells = [", ".join(f"{duel.first} {difference(duel, 1)}{_star(duel)}" for duel in group) for group in own.values()]
    settled = sum(duel.verdict == "loses" for duel in means)
    return [
        *parts,
        "Points from frozen features, means over the seeds that both have, where they are below zero; a star: beyond "
        f"doubt after Holm's correction over all methods and domains, which holds for {settled} of {len(means)}.",
        markdown(["domain", "below frozen features"], [list(own), cells]),
    ]


def _star(duel: Duel) -> str:
    return " *" if duel.verdict == "loses" else ""


def epochs(one: Recorded) -> list[str]:
    """Mean accuracies by numbers of epochs, and how well their rankings of the methods agree."""
    lengths = sorted({run.result.epochs for run in one.runs})
    means = {
        length: _means([run for run in one.runs if run.result.epochs == length], one.domains) for length in lengths
    }
    methods = [method for method in next(iter(means.values()), {}) if all(method in own for own in means.values())]
    if len(lengths) < 2 or len(methods) < 2:
        return [one.not_yet()]
    ranks = {n: rankdata([-own[method] for method in methods]) for n, own in means.items()}
    columns = [
        [f"{means[n][method]:.2f} ({rank:g})" for method, rank in zip(methods, ranks[n], strict=True)] for n in lengths
    ]
    parts = [] if not one.missing else [f"So far {counted(one.cells.total(), 'run')} of {one.planned.total():,}."]
    parts += [
        f"Mean test accuracy in percent over {listed(one.domains)}, in brackets the rank:",
        markdown(["method", *(f"{n} epochs" for n in lengths)], [methods, *columns]),
    ]
    longest = lengths[-1]
    for n in lengths[:-1]:
        rho, tau = (float(test(ranks[n], ranks[longest]).statistic) for test in (spearmanr, kendalltau))
        swapped = [
            f"{a} and {b}"
            for a, b in combinations(methods, 2)
            if (means[n][a] - means[n][b]) * (means[longest][a] - means[longest][b]) < 0
        ]
        parts.append(
            f"{n} against {longest} epochs: Spearman's ρ = {rho:.2f}, Kendall's τ = {tau:.2f}; in another order: "
            f"{listed(swapped, 'no pair')}."
        )
    return parts


def _means(runs: Sequence[Run], domains: Sequence[str]) -> dict[str, float]:
    """Method -> mean over the domains, of the methods that were run on all of them."""
    by_method: dict[str, dict[str, list[float]]] = {}
    for run in runs:
        by_method.setdefault(run.method, {}).setdefault(run.result.domain, []).append(run.result.test_accuracy)
    return {
        method: fmean(fmean(values) for values in own.values())
        for method, own in by_method.items()
        if own.keys() == set(domains)
    }
