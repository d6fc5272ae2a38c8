"""Machines that are not as one hopes: clocks set back, GPUs that cannot be used, file managers that leave files."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from torch import nn

import madlab
from madlab.benchmarks import loader
from madlab.cli.terminal import ending
from madlab.device import chosen_device
from madlab.errors import MadlabError
from madlab.runs import training
from madlab.runs.cell import Cell
from madlab.runs.recalibrate import old_share
from madlab.runs.train import check_backend, repeat
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


NO_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB"),
    RuntimeError("MPS backend out of memory (MPS allocated: 9.07 GB, other allocations: 1 MB, max allowed: 9.07 GB)."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: you tried to"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    MemoryError(),
]
"""As CUDA, MPS and the CPU say it, and Python."""


@pytest.mark.parametrize("error", NO_MEMORY)
def test_a_device_that_is_too_small_is_told_in_a_sentence(
    error: Exception, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise error

    monkeypatch.setattr(Training, "_epoch", full)
    with pytest.raises(MadlabError, match="does not fit into the memory of cpu: choose a smaller batch size"):
        run(place, "too small")
    with ending() as end:
        full()
    of_gpu = isinstance(error, RuntimeError) and "CPUAllocator" not in str(error)
    place_of_it = "the GPU" if of_gpu else "this machine"
    assert end.code == 2 and f"madlab: The memory of {place_of_it} is not enough" in capsys.readouterr().err


def test_an_error_that_no_memory_would_help_stays_one(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("shape '[2, 3]' is invalid for input of size 5")

    monkeypatch.setattr(Training, "_epoch", fail)
    with pytest.raises(RuntimeError, match="is invalid for input"):
        run(place, "a fault")
    with pytest.raises(RuntimeError, match="is invalid for input"), ending():
        fail()


def test_a_step_that_cannot_be_compiled_is_told_in_a_sentence(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine without a C++ compiler."""
    from torch._dynamo.exc import BackendCompilerFailed

    def fail(*_: object) -> None:
        raise BackendCompilerFailed("inductor", RuntimeError("no C++ compiler"), None)

    monkeypatch.setattr(Training, "_epoch", fail)
    with pytest.raises(MadlabError, match=r"cannot be compiled here .*no C\+\+ compiler.*compile=\"none\""):
        run(place, "no compiler", compile="inductor")


@pytest.mark.parametrize("name", ["relu_compile_error_TESTING_ONLY", "cudagraphs", "inductors"])
def test_a_backend_is_one_of_those_that_are_listed(name: str) -> None:
    with pytest.raises(MadlabError, match=f"no backend '{name}'"):
        check_backend(name)


@pytest.mark.parametrize(
    "momentum, steps, share",
    [(0.1, 6, 0.531441), (0.1, 7, 0.4782969), (0.01, 60, 0.547157), (None, 10**6, 1), (1, 1, 0)],
)
def test_how_old_running_statistics_are(momentum: float | None, steps: int, share: float) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, momentum=momentum), nn.AdaptiveAvgPool2d(1))
    net = madlab.MultiDomainNet(nn.Sequential(*network, nn.Flatten(), nn.Linear(4, 2)))
    net.add_domain("own", 2)
    assert old_share(net.view("own"), steps) == pytest.approx(share, abs=1e-5)


def test_norms_that_take_in_little_of_each_batch_are_measured_anew(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten steps an epoch are enough where each batch counts for a tenth, and not where it counts for a hundredth."""
    measured: list[bool] = []

    def noted(*given: Any) -> None:
        measured.append(given[-1])

    monkeypatch.setattr(training, "recalibrate", noted)
    for momentum, augment in ((0.1, "crop"), (0.01, "crop"), (0.01, "flip")):
        base = madlab.load_base(str(place / "small.safetensors"))
        for module in base.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = momentum
        madlab.train(
            place / "noise", "mad:2", base=base, epochs=1, batch_size=2, augment=augment, progress=False, device="cpu"
        )
    assert measured == [True, False]


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
