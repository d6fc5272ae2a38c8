"""Runs that end below frozen features, and runs that failed: the part of the fair table's page on harm done."""

from collections.abc import Mapping, Sequence

from fair_records import Recorded, counted, listed

from madlab.tables.duel_report import difference
from madlab.tables.duels import DOMAIN, Duel, duels, grid_of
from madlab.tables.outcomes import Outcome
from madlab.tables.output import markdown

Key = tuple[str, str, int]
"""Method, domain and seed."""
Floors = tuple[dict[Key, Outcome], dict[Key, Outcome], set[Key]]
"""Runs as they were trained, `frozen` on the same domain with the same seed for all others, and who is below that."""
FAILED = 10.0
"""Points below BatchNorm alone, from which on a run is listed as one in which the adapter did harm."""
MOST_NAMED = 12


def below_frozen(records: Sequence[Recorded]) -> list[str]:
    """Which runs end below frozen features on the same domain with the same seed."""
    found, pairs, below = _floors(records)
    if not pairs:
        return [records[0].not_yet()]
    parts = [
        "A training that ends below a linear head on frozen features has done harm, unless chance put it there. Below "
        f"are {len(below)} of {counted(len(pairs), 'run')}, each compared with `frozen` on the same domain with the "
        "same seed.",
        *_of_recipe(records),
        *_failed(found, any(one.unsteered for one in records)),
        _kept(found, pairs),
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


def carried_over(one: Recorded, tried: Recorded) -> list[str]:
    """What to know of a table whose base network is not that of the trials; nothing if it is."""
    if not (one.ready and tried.ready):
        return []
    here, there = (recorded.runs[0].result.base.name for recorded in (one, tried))
    if here == there:
        return []
    found, pairs, below = _floors([one])
    return [
        f"**The rates were tried on {there}** (above) and none on {here}, for no method: a row here says how its rates "
        "carry over to another network as much as what the method can do. Of "
        f"{counted(len(pairs), 'run')} {len(below)} end below frozen features. {_kept(found, pairs)}",
        *_of_recipe([one]),
        *_failed(found, one.unsteered),
    ]


def _of_recipe(records: Sequence[Recorded]) -> list[str]:
    """What else than its method can have put a run below frozen features."""
    if not any(one.unsteered for one in records):
        return []
    return [
        "These runs have an earlier recipe, small images first and steps of any length, which costs whatever is "
        "trained some points, and frozen features, whose head is fitted on whole images, none (*What the recipe "
        "costs*). Part of the harm is the recipe's."
    ]


def _floors(records: Sequence[Recorded]) -> Floors:
    found = {(o.method, o.domain, o.seed): o for one in records for o in one.found if o.bits is None}
    pairs = {key: found["frozen", *key[1:]] for key in found if key[0] != "frozen" and ("frozen", *key[1:]) in found}
    below = {key for key, floor in pairs.items() if found[key].test_accuracy < floor.test_accuracy}
    return found, pairs, below


def _star(duel: Duel) -> str:
    return " *" if duel.verdict == "loses" else ""


def _kept(found: Mapping[Key, Outcome], pairs: Mapping[Key, Outcome]) -> str:
    """What keeping frozen features wherever they are better on validation would change on test images."""
    better = {k for k, floor in pairs.items() if (found[k].val_accuracy or 0.0) > (floor.val_accuracy or 0.0)}
    gains = {k: floor.test_accuracy - found[k].test_accuracy for k, floor in pairs.items()}
    changed = [gains[key] for key in pairs if key not in better]
    left = [gains[key] for key in better if gains[key] > 0]
    text = (
        "**A safeguard:** fit frozen features as well, which takes seconds, and keep them where the training is not "
        f"better on validation. That would be so for {len(changed)} of these runs"
    )
    if changed:
        more, less = (sum(sign * gain > 0 for gain in changed) for sign in (1, -1))
        mean = sum(changed) / len(changed)
        worth = "it helps" if mean > 0 else "it costs more than it saves"
        text += f", {more} of them better on test images and {less} worse, {mean:+.1f} points on average: {worth}"
    if not left:
        return f"{text}. Of the others none is below frozen features on test images."
    return f"{text}. Of the others {len(left)} would still be below on test images, by {max(left):.1f} points at most."


def _failed(found: Mapping[Key, Outcome], unsteered: bool) -> list[str]:
    """A sentence on the runs that are far below BatchNorm alone, if there are any; unsteered: as `Recorded` has it."""
    far = [f"{m} on {d} ({gap:+.1f}, seed {s})" for (m, d, s), gap in failures(found).items()]
    if not far:
        return []
    if len(far) > MOST_NAMED:
        far = [*far[:MOST_NAMED], f"and {len(far) - MOST_NAMED} others"]
    or_steps = (
        " Or single steps were too long: at the same rates some such runs do not fail with a bound (*What the recipe "
        "costs*)."
    )
    return [
        f"{FAILED:.0f} points or more below BatchNorm alone, so that the adapter itself did harm: {listed(far)}. Rates "
        "were tried on at most 540 training images per domain; for more images, in more steps, they may be too high."
        + or_steps
        * unsteered
    ]


def failures(found: Mapping[Key, Outcome]) -> dict[Key, float]:
    """Runs that are far below BatchNorm alone, and by how many points (negative)."""
    gaps = {
        key: one.test_accuracy - found["batchnorm", *key[1:]].test_accuracy
        for key, one in found.items()
        if key[0] != "frozen" and ("batchnorm", *key[1:]) in found
    }
    return {key: gap for key, gap in gaps.items() if gap <= -FAILED}
