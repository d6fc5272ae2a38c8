"""Exercises and quiz of notebook 00, "Start here"."""

from collections.abc import Callable
from itertools import product
from typing import Any

import torch

from madlab.lessons.checks import Wrong, in_format_of, number_in, present, random_convs, same_tensor
from madlab.lessons.quizzes import Question

ROUNDED = 0.006
"""Percent that an accuracy may be off, so that two decimals are enough; one image of 40 is 2.5."""


def modulate(answer: Callable[[torch.Tensor, torch.Tensor], Any]) -> str:
    """modulate(weight, alpha) -> the weights of a domain (M, N, k, k), from the base's and from alpha (M, N)."""
    for conv, _ in random_convs(3):
        weight, alpha = conv.weight.detach(), torch.randn(conv.weight.shape[:2])
        expected = weight.clone()
        for m, n in product(*map(range, alpha.shape)):
            expected[m, n] *= alpha[m, n]
        given = weight.clone(), alpha.clone()
        got = answer(*given)
        present(got, "the domain's weights")
        if not torch.equal(given[0], weight):
            raise Wrong("The base's weights were changed, but all domains share them. Return new weights.")
        if given[1].shape != alpha.shape or not torch.equal(given[1], alpha):
            raise Wrong("α was changed, in its shape or its numbers: a function whose name ends in _ works in place.")
        got = in_format_of(expected, got)
        wrong = {
            "The weights were added to α. Multiply them.": weight + alpha[:, :, None, None],
            "This multiplies by 1 + α. α itself is the factor: 1 leaves a kernel as it is.": weight + expected,
            "This is one number per filter. Each of its kernels, one per input, has a number of its own.": weight
            * alpha.mean(1)[:, None, None, None],
            "This is one number per input. Each output has numbers of its own for the same inputs.": weight
            * alpha.mean(0)[None, :, None, None],
        }
        for message, candidate in wrong.items():
            if isinstance(got, torch.Tensor) and got.shape == candidate.shape and torch.allclose(got, candidate):
                raise Wrong(message)
        same_tensor(got, expected, "the domain's weight")
    return "This one line is the whole method; the rest of the course is about what it can do."


def accuracy(answer: Callable[[torch.Tensor, torch.Tensor], Any]) -> str:
    """accuracy(logits, labels) -> how many of the images have their largest logit at their label, in percent."""
    for images, classes, right in ((7, 3, 5), (40, 10, 9), (8, 6, 8)):
        labels = torch.randint(classes, (images,))
        logits = torch.randn(images, classes)
        for number in range(images):  # the largest logit stands at the label, or one place further
            logits[number, (labels[number] + (number >= right)) % classes] = 4 + torch.rand(()).item()
        order = torch.randperm(images)
        logits, labels = logits[order], labels[order]
        got = number_in(answer(logits, labels), "the accuracy")
        want = 100 * right / images
        wrong = {
            "This is a share. In percent it is a hundred times as much.": want / 100,
            "This is the error. The accuracy is 100 % minus the error.": 100 - want,
            "This counts the right answers. Divide by the number of images, and multiply by 100.": right,
            "This is how sure the network is. How often is it right?": 100 * float(logits.softmax(1).amax(1).mean()),
        }
        for message, candidate in wrong.items():
            if abs(want - candidate) > 2 * ROUNDED and abs(got - candidate) < ROUNDED:
                raise Wrong(message)
        if abs(got - want) > ROUNDED:
            raise Wrong(
                f"With {right} right answers of {images} the accuracy is {want:.2f} %, not {got:.2f} %. The class with "
                "the largest logit is the network's answer."
            )
    return "Every accuracy of the course is computed like this, on images that were not trained on."


EXERCISES = {"modulate": modulate, "accuracy": accuracy}

QUIZ = (
    Question(
        "A convolution has 64 inputs, 128 outputs and 3×3 kernels. How many numbers does its full adapter have?",
        {
            "8,192": "64 · 128: one number for each kernel, so for each pair of input and output.",
            "73,728": "That is every weight, 64 · 128 · 9. A kernel's nine weights share one number.",
            "192": "That is 64 + 128. Each pair of input and output has a number, so the two are multiplied.",
            "1,152": "That is 128 · 9. The adapter does not depend on the kernel's size, but on both channel counts.",
        },
        "8,192",
    ),
    Question(
        "A base network has 6 million weights, an adapter 0.6 million numbers. What do the base and twenty adapters "
        "cost, as a share of twenty separate networks?",
        {
            "15 %": "6 + 20 · 0.6 = 18 million, divided by 20 · 6 = 120 million. The base is paid for once.",
            "10 %": "That is what one adapter costs. The base has to be stored, too: 18 of 120 million.",
            "110 %": "That is one base and one adapter, measured by one network. Here the base serves twenty domains.",
            "5.5 %": "That is one base with one adapter, 6.6 of 120 million. Every domain has an adapter.",
        },
        "15 %",
    ),
    Question(
        "A new domain is added to a network that already serves nine. What happens to the nine?",
        {
            "They get a little worse": "That happens when shared weights are retrained. Here they are frozen.",
            "Nothing at all": "The base and the other adapters are not touched, so their answers stay the same.",
            "They have to be trained again": "They do not: nothing that they use has changed.",
        },
        "Nothing at all",
    ),
)
