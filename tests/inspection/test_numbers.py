"""What a page says of answers, against loops and formulas written by hand."""

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

import madlab
from madlab.inspection import numbers
from madlab.inspection.answers import Answers
from madlab.inspection.compare import paired

NAMES = ["a", "b", "c", "d"]


def made(labels: list[int], rows: list[list[float]], names: list[str] = NAMES) -> Answers:
    images = np.zeros((len(labels), 2, 2, 3), np.uint8)
    return Answers(images, np.array(labels), np.array(rows, np.float32), names)


def random_answers(count: int = 400, classes: int = 4, seed: int = 0, skill: float = 1.5) -> Answers:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    logits = rng.normal(size=(count, classes)) + skill * np.eye(classes)[labels]
    rows = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return made(labels.tolist(), rows.tolist(), [f"class {k}" for k in range(classes)])


def test_wilsons_interval_is_its_formula() -> None:
    z, n, k = 1.959963984540054, 20, 18
    share = numbers.share_of(k, n)
    middle = (k / n + z**2 / (2 * n)) / (1 + z**2 / n)
    reach = z / (1 + z**2 / n) * math.sqrt(k / n * (1 - k / n) / n + z**2 / (4 * n**2))
    assert (share.percent, share.low, share.high) == pytest.approx((90, 100 * (middle - reach), 100 * (middle + reach)))
    nothing, everything = numbers.share_of(0, 5), numbers.share_of(5, 5)
    assert nothing.low == 0 and nothing.high > 40 and everything.high == 100 and everything.low < 60


def test_balanced_accuracy_counts_every_class_the_same() -> None:
    labels = [0] * 8 + [1, 1]
    rows = [[0.9, 0.1, 0, 0]] * 8 + [[0.9, 0.1, 0, 0], [0.1, 0.9, 0, 0]]
    balanced = numbers.balanced_accuracy(made(labels, rows))
    assert balanced.percent == pytest.approx(100 * balanced_accuracy_score(labels, np.argmax(rows, 1)))
    # Wilson's intervals by hand: of 8 of 8 from 8 / (8 + z^2) to 1, of 1 of 2 half of z / sqrt(2 + z^2) about 1 / 2.
    square = 1.959964**2
    first, second = 1 - 8 / (8 + square), 0.5 * (square / (2 + square)) ** 0.5
    assert balanced.low == pytest.approx(75 - 100 * (first**2 + second**2) ** 0.5 / 2, abs=1e-3)
    assert balanced.high == pytest.approx(75 + 100 * second / 2, abs=1e-3)
    assert numbers.accuracy(made(labels, rows)).percent == pytest.approx(90)


