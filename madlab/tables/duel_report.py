"""The duels of a method with all others, as text, CSV and a picture of mean ranks: `madlab report --duels`."""

from collections.abc import Sequence
from math import isnan
from pathlib import Path
from statistics import fmean

import pandas as pd

from madlab.errors import MadlabError, printable
from madlab.files.plain import write_bytes
from madlab.runs.record import OnDamage, read_runs
from madlab.statistics import Interval, Ranking, mean_ranks
from madlab.tables.budgets import BUDGETS, best_forms, chosen_by, stored_forms, with_enough_seeds
from madlab.tables.duels import DOMAIN, MEAN, SCORE, UNKNOWN, Duel, Grid, duels, grid_of
from madlab.tables.outcomes import Outcome, outcomes
from madlab.tables.output import file_of, markdown
from madlab.tables.report import collect

NOTE = (
    "Differences in points of mean test accuracy and of S (against finetune), with intervals of 95 %; leads, ties and "
    "loses: of {first}, after Holm's correction over its column; in the table by domain a star stands for a "
    "difference that holds after Holm's correction over the whole table. The intervals come from: {bases}."
)
BASES = {
    "images and seeds": "images and seeds drawn again in pairs, on these domains",
    "images": "images drawn again in pairs, for these domains and this one seed",
    "domains": "Student's t over domains, because right or wrong was not recorded for each image",
    "seeds": "Student's t over seeds, for these test images, because right or wrong was not recorded for each image",
    UNKNOWN: "nothing, where right or wrong was not recorded for each image and there is one seed",
}


def write_duels(
    runs: Path | str,
    methods: Sequence[str],
    csv: Path | str | None = None,
    figure: Path | str | None = None,
    on_damage: OnDamage | None = None,
) -> str:
    """The duels of each of some methods with all others of its protocol, and at equal bytes, as text.

    runs: a records file, or a folder with runs. methods: as the results table writes them, "mad:8" or "mad in 4 bits".
    csv: a file for every difference, its interval and its p-value, unrounded. figure: a file (.png, .pdf, .svg) for the
    mean ranks and their critical difference; it shows one protocol. on_damage: as in `read_runs`. Raises MadlabError
    for a method that was not run, and where there is nothing to compare it with.
    """
    found = read_runs(runs, on_damage)
    collect(found)  # refuses two runs of one cell
    protocols: dict[str, list[Outcome]] = {}
    for one in outcomes(found):
        protocols.setdefault(one.protocol, []).append(one)
    known = {one.method for own in protocols.values() for one in own}
    for method in methods:
        if method not in known:
            raise MadlabError(f"{runs} has no run of {method!r:.60}: choose among {', '.join(sorted(known))}.")
    kept = {p: own for p, own in protocols.items() if {one.method for one in own} & set(methods)}
    if figure is not None and len(kept) > 1:
        raise MadlabError(f"{runs} has runs of {len(kept)} protocols: draw the figure for runs of one protocol.")
    reports = [_Report(protocol, own, [m for m in methods if m in grid_of(own)]) for protocol, own in kept.items()]
    if not any(report.direct for report in reports):
        raise MadlabError(f"{runs} has no method that shares a domain and a seed with {', '.join(methods)}.")
    if csv is not None:
        rows = [row for report in reports for row in report.rows()]
        write_bytes(csv, pd.DataFrame(rows).to_csv(index=False, lineterminator="\n").encode())
    if figure is not None:
        write_bytes(figure, reports[0].drawn(Path(figure).suffix[1:]))
    return "\n\n".join(report.text() for report in reports)


