"""Exercises and quiz of notebook 04, "Training full MAD"."""

import math
import random
from collections.abc import Callable
from typing import Any

import torch

from madlab.lessons.checks import Wrong, number_in, random_convs, same_number
from madlab.lessons.quizzes import Question


def rate(answer: Callable[[torch.Tensor, torch.Tensor, float], Any]) -> str:
    """rate(weight, weight_gradient, lr) -> the rate at which a step on alpha moves W_d as far as lr moves W."""
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
            raise Wrong(f"This has {got.numel()} values. One rate serves the whole layer: compare norms.")
        got = number_in(got, "the rate")
        if math.isclose(got, lr * float(through.norm() / gradient.norm()), rel_tol=1e-4):
            raise Wrong("You compared gradients. But a step on α moves the filter by W times that step: compare moves.")
        if math.isclose(got, lr / expected * lr, rel_tol=1e-4):
            raise Wrong("This is upside down: a step on α moves the filter too little, so α's rate must be larger.")
        same_number(got, expected, "the rate", tolerance=1e-4)
    return "Two factors of W are between α's rate and the filter's move: one in the gradient, one in W ⊙ α itself."


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
    return "The rate rises while the head is still random, and falls to zero: the last steps only average out noise."


def report(answer: Callable[[list[dict[str, float]]], Any]) -> str:
    """report(log) -> the test accuracy to publish: that of the epoch chosen on validation."""
    for count, better in ((1, 0), (5, 0), (9, 6), (9, 2)):  # better: of two equally accurate epochs, that of lower loss
        values = iter(random.sample(range(100, 900), 3 * count))
        log = [
            {"val_accuracy": next(values) / 10, "val_loss": next(values) / 300, "test_accuracy": next(values) / 10}
            for _ in range(count)
        ]
        worse = 8 - better
        if count == 9:  # epochs 2 and 6 are equally accurate; epoch 4 is less accurate, but has the lowest loss
            log[better] = {"val_accuracy": 95.0, "val_loss": 0.2, "test_accuracy": 79.0}
            log[worse] = {"val_accuracy": 95.0, "val_loss": 0.3, "test_accuracy": 80.0}
            log[4] |= {"val_loss": 0.1, "test_accuracy": 78.0}

        best = log[0]
        for entry in log[1:]:
            ahead = entry["val_accuracy"] > best["val_accuracy"]
            level = entry["val_accuracy"] == best["val_accuracy"] and entry["val_loss"] < best["val_loss"]
            best = entry if ahead or level else best

        got = answer(log)
        if isinstance(got, dict):
            raise Wrong("This is the whole entry of the log. Return its test accuracy, a number.")
        if count > 1 and got == max(entry["test_accuracy"] for entry in log) != best["test_accuracy"]:
            raise Wrong("This is the best *test* epoch. Nobody can choose it without looking at the test labels.")
        if count > 1 and got == log[-1]["test_accuracy"] != best["test_accuracy"]:
            raise Wrong("This is the last epoch. Validation says whether an earlier one was better.")
        lowest = min(log, key=lambda entry: entry["val_loss"])
        if count > 1 and got == lowest["test_accuracy"] != best["test_accuracy"]:
            raise Wrong("This is the epoch with the lowest validation loss. Accuracy chooses; the loss breaks ties.")
        if count == 9 and got == log[worse]["test_accuracy"]:
            raise Wrong("Two epochs have the same validation accuracy. Let the lower validation loss decide.")
        same_number(got, best["test_accuracy"], "the accuracy to report")
    return "Chosen on validation, read once on test: a number that holds for images that nobody has looked at."


EXERCISES = {"rate": rate, "share": share, "report": report}

QUIZ = (
    Question(
        "Why does α need a far larger learning rate than the weights?",
        {
            "Because α has a ninth of the parameters": (
                "The count does not matter: each entry is moved by its own gradient. Ask how far the filter moves."
            ),
            "Because the weights are small, and they scale both α's gradient and its effect": (
                "A step on α moves the filter by rate · (G·W) · W: two factors of W, each well below one."
            ),
            "Because α starts at 1 and not at 0": (
                "The start shifts α but not its gradient. With α = 1 + δ, δ would need the same rate."
            ),
            "Because the base network is frozen": (
                "Freezing W decides what learns, not how large a step must be. The size of W decides that."
            ),
        },
        right="Because the weights are small, and they scale both α's gradient and its effect",
    ),
    Question(
        "The base network is frozen. What does the backward pass still compute in a frozen convolution?",
        {
            "Nothing: frozen layers are skipped": (
                "Then the layers below would get no gradient. The path to their α leads through this layer's input."
            ),
            "The gradients of its input and of its α, but not that of W": (
                "The input's gradient goes on to the layers below, the optimiser uses α's, and W's is not needed."
            ),
            "The gradient of W, which is then thrown away": (
                "On the way to α, autograd needs the gradient of the product W ⊙ α, which is just as large. The step "
                "from there to W is what requires_grad=False leaves out."
            ),
        },
        right="The gradients of its input and of its α, but not that of W",
    ),
    Question(
        "Training accuracy is 100 %, validation 62 % after epoch 12 and 60 % after epoch 20. Which adapter is kept?",
        {
            "That of epoch 20, because it has seen the most": (
                "More training is not more knowledge: by then it fits accidents of the training images."
            ),
            "That of epoch 12, because validation was best": (
                "A run keeps the epoch that is best on validation, and test is read once, with that adapter."
            ),
            "Whichever is better on test": (
                "Then the test images would have chosen, and new images would not confirm the result."
            ),
        },
        right="That of epoch 12, because validation was best",
    ),
)
