"""Every check accepts right answers however they are written, and refuses wrong ones whatever it draws.

The answers of notebook 02 are in tests/answers/nb02.py: RIGHT maps an exercise to right answers, written in ways that
differ; WRONG maps it to pairs (wrong answer, words that most of its verdicts must say).
"""

import random
from importlib import import_module
from pathlib import Path

import pytest
import torch

from madlab import lessons

TRIES = [20, pytest.param(200, marks=pytest.mark.trust)]
"""Seeds per answer: few in `make test`, many in `make test-trust`."""
NUMBERS = sorted(path.stem[2:] for path in (Path(__file__).parents[1] / "answers").glob("nb*.py"))
TABLES = {number: import_module(f"answers.nb{number}") for number in NUMBERS}


def verdicts(name, answer, tries):
    """The verdicts on one answer when the check draws from so many different seeds."""
    for seed in range(tries):
        torch.manual_seed(seed)
        random.seed(seed)
        yield lessons.check(name, answer)


@pytest.mark.parametrize("number", NUMBERS)
def test_every_exercise_has_answers(number) -> None:
    exercises = import_module(f"madlab.lessons.exercises.nb{number}").EXERCISES
    table = TABLES[number]
    assert table.RIGHT.keys() == table.WRONG.keys() == exercises.keys()
    assert all(len(answers) >= 3 for answers in table.RIGHT.values())
    assert all(len(answers) >= 3 for answers in table.WRONG.values())


@pytest.mark.parametrize("tries", TRIES)
@pytest.mark.parametrize(
    "name, answer",
    [
        pytest.param(f"{number}.{name}", answer, id=f"{number}.{name}-{place}")
        for number, table in TABLES.items()
        for name, answers in table.RIGHT.items()
        for place, answer in enumerate(answers)
    ],
)
def test_right_answers_always_pass(name, answer, tries) -> None:
    for seed, verdict in enumerate(verdicts(name, answer, tries)):
        assert verdict.passed, f"seed {seed}: {verdict.message}"


@pytest.mark.parametrize("tries", TRIES)
@pytest.mark.parametrize(
    "name, answer, says",
    [
        pytest.param(f"{number}.{name}", answer, says, id=f"{number}.{name}-{place}")
        for number, table in TABLES.items()
        for name, answers in table.WRONG.items()
        for place, (answer, says) in enumerate(answers)
    ],
)
def test_wrong_answers_never_pass_and_are_told_why(name, answer, says, tries) -> None:
    found = list(verdicts(name, answer, tries))
    passed = [seed for seed, verdict in enumerate(found) if verdict.passed]
    assert not passed, f"passes with seeds {passed}"
    told = [verdict for verdict in found if says in verdict.message]
    assert len(told) >= tries // 2, f"said {len(told)} times; {found[0].message}"


@pytest.mark.parametrize("number", NUMBERS)
def test_right_answers_of_the_quiz_do_not_stand_out_by_their_length(number) -> None:
    for question in lessons.quiz(number).questions:
        assert len(question.right) <= max(len(answer) for answer in question.answers if answer != question.right)
