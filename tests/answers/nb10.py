"""Answers to the exercises of notebook 10."""

import torch


def reach_in_loops(weight, target):
    alpha = torch.empty(weight.shape[:2])
    for m in range(len(alpha)):
        for n in range(alpha.shape[1]):
            alpha[m, n] = target[m, n, 0, 0] / weight[m, n, 0, 0]
    return alpha


def multiply_in_place(weight, target):
    weight.mul_(2)
    return (2 * target / weight)[:, :, 0, 0]


def rank_in(shapes, filters, adapters, room, rounding=int):
    return max(0, rounding(room * filters / (adapters * sum(m + n for m, n in shapes)) + 1e-9))


def by_counting(shapes, filters, domains, networks):
    rank = 0
    while filters + (domains - 1) * (rank + 1) * sum(map(sum, shapes)) <= networks * filters:
        rank += 1
    return rank


def by_strict_counting(shapes, filters, domains, networks):
    """Misses what fits exactly."""
    rank = 0
    while filters + (domains - 1) * (rank + 1) * sum(map(sum, shapes)) < networks * filters:
        rank += 1
    return rank


def left(score, domains):
    return 2 * (1 - ((score - 250) / (domains - 1) / 1000) ** 0.5)


def by_bisection(score, domains):
    low, high = 0.0, 2.0
    for _ in range(60):
        middle = (low + high) / 2
        worth = 250 + (domains - 1) * 1000 * (1 - middle / 2) ** 2
        low, high = (middle, high) if worth > score else (low, middle)
    return low


RIGHT = {
    "reach": [lambda w, t: (t / w)[:, :, 0, 0], lambda w, t: torch.div(t, w).flatten(1).double(), reach_in_loops],
    "largest": [
        lambda shapes, w, d, n: max(0, int((n - 1) * w // ((d - 1) * sum(m + n for m, n in shapes)))),
        lambda shapes, w, d, n: float(rank_in(shapes, w, d - 1, n - 1)),
        by_counting,
    ],
    "error_left": [left, by_bisection, lambda s, d: torch.tensor(left(s, d), dtype=torch.float64)],
}

WRONG = {
    "reach": [
        (lambda w, t: t / w, "axes of length 1"),
        (lambda w, t: (t - w)[:, :, 0, 0], "α multiplies"),
        (lambda w, t: (w / t)[:, :, 0, 0], "instead of"),
        (multiply_in_place, "have to stay as they are"),
    ],
    "largest": [
        (lambda *a: max(1, rank_in(a[0], a[1], a[2] - 1, a[3] - 1)), "10 domains"),
        (lambda shapes, w, d, n: rank_in(shapes, w, d, n - 1), "needs no adapter"),
        (lambda shapes, w, d, n: rank_in(shapes, w, d - 1, n), "base network itself is missing"),
        (lambda shapes, w, d, n: (n - 1) * w / (d - 1) / sum(map(sum, shapes)), "round down"),
        (lambda shapes, w, d, n: rank_in(shapes, w, d - 1, n - 1, round), "adapters"),
        (lambda shapes, w, d, n: max(0, rank_in(shapes, w, d - 1, n - 1) - 2), "still fits"),
        (by_strict_counting, "still fits"),
        (lambda shapes, w, d, n: int((n - 1) * w / (d - 1) / sum(m * n for m, n in shapes)), "still fits"),
        (lambda shapes, w, d, n: int(((n - 1) * w + 1e-6) // ((d - 1) * sum(map(sum, shapes)))), "no rank is negative"),
        (lambda shapes, w, d, n: int((n - 1) * w / ((d - 1) * sum(map(sum, shapes)))), "no rank is negative"),
    ],
    "error_left": [
        (lambda s, d: 2 - 2 * (s / d / 1000) ** 0.5, "take them out first"),
        (lambda s, d: 2 - 2 * ((s - 250) / d / 1000) ** 0.5, "domains - 1"),
        (lambda s, d: 1 - ((s - 250) / (d - 1) / 1000) ** 0.5, "twice"),
        (lambda s, d: 2 - 2 * (s - 250) / (d - 1) / 1000, "take the root"),
        (lambda s, d: 2 - left(s, d), "removed"),
        (lambda s, d: 100 * left(s, d), "is the square of"),
        (lambda s, d: round(left(s, d), 4), "is the square of"),
    ],
}
