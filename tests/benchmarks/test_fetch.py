"""Downloads over loopback HTTP, and the folder that they come into."""

import hashlib
import os
import random
import socket
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from archives import Host, described, serve

from madlab.benchmarks import fetch
from madlab.errors import MadlabError

DATA = random.Random(0).randbytes(100_000)
FILE = described("data.bin", DATA)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("TQDM_DISABLE", "1")
    monkeypatch.setattr(fetch, "PAUSE", 0)


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """What the hosts offer: the right file."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    (folder / FILE.name).write_bytes(DATA)
    return folder


@pytest.fixture
def here(tmp_path: Path) -> Path:
    folder = tmp_path / "downloads"
    folder.mkdir()
    return folder


def get(here: Path, *hosts: Host | str, timeout: float = 5, archive: fetch.Archive = FILE) -> Path:
    urls = tuple(host if isinstance(host, str) else f"{host.url}/{archive.name}" for host in hosts)
    return fetch.fetch(replace(archive, urls=urls), here, timeout=timeout, say=lambda _: None)


def test_a_download_is_the_file_and_comes_once(shelf: Path, here: Path) -> None:
    with serve(shelf) as host:
        assert get(here, host).read_bytes() == DATA
        assert get(here, host).read_bytes() == DATA
        assert host.requests("data.bin") == [(None, 100_000)]
    assert os.listdir(here) == ["data.bin"]


def test_mirrors_are_asked_first(shelf: Path, here: Path) -> None:
    with serve(shelf) as host, serve(shelf) as mirror:
        archive = replace(FILE, urls=(f"{host.url}/data.bin",))
        fetch.fetch(archive, here, mirrors=[f"{mirror.url}/"], say=lambda _: None)
        assert (len(mirror.log), len(host.log)) == (1, 0)


def test_a_broken_download_goes_on_where_it_was(shelf: Path, here: Path) -> None:
    with serve(shelf, cut_after=40_960) as host:
        assert get(here, host).read_bytes() == DATA
        # The server's own log: three requests, each from the byte where the one before ended, no byte sent twice.
        assert host.requests("data.bin") == [
            (None, 40_960),
            ("bytes=40960-", 40_960),
            ("bytes=81920-", 18_080),
        ]


def test_the_next_process_goes_on_too(shelf: Path, here: Path) -> None:
    (here / "data.bin.part").write_bytes(DATA[:70_000])
    with serve(shelf) as host:
        assert get(here, host).read_bytes() == DATA
        assert host.requests("data.bin") == [("bytes=70000-", 30_000)]


def test_a_complete_part_needs_no_request(here: Path) -> None:
    (here / "data.bin.part").write_bytes(DATA)
    assert get(here, "http://127.0.0.1:1/data.bin").read_bytes() == DATA


def test_a_host_without_ranges_starts_again(shelf: Path, here: Path) -> None:
    (here / "data.bin.part").write_bytes(DATA[:70_000])
    with serve(shelf, ranges=False) as host:
        assert get(here, host).read_bytes() == DATA


def test_a_page_in_the_place_of_the_file_costs_nothing_that_is_there(shelf: Path, here: Path) -> None:
    """A captive portal answers a request for the rest with 200, a page, and no length."""
    (here / "data.bin.part").write_bytes(DATA[:70_000])

    class Portal(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>Please log in")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Portal)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with pytest.raises(MadlabError, match="begins anew and does not say how long the file is"):
        get(here, f"http://127.0.0.1:{server.server_port}/data.bin")
    server.shutdown()
    server.server_close()
    assert (here / "data.bin.part").read_bytes() == DATA[:70_000]


@pytest.mark.parametrize("part", [b"x" * 70_000, b"x" * 100_000, b"x" * 100_001], ids=["short", "full", "long"])
def test_a_part_with_wrong_bytes_is_thrown_away(shelf: Path, here: Path, part: bytes) -> None:
    (here / "data.bin.part").write_bytes(part)
    with serve(shelf) as host:
        assert get(here, host).read_bytes() == DATA


def test_a_stalling_host_is_left_for_the_next(shelf: Path, here: Path) -> None:
    with serve(shelf, stall_after=20_480) as slow, serve(shelf) as good:
        start = time.monotonic()
        assert get(here, slow, good, timeout=0.3).read_bytes() == DATA
        assert time.monotonic() - start < 3
        assert good.requests("data.bin") == [("bytes=20480-", 79_520)]


def test_a_host_that_drips_counts_as_stalled(shelf: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "SLOWEST", 1_000_000)
    with (
        serve(shelf, delay=0.05) as slow,
        serve(shelf) as good,
    ):  # 4 kB each 50 ms never runs into the socket's time-out
        assert get(here, slow, good, timeout=0.3).read_bytes() == DATA
        assert len(good.log) == 1


def test_a_mirror_with_other_bytes_is_passed_over(shelf: Path, here: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "data.bin").write_bytes(DATA[:-1] + b"!")
    with serve(other) as bad, serve(shelf) as good:
        assert get(here, bad, good).read_bytes() == DATA
        assert len(bad.log) == 1


def test_wrong_bytes_are_never_taken(here: Path, tmp_path: Path) -> None:
    (tmp_path / "data.bin").write_bytes(DATA[:-1] + b"!")
    with serve(tmp_path) as bad, pytest.raises(MadlabError, match=f"instead of {FILE.sha256}"):
        get(here, bad)
    assert os.listdir(here) == []


def test_a_truncated_or_missing_file_names_the_reason(here: Path, tmp_path: Path) -> None:
    (tmp_path / "data.bin").write_bytes(DATA[:60_000])
    with serve(tmp_path) as bad:
        with pytest.raises(MadlabError, match="offers 60000 bytes instead of 100000"):
            get(here, bad)
        with pytest.raises(MadlabError, match="404"):
            get(here, f"{bad.url}/nothing.bin")


def test_no_network(here: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(MadlabError, match=r"data.bin could not be downloaded .*refused.*check the network"):
        get(here, f"http://127.0.0.1:{port}/data.bin")


def test_a_damaged_file_is_named_and_kept(here: Path) -> None:
    (here / "data.bin").write_bytes(b"something else")
    with pytest.raises(MadlabError, match="damaged or another file"):
        get(here, "http://127.0.0.1:1/data.bin")
    assert (here / "data.bin").read_bytes() == b"something else"


def test_a_file_that_the_user_has_to_bring(here: Path) -> None:
    with pytest.raises(MadlabError, match="is not there: register first"):
        fetch.fetch(replace(FILE, manual="register first"), here)


def test_a_full_disk_while_writing(shelf: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with serve(shelf) as host, monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(MadlabError, match="No space left on device"):
            get(here, host)
    with serve(shelf) as host:
        assert get(here, host).read_bytes() == DATA  # and what had arrived was not lost
        assert host.log == []


def test_a_folder_that_cannot_be_made(here: Path) -> None:
    (here / "file").write_bytes(b"")
    with (
        pytest.raises(MadlabError, match=r"Not a directory.*choose another folder"),
        fetch.exclusive(here / "file/data"),
    ):
        pass


def test_space_is_checked() -> None:
    fetch.check_space(Path("there"), 10, free=lambda _: 10)
    with pytest.raises(MadlabError, match=r"3\.0 GB are needed in there and 2\.0 GB are free"):
        fetch.check_space(Path("there"), 3 * 10**9, free=lambda _: 2 * 10**9)


def test_the_checksum_is_sha256(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(DATA)
    assert fetch.sha256_of(tmp_path / "x") == hashlib.sha256(DATA).hexdigest()
