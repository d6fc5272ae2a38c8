"""The sections of the fair table's page: each takes what was recorded and returns paragraphs and tables as Markdown."""

from collections.abc import Sequence
from itertools import combinations
from statistics import fmean

from fair_floors import failures
from fair_records import Recorded, counted, listed
from scipy.stats import kendalltau, rankdata, spearmanr

from madlab.runs.record import Run
from madlab.tables.budgets import best_at_budgets, with_enough_seeds
from madlab.tables.drawing import draw_forms
from madlab.tables.duel_report import (
    bases_of,
    budget_table,
    difference,
    draw_ranks,
    note_at,
    rank_methods,
    ranking_note,
    told,
)
from madlab.tables.duels import MEAN, UNKNOWN, Duel, Grid, duels, grid_of, mean_interval
from madlab.tables.equal_size import NEAR, EqualDuels, named, verdicts
from madlab.tables.outcomes import outcomes
from madlab.tables.output import markdown
from madlab.tables.report import kilobytes, with_spreads

FORMS = ("mad:8 (form residual)", "mad:8")


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
        "with folded norms, whose statistics were measured anew on the training images, because those of the exact "
        "filters do not fit rounded ones.",
        *best_at_budgets(one.forms),
    ]
    fighting = with_enough_seeds(one.forms).index  # every further row would only make all harder to tell apart
    if ranked := rank_methods([outcome for outcome in one.found if outcome.method in fighting]):
        pictures[f"fair-{name}-ranks.svg"] = draw_ranks(ranked, f"Mean ranks on {one.where}", "svg")
        parts += [
            "**Mean ranks** of the rows that take part in duels, as they were trained, whatever their size:",
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
        "those of one domain, without its head; norms count as the scale and shift that they are at inference. "
        f"The protocol is {one.table.protocol}. " + (one.table.why_no_score or "S is against `finetune` of this table.")
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
    if at := one.in_budgets:
        own = [duel for found in at.values() for duel in found.values()]
        parts += [
            "**Within the same kilobytes**, rounded forms too:",
            budget_table(at),
            note_at(one.forms),
            _choices(one),
        ]
        for size, found in at.items():
            form = next(iter(found.values())).first
            parts.append(f"At most {size} kB, {form}: {verdicts(found)}")
        parts.append(f"The intervals come from {bases_of(own)}.")
    return parts


def _choices(one: Recorded) -> str:
    """In how many sizes each method was trained, of which validation chooses one."""
    exact = one.forms[one.forms["bits"].isna()]
    sizes = with_enough_seeds(exact)["family"].value_counts(sort=False)
    several = [f"{family} {count}" for family, count in sizes.items() if count > 1]
    return (
        f"A method that was trained in more sizes has more to choose from: {listed(several)} sizes, every other "
        "method one. A rival that must be rounded to 2 bits to fit might do better trained at a smaller rank."
    )


def _fought(one: Recorded) -> list[str]:
    """The duels at equal size as a table, and whom MAD leads, ties with and loses to."""
    found, stored, methods = one.equal_sizes, one.forms["stored"], one.table.whole
    parts = []
    if found.means:
        columns = {
            "MAD": [mad for mad, _ in found.means],
            "rival": [rival for _, rival in found.means],
            "kB": [" / ".join(kilobytes(stored[form]) for form in pair) for pair in found.means],
            "parameters": [" / ".join(f"{methods.loc[f, 'parameters']:,.0f}" for f in pair) for pair in found.means],
            "seeds": [str(duel.seeds) for duel in found.means.values()],
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
        parts.append(
            f"Verdicts after Holm's correction over each column of this table alone; intervals from {bases_of(means)}."
        )
        parts += [*_smaller_is_better(one), *_without_failures(one, found)]
    fewer = methods.index.drop(with_enough_seeds(methods).index)
    if len(fewer):
        parts.append(f"With fewer seeds than these, and so in no duel: {listed(fewer)}.")
    parts += _two_forms(one)
    for what, rivals in found.without.items():
        if rivals:
            parts.append(f"At equal {what} there is no duel with {listed(rivals)}: no form of MAD is that near.")
    return parts


def _two_forms(one: Recorded) -> list[str]:
    """MAD's form 1 + beta gamma beside beta gamma, over the seeds that both have."""
    if not set(FORMS) <= one.grid.keys():
        return []
    (duel,) = (duel for duel in duels(one.grid, [FORMS]) if duel.kind == MEAN)
    return [
        "MAD's form 1 + βγ against βγ, rank 8, each with the rates of its own trials, in points: "
        f"{told(duel, 1)}. The interval comes from {bases_of([duel])}."
    ]


def _smaller_is_better(one: Recorded) -> list[str]:
    """Where a form of MAD that meets rivals is less accurate than one that stores less: what that one does to them."""
    exact = one.forms[one.forms["bits"].isna()]
    own = with_enough_seeds(exact)[lambda forms: forms["family"] == "mad"]
    parts = []
    for form in dict.fromkeys(mad for mad, _ in one.equal_sizes.at["bytes"]):
        smaller = own[own["stored"] < own.loc[form, "stored"]]
        if smaller.empty or smaller["mean"].max() <= own.loc[form, "mean"]:
            continue
        best = str(smaller["mean"].idxmax())
        rivals = [rival for mad, rival in one.equal_sizes.at["bytes"] if mad == form]
        fought = [duel for duel in duels(one.grid, [(best, form), *((best, r) for r in rivals)]) if duel.kind == MEAN]
        points = "; ".join(f"{told(duel, 1)} against {duel.second}" for duel in fought)
        parts.append(
            f"{best}, which stores less, has a higher mean on test images than {form} here, so {form} may not be the "
            f"best that MAD can do in its bytes: {points}, corrected over these alone."
        )
    return parts


def _without_failures(one: Recorded, found: EqualDuels) -> list[str]:
    """What the duels are without the domains on which a run of the two failed."""
    failed = failures({(o.method, o.domain, o.seed): o for o in one.found if o.bits is None})
    parts = []
    for pair in found.means:
        on = {domain for method, domain, _ in failed if method in pair}
        if on and on != set(one.whole_domains):
            grid = {m: {d: own for d, own in one.grid[m].items() if d not in on} for m in pair}
            (duel,) = (duel for duel in duels(grid, [pair]) if duel.kind == MEAN)
            parts.append(f"{named(pair)} {difference(duel, 1)} without {listed(sorted(on))}")
    if not parts:
        return []
    return [
        f"A run that failed (*Runs below frozen features*) is not a method that is worse. Without those domains: "
        f"{'; '.join(parts)}."
    ]


def _in_score(found: EqualDuels) -> str:
    """Whom MAD leads, ties with and loses to in S, unless that is what it is in mean accuracy."""
    if {pair: duel.verdict for pair, duel in found.scores.items()} == {p: d.verdict for p, d in found.means.items()}:
        return "every verdict is the same."
    return verdicts({named(pair): duel for pair, duel in found.scores.items()})


def epochs(one: Recorded) -> list[str]:
    """Mean accuracies by numbers of epochs, and how well their rankings of the methods agree."""
    lengths = sorted({run.result.epochs for run in one.every_run})
    means = {
        length: _means([run for run in one.every_run if run.result.epochs == length], one.domains) for length in lengths
    }
    methods = [method for method in next(iter(means.values()), {}) if all(method in own for own in means.values())]
    if not one.every_run:
        return [one.not_yet()]
    if len(lengths) < 2 or len(methods) < 2:
        there = f"{one.there:,} of {counted(one.planned.total(), 'run')}"
        return [f"So far {there}: too few methods were run on all domains with two lengths to compare rankings."]
    ranks = {n: rankdata([-own[method] for method in methods]) for n, own in means.items()}
    columns = [
        [f"{means[n][method]:.2f} ({rank:g})" for method, rank in zip(methods, ranks[n], strict=True)] for n in lengths
    ]
    parts = [] if not one.missing else [f"So far {one.there:,} of {counted(one.planned.total(), 'run')}."]
    parts += [
        f"Mean test accuracy in percent over {listed(one.domains)}, {_seeds_and_recipe(one)}, in brackets the rank:",
        markdown(["method", *(f"{n} epochs" for n in lengths)], [methods, *columns]),
    ]
    longest = lengths[-1]
    grids = {n: grid_of(outcomes(run for run in one.every_run if run.result.epochs == n)) for n in lengths}
    verdicts = {n: _verdicts(grids[n], methods) for n in lengths}
    for n in lengths[:-1]:
        rho, tau = (float(test(ranks[n], ranks[longest]).statistic) for test in (spearmanr, kendalltau))
        swapped = [
            (a, b)
            for a, b in combinations(methods, 2)
            if (means[n][a] - means[n][b]) * (means[longest][a] - means[longest][b]) < 0
        ]
        other = {pair: duel for pair, duel in verdicts[n].items() if duel.verdict != verdicts[longest][pair].verdict}
        parts.append(
            f"{n} against {longest} epochs: Spearman's ρ = {rho:.2f}, Kendall's τ = {tau:.2f}; in another order: "
            f"{_pairs(swapped)}; with another verdict, after Holm's correction over {len(verdicts[n])} pairs: "
            f"{counted(len(other), 'pair') if other else 'none'}."
        )
        if other:
            now, then = ([told(own[pair], 1) for pair in other] for own in (other, verdicts[longest]))
            rows = [[f"{a} against {b}" for a, b in other], now, then]
            parts.append(markdown(["points", f"{n} epochs", f"{longest} epochs"], rows))
    same = [n for n in lengths[:-1] if (ranks[n] == ranks[longest]).all()]
    alike = [n for n in lengths if all(duel.verdict == verdicts[longest][p].verdict for p, duel in verdicts[n].items())]
    ranking = f"No shorter training has exactly the ranking of {longest} epochs."
    if same:
        ranking = f"The shortest training with the ranking of {longest} epochs has {same[0]}."
    return [
        *parts,
        f"{ranking} The shortest with all its verdicts has {alike[0]}. A table with fewer says what such a training "
        "gives, and not what a longer one would.",
    ]


def _seeds_and_recipe(one: Recorded) -> str:
    seeds = len({run.result.seed for run in one.every_run})
    told = "one seed" if seeds == 1 else f"{seeds} seeds"
    return f"{told} with the earlier recipe (*What the recipe costs*)" if one.unsteered else told


def _verdicts(grid: Grid, methods: Sequence[str]) -> dict[tuple[str, str], Duel]:
    """The duels of all pairs of methods over the mean of the domains."""
    found = duels(grid, list(combinations(methods, 2)))
    return {(duel.first, duel.second): duel for duel in found if duel.kind == MEAN}


def _pairs(pairs: Sequence[tuple[str, str]]) -> str:
    return listed((f"{a} and {b}" for a, b in pairs), "no pair")


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
