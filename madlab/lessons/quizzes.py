"""Quizzes: three questions per notebook, with separate feedback for each answer."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from madlab.errors import MadlabError


@dataclass(frozen=True)
class Question:
    """A question. answers: text of an answer -> feedback for those who choose it. right: the text of the right one."""

    text: str
    answers: Mapping[str, str]
    right: str

    def __post_init__(self) -> None:
        if self.right not in self.answers:
            raise ValueError(f"The right answer {self.right!r} is not among the answers of {self.text!r}.")

    def shuffled(self) -> list[str]:
        """The answers in an order that says nothing about them, and is the same each time."""
        return random.Random(self.text).sample(list(self.answers), len(self.answers))

    def feedback(self, answer: str) -> str:
        """The feedback for a reader who chose this answer."""
        return f"{'✓ <b>Right.</b>' if answer == self.right else '✗ <b>No.</b>'} {self.answers[answer]}"


class Quiz:
    """Questions as radio buttons; choosing an answer shows its feedback.

    Its attributes choices and feedback are lists of the controls and texts, one per question, so that
    `quiz.choices[0].value = "..."` answers the first question.
    """

    def __init__(self, questions: tuple[Question, ...]):
        import ipywidgets

        wide = ipywidgets.Layout(width="auto", max_width="64em")
        tall = ipywidgets.Layout(min_height="30px", max_width="64em")
        self.questions = questions
        self.choices: list[Any] = []
        self.feedback: list[Any] = []
        self.total = ipywidgets.HTML()
        rows: list[Any] = []
        for number, question in enumerate(questions):
            title = ipywidgets.HTML(f"<b>{number + 1}. {question.text}</b>", layout=wide)
            choice = ipywidgets.RadioButtons(options=question.shuffled(), value=None, layout=wide)
            choice.observe(lambda _, number=number: self._answered(number), names="value")
            feedback = ipywidgets.HTML(layout=tall)
            self.choices.append(choice)
            self.feedback.append(feedback)
            rows += [title, choice, feedback]
        self.box = ipywidgets.VBox([*rows, self.total])

    @property
    def right(self) -> int:
        """How many questions are answered correctly at the moment."""
        pairs = zip(self.choices, self.questions, strict=True)
        return sum(choice.value == question.right for choice, question in pairs)

    def _answered(self, number: int) -> None:
        answer = self.choices[number].value
        self.feedback[number].value = self.questions[number].feedback(answer) if answer is not None else ""
        if all(choice.value is not None for choice in self.choices):
            self.total.value = f"<b>{self.right} of {len(self.questions)} right.</b>"

    def _ipython_display_(self) -> None:
        from IPython.display import display

        display(self.box)


def quiz(notebook: str) -> Quiz:
    """The quiz of a notebook, e.g. quiz("02")."""
    try:
        questions: tuple[Question, ...] = import_module(f"madlab.lessons.exercises.nb{notebook}").QUIZ
    except ModuleNotFoundError:
        raise MadlabError(f"There is no quiz {notebook!r}: give the notebook's number, such as 02.") from None
    return Quiz(questions)
