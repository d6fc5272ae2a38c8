"""One writer per folder: a lock that ends with the process that holds it, however that ends."""

import contextlib
import errno
import os
import re
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from madlab.errors import MadlabError, remark

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
"""The file in the folder that is locked; it goes when its holder lets go, and means nothing once its holder is dead."""
CANNOT_LOCK = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}


@contextlib.contextmanager
def hold(folder: Path | str, wait: Callable[[str], object] | None = None) -> Iterator[None]:
    """Be the only process (and the only part of this one) that writes into `folder`, which is made if need be.

    wait: with it, one who comes second tells this function so, in one sentence, and waits for the first; without it
    that is a MadlabError which names the holder's process and machine. Processes that are forked within this share the
    lock: it ends with the block in the process that took it or, should that be killed, with the last of them. Where
    the file system (or Windows) cannot lock, a warning says so and the block runs all the same.
    """
    folder = Path(folder)
    lock = _take(folder, wait)
    owner = os.getpid()
    try:
        yield
    finally:
        if lock is not None and os.getpid() == owner:
            _remove(folder)
            os.close(lock)


def _take(folder: Path, wait: Callable[[str], object] | None) -> int | None:
    """The descriptor of the locked file; None where nothing can be locked."""
    while True:
        lock = _open(folder)
        try:
            locked = _lock(lock, folder, wait)
            # If who held it has removed the file since we opened it, its name is free or already another's.
            if locked and os.fstat(lock).st_nlink:
                with contextlib.suppress(OSError):  # on a full disk the lock is as good without its holder's name
                    os.ftruncate(lock, 0)
                    os.pwrite(lock, f"{os.getpid()} on {socket.gethostname()}\n".encode(), 0)
                return lock
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)
        if not locked:
            _remove(folder)
            return None


def _remove(folder: Path) -> None:
    with contextlib.suppress(OSError):  # a file that stays locks nobody out
        (folder / LOCK).unlink()


def _open(folder: Path) -> int:
    # A link in the lock's place must not make us write elsewhere, nor a FIFO make us wait.
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock = os.open(folder / LOCK, flags, 0o666)
        except PermissionError as denied:  # a killed process of another user left it: who may read it may lock it
            try:
                lock = os.open(folder / LOCK, flags & ~(os.O_RDWR | os.O_CREAT))
            except FileNotFoundError:  # it is the folder that may not be written to
                raise denied from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise MadlabError(f"{folder} cannot be written to ({reason}): choose another folder.") from error
    if not stat.S_ISREG(os.fstat(lock).st_mode):
        os.close(lock)
        raise MadlabError(f"{folder / LOCK} is not a plain file: remove it or choose another folder.")
    return lock


def _lock(lock: int, folder: Path, wait: Callable[[str], object] | None) -> bool:
    """Whether it is locked now; False where the file system has no locks."""
    try:
        if fcntl is None:
            raise OSError(errno.ENOSYS, "this operating system has no flock")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if wait is None:
                raise MadlabError(
                    f"{_holder(lock)} is writing into {folder}: wait until it ends, or choose another folder."
                ) from None
            wait(f"{_holder(lock)} is at work in {folder}: waiting for it.")
            fcntl.flock(lock, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in CANNOT_LOCK:
            raise MadlabError(f"{folder} cannot be locked ({error.strerror}): choose another folder.") from error
        remark(
            f"{folder} cannot be locked ({error.strerror}), so nothing stops a second process from writing into it: "
            "start only one."
        )
        return False
    return True


def _holder(lock: int) -> str:
    found = re.match(rb"(\d+) on ([\w.-]+)\n", os.pread(lock, 300, 0))
    if found is None:
        return "Another process"
    number, host = int(found[1]), found[2].decode()
    if host != socket.gethostname():
        return f"Process {number} on {host}"
    return f"Process {number}" + (", this one," if number == os.getpid() else "")
