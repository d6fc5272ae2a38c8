"""Set-up, checks and quizzes: what a reader is told, for right answers and for typical wrong ones."""

import copy

import pytest
import torch

from madlab import lessons
from madlab.errors import MadlabError
from madlab.lessons import Question, Quiz, Wrong, same_number, same_tensor, tier


def right_merge(conv, alpha):
    merged = copy.deepcopy(conv)
    merged.weight.data *= alpha[:, :, None, None]
    return merged


def merge_in_place(conv, alpha):
    conv.weight.data *= alpha[:, :, None, None]
    return conv


def merge_transposed(conv, alpha):
    merged = copy.deepcopy(conv)
    merged.weight.data *= alpha.T[:, :, None, None]
    return merged


def merge_forgetting_stride(conv, alpha):
    merged = torch.nn.Conv2d(conv.in_channels, conv.out_channels, conv.kernel_size, padding=conv.padding)
    merged.weight.data = conv.weight.data * alpha[:, :, None, None]
    merged.bias.data = torch.zeros(conv.out_channels) if conv.bias is None else conv.bias.data
    return merged


def multiply_in_place(weight, target):
    weight.mul_(2)
    return (2 * target / weight)[:, :, 0, 0]


def rank_in(shapes, filters, adapters, room):
    return int(room * filters // (adapters * sum(m + n for m, n in shapes)))


# name, answer, whether it is right, what the verdict must say
ANSWERS = [
    ("00.count", lambda conv: conv.weight.shape[0] * conv.weight.shape[1], True, "One number"),
    ("00.count", lambda conv: conv.weight.numel(), False, "every weight"),
    ("00.count", lambda conv: sum(conv.weight.shape[:2]), False, "M + N"),
    ("00.count", lambda conv: "six", False, "should be a number, not str"),
    ("00.ratio", lambda base, adapter, domains: (base + domains * adapter) / (domains * base), True, "once"),
    ("00.ratio", lambda base, adapter, domains: domains * base / (base + domains * adapter), False, "upside down"),
    ("00.ratio", lambda base, adapter, domains: (base + adapter) / base, False, "one of its own"),
    ("02.merge", right_merge, True, "plain convolution"),
    ("02.merge", merge_in_place, False, "base convolution was changed"),
    ("02.merge", merge_transposed, False, "RuntimeError"),
    ("02.merge", merge_forgetting_stride, False, "shape"),
    ("02.merge", lambda conv, alpha: conv.weight, False, "Parameter"),
    ("02.gradient", lambda w, g: (w * g).sum((2, 3)), True, "inner product"),
    ("02.gradient", lambda w, g: w * g, False, "k × k numbers"),
    ("02.gradient", lambda w, g: torch.einsum("mnij,mnij->nm", w, g), False, "shape"),
    ("02.closest", lambda w, t: (w * t).sum((2, 3)) / (w * w).sum((2, 3)), True, "projection"),
    ("02.closest", lambda w, t: t / w, False, "one number a slice"),
    ("02.closest", lambda w, t: (w * t).sum((2, 3)), False, "Divide"),
    ("09.reach", lambda w, t: (t / w)[:, :, 0, 0], True, "fine-tuning in other numbers"),
    ("09.reach", lambda w, t: t / w, False, "axes of length 1"),
    ("09.reach", lambda w, t: (t - w)[:, :, 0, 0], False, "α multiplies"),
    ("09.reach", lambda w, t: (w / t)[:, :, 0, 0], False, "instead of"),
    ("09.reach", multiply_in_place, False, "have to stay as they are"),
    ("09.largest", lambda shapes, w, d, n: rank_in(shapes, w, d - 1, n - 1), True, "exceeded"),
    ("09.largest", lambda shapes, w, d, n: rank_in(shapes, w, d, n - 1), False, "needs no adapter"),
    ("09.largest", lambda shapes, w, d, n: rank_in(shapes, w, d - 1, n), False, "base network itself is missing"),
    ("09.largest", lambda shapes, w, d, n: (n - 1) * w / (d - 1) / sum(map(sum, shapes)), False, "round down"),
    ("09.error_left", lambda s, d: 2 - 2 * ((s - 250) / (d - 1) / 1000) ** 0.5, True, "fine-tuning itself"),
    ("09.error_left", lambda s, d: 2 - 2 * (s / d / 1000) ** 0.5, False, "take them out first"),
    ("09.error_left", lambda s, d: 1 - ((s - 250) / (d - 1) / 1000) ** 0.5, False, "twice"),
    ("09.error_left", lambda s, d: 2 - 2 * (s - 250) / (d - 1) / 1000, False, "take the root"),
]


@pytest.mark.parametrize("name, answer, passes, says", ANSWERS)
def test_checks_say_what_is_wrong(name, answer, passes, says) -> None:
    for seed in range(5):
        torch.manual_seed(seed)
        verdict = lessons.check(name, answer)
        assert verdict.passed == passes == bool(verdict)
    assert any(says in _verdict(name, answer, seed).message for seed in range(5))
    assert ("Right" in verdict._repr_markdown_()) == passes


def _verdict(name, answer, seed):
    torch.manual_seed(seed)
    return lessons.check(name, answer)


def test_mean_instead_of_sum_is_named() -> None:
    messages = {_verdict("02.gradient", lambda w, g: (w * g).mean((2, 3)), seed).message for seed in range(8)}
    assert any("take the sum" in message for message in messages)


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
    assert quiz.score == 0 and quiz.choices[0].value is None
    quiz.choices[0].value = "that"
    assert "No" in quiz.feedback[0].value and "it is not" in quiz.feedback[0].value and quiz.feedback[1].value == ""
    quiz.choices[0].value = "this"
    quiz.choices[1].value = "that"
    assert quiz.score == 1 and "1 of 2" in quiz.total.value
    with pytest.raises(MadlabError, match="no quiz"):
        lessons.quiz("99")
    with pytest.raises(ValueError, match="not among"):
        Question("Which?", {"this": "because"}, right="other")
