"""What the notebooks need to teach: set-up and tiers, exercise checks, quizzes. Not loaded by `import madlab`.

The exercises and quiz of notebook NN are in nbNN.py.
"""

from madlab.lessons.checks import Verdict, Wrong, check, random_convs, same_number, same_tensor
from madlab.lessons.quizzes import Question, Quiz, quiz
from madlab.lessons.session import in_colab, say, setup, tier
from madlab.lessons.small import few

__all__ = [
    "Question",
    "Quiz",
    "Verdict",
    "Wrong",
    "check",
    "few",
    "in_colab",
    "quiz",
    "random_convs",
    "same_number",
    "same_tensor",
    "say",
    "setup",
    "tier",
]
