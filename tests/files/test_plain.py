"""What is written stays whole, links and modes stay as they were, and nothing but plain files is read or replaced."""

import errno
import os
import resource
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from madlab.errors import MadlabError
from madlab.files import plain as files
from madlab.files.plain import check_writable, read_bytes, write_bytes

KINDS = ("folder", "FIFO", "socket", "device", "loop")


def put(kind: str, path: Path) -> str:
    """Something at `path` that is not a plain file; returns what the message must say of it."""
    if kind == "folder":
        path.mkdir()
    elif kind == "FIFO":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as connection:
            here = os.getcwd()
            os.chdir(path.parent)  # the address of a socket has 104 bytes at most
            try:
                connection.bind(path.name)
            finally:
                os.chdir(here)
    elif kind == "device":
        path.symlink_to("/dev/null")
    else:
        path.symlink_to(path.name)
        return "Too many levels of symbolic links.*remove these links"
    return f"is a {kind}"


def facts(path: Path) -> tuple:
    """What is at `path` itself and when it last changed, without the time of its last reading, which looks may move."""
    found = path.lstat()
    return found.st_mode, found.st_ino, found.st_dev, found.st_size, found.st_mtime_ns, found.st_ctime_ns


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_plain_file_is_neither_read_nor_replaced(kind, tmp_path):
    path = tmp_path / "x.json"
    words = put(kind, path)
    before = facts(path)
    for call in (lambda: write_bytes(path, b"new"), lambda: check_writable(path), lambda: read_bytes(path, 100)):
        with pytest.raises(MadlabError, match=rf"(?s)^[^\n]*x\.json[^\n]*{words}[^\n]*$"):
            call()
    assert facts(path) == before and [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_the_null_device_survives():
    with pytest.raises(MadlabError, match="/dev/null is a device, so nothing was written: choose another name"):
        write_bytes("/dev/null", b"rows")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path):
    (tmp_path / "far").mkdir()
    target = tmp_path / "far" / "table.csv"
    target.write_text("old")
    (tmp_path / "near").symlink_to("far")
    (tmp_path / "one.csv").symlink_to("near/table.csv")
    (tmp_path / "two.csv").symlink_to("one.csv")
    check_writable(tmp_path / "two.csv")
    write_bytes(tmp_path / "two.csv", b"new")
    assert target.read_text() == "new" and not target.is_symlink()
    assert os.readlink(tmp_path / "two.csv") == "one.csv" and os.readlink(tmp_path / "one.csv") == "near/table.csv"
    assert {p.name for p in tmp_path.rglob("*")} == {"far", "near", "one.csv", "two.csv", "table.csv"}


def test_a_link_to_nothing_is_refused(tmp_path):
    (tmp_path / "x.csv").symlink_to("unmounted/x.csv")
    for call in (lambda: write_bytes(tmp_path / "x.csv", b""), lambda: check_writable(tmp_path / "x.csv")):
        with pytest.raises(MadlabError, match=r"x\.csv is a link to unmounted/x\.csv, which does not exist"):
            call()
    with pytest.raises(MadlabError, match="There is no file"):
        read_bytes(tmp_path / "x.csv", 100)
    assert not (tmp_path / "unmounted").exists()


def test_modes_and_owners_are_kept_and_a_new_file_gets_the_umasks(tmp_path):
    path = tmp_path / "private"
    path.write_bytes(b"old")
    for mode in (0o600, 0o640, 0o664):
        path.chmod(mode)
        if os.getuid() == 0:
            os.chown(path, 12, 34)
        before = path.stat()
        write_bytes(path, b"new")
        after = path.stat()
        assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
        assert after.st_ino != before.st_ino
    was = os.umask(0o027)
    try:
        write_bytes(tmp_path / "fresh", b"new")
    finally:
        os.umask(was)
    assert stat.S_IMODE((tmp_path / "fresh").stat().st_mode) == 0o640


@pytest.mark.skipif(os.getuid() == 0, reason="nothing is read-only for root")
def test_a_read_only_file_or_folder_is_refused(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"old")
    path.chmod(0o400)
    for call in (lambda: write_bytes(path, b"new"), lambda: check_writable(path)):
        with pytest.raises(MadlabError, match="it is read-only"):
            call()
    tmp_path.chmod(0o500)
    with pytest.raises(MadlabError, match="Permission denied"):
        check_writable(tmp_path / "y")
    tmp_path.chmod(0o700)


WRONG = {
    "a file above": ("file/x/y", "Not a directory"),
    "no file system for it": ("/proc/x", "No such file|Permission|Read-only"),
    "too long": ("a" * 256, "File name too long.*choose a shorter name"),
    "long with its temporary name": ("a" * 250, "File name too long.*choose a shorter name"),
    "too long in a folder that is not there": ("new/" + "a" * 256 + "/x", "File name too long"),
    "a link to nothing above": ("gone/x", "File exists|No such file"),
    "null byte": ("a\0b", "null"),
    "half a pair": ("a\ud800b", "surrogates not allowed"),
}


