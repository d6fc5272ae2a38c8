"""The sections of the fair table's page: each takes what was recorded and returns paragraphs and tables as Markdown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from statistics import fmean

from fair_records import Recorded, counted, listed
from scipy.stats import kendalltau, rankdata, spearmanr

from madlab.runs.record import Run
from madlab.tables.budgets import best_at_budgets, nearest_forms
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
from madlab.tables.outcomes import Outcome
from madlab.tables.output import markdown
from madlab.tables.report import kilobytes, with_spreads

NEAR = 1.25
"""Sizes whose ratio is at most this are called equal."""
FAILED = 10.0
"""Points below BatchNorm alone, from which on a run is listed as one in which the adapter did harm."""


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
        f"![Mean test accuracy on {one.where} against the kilobytes of adapter and norms, each method exact and "
        f"rounded, with the Pareto front.](static/fair-{name}-bytes.svg)",
        "**The best forms that fit.** A form is a method as it was trained, or rounded after that to 8, 4, 3 or 2 bits "
        "with folded norms.",
        *best_at_budgets(one.forms),
    ]
    if ranked := rank_methods(one.found):
        pictures[f"fair-{name}-ranks.svg"] = draw_ranks(ranked, f"Mean ranks on {one.where}", "svg")
        parts += [
            "**Mean ranks** of the methods as they were trained, whatever their size:",
            f"![Mean ranks on {one.where}; bars join methods that cannot be told apart.](static/fair-{name}-ranks.svg)",
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
    rows = one.table.whole
    spread = "± is the standard deviation over seeds. " if (rows["seeds"] > 1).any() else ""
    one_seed = "Of one seed, it says nothing about another. " if (rows["seeds"] == 1).any() else ""
    return (
        f"Mean test accuracy in percent over {listed(one.table.domains)}. {spread}The interval of 95 % is that of the "
        f"mean, from test images drawn again, and from seeds where a row has several. {one_seed}Parameters and kB are "
        "those of one domain, without its head; norms are stored as trained, with their statistics. "
        + (one.table.why_no_score or "S is against `finetune` of this table.")
    )


def duels_of_mad(one: Recorded) -> list[str]:
    """MAD against every rival at equal bytes and at equal numbers, and against the best forms within the budgets."""
    if not one.ready:
        return [one.not_yet()]
    parts = [
        "Each rival meets the form of MAD, both as they were trained, that is nearest to what it stores for a domain, "
        "adapter and norms, and the one nearest to its parameters, as the literature counts them (a mask's weight as "
        f"1/32). Sizes within {100 * (NEAR - 1):.0f} % are called equal; the table has MAD's / the rival's.",
        *_fought(one),
    ]
    if at := duels_at_budgets(one.grid, one.forms, "mad"):
        own = [duel for found in at.values() for duel in found.values()]
        parts += ["**Within the same kilobytes**, rounded forms too:", budget_table(at), NOTE_AT]
        for size, found in at.items():
            form = next(iter(found.values())).first
            parts.append(f"At most {size} kB, {form}: {_said(found)}")
        parts.append(f"The intervals come from {bases_of(own)}.")
    return parts


@dataclass(frozen=True)
class Duels:
    """MAD's duels at equal size, as one family for Holm's correction.

    means, scores: of each pair (form of MAD, rival), the highest lead first. at: "bytes" or "numbers" -> its pairs.
    without: the same -> the rivals that no form of MAD is near.
    """

    means: dict[tuple[str, str], Duel]
    scores: dict[tuple[str, str], Duel]
    at: dict[str, list[tuple[str, str]]]
    without: dict[str, list[str]]

    def verdicts(self, what: str, among: Sequence[str] | None = None) -> str:
        """Whom MAD leads, ties with and loses to at equal bytes or numbers; among: the rivals, by default all."""
        shown = [(m, r) for m, r in self.means if (m, r) in self.at[what] and (among is None or r in among)]
        return _said({_named(pair): self.means[pair] for pair in shown})


@cache
def equal_duels(one: Recorded) -> Duels:
    """The duels of MAD with each rival at the nearest bytes and the nearest parameters."""
    sizes = {"bytes": one.forms["stored"], "numbers": one.table.whole["parameters"]}
    nearest = {"bytes": nearest_forms(one.forms, "stored"), "numbers": nearest_forms(one.table.whole, "parameters")}
    at = {
        what: [(m, r) for r, m in nearest[what].items() if 1 / NEAR <= sizes[what][m] / sizes[what][r] <= NEAR]
        for what in sizes
    }
    pairs = list(dict.fromkeys([*at["bytes"], *at["numbers"]]))
    fought = sorted(duels(one.grid, pairs), key=lambda duel: -duel.difference)
    of_kind = {k: {(duel.first, duel.second): duel for duel in fought if duel.kind == k} for k in (MEAN, SCORE)}
    without = {what: [r for r in own if r not in {rival for _, rival in at[what]}] for what, own in nearest.items()}
    return Duels(of_kind[MEAN], of_kind[SCORE], at, without)


def _fought(one: Recorded) -> list[str]:
    """The duels at equal size as a table, and whom MAD leads, ties with and loses to."""
    found, stored, methods = equal_duels(one), one.forms["stored"], one.table.whole
    parts = []
    if found.means:
        columns = {
            "MAD": [mad for mad, _ in found.means],
            "rival": [rival for _, rival in found.means],
            "kB": [" / ".join(kilobytes(stored[form]) for form in pair) for pair in found.means],
            "parameters": [" / ".join(f"{methods.loc[f, 'parameters']:,.0f}" for f in pair) for pair in found.means],
            "points": [told(duel, 1) for duel in found.means.values()],
            "S": [told(found.scores[pair], 0) if pair in found.scores else UNKNOWN for pair in found.means],
        }
        parts += [markdown(list(columns), columns.values())]
        same = set(found.at["bytes"]) == set(found.at["numbers"])
        for what in ["bytes and numbers"] if same else found.at:
            parts.append(f"**At equal {what}**, in mean accuracy: {found.verdicts('bytes' if same else what)}")
        if found.scores:
            parts.append(f"In S, of all these: {_in_score(found)}")
        means = list(found.means.values())
        parts.append(f"Verdicts after Holm's correction over each column; intervals from {bases_of(means)}.")
    for what, rivals in found.without.items():
        if rivals:
            parts.append(f"At equal {what} there is no duel with {listed(rivals)}: no form of MAD is that near.")
    return parts


def _in_score(found: Duels) -> str:
    """Whom MAD leads, ties with and loses to in S, unless that is what it is in mean accuracy."""
    if {pair: duel.verdict for pair, duel in found.scores.items()} == {p: d.verdict for p, d in found.means.items()}:
        return "every verdict is the same."
    return _said({_named(pair): duel for pair, duel in found.scores.items()})


def _named(pair: tuple[str, str]) -> str:
    """The rival, and in brackets the form of MAD that it meets, unless that is full MAD."""
    mad, rival = pair
    return rival if mad == "mad" else f"{rival} ({mad})"


def _said(fought: Mapping[str, Duel]) -> str:
    """Whom MAD leads, ties with and loses to, as a sentence."""
    names = {v: [n for n, duel in fought.items() if duel.verdict == v] for v in ("leads", "ties", "loses", UNKNOWN)}
    text = f"MAD **leads**: {listed(names['leads'])}; **ties**: {listed(names['ties'])}; "
    text += f"**loses**: {listed(names['loses'])}."
    return text if not names[UNKNOWN] else f"{text} Without an interval: {listed(names[UNKNOWN])}."


def below_frozen(records: Sequence[Recorded]) -> list[str]:
    """Which runs end below frozen features on the same domain with the same seed."""
    found = {(o.method, o.domain, o.seed): o for one in records for o in one.found if o.bits is None}
    if not any(method == "frozen" for method, _, _ in found):
        return [records[0].not_yet()]
    pairs = {key: found["frozen", *key[1:]] for key in found if key[0] != "frozen" and ("frozen", *key[1:]) in found}
    below = {key for key, floor in pairs.items() if found[key].test_accuracy < floor.test_accuracy}
    parts = [
        f"A training that ends below a linear head on frozen features has done harm. That is so for {len(below)} "
        f"of {counted(len(pairs), 'run')}, each compared with `frozen` on the same domain with the same seed.",
        *_failed(found),
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


def _failed(found: Mapping[tuple[str, str, int], Outcome]) -> list[str]:
    """A sentence on the runs that are far below BatchNorm alone, if there are any."""
    gaps = {
        key: one.test_accuracy - found["batchnorm", *key[1:]].test_accuracy
        for key, one in found.items()
        if key[0] != "frozen" and ("batchnorm", *key[1:]) in found
    }
    far = [f"{m} on {d} ({gap:+.1f}, seed {s})" for (m, d, s), gap in gaps.items() if gap <= -FAILED]
    if not far:
        return []
    return [
        f"{FAILED:.0f} points or more below BatchNorm alone, so that the adapter itself did harm: {listed(far)}. Rates "
        "were tried on at most 540 training images per domain; for more images, in more steps, they may be too high."
    ]


def _star(duel: Duel) -> str:
    return " *" if duel.verdict == "loses" else ""


def epochs(one: Recorded) -> list[str]:
    """Mean accuracies by numbers of epochs, and how well their rankings of the methods agree."""
    lengths = sorted({run.result.epochs for run in one.every_run})
    means = {
        length: _means([run for run in one.every_run if run.result.epochs == length], one.domains) for length in lengths
    }
    methods = [method for method in next(iter(means.values()), {}) if all(method in own for own in means.values())]
    if len(lengths) < 2 or len(methods) < 2:
        return [one.not_yet()]
    ranks = {n: rankdata([-own[method] for method in methods]) for n, own in means.items()}
    columns = [
        [f"{means[n][method]:.2f} ({rank:g})" for method, rank in zip(methods, ranks[n], strict=True)] for n in lengths
    ]
    parts = [] if not one.missing else [f"So far {one.there:,} of {counted(one.planned.total(), 'run')}."]
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
    same = [n for n in lengths if (ranks[n] == ranks[longest]).all()]
    return [*parts, f"The shortest training with the ranking of {longest} epochs has {same[0]}."]


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
