"""The control of the recipe: what the tables owe to small images in their first epochs, and to steps of any length."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

from fair_records import Recorded, counted, listed

from madlab.analysis.diagnosis import Failure, outcome, read_failures, verdicts_by_cause
from madlab.analysis.diagnosis.signatures import NOTHING
from madlab.tables.duel_report import bases_of, difference, told
from madlab.tables.duels import DOMAIN, MEAN, Duel, duels, grid_of
from madlab.tables.equal_size import verdicts
from madlab.tables.outcomes import Outcome, outcomes
from madlab.tables.output import markdown

EARLIER, QUICK, WHOLE, BOUNDED = "earlier recipe", "four whole epochs", "six whole epochs", "six whole, bounded"
RECIPES = {(6, 0.6, 0.0): EARLIER, (4, 0.0, 0.0): QUICK, (6, 0.0, 0.0): WHOLE, (6, 0.0, 4.0): BOUNDED}
"""Epochs, share of them on small images and bound of the steps (`polyak`; 0: none), by the name that they have here."""
STEPS = ((EARLIER, QUICK), (EARLIER, WHOLE), (WHOLE, BOUNDED))
"""Which recipe is compared with which before it."""
FLOOR, OWN = "frozen", "mad"


def cost_of_recipe(one: Recorded) -> list[str]:
    """The same runs, at the same rates, with four recipes: accuracies, what each step changes, and what it decides."""
    if lacking := one.missing.total():
        command = f"python data_scripts/fair_table.py --grids {one.grid_name}"
        return [f"`{one.name}.jsonl` lacks {counted(lacking, 'run')} yet (`{command}`)."]
    found = _found(one)
    rows = list(dict.fromkeys(outcome.method for outcome in found[WHOLE]))
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
        "Runs with `coarse 0.6` in their protocol saw images shrunk to 5/8 in the first four of their six epochs, "
        "which takes 0.4 of the time. That was madlab's habit when they were made, and what it costs was measured "
        "last. The same rows at the same rates: on whole images, for four epochs, which see an eighth more pixels than "
        "six of that mixture, and for six; then with bounded steps, of which none may promise to lower the loss by "
        "more than four times the loss (`polyak 4`, after the stochastic Polyak step size of arXiv 2002.10542). Mean "
        f"test accuracy in percent over {listed(one.domains)}, and points:",
        markdown(heads, columns),
        f"The largest change on one domain: {most.first} {difference(most, 1)} against {most.second} on {most.where}. "
        f"Verdicts after Holm's correction over the whole table; intervals from {bases_of(list(means.values()))}.",
        f"Below frozen features are, of {counted(len(rows) * len(one.domains), 'run')} each: {below}.",
        "What that decides, full MAD against the others, whatever their size, each column corrected by itself:",
        markdown(["against", *found], [list(against[0]), *([*column.values()] for column in against)]),
        "So madlab now trains on whole images and bounds its steps unless it is told otherwise (`coarse`, `polyak`): "
        "**a method that fails without them was trained badly and is not a bad method**. The rates of all four columns "
        "were chosen with the earlier recipe; with rates of its own, today's is in the next section, for all rows that "
        "take part in duels.",
    ]


def caution(one: Recorded, bounded: Recorded) -> list[str]:
    """What to know of verdicts that are of the earlier recipe; nothing while its control is not complete."""
    if one.missing:
        return []
    found, rows = _found(one), {(run.method, run.result.seed) for run in one.every_run}
    new, rates = found[BOUNDED], "at the same rates"
    if bounded.on_every_domain:
        new = [outcome for outcome in _found(bounded)[BOUNDED] if (outcome.method, outcome.seed) in rows]
        rates = "at rates of its own"
    return [
        "**These runs are of an earlier recipe**: small images first, steps of any length. On "
        f"{listed(one.domains)}, whatever the size: with it, {verdicts(_against(found[EARLIER]))[:-1]}; with today's, "
        f"{rates}, {verdicts(_against(new))}"
    ]


def few_images(free: Path, bounded: Path) -> list[str]:
    """What the bound does to runs on few images, right and wrong ones: two files of data_scripts/failures.py."""
    if missing := [file.name for file in (free, bounded) if not file.exists()]:
        return [f"`{missing[0]}` is not there yet (`data_scripts/failures.py`)."]
    before, after = read_failures(free), read_failures(bounded)
    reached = {run.evidence.path: run.test_accuracy for run in after}
    pairs = [(run.cause, run.test_accuracy, reached[run.evidence.path]) for run in before]
    causes = sorted({cause for cause, *_ in pairs}, key=lambda cause: (cause != NOTHING, cause))
    rows = []
    for cause in causes:
        own = [(a, b) for name, a, b in pairs if name == cause and a is not None and b is not None]
        if own:  # none of a run whose loss became NaN
            means = [fmean(values) for values in zip(*own, strict=True)]
            rows.append([cause, str(len(own)), *(f"{mean:.1f}" for mean in means), f"{means[1] - means[0]:+.1f}"])
    return [
        "**On few images.** A bound that shortens what is stable would cost most where there are few steps. So the "
        "runs of `data_scripts/failures.py` were made with it and without it: two domains of ten classes, twenty "
        "training images of each, in batches of 20 at the rates of the first round, for batches of 64, some left alone "
        f"and some spoilt on purpose (`{free.name}`, `{bounded.name}`); one seed, mean test accuracy in percent:",
        markdown(["what was done", "runs", "no bound", "`polyak 4`", "change"], zip(*rows, strict=True)),
        f"`madlab diagnose`, whose limits were chosen on runs without a bound, is {_diagnosed(before)} of all "
        f"{len(before)}, those without an accuracy among them, and with the bound {_diagnosed(after)}; a fault "
        "that does no harm any more counts as none.",
        "Four is what plain gradient descent allows on a parabola. But other bounds were tried before, and what they "
        "gave on test images was seen: one times the loss on all these domains, ten with lora:8 on gtsrb. So this "
        "control is no independent test of the four.",
    ]


def _diagnosed(failures: Sequence[Failure]) -> str:
    """How often the diagnosis of a run alone is right, undecided with the cause among what is left, or wrong."""
    counts = Counter[str]()
    for truth, found in verdicts_by_cause(failures, beside=False).items():
        for said, count in found.items():
            counts[outcome(truth, said)] += count
    return f"right about {counts['right']}, undecided about {counts['undecided']} and wrong about {counts['wrong']}"


def _found(record: Recorded) -> dict[str, list[Outcome]]:
    """The runs as they were trained, by the name of their recipe."""
    found = {}
    for wanted, name in RECIPES.items():
        recipes = ((run, run.config.recipe) for run in record.every_run)
        own = outcomes(run for run, recipe in recipes if (recipe.epochs, recipe.coarse, recipe.polyak) == wanted)
        found[name] = [outcome for outcome in own if outcome.bits is None]
    return found


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
