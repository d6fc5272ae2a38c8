"""MAD against its rivals at equal size: the form of MAD that is nearest to what a rival stores, or to its numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from madlab.tables.budgets import with_enough_seeds
from madlab.tables.duels import MEAN, SCORE, UNKNOWN, Duel, Grid, duels

NEAR = 1.25
"""Sizes whose ratio is at most this are called equal."""
NO_RIVALS = ("mad", "frozen", "batchnorm", "finetune")
"""Besides MAD itself those without an adapter, and fine-tuning, whose size no form of MAD comes near."""
Pair = tuple[str, str]
"""A form of MAD and its rival."""


@dataclass(frozen=True)
class EqualDuels:
    """MAD's duels at equal size, as one family for Holm's correction.

    means, scores: of each pair, the highest lead first. at: what is equal ("bytes", "numbers") -> its pairs. without:
    the same -> the rivals that no form of MAD is near.
    """

    means: dict[Pair, Duel]
    scores: dict[Pair, Duel]
    at: dict[str, list[Pair]]
    without: dict[str, list[str]]

    def verdicts(self, what: str) -> str:
        """Whom MAD leads, ties with and loses to where this is equal, as a sentence."""
        return verdicts({named(pair): duel for pair, duel in self.means.items() if pair in self.at[what]})


def equal_duels(grid: Grid, tables: Mapping[str, pd.DataFrame]) -> EqualDuels:
    """MAD against each rival at equal size, all of them as they were trained, not rounded.

    grid: of the outcomes. tables: what is equal -> a table as `stored_forms` makes it, with the sizes as its column
    "size". Who has fewer seeds than others takes no part (`with_enough_seeds`).
    """
    at: dict[str, list[Pair]] = {}
    without: dict[str, list[str]] = {}
    for what, table in tables.items():
        exact = with_enough_seeds(table[table["bits"].isna()])
        sizes = exact[["family", "size"]]
        own = sizes.loc[sizes["family"] == "mad", "size"]
        at[what], without[what] = [], []
        for rival, size in sizes.loc[~sizes["family"].isin(NO_RIVALS), "size"].items():
            apart = (own / size).map(lambda ratio: max(ratio, 1 / ratio))
            if len(own) and apart.min() <= NEAR:
                at[what].append((str(apart.idxmin()), str(rival)))
            else:
                without[what].append(str(rival))
    pairs = list(dict.fromkeys(pair for own in at.values() for pair in own))
    fought = sorted(duels(grid, pairs), key=lambda duel: -duel.difference)
    of_kind = {k: {(duel.first, duel.second): duel for duel in fought if duel.kind == k} for k in (MEAN, SCORE)}
    return EqualDuels(of_kind[MEAN], of_kind[SCORE], at, without)


def named(pair: Pair) -> str:
    """The rival, and in brackets the form of MAD that it meets, unless that is full MAD."""
    mad, rival = pair
    return rival if mad == "mad" else f"{rival} ({mad})"


def verdicts(fought: Mapping[str, Duel]) -> str:
    """Whom MAD leads, ties with and loses to, as a sentence. fought: a rival's name -> the duel with it."""
    names = {v: [n for n, duel in fought.items() if duel.verdict == v] for v in ("leads", "ties", "loses", UNKNOWN)}
    text = "; ".join(f"**{verdict}**: {_listed(names[verdict])}" for verdict in ("leads", "ties", "loses"))
    return f"MAD {text}." + (f" Without an interval: {_listed(names[UNKNOWN])}." if names[UNKNOWN] else "")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "nobody"
