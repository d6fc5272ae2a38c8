"""Archives that must not be trusted: read one file at a time, and never for more than they may cost."""

import gzip
import io
import os
import random
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import pytest
from archives import tar_bytes

from madlab.benchmarks import archives
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


@pytest.mark.parametrize("left", [1, 4, 12, 20, 21])
def test_a_zip_cut_in_its_last_record_is_told(left: int, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zip_bytes({"a.bin": DATA[:50]})[: left - 22])
    with pytest.raises(MadlabError, match=r"a\.zip cannot be read to its end \(File is not a zip file\)"):
        list(members(tmp_path / "a.zip", 100))


def test_no_archive_at_all(tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").write_bytes(b"<html>Not found</html>")
    with pytest.raises(MadlabError, match="cannot be read to its end"):
        list(members(tmp_path / "a.tar.gz", 100))
    with pytest.raises(MadlabError, match="no file or folder"):
        list(members(tmp_path / "b.tar.gz", 100))


def compressed_tar(path, blocks):
    """A gzipped tar of (header, bytes, how often they are repeated), written piece by piece."""
    with gzip.open(path, "wb", compresslevel=1) as file:
        for info, piece, repeated in blocks:
            file.write(info.tobuf(tarfile.GNU_FORMAT))
            for _ in range(repeated):
                file.write(piece)
    return path


def described(kind, size, name="x"):
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info


ZEROS = bytes(1 << 20)
MEGABYTE = 1 << 20


@pytest.fixture
def little_memory():
    """A quarter of a gigabyte more than there is now: what is unpacked without a bound does not fit."""
    resource = pytest.importorskip("resource")
    if not Path("/proc/self/statm").exists():
        pytest.skip("only Linux tells how much memory a process has")
    before = resource.getrlimit(resource.RLIMIT_AS)
    here = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (here + 256 * MEGABYTE, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def read_all(path, most=100, bytes_each=MEGABYTE):
    return {name: read(bytes_each) for name, read in members(path, most)}


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_bomb_in_a_tar_is_refused_in_bounded_memory(tmp_path, little_memory, kind):
    """A file, or what describes one, said to have 800 MB."""
    path = compressed_tar(tmp_path / "a.tar.gz", [(described(kind, 800 * MEGABYTE), ZEROS, 80)])
    reason = "has 838860800 bytes, more than the 1048576" if kind == tarfile.REGTYPE else "description .* has no end"
    with pytest.raises(MadlabError, match=reason):
        read_all(path)


def test_a_tar_that_unpacks_without_end_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "SLACK", 10 * MEGABYTE)
    path = compressed_tar(tmp_path / "a.tar.gz", [(described(tarfile.REGTYPE, 100 * MEGABYTE), ZEROS, 100)])
    with pytest.raises(MadlabError, match="far more than its own size"):
        list(members(path, 100))  # nobody reads it, it is only skipped


@pytest.mark.parametrize("files", [{}, {"a.jpg": b"1"}])
def test_what_goes_on_for_terabytes_after_its_end_is_refused_at_once(tmp_path, files):
    path = tmp_path / "a.tar"
    path.write_bytes(tar_bytes(files, "w") if files else b"")
    with path.open("r+b") as file:
        file.truncate(1 << 42)  # holes, which take no room on the disk
    with pytest.raises(MadlabError, match=r"a\.tar cannot be read to its end \(.* has no end\)"):
        list(members(path, 9))


def test_holes_are_refused(tmp_path):
    path = compressed_tar(tmp_path / "a.tar.gz", [(described(tarfile.GNUTYPE_SPARSE, 0), ZEROS, 1)])
    with pytest.raises(MadlabError, match="holes"):
        read_all(path)


@pytest.mark.parametrize("depth", [2, 50, 2000])
def test_tars_in_tars_in_tars_are_refused(tmp_path, depth):
    data = b"end"
    for _ in range(depth):
        info = described(tarfile.REGTYPE, len(data), "x.tar")
        data = info.tobuf() + data + bytes(-len(data) % 512)
    outer = described(tarfile.REGTYPE, len(data), "x.tar")
    (tmp_path / "a.tar").write_bytes(outer.tobuf() + data + bytes(-len(data) % 512 + 1024))
    with pytest.raises(MadlabError, match="an archive in an archive in an archive"):
        read_all(tmp_path / "a.tar")


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_bomb_in_a_zip_is_refused_in_bounded_memory(tmp_path, little_memory, method):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", method) as archive, archive.open("x", "w") as file:
        for _ in range(80):
            file.write(ZEROS)
    with pytest.raises(MadlabError, match="has 83886080 bytes, more than the 1048576"):
        read_all(tmp_path / "a.zip")


def test_a_zip_that_unpacks_to_far_too_much_is_refused_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "SLACK", 10 * MEGABYTE)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(80):
            archive.writestr(str(number), ZEROS)
    with pytest.raises(MadlabError, match="unpacks to 83886080 bytes"):
        next(members(tmp_path / "a.zip", 100))


