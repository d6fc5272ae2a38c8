"""The exercises and quizzes of the course, one module per notebook: nb05 has those of notebook 05.

EXERCISES maps an exercise's name to its check, a function that takes the reader's answer, returns a sentence if it is
right, and raises `Wrong` if it is not. QUIZ holds the questions. The docstring of a check says what the answer is.
"""
