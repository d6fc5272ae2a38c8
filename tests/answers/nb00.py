"""Answers to the exercises of notebook 00."""

import torch


def modulated_in_loops(weight, alpha):
    result = torch.empty_like(weight)
    for m, row in enumerate(alpha.tolist()):
        for n, value in enumerate(row):
            result[m, n] = value * weight[m, n]
    return result


def modulated_in_place(weight, alpha):
    return weight.mul_(alpha[:, :, None, None])


def percent(logits, labels):
    return (logits.argmax(1) == labels).float().mean().item() * 100


RIGHT = {
    "modulate": [
        lambda weight, alpha: alpha[:, :, None, None] * weight,
        lambda weight, alpha: torch.einsum("mnij,mn->mnij", weight, alpha),
        modulated_in_loops,
        lambda weight, alpha: weight.double() * alpha.double()[:, :, None, None],
    ],
    "accuracy": [
        percent,
        lambda logits, labels: 100 * sum(a == b for a, b in zip(logits.max(1)[1], labels, strict=True)) / len(labels),
        lambda logits, labels: (logits.softmax(1).max(1).indices == labels).double().mean() * 100,
    ],
}

WRONG = {
    "modulate": [
        (lambda weight, alpha: weight * alpha.T[:, :, None, None], "size of tensor"),
        (lambda weight, alpha: weight * alpha.mean(1)[:, None, None, None], "one number per filter"),
        (lambda weight, alpha: weight * alpha.mean(0)[None, :, None, None], "one number per input"),
        (lambda weight, alpha: weight * (1 + alpha)[:, :, None, None], "1 + α"),
        (lambda weight, alpha: weight + alpha[:, :, None, None], "Multiply"),
        (lambda weight, alpha: (weight * alpha[:, :, None, None]).sum((2, 3)), "shape"),
        (modulated_in_place, "changed"),
    ],
    "accuracy": [
        (lambda logits, labels: percent(logits, labels) / 100, "a share"),
        (lambda logits, labels: 100 - percent(logits, labels), "the error"),
        (lambda logits, labels: percent(logits, labels) / 100 * len(labels), "Divide"),
        (lambda logits, labels: 100 * logits.softmax(1).max(1).values.mean(), "how sure"),
        (lambda logits, labels: "all", "a number, not str"),
        (lambda logits, labels: 100 * (logits.argmin(1) == labels).float().mean(), "largest"),
    ],
}
