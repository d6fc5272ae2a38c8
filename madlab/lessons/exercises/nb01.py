"""Exercises and quiz of notebook 01, "Domains, and how they are scored"."""

from collections.abc import Callable
from itertools import permutations
from typing import Any

import torch

from madlab.lessons.checks import Wrong, number_in, present, same_number
from madlab.lessons.quizzes import Question

ROUNDED = 0.006
"""By how much an answer may be off: two decimals are enough."""


def _points(error: float, finetuned_error: float) -> float:
    """A domain's share of the score, written out independently of the library."""
    most = 2 * finetuned_error
    return 0.0 if error >= most else 1000 * ((most - error) / most) ** 2


def _percent(low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand(()))


def next_point(answer: Callable[[float], float]) -> str:
    """next_point(finetuned) -> points of the score for one more point of accuracy than fine-tuning; both in percent."""
    for finetuned in (97.53, 51.2, *(_percent(5, 98.5) for _ in range(4))):
        error = 100 - finetuned
        what = f"The gain at a fine-tuned accuracy of {finetuned:.2f} %"
        got, want = number_in(answer(finetuned), what), _points(error - 1, error) - 250
        tangent = 1000 / (2 * error)
        if abs(got - tangent) < 1e-6 * tangent:
            raise Wrong(
                f"At {finetuned:.2f} % this is the slope of the curve, {tangent:.1f}. The curve bends: take the "
                f"difference of the two scores, {want:.1f}."
            )
        too_strict = _points(error - 1, error / 2)  # with the error of the fine-tuned network as Emax
        if min(abs(got - too_strict), abs(got - too_strict + 250)) < 1e-6:
            raise Wrong("Emax is <i>twice</i> the error of the fine-tuned network.")
        if abs(got - want - 250) < 1e-6:
            raise Wrong("This is the whole score at the next accuracy. Subtract the 250 that fine-tuning already has.")
        if abs(got - want) > ROUNDED:
            same_number(got, want, what, tolerance=1e-4)  # as float32 has it
    return "Correct for six baselines. With errors of 2.47 and 48.8 it gives 243 and 10."


def accuracy_needed(answer: Callable[[float, float], float]) -> str:
    """accuracy_needed(points, finetuned) -> the accuracy in percent that earns these points."""
    for points in (_percent(20, 240), _percent(260, 980), 250.0, 0.0, 1000.0):
        finetuned = _percent(51, 99)
        error = 100 - finetuned
        want = 100 - 2 * error * (1 - (points / 1000) ** 0.5)
        what = f"The accuracy for {points:.0f} points over a fine-tuned {finetuned:.2f} %"
        got = number_in(answer(points, finetuned), what)
        wrong = {
            "This is the error. The exercise asks for the accuracy, 100 minus the error.": 100 - want,
            "This is a share. The exercise asks for percent.": want / 100,
            "The score is quadratic: solving for the error takes a square root.": 100 - 2 * error * (1 - points / 1000),
            "Emax is twice the error of the fine-tuned network.": 100 - error * (1 - (points / 1000) ** 0.5),
            "This is what the points take away. The error is what they leave of Emax.": 100
            - 2 * error * (points / 1000) ** 0.5,
        }
        for message, candidate in wrong.items():
            if abs(got - candidate) < 1e-6 * max(1, abs(candidate)) and abs(want - candidate) > 1e-3:
                raise Wrong(message)
        if points == 0 and got <= want:  # whoever is below it earns nothing, either
            continue
        if abs(got - want) > max(ROUNDED, 1e-4 * want):
            error_left = 100 - got
            raise Wrong(
                f"{what}: {got:.2f} % leaves an error of {error_left:.2f} %, which earns "
                f"{_points(max(0.0, error_left), error):.0f} points. Put your accuracy back into the formula."
            )
    return "Correct: for 0, 250 and 1000 points it gives twice the baseline's error, the baseline itself, and 100 %."


