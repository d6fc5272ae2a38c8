"""What madlab says of input: an exception for what it cannot use, a warning for what it interpreted; both printable."""

import re
import sys
import warnings
from collections.abc import Iterable

LONGEST = 200
"""Letters of another library's error that a message repeats; zipfile's may quote half of a damaged archive."""


class MadlabError(ValueError):
    """Bad input, told in one sentence that says what is wrong and what to do.

    The command line prints the sentence and exits with code 2; a traceback there means a defect of ours. A message of
    several lines is given line by line, `MadlabError("These runs failed:", *failures)`: what cannot be printed is
    escaped within each line, so that a name in it can neither steer the terminal nor start a line of its own.
    """

    def __init__(self, *lines: str):
        super().__init__(*map(printable, lines))

    def __str__(self) -> str:
        return "\n".join(self.args)


class MadlabWarning(UserWarning):
    """Something that madlab did differently from what one might expect, told in one sentence; the work goes on.

    What cannot be printed is escaped: a process of a sweep shows it without the command line's care.
    """

    def __init__(self, message: str):
        super().__init__(printable(message))


def remark(sentence: str) -> None:
    """Give a MadlabWarning, at the line outside of madlab that led here."""
    frame, level = sys._getframe(1), 2
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in ("madlab", "contextlib"):
        frame, level = frame.f_back, level + 1
    warnings.warn(sentence, MadlabWarning, stacklevel=level)


def printable(text: str) -> str:
    r"""`text` with everything that is not printable as Python writes it in a string: "\n", "\x1b", "\u202e".

    That is control characters (the escape sequences of terminals begin with one), marks that change the direction of
    writing, other invisible characters, and the halves of surrogate pairs, which no encoding takes. A text that has
    been through here once is not changed again.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


STEERING = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that steer a terminal or the direction of a text, and halves of characters: in no name that is kept."""


def some(names: Iterable[object], most: int = 3) -> str:
    """The first few names in order, and how many more there are."""
    ordered = sorted(map(str, names))
    more = f" and {len(ordered) - most} more" if len(ordered) > most else ""
    return ", ".join(ordered[:most]) + more


def reason(error: BaseException) -> str:
    """What an error says, in one line: its first, cut where it is long, or its kind where it says nothing."""
    lines = [line.strip().rstrip(".") for line in str(error).splitlines() if line.strip()]
    first = lines[0] if lines else type(error).__name__
    return first if len(first) <= LONGEST else f"{first[:LONGEST]} ..."


def kind_and_reason(error: BaseException) -> str:
    """As `reason`, after the kind of the error: for one of another's code, whose words alone may say little."""
    kind, said = type(error).__name__, reason(error)
    return kind if said == kind else f"{kind}: {said}"
