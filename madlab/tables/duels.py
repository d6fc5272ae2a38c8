"""One method against others: differences with their intervals, and what may be called won.

A difference is that of the mean accuracies over the seeds that both methods have. Its interval comes from the best that
was recorded:

    images and seeds   right or wrong is known for every test image: both are drawn again, in pairs (`statistics`)
    images             the same, with a single seed: how another seed would do is not part of it
    seeds              only accuracies are known, of two seeds or more: Student's interval of the differences of seeds,
                       on these very test images
    domains            a mean or S of such domains: Student's interval of the differences of domains, as a sample of
                       all domains that there might be

S is against finetune, whose images and seeds are drawn together with those of the two methods.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from statistics import fmean
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from madlab.benchmarks.score import points
from madlab.errors import MadlabError, some
from madlab.statistics import Interval, bootstrap_interval, holm, resampled_accuracies, t_interval
from madlab.tables.outcomes import Outcome

DOMAIN, MEAN, SCORE = "domain", "mean", "S"
BASELINE = "finetune"
UNKNOWN = "–"
SIGNIFICANT = 0.05
SEED = 0
"""Of the drawn images and seeds, so that a table that is made again is the same."""
FEW_DRAWS = 2000
"""For the bar of a single method in a figure, which decides nothing."""
NEARLY_PERFECT = 99.99
"""Percent; drawn images on which finetune makes no error at all would leave S without a measure."""

Grid = Mapping[str, Mapping[str, Mapping[int, Outcome]]]
"""method -> domain -> seed -> outcome."""


@dataclass(frozen=True)
class Duel:
    """One difference between two methods.

    kind: "domain", "mean" or "S". where: the domain's name, or the kind again. difference: first minus second, in
    points of accuracy or of S. interval: None where it is not known. basis: what it comes from, as the head of this
    file lists them. domains, seeds: how many there are, of seeds the smallest number. adjusted: p after Holm's
    correction over its family, the duels of its kind that are shown together.
    """

    first: str
    second: str
    kind: str
    where: str
    difference: float
    interval: Interval | None
    basis: str
    domains: int
    seeds: int
    adjusted: float | None = None

    @property
    def verdict(self) -> str:
        """Of the first: "leads" or "loses" where that holds after Holm's correction, else "ties"; "–" if unknown."""
        if self.adjusted is None:
            return UNKNOWN
        if self.adjusted >= SIGNIFICANT:
            return "ties"
        return "leads" if self.difference > 0 else "loses"


def grid_of(outcomes: Sequence[Outcome]) -> dict[str, dict[str, dict[int, Outcome]]]:
    """Outcomes of one protocol by method, domain and seed, in their order."""
    grid: dict[str, dict[str, dict[int, Outcome]]] = {}
    for one in outcomes:
        grid.setdefault(one.method, {}).setdefault(one.domain, {})[one.seed] = one
    return grid


def mean_interval(by_domain: Mapping[str, Mapping[int, Outcome]]) -> Interval | None:
    """The mean over domains of a method's test accuracy in percent: from images and seeds, or from seeds alone.

    None where neither are known: right or wrong was not recorded, and there are not the same two seeds on all domains.
    """
    accuracies = [{seed: one.test_accuracy for seed, one in own.items()} for own in by_domain.values()]
    mean = fmean(fmean(own.values()) for own in accuracies)
    if all(_images_of(own, list(own)) for own in by_domain.values()):
        rng, total = np.random.default_rng(SEED), np.zeros(FEW_DRAWS)
        for own in by_domain.values():
            right = np.stack([_known(one.correct) for one in own.values()])
            total += resampled_accuracies([right], rng, FEW_DRAWS)[:, 0]
        return bootstrap_interval(mean, total / len(by_domain))
    if len({tuple(sorted(own)) for own in accuracies}) > 1:
        return None
    return t_interval([fmean(own[seed] for own in accuracies) for seed in accuracies[0]])


