"""The control of the recipe: what the tables owe to small images in their first epochs, and to long gradients."""

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

from fair_records import Recorded, counted, listed

from madlab.tables.duel_report import bases_of, difference, told
from madlab.tables.duels import DOMAIN, MEAN, Duel, duels, grid_of
from madlab.tables.equal_size import verdicts
from madlab.tables.outcomes import Outcome, outcomes
from madlab.tables.output import markdown

EARLIER, QUICK, WHOLE, CLIPPED = "earlier recipe", "four whole epochs", "six whole epochs", "six whole, clipped"
RECIPES = {(6, 0.6, 0.0): EARLIER, (4, 0.0, 0.0): QUICK, (6, 0.0, 0.0): WHOLE, (6, 0.0, 1.0): CLIPPED}
"""Epochs, share of them on small images and largest norm of a gradient (0: any), by the name that they have here."""
STEPS = ((EARLIER, QUICK), (EARLIER, WHOLE), (WHOLE, CLIPPED))
"""Which recipe is compared with which before it."""
FLOOR, OWN = "frozen", "mad"


def cost_of_recipe(one: Recorded) -> list[str]:
    """The same runs, at the same rates, with four recipes: accuracies, what each step changes, and what it decides."""
    if one.missing:
        left = f"{one.missing.total():,} of {counted(one.planned.total(), 'run')}"
        return [f"`{one.name}.jsonl` lacks {left} yet (`python data_scripts/fair_table.py --grids {one.grid_name}`)."]
    found = _found(one)
    rows = list(dict.fromkeys(outcome.method for outcome in found[CLIPPED]))
    grid = grid_of([replace(o, method=_name(o.method, name)) for name, own in found.items() for o in own])
    fought = duels(grid, [(_name(m, new), _name(m, old)) for old, new in STEPS for m in rows])
    means = {(duel.first, duel.second): duel for duel in fought if duel.kind == MEAN}
    heads, columns = ["method", EARLIER], [rows, _means(found[EARLIER], rows)]
    for old, new in STEPS:
        heads += [new, f"against {old}"]
        columns += [_means(found[new], rows), [told(means[_name(m, new), _name(m, old)], 1) for m in rows]]
    most = max((duel for duel in fought if duel.kind == DOMAIN), key=lambda duel: abs(duel.difference))
    below = "; ".join(f"{name} {_below(own, found[EARLIER])}" for name, own in found.items())
    against = [{rival: told(duel, 1) for rival, duel in _against(own).items()} for own in found.values()]
    return [
        "Runs with `coarse 0.6` in their protocol saw images shrunk to 5/8 in the first 0.6 of their epochs, which "
        "takes 0.4 of the time. That was madlab's habit when they were made, and what it costs was measured last. The "
        "same rows at the same rates: on whole images, for four epochs, which take as long as six of that mixture, and "
        "for six; then with a gradient whose norm is above 1 scaled to 1 (`clip 1`, arXiv 1211.5063). Mean test "
        f"accuracy in percent over {listed(one.domains)}, and points:",
        markdown(heads, columns),
        f"The largest change on one domain: {most.first} {difference(most, 1)} against {most.second} on {most.where}. "
        f"Verdicts after Holm's correction over the whole table; intervals from {bases_of(list(means.values()))}.",
        f"Below frozen features are, of {counted(len(rows) * len(one.domains), 'run')} each: {below}.",
        "What that decides, full MAD against the others, whatever their size, each column corrected by itself:",
        markdown(["against", *found], [list(against[0]), *([*column.values()] for column in against)]),
        "So madlab now trains on whole images unless it is told otherwise (`coarse`). It does not clip by itself: the "
        "limit is one of raw gradients, and where features are large those of the head use it up. But **a method that "
        "fails without it was trained badly and is not a bad method**. What the other tables would be with today's "
        "recipe is known for these rows and domains alone, and the rates of all were chosen with the earlier one.",
    ]


def caution(one: Recorded) -> list[str]:
    """What to know of verdicts that are of the earlier recipe; nothing while its control is not complete."""
    if one.missing:
        return []
    old, new = (verdicts(_against(_found(one)[name])) for name in (EARLIER, WHOLE))
    return [
        f"**These runs are of an earlier recipe**, on small images first. On {listed(one.domains)}, whatever the size: "
        f"with it, {old[:-1]}; with today's, {new}"
    ]


def _found(one: Recorded) -> dict[str, list[Outcome]]:
    """The runs as they were trained, by the name of their recipe."""
    recipes = [(run.config.recipe.epochs, run.config.recipe.coarse, run.config.recipe.clip) for run in one.every_run]
    runs = list(zip(one.every_run, recipes, strict=True))
    own = {name: outcomes(run for run, recipe in runs if recipe == wanted) for wanted, name in RECIPES.items()}
    return {name: [outcome for outcome in every if outcome.bits is None] for name, every in own.items()}


def _name(method: str, recipe: str) -> str:
    return f"{method} ({recipe})"


def _means(found: Sequence[Outcome], methods: Sequence[str]) -> list[str]:
    return [f"{fmean(o.test_accuracy for o in found if o.method == method):.1f}" for method in methods]


def _below(found: Sequence[Outcome], floors: Sequence[Outcome]) -> int:
    """How many runs are below the frozen features of the earlier recipe, whose six fits of a head saw whole images."""
    floor = {o.domain: o.test_accuracy for o in floors if o.method == FLOOR}
    return sum(o.method != FLOOR and o.test_accuracy < floor[o.domain] for o in found)


def _against(found: Sequence[Outcome]) -> dict[str, Duel]:
    """Full MAD against every other row but frozen features, in their means."""
    rivals = dict.fromkeys(outcome.method for outcome in found if outcome.method not in (FLOOR, OWN))
    fought = duels(grid_of(found), [(OWN, rival) for rival in rivals])
    return {duel.second: duel for duel in fought if duel.kind == MEAN}
