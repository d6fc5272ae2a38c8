"""Exercises and quiz of notebook 12, "When it does not work, and your own images"."""

import random
from collections.abc import Callable
from typing import Any

import torch

from madlab.lessons.checks import Wrong, present, same_tensor
from madlab.lessons.quizzes import Question

VERDICTS = ("rate too small", "rate too large", "base too small", "rank too small", "no failure")


def diagnose(answer: Callable[[float, float, float, float], Any]) -> str:
    """diagnose(moved, loss, full_loss, finetune_loss) -> one of five verdicts; the exercise states the rules."""
    cases = [
        (0.001, 3.0, 2.9, 2.8),
        (40.0, 3.0, 2.9, 0.6),
        (0.4, 2.1, 0.9, 0.6),
        (0.4, 2.9, 2.8, 2.7),
        (0.4, 0.9, 0.8, 0.6),
    ]
    # At each limit and close to it on both sides; all differences are exact.
    cases += [(moved, 0.75, 0.75, 0.5) for moved in (0.0099, 0.01, 0.0101, 4.9, 5.0, 5.1)]
    cases += [(0.4, 2.0, 1.75, finetune) for finetune in (1.484375, 1.5, 1.515625)]
    cases += [(0.4, 1.0 + gap, 1.0, 0.5) for gap in (0.484375, 0.5, 0.515625)]
    for _ in range(40):
        moved = 10 ** random.uniform(-4, 2)
        finetune = random.uniform(0.5, 3)
        full = finetune + random.uniform(0, 0.5)
        cases.append((moved, full + random.choice((0.1, 0.3, 0.8, 1.5)), full, finetune))

    for case in cases:
        got, want = answer(*case), _verdict(*case)
        told = "moved = {:.3g}, loss = {:.4g}, full_loss = {:.4g}, finetune_loss = {:.4g}".format(*case)
        present(got, "the verdict")
        if got not in VERDICTS:
            raise Wrong(f"{got!r} is not a verdict. Return one of {', '.join(map(repr, VERDICTS))}.")
        if want == VERDICTS[2] and got == VERDICTS[3]:
            raise Wrong(f"For {told} you say {got!r}. But fine-tuning fails as well: no rank would help this base.")
        if want in VERDICTS[:2] and got in VERDICTS[2:]:
            raise Wrong(f"For {told} you say {got!r}. Ask about the rate first: a wrong one distorts all other signs.")
        if got != want:
            raise Wrong(f"For {told} you say {got!r}; it should be {want!r}.")
    return "The order matters: a wrong rate imitates every other failure, so it is ruled out first."


def _verdict(moved: float, loss: float, full_loss: float, finetune_loss: float) -> str:
    if moved < 0.01:
        return "rate too small"
    if moved > 5:
        return "rate too large"
    if finetune_loss > 1.5:
        return "base too small"
    return "rank too small" if loss > full_loss + 0.5 else "no failure"


def statistics(answer: Callable[[list[torch.Tensor]], Any]) -> str:
    """statistics(batches) -> mean (C,), variance (C,) of all pixels of all batches (B, C, H, W) together."""
    for _ in range(5):
        channels = random.randint(2, 5)
        batches: list[torch.Tensor] = []
        for size in (1, random.randint(4, 6), random.randint(2, 3)):  # so few that a count minus one shows
            pixels = torch.randn(size, channels, len(batches) + 1, 3)  # of images that nobody can join
            batches.append(3 * torch.randn(1, channels, 1, 1) + (1 + torch.rand(1)) * pixels)
        rows = [batch.double().permute(1, 0, 2, 3).flatten(1) for batch in batches]
        together = torch.cat(rows, 1)
        mean, variance = together.mean(1), together.var(1, correction=0)
        try:
            got = answer([batch.clone() for batch in batches])
        except RuntimeError as error:
            if "Sizes of tensors must match" not in str(error):
                raise
            raise Wrong(
                "Do not join the batches: their images differ in height, and would not fit into memory."
            ) from None
        present(got, "the pair of mean and variance")
        if not isinstance(got, tuple | list) or len(got) != 2:
            raise Wrong("Return two tensors: `return mean, variance`.")
        for value, what in zip(got, ("the mean", "the variance"), strict=True):
            present(value, what)

        means = torch.stack([row.mean(1) for row in rows])
        variances = torch.stack([row.var(1, correction=0) for row in rows])
        sizes = torch.tensor([[row.shape[1]] for row in rows], dtype=torch.float64)
        if _near(got[0], means.mean(0)):
            raise Wrong("Every batch counts the same in this mean, but they have different numbers of pixels.")
        images = torch.tensor([[len(batch)] for batch in batches], dtype=torch.float64)
        if _near(got[0], (means * images).sum(0) / images.sum()):
            raise Wrong("Every image counts the same in this mean, but they have different numbers of pixels.")
        same_tensor(got[0], mean.float(), "the mean", tolerance=1e-4)
        if _near(got[1], (variances * sizes).sum(0) / sizes.sum()) or _near(got[1], variances.mean(0)):
            raise Wrong("This is the mean of the batches' variances. It ignores that the batches' means differ, too.")
        if _near(got[1], variance * sizes.sum() / (sizes.sum() - 1)):
            raise Wrong("This divides by the count minus one; divide by the count of all pixels.")
        if _near(got[1], variance.sqrt()):
            raise Wrong("This is the standard deviation: the variance is its square.")
        if _near(got[1], variance + mean.square()):
            raise Wrong("This is the mean of the squares. Subtract the square of the mean.")
        same_tensor(got[1], variance.float(), "the variance", tolerance=1e-4)
    return "This is what BatchNorm should know after a pass over the training images, in whatever batches they came."


