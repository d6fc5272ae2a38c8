"""Archives that must not be trusted: read one file at a time, and never for more than they may cost."""

import io
import os
import random
import tarfile
import zipfile
from pathlib import Path

import pytest
from archives import tar_bytes

from madlab.benchmarks.archives import members
from madlab.errors import MadlabError

DATA = random.Random(0).randbytes(100_000)
FILES = {"a/one.txt": b"1", "a/b/two.txt": b"22", "three.txt": b""}


def zip_bytes(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["folder", "a.tar", "a.tar.gz", "a.tar.xz", "a.zip"])
def test_members_are_the_files(tmp_path: Path, kind: str) -> None:
    path = tmp_path / kind
    if kind == "folder":
        for name, data in FILES.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(data)
    elif kind == "a.zip":
        path.write_bytes(zip_bytes(FILES))
    else:
        mode = {"a.tar": "w", "a.tar.gz": "w:gz", "a.tar.xz": "w:xz"}[kind]
        path.write_bytes(tar_bytes({f"./{name}": data for name, data in FILES.items()}, mode))
    assert {name: read(1 << 20) for name, read in members(path, 100)} == FILES


def test_a_tar_in_a_tar_is_entered(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    path.write_bytes(
        tar_bytes({"x.tar": tar_bytes(FILES, "w"), "y.txt": b"y", "z.tar": tar_bytes({"z": b"z"}, "w")}, "w:gz")
    )
    assert {name: read(1 << 20) for name, read in members(path, 100)} == FILES | {"y.txt": b"y", "z": b"z"}
    # Files that nobody reads are skipped without a mistake.
    assert [name for name, _ in members(path, 100)] == [*FILES, "y.txt", "z"]


def entry(kind: bytes, name: str = "evil", target: str = "/etc/passwd") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(
    "bad",
    [
        entry(tarfile.SYMTYPE),
        entry(tarfile.LNKTYPE),
        entry(tarfile.CHRTYPE),
        entry(tarfile.FIFOTYPE),
        entry(tarfile.REGTYPE, "../evil"),
        entry(tarfile.REGTYPE, "a/../../evil"),
        entry(tarfile.REGTYPE, "/evil"),
        entry(tarfile.REGTYPE, "C:\\evil"),
        entry(tarfile.REGTYPE, "..\\evil"),
        entry(tarfile.DIRTYPE, "../evil"),
    ],
    ids=lambda info: f"{info.type.decode()}-{info.name}",
)
@pytest.mark.parametrize("nested", [False, True])
def test_hostile_tars_are_refused(tmp_path: Path, bad: tarfile.TarInfo, nested: bool) -> None:
    path = tmp_path / "folder" / "evil.tar"
    path.parent.mkdir()
    data = tar_bytes(FILES, "w", [bad])
    path.write_bytes(tar_bytes({"inner.tar": data}, "w") if nested else data)
    with pytest.raises(MadlabError, match=r"is refused because its entry .*evil"):
        list(members(path, 100))
    assert os.listdir(tmp_path) == ["folder"]


@pytest.mark.parametrize("name", ["../evil", "/evil", "link to evil"])
def test_hostile_zips_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo(name)
        if name.startswith("link"):
            info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(MadlabError, match=r"is refused because its entry .*evil"):
        list(members(path, 100))


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.zip"])
def test_truncated_archives_are_told(tmp_path: Path, name: str) -> None:
    files = {f"{i}.bin": DATA[:5000] for i in range(10)}
    data = zip_bytes(files) if name.endswith("zip") else tar_bytes(files, "w:gz" if name.endswith("gz") else "w")
    (tmp_path / name).write_bytes(data[: len(data) // 2 + 1000])
    with pytest.raises(MadlabError, match="cannot be read to its end"):
        for _, read in members(tmp_path / name, 100):
            read(1 << 20)


def test_no_archive_at_all(tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").write_bytes(b"<html>Not found</html>")
    with pytest.raises(MadlabError, match="cannot be read to its end"):
        list(members(tmp_path / "a.tar.gz", 100))
    with pytest.raises(MadlabError, match="no file or folder"):
        list(members(tmp_path / "b.tar.gz", 100))
