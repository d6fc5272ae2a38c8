"""The rounds of trials that METHODS has its rates from: how many there were, whether equal, and what they chose."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

from fair_grids import DUELS, FIRST_ROUND
from fair_records import counted, listed
from finals import FOUR, LEAST, ranked
from replicates import AGAIN, SEEDS, chosen, places
from tune import KINDS, NEAR, START, WIDE, best_of, edges, family_of, read_trials

from madlab.tables.output import markdown

SECOND_ROUND, REPLICATES = "trials-finals.jsonl", "trials-replicates.jsonl"
TRIALS = 1 + WIDE + NEAR
"""That every family gets at least, in the first round; LEAST in the second, AGAIN replicates."""
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
        return best | {family: chosen(own)[0] for family, own in self._replicated.items()}

    @cached_property
    def _replicated(self) -> Lines:
        """The families that have all replicates of what is now the best of their second round."""
        full = {family: own for family, own in self.replicates.items() if len(own) == AGAIN}
        return {
            family: own
            for family, own in full.items()
            if [line["rates"] for line in own[:FOUR]] == ranked(self.second[family])[:FOUR]
        }

    def told(self) -> list[str]:
        """The paragraphs about them on the page of the fair table."""
        rounds = ((self.first, TRIALS), (self.second, LEAST), (self.replicates, AGAIN))
        files = (FIRST_ROUND.name, SECOND_ROUND, REPLICATES)
        counts = [_count(lines, file, least) for (lines, least), file in zip(rounds, files, strict=True)]
        parts = [
            "**Trials.** Rates of adapter, BatchNorm and head are tried together, on validation images of two domains, "
            f"for each of {len(START)} methods and families of ranks; the ranks of a family have its rates. The first "
            f"round (`data_scripts/tune.py`) has at least {TRIALS} places with the earlier recipe, small images "
            "first: the rates that the family had before, places spread at random over a wide cube around them, and "
            f"some around the best of these: {counts[0]}. The second (`data_scripts/finals.py`) has the best {FOUR} of "
            "the first again, with today's recipe, and then pairs: all rates lower and higher than the best so far or, "
            f"where that moved it, further on in that direction: {counts[1]}. The third (`data_scripts/replicates.py`) "
            f"has the best {FOUR} of the second with {len(SEEDS)} more seeds: {counts[2]}.",
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
        heads = ["family", "best of the first round", "of the second", "%", "%, new seeds", "chosen", "chosen, %"]
        return [
            "Rates of adapter, BatchNorm and head, and mean accuracies on validation images with today's recipe:",
            markdown(heads, zip(*rows, strict=True)),
            *self._flattered(),
            "In the pairs of the second round all three rates move together, few images and epochs may favour other "
            "rates than many, and the ranks of MAD are several families, where a rival has one.",
        ]

    def _flattered(self) -> list[str]:
        """What the new seeds say of the best of the second round."""
        if not self._replicated:
            return []
        best = {family: best_of_second(self.second[family])["mean"] for family in self._replicated}
        lost = fmean(mean - self._again(family) for family, mean in best.items())
        error = fmean(_error(own) for own in self._replicated.values())
        return [
            "One seed flatters the best of many places: with the new seeds those of the second round have "
            f"{lost:.1f} points less, on average. The new ones alone choose among the {FOUR}. Which images validate is "
            f"chance, too: as a share of so many a mean has a standard error of about {error:.1f} points, so that the "
            "choice may be one of several that do as well."
        ]

    def _row(self, family: str) -> tuple[str, ...]:
        best = best_of_second(self.second[family])
        row = (family, _rates(self.of_first[family]), _rates(best["rates"]), f"{best['mean']:.1f}")
        if family not in self._replicated:
            return (*row, "–", _rates(self.of_last[family]), "–")
        rates, mean = chosen(self._replicated[family])
        return (*row, f"{self._again(family):.1f}", _rates(rates), f"{mean:.1f}")

    def _again(self, family: str) -> float:
        """What the best of the second round has with the new seeds, in percent."""
        rates = best_of_second(self.second[family])["rates"]
        return next(mean for place, mean in places(self._replicated[family]) if place == rates)


def best_of_second(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """The line of a family with the highest mean."""
    return max(lines, key=lambda line: float(line["mean"]))


def _error(lines: list[dict[str, Any]]) -> float:
    """The standard error, in points, of the mean accuracy at a family's choice, as that of shares of its images."""
    rates, _ = chosen(lines)
    own = [line for line in lines if line["rates"] == rates]
    images = own[0]["val_images"]
    shares = {domain: fmean(line["val_accuracy"][domain] for line in own) for domain in images}
    return float(sum(p * (100 - p) / images[domain] for domain, p in shares.items()) ** 0.5 / len(shares))


def _rates(rates: dict[str, float]) -> str:
    return ", ".join(f"{rates[kind]:g}" for kind in KINDS)


def _count(lines: Lines, file: str, least: int) -> str:
    """How many trials a round has had, and whether every family had as many."""
    number = sum(map(len, lines.values()))
    text = f"{counted(number, 'trial')} {'is' if number == 1 else 'are'} in `madlab/records/{file}`"
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
