"""Notebook 04, Training full MAD: exercises and quiz."""

import math
import random
from collections.abc import Callable
from typing import Any

import torch

from madlab.lessons.checks import Wrong, number_in, random_convs, same_number
from madlab.lessons.quizzes import Question


def rate(answer: Callable[[torch.Tensor, torch.Tensor, float], Any]) -> str:
    """rate(weight, weight_gradient, lr) -> the rate with which a step on alpha moves W_d as far as lr moves W."""
    for conv, _ in random_convs(4):
        weight, through, lr = conv.weight.detach(), torch.randn_like(conv.weight), 10 ** random.uniform(-3, 0)
        moved = torch.zeros_like(weight)
        for m in range(weight.shape[0]):
            for n in range(weight.shape[1]):
                moved[m, n] = torch.dot(through[m, n].flatten(), weight[m, n].flatten()) * weight[m, n]
        expected = lr * float(through.norm() / moved.norm())
        got = answer(weight.clone(), through.clone(), lr)
        gradient = (through * weight).sum((2, 3))
        if isinstance(got, torch.Tensor) and got.numel() > 1:
            raise Wrong(f"This has {got.numel()} numbers. One rate serves the whole layer: compare norms.")
        got = number_in(got, "the rate")
        if math.isclose(got, lr * float(through.norm() / gradient.norm()), rel_tol=1e-4):
            raise Wrong("You compared the two gradients. But a step on α reaches the filter times W: compare moves.")
        if math.isclose(got, lr / expected * lr, rel_tol=1e-4):
            raise Wrong("It is upside down: α's step moves the filter too little, so its rate must be larger.")
        same_number(got, expected, "the rate", tolerance=1e-4)
    return "Two factors of W stand between α's rate and the filter's move: one in the gradient, one on the way back."


def share(answer: Callable[[float, float], Any]) -> str:
    """share(progress, warmup) -> the share of the peak rate: a straight rise to 1, then half a cosine to 0."""
    for warmup in (0.1, 0.15, 0.5):
        for progress in (0.0, warmup / 3, warmup, (1 + warmup) / 2, 0.97, 1.0):
            expected = progress / warmup
            if progress >= warmup:
                expected = (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup))) / 2
            where = f"the share at progress {progress:.3g} with warmup {warmup:g}"
            got = number_in(answer(progress, warmup), where)
            if progress == 1.0 and abs(got) > 1e-6:
                raise Wrong(f"{where} is {got:.3g}. At the end it must be 0: does your cosine reach π at progress 1?")
            same_number(got, expected, where)
    return "It rises while the head is still random, and ends at rest: the last steps only average out noise."


def report(answer: Callable[[list[dict[str, float]]], Any]) -> str:
    """report(log) -> the test accuracy to publish: that of the epoch chosen on validation."""
    for count, better in ((1, 0), (5, 0), (9, 6), (9, 2)):  # better: of two level epochs, the one of lower loss
        values = random.sample(range(100, 900), 3 * count)
        log = [
            {"val_accuracy": v / 10, "val_loss": w / 300, "test_accuracy": t / 10}
            for v, w, t in zip(values[:count], values[count : 2 * count], values[2 * count :], strict=True)
        ]
        worse = 8 - better
        if count == 9:  # two epochs as good as each other, and one that is less accurate at a still lower loss
            log[2]["val_accuracy"] = log[6]["val_accuracy"] = 95.0
            log[worse]["val_loss"], log[better]["val_loss"], log[4]["val_loss"] = 0.3, 0.2, 0.1
            log[worse]["test_accuracy"], log[better]["test_accuracy"], log[4]["test_accuracy"] = 80.0, 79.0, 78.0
        best = log[0]
        for entry in log[1:]:
            ahead = entry["val_accuracy"] > best["val_accuracy"]
            level = entry["val_accuracy"] == best["val_accuracy"] and entry["val_loss"] < best["val_loss"]
            best = entry if ahead or level else best
        got = answer(log)
        if isinstance(got, dict):
            raise Wrong("This is the whole line of the log. Return its test accuracy, a number.")
        if count > 1 and got == max(e["test_accuracy"] for e in log) != best["test_accuracy"]:
            raise Wrong("This is the best *test* epoch. Nobody can choose it without looking at the test labels.")
        if count > 1 and got == log[-1]["test_accuracy"] != best["test_accuracy"]:
            raise Wrong("This is the last epoch. Validation says whether an earlier one was better.")
        lowest = min(log, key=lambda e: e["val_loss"])
        if count > 1 and got == lowest["test_accuracy"] != best["test_accuracy"]:
            raise Wrong("This is the epoch of the lowest validation loss. Accuracy chooses; the loss decides ties.")
        if count == 9 and got == log[worse]["test_accuracy"]:
            raise Wrong("Two epochs have the same validation accuracy. Let the lower validation loss decide.")
        same_number(got, best["test_accuracy"], "the accuracy to report")
    return "Chosen on validation, read once on test: a number that holds for images which nobody has looked at."


EXERCISES = {"rate": rate, "share": share, "report": report}

QUIZ = (
    Question(
        "Why does α need a far larger learning rate than the weights?",
        {
            "Because there are nine times fewer numbers in α": (
                "The count does not matter: each number is moved by its own gradient. Ask how far the filter moves."
            ),
            "Because the weights are small, and they scale both α's gradient and its effect": (
                "A step on α moves the filter by rate · (G·W) · W: two factors of W, each well below one."
            ),
            "Because α starts at 1 and not at 0": (
                "The start shifts α but not its gradient. With α = 1 + δ the same rate would be needed for δ."
            ),
            "Because the base network is frozen": (
                "Freezing W decides who learns, not how large a step must be. The size of W decides that."
            ),
        },
        right="Because the weights are small, and they scale both α's gradient and its effect",
    ),
    Question(
        "The base network is frozen. What does the backward pass still compute in a frozen convolution?",
        {
            "Nothing: frozen layers are skipped": (
                "Then layers below would get no gradient. The path to their α leads through this layer's input."
            ),
            "The gradients of its input and of its α, but none of its W": (
                "The input's gradient goes on to the layers below; α's is what the optimiser uses; W's is not needed."
            ),
            "The gradient of W, which is then thrown away": (
                "On the way to α autograd needs the gradient of the product W ⊙ α, which is as large. The step from "
                "there to W is the one that requires_grad leaves out."
            ),
        },
        right="The gradients of its input and of its α, but none of its W",
    ),
    Question(
        "Training accuracy is 100 %, validation 62 % after epoch 12 and 60 % after epoch 20. Which adapter is kept?",
        {
            "That of epoch 20, because it has seen the most": (
                "More training is not more knowledge: validation says it now fits the training images' accidents."
            ),
            "That of epoch 12, because validation was best": (
                "A run keeps the best epoch on validation, and test is read once, with that adapter."
            ),
            "Whichever is better on test": (
                "Then test would have chosen, and its number would be too good to be true for new images."
            ),
        },
        right="That of epoch 12, because validation was best",
    ),
)
