"""A sweep in this process, in two processes, and on a real Ray of two workers one of which is killed."""

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import tiny
import torch
from torch import nn

import madlab
from madlab import cli
from madlab.backbones import pocket_densenet
from madlab.benchmarks import flips
from madlab.errors import MadlabError
from madlab.runs import cell
from madlab.runs.cell import Cell
from madlab.runs.engines import choose_engine, local, ray
from madlab.runs.sweep import sweep

METHODS = ["frozen", "mad:2"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("sweep")
    tiny.write_folder(root / "noise")
    tiny.write_folder(root / "more", classes=2, seed=1)
    tiny.write_base(root / "small.safetensors")
    return root


@pytest.fixture(autouse=True)
def one_thread():
    """As many as a worker has: sums over images are then made in the same order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def run(place, out, domains=("noise", "more"), methods=METHODS, **options):
    options = {"base": str(place / "small.safetensors"), "epochs": 2, "progress": False} | options
    return sweep([str(place / name) for name in domains], methods, out=place / out, **options)


@pytest.fixture(scope="module")
def here(place):
    """The grid in this process: what every other way has to equal."""
    torch.set_num_threads(1)
    return run(place, "here", seeds=2, no_flip=["more"])


def same_runs(one, other):
    """Both folders hold the same runs, byte for byte but for their seconds."""
    names = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(other) for path in other.rglob("*") if path.is_file())
    for name in names:
        if name.name == "result.json":
            results = [json.loads((root / name).read_text()) | {"seconds": 0, "cost": {}} for root in (one, other)]
            assert results[0] == results[1]
        else:
            assert (one / name).read_bytes() == (other / name).read_bytes(), name


def times(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_every_cell_of_the_grid_is_a_run_in_its_own_folder(place, here):
    expected = {
        place / "here" / domain / method / f"seed{seed}": (domain, "frozen" if method == "frozen" else "mad", seed)
        for domain in ("noise", "more")
        for method in ("frozen", "mad-2")
        for seed in (0, 1)
    }
    assert here.failures == {}
    assert {folder: (r.domain, r.method, r.seed) for folder, r in here.results.items()} == expected
    for folder, (domain, method, seed) in expected.items():
        config = json.loads((folder / "config.json").read_text())
        assert config["options"] == ({"rank": 2} if method == "mad" else {})
        assert config["flip"] == (domain == "noise")
        assert (config["recipe"]["epochs"], config["recipe"]["seed"]) == (2, seed)
        assert json.loads((folder / "result.json").read_text())["test_accuracy"] == here.results[folder].test_accuracy


def test_the_whole_grid_is_run_with_one_seed_before_the_next(here):
    assert [folder.name for folder in here.results] == ["seed0"] * 4 + ["seed1"] * 4


def test_finished_runs_are_skipped_and_missing_ones_made(place, here):
    folder = place / "copied"
    shutil.copytree(place / "here", folder)
    before = times(folder)
    again = run(place, "copied", seeds=2, no_flip=["more"])
    assert list(again.results.values()) == list(here.results.values()) and times(folder) == before
    wider = run(place, "copied", methods=[*METHODS, "batchnorm"], domains=["noise"], seeds=1)
    assert len(wider.results) == 3
    after = times(folder)
    assert {path.parent for path in set(after) - set(before)} == {folder / "noise" / "batchnorm" / "seed0"}
    assert all(after[path] == before[path] for path in before)


def test_runs_that_are_stored_rounded_cannot_be_asked_for_in_other_bits(place):
    with pytest.raises(MadlabError, match="leave out one of it and round_to"):
        run(place, "both", finish_bits=4, round_to=(8, 3))
    assert not (place / "both").exists()


def test_a_finished_run_of_another_recipe_is_not_taken_for_this_one(place, here):
    before = times(place / "here")
    for options, words in (
        ({"epochs": 3}, "other options .epochs 2, now 3."),
        ({"layers": "3x3"}, "other options .layers all, now 3x3."),
        ({"no_flip": ["noise"]}, "other options .flip True, now False."),
    ):
        with pytest.raises(MadlabError, match=words):
            run(place, "here", domains=["noise"], **options)
    with pytest.raises(MadlabError, match=r"other options \(flip False, now True\)"):
        run(place, "here", domains=["more"])
    assert times(place / "here") == before


def test_a_mirrored_run_is_not_taken_for_one_of_a_domain_that_is_not_mirrored(tmp_path):
    given = {"epochs": 1, "crop": 8, "progress": False, "device": "cpu"}
    madlab.train("signs", "frozen", out=tmp_path / "signs/frozen/seed0", flip=True, **given)
    with pytest.raises(MadlabError, match=r"other options \(flip True, now False\)"):
        sweep(["signs"], ["frozen"], 1, tmp_path, **given)


@pytest.mark.parametrize(
    "name", ["signs", "walkers", "decathlon:svhn", "decathlon:aircraft", "sketch:cubs", "open:gtsrb"]
)
def test_whether_a_domain_is_mirrored_is_known_without_its_images(name):
    assert flips(name) == (name not in ("signs", "decathlon:svhn", "open:gtsrb"))
    assert flips("./signs")


def test_what_no_run_could_do_is_refused_before_any_starts(place, monkeypatch):
    with pytest.raises(MadlabError, match="A frame of 10 pixels does not fit"):
        run(place, "none", methods=["prompt"], options={"frame": 10}, crop=16)
    with pytest.raises(MadlabError, match="spread over 2 GPUs are not on cpu alone"):
        run(place, "none", device="cpu", devices=2)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    with pytest.raises(MadlabError, match=r"The cluster at 10\.0\.0\.1:6379 has its own workers"):
        run(place, "none", engine="ray", workers=2)
    assert not (place / "none").exists()


def test_what_a_killed_process_left_beside_a_result_is_cleared(place, here):
    shutil.copytree(place / "here", place / "left")
    checkpoint = place / "left" / "noise" / "mad-2" / "seed0" / "checkpoint.safetensors"
    checkpoint.write_bytes(b"of a process that was killed between its result and the end")
    run(place, "left", seeds=2, no_flip=["more"])
    assert not checkpoint.exists()
    same_runs(place / "here", place / "left")


@pytest.mark.slow
def test_a_half_done_run_goes_on(place, here, monkeypatch):
    """The second run stops after its first epoch; the next sweep trains that run's second epoch and the rest."""
    trained, real = [], cell.train

    def stopping(domain, out, on_epoch, **options):
        def stop(entry):
            if out.parts[-2:] == ("mad-2", "seed0"):
                raise KeyboardInterrupt
            on_epoch(entry)

        return real(domain, out=out, on_epoch=stop, **options)

    monkeypatch.setattr(cell, "train", stopping)
    with pytest.raises(KeyboardInterrupt):
        run(place, "halves", seeds=2, no_flip=["more"])

    def counting(domain, out, on_epoch, **options):
        return real(domain, out=out, on_epoch=lambda entry: trained.append((out, entry.epoch)), **options)

    monkeypatch.setattr(cell, "train", counting)
    run(place, "halves", seeds=2, no_flip=["more"])
    stopped = place / "halves" / "noise" / "mad-2" / "seed0"
    assert trained[0] == (stopped, 2) and len(trained) == 1 + 6 * 2
    same_runs(place / "here", place / "halves")


@pytest.mark.slow
def test_a_failed_run_is_told_and_the_others_go_on(place, capsys):
    """A rate that no adapter survives does nothing to a method without adapter."""
    methods = ["mad:2", "frozen"]
    command = ["sweep", "--domains", str(place / "noise"), "--methods", ",".join(methods), "--epochs", "6"]
    command += ["--base", str(place / "small.safetensors"), "--out", str(place / "failing")]
    command += ["--adapter-lr", "1e30", "--batch-size", "24"]
    assert cli.main(command) == 2
    out, err = capsys.readouterr()
    failed = place / "failing" / "noise" / "mad-2" / "seed0"
    assert out.startswith("1 finished run is in")
    assert "of 2 runs these failed" in err and f"{failed}: The validation loss became nan in epoch 2" in err
    assert "Traceback" not in err
    assert (place / "failing" / "noise" / "frozen" / "seed0" / "result.json").exists()
    assert (failed / "checkpoint.safetensors").exists()


@pytest.mark.slow
def test_the_choice_of_layers_reaches_every_run(place, monkeypatch):
    monkeypatch.setenv("TQDM_DISABLE", "1")
    torch.manual_seed(0)
    base = pocket_densenet(num_classes=3, width=4)
    base.resize, base.crop = 36, 32
    madlab.save_base(base, place / "dense.safetensors", architecture="pocket_densenet", name="dense", width=4)
    for layers in ("3x3", "1x1"):
        command = ["sweep", "--domains", str(place / "noise"), "--methods", "mad,mad:2", "--epochs", "1"]
        command += ["--base", str(place / "dense.safetensors"), "--out", str(place / layers), "--layers", layers]
        assert cli.main(command) == 0
        kernel = (int(layers[0]), int(layers[0]))
        shapes = [m.weight.shape for m in base.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == kernel]
        assert 1 < len(shapes) < 55
        sizes = {"mad": sum(s[0] * s[1] for s in shapes), "mad-2": sum(2 * (s[0] + s[1]) for s in shapes)}
        for method, size in sizes.items():
            folder = place / layers / "noise" / method / "seed0"
            assert json.loads((folder / "config.json").read_text())["layers"] == layers
            assert json.loads((folder / "result.json").read_text())["adapter_parameters"] == size


def test_a_defect_in_one_run_is_one_sentence_with_its_traceback_in_a_file_and_the_others_go_on(place, monkeypatch):
    real = cell.train

    def broken(domain, out, method, **options):
        if method == "frozen":
            raise RuntimeError("out of memory")
        return real(domain, out=out, method=method, **options)

    monkeypatch.setattr(cell, "train", broken)
    outcome = run(place, "broken", domains=["noise"], epochs=1)
    ((folder, failure),) = outcome.failures.items()
    assert failure == f"RuntimeError: out of memory; the traceback is in {folder / 'failure.txt'}."
    traceback = (folder / "failure.txt").read_text()
    assert traceback.startswith("Traceback") and "in broken" in traceback and "RuntimeError: out of memory" in traceback
    monkeypatch.setattr(cell, "train", real)
    assert not run(place, "broken", domains=["noise"], epochs=1).failures and not (folder / "failure.txt").exists()
    assert [result.method for result in outcome.results.values()] == ["mad"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"methods": ["mad", "magic"]}, "Unknown method 'magic'"),
        ({"methods": ["mad:99"]}, "Rank 99 is not possible: .* limit of the widest layer"),
        ({"methods": ["mad", "mad"]}, "Two runs have the name .*mad.seed0"),
        ({"domains": ["noise", "noise/"]}, "Two runs have the name"),
        ({"domains": ["noise", "absent"]}, "no domain or folder .*absent"),
        ({"no_flip": ["letters"]}, "No domain 'letters' to leave unmirrored: the sweep has noise, more"),
        ({"methods": []}, "nothing to do"),
        ({"seeds": 0}, "nothing to do"),
        ({"seed": 3}, "takes the number of seeds"),
        ({"speed": 3}, "Unknown option 'speed'"),
        ({"base": "resnet27"}, "No base network 'resnet27'"),
        ({"engine": "slurm"}, "Unknown engine 'slurm': choose one of local, ray"),
        ({"workers": 0}, "0 workers cannot work"),
        ({"address": "auto"}, "are for Ray: choose the engine ray"),
        ({"gpus_per_run": 0.5}, "are for Ray: choose the engine ray"),
        ({"device": "tpu"}, "no device 'tpu' here: choose one of cpu"),
        ({"seeds": 10**9}, "1000000000 seeds are too many"),
        ({"options": {"frame": 2}}, "None of the methods takes an option 'frame'"),
        ({"options": {"rank": 2}}, "The rank was given twice, as 2 and 2"),
        ({"methods": ["mad:--3"]}, "Unknown method 'mad:--3'"),
        ({"compile": "magic"}, "no backend 'magic'"),
    ],
)
def test_what_can_be_known_to_fail_fails_before_anything_is_started(place, options, words):
    with pytest.raises(MadlabError, match=words):
        run(place, "nothing", **options)
    assert not (place / "nothing").exists()