@pytest.mark.parametrize("name", WRONG)
def test_names_that_cannot_be_written_are_told_before_and_at_the_end(name, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "gone").symlink_to("nowhere")
    path, words = WRONG[name]
    for call in (check_writable, lambda path: write_bytes(path, b"x")):
        with pytest.raises(MadlabError, match=rf"(?s)could not be written \([^\n]*({words})[^\n]*$"):
            call(tmp_path / path)


def test_looking_leaves_nothing_behind(tmp_path, monkeypatch):
    check_writable(tmp_path / "new" / "folder" / "x.csv")
    (tmp_path / "x.csv").write_text("old")
    check_writable(tmp_path / "x.csv")
    monkeypatch.chdir(tmp_path)
    check_writable("y.csv")
    assert [p.name for p in tmp_path.iterdir()] == ["x.csv"] and (tmp_path / "x.csv").read_text() == "old"


def test_a_file_that_may_not_grow_leaves_the_old_one_and_nothing_else(tmp_path):
    (tmp_path / "x").write_text("old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(MadlabError, match=r"x could not be written \(File too large\): free some space"):
            write_bytes(tmp_path / "x", bytes(5000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [p.name for p in tmp_path.iterdir()] == ["x"] and (tmp_path / "x").read_text() == "old"


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(call, tmp_path, monkeypatch):
    (tmp_path / "x").write_text("old")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, call, full)
    with pytest.raises(MadlabError, match=r"x could not be written \(No space left on device\): free some space"):
        write_bytes(tmp_path / "x", b"new")
    assert [p.name for p in tmp_path.iterdir()] == ["x"] and (tmp_path / "x").read_text() == "old"


def test_ctrl_c_while_writing_leaves_nothing(tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "fsync", stop)
    with pytest.raises(KeyboardInterrupt):
        write_bytes(tmp_path / "x", b"new")
    assert list(tmp_path.iterdir()) == []


WRITER = """
import os, sys
from madlab.files import plain as files
def stop(*_):
    print("writing", flush=True)
    sys.stdin.read()
files.os.fsync = stop
files.write_bytes(sys.argv[1], b"half")
"""


def writer(path: Path) -> subprocess.Popen:
    """A process that is in the middle of writing `path`; it ends when its standard input is closed."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "writing\n"
    return process


def test_what_killed_writers_of_a_name_left_goes_and_what_living_ones_write_stays(tmp_path):
    path = tmp_path / "run.json"
    killed, alive = writer(path), writer(path)
    killed.kill()
    killed.wait()
    other = writer(tmp_path / "other.json")
    other.kill()
    other.wait()
    foreign = [".run.json.notes.tmp", ".run.json.1.bak", "run.json.1.tmp", ".arun.json.1.tmp"]
    for name in foreign:
        (tmp_path / name).write_text("of somebody")
    (tmp_path / ".run.json.4711.tmp").write_text("left by madlab 0.1")
    write_bytes(path, b"whole")
    left = {p.name for p in tmp_path.iterdir()} - {"run.json", *foreign}
    assert len(left) == 2 and {name.split(".")[1] for name in left} == {"run", "other"}
    assert any(f".{alive.pid}-" in name for name in left)
    assert path.read_bytes() == b"whole"
    alive.stdin.close()
    assert alive.wait() == 0 and path.read_bytes() == b"half"


def test_what_killed_writers_left_goes_even_when_nothing_is_written_again(tmp_path):
    killed = writer(tmp_path / "failure.txt")  # a run that goes on after a kill need not fail again
    killed.kill()
    killed.wait()
    assert len(list(tmp_path.iterdir())) == 1
    check_writable(tmp_path / "failure.txt")
    assert list(tmp_path.iterdir()) == []


def test_two_writers_at_once_both_succeed(tmp_path):
    loop = "for i in range(300): plain.write_bytes(sys.argv[1], b'x' * 5000)"
    code = f"import sys; from madlab.files import plain\n{loop}"
    both = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "x")]) for _ in range(2)]
    until = time.monotonic() + 60
    while any(process.poll() is None for process in both) and time.monotonic() < until:
        assert not (tmp_path / "x").exists() or (tmp_path / "x").stat().st_size == 5000
    assert [process.wait() for process in both] == [0, 0]
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_a_file_larger_than_its_kind_can_be_is_not_read(tmp_path):
    with open(tmp_path / "x", "wb") as file:
        file.truncate(2**40)
    with pytest.raises(MadlabError, match="x has 1,099,511,627,776 bytes, but such a file has at most 1,000"):
        read_bytes(tmp_path / "x", 1000)


def test_a_file_that_grows_is_told(tmp_path, monkeypatch):
    path = tmp_path / "x"
    path.write_bytes(b"1234")

    def late(file, *args, **more):
        path.write_bytes(b"12345678")
        return open(file, *args, **more)

    monkeypatch.setattr(files, "open", late, raising=False)
    with pytest.raises(MadlabError, match="changed while it was read"):
        read_bytes(path, 100)
