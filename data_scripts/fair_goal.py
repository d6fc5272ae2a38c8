"""The goal of the fair table in bytes: a whole domain in 20 kB, its head apart, and what that loses."""

from collections.abc import Mapping
from dataclasses import replace

import pandas as pd
from fair_records import Recorded, counted

from madlab.tables.budgets import best_forms, stored_forms
from madlab.tables.duel_report import bases_of, difference
from madlab.tables.duels import MEAN, Duel, Grid, duels, grid_of
from madlab.tables.outcomes import Outcome, outcomes
from madlab.tables.output import markdown
from madlab.tables.report import kilobytes

IN_TRAINING = ", in training"
SAME = "mad in 8 bits"
"""Full MAD with statistics that were measured anew, as those of all rounded forms."""
GOAL, LOSS = 20, 1.0
"""Kilobytes that a domain may take, and points of mean accuracy that it may lose against exact full MAD."""


def smallest_domain(one: Recorded, finished: Recorded) -> list[str]:
    """Whether a stored domain of at most GOAL kB loses at most LOSS points against full MAD, and if not, why not.

    finished: runs of MAD that were rounded while they trained.
    """
    while_trained, seeds = _rounded_in_training(finished, one), {run.result.seed for run in finished.every_run}
    found = [*(own for own in one.found if not seeds or own.seed in seeds), *while_trained]
    grid, forms = grid_of(found), stored_forms(found)
    own = forms[forms["family"] == "mad"] if one.ready else forms
    goal = (
        f"The goal: all that is stored for a domain, its head apart, in at most {GOAL} kB, with at most {LOSS:.0f} "
        "point lost against full MAD in exact numbers, as a mean over the domains."
    )
    if "mad" not in own.index:
        return [goal, one.not_yet()]
    rounded = own[own["bits"].notna()].sort_values("stored", kind="stable")
    if rounded.empty:
        return [goal, "No run was measured in fewer bits yet."]
    front = rounded[rounded["validation"] > rounded["validation"].cummax().shift(fill_value=0)]
    in_training = rounded.index[rounded.index.str.endswith(IN_TRAINING)]
    shown = list(dict.fromkeys([*front.index, *in_training, *filter(None, [_within_goal(own)])]))
    lost = {duel.first: duel for duel in duels(grid, [(form, "mad") for form in shown]) if duel.kind == MEAN}
    parts = [
        goal,
        *one.so_far(),
        "Forms of MAD that are better on validation than every smaller one, and those that were rounded while they "
        "trained (`finish_bits`, straight through, in the last fifth of the epochs). Adapter and norms are means over "
        "the domains; what counts is the most that a domain takes. "
        + ("All are of the seeds that those have:" if one.seeds > len(seeds) > 0 else "All have the same seeds:"),
        _sizes_and_losses(own.loc[shown].sort_values("stored"), lost),
    ]
    if finished.missing:
        there = f"{finished.there:,} of {counted(finished.planned.total(), 'run')}"
        parts.append(f"Of those that are rounded while they train there are {there}.")
    parts += _reached(one.where, grid, forms, lost)
    return [*parts, f"The intervals come from {bases_of(list(lost.values()))}."]


def _between(grid: Grid, first: str, second: str) -> Duel:
    (duel,) = (duel for duel in duels(grid, [(first, second)]) if duel.kind == MEAN)
    return duel


def _measured_alike(grid: Grid, form: str, lost: Mapping[str, Duel]) -> tuple[Duel, str] | None:
    """The form against full MAD with statistics of the same kind, and what to say of that; None if there is none."""
    if SAME not in grid or form == SAME:
        return None
    fresh, duel = lost.get(SAME) or _between(grid, SAME, "mad"), _between(grid, form, SAME)
    return duel, (
        "Rounded forms have BatchNorm statistics that were measured anew, and exact numbers have those of training: "
        f"{SAME}, which should lose nothing, is {difference(fresh, 2)} from them. Against {SAME}, whose statistics are "
        f"measured alike, {form} is {difference(duel, 2)} points; the verdict is the weaker one of the two."
    )


def _rounded_in_training(finished: Recorded, one: Recorded) -> list[Outcome]:
    """Their outcomes under names of their own, on the domains of the other record."""
    return [
        replace(outcome, method=f"{run.method} in {bits} bits{IN_TRAINING}", bits=bits)
        for run, outcome in zip(finished.every_run, outcomes(finished.every_run), strict=True)
        if (bits := run.config.recipe.finish_bits) is not None and outcome.domain in one.whole_domains
    ]


def _within_goal(own: pd.DataFrame) -> str | None:
    return best_forms(own, GOAL).get("mad")


def _sizes_and_losses(forms: pd.DataFrame, lost: Mapping[str, Duel]) -> str:
    return markdown(
        ["form", "adapter kB", "norms kB", "at most, kB", "points against full MAD"],
        [
            forms.index,
            forms["adapter_bytes"].map(kilobytes),
            forms["norm_bytes"].map(kilobytes),
            forms["stored"].map(kilobytes),
            [difference(lost[str(form)], 2) for form in forms.index],
        ],
    )


def _reached(where: str, grid: Grid, forms: pd.DataFrame, lost: Mapping[str, Duel]) -> list[str]:
    """Whether the goal is reached, what the chosen form loses by its form and by its rounding, and what would do."""
    own = forms[forms["family"] == "mad"]
    form = _within_goal(own)
    if form is None:
        least = own["stored"].idxmin()
        size, norms = (kilobytes(own.loc[least, column]) for column in ("stored", "norm_bytes"))
        return [f"**Not reached:** the smallest form, {least}, takes {size} kB, of which {norms} are norms."]
    duel, alike = lost[form], _measured_alike(grid, form, lost)
    weaker = min([duel, *([] if alike is None else [alike[0]])], key=lambda one: VERDICTS.index(_judged(one)))
    parts = [
        f"**{_judged(weaker)}** On {where} the best on validation within {GOAL} kB is {form}: "
        f"{difference(duel, 2)} points against full MAD."
    ]
    if alike is not None:
        parts.append(alike[1])
    exact = form.partition(" in ")[0]
    if exact != "mad" and form != exact and exact in own.index:
        pairs = [(exact, "mad"), (form, exact)]
        by_form, by_rounding = (duel for duel in duels(grid, pairs) if duel.kind == MEAN)
        parts.append(
            f"Before it is rounded, {exact} is {difference(by_form, 2)} points from full MAD; rounding it and folding "
            f"its norms changes that by {difference(by_rounding, 2)}."
        )
    if duel.difference < -LOSS:
        parts.append(_in_the_way(own, lost))
    rivals = {family: found for family, found in best_forms(forms, GOAL).items() if family != "mad"}
    if rivals:
        best = max(rivals.values(), key=lambda name: float(forms.loc[name, "validation"]))
        (against,) = (d for d in duels(grid, [(best, "mad")]) if d.kind == MEAN)
        parts.append(f"The best of the other methods within {GOAL} kB is {best}: {difference(against, 2)} points.")
    return parts


VERDICTS = (
    "Not reached, beyond doubt.",
    "Not reached.",
    "Not reached, but the interval holds both.",
    "Reached, but the interval holds both.",
    "Reached.",
    "Reached, beyond doubt.",
)
"""From the worst to the best."""


def _judged(duel: Duel) -> str:
    reached = duel.difference >= -LOSS
    if duel.interval is None:
        return VERDICTS[4 if reached else 1]
    if duel.interval.low >= -LOSS or duel.interval.high < -LOSS:
        return VERDICTS[5 if reached else 0]
    return VERDICTS[3 if reached else 2]


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
