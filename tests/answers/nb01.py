"""Answers to the exercises of notebook 01."""

from itertools import combinations, permutations


def points(error, most):
    return 1000 * (max(0.0, most - error) / most) ** 2


def gain_in_steps(finetuned):
    most = 2 * (100 - finetuned)
    return points(99 - finetuned, most) - points(100 - finetuned, most)


def accuracy_by_halving(wanted, finetuned):
    low, high = 100 - 2 * (100 - finetuned), 100.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if points(100 - middle, 200 - 2 * finetuned) < wanted else (low, middle)
    return (low + high) / 2


def disagree(a, b):
    return a["mean"] > b["mean"] and a["score"] < b["score"]


def pairs_in_loops(rows):
    found = []
    for a in rows:
        for b in rows:
            if disagree(a, b):
                found.append((a["method"], b["method"]))
    return found


def pairs_by_combinations(rows):
    found = set()
    for a, b in combinations(rows, 2):
        if disagree(a, b):
            found.add((a["method"], b["method"]))
        if disagree(b, a):
            found.add((b["method"], a["method"]))
    return found


RIGHT = {
    "next_point": [
        gain_in_steps,
        lambda finetuned: 250 * ((1 + 1 / (100 - finetuned)) ** 2 - 1),
        lambda finetuned: 500 / (100 - finetuned) + 250 / (100 - finetuned) ** 2,
        lambda finetuned: round(gain_in_steps(finetuned), 2),
    ],
    "accuracy_needed": [
        lambda points, finetuned: 100 - 2 * (100 - finetuned) * (1 - (points / 1000) ** 0.5),
        lambda points, finetuned: 100 - (200 - 2 * finetuned) + (200 - 2 * finetuned) * (points / 1000) ** 0.5,
        accuracy_by_halving,
        lambda *given: round(accuracy_by_halving(*given), 2),
        lambda points, finetuned: accuracy_by_halving(points, finetuned) if points else 0.0,
    ],
    "disagreements": [
        pairs_in_loops,
        pairs_by_combinations,
        lambda rows: [[a["method"], b["method"]] for a, b in permutations(rows, 2) if disagree(a, b)],
        lambda rows: pairs_in_loops([row for row in rows if row["mean"] and row["score"]]),
    ],
}

WRONG = {
    "next_point": [
        (lambda finetuned: 500 / (100 - finetuned), "slope of the curve"),
        (lambda finetuned: 1000 / (100 - finetuned) ** 2, "<i>twice</i>"),
        (lambda finetuned: gain_in_steps(finetuned) + 250, "whole score"),
        (lambda finetuned: [finetuned], "a number, not list"),
    ],
    "accuracy_needed": [
        (lambda points, finetuned: 2 * (100 - finetuned) * (1 - (points / 1000) ** 0.5), "This is the error"),
        (lambda points, finetuned: 100 - 2 * (100 - finetuned) * (1 - points / 1000), "square root"),
        (lambda points, finetuned: 100 - (100 - finetuned) * (1 - (points / 1000) ** 0.5), "twice the error"),
        (lambda points, finetuned: finetuned * (points / 250) ** 0.5, "into the formula"),
        (lambda points, finetuned: accuracy_by_halving(points, finetuned) / 100, "asks for percent"),
        (lambda points, finetuned: 100 - 2 * (100 - finetuned) * (points / 1000) ** 0.5, "take away"),
    ],
    "disagreements": [
        (lambda rows: [pair[::-1] for pair in pairs_in_loops(rows)], "wrong way round"),
        (lambda rows: 2 * pairs_in_loops(rows), "twice"),
        (lambda rows: pairs_in_loops(rows)[:1], "is missing"),
        (lambda rows: [(a["method"], b["method"]) for a, b in combinations(rows, 2) if disagree(a, b)], "is missing"),
        (
            lambda rows: [
                (a["method"], b["method"])
                for a, b in permutations(rows, 2)
                if a["mean"] >= b["mean"] and a["score"] < b["score"]
            ],
            "not a disagreement",
        ),
        (
            lambda rows: [
                (a["method"], b["method"])
                for a, b in permutations(rows, 2)
                if a["mean"] > b["mean"] and a["score"] <= b["score"]
            ],
            "not a disagreement",
        ),
        (lambda rows: len(pairs_in_loops(rows)), "list of pairs"),
    ],
}
