"""What answers amount to: accuracies with intervals, a table of classes, what is mixed up, and how sure it may be."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform
from sklearn.calibration import calibration_curve
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from madlab.inspection.answers import Answers
from madlab.statistics import wilson_interval

BINS = 15
"""Of equal width, in which probabilities are compared with what is right, as in Guo et al., arXiv 1706.04599."""
MANY = 12
"""Classes above which a confusion matrix is ordered by what is mixed up."""


@dataclass(frozen=True)
class Share:
    """A share in percent, with its interval of 95 %."""

    percent: float
    low: float
    high: float


@dataclass(frozen=True)
class Calibration:
    """By bin that has answers: mean probability, share that is right (both 0 to 1), and number of answers.

    error: the expected calibration error in percent, the mean distance of the two over all answers.
    """

    confidence: list[float]
    accuracy: list[float]
    counts: list[int]
    error: float


def share_of(right: int, of: int) -> Share:
    """A share with Wilson's interval."""
    return Share(100 * right / of, *wilson_interval(right, of))


def accuracy(answers: Answers) -> Share:
    """The share of images that is right."""
    return share_of(int(answers.right.sum()), len(answers.labels))


def balanced_accuracy(answers: Answers) -> Share:
    """The mean of the classes' recalls, with the interval that follows from Wilson's for each class.

    What each class leaves open adds up in squares (MOVER: Zou & Donner, Statistics in Medicine 27, 2008). Drawing the
    images of a class again would say that one image leaves nothing open. In simulations with classes of 9, 9, 9 and 1
    images it held in 96 % of the cases, drawing again in 44 %; with 50 classes of three images it is too narrow (83 %).
    """
    rows = [answers.right[answers.labels == label] for label in np.unique(answers.labels)]
    recalls = [share_of(int(right.sum()), len(right)) for right in rows]
    mean = float(np.mean([own.percent for own in recalls]))
    down, up = (
        float(np.sqrt(np.sum(np.square(gaps)))) / len(recalls)
        for gaps in ([own.percent - own.low for own in recalls], [own.high - own.percent for own in recalls])
    )
    return Share(mean, mean - down, mean + up)


def confusion(answers: Answers) -> NDArray[np.int64]:
    """How many images of each class (rows) were taken for each (columns), (C, C)."""
    return confusion_matrix(answers.labels, answers.predicted, labels=range(len(answers.class_names)))


def by_class(answers: Answers) -> pd.DataFrame:
    """One row per class, in percent: images, recall with its interval, precision, F1, and what it is mixed up with.

    Precision is missing for a class that is never an answer, recall for one without images.
    """
    every = range(len(answers.class_names))
    with np.errstate(invalid="ignore"):
        precision, recall, f1, images = precision_recall_fscore_support(
            answers.labels, answers.predicted, labels=every, zero_division=np.nan
        )
    counts = confusion(answers)
    rows = []
    for label in every:
        interval = share_of(int(counts[label, label]), int(images[label])) if images[label] else None
        off = counts[label].copy()
        off[label] = 0
        rows.append(
            {
                "class": answers.class_names[label],
                "images": int(images[label]),
                "recall": 100 * recall[label],
                "low": interval.low if interval else np.nan,
                "high": interval.high if interval else np.nan,
                "precision": 100 * precision[label],
                "f1": 100 * f1[label],
                "taken_for": answers.class_names[int(off.argmax())] if off.any() else "",
                "times": int(off.max()),
            }
        )
    return pd.DataFrame(rows)


def mixed_up(answers: Answers, most: int = 10) -> pd.DataFrame:
    """The pairs of classes that are mixed up most often: class, taken_for, times, of (images of the class)."""
    counts = confusion(answers)
    wrong = counts * ~np.eye(len(counts), dtype=bool)
    table = pd.DataFrame(wrong, index=answers.class_names, columns=answers.class_names)
    pairs = table.stack().reset_index()
    pairs.columns = pd.Index(["class", "taken_for", "times"])
    images = dict(zip(answers.class_names, counts.sum(1).tolist(), strict=True))
    pairs = pairs[pairs["times"] > 0].sort_values("times", ascending=False, kind="stable").head(most)
    return pairs.assign(of=pairs["class"].map(images))


def order_by_confusion(counts: NDArray[np.int64]) -> list[int]:
    """An order of the classes in which those that are mixed up are neighbours; up to MANY classes keep their own.

    Average linkage of the distance 1 - (share of i taken for j + share of j taken for i) / 2, with the best order of
    leaves.
    """
    if len(counts) <= MANY:
        return list(range(len(counts)))
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    distance = 1 - (shares + shares.T) / 2
    np.fill_diagonal(distance, 0)
    tree = linkage(squareform(distance, checks=False), method="average", optimal_ordering=True)
    return leaves_list(tree).tolist()


def calibration(answers: Answers) -> Calibration:
    """How often the answers of each probability are right."""
    right, confidence = answers.right, answers.confidence.astype(np.float64).clip(0, 1)
    accuracy, mean = calibration_curve(right, confidence, n_bins=BINS)
    # The bins of calibration_curve: the left edge belongs to the bin before it.
    place = np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], confidence)
    counts = np.bincount(place, minlength=BINS)
    counts = counts[counts > 0]
    error = float((np.abs(accuracy - mean) * counts).sum() / counts.sum())
    return Calibration(mean.tolist(), accuracy.tolist(), counts.tolist(), 100 * error)
