"""Answers to the exercises of notebook 04."""

import torch
from torch import nn
from torch.nn import functional as F


def step(view, optimiser, images, labels):
    view.train()
    loss = F.cross_entropy(view(images), labels, label_smoothing=0.1)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return loss.item()


def step_zeroing_first(view, optimiser, images, labels):
    optimiser.zero_grad(set_to_none=False)
    loss = nn.CrossEntropyLoss(label_smoothing=0.1)(view.train()(images), labels)
    loss.backward()
    optimiser.step()
    return float(loss.detach())


def step_with_closure(view, optimiser, images, labels):
    def closure():
        for parameter in view.parameters():
            parameter.grad = None
        loss = F.cross_entropy(view(images), labels, label_smoothing=0.1)
        loss.backward()
        return loss

    view.train()
    return optimiser.step(closure).item()


def without_zero(view, optimiser, images, labels):
    loss = F.cross_entropy(view.train()(images), labels, label_smoothing=0.1)
    loss.backward()
    optimiser.step()
    return loss.item()


def zero_too_late(view, optimiser, images, labels):
    loss = F.cross_entropy(view.train()(images), labels, label_smoothing=0.1)
    loss.backward()
    optimiser.zero_grad()
    optimiser.step()
    return loss.item()


def in_evaluation(view, optimiser, images, labels):
    loss = F.cross_entropy(view(images), labels, label_smoothing=0.1)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return loss.item()


def other_loss(loss_of):
    def wrong(view, optimiser, images, labels):
        loss = loss_of(view.train()(images), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return loss.item()

    return wrong


def keeps_the_graph(view, optimiser, images, labels):
    loss = F.cross_entropy(view.train()(images), labels, label_smoothing=0.1)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return loss


def loss_afterwards(view, optimiser, images, labels):
    step(view, optimiser, images, labels)
    return F.cross_entropy(view(images), labels, label_smoothing=0.1).item()


def rate_by_definition(weight, gradient, lr):
    alpha_gradient = (gradient * weight).sum((2, 3))
    return lr * (gradient.norm() / (alpha_gradient[:, :, None, None] * weight).norm()).item()


def rate_by_a_step(weight, gradient, lr):
    alpha = torch.ones(weight.shape[:2], requires_grad=True)
    (gradient * (weight * alpha[:, :, None, None])).sum().backward()
    step = weight * alpha.grad[:, :, None, None]
    return lr * torch.linalg.vector_norm(gradient) / torch.linalg.vector_norm(step)


def rate_by_einsum(weight, gradient, lr):
    inner = torch.einsum("mnij,mnij->mn", gradient, weight)
    move = torch.einsum("mn,mnij,mn,mnij->", inner, weight, inner, weight).sqrt()
    return (lr * gradient.square().sum().sqrt() / move).item()


def epoch_of(key):
    return lambda log: max(log, key=key)["test_accuracy"]


def report_in_a_loop(log):
    best = log[0]
    for epoch in log:
        better = epoch["val_accuracy"] > best["val_accuracy"]
        level = epoch["val_accuracy"] == best["val_accuracy"]
        if better or (level and epoch["val_loss"] < best["val_loss"]):
            best = epoch
    return best["test_accuracy"]


def clipped(view, optimiser, images, labels):
    view.train()
    loss = F.cross_entropy(view(images), labels, label_smoothing=0.1)
    optimiser.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(view.parameters(), 1.0)
    optimiser.step()
    return loss.item()


RIGHT = {
    "training_step": [step, step_zeroing_first, step_with_closure],
    "rate": [
        rate_by_definition,
        rate_by_a_step,
        rate_by_einsum,
        lambda *given: float(f"{rate_by_einsum(*given):.3g}"),
    ],
    "report": [
        epoch_of(lambda e: (e["val_accuracy"], -e["val_loss"])),
        report_in_a_loop,
        lambda log: sorted(log, key=lambda e: (-e["val_accuracy"], e["val_loss"]))[0]["test_accuracy"],
    ],
}

WRONG = {
    "training_step": [
        (without_zero, "earlier step"),
        (clipped, "by its rate times its gradient"),
        (zero_too_late, "Nothing has moved"),
        (in_evaluation, "training mode"),
        (other_loss(F.cross_entropy), "smoothing"),
        (
            other_loss(lambda logits, labels: F.cross_entropy(logits.softmax(1), labels, label_smoothing=0.1)),
            "its own softmax",
        ),
        (
            other_loss(lambda logits, labels: F.cross_entropy(logits, labels, label_smoothing=0.1, reduction="sum")),
            "sum over the batch",
        ),
        (keeps_the_graph, "whole graph"),
        (loss_afterwards, "The loss is"),
        (lambda *given: step(*given) and None, "returned nothing"),
    ],
    "rate": [
        (lambda w, g, lr: lr * (g.norm() / (g * w).sum((2, 3)).norm()).item(), "compared gradients"),
        (lambda w, g, lr: lr * lr / rate_by_definition(w, g, lr), "upside down"),
        (lambda w, g, lr: rate_by_definition(w, g, lr) / lr, "Multiply it by"),
        (lambda w, g, lr: rate_by_definition(w, g, lr) ** 2 / lr, "squared norms"),
        (lambda w, g, lr: lr / w.square().mean().item(), "At your rate"),
        (lambda w, g, lr: lr * g.square().sum((2, 3)).sqrt(), "One rate serves"),
    ],
    "report": [
        (epoch_of(lambda e: e["val_accuracy"]), "same validation accuracy"),
        (lambda log: epoch_of(lambda e: e["val_accuracy"])(log[::-1]), "same validation accuracy"),
        (epoch_of(lambda e: -e["val_loss"]), "lowest validation loss"),
        (epoch_of(lambda e: e["test_accuracy"]), "best *test* epoch"),
        (lambda log: log[-1]["test_accuracy"], "last epoch"),
        (lambda log: log[0], "whole entry"),
    ],
}
