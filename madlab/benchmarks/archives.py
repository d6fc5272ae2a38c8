"""The files of an archive, one by one, read without ever being unpacked.

Nothing is extracted to disk, so a hostile archive has no path to write to and a killed run leaves no half-filled
folder. What an archive may cost is bounded: the bytes of each file by whoever reads it, the number of files by the
benchmark, all bytes by a ratio to the archive's own, and what describes a file by a fixed size.
"""

import bz2
import contextlib
import functools
import gzip
import lzma
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

from madlab.benchmarks.walk import files_below
from madlab.errors import MadlabError, reason

RATIO = 100
"""How many times its own size an archive may hold; annotations, which are JSON, come to about 15."""
SLACK = 100_000_000
"""Bytes that any archive may hold."""
DESCRIPTION = 1 << 20
"""Bytes that may describe one file of a tar: its name, its attributes, the holes in it."""
PADDING = 1 << 26
"""Bytes that may follow the end of a tar, which fill up its last block; a disk image goes on for terabytes."""
IMAGE_BYTES = 1 << 26
"""More than any image file of a benchmark has."""
COMPRESSED = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
"""The first bytes of a compressed tar, and what opens it."""
NOT_OURS = "these are not the benchmark's data, so get them again"

Member = tuple[str, Callable[[int], bytes]]
"""A file's name, and what reads it: read(most) refuses one with more than `most` bytes."""


def members(path: Path, most: int) -> Iterator[Member]:
    """Every file of a folder, a tar of any compression or a zip: (name, read); `read` first, then ask for the next.

    most: how many files an archive may have. Names have forward slashes, no leading "./", and escapes in the place of
    what cannot be printed. A tar inside of a tar is entered. Archives with absolute names, "..", links, devices or more
    in them than the benchmark explains are refused, though nothing is ever written; so are damaged ones. Links in a
    folder of the user's own are followed.
    """
    if path.is_dir():
        found = _folder_members(path)
    elif path.is_file():
        found = _zip_members(path, most) if _begins_with(path, b"PK\3\4", b"PK\5\6") else _tar_members(path)
    else:
        raise MadlabError(f"There is no file or folder {path}.")
    with _whole(path):
        for number, (name, read) in enumerate(found):
            if number >= most and path.is_file():
                raise MadlabError(f"{path} is refused because it has more than {most} files: {NOT_OURS}.")
            yield "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name), _guarded(path, read)


def check_readable(path: Path, most: int) -> None:
    """Raise MadlabError where going through `members` would, before the work whose outcome needs them."""
    for _ in members(path, most):
        pass


@contextlib.contextmanager
def _whole(path: Path) -> Iterator[None]:
    try:
        yield
    except MadlabError:
        raise
    except Exception as error:  # damaged bytes make the readers of archives raise nearly anything
        raise MadlabError(f"{path} cannot be read to its end ({reason(error)}): fetch or copy it again.") from error


def _guarded(path: Path, read: Callable[[int], bytes]) -> Callable[[int], bytes]:
    def guarded(most: int) -> bytes:
        with _whole(path):
            return read(most)

    return guarded


def _folder_members(path: Path) -> Iterator[Member]:
    for file in files_below(path)[0]:
        yield file.relative_to(path).as_posix(), functools.partial(_read_file, file)


def _read_file(file: Path, most: int) -> bytes:
    if not file.is_file():
        raise MadlabError(f"{file} is not a file that can be read: put the file itself there.")
    _check_bytes(file, "", file.stat().st_size, most)
    return file.read_bytes()


def _zip_members(path: Path, most: int) -> Iterator[Member]:
    if (listed := _directory_bytes(path)) > 300 * most:
        raise MadlabError(f"{path} is refused because its directory has {listed} bytes: {NOT_OURS}.")
    with zipfile.ZipFile(path) as archive:
        if (total := sum(member.file_size for member in archive.infolist())) > _most_bytes(path):
            raise MadlabError(f"{path} is refused because it unpacks to {total} bytes: {NOT_OURS}.")
        for member in archive.infolist():
            if stat.S_ISLNK(member.external_attr >> 16):
                raise _refusal(path, member.filename, "is a link")
            name = _safe(path, member.filename)
            if not member.is_dir():
                yield name, functools.partial(_read_zipped, path, archive, member)


