"""SIGTERM and SIGHUP end a command as Ctrl-C does: half-done work is tidied up, and one sentence is printed."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

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