def duels(grid: Grid, pairs: Sequence[tuple[str, str]]) -> list[Duel]:
    """The duels of pairs of methods, domain by domain, over the domains that both have, and in S where finetune ran.

    A pair that shares no domain and seed has none. The pairs are one family for Holm's correction. Raises MadlabError
    for a method without runs.
    """
    return Resampling(grid, list(dict.fromkeys(chain(*pairs)))).duels(pairs)


@dataclass(frozen=True, eq=False)
class _Matched:
    """Methods on one domain, over the seeds that all of them have.

    by_seed: (methods, seeds), accuracies in percent. drawn: (methods, draws), or None where images are not known.
    differing: images that the first two do not both get right or both wrong, with any of these seeds.
    """

    by_seed: NDArray[np.float64]
    drawn: NDArray[np.float64] | None
    differing: int = 0

    @property
    def means(self) -> NDArray[np.float64]:
        return self.by_seed.mean(1)

    @property
    def seeds(self) -> int:
        return self.by_seed.shape[1]


class Resampling:
    """Draws images and seeds of a domain once for all duels of some methods, which is quicker than pair by pair.

    Raises MadlabError for a method without runs.
    """

    def __init__(self, grid: Grid, methods: Sequence[str]):
        if unknown := [method for method in methods if method not in grid]:
            raise MadlabError(f"There are no runs of {some(unknown)}; methods with runs: {some(grid, 20)}.")
        self.grid, self.methods = grid, [method for method in dict.fromkeys([*methods, BASELINE]) if method in grid]
        self.drawn: dict[tuple[str, tuple[int, ...], int], dict[str, NDArray[np.float32]]] = {}

    def duels(self, pairs: Sequence[tuple[str, str]]) -> list[Duel]:
        """As the function `duels`, of pairs of these methods."""
        found = [duel for first, second in pairs for duel in _pair(self, first, second)]
        adjusted: dict[int, float] = {}
        for kind in (DOMAIN, MEAN, SCORE):
            p_values = {n: duel.interval.p for n, duel in enumerate(found) if duel.kind == kind and duel.interval}
            adjusted |= dict(zip(p_values, holm(list(p_values.values())), strict=True))
        return [replace(duel, adjusted=adjusted.get(n)) for n, duel in enumerate(found)]

    def match(self, methods: Sequence[str], domain: str) -> _Matched | None:
        """None if the methods have no seed in common on this domain."""
        of_methods = [self.grid.get(method, {}).get(domain, {}) for method in methods]
        seeds = tuple(sorted(set.intersection(*(set(one) for one in of_methods))))
        if not seeds:
            return None
        by_seed = np.array([[one[seed].test_accuracy for seed in seeds] for one in of_methods])
        images = {_images_of(one, seeds) for one in of_methods}
        if len(images) > 1 or images == {0}:
            return _Matched(by_seed, None)
        drawn = self._draw(domain, seeds, images.pop())
        first, second = of_methods[:2]
        differing = np.any([_known(first[seed].correct) != _known(second[seed].correct) for seed in seeds], axis=0)
        in_order = np.stack([drawn[method] for method in methods], dtype=np.float64)
        return _Matched(by_seed, in_order, int(differing.sum()))

    def _draw(self, domain: str, seeds: tuple[int, ...], images: int) -> dict[str, NDArray[np.float32]]:
        """Method -> (draws,), of every method that was tested on this many images with all of these seeds."""
        if (domain, seeds, images) not in self.drawn:
            own = {method: self.grid[method].get(domain, {}) for method in self.methods}
            complete = {method: one for method, one in own.items() if set(seeds) <= one.keys()}
            fitting = {method: one for method, one in complete.items() if _images_of(one, seeds) == images}
            right = [np.stack([_known(one[seed].correct) for seed in seeds]) for one in fitting.values()]
            rng = np.random.default_rng([SEED, crc32(domain.encode())])  # domains are drawn apart
            drawn = resampled_accuracies(right, rng).T.astype(np.float32)  # a hundred forms are 70 MB so
            self.drawn[domain, seeds, images] = dict(zip(fitting, drawn, strict=True))
        return self.drawn[domain, seeds, images]


