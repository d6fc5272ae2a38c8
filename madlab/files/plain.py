"""Files that are either whole or absent: everything is written to a temporary name and then renamed.

Whatever lies where a file of ours should be (a folder, a FIFO, a device, something too large) is refused before it is
read or replaced. Tensors are in `madlab.files.tensors`, JSON in `madlab.files.jsonfiles`.
"""

import contextlib
import errno
import os
import re
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from madlab.errors import MadlabError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

KINDS = {stat.S_IFDIR: "folder", stat.S_IFIFO: "FIFO", stat.S_IFSOCK: "socket"}
ADVICE = {
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ELOOP: "remove these links, or choose another name",
} | dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "free some space or choose another folder")


def read_bytes(path: Path | str, most: int) -> bytes:
    """The content of a plain file of at most `most` bytes; MadlabError for anything else, before it is opened."""
    path = Path(path)
    with _told(path, "could not be read", "give another file"):
        try:
            status = path.stat()
        except FileNotFoundError:
            raise MadlabError(f"There is no file {path}: check its name.") from None
        if not stat.S_ISREG(status.st_mode):
            raise MadlabError(f"{path} is a {_kind(status)}, not a file: give a file, or remove it.")
        if status.st_size > most:
            raise MadlabError(
                f"{path} has {status.st_size:,} bytes, but such a file has at most {most:,}: give the right file."
            )
        # O_NONBLOCK: if it has just become a FIFO, we do not wait for whoever writes into it.
        with open(path, "rb", opener=lambda p, flags: os.open(p, flags | getattr(os, "O_NONBLOCK", 0))) as file:
            data = file.read(status.st_size + 1)
    if len(data) != status.st_size:
        raise MadlabError(f"{path} changed while it was read: run this again when nobody writes it.")
    return data


def write_bytes(path: Path | str, data: bytes) -> None:
    """Write `data` to `path` so that a reader sees the old file or the whole new one, never a part.

    Missing folders are made. A symbolic link stays, and the file that it leads to is replaced. A file that is replaced
    keeps its mode and, where we may, its owner; hard links to it keep the old content. MadlabError for whatever exists
    there and is not a plain file, for a link to nothing, and for what the operating system refuses.

    A writer that was killed leaves `.NAME.PID-xxxxxxxx.tmp`; the next one that writes NAME, or asks whether it could,
    removes it. A living writer's file is recognised by the lock that it holds on it; where the file system has no
    locks, nothing is removed.
    """
    path = Path(path)
    with _told(path, "could not be written", "choose another folder"):
        target, old = _target(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        _clear_leftovers(target)
        with _temporary(target, old) as (file, temporary):
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            if fcntl is None:  # Windows renames no open file
                file.close()
            os.replace(temporary, target)


def check_writable(path: Path | str) -> None:
    """Raise the MadlabError that `write_bytes` would raise for this path, before the work whose outcome goes there.

    Nothing is left behind: neither the file nor folders that `write_bytes` would make.
    """
    path = Path(path)
    with _told(path, "could not be written", "choose another folder"):
        target, old = _target(path)
        place = target.parent
        while not os.path.lexists(place) and place != place.parent:
            place = place.parent
        for part in target.relative_to(place).parts:
            with contextlib.suppress(FileNotFoundError):
                os.lstat(place / part)  # a name that is too long is an OSError of another kind
        _clear_leftovers(place / target.name)
        with _temporary(place / target.name, old):
            pass


@contextlib.contextmanager
def _told(path: Path, what: str, advice: str) -> Iterator[None]:
    """Turn what the operating system, or Python's own look at a path, has against it into a MadlabError."""
    try:
        yield
    except MadlabError:
        raise
    except MemoryError as error:
        raise MadlabError(f"{path} {what} (it does not fit into memory): give a smaller one.") from error
    except (OSError, ValueError) as error:  # ValueError: a name with a null byte or half a surrogate pair
        reason = getattr(error, "strerror", None) or error
        advice = ADVICE.get(getattr(error, "errno", None) or 0, advice)
        raise MadlabError(f"{path} {what} ({reason}): {advice}.") from error


def _target(path: Path) -> tuple[Path, os.stat_result | None]:
    """Where the bytes of `path` lie, links followed, and what is there now; MadlabError if that is no plain file."""
    try:
        status = path.stat()
    except FileNotFoundError:
        if path.is_symlink():
            raise MadlabError(
                f"{path} is a link to {os.readlink(path)}, which does not exist: make that or remove the link."
            ) from None
        return path, None
    if not stat.S_ISREG(status.st_mode):
        raise MadlabError(f"{path} is a {_kind(status)}, so nothing was written: choose another name.")
    if not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, "it is read-only")
    return Path(os.path.realpath(path)), status


@contextlib.contextmanager
def _temporary(target: Path, old: os.stat_result | None) -> Iterator[tuple[IO[bytes], Path]]:
    """A new file beside `target`, locked as long as it has this name; it goes unless it is renamed.

    It has the mode and the owner of the file that it will replace, or the mode that the umask gives a new file.
    """
    while True:
        temporary = target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
        # Before it has its mode nobody else may open it.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        descriptor = os.open(temporary, flags, 0o600 if old else 0o666)
        _lock(descriptor, wait=True)
        if os.fstat(descriptor).st_nlink:  # otherwise someone took it for a leftover before it was locked
            break
        os.close(descriptor)
    file = open(descriptor, "wb")  # noqa: SIM115  # it must be closed before its name goes, and even when that fails
    try:
        if old is not None and hasattr(os, "fchown"):
            with contextlib.suppress(OSError):  # not every place knows owners, or lets us name them
                os.fchown(descriptor, old.st_uid, old.st_gid)
            with contextlib.suppress(OSError):
                os.fchmod(descriptor, stat.S_IMODE(old.st_mode) & 0o777)
        yield file, temporary
    finally:
        with contextlib.suppress(OSError):  # a full disk has been told by then
            file.close()
        temporary.unlink(missing_ok=True)


def _clear_leftovers(target: Path) -> None:
    pattern = re.compile(rf"\.{re.escape(target.name)}\.\d+(-[0-9a-f]{{8}})?\.tmp")
    for name in filter(pattern.fullmatch, os.listdir(target.parent)):
        with contextlib.suppress(FileNotFoundError, PermissionError):
            if not stat.S_ISREG((target.parent / name).lstat().st_mode):
                continue
            descriptor = os.open(target.parent / name, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
            try:
                if _lock(descriptor, wait=False):
                    (target.parent / name).unlink()
            finally:
                os.close(descriptor)


def _lock(descriptor: int, wait: bool) -> bool:
    if fcntl is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:  # held by its living writer, or a file system without locks
        return False
    return True


def _kind(status: os.stat_result) -> str:
    return KINDS.get(stat.S_IFMT(status.st_mode), "device")
