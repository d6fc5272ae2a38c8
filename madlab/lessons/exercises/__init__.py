"""The exercises and quizzes of the course, a module per notebook: nb05 has those of notebook 05.

EXERCISES maps an exercise's name to its check, a function that takes the reader's answer and raises `Wrong` for a wrong
one; QUIZ holds the questions.
"""