def test_runs_inside_the_data_are_refused(place):
    for out in ("noise", "noise/train", "more/../noise/runs", "."):
        with pytest.raises(MadlabError, match=r"lies inside the data of .*noise"):
            run(place, out, domains=["noise"])
    (place / "shortcut").symlink_to(place / "noise")
    with pytest.raises(MadlabError, match="lies inside the data"):
        run(place, "shortcut/runs", domains=["noise"])
    assert sorted(path.name for path in (place / "noise").iterdir()) == ["test", "train", "val"]


def test_an_option_reaches_the_methods_that_take_it_and_no_other(place):
    options = {"domains": ["noise"], "methods": ["lora:2", "mad:2"], "epochs": 1, "options": {"alpha": 16}}
    assert not run(place, "optional", **options).failures
    found = {}
    for file in (place / "optional").rglob("config.json"):
        config = json.loads(file.read_text())
        found[config["method"]] = config["options"]
    assert found == {"lora": {"rank": 2, "alpha": 16}, "mad": {"rank": 2}}


def test_two_domains_of_one_name_are_refused(place):
    tiny.write_folder(place / "elsewhere" / "noise", seed=5)
    with pytest.raises(MadlabError, match=r"Two runs have the name .*noise"):
        run(place, "nothing", domains=["noise", "elsewhere/noise"])


