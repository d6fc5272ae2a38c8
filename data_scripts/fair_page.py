"""The page of the fair table, its pictures and the README's table, all of them from the records.

    python data_scripts/fair_table.py --data data --out runs/fair --fold   # finished runs -> records
    python data_scripts/fair_page.py                                       # records -> page, pictures, README

It writes notebooks/site/fair_table.md, the pictures static/fair-*.svg beside it, and what stands between two marks in
the README. Every number and verdict is computed, and what is still missing is counted, so that the page is true of
whatever the records hold; tests/data_scripts/test_fair_page.py makes it again and compares.
"""

import argparse
import re
import sys
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from textwrap import fill

from fair_care import care, completeness
from fair_floors import below_frozen, carried_over
from fair_goal import smallest_domain
from fair_rates import rank_or_rates
from fair_recipe import caution, cost_of_recipe, few_images
from fair_records import Recorded, listed, seeds_told
from fair_sections import accuracy, duels_of_mad, epochs
from fair_trials import REPLICATES, SECOND_ROUND, TRIALS, duels_tried
from finals import LEAST

from madlab.errors import MadlabError
from madlab.files.plain import write_bytes
from madlab.runs.record import RECORDS
from madlab.tables.budgets import BUDGETS
from madlab.tables.duel_report import difference
from madlab.tables.duels import MEAN, UNKNOWN, Duel, duels
from madlab.tables.equal_size import Pair, named
from madlab.tables.output import markdown
from madlab.tables.report import collect, kilobytes, with_spreads

ROOT = Path(__file__).parents[1]
SITE = ROOT / "notebooks" / "site"
NINE, FIVE, RECIPE, BOUNDED = "fair-decathlon", "fair-sketch", "fair-recipe", "fair-bounded"
NEW_NINE, NEW_FIVE = "fair-bounded-nine", "fair-bounded-five"
TOLD = {
    NINE: "the nine domains (earlier recipe)",
    FIVE: "the five domains (earlier recipe)",
    "fair-epochs": "the study of epochs",
    "fair-goal": "the nine domains, rounded in training",
    "fair-rates": "the nine domains, with the rates of other ranks",
    RECIPE: "the control of the recipe",
    BOUNDED: "the five mixed domains",
    NEW_FIVE: "the five domains",
    NEW_NINE: "the nine domains",
    "fair-densenet": "the five domains with the DenseNet",
    "fair-full-width": "the nine domains at full width",
}
BEGIN, END = "<!-- the fair table: data_scripts/fair_page.py writes it -->", "<!-- end of the fair table -->"
ROWS = ("frozen", "batchnorm", "mad:8", "piggyback", "wtpb", "lora:8", "mad", "parallel", "finetune")
"""Of the README's table, each as it was trained and rounded."""
ROUNDED = 4
"""Bits per number of its rounded forms."""
OPENING = """\
Where does MAD lead, tie and lose, at equal bytes and at equal numbers? No number or verdict here is typed by hand:
`python data_scripts/fair_page.py` prints it, with its pictures, from the runs in `madlab/records`, and says what is not
there yet. A difference is called a lead only where its interval of 95 % says so, after Holm's correction. "Beyond
doubt" means the same: beyond what the intervals hold, which with one seed is test images alone."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=Path, default=RECORDS, help="the folder of the records")
    parser.add_argument(
        "--site", type=Path, default=SITE, help="where fair_table.md goes, and static/ with its pictures"
    )
    parser.add_argument("--readme", type=Path, default=ROOT / "README.md", help="whose table is renewed")
    args = parser.parse_args()
    try:
        write_page(args)
    except MadlabError as error:
        sys.exit(f"fair_page: {error}")


def write_page(args: argparse.Namespace) -> None:
    """Page, pictures and the README's part. Raises MadlabError for a damaged record."""
    found = {name: Recorded(args.records / f"{name}.jsonl", told) for name, told in TOLD.items()}
    text, pictures = page(found)
    static = args.site / "static"
    for name, data in pictures.items():
        write_bytes(static / name, data)
    write_bytes(args.site / "fair_table.md", text.encode())
    for old in static.glob("fair-*.svg"):
        if old.name not in pictures:
            old.unlink()
    before, rest = args.readme.read_text("utf-8").split(BEGIN)
    _, after = rest.split(END)
    old = found[NINE], found[FIVE]
    new = found[NEW_NINE], found[NEW_FIVE]
    if not all(one.on_every_domain for one in new):
        short = in_short(*old, caution(found[RECIPE], found[BOUNDED]))
    else:
        short = in_short(*new, more_seeds(new, old))
    write_bytes(args.readme, f"{before}{BEGIN}\n{short}\n{END}{after}".encode())


