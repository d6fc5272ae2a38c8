"""The duels of a method with all others, as text, CSV and a picture of mean ranks: `madlab report --duels`."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from madlab.errors import MadlabError, printable
from madlab.files.plain import write_bytes
from madlab.runs.record import OnDamage, read_runs
from madlab.statistics import Interval, Ranking, mean_ranks
from madlab.tables.budgets import BUDGETS, best_forms, stored_forms
from madlab.tables.duels import DOMAIN, MEAN, SCORE, UNKNOWN, Duel, duels, grid_of
from madlab.tables.outcomes import Outcome, outcomes
from madlab.tables.output import file_of, markdown
from madlab.tables.report import collect

NOTE = (
    "Differences in points of mean test accuracy and of S (against finetune), with intervals of 95 %; leads, ties and "
    "loses: of {first}, after Holm's correction over its column; in the table by domain a star stands for a "
    "difference that holds after Holm's correction over the whole table. The intervals come from: {bases}."
)
NOTE_AT = (
    "Differences of mean test accuracies between the forms, exact or rounded, that fit and are best on validation; "
    "verdicts after Holm's correction over the whole table."
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
        whole = [method for method in trained if method in self.forms.index]
        self.ranked = self._ranks(whole)
        families = {one.method: one.family for one in found}
        self.at = {family: self._at_budgets(family) for family in dict.fromkeys(map(families.__getitem__, methods))}

    def _ranks(self, methods: Sequence[str]) -> tuple[list[str], Ranking] | None:
        """Methods that were run on every domain, the best first, with their mean ranks."""
        table = [[_mean(self.grid[method][domain]) for domain in self.grid[methods[0]]] for method in methods]
        if len(table) < 2 or len(table[0]) < 2:
            return None
        order = sorted(range(len(methods)), key=mean_ranks(table).ranks.__getitem__)
        return [methods[place] for place in order], mean_ranks([table[place] for place in order])

    def _at_budgets(self, family: str) -> dict[int, dict[str, Duel]]:
        best = {kilobytes: best_forms(self.forms, kilobytes) for kilobytes in BUDGETS}
        pairs = {
            (kilobytes, rival): (forms[family], form)
            for kilobytes, forms in best.items()
            for rival, form in forms.items()
            if family in forms and rival != family
        }
        found = duels(self.grid, list(dict.fromkeys(pairs.values())))
        means = {(duel.first, duel.second): duel for duel in found if duel.kind == MEAN}
        at: dict[int, dict[str, Duel]] = {}
        for (kilobytes, rival), pair in pairs.items():
            if pair in means:
                at.setdefault(kilobytes, {})[rival] = means[pair]
        return at

    def text(self) -> str:
        parts = [printable(self.protocol)]
        for method, own in self.direct.items():
            parts += [f"{printable(method)} against every other method", _over_domains(own), _by_domain(own)]
            parts.append(NOTE.format(first=printable(method), bases=_bases(own)))
        for family, at in self.at.items():
            if at:
                parts += [f"{printable(family)} at equal bytes of adapter and norms", _at_text(at), NOTE_AT]
        if self.ranked is not None:
            methods, ranking = self.ranked
            parts += [
                markdown(["method", "mean rank"], [methods, [f"{rank:.2f}" for rank in ranking.ranks]]),
                f"Mean ranks over domains, 1 is best. Two whose ranks are nearer than {ranking.difference:.2f} cannot "
                f"be told apart (Nemenyi, 0.05); that all are equal has p = {ranking.p:.2g} (Friedman).",
            ]
        return "\n\n".join(parts)

    def rows(self) -> list[dict[str, object]]:
        """One row for each difference; budget: in kilobytes, missing for the methods as they were trained."""
        direct = [(None, duel) for own in self.direct.values() for duel in own]
        at = [(k, duel) for own in self.at.values() for k, found in own.items() for duel in found.values()]
        return [_row(self.protocol, budget, duel) for budget, duel in [*direct, *at]]

    def drawn(self, format: str) -> bytes:
        from madlab import figures

        if self.ranked is None:
            raise MadlabError("Mean ranks need two methods and two domains that both were run on: there is no figure.")
        methods, ranking = self.ranked
        drawn, ax = figures.new(size=(8, 1.6 + 0.13 * len(methods)))
        figures.critical_difference(ax, dict(zip(methods, ranking.ranks, strict=True)), ranking.difference)
        ax.set_title(self.protocol)
        return file_of(drawn, format)


def _mean(by_seed: dict[int, Outcome]) -> float:
    return sum(one.test_accuracy for one in by_seed.values()) / len(by_seed)


def _over_domains(own: Sequence[Duel]) -> str:
    means = {duel.second: duel for duel in own if duel.kind == MEAN}
    scores = {duel.second: duel for duel in own if duel.kind == SCORE}
    columns = {
        "against": list(means),
        "mean": [_cell(duel, 1) for duel in means.values()],
        "S": [_cell(scores[rival], 0) if rival in scores else UNKNOWN for rival in means],
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
        columns.append([UNKNOWN if duel is None else _difference(duel, 1) + _star(duel) for duel in found])
    return markdown(["against", *domains], columns)


def _at_text(at: dict[int, dict[str, Duel]]) -> str:
    rivals = dict.fromkeys(rival for found in at.values() for rival in found)
    columns = [["its own form", *rivals]]
    for found in at.values():
        own = next(iter(found.values())).first
        columns.append([own, *(_with_form(found[rival]) if rival in found else UNKNOWN for rival in rivals)])
    return markdown(["against", *(f"at most {kilobytes} kB" for kilobytes in at)], columns)


def _with_form(duel: Duel) -> str:
    return f"{_cell(duel, 1)}: {duel.second}"


def _cell(duel: Duel, digits: int) -> str:
    return f"{_difference(duel, digits)} {duel.verdict}"


def _star(duel: Duel) -> str:
    return " *" if duel.verdict in ("leads", "loses") else ""


def _difference(duel: Duel, digits: int) -> str:
    def signed(value: float) -> str:
        return f"{round(value, digits) + 0.0:+.{digits}f}"  # no -0.0

    interval: Interval | None = duel.interval
    told = signed(duel.difference)
    return told if interval is None else f"{told} [{signed(interval.low)}, {signed(interval.high)}]"


def _bases(own: Sequence[Duel]) -> str:
    used = {duel.basis for duel in own}
    return "; ".join(f"({basis}) {told}" for basis, told in BASES.items() if basis in used)


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
