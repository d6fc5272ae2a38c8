"""Answers to the exercises of notebook 06."""

import torch


def by_distance(weight, target):
    return ((target - weight).abs() < target.abs()).to(weight.dtype)


def by_ratio(weight, target):
    """On where the target has the sign of W and more than half its size."""
    return (target * weight.sign() > weight.abs() / 2).float()


RIGHT = {
    "mask_gradient": [
        lambda weight, gradient: gradient * weight,
        lambda weight, gradient: torch.einsum("mnij,mnij->mnij", weight, gradient),
        lambda weight, gradient: torch.stack([w * g for w, g in zip(weight, gradient, strict=True)]),
    ],
    "best_mask": [
        by_distance,
        by_ratio,
        lambda weight, target: torch.where((weight - target) ** 2 < target**2, 1.0, 0.0),
        lambda weight, target: weight * (2 * target - weight) > 0,
    ],
}
WRONG = {
    "mask_gradient": [
        (lambda weight, gradient: gradient, "scaled by W"),
        (lambda weight, gradient: torch.zeros_like(weight), "step, zero"),
        (lambda weight, gradient: (gradient * weight).sum((2, 3)), "kernel"),
        (lambda weight, gradient: gradient * weight * (weight > 0), "wrong"),
    ],
    "best_mask": [
        (lambda weight, target: (target / weight).clamp(0, 1), "only zeros and ones"),
        (lambda weight, target: (target > 0).float(), "sign of the target"),
        (lambda weight, target: (weight * target > 0).float(), "Nearly"),
        (lambda weight, target: 1 - by_distance(weight, target), "wrong"),
    ],
}
