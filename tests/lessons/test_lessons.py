"""Set-up, checks and quizzes: what a reader is told, for right answers and for typical wrong ones."""

import math
import random
import statistics
import sys
import types
from pathlib import Path

import pytest
import torch

from madlab import lessons
from madlab.device import autocast
from madlab.errors import MadlabError
from madlab.lessons import Question, Quiz, Wrong, same_number, same_tensor, tier


def paired(ours, theirs, spread=statistics.stdev):
    leads = [ours[seed] - theirs[seed] for seed in ours if seed in theirs]
    return statistics.mean(leads), spread(leads)


def unpaired(ours, theirs):
    shared = sorted(set(ours) & set(theirs))
    both = [[row[seed] for seed in shared] for row in (ours, theirs)]
    return statistics.mean(both[0]) - statistics.mean(both[1]), math.hypot(*map(statistics.stdev, both))


# name, answer, whether it is right, what the verdict must say
ANSWERS = [
    ("07.lora_rank", lambda m, n, k: m * n // (m + k * k * n), True, "nine times"),
    ("07.lora_rank", lambda m, n, k: (m * n - 1) // (m + k * k * n), False, "M = 64, N = 64, k = 1 is 31"),
    ("07.lora_rank", lambda m, n, k: m * n // (k * k * m + n), False, "mixed up"),
    ("07.paired", paired, True, "luck of a seed cancels"),
    ("07.paired", lambda a, b: paired(b, a), False, "wrong way round"),
    ("07.paired", lambda a, b: paired(a, b, statistics.pstdev), False, "n − 1"),
    ("07.paired", unpaired, False, "seed by seed"),
    ("07.paired", lambda a, b: statistics.mean(a.values()) - statistics.mean(b.values()), False, "two numbers"),
    (
        "07.paired",
        lambda a, b: (statistics.mean(a.values()) - statistics.mean(b.values()), 0),
        False,
        "different seeds",
    ),
    ("08.sparse_bits", lambda a, t: a.numel() + 32 * ((a - 1).abs() >= t).sum(), True, "price of freedom"),
    ("08.shrink", lambda a, s: 1 + torch.nn.functional.softshrink(a - 1, s), True, "Soft thresholding"),
    ("08.shrink", lambda a, s: a - s * (a - 1).sign(), False, "come out on the other side"),
]


@pytest.mark.parametrize("name, answer, passes, says", ANSWERS)
def test_checks_say_what_is_wrong(name, answer, passes, says) -> None:
    for seed in range(5):
        verdict = _verdict(name, answer, seed)
        assert verdict.passed == passes == bool(verdict)
    assert any(says in _verdict(name, answer, seed).message for seed in range(5))
    assert ("Right" in verdict._repr_markdown_()) == passes


def _verdict(name, answer, seed):
    torch.manual_seed(seed)
    random.seed(seed)
    return lessons.check(name, answer)


def test_the_lines_of_a_check_stay_secret() -> None:
    """They hold the solution; the reader's own line is shown."""
    for name, answer in [("01.next_point", lambda: 1.0), ("05.start", lambda m, n, rank: 3), ("12.split", len)]:
        assert "`answer" not in (message := lessons.check(name, answer).message) and "got" not in message
    assert "divide_by_nothing" in lessons.check("00.modulate", divide_by_nothing).message


def test_a_check_leaves_the_random_numbers_as_they_were() -> None:
    """What later cells draw does not depend on the answer."""

    def drawn(answer) -> tuple[float, float]:
        torch.manual_seed(0)
        random.seed(0)
        lessons.check("02.forward", answer)
        lessons.check("07.paired", answer)
        return torch.rand(()).item(), random.random()

    assert drawn(None) == drawn(lambda *given: torch.randn(3)) == drawn(lambda *given: random.random())


def divide_by_nothing(weight, alpha):
    return len("divide_by_nothing") / 0


@pytest.mark.parametrize("answer", [None, ...])
def test_no_answer_yet(answer) -> None:
    assert "no answer" in lessons.check("02.merge", answer).message


@pytest.mark.parametrize("name", ["02.nothing", "99.merge", "merge"])
def test_unknown_exercise(name) -> None:
    with pytest.raises(MadlabError, match="no exercise"):
        lessons.check(name, len)


def test_same_tensor_tells_where() -> None:
    want = torch.arange(6.0).reshape(2, 3)
    same_tensor(want.clone(), want, "it")
    for got, says in [
        (None, "return"),
        (..., "no answer yet"),
        (3.0, "not float"),
        (want.T, r"\(3, 2\); it should be \(2, 3\)"),
        (want / 0, "not finite"),
        (want + torch.tensor([[0.0, 0, 0], [0, 0.5, 0]]), r"at \[1, 1\]: 4.5 instead of 4"),
    ]:
        with pytest.raises(Wrong, match=says):
            same_tensor(got, want, "it")


def test_same_number() -> None:
    same_number(torch.tensor(2.0), 2, "it")
    for got, says in [
        (None, "return"),
        (..., "no answer"),
        ("x", "not str"),
        ("2", "not str"),
        (torch.ones(3), "not Tensor"),
        (2.1, "2.1; it should be 2"),
        (float("nan"), "nan"),
    ]:
        with pytest.raises(Wrong, match=says):
            same_number(got, 2, "it")


def test_tier_follows_the_environment(monkeypatch) -> None:
    monkeypatch.delenv("MADLAB_TIER", raising=False)
    for cuda, expected in [(False, "quick"), (True, "full")]:
        monkeypatch.setattr(torch.cuda, "is_available", lambda cuda=cuda: cuda)
        assert tier() == expected
    monkeypatch.setenv("MADLAB_TIER", "quick")
    assert tier() == "quick"
    monkeypatch.setenv("MADLAB_TIER", "huge")
    with pytest.raises(MadlabError, match="quick or full"):
        tier()


def test_setup_tells_colab_users_where_the_gpu_is(monkeypatch, capsys) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    lessons.setup()
    plain = capsys.readouterr().out
    assert "Tier" in plain and "Runtime" not in plain
    monkeypatch.setitem(__import__("sys").modules, "google.colab", object())
    lessons.setup()
    assert "Runtime > Change runtime type" in capsys.readouterr().out


def test_setup_seeds() -> None:
    lessons.setup()
    first = torch.rand(3)
    lessons.setup()
    assert torch.equal(first, torch.rand(3))


def test_quiz() -> None:
    question = Question("Which?", {"this": "because", "that": "it is not"}, right="this")
    quiz = Quiz((question, question))
    assert quiz.right == 0 and quiz.choices[0].value is None
    quiz.choices[0].value = "that"
    assert "No" in quiz.feedback[0].value and "it is not" in quiz.feedback[0].value and quiz.feedback[1].value == ""
    quiz.choices[0].value = "this"
    quiz.choices[1].value = "that"
    assert quiz.right == 1 and "1 of 2" in quiz.total.value
    with pytest.raises(MadlabError, match="no quiz"):
        lessons.quiz("99")
    with pytest.raises(ValueError, match="not among"):
        Question("Which?", {"this": "because"}, right="other")


def test_a_prediction_is_compared_with_what_was_found() -> None:
    prediction = lessons.predict("How many?", "%")
    prediction.compare(12.34, digits=1)
    assert prediction.value is None and "Found: 12.3 %" in prediction.comparison()
    assert "not predicted" in prediction.comparison()
    for typed, says in [
        ("10", "You predicted 10 %, which is 2.3 points below"),
        (" 20,5 %", "You predicted 20.5 %, which is 8.2 points above"),
        ("12.34", "You predicted 12.34 %: right"),
        ("11.3", "which is 1 point below"),
        ("12.24", "You predicted 12.24 %, which is 0.06 points below"),
        ("−1", "13.3 points below"),
        ("1,012.3", "You predicted 1,012.3 %, which is 1,000 points above"),
        ("2,012", "1,999.7 points above"),
        ("0,125", "12.175 points below"),
        ("many", "'many' is not a number"),
        ("nan", "'nan' is not a number"),
    ]:
        prediction.box.value = typed
        assert says in prediction.comparison()


def test_a_prediction_that_is_typed_later_changes_the_comparison(monkeypatch) -> None:
    shown = []

    class Handle:
        def update(self, text) -> None:
            shown.append(text.data)

    monkeypatch.setattr("IPython.display.display", lambda *_, **__: Handle())
    prediction = lessons.predict("How many?")
    prediction.box.value = "7"
    assert shown == []  # there is nothing to compare with yet
    prediction.compare(8)
    prediction.box.value = "5"
    assert shown == ["**Found: 8.** You predicted 5, which is 3 below it."]


def test_the_place_of_an_answer_says_nothing_about_it() -> None:
    answers = {f"answer {number}": f"because {number}" for number in range(4)}
    questions = [Question(f"Which of {number}?", answers, right="answer 0") for number in range(40)]
    places = {question.shuffled().index("answer 0") for question in questions}
    assert places == {0, 1, 2, 3}
    assert all(question.shuffled() == question.shuffled() for question in questions)


@pytest.mark.parametrize(
    "unit, typed",
    [
        ("points", "2 points"),
        ("points", "2 point"),
        ("points", "2points"),
        ("times", "2x"),
        ("times", "2 ×"),
        ("%", "2 %"),
    ],
)
def test_a_unit_may_be_typed_in_the_forms_that_are_shown(unit: str, typed: str) -> None:
    prediction = lessons.predict("How many?", unit)
    prediction.box.value = typed
    assert prediction.value == 2
    prediction.box.value = "2 apples"
    with pytest.raises(MadlabError, match="is not a number"):
        _ = prediction.value


def test_what_rounds_to_minus_zero_is_zero() -> None:
    prediction = lessons.predict("How many points does it lose?", "points")
    prediction.compare(-0.04, digits=1)
    prediction.box.value = "0"
    assert prediction.comparison() == "**Found: 0.0 points.** You predicted 0 points: right."
    prediction.box.value = "1"
    assert prediction.comparison().endswith("You predicted 1 point, which is 1 point above it.")
    for result, said in ((1.04, "1 point: right."), (0.96, "1 point: right."), (0.0, "which is 1 point above it.")):
        prediction.compare(result, digits=1)
        assert prediction.comparison().endswith(said)
    prediction.box.value = "2.3"
    prediction.compare(1.3, digits=1)
    assert prediction.comparison().endswith("You predicted 2.3 points, which is 1 point above it.")


def test_runs_lie_on_the_drive_in_colab_and_where_they_are_told_elsewhere(monkeypatch) -> None:
    assert lessons.keep("runs/pocket") == Path("runs/pocket")
    mounted = []
    drive = types.SimpleNamespace(mount=mounted.append)
    monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
    monkeypatch.setitem(sys.modules, "google.colab.drive", drive)
    assert lessons.keep("runs/pocket") == Path("/content/drive/MyDrive/madlab/runs/pocket")
    assert mounted == ["/content/drive"]


def test_an_emulated_bf16_is_not_used(monkeypatch) -> None:
    """A T4 has it by emulation alone, in which cuDNN computes no convolutions."""

    def supported(including_emulation=True):
        return including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    monkeypatch.setattr(torch, "autocast", lambda kind, dtype, enabled: enabled)
    assert autocast(torch.device("cuda")) is False
