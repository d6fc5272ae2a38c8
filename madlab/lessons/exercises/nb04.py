"""Exercises and quiz of notebook 04, "Training full MAD"."""

import copy
import math
import random
from collections.abc import Callable
from itertools import product
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from madlab.lessons.checks import Wrong, number_in, present, random_convs, same_number
from madlab.lessons.quizzes import Question


class _Net(nn.Module):
    """A small domain of a network: a frozen convolution with an alpha, BatchNorm and a head."""

    def __init__(self, classes: int):
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3, bias=False).requires_grad_(False)
        self.alpha, self.bn = nn.Parameter(torch.ones(5, 3)), nn.BatchNorm2d(5)
        self.fc = nn.Linear(5, classes)
        self.fc.weight.data *= 10  # gradients longer than one, which clipping would shorten

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.bn(F.conv2d(x, self.conv.weight * self.alpha[:, :, None, None]))
        return self.fc(torch.relu(x).mean((2, 3)))


def training_step(answer: Callable[[nn.Module, torch.optim.Optimizer, torch.Tensor, torch.Tensor], Any]) -> str:
    """training_step(view, optimiser, images, labels) -> the loss before the step, a float; the view has learned."""
    view, lr = _Net(3), random.uniform(0.5, 1)
    twin, start = copy.deepcopy(view), copy.deepcopy(view.state_dict())
    view.eval()  # as validation has left it
    optimiser = torch.optim.SGD([p for p in view.parameters() if p.requires_grad], lr=lr)
    for number in range(2):
        images, labels = 3 + torch.randn(8, 3, 7, 7), torch.randint(3, (8,))
        loss, grads = _gradients(twin, images, labels)
        if number == 0:
            for parameter in view.parameters():  # what a step before has left
                parameter.grad = torch.ones_like(parameter) if parameter.requires_grad else None
        got = answer(view, optimiser, images, labels)
        _judge_loss(got, loss, start, copy.deepcopy(twin), images, labels)
        _judge_step(view, twin, grads, lr, start)
        with torch.no_grad():
            for name, parameter in twin.named_parameters():
                if parameter.requires_grad:
                    parameter.sub_(lr * grads[name])
        start = copy.deepcopy(view.state_dict())
    return "Five lines, and they are the same for every method of this course."


def _gradients(view: _Net, images: torch.Tensor, labels: torch.Tensor) -> tuple[float, dict[str, torch.Tensor]]:
    """The loss and the gradient of everything that learns, worked out without an optimiser; averages move on."""
    logs = view.train()(images).log_softmax(1)
    wanted = torch.full_like(logs, 0.1 / logs.shape[1])
    wanted[range(len(labels)), labels] += 0.9
    loss = -(wanted * logs).sum(1).mean()
    names = [name for name, parameter in view.named_parameters() if parameter.requires_grad]
    grads = torch.autograd.grad(loss, [view.get_parameter(name) for name in names])
    return loss.item(), dict(zip(names, grads, strict=True))


def _judge_loss(got: Any, loss: float, start: Any, view: _Net, images: torch.Tensor, labels: torch.Tensor) -> None:
    """Raise Wrong unless the step returned the loss that it started with, as a float."""
    present(got, "the loss")
    if isinstance(got, torch.Tensor) and got.requires_grad:
        raise Wrong("This tensor keeps the whole graph of the step in memory. Return `loss.item()`.")
    got = number_in(got, "the loss")
    view.load_state_dict(start)
    with torch.no_grad():
        in_evaluation = view.eval()(images)
        logits = view.train()(images)
    wrong = {
        "The loss is that of evaluation: put the view into training mode first, so that BatchNorm uses the batch's own "
        "statistics.": F.cross_entropy(in_evaluation, labels, label_smoothing=0.1),
        "The label smoothing of 0.1 is missing.": F.cross_entropy(logits, labels),
        "`cross_entropy` takes logits: it has its own softmax.": F.cross_entropy(
            logits.softmax(1), labels, label_smoothing=0.1
        ),
        "This is the sum over the batch. Take the mean, so that rates do not depend on its size.": F.cross_entropy(
            logits, labels, label_smoothing=0.1, reduction="sum"
        ),
    }
    for message, candidate in wrong.items():
        if abs(got - float(candidate)) < 1e-5 < abs(loss - float(candidate)):
            raise Wrong(message)
    same_number(got, loss, "the loss", tolerance=1e-4)


def _judge_step(view: nn.Module, twin: nn.Module, grads: dict[str, torch.Tensor], lr: float, start: Any) -> None:
    """Raise Wrong unless each number has moved by its rate times its gradient."""
    if not torch.equal(view.get_parameter("conv.weight"), twin.get_parameter("conv.weight")):
        raise Wrong("A frozen filter has moved.")
    steps = {name: start[name] - view.get_parameter(name).detach() for name in grads}
    if all(not step.any() for step in steps.values()):
        raise Wrong("Nothing has moved. `backward` computes gradients, `optimiser.step` uses them, in this order.")
    if all(torch.allclose(steps[name], lr * (grads[name] + 1), atol=1e-4) for name in grads):
        raise Wrong("Gradients of an earlier step are still in there: set them to zero before `backward`.")
    for name, grad in grads.items():
        if not torch.allclose(steps[name], lr * grad, atol=1e-4):
            raise Wrong(f"`{name}` has not moved by its rate times its gradient. Is every line there, in its order?")
    if not torch.allclose(view.get_buffer("bn.running_mean"), twin.get_buffer("bn.running_mean"), atol=1e-5):
        raise Wrong("BatchNorm's averages did not move once: run the view once, in training mode.")