def test_more_files_than_the_benchmark_has(tmp_path):
    files = {f"{number}.txt": b"" for number in range(11)}
    (tmp_path / "a.tar").write_bytes(tar_bytes(files, "w"))
    (tmp_path / "a.zip").write_bytes(zip_bytes(files))
    for name in ("a.tar", "a.zip"):
        assert len(read_all(tmp_path / name, 11)) == 11
        with pytest.raises(MadlabError, match="more than 10 files"):
            read_all(tmp_path / name, 10)


@pytest.mark.parametrize("large", [False, True])
def test_a_directory_of_a_zip_that_claims_to_be_huge(tmp_path, large):
    """zipfile reads the whole directory before anything else, into many times as many bytes."""
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, 0xFFFFFFFF if large else 1 << 30, 0, 0)
    if large:
        record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, 1 << 30, 0)
        end = record + struct.pack("<4sLQL", b"PK\6\7", 0, 4, 1) + end
    (tmp_path / "a.zip").write_bytes(b"PK\3\4" + end)
    with pytest.raises(MadlabError, match="directory has 1073741824 bytes"):
        read_all(tmp_path / "a.zip")


def test_what_is_no_file_is_told(tmp_path):
    os.mkfifo(tmp_path / "pipe.tar")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "empty.tar").write_bytes(b"")
    for name, reason in {"pipe.tar": "no file or folder", "loop": "no file", "empty.tar": "cannot be read"}.items():
        with pytest.raises(MadlabError, match=reason):
            read_all(tmp_path / name)
    folder = tmp_path / "folder"
    folder.mkdir()
    os.mkfifo(folder / "x.json")
    with pytest.raises(MadlabError, match=r"x\.json is not a file"):
        read_all(folder)
    (folder / "x.json").unlink()
    (folder / "x.json").write_bytes(ZEROS)
    with pytest.raises(MadlabError, match=r"x\.json is refused because it has 1048576 bytes"):
        read_all(folder, bytes_each=1000)


def test_links_in_a_folder_of_ones_own_are_followed_once(tmp_path):
    (tmp_path / "own" / "a").mkdir(parents=True)
    (tmp_path / "own" / "a" / "x").write_bytes(b"1")
    (tmp_path / "own" / "a" / "back").symlink_to("..")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "y").write_bytes(b"2")
    (tmp_path / "own" / "link").symlink_to(tmp_path / "other")
    assert read_all(tmp_path / "own") == {"a/x": b"1", "link/y": b"2"}


def test_names_that_cannot_be_printed_are_escaped(tmp_path):
    name = "a\x1b[31m\udcff\n.txt"
    (tmp_path / "a.tar").write_bytes(tar_bytes({name: b"1"}, "w"))
    assert read_all(tmp_path / "a.tar") == {"a\\x1b[31m\\udcff\\n.txt": b"1"}


def test_damaged_archives_are_told_in_one_sentence(tmp_path):
    """Bytes changed at random: read as before, or refused; nothing else is raised."""
    generator = random.Random(1)
    for kind in ("a.tar", "a.tar.gz", "a.tar.xz", "a.tar.bz2", "a.zip"):
        mode = "w:" + kind[6:] if kind != "a.zip" else ""
        whole = zip_bytes(FILES) if kind == "a.zip" else tar_bytes(FILES, mode)
        path, refused = tmp_path / kind, 0
        for _ in range(60):
            data = bytearray(whole)
            for _ in range(generator.choice([1, 3, 30])):
                data[generator.randrange(len(data))] = generator.randrange(256)
            path.write_bytes(data)
            try:
                read_all(path)
            except MadlabError as error:
                assert kind in str(error) and "\n" not in str(error)
                refused += 1
        assert refused


def test_damage_that_looks_like_the_end_of_a_tar_is_found(tmp_path):
    """Zeros where an entry should be end a tar: of a compressed one, only the checksum at the end of the file tells."""
    whole = tar_bytes({f"{i}.jpg": bytes(600) for i in range(5)}, "w")
    cut = whole[:2048] + bytes(len(whole) - 2048)
    data = bytearray(gzip.compress(cut))
    data[-8:-4] = zlib.crc32(whole).to_bytes(4, "little")
    (tmp_path / "a.tar.gz").write_bytes(data)
    with pytest.raises(MadlabError, match="cannot be read to its end"):
        read_all(tmp_path / "a.tar.gz")