def _rows(count: int) -> list[dict[str, Any]]:
    """Random rows, with two that are level with the first in one number, and one that disagrees with all others."""
    # None is 0, which whoever looks for rows without a number may take for none.
    means, scores = (1 + torch.randperm(most)[:count] for most in (99, 3999))
    rows: list[dict[str, Any]] = [
        {"method": f"method {number}", "mean": float(mean), "score": score}
        for number, (mean, score) in enumerate(zip(means.tolist(), scores.tolist(), strict=True))
    ]
    first = rows[0]
    rows.append({"method": "same mean", "mean": first["mean"], "score": first["score"] + 0.5})
    rows.append({"method": "same score", "mean": first["mean"] - 0.5, "score": first["score"]})
    rows.append({"method": "contrary", "mean": 100.0, "score": -1})
    return rows


def disagreements(answer: Callable[[list[dict[str, Any]]], Any]) -> str:
    """disagreements(rows) -> all pairs of methods (the one with the higher mean, the one with the higher score)."""
    for rows in (_rows(2), _rows(5), _rows(5)[::-1]):
        want = {
            (first["method"], second["method"])
            for first, second in permutations(rows, 2)
            if first["mean"] > second["mean"] and first["score"] < second["score"]
        }
        got = answer(rows)
        present(got, "the list of pairs")
        try:
            pairs = [(str(first), str(second)) for first, second in got]
        except (TypeError, ValueError):
            raise Wrong("The answer should be a list of pairs of names, [(a, b), ...].") from None
        if len(set(pairs)) < len(pairs):
            raise Wrong("A pair is in the list twice.")
        superfluous, missing = sorted(set(pairs) - want), sorted(want - set(pairs))
        if superfluous:
            pair = superfluous[0]
            if pair[::-1] in want:
                raise Wrong(f"{pair} is the wrong way round: the one with the higher mean accuracy comes first.")
            raise Wrong(f"{pair} is not a disagreement: the first needs the higher mean, the second the higher score.")
        if missing:
            raise Wrong(f"{missing[0]} is missing: the first has the higher mean, the second the higher score.")
    return "All pairs found, and no others."


EXERCISES = {"next_point": next_point, "accuracy_needed": accuracy_needed, "disagreements": disagreements}

QUIZ = (
    Question(
        "A car's camera must name each traffic sign <i>and</i> say how far away it is. What is that?",
        {
            "Multi-domain learning": "Both questions are about the same picture. Several domains would be several "
            "kinds of pictures, each with a question of its own.",
            "Multi-task learning": "One picture, several questions: each image has a label for each task, and one "
            "forward pass answers them all.",
            "Neither: one network can only have one output": "A network may have any number of heads. What matters is "
            "whether they all look at the same images.",
        },
        right="Multi-task learning",
    ),
    Question(
        "On a domain the fine-tuned network has an error of 10 %, and your method has one of 5 %. How many points does "
        "it earn?",
        {
            "500": "Half of the fine-tuned error is left, but the score is quadratic, and it is measured against twice "
            "that error.",
            "562": "Emax is 20 %, of which 15 are not made: 1000 · (15 / 20)² = 562.5.",
            "250": "That is what an error of 10 % earns, the fine-tuned network's own.",
            "750": "Three quarters of Emax are not made. The share is then squared.",
        },
        right="562",
    ),
    Question(
        "A new domain has 10 images per class. What is the best reason to train few parameters for it?",
        {
            "What is not trained stays borrowed from the base": "There it was learned from far more than ten images. "
            "The count alone says little: what matters is what is borrowed, and how near it is. Where a domain is far "
            "from the base and has many images, a small adapter can be too rigid.",
            "Inference with fewer trained parameters is faster": "The number of trained parameters says nothing about "
            "speed: a merged adapter and a fine-tuned network run exactly the same convolutions.",
            "Fewer parameters always give a higher test accuracy": "Frozen features train the fewest, and they lose on "
            "most domains of the decathlon, by 53 points on house numbers and 37 on aircraft.",
        },
        right="What is not trained stays borrowed from the base",
    ),
)
