"""The control of the recipe: what the table owes to small images in its first epochs, and to steep batches."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from fair_records import Recorded, counted, listed

from madlab.runs.record import Run
from madlab.tables.duel_report import bases_of, difference, told
from madlab.tables.duels import DOMAIN, MEAN, Duel, duels, grid_of
from madlab.tables.outcomes import Outcome, outcomes
from madlab.tables.output import markdown

EARLIER, QUICK, WHOLE, CLIPPED = "earlier recipe", "four whole epochs", "six whole epochs", "six whole, clipped"
RECIPES = {(6, 0.6, 0.0): EARLIER, (4, 0.0, 0.0): QUICK, (6, 0.0, 0.0): WHOLE, (6, 0.0, 1.0): CLIPPED}
"""Epochs, share of them on small images and largest norm of a gradient (0: any), by the name that they have here."""
STEPS = ((EARLIER, QUICK), (EARLIER, WHOLE), (WHOLE, CLIPPED))
"""Which recipe is compared with which before it."""
FLOOR, OWN = "frozen", "mad"


def cost_of_recipe(one: Recorded) -> list[str]:
    """The same runs, at the same rates, with three recipes: accuracies, what each step changes, and what it decides."""
    if one.missing or not one.every_run:
        return [one.not_yet()]
    found = {name: outcomes(_of(one.every_run, recipe)) for recipe, name in RECIPES.items()}
    rows = list(dict.fromkeys(outcome.method for outcome in found[CLIPPED] if outcome.bits is None))
    grid = grid_of([replace(o, method=_name(o.method, name)) for name, own in found.items() for o in own])
    fought = duels(grid, [(_name(m, new), _name(m, old)) for old, new in STEPS for m in rows])
    means = {(duel.first, duel.second): duel for duel in fought if duel.kind == MEAN}
    heads, columns = ["method", EARLIER], [rows, _means(found[EARLIER], rows)]
    for old, new in STEPS:
        heads += [new, f"against {old}"]
        columns += [_means(found[new], rows), [told(means[_name(m, new), _name(m, old)], 1) for m in rows]]
    most = max((duel for duel in fought if duel.kind == DOMAIN), key=lambda duel: duel.difference)
    below = "; ".join(f"{name} {_below(own, found[EARLIER])}" for name, own in found.items())
    return [
        "Every run above saw images shrunk to 5/8 in the first 0.6 of its epochs, which takes 0.4 of the time, and "
        "followed every gradient, however long. Both were madlab's habits when these runs were made; what they cost "
        "was measured last. The same rows at the same rates: on whole images, for four epochs, which take as long as "
        "six of that mixture, and for six; then with a gradient whose norm is above 1 scaled to 1 (arXiv 1211.5063). "
        f"Mean test accuracy in percent over {listed(one.domains)}, and points:",
        markdown(heads, columns),
        f"The largest change on one domain: {most.first} {difference(most, 1)} against {most.second} on {most.where}. "
        f"Verdicts after Holm's correction over the whole table; intervals from {bases_of(list(means.values()))}.",
        f"Below frozen features are, of {counted(len(rows) * len(one.domains), 'run')} each: {below}.",
        *_against_mad(found, rows),
        "So madlab now trains on whole images and clips gradients unless it is told otherwise (`coarse`, `clip`). "
        "**Every other table on this page is of the earlier recipe**, for every row the same. What they would be with "
        "the new one is known for these rows and domains alone, and their rates were chosen with the earlier one.",
    ]


def _of(runs: Sequence[Run], wanted: tuple[int, float, float]) -> list[Run]:
    recipes = [(run.config.recipe.epochs, run.config.recipe.coarse, run.config.recipe.clip) for run in runs]
    return [run for run, recipe in zip(runs, recipes, strict=True) if recipe == wanted]


def _name(method: str, recipe: str) -> str:
    return f"{method} ({recipe})"


def _means(found: Sequence[Outcome], methods: Sequence[str]) -> list[str]:
    return [f"{fmean(o.test_accuracy for o in found if o.method == method):.1f}" for method in methods]


def _below(found: Sequence[Outcome], floors: Sequence[Outcome]) -> int:
    """How many runs are below frozen features, which no recipe changes."""
    floor = {o.domain: o.test_accuracy for o in floors if o.method == FLOOR}
    return sum(o.bits is None and o.method != FLOOR and o.test_accuracy < floor[o.domain] for o in found)


def _against_mad(found: Mapping[str, Sequence[Outcome]], rows: Sequence[str]) -> list[str]:
    """Full MAD against every other row, with each recipe: a list, since no sizes are equal here."""
    rivals = [method for method in rows if method != OWN]
    fought: dict[str, list[Duel]] = {
        name: [duel for duel in duels(grid_of(list(own)), [(OWN, rival) for rival in rivals]) if duel.kind == MEAN]
        for name, own in found.items()
    }
    columns = [[told(duel, 1) for duel in own] for own in fought.values()]
    return [
        "What that decides, full MAD against the others, whatever their size, each column corrected by itself:",
        markdown(["against", *fought], [rivals, *columns]),
    ]