@pytest.mark.slow
def test_progress_counts_images_over_the_grid(place, monkeypatch):
    """Two epochs of 24 and of 16 images for each method; one of the four runs is there before."""
    shown = []

    class Bar:
        def __init__(self, total, initial, desc, **options):
            self.of_sweep = desc == "sweep"  # the runs have bars of their own
            if self.of_sweep:
                shown.append((initial, total))

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def update(self):
            pass

        def set_postfix_str(self, text):
            if self.of_sweep:
                shown.append((self.n, text))

    monkeypatch.setattr("madlab.progress.tqdm", Bar)
    run(place, "counted", domains=["noise"], methods=["frozen"])
    assert (shown[0], shown[1], shown[-1]) == ((0, 48), (0, "0/1 runs"), (48, "1/1 runs"))
    assert (24, "0/1 runs") in shown
    shown.clear()
    run(place, "counted")
    assert shown[0] == (0, 2 * 24 + 2 * 2 * 16) and shown[-1] == (112, "3/3 runs")


@pytest.mark.slow
def test_two_processes_make_the_same_runs(place, here):
    outcome = run(place, "processes", domains=["noise"], workers=2)
    assert not outcome.failures
    for method in ("frozen", "mad-2"):
        cell = Path("noise", method, "seed0")
        same_runs(place / "here" / cell, place / "processes" / cell)