def rate(answer: Callable[[torch.Tensor, torch.Tensor, float], Any]) -> str:
    """rate(weight, weight_gradient, lr) -> the rate at which a step on alpha moves W_d as far as lr moves W."""
    for conv, _ in random_convs(4):
        weight, through, lr = conv.weight.detach(), torch.randn_like(conv.weight), 10 ** random.uniform(-3, -0.5)
        gradient = torch.zeros(weight.shape[:2])
        for m, n in product(*map(range, gradient.shape)):
            gradient[m, n] = torch.dot(through[m, n].flatten(), weight[m, n].flatten())
        moved = gradient[:, :, None, None] * weight
        expected = lr * float(through.norm() / moved.norm())
        got = answer(weight.clone(), through.clone(), lr)
        if isinstance(got, torch.Tensor) and got.numel() > 1:
            raise Wrong(f"This has {got.numel()} values. One rate serves the whole layer: compare norms.")
        got = number_in(got, "the rate")
        wrong = {
            "You compared gradients. But a step on α moves the filter by W times that step: compare moves.": lr
            * float(through.norm() / gradient.norm()),
            "This is upside down: a step on α moves the filter too little, so α's rate must be larger.": lr
            * lr
            / expected,
            "This is by how much the rate has to be larger. Multiply it by the weights' rate `lr`.": expected / lr,
            "These are squared norms. The distance is the norm itself.": lr
            * float(through.square().sum() / moved.square().sum()),
            "One factor of W is missing: α's gradient is a sum over the slice of W times the weights' gradient.": lr
            * float(through.norm() / (through.sum((2, 3))[:, :, None, None] * weight).norm()),
        }
        for message, candidate in wrong.items():
            if math.isclose(got, candidate, rel_tol=1e-4) and not math.isclose(candidate, expected, rel_tol=6e-3):
                raise Wrong(message)
        if not math.isclose(got, expected, rel_tol=6e-3):  # three digits are enough
            raise Wrong(
                f"At your rate, {got:.3g}, a step on α moves the filters by {got * float(moved.norm()):.3g}; "
                f"fine-tuning moves them by {lr * float(through.norm()):.3g}."
            )
    return "Two factors of W are between α's rate and the filter's move: one in the gradient, one in W ⊙ α itself."


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
        if count == 9 and got == log[worse]["test_accuracy"]:
            raise Wrong("Two epochs have the same validation accuracy. Let the lower validation loss decide.")
        if count > 1 and got == log[-1]["test_accuracy"] != best["test_accuracy"]:
            raise Wrong("This is the last epoch. Validation says whether an earlier one was better.")
        lowest = min(log, key=lambda entry: entry["val_loss"])
        if count > 1 and got == lowest["test_accuracy"] != best["test_accuracy"]:
            raise Wrong("This is the epoch with the lowest validation loss. Accuracy chooses; the loss breaks ties.")
        if count > 1 and got == max(entry["test_accuracy"] for entry in log) != best["test_accuracy"]:
            raise Wrong("This is the best *test* epoch. Nobody can choose it without looking at the test labels.")
        same_number(got, best["test_accuracy"], "the accuracy to report")
    return "Chosen on validation, read once on test: a number that holds for images that nobody has looked at."


EXERCISES = {"training_step": training_step, "rate": rate, "report": report}

QUIZ = (
    Question(
        "Fine-tuning would move a slice of nine weights of 0.1 by 0.01 each, along the slice. With the same rate, by "
        "how much does α move them?",
        {
            "0.0009 each": "α's step is 9 · 0.01 · 0.1 = 0.009, and the weights move by 0.009 · 0.1: two factors of W.",
            "0.01 each, as far as fine-tuning": "The rate is the same, but α is not the weight: its gradient and its "
            "effect are both scaled by W.",
            "0.009 each": "That is the step of α itself. The filter moves by W times as much.",
            "0.001 each": "That has one factor of W. The nine products are added up, and W comes twice.",
        },
        right="0.0009 each",
    ),
    Question(
        "The base network is frozen. What does the backward pass still compute in a frozen convolution?",
        {
            "Nothing: frozen layers are skipped, which saves the time": (
                "Then the layers below would get no gradient. The path to their α leads through this layer's input."
            ),
            "The gradients of its input and of its α, not that of W": (
                "The input's gradient goes on to the layers below, the optimiser uses α's, and W's is not needed."
            ),
            "The gradient of W, which is thrown away afterwards": (
                "On the way to α, autograd needs the gradient of the product W ⊙ α, which is just as large. The step "
                "from there to W is what requires_grad=False leaves out."
            ),
        },
        right="The gradients of its input and of its α, not that of W",
    ),
    Question(
        "Somebody adds random numbers to all 3×3 filters. Which share of the change, in squared distance, can α make?",
        {
            "About 11 %": "One direction of nine in every slice: 1/9. Of the changes that fine-tuning learned, more "
            "than that lay along the slices: the notebook has measured how much.",
            "About 33 %": "That is the share of the length, √(1/9). Squared distances add up, so the share is 1/9.",
            "0 %": "A random direction has some part along the slice: on average one ninth of its square.",
            "100 %": "Only if every slice were merely rescaled. A random change also reshapes it, in eight directions.",
        },
        right="About 11 %",
    ),
)
