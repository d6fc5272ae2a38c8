"""Answers to the exercises of notebook 08."""

import torch
from torch.nn import functional as F


def bits(keeps):
    """Answers that differ in which entries they keep."""
    return lambda alpha, threshold: alpha.numel() + 32 * int(keeps(alpha, threshold).sum())


def bits_by_loop(alpha, threshold):
    total = 0
    for value in alpha.flatten().tolist():
        total += 33 if abs(value - 1) >= threshold else 1
    return total


def bits_from_numpy(alpha, threshold):
    import numpy as np

    return alpha.numel() + 32 * np.count_nonzero(np.abs(alpha.numpy() - 1) >= threshold)


def changes(tables):
    return torch.cat([(tables[layer] - 1).flatten() for layer in sorted(tables)])


def as_they_come(tables):
    return torch.cat([(alpha - 1).flatten() for alpha in tables.values()])


def paired_as_they_come(one, other):
    pairs = [(a.flatten() - 1, b.flatten() - 1) for a, b in zip(one.values(), other.values(), strict=True)]
    lengths = [sum(pair[side] @ pair[side] for pair in pairs) for side in (0, 1)]
    return float(sum(a @ b for a, b in pairs) / (lengths[0] * lengths[1]) ** 0.5)


def cosine(one, other):
    a, b = changes(one), changes(other)
    return float(a @ b / (a.norm() * b.norm()))


def cosine_by_layers(one, other):
    dot = sum(((one[k] - 1) * (other[k] - 1)).sum() for k in one)
    lengths = [sum((tables[k] - 1).square().sum() for k in tables) for tables in (one, other)]
    return dot / (lengths[0] * lengths[1]) ** 0.5


def shrink(alpha, s):
    delta = alpha - 1
    return 1 + delta.sign() * (delta.abs() - s).clamp(min=0)


RIGHT = {
    "sparse_bits": [bits(lambda alpha, t: (alpha - 1).abs() >= t), bits_by_loop, bits_from_numpy],
    "similarity": [
        cosine,
        cosine_by_layers,
        lambda one, other: F.cosine_similarity(changes(one), changes(other), dim=0),
    ],
    "shrink": [
        shrink,
        lambda alpha, s: shrink(alpha.double(), s),
        lambda alpha, s: 1 + F.softshrink(alpha - 1, s),
        lambda alpha, s: torch.where(alpha > 1, (alpha - s).clamp(min=1), (alpha + s).clamp(max=1)),
    ],
}
WRONG = {
    "sparse_bits": [
        (lambda alpha, t: 32 * int(((alpha - 1).abs() >= t).sum()), "which"),
        (bits(lambda alpha, t: (alpha - 1).abs() < t), "near one"),
        (bits(lambda alpha, t: alpha.abs() >= t), "from zero"),
        (bits(lambda alpha, t: alpha - 1 >= t), "weakened"),
        (bits(lambda alpha, t: (alpha - 1).abs() > t), "exactly at"),
        (lambda alpha, t: alpha.numel() + 4 * int(((alpha - 1).abs() >= t).sum()), "32 bits"),
        (lambda alpha, t: 32 * alpha.numel(), "should be"),
    ],
    "similarity": [
        (lambda one, other: abs(cosine(one, other)), "sign"),
        (lambda one, other: float(F.cosine_similarity(changes(one).abs(), changes(other).abs(), dim=0)), "should be"),
        (
            lambda one, other: float(F.cosine_similarity(changes(one) + 1, changes(other) + 1, dim=0)),
            "α itself",
        ),
        (
            lambda one, other: sum(cosine({k: one[k]}, {k: other[k]}) for k in one) / len(one),
            "mean over layers",
        ),
        (lambda one, other: float(changes(one) @ changes(other)), "inner product"),
        (lambda one, other: F.cosine_similarity(as_they_come(one), as_they_come(other), 0), "look them up by name"),
        (paired_as_they_come, "look them up by name"),
    ],
    "shrink": [
        (lambda alpha, s: torch.where((alpha - 1).abs() < s, torch.ones(()), alpha), "by s too"),
        (lambda alpha, s: alpha.sign() * (alpha.abs() - s).clamp(min=0), "towards zero"),
        (lambda alpha, s: alpha - s * (alpha - 1).sign(), "other side"),
        (lambda alpha, s: 1 + (1 - s) * (alpha - 1), "decay"),
        (lambda alpha, s: 1 + (alpha - 1).clamp(-s, s), "wrong"),
    ],
}