class _Report:
    """The duels of some methods within one protocol.

    direct: method -> its duels with the methods as they were trained. at: family ("mad" for all of its ranks) ->
    kilobytes -> family of a rival -> the duel over domains of the two forms that are best within that budget.
    """

    def __init__(self, protocol: str, found: Sequence[Outcome], methods: Sequence[str]):
        self.protocol, self.grid = protocol, grid_of(found)
        trained = dict.fromkeys(one.method for one in found if one.bits is None)
        self.forms = stored_forms(found)
        self.direct = {m: own for m in methods if (own := duels(self.grid, [(m, o) for o in trained if o != m]))}
        self.ranked = rank_methods(found)
        families = {one.method: one.family for one in found}
        own_families = dict.fromkeys(families[method] for method in methods)
        self.at = {family: duels_at_budgets(self.grid, self.forms, family) for family in own_families}

    def text(self) -> str:
        parts = [printable(self.protocol)]
        for method, own in self.direct.items():
            parts += [f"{printable(method)} against every other method", _over_domains(own), _by_domain(own)]
            parts.append(NOTE.format(first=printable(method), bases=bases_of(own)))
        for family, at in self.at.items():
            if at:
                parts += [
                    f"{printable(family)} at equal bytes of adapter and norms",
                    budget_table(at),
                    note_at(self.forms),
                ]
        if self.ranked is not None:
            methods, ranking = self.ranked
            ranks = [f"{rank:.2f}" for rank in ranking.ranks]
            parts += [markdown(["method", "mean rank"], [methods, ranks]), ranking_note(ranking)]
        return "\n\n".join(parts)

    def rows(self) -> list[dict[str, object]]:
        """One row for each difference; budget: in kilobytes, missing for the methods as they were trained."""
        direct = [(None, duel) for own in self.direct.values() for duel in own]
        at = [(k, duel) for own in self.at.values() for k, found in own.items() for duel in found.values()]
        return [_row(self.protocol, budget, duel) for budget, duel in [*direct, *at]]

    def drawn(self, format: str) -> bytes:
        if self.ranked is None:
            raise MadlabError("Mean ranks need two methods and two domains that both were run on: there is no figure.")
        return draw_ranks(self.ranked, self.protocol, format)


Ranked = tuple[list[str], Ranking]
"""Methods, the best first, and their ranking in that order."""


def rank_methods(found: Sequence[Outcome]) -> Ranked | None:
    """The methods of one protocol, as they were trained, that were run on every domain; None for fewer than two.

    Nor are there ranks on fewer than two domains.
    """
    grid = grid_of([one for one in found if one.bits is None])
    domains = list(dict.fromkeys(one.domain for one in found))
    means = {
        method: [fmean(one.test_accuracy for one in by_domain[domain].values()) for domain in domains]
        for method, by_domain in grid.items()
        if by_domain.keys() == set(domains)
    }
    if len(means) < 2 or len(domains) < 2:
        return None
    first = dict(zip(means, mean_ranks(list(means.values())).ranks, strict=True))
    order = sorted(means, key=first.__getitem__)
    return order, mean_ranks([means[method] for method in order])


def note_at(forms: pd.DataFrame) -> str:
    """What a `budget_table` of these `stored_forms` needs to be read."""
    return (
        "Differences of mean test accuracies between the forms, exact or rounded, that fit and are "
        f"{chosen_by(forms)}; verdicts after Holm's correction over the whole table."
    )


def ranking_note(ranking: Ranking) -> str:
    """What a table or a picture of mean ranks needs to be read."""
    equal = "" if isnan(ranking.p) else f"; that all are equal has p = {ranking.p:.2g} (Friedman)"
    return (
        f"Mean ranks over domains, 1 is best. Two whose ranks are nearer than {ranking.difference:.2f} cannot "
        f"be told apart (Nemenyi, 0.05){equal}."
    )


def draw_ranks(ranked: Ranked, title: str, format: str) -> bytes:
    """Mean ranks and their critical difference, in one of matplotlib's file formats."""
    from madlab import figures

    methods, ranking = ranked
    drawn, ax = figures.new(size=(8, 1.6 + 0.13 * len(methods)))
    figures.critical_difference(ax, dict(zip(methods, ranking.ranks, strict=True)), ranking.difference)
    ax.set_title(title)
    return file_of(drawn, format)


