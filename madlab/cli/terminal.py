"""What a command says, and how it ends: in whatever way it ends, with one sentence and an exit code.

with ending() as end:
    command()
return end.code

SIGTERM and SIGHUP end it as Ctrl-C does: half-done work is tidied up.
"""

import contextlib
import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import FrameType
from typing import TextIO

from madlab.errors import MadlabError, printable

NO_OUTPUT, BAD_INPUT, BROKEN_PIPE = 1, 2, 128 + 13
"""Exit codes; that of a signal is 128 and its number, as shells count (SIGPIPE, which Windows lacks, is 13)."""
STOPPED = "stopped; the same command goes on where it was, train with --resume."


OF_THE_PLACE = {
    errno.EACCES: "give what this user may read and write",
    errno.EPERM: "give what this user may read and write",
    errno.EROFS: "choose a disk that can be written to",
    errno.EIO: "the disk has a fault: give another place",
    errno.ENOTDIR: "a file has the name of a folder on the way to it: choose another place",
    errno.EEXIST: "something else has its name: choose another one, or remove it",
    errno.ELOOP: "remove these links, or give another name",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOSPC: "free some space, also where temporary files are ($TMPDIR)",
    errno.EDQUOT: "free some space, also where temporary files are ($TMPDIR)",
}
"""What an operating system has against a place, and what to do about it; other errors of its are defects of ours."""

SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


class Stopped(KeyboardInterrupt):
    """A signal asked this process to end; whatever tidies up after Ctrl-C tidies up after this.

    number: the signal's.
    """

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.number = number


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Within this, SIGTERM and SIGHUP raise `Stopped`; afterwards they do again what they did before.

    A signal that is ignored stays ignored (nohup), and so does one whose handler Python cannot put back. Signals reach
    Python in its main thread only: in another one nothing changes. A process that was forked within this ends by the
    signal at once, as it would without madlab.
    """
    owner, before = os.getpid(), {}

    def stop(number: int, frame: FrameType | None) -> None:
        if os.getpid() == owner:
            raise Stopped(number)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    if threading.current_thread() is threading.main_thread():
        before = {s: h for s in SIGNALS if (h := signal.getsignal(s)) not in (signal.SIG_IGN, None)}
    try:
        for number in before:
            signal.signal(number, stop)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def wait_for(process: subprocess.Popen[bytes]) -> int:
    """Wait for a program in the same terminal; returns its exit code.

    Ctrl-C reaches it, too, and it may ask what is meant. The signals that end this process are passed on to it, and
    end this one when it has ended.
    """
    stopped: Stopped | None = None
    while True:
        try:
            code = process.wait()
            break
        except Stopped as signalled:
            stopped = signalled
            process.terminate()
        except KeyboardInterrupt:
            continue
    if stopped is not None:
        raise stopped
    return code


class Ending:
    """How a command came to its end. code: the exit code, 0 for success."""

    code = 0


class OutputError(Exception):
    """Standard output cannot be written to; the cause is an OSError."""


def tell(*lines: str, safe: bool = False) -> None:
    """Print lines on standard output at once; what cannot be printed in them, line breaks too, is escaped.

    For a table of several lines: `tell(*table.split("\\n"))`. safe: they are to be read by programs, and their writer
    has escaped what could steer a terminal.
    """
    if sys.stdout is None:
        return
    try:
        _write(sys.stdout, lines if safe else map(printable, lines))
    except OSError as error:
        raise OutputError from error


def warn(*lines: str) -> None:
    """Print lines on standard error as `tell` does on standard output, "madlab: " before the first."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):  # nobody is left who could be told
            _write(sys.stderr, map(printable, [f"madlab: {lines[0]}", *lines[1:]]))


def is_terminal() -> bool:
    """Whether what is told is read by a person, as it is written."""
    return sys.stdout is not None and sys.stdout.isatty()


def listed(paths: Iterable[Path]) -> Iterator[Path]:
    """The paths, "-" replaced by those that standard input lists, one per line; empty lines are no paths."""
    for path in paths:
        if str(path) != "-":
            yield path
        elif sys.stdin is not None:
            names = (line.rstrip(b"\r\n") for line in sys.stdin.buffer)  # names of files need not be valid text
            yield from (Path(os.fsdecode(name)) for name in names if name)


@contextlib.contextmanager
def ending() -> Iterator[Ending]:
    """Run a command within this: what ends it early is told on standard error, and `code` says how it ended.

    2: bad input (MadlabError), and what no memory is left for. 130, 143, 129: Ctrl-C, SIGTERM, SIGHUP. 141: whoever
    read standard output has gone, as `head` does, which needs no words. 1: standard output cannot be written to, on a
    full disk for example.
    """
    end = Ending()
    with stopped_by_signals():
        try:
            yield end
        except MadlabError as error:
            end.code = BAD_INPUT
            warn(*error.args)
        except KeyboardInterrupt as stop:
            end.code = 128 + (stop.number if isinstance(stop, Stopped) else signal.SIGINT)
            warn(STOPPED)
        except OutputError as error:
            end.code = _give_up(error.__cause__)
        except BrokenPipeError as error:  # a print that is not `tell`; what else has pipes looks after them itself
            end.code = _give_up(error)
        except OSError as error:
            if _failed_flush() is None:  # not a print on a full disk
                if str(error.strerror).startswith("No usable temporary directory"):  # which has no number of its own
                    error.errno, error.filename = errno.ENOSPC, "The folder of temporary files"
                if error.errno not in OF_THE_PLACE:
                    raise
                end.code = BAD_INPUT
                warn(f"{error.filename or 'A file'} cannot be used ({error.strerror}): {OF_THE_PLACE[error.errno]}.")
        except (RuntimeError, MemoryError) as error:
            from madlab.device import out_of_memory  # here, because it takes PyTorch, which then is loaded already

            if not out_of_memory(error):
                raise
            end.code = BAD_INPUT
            if isinstance(error, MemoryError) or "CPUAllocator" in str(error):
                warn(
                    "The memory of this machine is not enough for this: choose smaller images, or close other programs."
                )
            else:
                warn("The memory of the GPU is not enough for this: choose smaller images, or the CPU (--device cpu).")
        except SystemExit:  # --help, after which argparse ends the process
            if _failed_flush() is None:
                raise
        if (failure := _failed_flush()) is not None:
            code = _give_up(failure)
            end.code = end.code or code


def _failed_flush() -> OSError | None:
    """Why standard output does not take what was printed; a print that failed fails here again."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        return error
    return None


def _give_up(error: BaseException | None) -> int:
    # What is left in the buffer would fail once more, with a traceback, when Python ends.
    with contextlib.suppress(OSError, ValueError), open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
    if isinstance(error, BrokenPipeError):
        return BROKEN_PIPE
    reason = error.strerror if isinstance(error, OSError) else error
    warn(f"Standard output cannot be written to ({reason}): free some space or send it elsewhere.")
    return NO_OUTPUT


def _write(stream: TextIO, lines: Iterable[str]) -> None:
    text = "".join(f"{line}\n" for line in lines)
    encoding = stream.encoding or "utf-8"
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
    stream.flush()
