"""The command line, `madlab ...`: one thin function per command, all work is done in the library.

Bad input ends with one sentence and exit code 2; a traceback is a defect of madlab.
"""

import sys
from collections.abc import Sequence

from madlab.cli.parser import parse
from madlab.errors import MadlabError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    try:
        command, options = parse(arguments)
        command(**options)
    except MadlabError as error:
        print(f"madlab: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("madlab: stopped; the same command goes on where it was, train with --resume.", file=sys.stderr)
        return 130
    return 0
