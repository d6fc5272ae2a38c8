"""The rounds of trials that METHODS has its rates from: how many there were, whether equal, and what they chose."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

from fair_grids import DUELS, FIRST_ROUND
from fair_records import counted, listed
from finals import FOUR, LEAST
from replicates import SEEDS, chosen, means, standard_error
from tune import KINDS, NEAR, START, WIDE, best_of, edges, family_of, read_trials

from madlab.tables.output import markdown

SECOND_ROUND, REPLICATES = "trials-finals.jsonl", "trials-replicates.jsonl"
TRIALS = 1 + WIDE + NEAR
"""That every family gets at least, in the first round; LEAST in the second."""
AGAIN = FOUR * len(SEEDS)
"""Replicates of every family."""
Lines = dict[str, list[dict[str, Any]]]
"""Family -> its trials."""


@dataclass(frozen=True)
class Rounds:
    """The rounds of trials in a folder of records; each has all families of tune.START."""

    first: Lines
    second: Lines
    replicates: Lines

    @classmethod
    def read(cls, folder: Path) -> "Rounds":
        """From the files that there are."""
        return cls(*(_lines(folder / name) for name in (FIRST_ROUND.name, SECOND_ROUND, REPLICATES)))

    @cached_property
    def of_first(self) -> dict[str, dict[str, float]]:
        """Family -> its best rates in the first round."""
        return {family: best_of(own) for family, own in self.first.items() if own}

    @cached_property
    def of_last(self) -> dict[str, dict[str, float]]:
        """Family -> the rates that it has from the last round that it took part in."""
        best = self.of_first | {family: best_of(own) for family, own in self.second.items() if own}
        again = {family: own for family, own in self.replicates.items() if own}
        return best | {family: chosen(self.second[family], own)[0] for family, own in again.items()}

    def told(self) -> list[str]:
        """The paragraphs about them on the page of the fair table."""
        rounds = ((self.first, TRIALS), (self.second, LEAST), (self.replicates, AGAIN))
        files = (FIRST_ROUND.name, SECOND_ROUND, REPLICATES)
        counts = [_count(lines, file, least) for (lines, least), file in zip(rounds, files, strict=True)]
        parts = [
            "**Trials.** Rates of adapter, BatchNorm and head are tried together, on validation images of two domains, "
            f"for each of {len(START)} methods and families of ranks; the ranks of a family have its rates. The first "
            f"round (`data_scripts/tune.py`) has at least {TRIALS} places at random with the earlier recipe, small "
            f"images first: {counts[0]}. The second (`data_scripts/finals.py`) has the best {FOUR} of the first again, "
            "with today's recipe, and then pairs: all rates lower and higher than the best so far or, where that moved "
            f"it, further on in that direction: {counts[1]}. The third (`data_scripts/replicates.py`) has the best "
            f"{FOUR} of the second with {len(SEEDS)} more seeds: {counts[2]}.",
        ]
        for lines, least in rounds:
            if any(lines.values()) and not equal_trials(lines, START, least):
                parts.append(_counts({family: len(own) for family, own in lines.items()}))
        if any(self.second.values()):
            parts += self._choice()
        tried = {family: [*own, *self.second[family]] for family, own in self.first.items()}
        at_edge = [family for family, own in tried.items() if own and edges(own, self.of_last[family])]
        if at_edge:
            parts.append(f"Of {listed(at_edge)} the chosen rates lie at the edge of what was tried.")
        return parts

    def _choice(self) -> list[str]:
        """What the later rounds made of the best rates of the first."""
        rows = [self._row(family) for family, own in self.second.items() if own]
        error = fmean(standard_error([max(own, key=_mean)]) for own in self.second.values() if own)
        heads = ["family", "best of the first round", "of the second", "%", "%, 3 seeds", "chosen", "%, 3 seeds"]
        return [
            "Rates of adapter, BatchNorm and head, and mean accuracies on validation images with today's recipe. The "
            "best of twelve places by one seed is flattered by chance; with two more seeds much less so. Of places "
            f"within one standard error of a family's best, about {error:.1f} points, the one with the lowest rates is "
            "chosen (Breiman et al., 1984): one that is too high fails where images are few. In the pairs all three "
            "rates move together, and the ranks of MAD are several families, where a rival has one:",
            markdown(heads, zip(*rows, strict=True)),
        ]

    def _row(self, family: str) -> tuple[str, ...]:
        best = max(self.second[family], key=_mean)
        row = (family, _rates(self.of_first[family]), _rates(best["rates"]), f"{best['mean']:.1f}")
        if not self.replicates[family]:
            return (*row, "–", _rates(self.of_last[family]), "–")
        again = (self.second[family], self.replicates[family])
        rates, mean = chosen(*again)
        of_best = next(own for place, own in means(*again) if place == best["rates"])
        return (*row, f"{of_best:.1f}", _rates(rates), f"{mean:.1f}")


def _mean(line: dict[str, Any]) -> float:
    return float(line["mean"])


def _rates(rates: dict[str, float]) -> str:
    return ", ".join(f"{rates[kind]:g}" for kind in KINDS)


def _count(lines: Lines, file: str, least: int) -> str:
    """How many trials a round has had, and whether every family had as many."""
    text = f"{counted(sum(map(len, lines.values())), 'trial')} are in `madlab/records/{file}`"
    if equal := equal_trials(lines, START, least):
        return f"{text}, **{equal} for every one of them**"
    if duels := equal_trials(lines, duel_families(), least):
        return f"{text}, **{duels} for every row that takes part in duels**, and not yet as many for the others"
    return f"{text}, so that **they are not equal yet**"


def _lines(file: Path) -> Lines:
    every = read_trials(file)
    return {family: [line for line in every if line["family"] == family] for family in START}


def equal_trials(lines: Lines, families: Iterable[str], least: int = TRIALS) -> int:
    """How many trials each of some families has had; 0 if some had more than others, or fewer than `least`."""
    counts = {len(lines[family]) for family in families}
    return counts.pop() if len(counts) == 1 and min(counts) >= least else 0


def duels_tried(file: Path, least: int = TRIALS) -> int:
    """How many trials every row of the duels has had in a round; 0 if they are not equal."""
    return equal_trials(_lines(file), duel_families(), least)


def duel_families() -> set[str]:
    """The families of the rows that take part in duels."""
    return {family for method in DUELS if (family := family_of(method)) is not None}


def _counts(counts: dict[str, int]) -> str:
    by_count = sorted(set(counts.values()), reverse=True)
    families = [listed(family for family, own in counts.items() if own == count) for count in by_count]
    return markdown(["trials", "families"], [[str(count) for count in by_count], families])
