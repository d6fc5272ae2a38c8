"""A folder has one writer: among processes, among threads, across forks, and after a kill."""

import errno
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings

import pytest

from madlab.errors import MadlabError
from madlab.files import locks
from madlab.files.locks import LOCK, hold

HOLDER = """
import sys
from madlab.files.locks import hold
with hold(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(folder):
    """A process that holds `folder` until its standard input is closed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    return process


def taken(folder, by="Process"):
    with pytest.raises(MadlabError, match=rf"^{by}.* is writing into .*: wait until it ends, or choose another"):
        with hold(folder):
            pass


def free(folder):
    with hold(folder):
        assert (folder / LOCK).exists()
    assert not (folder / LOCK).exists()


def test_another_process_is_refused_by_name_until_it_ends(tmp_path):
    folder = tmp_path / "new" / "run"
    other = holder(folder)
    taken(folder, f"Process {other.pid}")
    other.stdin.close()
    assert other.wait() == 0
    free(folder)
    assert list(folder.iterdir()) == []


def test_a_killed_process_blocks_nobody(tmp_path):
    other = holder(tmp_path)
    other.kill()
    other.wait()
    assert (tmp_path / LOCK).exists()
    free(tmp_path)


def test_a_lock_of_another_user_that_may_only_be_read_is_taken(tmp_path, monkeypatch):
    """As a killed process leaves it in a folder that several people share."""
    (tmp_path / LOCK).write_bytes(b"")
    opened = os.open

    def strict(path, flags, *mode):
        if flags & os.O_RDWR:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return opened(path, flags, *mode)

    monkeypatch.setattr(os, "open", strict)
    with hold(tmp_path), pytest.raises(MadlabError, match="is writing into"), hold(tmp_path):
        pass


def test_the_same_process_is_refused_too(tmp_path):
    with hold(tmp_path):
        taken(tmp_path, f"Process {os.getpid()}, this one,")
    with pytest.raises(ZeroDivisionError), hold(tmp_path):
        raise ZeroDivisionError
    free(tmp_path)


def test_a_holder_on_another_machine_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(locks.socket, "gethostname", lambda: "far.example")
    with hold(tmp_path):
        monkeypatch.undo()
        taken(tmp_path, f"Process {os.getpid()} on far.example")
        (tmp_path / LOCK).write_text("\x1b[31m" * 100)
        taken(tmp_path, "Another process")
    assert socket.gethostname() != "far.example"


def test_who_waits_is_told_and_comes_next(tmp_path):
    other, said = holder(tmp_path), []

    def say(sentence):
        said.append(sentence)
        other.stdin.close()

    with hold(tmp_path, wait=say):
        assert other.wait() == 0
        assert said == [f"Process {other.pid} is at work in {tmp_path}: waiting for it."]
        taken(tmp_path, f"Process {os.getpid()}, this one,")
    assert not (tmp_path / LOCK).exists()


def test_of_many_threads_one_at_a_time_is_in(tmp_path):
    inside, most, turns = [], [], []

    def work():
        with hold(tmp_path, wait=lambda _: None):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.001)
            inside.pop()
        turns.append(1)

    threads = [threading.Thread(target=work) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(turns), max(most)) == (20, 1)


def test_a_forked_process_neither_ends_the_lock_nor_loses_it(tmp_path):
    program = f"""
import os, signal, sys
from madlab.files.locks import hold
with hold({str(tmp_path)!r}):
    child = os.fork()
    if child == 0:
        sys.exit(0)  # leaves the block, as the parent does later
    os.waitpid(child, 0)
    print("held", flush=True)
    if sys.stdin.readline() == "leave a child\\n" and os.fork() == 0:
        print("child", os.getpid(), flush=True)
        signal.pause()
    signal.pause()
"""
    parent = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert parent.stdout.readline() == "held\n"
    taken(tmp_path, f"Process {parent.pid}")
    parent.stdin.write("leave a child\n")
    parent.stdin.flush()
    child = int(parent.stdout.readline().removeprefix("child "))
    parent.kill()
    parent.wait()
    taken(tmp_path)  # the child may still write
    os.kill(child, signal.SIGKILL)
    with hold(tmp_path, wait=lambda _: None):  # as soon as it is gone
        pass


def test_what_is_no_plain_file_in_the_locks_place_is_left_alone(tmp_path):
    (tmp_path / "precious").write_text("as it was")
    (tmp_path / LOCK).symlink_to("precious")
    with pytest.raises(MadlabError, match="cannot be written to"), hold(tmp_path):
        pass
    assert (tmp_path / "precious").read_text() == "as it was"
    (tmp_path / LOCK).unlink()
    os.mkfifo(tmp_path / LOCK)
    with pytest.raises(MadlabError, match="is not a plain file"), hold(tmp_path):
        pass
    with (
        pytest.raises(MadlabError, match=r"precious cannot be written to .*choose another"),
        hold(tmp_path / "precious"),
    ):
        pass


@pytest.mark.parametrize("how", ["no flock", "no fcntl"])
def test_where_nothing_can_be_locked_a_warning_says_so(how, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    if how == "no flock":
        monkeypatch.setattr(locks.fcntl, "flock", refuse)
    else:
        monkeypatch.setattr(locks, "fcntl", None)
    with pytest.warns(UserWarning, match="cannot be locked .* start only one") as told, hold(tmp_path):
        pass
    assert told[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        monkeypatch.undo()
        free(tmp_path)


def test_a_full_disk_locks_without_the_holders_name(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(locks.os, "pwrite", full)
    with hold(tmp_path):
        taken(tmp_path, "Another process")
