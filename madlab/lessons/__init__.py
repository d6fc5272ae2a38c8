"""What the notebooks need to teach: set-up and tiers, exercise checks, quizzes. Not loaded by `import madlab`.

session      how a notebook begins, how it shows text, and small parts of domains to train on
checks       exercises that check themselves
quizzes      questions with feedback for every answer
predictions  a number that the reader predicts before it is shown
exercises    the checks and questions of each notebook
shipped      trained domains that ship with madlab
course       the notebooks as an installed package carries them
"""

from madlab.lessons.checks import CheckResult, Wrong, check, random_convs, same_number, same_tensor
from madlab.lessons.predictions import Prediction, predict
from madlab.lessons.quizzes import Question, Quiz, quiz
from madlab.lessons.session import few, in_colab, keep, say, setup, tier
from madlab.lessons.shipped import shipped

__all__ = [
    "CheckResult",
    "Prediction",
    "Question",
    "Quiz",
    "Wrong",
    "check",
    "few",
    "in_colab",
    "keep",
    "predict",
    "quiz",
    "random_convs",
    "same_number",
    "same_tensor",
    "say",
    "setup",
    "shipped",
    "tier",
]