def _near(got: Any, want: torch.Tensor) -> bool:
    there = torch.as_tensor(got).double()
    return there.shape == want.shape and torch.allclose(there, want, rtol=1e-4, atol=1e-5)


def split(answer: Callable[[list[tuple[str, str, str]]], Any]) -> str:
    """split(files) -> {"train": [...], "val": [...], "test": [...]}, with no object in two of them.

    files: (file, class, object) of each photograph; the answer lists files.
    """
    for _ in range(8):  # a split by luck has to succeed eight times
        files = []
        numbers = random.sample(range(100, 1000), 36)  # names say nothing of the class
        for label in ("bolt", "nut", "washer", "screw"):
            for _ in range(random.randint(6, 9)):
                name = f"object {numbers.pop()}"
                files += [(f"{name}, {shot}.png", label, name) for shot in range(random.randint(2, 4))]
        random.shuffle(files)

        got = answer(list(files))
        present(got, "the dict of splits")
        if not isinstance(got, dict):
            raise Wrong(f"The answer should be a dict with the keys train, val and test, not {type(got).__name__}.")
        if set(got) != {"train", "val", "test"}:
            raise Wrong(f"The answer has the keys {sorted(map(str, got))}; it should have train, val and test.")
        for part, names in got.items():
            present(names, f"the list of {part}")
        label_of = {file: label for file, label, _ in files}
        object_of = {file: thing for file, _, thing in files}
        given = [file for part in got.values() for file in part]
        if any(file not in label_of for file in given):
            raise Wrong("Return the names of the files, without class and object: the first entry of each triple.")
        if len(given) != len(set(given)):
            raise Wrong("A file is in two splits, or twice in one.")
        if len(given) != len(files):
            raise Wrong(f"{len(files) - len(given)} of {len(files)} files are in no split.")

        owner: dict[str, str] = {}
        for part, names in got.items():
            for file in names:
                thing = object_of[file]
                if owner.setdefault(thing, part) != part:
                    raise Wrong(f"Photographs of {thing} are in {owner[thing]} and {part}: the test would be too easy.")
            lacking = set(label_of.values()) - {label_of[file] for file in names}
            if lacking:
                raise Wrong(f"{part} has no {sorted(lacking)[0]}: every split needs every class.")
        things = {part: sum(home == part for home in owner.values()) for part in got}
        if things["train"] <= things["val"] + things["test"]:
            raise Wrong(
                f"Training got {things['train']} of {len(owner)} objects; it should have more than half of them."
            )
    return "No object is on both sides, so the test asks about objects that the network has never seen."


EXERCISES = {"diagnose": diagnose, "statistics": statistics, "split": split}

QUIZ = (
    Question(
        "Rank 1 has a high training loss, full α a low one, at rates that moved the filters well. What do you change?",
        {
            "The rank": "The two differ in the rank alone, and already on the training images. It is too small.",
            "The base network": "Full α reaches a low loss on the same base, so the base is good enough.",
            "The weight decay": (
                "Decay counters overfitting, a gap between training and held-out images. Here training itself fails."
            ),
        },
        right="The rank",
    ),
    Question(
        "A finished adapter has a low training loss but guesses in eval mode, even on its training images. Why?",
        {
            "It overfits": "Overfitting shows on held-out images. These are training images, and the weights are the "
            "same.",
            "Its BatchNorm statistics are foreign": (
                "The mode is the only difference: the batch statistics are right, the stored ones are wrong."
            ),
            "The learning rate of the adapter was too small": "Then α stays near one, and both modes agree.",
        },
        right="Its BatchNorm statistics are foreign",
    ),
    Question(
        "On your own images MAD reaches 99 % on the first try. What do you check first?",
        {
            "Whether a larger rank gets the last percent": "First ask whether the 99 % means what you think it means.",
            "Whether objects are in two splits": (
                "Pictures of one object in training and in test are the commonest reason for results that are too good."
            ),
            "Nothing; it worked": "Too good is a sign of failure too, and the only one that nobody complains about.",
        },
        right="Whether objects are in two splits",
    ),
)
