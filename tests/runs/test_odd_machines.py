"""Machines that are not as one hopes: clocks set back, GPUs that cannot be used, file managers that leave files."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

import madlab
from madlab.benchmarks import loader
from madlab.device import chosen_device
from madlab.errors import MadlabError
from madlab.runs.cell import Cell
from madlab.runs.train import repeat
from madlab.runs.training import Training


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("odd")
    tiny.write_folder(root / "noise")
    tiny.write_base(root / "small.safetensors")
    return root


def run(root: Path, name: str, **options: Any) -> madlab.runs.record.Result:
    base = str(root / "small.safetensors")
    given = {"rank": 2, "base": base, "epochs": 1, "progress": False, "device": "cpu"} | options
    return madlab.train(root / "noise", "mad", out=root / name, **given)


def test_a_clock_that_is_set_back_ends_no_run(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter(range(10**6, 0, -1000))
    monkeypatch.setattr(time, "time", lambda: float(next(times)))
    assert 0 <= run(place, "clock").seconds < 1000


def test_a_gpu_that_is_counted_and_cannot_be_used_is_left_alone(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with an old driver: NVML counts one, and every call to it fails."""

    def fail(*_: object) -> None:
        raise RuntimeError("The NVIDIA driver on your system is too old")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    for name in ("get_rng_state", "set_rng_state", "_lazy_init"):
        monkeypatch.setattr(torch.cuda, name, fail)
    assert run(place, "driver").epochs == 1
    with pytest.raises(MadlabError, match="There is no device 'cuda' here: choose one of cpu"):
        chosen_device("cuda")


def test_a_gpu_that_is_too_small_is_told_in_a_sentence(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")

    monkeypatch.setattr(Training, "_epoch", full)
    with pytest.raises(MadlabError, match="does not fit into the memory of cpu: choose a smaller batch size"):
        run(place, "small GPU")


@pytest.mark.parametrize("kind, waits", [("cuda", False), ("mps", True), ("cpu", True)])
def test_only_copies_to_a_gpu_of_nvidia_do_not_wait(kind: str, waits: bool) -> None:
    class Sent:
        def to(self, device: torch.device, non_blocking: bool) -> tuple[str, bool]:
            return device.type, not non_blocking

    assert loader.on_its_way(Sent(), torch.device(kind)) == (kind, waits)  # type: ignore[arg-type, comparison-overlap]


def test_what_an_earlier_start_failed_of_is_not_told_of_the_next(place: Path) -> None:
    with pytest.raises(MadlabError, match="loss"):
        run(place, "again", adapter_lr=1e38, batchnorm_lr=1e38, head_lr=1e38, batch_size=3)
    assert (place / "again" / "failure.txt").exists() and not (place / "again" / "metrics.jsonl").exists()

    class Stop(Exception):
        pass

    def stop(_: object) -> None:
        raise Stop

    with pytest.raises(Stop):
        run(place, "again", on_epoch=stop)
    assert not (place / "again" / "failure.txt").exists()


def test_files_of_file_managers_are_no_content(place: Path) -> None:
    (place / "seen").mkdir()
    (place / "seen" / ".DS_Store").write_bytes(b"Finder")
    assert run(place, "seen").epochs == 1


def test_a_log_that_is_just_replaced_ends_no_sweep(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = Cell(place / "clock", str(place / "noise"), {}, 1)
    assert cell.epochs_done() == 1

    def stale(_: Path) -> bytes:
        raise OSError(116, "Stale file handle")

    monkeypatch.setattr(Path, "read_bytes", stale)
    assert cell.epochs_done() == 0


def test_another_domain_is_mirrored_as_it_wants(place: Path) -> None:
    """Unless the run was told how: photographs are mirrored, traffic signs are not."""
    common = {"rank": 2, "epochs": 1, "progress": False, "device": "cpu"}
    run(place, "by default")
    run(place, "told", flip=False)
    for name, flips in (("by default", False), ("told", False)):
        repeat(place / name, out=place / f"{name} on signs", domain="signs", **common)
        assert json.loads((place / f"{name} on signs" / "config.json").read_text())["flip"] is flips
    repeat(place / "told", out=place / "told again", domain=place / "noise", **common)
    assert json.loads((place / "told again" / "config.json").read_text())["flip"] is False