def _directory_bytes(path: Path) -> int:
    """Bytes of a zip's list of files by its last record, which zipfile would read at once into many times as many."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - (1 << 16) - 200))
        tail = file.read()
    if (end := tail.rfind(b"PK\5\6", 0, len(tail) - 18)) < 0:  # what follows it is 18 bytes or more, unless it was cut
        return 0
    sizes = [struct.unpack_from("<L", tail, end + 12)[0]]
    if tail[end - 20 : end - 16] == b"PK\6\7" and (large := tail.rfind(b"PK\6\6", 0, end)) >= 0:
        sizes = [struct.unpack_from("<Q", tail, large + 40)[0]]
    return int(sizes[0])


def _read_zipped(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo, most: int) -> bytes:
    _check_bytes(path, member.filename, member.file_size, most)
    return archive.read(member)  # never more than file_size


class _Metered:
    """A file for tarfile that refuses more than `total` bytes in all, and more than `description` bytes from now on.

    These describe the next entry of the tar, or fill it up after the last.
    """

    def __init__(self, file: IO[bytes], total: float = float("inf")):
        self.file, self.total, self.description = file, total, float("inf")

    def read(self, size: int = -1) -> bytes:
        data = self.file.read(size)
        self.total -= len(data)
        self.description -= len(data)
        if self.total < 0:
            raise tarfile.ReadError("it unpacks to far more than its own size")
        if self.description < 0:
            raise tarfile.ReadError("the description of one of its files, or what follows the last, has no end")
        return data


def _tar_members(path: Path) -> Iterator[Member]:
    opened: Any = next((opened for magic, opened in COMPRESSED.items() if _begins_with(path, magic)), open)
    with opened(path, "rb") as file:
        whole = _Metered(file, _most_bytes(path))
        yield from _stream_members(whole, path, inner=False)
        # Damage that looks like the end of the tar would cut it off unseen: only the end of the file has the checksum.
        whole.description = PADDING
        while whole.read(1 << 20):
            pass


def _stream_members(file: _Metered, path: Path, inner: bool) -> Iterator[Member]:
    file.description = DESCRIPTION
    with tarfile.open(fileobj=file, mode="r|") as archive:  # type: ignore[call-overload]  # a stream needs no more than read
        while (member := _next(archive, file)) is not None:
            if member.issparse() or not (member.isdir() or member.isfile()):
                raise _refusal(path, member.name, "is a link, a device or a file with holes")
            name, content = _safe(path, member.name), archive.extractfile(member)
            if content is None:  # a folder
                continue
            if not name.endswith(".tar"):
                yield name, functools.partial(_read_tarred, path, member, content)
            elif inner:
                raise _refusal(path, member.name, "is an archive in an archive in an archive")
            else:
                yield from _stream_members(_Metered(content), path, inner=True)


def _next(archive: tarfile.TarFile, file: _Metered) -> tarfile.TarInfo | None:
    """The next entry, its description bounded; content that nobody read is skipped on the way and does not count."""
    archive.members.clear()  # type: ignore[attr-defined]  # a gigabyte over ImageNet
    unread = archive.offset - archive.fileobj.tell()
    file.description = max(0, unread) + DESCRIPTION
    member = archive.next()
    file.description = float("inf")
    return member


def _read_tarred(path: Path, member: tarfile.TarInfo, content: IO[bytes], most: int) -> bytes:
    _check_bytes(path, member.name, member.size, most)
    return content.read()


def _check_bytes(path: Path, name: str, size: int, most: int) -> None:
    if size > most:
        whose = f"its entry {name!r}" if name else "it"
        raise MadlabError(f"{path} is refused because {whose} has {size} bytes, more than the {most} that it may have.")


def _most_bytes(path: Path) -> int:
    return RATIO * path.stat().st_size + SLACK


def _begins_with(path: Path, *magics: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(8).startswith(magics)


def _safe(path: Path, name: str) -> str:
    pure = PurePosixPath(name.replace("\\", "/"))
    if pure.is_absolute() or ".." in pure.parts or (pure.parts and pure.parts[0].endswith(":")):
        raise _refusal(path, name, "points out of the archive")
    return str(pure)


def _refusal(path: Path, name: str, what: str) -> MadlabError:
    return MadlabError(f"{path} is refused because its entry {name!r} {what}: get the archive from a source you trust.")