def test_one_image_of_a_class_leaves_its_recall_open() -> None:
    """All is right, and that is no proof of 100 %; nothing else is printed for classes without images."""
    rows = [[0.9, 0.1, 0, 0]] * 5 + [[0.1, 0.9, 0, 0]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        balanced = numbers.balanced_accuracy(made([0] * 5 + [1], rows))
        single = numbers.balanced_accuracy(made([2], [[0.9, 0.1, 0, 0]]))
    assert balanced.percent == balanced.high == pytest.approx(100) and balanced.low < 65
    assert (single.percent, single.low) == pytest.approx((0, 0)) and single.high > 75


def test_a_classs_row_is_what_a_loop_counts() -> None:
    answers = random_answers()
    table, counts = numbers.by_class(answers), numbers.confusion(answers)
    for k, row in table.iterrows():
        of_class = [p for p, label in zip(answers.predicted, answers.labels, strict=True) if label == k]
        said = [label for p, label in zip(answers.predicted, answers.labels, strict=True) if p == k]
        right = sum(p == k for p in of_class)
        recall, precision = right / len(of_class), right / len(said)
        assert row["images"] == len(of_class)
        assert (row["recall"], row["precision"]) == pytest.approx((100 * recall, 100 * precision))
        assert row["f1"] == pytest.approx(100 * 2 * recall * precision / (recall + precision))
        wrong = {name: of_class.count(j) for j, name in enumerate(answers.class_names) if j != k}
        assert row["times"] == max(wrong.values()) == wrong[row["taken_for"]]
        assert counts[k].tolist() == [of_class.count(j) for j in range(4)]


def test_a_class_without_images_or_answers_has_no_numbers() -> None:
    table = numbers.by_class(made([0, 1], [[0.9, 0.1, 0, 0], [0.2, 0.8, 0, 0]])).set_index("class")
    assert table.loc["d", "images"] == 0 and table.loc["d", ["recall", "precision", "low"]].isna().all()
    assert table.loc["d", "taken_for"] == ""


def test_the_pairs_that_are_mixed_up_come_first() -> None:
    rows = [[0, 1, 0, 0]] * 3 + [[0, 0, 1, 0]] + [[0, 0, 1, 0]] * 2
    pairs = numbers.mixed_up(made([0] * 4 + [3] * 2, rows))
    assert pairs[["class", "taken_for", "times", "of"]].values.tolist() == [
        ["a", "b", 3, 4],
        ["d", "c", 2, 2],
        ["a", "c", 1, 4],
    ]
    assert numbers.mixed_up(made([0], [[1, 0, 0, 0]])).empty


def test_classes_that_are_mixed_up_become_neighbours() -> None:
    counts = 10 * np.eye(16, dtype=int)
    partner = [15 - k for k in range(16)]
    for k, other in enumerate(partner):
        counts[k, other] = 9
    order = numbers.order_by_confusion(counts)
    assert sorted(order) == list(range(16))
    assert all(abs(order.index(k) - order.index(other)) == 1 for k, other in enumerate(partner))
    assert numbers.order_by_confusion(counts[:5, :5]) == [0, 1, 2, 3, 4]


def test_the_calibration_error_is_what_a_loop_over_bins_gives() -> None:
    answers = random_answers(1000, skill=0.5)
    fit, error = numbers.calibration(answers), 0.0
    for k in range(15):
        inside = [
            (float(c), bool(r))
            for c, r in zip(answers.confidence, answers.right, strict=True)
            if k / 15 < c <= (k + 1) / 15
        ]
        if inside:
            gap = sum(r for _, r in inside) / len(inside) - sum(c for c, _ in inside) / len(inside)
            error += abs(gap) * len(inside) / 1000
    assert fit.error == pytest.approx(100 * error, abs=1e-4) and sum(fit.counts) == 1000


def test_the_surest_mistakes_and_the_least_certain_right_answers() -> None:
    rows = [[0.9, 0.1, 0, 0], [0.6, 0.4, 0, 0], [0.99, 0.01, 0, 0], [0.3, 0.7, 0, 0]]
    answers = made([1, 0, 1, 0], rows)
    assert answers.worst_mistakes(2).tolist() == [2, 0] and answers.worst_mistakes(9).tolist() == [2, 0, 3]
    assert answers.least_certain(9).tolist() == [1]


def test_mcnemars_p_is_the_sum_of_binomial_terms() -> None:
    one, other = random_answers(300, seed=1, skill=2), random_answers(300, seed=1, skill=2.6)
    found = paired(one, other)
    only_one = sum(a and not b for a, b in zip(one.right, other.right, strict=True))
    only_other = sum(b and not a for a, b in zip(one.right, other.right, strict=True))
    assert (found.first, found.second) == (only_one, only_other)
    assert found.both + found.first + found.second + found.neither == 300
    n, k = only_one + only_other, min(only_one, only_other)
    p = min(1.0, 2 * sum(math.comb(n, i) for i in range(k + 1)) / 2**n)
    assert found.mcnemar == pytest.approx(p)
    gap = other.right.mean() - one.right.mean()
    assert found.difference.estimate == pytest.approx(100 * gap)
    # The variance of a difference of paired shares, for an interval of about two standard errors on either side.
    error = 100 * math.sqrt((n / 300 - gap**2) / 300)
    assert (found.difference.high - found.difference.low) / 2 == pytest.approx(1.96 * error, rel=0.08)


def test_a_run_beside_itself_does_not_differ() -> None:
    found = paired(random_answers(), random_answers())
    assert (found.first, found.second, found.mcnemar) == (0, 0, 1.0)
    assert (found.difference.low, found.difference.high) == (0, 0)


def test_other_images_cannot_be_compared() -> None:
    with pytest.raises(madlab.MadlabError, match="not given the same images"):
        paired(random_answers(seed=1), random_answers(seed=2))


def test_images_that_were_prepared_in_another_way_have_other_pixels() -> None:
    one = random_answers()
    zoomed = replace(one, images=one.images + 1)
    with pytest.raises(madlab.MadlabError, match="not given the same images"):
        paired(one, zoomed)
    assert paired(one, zoomed, prepared_alike=False).mcnemar == 1.0
