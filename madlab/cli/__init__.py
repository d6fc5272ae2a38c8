"""The command line, `madlab ...`: one thin function per command; all work is done in the library.

Bad input ends with one sentence and exit code 2; a traceback is a defect of madlab.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

from madlab.cli.parser import parse
from madlab.cli.terminal import ending, warn
from madlab.errors import MadlabWarning


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    with ending() as end, warnings.catch_warnings():
        warnings.showwarning = _show(warnings.showwarning)
        command, options = parse(arguments)
        command(**options)
    return end.code


def _show(usual: Callable[..., None]) -> Callable[..., None]:
    """madlab's own warnings as a sentence, without the line of code that they come from; others as usual."""

    def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        if issubclass(category, MadlabWarning):
            warn(str(message))
        else:
            usual(message, category, *place, **more)

    return show