def page(found: dict[str, Recorded]) -> tuple[str, dict[str, bytes]]:
    """The page as Markdown, and its pictures by their names."""
    nine, five, study, goal, swapped, recipe, bounded, new_five, new_nine, *others = found.values()
    trials = nine.file.with_name("trials.jsonl")
    pictures: dict[str, bytes] = {}
    parts = ["# The fair table", OPENING]
    # The five mixed domains are in the nine or in the five, and stand for them until these are whole.
    own = [one for one in (new_nine, new_five) if one.on_every_domain] or [bounded]
    parts += [_answer(one) for one in own if one.on_every_domain]
    parts += [*(_answer(one) for one in (nine, five) if one.ready), *caution(recipe, bounded)]
    parts += ["## What was compared, and how equal", *care([nine, five], list(found.values()))]
    parts += ["### What is there, and what is missing", *completeness(list(found.values()))]
    parts += ["## What the recipe costs", *cost_of_recipe(recipe)]
    parts += few_images(*(nine.file.with_name(f"failures-bound-{bound}.jsonl") for bound in (0, 4)))
    for one in (*own, nine, five):
        parts += [f"## {_heading(one)}", *accuracy(one, pictures)]
        parts += [f"### MAD against its rivals on {one.told}", *duels_of_mad(one)]
    parts += ["## A domain in 20 kB", *smallest_domain(new_nine, goal)]
    parts += ["## Rank or rates?", *rank_or_rates(new_nine, swapped)]
    parts += ["## Runs below frozen features", *below_frozen([nine, five])]
    for one in own:
        parts += [f"### On {one.told}", *below_frozen([one])]
    parts += ["## How many epochs are enough", *epochs(study)]
    for one in others:
        parts += [f"## {_heading(one)}", *carried_over(one, nine), *accuracy(one, pictures)]
        if one.ready:
            parts += [f"### MAD against its rivals on {one.told}", *duels_of_mad(one)]
    parts += ["## How to repeat it", _repeat(trials)]
    return "\n\n".join(_wrapped(part) for part in parts) + "\n", pictures


def in_short(nine: Recorded, five: Recorded, warned: list[str]) -> str:
    """The README's table of some methods, what the duels at equal bytes say, and what to know of that (warned)."""
    if not (nine.ready and five.ready):
        return "The fair table is not complete: `notebooks/site/fair_table.md` says what is missing."
    tables = [collect(one.runs, rounded=True)[0] for one in (nine, five)]
    rows = [row for row in ROWS if all(row in table.whole.index for table in tables)]
    columns = [rows, tables[0].methods.loc[rows, "parameters"].map("{:,.0f}".format)]
    for forms in (rows, [_rounded(row, nine.forms.index) for row in rows]):
        chosen = [table.methods.reindex(forms) for table in tables]  # not every form need have been measured
        stored = [one.forms["stored"].reindex(forms) for one in (nine, five)]
        columns.append(stored[0].combine(stored[1], max).map(kilobytes))
        columns += [with_spreads(own["mean"], own["mean_std"], 1) for own in chosen]
    over = seeds_told((nine, five))
    if max(nine.seeds, five.seeds) > 1:
        over += ", ± the standard deviation over them"
    what = (
        f"Test accuracy in percent at 32 pixels, on small sets in place of the benchmarks' (the decathlon's: "
        f"{nine.where}; Sketch's: {five.where}), "
        f"`pocket-resnet26`, {nine.runs[0].result.epochs} epochs, {over}; kB of adapter and norms, at most. Rounded: "
        f"the same runs, adapters in {ROUNDED} bits, masks coded, norms folded in 8, "
        "BatchNorm's statistics measured anew"
    )
    if not duels_tried(nine.file.with_name("trials.jsonl")):
        what += "; trials of rates are not equal yet"
    said = _counts((nine, five))
    at_bytes = [f"On {one.where}: {one.equal_sizes.verdicts('bytes')}" for one in (nine, five)]
    said.append(f"As trained, at equal bytes (the form of MAD in brackets is as large). {' '.join(at_bytes)}")
    said.append(_behind_copies((nine, five)))
    heads = [f"{head}{form}" for form in ("", ", rounded") for head in ("kB", "nine", "five")]
    table = markdown(["method", "parameters", *heads], columns)
    return "\n\n".join([_wrapped(f"{what}:"), table, _wrapped(" ".join([*said, *warned]))])


def _counts(records: Sequence[Recorded]) -> list[str]:
    """How many rivals MAD leads, ties with and loses to within the same kilobytes."""
    if not (rows := _by_budget(records)):
        return []
    return [
        "**Within the same kilobytes**, rounded forms too, MAD leads/ties/loses against the trained "
        "adapters that fit, on "
        f"{' and on '.join(one.where for one in records)}: {', '.join(rows)}."
    ]


def _by_budget(records: Sequence[Recorded]) -> list[str]:
    """Of each budget the numbers of leads, ties and losses."""
    rows = []
    for size in BUDGETS:
        own = [[duel.verdict for duel in one.against_adapters.get(size, {}).values()] for one in records]
        if all(own):
            counts = ("/".join(str(found.count(v)) for v in ("leads", "ties", "loses")) for found in own)
            rows.append(f"{size} kB {' and '.join(counts)}")
    return rows


