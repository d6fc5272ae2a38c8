"""Archives from the network to the disk: where they go, resumed downloads, checks before use; and locks on folders."""

import contextlib
import hashlib
import http.client
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from madlab.errors import MadlabError
from madlab.files.locks import hold
from madlab.progress import progress_bar

ROUNDS = 3
"""How often every address is tried before giving up; each try goes on where the last one stopped."""
PAUSE = 1.0
"""Seconds before everyone is asked again."""
SLOWEST = 1024
"""Bytes a second, as a mean over one time-out, below which a host counts as stalled."""


def cache_folder() -> Path:
    """Where madlab keeps what it draws, fetches and prepares: $MADLAB_DATA, else the user's cache folder."""
    if folder := os.environ.get("MADLAB_DATA"):
        return Path(folder)
    import pooch

    return Path(pooch.os_cache("madlab"))


Say = Callable[[str], object]
"""Tells the user what is going on, one sentence a call; `print` by default."""


@dataclass(frozen=True)
class Archive:
    """A file to download. size: bytes; urls: tried in order; no urls: the user has to bring it, as `manual` says."""

    name: str
    size: int
    sha256: str
    urls: tuple[str, ...] = ()
    manual: str = ""


class HostError(Exception):
    """One host failed; `for_good` when asking it again is pointless."""

    def __init__(self, reason: str, for_good: bool = False):
        super().__init__(reason)
        self.for_good = for_good


def fetch(archive: Archive, folder: Path, mirrors: Iterable[str] = (), timeout: float = 30, say: Say = print) -> Path:
    """The archive's file in `folder`: downloaded if it is not there, always checked by sha256 before it is returned.

    mirrors: base addresses that are asked first, as MIRROR/NAME. timeout: seconds without data after which the next
    host is asked. The part that is already on disk (NAME.part) is not fetched again where the host allows it.
    Raises MadlabError when no host delivers the file, when its bytes are wrong, and when the disk is full.
    """
    target = folder / archive.name
    if target.exists():
        check_sha256(target, archive.sha256, say)
        return target
    urls = [f"{mirror.rstrip('/')}/{archive.name}" for mirror in mirrors] + list(archive.urls)
    if not urls:
        raise MadlabError(f"{target} is not there: {archive.manual}")
    part = target.with_name(f"{archive.name}.part")
    failures: dict[str, HostError] = {}
    for attempt in range(ROUNDS):
        time.sleep(PAUSE if attempt else 0)
        for url in [url for url in urls if url not in failures or not failures[url].for_good]:
            try:
                _download(url, part, archive, timeout, say)
            except HostError as failure:
                failures[url] = failure
                say(f"{url}: {failure}.")
                continue
            os.replace(part, target)
            return target
    reasons = "; ".join(f"{url}: {failure}" for url, failure in failures.items())
    raise MadlabError(
        f"{archive.name} could not be downloaded ({reasons}): check the network, "
        f"or put the file into {folder} yourself, then run this again."
    )


def _download(url: str, part: Path, archive: Archive, timeout: float, say: Say) -> None:
    """Complete `part` from one host. Whatever arrived before a failure stays, for the next host to go on."""
    try:
        with open(part, "ab") as file:
            if file.tell() > archive.size:
                file.truncate(0)
            resumed = start = file.tell()
            if start < archive.size:
                say(f"Fetching {url}" + (f", from byte {start} on." if start else "."))
                start, chunks = _request(url, start, archive.size, timeout)
                file.truncate(start)
                with progress_bar(archive.name, archive.size, "bytes", done=start) as bar:
                    for chunk in chunks:
                        file.write(chunk)
                        bar.update(len(chunk))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise MadlabError(
            f"Could not write {part} ({error.strerror}): free some space or choose another folder."
        ) from error
    have = part.stat().st_size
    if have < archive.size:
        raise HostError(f"the connection ended after {have} of {archive.size} bytes")
    if (found := sha256_of(part)) != archive.sha256:
        part.unlink()
        # A part that another host had begun may be the culprit, so this host gets a second chance from byte 0.
        raise HostError(f"the file has sha256 {found} instead of {archive.sha256}", for_good=not resumed)


def _request(url: str, start: int, size: int, timeout: float) -> tuple[int, Iterator[bytes]]:
    """Ask for the bytes from `start` on: where the answer starts (0 from a host without ranges), and its chunks."""
    headers = {"User-Agent": "madlab"} | ({"Range": f"bytes={start}-"} if start else {})
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout)
    except urllib.error.HTTPError as error:
        raise HostError(f"the host answers {error.code} {error.reason}", for_good=error.code < 500) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise HostError(f"cannot be reached ({getattr(error, 'reason', error)})") from error
    begun = start
    if response.status != 206:
        start = 0
    length = response.headers.get("Content-Length")
    if length is None and begun and not start:
        response.close()
        told = "the host begins anew and does not say how long the file is (to let it, remove the .part file)"
        raise HostError(told, for_good=True)
    if length is not None and start + int(length) != size:
        response.close()
        raise HostError(f"the host offers {start + int(length)} bytes instead of {size}", for_good=True)
    return start, _chunks(response, size - start, timeout)


def _chunks(response: http.client.HTTPResponse, expected: int, timeout: float) -> Iterator[bytes]:
    since, received, marked = time.monotonic(), 0, 0
    with response:
        while received < expected:
            try:
                chunk = response.read1(min(1 << 16, expected - received))
            except (OSError, http.client.HTTPException) as error:
                raise HostError(f"stalled or broke off ({error or type(error).__name__})") from error
            if not chunk:
                return
            received += len(chunk)
            yield chunk
            if time.monotonic() - since > timeout:
                if received - marked < SLOWEST * timeout:
                    raise HostError(f"sends less than {SLOWEST} bytes per second")
                since, marked = time.monotonic(), received


def sha256_of(path: Path) -> str:
    """Raises MadlabError where there is a folder or a pipe in the file's place, which would not end."""
    if not path.is_file():
        raise MadlabError(f"{path} is not a file: remove it and run this again.")
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_sha256(path: Path, expected: str, say: Say = print) -> None:
    """Raise MadlabError when a file's bytes are not the expected ones."""
    say(f"Checking {path}.")
    if (found := sha256_of(path)) != expected:
        raise MadlabError(
            f"{path} is damaged or another file, its sha256 is {found} instead of {expected}: "
            "remove it and run this again."
        )


def free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def check_space(folder: Path, needed: int, free: Callable[[Path], int] = free_bytes) -> None:
    """Raise MadlabError when `folder`'s disk has fewer than `needed` bytes free."""
    if (there := free(folder)) < needed:
        raise MadlabError(
            f"{needed / 1e9:.1f} GB are needed in {folder} and {there / 1e9:.1f} GB are free: "
            "make room, choose another folder, or prepare fewer domains at a time."
        )


def exclusive(folder: Path, say: Say = print) -> contextlib.AbstractContextManager[None]:
    """Hold `folder` for this process; another one waits here. The lock dies with its holder, however that ends."""
    return hold(folder, wait=say)
