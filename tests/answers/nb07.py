"""Answers to the exercises of notebook 07."""

import statistics

import numpy as np
import torch


def by_division(m, n, k):
    return m * n // (k * k * n + m)


def by_counting(m, n, k):
    rank = 0
    while (rank + 1) * (k**2 * n + m) <= m * n:
        rank += 1
    return rank


def paired(ours, theirs):
    leads = [ours[seed] - theirs[seed] for seed in ours if seed in theirs]
    return statistics.mean(leads), statistics.stdev(leads)


def paired_in_torch(ours, theirs):
    both = sorted(set(ours) & set(theirs))
    leads = torch.tensor([[ours[s], theirs[s]] for s in both], dtype=torch.float64)
    difference = leads[:, 0] - leads[:, 1]
    return [difference.mean(), difference.std()]


def paired_in_float32(ours, theirs):
    both = sorted(set(ours) & set(theirs))
    lead = torch.tensor([ours[seed] for seed in both]) - torch.tensor([theirs[seed] for seed in both])
    return lead.mean(), lead.std()


def paired_by_hand(ours, theirs):
    leads = [value - theirs[seed] for seed, value in ours.items() if seed in theirs]
    mean = sum(leads) / len(leads)
    return mean, (sum((lead - mean) ** 2 for lead in leads) / (len(leads) - 1)) ** 0.5


def fair(equal=True, fits=True, choose="val", report="test", by_seed=True):
    """A duel that keeps all rules, or forgets some."""

    def duel(ours, theirs, budget):
        count = min(len(ours), len(theirs)) if equal else None
        best = []
        for forms in (ours, theirs):
            forms = [form for form in forms[:count] if not fits or form["bytes"] <= budget]
            best.append(max(forms, key=lambda form: sum(form[choose].values()) / len(form[choose]))[report])
        if by_seed:
            return statistics.mean(best[0][seed] - best[1][seed] for seed in best[0] if seed in best[1])
        return statistics.mean(best[0].values()) - statistics.mean(best[1].values())

    return duel


def duel_in_torch(ours, theirs, budget, dtype=torch.float64):
    chosen = []
    for forms, others in ((ours, theirs), (theirs, ours)):
        own = [form for place, form in enumerate(forms) if place < len(others) and form["bytes"] <= budget]
        means = torch.tensor([torch.tensor(list(form["val"].values()), dtype=torch.float64).mean() for form in own])
        chosen.append(own[int(means.argmax())]["test"])
    both = chosen[0].keys() & chosen[1].keys()
    first, second = (torch.tensor([test[s] for s in both], dtype=dtype) for test in chosen)
    return (first - second).mean()


def duel_in_float32(ours, theirs, budget):
    return duel_in_torch(ours, theirs, budget, torch.float32)


def duel_by_sorting(ours, theirs, budget):
    pairs = list(zip(ours, theirs, strict=False))  # as many as the shorter list has
    best = []
    for side in (0, 1):
        forms = [pair[side] for pair in pairs if pair[side]["bytes"] <= budget]
        forms.sort(key=lambda form: -statistics.fmean(form["val"].values()))
        best.append(forms[0])
    leads = {s: best[0]["test"][s] - best[1]["test"][s] for s in best[0]["test"] if s in best[1]["test"]}
    return sum(leads.values()) / len(leads)


def by_another_rule(pick, fits=lambda form, budget: form["bytes"] <= budget, cut_first=True):
    """A duel that chooses its forms in another way."""

    def duel(ours, theirs, budget):
        sides = ours, theirs
        if not cut_first:
            sides = [[form for form in forms if fits(form, budget)] for forms in sides]
        count = min(map(len, sides))
        best = [pick([form for form in forms[:count] if fits(form, budget)])["test"] for forms in sides]
        return statistics.mean(best[0][seed] - best[1][seed] for seed in best[0] if seed in best[1])

    return duel


def by(measure):
    """The form whose validation accuracies have the largest `measure`."""
    return lambda forms: max(forms, key=lambda form: measure(form["val"].values()))


by_mean = by(statistics.mean)


RIGHT = {
    "lora_rank": [by_division, by_counting, lambda m, n, k: float(m * n // (n * k**2 + m))],
    "paired": [paired, paired_in_torch, paired_in_float32, paired_by_hand, lambda *given: np.array(paired(*given))],
    "duel": [fair(), duel_in_torch, duel_in_float32, duel_by_sorting],
}
WRONG = {
    "lora_rank": [
        (lambda m, n, k: m * n / (k * k * n + m), "whole number"),
        (lambda m, n, k: m * n // (k * k * m + n), "mixed up"),
        (lambda m, n, k: m * n // (m + n), "break-even"),
        (lambda m, n, k: m * n // (k * k * n), "A alone"),
        (lambda m, n, k: m * n // (k * k * n + m) + 1, "more"),
        (lambda m, n, k: (m * n - 1) // (k * k * n + m), "fit"),
    ],
    "paired": [
        (lambda ours, theirs: paired(theirs, ours), "wrong way round"),
        (lambda ours, theirs: (abs(paired(ours, theirs)[0]), paired(ours, theirs)[1]), "sign is lost"),
        (lambda ours, theirs: (float("nan"), paired(ours, theirs)[1]), "is not a number"),
        (lambda ours, theirs: (paired(ours, theirs)[0], float("nan")), "is not a number"),
        (
            lambda ours, theirs: (statistics.mean(ours.values()) - statistics.mean(theirs.values()), 1.0),
            "different seeds",
        ),
        (
            lambda ours, theirs: (
                paired(ours, theirs)[0],
                statistics.pstdev(ours[s] - theirs[s] for s in ours if s in theirs),
            ),
            "n − 1",
        ),
        (
            lambda ours, theirs: (
                paired(ours, theirs)[0],
                sum(statistics.variance(side[s] for s in ours if s in theirs) for side in (ours, theirs)) ** 0.5,
            ),
            "Subtract",
        ),
        (lambda ours, theirs: paired(ours, theirs)[0], "two numbers"),
    ],
    "duel": [
        (fair(equal=False), "trials"),
        (fair(fits=False), "budget"),
        (fair(choose="test"), "on the test images"),
        (fair(report="val"), "flatter"),
        (fair(by_seed=False), "different seeds"),
        (lambda ours, theirs, budget: fair()(theirs, ours, budget), "wrong way round"),
        (by_another_rule(by_mean, fits=lambda form, budget: form["bytes"] < budget), "exactly the budget"),
        (by_another_rule(by_mean, cut_first=False), "count the trials first"),
        # These often choose what forgetting another rule would, and are not to be told that they forgot it.
        (by_another_rule(lambda forms: min(forms, key=lambda form: form["bytes"])), "Go through the rules"),
        (by_another_rule(lambda forms: forms[-1]), "Go through the rules"),
        (by_another_rule(by(max)), "Go through the rules"),
        (by_another_rule(by(statistics.median)), "Go through the rules"),
        (by_another_rule(lambda forms: max(forms, key=lambda form: form["val"][min(form["val"])])), "Go through"),
    ],
}