def _behind_copies(records: Sequence[Recorded]) -> str:
    """How much a copy of the network stores, as a multiple of full MAD, and how many points full MAD is from it."""
    stored = records[0].forms["stored"]
    fought = [(duel, one.where) for one in records for duel in duels(one.grid, [("mad", "finetune")])]
    points = [f"{difference(duel, 1)} on {where}" for duel, where in fought if duel.kind == MEAN]
    return (
        f"Full MAD's distance from fine-tuning, {stored['finetune'] / stored['mad']:.0f} times its size: "
        f"{listed(points)}."
    )


def more_seeds(new: Sequence[Recorded], earlier: Sequence[Recorded]) -> list[str]:
    """What to know of verdicts with few seeds: which are others with the earlier recipe, where there are more seeds."""
    ready = [(one, other) for one, other in zip(new, earlier, strict=True) if other.ready]
    seeds = max((other.seeds for _, other in ready), default=1)
    fewest = min(one.seeds for one in new)
    if seeds <= fewest:
        return []
    said = []
    for one, other in ready:
        now, then = ({named(pair): duel.verdict for pair, duel in _at_bytes(found)} for found in (one, other))
        changed = [f"{rival} ({verdict})" for rival, verdict in then.items() if now.get(rival) != verdict]
        said += [f"on {one.where}, {listed(changed)}"] if changed else []
    told = seeds_told(new)
    alone = ", and" if told == "one seed" else "; with one, they have"
    alone = f"{alone} intervals of test images alone" if fewest == 1 else ""
    within = _by_budget([other for _, other in ready])
    told_within = f" Within the same kilobytes: {', '.join(within)}." if within else ""
    return [
        f"**These runs have {told}**{alone}. With {seeds} seeds and an earlier recipe these verdicts at "
        f"equal bytes differ: {'; '.join(said) or 'none'}.{told_within}"
    ]


def _at_bytes(one: Recorded) -> list[tuple[Pair, Duel]]:
    found = one.equal_sizes
    return [(pair, found.means[pair]) for pair in found.at["bytes"]]


def _rounded(method: str, forms: Container[str]) -> str:
    """The rounded form that the README shows of a method, and where it was not recorded, that in 8 bits."""
    name = f"{method} in {ROUNDED} bits"
    return name if name in forms else f"{method} in 8 bits"


def _answer(one: Recorded) -> str:
    so_far = f" ({one.there:,} of {one.planned.total():,} runs so far)" if one.missing else ""
    parts = [f"**On {one.where}**{so_far}: at equal bytes, as they were trained, {one.equal_sizes.verdicts('bytes')}"]
    if one.against_adapters:
        within = [f"in {size} kB {_kept_apart(found)}" for size, found in one.against_adapters.items()]
        parts.append(f"Within the same kilobytes, rounded forms too, MAD leads {'; '.join(within)} of the adapters.")
    return " ".join(parts)


def _kept_apart(found: Mapping[str, Duel]) -> str:
    """Of how many rivals MAD leads how many, and with whom it ties or to whom it loses."""
    by_verdict: dict[str, list[str]] = {}
    for rival, duel in found.items():
        by_verdict.setdefault(duel.verdict, []).append(rival)
    others = [
        f"{words} {listed(by_verdict[verdict])}"
        for verdict, words in (("ties", "ties with"), ("loses", "loses to"), (UNKNOWN, "without an interval"))
        if verdict in by_verdict
    ]
    told = f"{len(by_verdict.get('leads', []))} of {len(found)}"
    return told + (f" ({'; '.join(others)})" if others else "")


def _repeat(trials: Path) -> str:
    """The commands. trials: the file of the first round."""
    rounds = ((trials, TRIALS), (trials.with_name(SECOND_ROUND), LEAST))
    beyond = [duels_tried(file, least) - least for file, least in rounds]
    first, second = (f" --more {more}" if more > 0 else "" for more in beyond)
    signs = "--domains data/flowers data/gtsrb --no-flip gtsrb"
    return f"""\
```
python data_scripts/tune.py {signs}{first} --out madlab/records/trials.jsonl
python data_scripts/finals.py {signs}{second} --out madlab/records/{SECOND_ROUND}
python data_scripts/replicates.py {signs} --out madlab/records/{REPLICATES}
python data_scripts/fair_table.py --data data --out runs/fair --workers 2   # --print-plan says what is left
python data_scripts/fair_table.py --data data --out runs/fair --fold        # finished runs -> madlab/records
python data_scripts/fair_page.py                                            # this page, its pictures, README
madlab report madlab/records/fair-decathlon.jsonl                           # every domain of a table
```"""


def _heading(one: Recorded) -> str:
    return one.told[0].upper() + one.told[1:]


def _wrapped(part: str) -> str:
    """A paragraph in lines of at most 120 characters, never broken within code; what is no paragraph stays as it is."""
    if part.startswith(("#", "|", "!", "```")):
        return part
    whole = re.sub(r"`[^`]+`", lambda code: code[0].replace(" ", "\0"), part)
    return fill(whole, 120, break_long_words=False, break_on_hyphens=False).replace("\0", " ")


if __name__ == "__main__":
    main()