def duels_at_budgets(grid: Grid, forms: pd.DataFrame, family: str) -> dict[int, dict[str, Duel]]:
    """Kilobytes -> family of a rival -> the duel over domains of the two forms that are best within that budget.

    grid, forms: of the same outcomes; forms with fewer seeds than others take no part (`with_enough_seeds`). All of
    these duels are one family for Holm's correction.
    """
    forms = with_enough_seeds(forms)
    best = {kilobytes: best_forms(forms, kilobytes) for kilobytes in BUDGETS}
    pairs = {
        (kilobytes, rival): (fitting[family], form)
        for kilobytes, fitting in best.items()
        for rival, form in fitting.items()
        if family in fitting and rival != family
    }
    found = duels(grid, list(dict.fromkeys(pairs.values())))
    means = {(duel.first, duel.second): duel for duel in found if duel.kind == MEAN}
    at: dict[int, dict[str, Duel]] = {}
    for (kilobytes, rival), pair in pairs.items():
        if pair in means:
            at.setdefault(kilobytes, {})[rival] = means[pair]
    return at


def _over_domains(own: Sequence[Duel]) -> str:
    means = {duel.second: duel for duel in own if duel.kind == MEAN}
    scores = {duel.second: duel for duel in own if duel.kind == SCORE}
    columns = {
        "against": list(means),
        "mean": [told(duel, 1) for duel in means.values()],
        "S": [told(scores[rival], 0) if rival in scores else UNKNOWN for rival in means],
        "domains": [str(duel.domains) for duel in means.values()],
        "seeds": [str(duel.seeds) for duel in means.values()],
        "interval from": [duel.basis for duel in means.values()],
    }
    return markdown(list(columns), columns.values())


def _by_domain(own: Sequence[Duel]) -> str:
    cells = {(duel.second, duel.where): duel for duel in own if duel.kind == DOMAIN}
    rivals, domains = dict.fromkeys(rival for rival, _ in cells), dict.fromkeys(domain for _, domain in cells)
    columns = [list(rivals)]
    for domain in domains:
        found = [cells.get((rival, domain)) for rival in rivals]
        columns.append([UNKNOWN if duel is None else difference(duel, 1) + _star(duel) for duel in found])
    return markdown(["against", *domains], columns)


def budget_table(at: dict[int, dict[str, Duel]]) -> str:
    """What `duels_at_budgets` returns, as Markdown."""
    rivals = dict.fromkeys(rival for found in at.values() for rival in found)
    columns = [["its own form", *rivals]]
    for found in at.values():
        own = next(iter(found.values())).first
        columns.append([own, *(_with_form(found[rival]) if rival in found else UNKNOWN for rival in rivals)])
    return markdown(["against", *(f"at most {kilobytes} kB" for kilobytes in at)], columns)


def _with_form(duel: Duel) -> str:
    return f"{told(duel, 1)}: {duel.second}"


def told(duel: Duel, digits: int) -> str:
    """The difference of a duel with its interval and verdict."""
    return f"{difference(duel, digits)} {duel.verdict}"


def _star(duel: Duel) -> str:
    return " *" if duel.verdict in ("leads", "loses") else ""


def difference(duel: Duel, digits: int) -> str:
    """The difference of a duel with its interval, whose bounds keep the sign that rounding to zero would hide."""
    interval: Interval | None = duel.interval
    estimate = f"{round(duel.difference, digits) + 0.0:+.{digits}f}"  # no -0.0
    return estimate if interval is None else f"{estimate} [{interval.low:+.{digits}f}, {interval.high:+.{digits}f}]"


def bases_of(own: Sequence[Duel]) -> str:
    """Where the intervals of some duels come from."""
    used = {duel.basis for duel in own}
    return "; ".join(f"({basis}) {meaning}" for basis, meaning in BASES.items() if basis in used)


def _row(protocol: str, budget: int | None, duel: Duel) -> dict[str, object]:
    interval = duel.interval
    return {
        "protocol": protocol,
        "budget": budget,
        "first": duel.first,
        "second": duel.second,
        "where": duel.where,
        "difference": duel.difference,
        "low": None if interval is None else interval.low,
        "high": None if interval is None else interval.high,
        "p": None if interval is None else interval.p,
        "p_holm": duel.adjusted,
        "verdict": duel.verdict,
        "basis": duel.basis,
        "domains": duel.domains,
        "seeds": duel.seeds,
    }