def _images_of(by_seed: Mapping[int, Outcome], seeds: Sequence[int]) -> int:
    """On how many test images right or wrong is known for each of these seeds; 0 unless it is the same for all."""
    sizes = {0 if by_seed[seed].correct is None else len(_known(by_seed[seed].correct)) for seed in seeds}
    return sizes.pop() if len(sizes) == 1 else 0


def _known(correct: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
    assert correct is not None
    return correct


def _pair(resampling: Resampling, first: str, second: str) -> list[Duel]:
    grid = resampling.grid
    shared = [domain for domain in grid[first] if domain in grid[second]]
    two = {domain: resampling.match((first, second), domain) for domain in shared}
    both = {domain: matched for domain, matched in two.items() if matched is not None}
    if not both:
        return []
    three = {domain: resampling.match((first, second, BASELINE), domain) for domain in both}
    scored = {d: matched for d, matched in three.items() if matched is not None and matched.means[2] < 100}
    found = [_on_domain(first, second, domain, matched) for domain, matched in both.items()]
    found.append(_over_domains(first, second, MEAN, both))
    return [*found, _over_domains(first, second, SCORE, scored)] if scored.keys() == both.keys() else found


def _on_domain(first: str, second: str, domain: str, matched: _Matched) -> Duel:
    difference = float(_gain(matched.means))
    if matched.drawn is not None:
        interval: Interval | None = _drawn_interval(difference, _gain(matched.drawn), matched.differing)
        basis = _drawn_from(matched.seeds)
    else:
        interval = t_interval(_gain(matched.by_seed))
        basis = UNKNOWN if interval is None else "seeds"
    return Duel(first, second, DOMAIN, domain, difference, interval, basis, 1, matched.seeds)


def _over_domains(first: str, second: str, kind: str, on_domains: Mapping[str, _Matched]) -> Duel:
    """The mean over domains, or S, which is a sum over them."""
    worth, scale = (_gain, 1 / len(on_domains)) if kind == MEAN else (_points_gained, 1.0)
    by_domain = np.array([float(worth(matched.means)) for matched in on_domains.values()])
    difference, seeds = float(by_domain.sum() * scale), min(matched.seeds for matched in on_domains.values())
    drawn = [worth(matched.drawn) for matched in on_domains.values() if matched.drawn is not None]
    if len(drawn) == len(on_domains):
        differing = sum(matched.differing for matched in on_domains.values())
        interval: Interval | None = _drawn_interval(difference, np.sum(drawn, axis=0) * scale, differing)
        basis = _drawn_from(seeds)
    else:
        interval = t_interval(by_domain * len(by_domain) * scale)
        basis = UNKNOWN if interval is None else "domains"
    return Duel(first, second, kind, kind, difference, interval, basis, len(on_domains), seeds)


def _drawn_interval(difference: float, drawn: NDArray[np.float64], differing: int) -> Interval:
    """With p no smaller than McNemar's exact test can make it of so many images, if one method has all of them right.

    Samples of few images agree by chance: from a single one every sample would be the same.
    """
    interval = bootstrap_interval(difference, drawn)
    return replace(interval, p=max(interval.p, min(1.0, 2 * 0.5**differing)))


def _gain(accuracies: NDArray[np.float64]) -> NDArray[np.float64]:
    """Accuracies in percent, (methods, ...) -> points by which the first method is ahead of the second."""
    return np.asarray(accuracies[0] - accuracies[1])


def _points_gained(accuracies: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same in points of S, where the third method is finetune."""
    possible = np.minimum(accuracies, 100)  # the deviation of a drawn seed may carry an accuracy beyond
    baseline = np.minimum(accuracies[2], NEARLY_PERFECT)
    return points(possible[0], baseline) - points(possible[1], baseline)


def _drawn_from(seeds: int) -> str:
    return "images and seeds" if seeds > 1 else "images"