@pytest.mark.slow
def test_workers_end_with_a_sweep_that_is_killed(place):
    """They do not go on writing into folders that the next sweep takes up."""
    command = [
        sys.executable,
        "-m",
        "madlab",
        "sweep",
        "--domains",
        str(place / "noise"),
        "--methods",
        "mad,frozen",
    ]
    command += ["--base", str(place / "small.safetensors"), "--epochs", "100000", "--workers", "2"]
    parent = subprocess.Popen([*command, "--out", str(place / "orphans")], stderr=subprocess.DEVNULL)
    folders = [place / "orphans" / "noise" / method / "seed0" for method in ("mad", "frozen")]
    metrics = [folder / "metrics.jsonl" for folder in folders]
    deadline = time.monotonic() + 240
    while not all(path.exists() for path in metrics):
        assert parent.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    time.sleep(2)  # a worker that lived would finish many epochs of 24 tiny images
    ended = [path.read_bytes() for path in metrics]
    time.sleep(3)
    assert [path.read_bytes() for path in metrics] == ended


@pytest.mark.slow
def test_a_process_that_dies_fails_its_run_alone(place):
    """It dies by a signal in mid-run, as when memory runs out; the next sweep goes on from its last epoch."""
    long = place / "dying" / "noise" / "mad-2" / "seed0"

    def kill():
        wait_for(lambda: (long / "checkpoint.safetensors").exists())
        for process in local.multiprocessing.active_children():
            if process.name == str(long):
                process.kill()

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    outcome = run(place, "dying", domains=["noise"], methods=["mad:2", "frozen"], epochs=12, workers=2)
    thread.join()
    assert [result.method for result in outcome.results.values()] == ["frozen"] and len(outcome.failures) == 1
    assert "died with exit code -9" in outcome.failures[long]
    assert not (long / "result.json").exists() and (long / "checkpoint.safetensors").exists()


def wait_for(condition, seconds=300):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="the extra madlab[cluster] is not installed"
)  # asked without importing it: Ray decides at its import which interface it will listen on


def listening_addresses():
    """The addresses on which Ray's processes of this test listen, read from the kernel's tables."""
    sockets = {}
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/self/net", table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":  # TCP_LISTEN
                sockets[f"socket:[{fields[9]}]"] = fields[1].partition(":")[0]
    found = set()
    for process in descendants(os.getpid()):
        for descriptor in Path("/proc", str(process), "fd").glob("*"):
            with contextlib.suppress(OSError):
                found.add(sockets.get(os.readlink(descriptor)))
    return found - {None}


def descendants(root):
    """The numbers of a process and of all processes below it."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found = {root}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def ray_worker(name):
    """The process that runs the Ray task of this name, which Ray puts into its command line."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if line.startswith(b"ray::") and name.encode() in line:
                return int(entry.name)
    return None


@pytest.mark.slow
@needs_ray
def test_ray_makes_the_same_runs_with_one_of_its_two_workers_killed(place):
    """Killed after its second epoch, the run goes on with the third: epochs before that are not trained again."""
    options = {"domains": ["noise"], "epochs": 12}
    run(place, "alone", **options)
    victim = place / "ray" / "noise" / "mad-2" / "seed0"
    killed = []

    def kill():
        wait_for(lambda: (victim / "checkpoint.safetensors").exists())
        process = ray_worker(str(victim))
        os.kill(process, signal.SIGKILL)
        killed.append(process)
        killed.append(len((victim / "metrics.jsonl").read_text().splitlines()))
        killed.append(listening_addresses())

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    outcome = run(place, "ray", **options, engine="ray", workers=2)
    thread.join()
    assert len(killed) == 3 and 1 <= killed[1] < 12
    loopback = {"0100007F", "0000000000000000FFFF00000100007F"}  # 127.0.0.1, as IPv4 and mapped into IPv6
    assert killed[2] and killed[2] <= loopback
    assert outcome.failures == {} and len(outcome.results) == 2
    same_runs(place / "alone", place / "ray")


@needs_ray
def test_a_ray_that_is_not_there_is_told_soon(place, monkeypatch):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        closed = f"127.0.0.1:{other.getsockname()[1]}"
    monkeypatch.setattr(ray, "ANSWER_SECONDS", 3)
    with pytest.raises(MadlabError, match=f"no Ray cluster at {closed}"):
        run(place, "nothing", engine="ray", address=closed)
    with pytest.raises(MadlabError, match="not the address of a Ray cluster"):
        run(place, "nothing", engine="ray", address="somewhere")
    with socket.create_server(("127.0.0.1", 0)) as server:
        stranger = f"127.0.0.1:{server.getsockname()[1]}"

        def answer():
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                    connection.close()

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        with pytest.raises(MadlabError, match=r"answers at .* does not accept us as a Ray cluster would"):
            run(place, "nothing", engine="ray", address=stranger)
    with pytest.raises(MadlabError, match="leave out one of address and workers"):
        run(place, "nothing", engine="ray", address=closed, workers=2)
    assert not (place / "nothing").exists()


def test_without_ray_the_extra_is_named(place, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MadlabError, match=r"Ray is not installed: pip install 'madlab\[cluster\]'"):
        run(place, "nothing", engine="ray")


class Witness:
    """In the place of a domain's folder: what it says is which GPUs the process sees that asks for its path."""

    def __fspath__(self):
        raise MadlabError(os.environ.get("CUDA_VISIBLE_DEVICES", "all"))


@pytest.mark.slow
def test_runs_are_spread_over_the_gpus_that_may_be_used(place, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,1,7")
    options = {"method": "frozen", "base": str(place / "small.safetensors")}
    runs = [Cell(place / "spread" / str(i), Witness(), options, 1) for i in range(2)]
    seen = {run.folder.name: told for run, told in choose_engine("local", None, None, None, 2)(runs, int)}
    assert seen == {"0": "4", "1": "1"}
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "4,1,7"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    (told,) = [told for _, told in choose_engine("local", 1, None, None, 1)(runs[:1], int)]
    assert told == "0"


def test_gpus_that_are_not_there(place, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    for devices in (0, 2):
        with pytest.raises(MadlabError, match=f"{devices} GPUs are not possible: this machine has 1"):
            run(place, "nothing", devices=devices)
    with pytest.raises(MadlabError, match="Ray spreads runs over its GPUs by itself"):
        run(place, "nothing", engine="ray", devices=1)
