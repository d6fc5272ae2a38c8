"""A run: what it writes, that its numbers are true, and that nothing can stop it for good."""

import hashlib
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

import madlab
from madlab import cli
from madlab.adapters.base import Method, Rates
from madlab.benchmarks.domain import Split
from madlab.benchmarks.loader import batches
from madlab.errors import MadlabError
from madlab.files import plain
from madlab.files.tensors import load_tensors, save_tensors
from madlab.runs import training
from madlab.runs.config import RunConfig
from madlab.runs.epoch import Diverged, train_epoch
from madlab.runs.rates import make_optimiser, peak_rates, warmup_cosine
from madlab.runs.recipe import Recipe
from madlab.runs.record import Run
from madlab.tables import frame

EPOCHS = 3


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A domain, a base network and the run of one on the other: MAD with rank 2, all else in the same way."""
    root = tmp_path_factory.mktemp("training")
    tiny.write_folder(root / "noise")
    tiny.write_base(root / "small.safetensors")
    run(root, "whole")
    return root


def run(root, name, **options):
    options = {"method": "mad", "rank": 2, "epochs": EPOCHS, "batch_size": 10, "progress": False} | options
    return madlab.train(str(root / "noise"), base=str(root / "small.safetensors"), out=root / name, **options)


def stop(_):
    raise KeyboardInterrupt


def facts(folder, name="result.json"):
    return json.loads((folder / name).read_text())


def log_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def same_bytes(one, other):
    for name in ("config.json", "metrics.jsonl", "adapter.safetensors"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    results = [facts(folder) for folder in (one, other)]
    for result in results:
        del result["seconds"], result["cost"]
    assert results[0] == results[1]


def count_right(root, folder, split):
    """Accuracy in percent, picture by picture: read with Pillow, cut by hand, one at a time through the adapted net."""
    net = madlab.MultiDomainNet(madlab.load_base(str(root / "small.safetensors")))
    domain = net.load_domain(folder / "adapter.safetensors")
    normalization = net.view(domain).facts.normalization
    right = []
    for label, name in enumerate(("class0", "class1", "class2")):
        for path in sorted((root / "noise" / split / name).iterdir()):
            pixels = np.asarray(Image.open(path))[2:34, 2:34] / 255.0
            image = (pixels - normalization["mean"]) / normalization["std"]
            with torch.no_grad():
                logits = net(torch.tensor(image, dtype=torch.float32).permute(2, 0, 1)[None], domain)
            right.append(int(logits.argmax()) == label)
    return 100 * sum(right) / len(right)


class Unusual(nn.Module):
    """Its head has to be named, and its norm has no bias, which is how nn.BatchNorm2d(8, bias=False) makes one."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, 5)
        self.norm.register_parameter("bias", None)
        self.scale = nn.Parameter(torch.ones(1))
        self.resize, self.crop = 36, 32

    def forward(self, x):
        return self.fc(self.norm(self.conv(x)).relu().mean((2, 3))) * self.scale


def test_an_unusual_network_comes_to_its_end(place, tmp_path):
    torch.manual_seed(0)
    base = Unusual()
    out = {"base": base, "out": tmp_path / "run", "head": "fc", "epochs": 1, "progress": False}
    result = madlab.train(place / "noise", "mad", **out)
    assert (result.base_parameters, result.adapter_parameters) == (8 * 3 * 9, 8 * 3)
    assert result.test_sha256 == madlab.load_domain(place / "noise").test.sha256()
    assert madlab.evaluate(tmp_path / "run", base=base) == result.test_accuracy


def test_a_lone_step_is_not_at_the_foot_of_the_warm_up(place, tmp_path):
    options = {"method": "mad", "epochs": 1, "batch_size": 64, "progress": False}
    madlab.train(str(place / "noise"), base=str(place / "small.safetensors"), out=tmp_path / "run", **options)
    state = load_tensors(tmp_path / "run/adapter.safetensors")[0]
    alphas = [tensor for name, tensor in state.items() if name.endswith("alpha")]
    assert alphas and all((alpha != 1).any() for alpha in alphas)


def test_a_lone_step_of_several_batches_is_as_long_as_one_of_a_large_one(place, tmp_path):
    moved = {}
    for name, options in (("one", {"batch_size": 64}), ("several", {"batch_size": 4, "accumulate": 32})):
        options |= {"method": "mad", "epochs": 1, "progress": False}
        madlab.train(str(place / "noise"), base=str(place / "small.safetensors"), out=tmp_path / name, **options)
        state = load_tensors(tmp_path / name / "adapter.safetensors")[0]
        alphas = [tensor for key, tensor in state.items() if key.endswith("alpha")]
        moved[name] = max(float((alpha - 1).abs().max()) for alpha in alphas)
    assert moved["one"] / 3 < moved["several"] < 3 * moved["one"]


class Fixed(nn.Module):
    """Runs on images of 32 pixels alone, as vision transformers do on theirs."""

    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3, stride=4, padding=1), nn.Linear(4 * 8 * 8, 3)
        self.resize, self.crop = 36, 32

    def forward(self, images):
        return self.fc(self.conv(images).relu().flatten(1))


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ({"crop": 24}, r"does not run on images of 24 pixels \(RuntimeError: .*\): choose another crop or size"),
        ({"coarse": 0.5}, r"does not run on images of 20 pixels \(RuntimeError: .*\): choose coarse=0"),
    ],
)
def test_sizes_that_the_network_does_not_run_on_are_told_before_the_training(place, recipe, words):
    with pytest.raises(MadlabError, match=words):
        madlab.train(place / "noise", base=Fixed(), epochs=2, progress=False, **recipe)
    assert madlab.train(place / "noise", base=Fixed(), epochs=1, progress=False).epochs == 1


@pytest.mark.parametrize("method", ["prompt", "mad"])
def test_coarse_epochs_are_no_obstacle_where_the_network_takes_small_images(place, method):
    base = str(place / "small.safetensors")
    assert madlab.train(place / "noise", method, base=base, coarse=0.5, epochs=2, progress=False).epochs == 2


class Cosine(nn.Module):
    """Reads the weights of its head instead of calling it."""

    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 3, bias=False)
        self.resize = self.crop = 16

    def forward(self, images):
        features = self.conv(images).relu().mean((2, 3))
        return 10 * F.linear(F.normalize(features), F.normalize(self.fc.weight))


@pytest.mark.parametrize("method", ["mad", "frozen"])
def test_a_head_that_is_read_and_not_called_is_trained_by_steps(place, method, tmp_path):
    base, heads = Cosine(), []
    for epochs in (1, 2):
        out = tmp_path / f"{epochs}"
        madlab.train(place / "noise", method, base=base, head="fc", epochs=epochs, out=out, progress=False)
        run = madlab.load_run(out, base)
        heads.append(run.net.view(run.domain).head.weight)
    assert not torch.equal(*heads)


@pytest.mark.slow
def test_a_run_may_have_rank_zero(place):
    """In the form 1 + beta gamma it is the base itself, and what `rank="auto"` gives a layer that did not change."""
    residual = {"options": {"form": "residual"}, "epochs": 1}
    result = run(place, "zero", rank=0, **residual)
    assert (result.rank, result.adapter_parameters) == (0, 0)
    assert run(place, "zero", rank=0, resume=True, **residual) == result
    assert frame.label(Run.read(place / "zero")) == "mad:0 (form residual)"
    ranks = {name: place % 2 for place, name in enumerate(madlab.load_run(place / "whole").net.layers)}
    assert run(place, "mixed", rank=ranks, **residual).rank == ranks


def test_a_finished_run_says_what_it_was_and_leaves_no_checkpoint(place):
    result = facts(place / "whole")
    base = madlab.load_base(str(place / "small.safetensors"))
    digest = hashlib.sha256()
    for name, value in sorted(base.state_dict().items()):
        digest.update(name.encode() + value.contiguous().numpy().tobytes())
    shapes = [m.weight.shape for m in base.modules() if isinstance(m, torch.nn.Conv2d)]
    assert len(shapes) == 25
    expected = {
        "domain": "noise",
        "method": "mad",
        "rank": 2,
        "seed": 0,
        "base": {"name": "small", "sha256": digest.hexdigest(), "source": str(place / "small.safetensors")},
        "base_parameters": sum(math.prod(shape) for shape in shapes),
        "adapter_parameters": sum(2 * (shape[0] + shape[1]) for shape in shapes),
        "epochs": EPOCHS,
        "rates": asdict(madlab.METHODS["mad"].rates_for({"rank": 2})),
    }
    assert {key: result[key] for key in expected} == expected
    assert result["seconds"] > 0 and result["device"] and result["versions"]["torch"] == torch.__version__
    files = {"config.json", "metrics.jsonl", "result.json", "adapter.safetensors", "batch.png"}
    assert {path.name for path in (place / "whole").iterdir()} == files


def test_the_best_epoch_on_validation_is_kept_and_its_accuracies_are_true(place):
    result, log = facts(place / "whole"), log_of(place / "whole")
    assert [entry["epoch"] for entry in log] == [1, 2, 3]
    best = sorted(log, key=lambda entry: (-entry["val_accuracy"], entry["val_loss"]))[0]
    assert (result["best_epoch"], result["val_accuracy"]) == (best["epoch"], best["val_accuracy"])
    assert count_right(place, place / "whole", "val") == pytest.approx(result["val_accuracy"])
    assert count_right(place, place / "whole", "test") == pytest.approx(result["test_accuracy"])


@pytest.mark.slow
def test_a_best_epoch_that_is_not_the_last_is_the_one_saved(place, monkeypatch):
    """Validation is made to get worse: the first epoch wins, and its adapter is the one that an own run of it has."""
    accuracies = iter([0.0, 90.0, 50.0, 40.0])
    real = training.measure

    def measure(*given):
        return SimpleNamespace(accuracy=next(accuracies), loss=1.0) if len(given[1]) == 12 else real(*given)

    monkeypatch.setattr(training, "measure", measure)  # 12 images are validation, 18 test
    kept = []
    real_epoch = training.train_epoch

    def epoch(view, *rest):
        loss = real_epoch(view, *rest)
        kept.append({key: value.clone() for key, value in view.own_state().items()})
        return loss

    monkeypatch.setattr(training, "train_epoch", epoch)
    result = run(place, "falling")
    assert (result.best_epoch, result.val_accuracy) == (1, 90.0)
    net = madlab.MultiDomainNet(madlab.load_base(str(place / "small.safetensors")))
    saved = net.view(net.load_domain(place / "falling" / "adapter.safetensors")).own_state()
    # The statistics of BatchNorm are measured anew after so short an epoch.
    learned = [key for key in saved if "running" not in key and "tracked" not in key]
    assert all(torch.equal(saved[key], kept[0][key]) for key in learned)
    assert any(not torch.equal(saved[key], kept[-1][key]) for key in learned)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"crop": 24}, {"method": "prompt", "rank": None}])
def test_evaluate_needs_the_config_and_the_adapter_alone(place, tmp_path, options):
    result = run(place, tmp_path / "run", **options)
    for name in ("config.json", "adapter.safetensors"):
        shutil.copy(tmp_path / "run" / name, tmp_path / name)
    assert madlab.evaluate(tmp_path) == result.test_accuracy


@pytest.mark.slow
def test_the_adapter_of_another_run_is_refused(place, tmp_path):
    """Of another rank or another method, on the same domain: whatever it scored would be taken for this run's."""
    for name, options in {
        "two": {"rank": 2},
        "one": {"rank": 1},
        "other": {"method": "piggyback", "rank": None},
    }.items():
        run(place, tmp_path / name, **options)
    for one, other in (("two", "one"), ("one", "other"), ("other", "two")):
        adapter = (tmp_path / other / "adapter.safetensors").read_bytes()
        (tmp_path / "mixed").mkdir(exist_ok=True)
        (tmp_path / "mixed" / "adapter.safetensors").write_bytes(adapter)
        shutil.copy(tmp_path / one / "config.json", tmp_path / "mixed" / "config.json")
        with pytest.raises(MadlabError, match=r"adapter.safetensors is not of the run"):
            madlab.evaluate(tmp_path / "mixed")


@pytest.mark.slow
def test_objects_instead_of_names_train_the_same_and_are_asked_for_again(place, tmp_path):
    domain = madlab.Domain.from_folder(place / "noise")
    network = madlab.load_base(str(place / "small.safetensors"))
    options = {"rank": 2, "epochs": EPOCHS, "batch_size": 10, "progress": False}
    result = madlab.train(domain, base=network, out=tmp_path / "run", **options)
    assert result.test_accuracy == facts(place / "whole")["test_accuracy"]
    with pytest.raises(MadlabError, match="does not say where its images are: give them"):
        madlab.evaluate(tmp_path / "run")
    with pytest.raises(MadlabError, match=r"does not say where its base network .* is: give it"):
        madlab.evaluate(tmp_path / "run", domain=domain)
    assert madlab.evaluate(tmp_path / "run", domain=domain, base=network) == result.test_accuracy


@pytest.mark.slow
def test_the_test_split_is_read_once_and_after_all_epochs(place, monkeypatch):
    order, real = [], training.measure

    def spy(network, split, *rest):
        order.append({12: "val", 18: "test"}[len(split)])
        return real(network, split, *rest)

    monkeypatch.setattr(training, "measure", spy)
    run(place, "spied")
    assert order == ["val", *["val"] * EPOCHS, "test"]


@pytest.mark.slow
def test_the_test_images_change_nothing_but_the_test_accuracy(place, tmp_path):
    domain = madlab.Domain.from_folder(place / "noise")
    upside_down = madlab.Domain(
        "noise",
        domain.class_names,
        domain.train,
        domain.val,
        type(domain.test)(domain.test.images.flip(1), domain.test.labels),
    )
    options = {"base": str(place / "small.safetensors"), "epochs": 2, "progress": False}
    for name, data in (("one", domain), ("two", upside_down)):
        madlab.train(data, out=tmp_path / name, **options)
    for name in ("metrics.jsonl", "adapter.safetensors"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


class Killed(BaseException):
    """Not an Exception: nothing in madlab may catch it, as nothing can catch a real kill."""


@pytest.mark.slow
def test_a_run_killed_at_any_of_its_writes_resumes_to_the_same_bytes(place, monkeypatch):
    """A run of two epochs makes eight files whole; it is killed just before each takes its name."""
    run(place, "through", epochs=2)
    real, finished, at = plain.os.replace, False, 0
    while not finished:
        at, calls = at + 1, []

        def replace(source, target, calls=calls, at=at):
            calls.append(target)
            if len(calls) == at:
                raise Killed
            real(source, target)

        monkeypatch.setattr(plain.os, "replace", replace)
        try:
            run(place, f"killed{at}", epochs=2)
            finished = True
        except Killed:
            assert not (place / f"killed{at}" / "result.json").exists()
        monkeypatch.setattr(plain.os, "replace", real)
        run(place, f"killed{at}", epochs=2, resume=True)
        same_bytes(place / "through", place / f"killed{at}")
        assert not (place / f"killed{at}" / "checkpoint.safetensors").exists()
    assert at == 1 + 8


@pytest.mark.slow
def test_a_killed_process_resumes_to_the_same_bytes(place):
    options = ["--domain", str(place / "noise"), "--base", str(place / "small.safetensors"), "--rank", "2"]
    options += ["--epochs", "6", "--batch-size", "10"]
    assert cli.main(["train", *options, "--out", str(place / "unbroken")]) == 0
    killed = place / "broken"
    command = [sys.executable, "-m", "madlab", "train", *options, "--out", str(killed)]
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = subprocess.Popen(command, env=os.environ | threads, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 240
        while not (killed / "checkpoint.safetensors").exists():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.005)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (killed / "result.json").exists() and len(log_of(killed)) < 6
    assert cli.main(["train", *options, "--out", str(killed), "--resume"]) == 0
    same_bytes(place / "unbroken", killed)


def test_a_finished_run_is_not_trained_again(place, monkeypatch):
    monkeypatch.setattr(training, "train_epoch", lambda *a, **k: pytest.fail("it trained"))
    assert run(place, "whole", resume=True).test_accuracy == facts(place / "whole")["test_accuracy"]


@pytest.mark.slow
def test_the_seed_matters_and_nothing_else_is_random(place):
    run(place, "again")
    same_bytes(place / "whole", place / "again")
    run(place, "other", seed=1)
    assert log_of(place / "other") != log_of(place / "whole")


def test_the_global_random_state_is_left_alone(place):
    network = madlab.load_base(str(place / "small.safetensors"))
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    madlab.train(str(place / "noise"), "mad", rank=2, base=network, epochs=1, progress=False)
    assert torch.equal(torch.rand(3), expected)


def test_a_loss_that_is_no_number_ends_the_run_with_a_sentence_and_its_checkpoint(place):
    """One step per epoch: the first has rate 0, the second ruins the adapter, which validation shows at once."""
    with pytest.raises(Diverged) as told:
        run(place, "ruined", adapter_lr=1e30, batch_size=24, epochs=6)
    own = madlab.METHODS["mad"].rates_for({"rank": 2})
    rates = f"adapter_lr 1e+30, batchnorm_lr {own.batchnorm:g}, head_lr {own.head:g}"
    assert str(told.value) == f"The validation loss became nan in epoch 2: lower the learning rates (now {rates})."
    assert (place / "ruined" / "checkpoint.safetensors").exists() and len(log_of(place / "ruined")) == 1
    assert not (place / "ruined" / "result.json").exists()


def test_a_last_step_that_ruins_the_network_is_no_success(place):
    """Two epochs of one step: the loss of the second was computed before the step that ruins the adapter."""
    with pytest.raises(Diverged, match="validation loss became nan in epoch 2"):
        run(place, "late", adapter_lr=1e30, batch_size=24, epochs=2)
    assert {path.name for path in (place / "late").iterdir()} == {
        "batch.png",
        "config.json",
        "metrics.jsonl",
        "checkpoint.safetensors",
        "failure.txt",
    }
    assert "validation loss became nan in epoch 2" in (place / "late" / "failure.txt").read_text()
    assert "NaN" not in (place / "late" / "metrics.jsonl").read_text()
    tensors = load_file(place / "late" / "checkpoint.safetensors")
    assert tensors and all(tensor.isfinite().all() for tensor in tensors.values())


def test_a_weight_that_becomes_infinite_without_a_trace_in_the_loss_is_no_success(place, monkeypatch):
    """A running variance of infinity turns its channel into a constant: every loss stays finite."""
    real = training.train_epoch

    def spoiling(view, *rest):
        loss = real(view, *rest)
        next(m for m in view.network.modules() if isinstance(m, torch.nn.BatchNorm2d)).running_var.fill_(math.inf)
        return loss

    monkeypatch.setattr(training, "train_epoch", spoiling)
    with pytest.raises(Diverged, match="became infinite in epoch 1"):
        run(place, "infinite", batch_size=3)  # in few steps an epoch would measure its statistics anew
    assert not (place / "infinite" / "metrics.jsonl").exists()


def test_a_folder_with_a_run_or_with_something_else_is_refused_and_left_alone(place, tmp_path):
    before = {path.name: path.read_bytes() for path in (place / "whole").iterdir()}
    with pytest.raises(MadlabError, match="exists: resume it"):
        run(place, "whole")
    with pytest.raises(MadlabError, match=r"\(options rank 2, now rank 3\): choose another folder"):
        run(place, "whole", rank=3, resume=True)
    with pytest.raises(MadlabError, match=r"started with other options \(epochs 3, now 9\): choose"):
        run(place, "whole", epochs=9, resume=True)
    assert {path.name: path.read_bytes() for path in (place / "whole").iterdir()} == before
    (tmp_path / "thesis.txt").write_text("not a run")
    with pytest.raises(MadlabError, match="holds something else than a run"):
        run(place, tmp_path)
    with pytest.raises(MadlabError, match="choose another folder"):
        run(place, tmp_path / "thesis.txt")
    assert (tmp_path / "thesis.txt").read_text() == "not a run"


def test_a_run_recorded_before_the_recipe_got_a_field_is_known_again(place, tmp_path):
    shutil.copytree(place / "whole", tmp_path / "old")
    config = json.loads((tmp_path / "old" / "config.json").read_text())
    del config["recipe"]["coarse"]
    (tmp_path / "old" / "config.json").write_text(json.dumps(config))
    run(place, tmp_path / "old", resume=True)
    with pytest.raises(MadlabError, match="coarse"):
        run(place, tmp_path / "old", resume=True, coarse=0.25)


def test_a_recipe_with_the_limit_that_was_there_for_a_while_is_read_where_it_was_off(place):
    config = json.loads((place / "whole" / "config.json").read_text())
    config["recipe"]["clip"] = 0.0
    assert RunConfig.from_json(config, "it").recipe == RunConfig.read(place / "whole").recipe
    config["recipe"]["clip"] = 1.0
    with pytest.raises(MadlabError, match="clip"):
        RunConfig.from_json(config, "it")


def test_a_run_stopped_before_steps_were_bounded_goes_on_as_it_was(place, tmp_path):
    """Config and checkpoint lack the field; with today's default it would be another run, and is refused."""
    folder, options = tmp_path / "old", {"epochs": 2, "polyak": 0.0}
    with pytest.raises(KeyboardInterrupt):
        run(place, folder, on_epoch=stop, **options)
    file = folder / "config.json"
    config = json.loads(file.read_text())
    assert config["recipe"].pop("polyak") == 0.0 < Recipe().polyak
    file.write_text(json.dumps(config))
    tensors, facts = load_tensors(folder / "checkpoint.safetensors", torch.device("cpu"))
    del facts["config"]["recipe"]["polyak"]
    save_tensors(folder / "checkpoint.safetensors", tensors, facts)
    with pytest.raises(MadlabError, match=r"started with other options \(polyak 0.0, now 4.0\)"):
        run(place, folder, resume=True, epochs=2)
    assert run(place, folder, resume=True, **options).epochs == 2


@pytest.mark.slow
def test_a_run_does_not_go_on_at_rates_that_its_method_no_longer_has(place, tmp_path) -> None:
    folder = tmp_path / "rates"
    with pytest.raises(KeyboardInterrupt):
        run(place, folder, on_epoch=stop, epochs=2)
    tensors, told = load_tensors(folder / "checkpoint.safetensors", torch.device("cpu"))
    assert told["rates"]["head"] == madlab.METHODS["mad"].rates_for({"rank": 2}).head
    told["rates"]["head"] = 9.0
    save_tensors(folder / "checkpoint.safetensors", tensors, told)
    with pytest.raises(MadlabError, match=r"stopped at learning rates .* head 9; now .*remove its checkpoint"):
        run(place, folder, epochs=2, resume=True)
    del told["rates"]  # of a version that did not keep them
    save_tensors(folder / "checkpoint.safetensors", tensors, told)
    with pytest.raises(MadlabError, match=r"rates: field required.*remove it to begin anew"):
        run(place, folder, epochs=2, resume=True)


@pytest.mark.slow
def test_a_second_process_is_refused_while_a_run_goes_on_and_not_once_it_was_killed(place):
    """What it writes meanwhile is as it would have been alone."""
    folder, command = place / "shared", ["train", "--domain", str(place / "noise"), "--epochs", "100000"]
    command += ["--base", str(place / "small.safetensors"), "--out", str(folder)]
    process = subprocess.Popen([sys.executable, "-m", "madlab", *command], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 240
        while not (folder / "checkpoint.safetensors").exists():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        for resume in (False, True):
            with pytest.raises(MadlabError, match=f"Process {process.pid} is writing into .*shared"):
                run(place, "shared", epochs=2, resume=resume)
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()
    with pytest.raises(MadlabError, match="other options"):
        run(place, "shared", epochs=2, resume=True)


def test_a_run_that_could_not_start_leaves_its_name_free(place):
    with pytest.raises(MadlabError, match="Rank 33 is not possible"):
        run(place, "second try", rank=33)
    assert run(place, "second try", epochs=1).rank == 2


def test_a_damaged_checkpoint_is_told(place):
    with pytest.raises(MadlabError, match="became nan"):
        run(place, "damaged", adapter_lr=1e30, batch_size=24, epochs=6)
    (place / "damaged" / "checkpoint.safetensors").write_bytes(b"half a file")
    with pytest.raises(MadlabError, match="not a whole safetensors file"):
        run(place, "damaged", adapter_lr=1e30, batch_size=24, epochs=6, resume=True)


def test_numbers_that_cannot_train_are_refused(place):
    for options, words in (
        ({"epochs": 0}, "epochs is 0; it should be greater than or equal to 1"),
        ({"batch_size": 1}, "batch_size is 1"),
        ({"head_lr": math.nan}, "head_lr is nan"),
        ({"adapter_lr": -1.0}, "adapter_lr is -1"),
        ({"crop": 40}, "crop of 40 pixels is larger than the images of 36"),
        ({"accumulate": 0}, "accumulate is 0"),
        ({"speed": 3}, "Unknown option 'speed'"),
    ):
        with pytest.raises(MadlabError, match=words):
            run(place, "refused", **options)


MODULATION = {"alpha": "mean", "beta": "mean", "gamma": "mean"}
MASK = {"mask": "mean", "k": "sum"}


@pytest.mark.parametrize(
    ("method", "rank", "units"),
    [
        ("mad", None, MODULATION),
        ("mad", 2, MODULATION),
        ("mad+wtpb", None, MODULATION | MASK),
        ("piggyback", None, MASK),
        ("wtpb", None, MASK),
        ("lora", 2, {}),
        ("parallel", None, {}),
    ],
)
def test_rates_are_in_units_of_a_layers_filters_where_a_method_multiplies_them(place, method, rank, units):
    net = madlab.MultiDomainNet(madlab.load_base(str(place / "small.safetensors")))
    net.add_domain("noise", 3, method, rank=rank)
    optimiser = make_optimiser(net.view("noise"), Recipe(adapter_lr=0.5, head_lr=0.1, adapter_decay=0.2))
    group_of = {parameter: group for group in optimiser.param_groups for parameter in group["params"]}
    layers = set()
    for name, parameter in net.view("noise").network.named_parameters():
        if ".adapter." not in name or name.endswith("conv.weight"):
            continue
        layer = name.partition(".adapter.")[0]
        squares = net.base.get_submodule(layer).weight ** 2
        unit = units.get(name.rpartition(".")[2])
        expected = 0.5 / (1 if unit is None else getattr(squares, unit)().item())
        expected *= 60 if ".wtpb." in name else 1
        group = group_of[parameter]
        assert group["peak"] == pytest.approx(expected)
        assert group["peak"] * group["weight_decay"] == pytest.approx(0.5 * 0.2)
        layers.add(layer)
    assert len(layers) == 25, "a ResNet-26 has 25 convolutions"


def test_a_method_has_rates_of_its_own_that_the_recipe_overrides():
    method = Method(
        "x", "W", "nobody", rates=Rates(1.0, 2.0, 3.0), rates_by_rank={1: Rates(4.0, 5.0, 6.0), 8: Rates(7.0)}
    )
    own = {rank: peak_rates(method, {"rank": rank}, Recipe()) for rank in (None, 1, 7, 8, 39)}
    assert [tuple(own[rank].values()) for rank in (None, 1, 7)] == [(1, 2, 3), (4, 5, 6), (4, 5, 6)]
    assert [own[rank]["adapter"] for rank in (8, 39)] == [7.0, 7.0]
    assert peak_rates(method, {"rank": {"a": 2, "b": 8}}, Recipe()) == own[8]
    asked = peak_rates(method, {}, Recipe(adapter_lr=0.0, head_lr=9.0))
    assert asked == {"adapter": 0.0, "batchnorm": 2.0, "head": 9.0}


def test_the_rate_rises_in_a_line_and_falls_along_a_cosine():
    assert [warmup_cosine(share, 0.2) for share in (0.0, 0.1, 0.2)] == [0.0, 0.5, 1.0]
    assert warmup_cosine(0.6, 0.2) == pytest.approx(0.5)
    assert warmup_cosine(0.4, 0.2) == pytest.approx((1 + math.sqrt(0.5)) / 2)
    assert warmup_cosine(1.0, 0.2) == pytest.approx(0.0)


@pytest.mark.parametrize(("accumulate", "momentum"), [(1, 0.0), (2, 0.0), (1, 0.9)])
def test_a_step_promises_no_more_than_its_share_of_the_loss(place, accumulate, momentum):
    """One step, at one rate for all parameters, keeps its direction and is as long as the loss allows.

    Nesterov's first step is 1 + m times that along the gradient, and all that momentum makes of it 1 / (1 - m) times.
    """
    split = Split(torch.randint(256, (8, 36, 36, 3), dtype=torch.uint8), torch.arange(8) % 3)
    domain = madlab.Domain("x", ["a", "b", "c"], split, split, split, flip=False)
    steps, losses = {}, []
    for polyak in (0.0, 1e6, 0.01):
        recipe = Recipe(
            epochs=1,
            batch_size=8 // accumulate,
            accumulate=accumulate,
            momentum=momentum,
            warmup=0,
            head_decay=0,
            polyak=polyak,
        )
        torch.manual_seed(3)
        net = madlab.MultiDomainNet(madlab.load_base(str(place / "small.safetensors")))
        net.add_domain("x", 3, "finetune")
        view, parameters = net.view("x"), list(net.trainable_parameters("x"))
        groups = [{"params": parameters, "peak": 1.0}]
        optimiser = torch.optim.SGD(groups, lr=0.0, momentum=momentum, nesterov=momentum > 0)
        before = [p.detach().clone() for p in parameters]
        losses = []
        train_epoch(view, domain, recipe, optimiser, 0, losses.append)
        steps[polyak] = torch.cat([(p - b).flatten() for p, b in zip(parameters, before, strict=True)]).detach()
    assert steps[0.0].norm() > 0.05
    torch.testing.assert_close(steps[1e6], steps[0.0])
    gradient = -steps[0.0] / (1 + momentum)  # a lone step has the whole rate
    share = 0.01 * (sum(losses) / len(losses)) * (1 - momentum) / gradient.square().sum()
    assert share < 0.9
    torch.testing.assert_close(steps[0.01], share * steps[0.0], rtol=1e-3, atol=1e-6)


def test_the_promises_of_all_groups_count_each_at_its_own_rate(place):
    """Two groups whose promises are alike although their rates are not, against a loop over the parameters."""
    split = Split(torch.randint(256, (8, 36, 36, 3), dtype=torch.uint8), torch.arange(8) % 3)
    domain = madlab.Domain("x", ["a", "b", "c"], split, split, split, flip=False)
    moves, gradients = {}, []
    for polyak in (0.0, 0.02):
        torch.manual_seed(3)
        net = madlab.MultiDomainNet(madlab.load_base(str(place / "small.safetensors")))
        net.add_domain("x", 3, "finetune")
        view, (*body, weight, bias) = net.view("x"), list(net.trainable_parameters("x"))
        groups = [{"params": body, "peak": 0.1}, {"params": [weight, bias], "peak": 2.0}]
        before = [p.detach().clone() for p in (*body, weight, bias)]
        recipe, losses = Recipe(epochs=1, batch_size=8, momentum=0, warmup=0, polyak=polyak), []
        train_epoch(view, domain, recipe, torch.optim.SGD(groups, lr=0.0), 0, losses.append)
        rates = [0.1] * len(body) + [2.0] * 2
        moved = [p.detach() - b for p, b in zip((*body, weight, bias), before, strict=True)]
        moves[polyak] = moved
        gradients = gradients or [-move / rate for move, rate in zip(moved, rates, strict=True)]
    promises = [rate * float(g.square().sum()) for rate, g in zip(rates, gradients, strict=True)]
    share = 0.02 * float(losses[0]) / sum(promises)
    assert share < 0.9 and 0.1 < sum(promises[:-2]) / sum(promises) < 0.9
    for free, bounded in zip(moves[0.0], moves[0.02], strict=True):
        torch.testing.assert_close(bounded, share * free, rtol=1e-3, atol=1e-6)


@pytest.mark.filterwarnings("ignore:Domain 'x' has no training image")
def test_a_loss_of_zero_allows_no_step_and_is_no_fault(place):
    """Every image is of one class and the head is sure of it: loss and gradient are zero, which is 0 / 0 otherwise."""
    split = Split(torch.randint(256, (8, 36, 36, 3), dtype=torch.uint8), torch.zeros(8, dtype=torch.int64))
    domain = madlab.Domain("x", ["a", "b", "c"], split, split, split, flip=False)
    net = madlab.MultiDomainNet(madlab.load_base(str(place / "small.safetensors")))
    net.add_domain("x", 3, "finetune")
    view = net.view("x")
    for head in view.heads().values():
        torch.nn.init.zeros_(head.weight)
        with torch.no_grad():
            head.bias.copy_(torch.tensor([500.0, 0.0, 0.0]))
    parameters = list(net.trainable_parameters("x"))
    before = [p.detach().clone() for p in parameters]
    recipe = Recipe(epochs=1, batch_size=8, smoothing=0, head_decay=0, warmup=0)
    assert train_epoch(view, domain, recipe, make_optimiser(view, recipe), 0) == 0
    for parameter, value in zip(parameters, before, strict=True):
        torch.testing.assert_close(parameter.detach(), value, rtol=0, atol=0)


def test_the_bound_means_the_same_for_features_of_any_size(place):
    """With features a thousand times as large the same steps are shortened, by as much: the losses are the same."""
    domain, curves = madlab.Domain.from_folder(place / "noise"), []
    for size in (1.0, 1000.0):
        torch.manual_seed(5)
        layers = [torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1)]
        base = torch.nn.Sequential(*layers, torch.nn.Flatten(), _Larger(size), torch.nn.Linear(8, 2))
        recipe = {"epochs": 3, "batch_size": 8, "adapter_lr": 50.0, "crop": 16, "smoothing": 0.0}
        log = []
        madlab.train(domain, "mad", base=base, progress=False, on_epoch=log.append, **recipe)
        curves.append([entry.train_loss for entry in log])
    assert curves[1] == pytest.approx(curves[0], rel=0.01)
    free = madlab.train(domain, "mad", base=base, progress=False, on_epoch=log.append, polyak=0.0, **recipe)
    assert free.epochs == 3
    assert log[-1].train_loss != pytest.approx(curves[0][-1], rel=0.05)


class _Larger(torch.nn.Module):
    """Features a number of times as large."""

    def __init__(self, size):
        super().__init__()
        self.size = size

    def forward(self, features):
        return self.size * features


def test_accumulated_gradients_are_the_mean_of_the_batches(place):
    """Ten images in batches of 4, 4 and 2, two batches a step: against a loop that adds the gradients up itself."""
    split = Split(torch.randint(256, (10, 36, 36, 3), dtype=torch.uint8), torch.arange(10) % 3)
    domain = madlab.Domain("x", ["a", "b", "c"], split, split, split, flip=False)
    recipe = Recipe(epochs=1, batch_size=4, accumulate=2, momentum=0, smoothing=0, head_decay=0, head_lr=0.1, polyak=0)
    nets = []
    for _ in range(2):
        torch.manual_seed(3)
        net = madlab.MultiDomainNet(madlab.load_base(str(place / "small.safetensors")))
        net.add_domain("x", 3, "frozen")
        nets.append(net)
    before = [p.detach().clone() for p in nets[0].trainable_parameters("x")]
    trained = nets[0].view("x")
    train_epoch(trained, domain, recipe, make_optimiser(trained, recipe), 0)

    view, parameters = nets[1].view("x").train(), list(nets[1].trainable_parameters("x"))
    generator = torch.Generator().manual_seed(0)
    loader = list(batches(split.images, split.labels, 4, 32, False, generator, domain.normalization))
    assert [len(labels) for _, labels in loader] == [4, 4, 2]
    for first, last in ((0, 1), (2, 2)):
        rate = 0.1 * warmup_cosine(last / 3, recipe.warmup)
        gradients = [torch.zeros_like(p) for p in parameters]
        for images, labels in loader[first : last + 1]:
            loss = torch.nn.functional.cross_entropy(view(images), labels)
            for total, gradient in zip(gradients, torch.autograd.grad(loss, parameters), strict=True):
                total += gradient / (last + 1 - first)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter -= rate * gradient
    for trained, expected, start in zip(nets[0].trainable_parameters("x"), parameters, before, strict=True):
        torch.testing.assert_close(trained, expected)
        assert not torch.equal(trained, start)


@pytest.mark.parametrize("method", ["frozen", "mad", "prompt"])
def test_every_method_sees_the_same_sizes_of_images(place, method):
    """Of five epochs three are coarse, 20 of 32 pixels; a prompt's frame is laid on at full size and shrinks, too."""
    domain = madlab.Domain.from_folder(place / "noise")
    net = madlab.MultiDomainNet(madlab.load_base(str(place / "small.safetensors")))
    net.add_domain("noise", 3, method)
    recipe = Recipe(epochs=5, batch_size=24, coarse=0.6)
    view, seen = net.view("noise"), []
    optimiser = make_optimiser(view, recipe)
    first = next(m for m in view.network.modules() if isinstance(m, torch.nn.BatchNorm2d))  # of the stem
    first.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[2:]))
    for epoch in range(5):
        train_epoch(view, domain, recipe, optimiser, epoch)
        if method == "prompt" and epoch == 1:
            assert view.prompt.pixels.abs().min() > 0, "the second coarse step teaches every pixel of it"
    assert seen == [(20, 20)] * 3 + [(32, 32)] * 2


def test_a_shrunk_prompt_is_the_shrunk_sum_of_image_and_frame(place):
    net = madlab.MultiDomainNet(madlab.load_base(str(place / "small.safetensors")))
    net.add_domain("noise", 3, "prompt")
    view, images = net.view("noise"), torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        view.prompt.pixels.normal_()
    framed = images + view.prompt(torch.zeros(1, 3, 32, 32))
    resized = torch.nn.functional.interpolate(framed, (20, 20), mode="bilinear", antialias=True)
    torch.testing.assert_close(view(images, side=20), view.network(resized))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_a_base_that_is_not_float32_is_refused_with_what_to_do(place, kind):
    base = madlab.load_base(str(place / "small.safetensors")).to(kind)
    with pytest.raises(MadlabError, match=r"training needs float32: give base\.float\(\)"):
        madlab.train(str(place / "noise"), "mad", base=base, epochs=1, progress=False)
    result = madlab.train(str(place / "noise"), "mad", base=base.float(), epochs=1, batch_size=8, progress=False)
    assert 0 <= result.test_accuracy <= 100


def test_a_gradient_whose_length_is_no_number_ends_a_run(place):
    """Its parts are finite, their squares are not; scaled to the bound, they would all be zero and nothing learned."""
    base = madlab.load_base(str(place / "small.safetensors"))
    base.register_forward_pre_hook(lambda _, images: (_Steep.apply(images[0]),))
    with pytest.raises(Diverged, match=r"infinite|became nan"):
        net = madlab.MultiDomainNet(base)
        net.add_domain("noise", 3, "prompt", size=32)
        view, recipe = net.view("noise"), Recipe(epochs=1, batch_size=8, warmup=0)
        domain = madlab.Domain.from_folder(place / "noise")
        train_epoch(view, domain, recipe, make_optimiser(view, recipe), 0)


class _Steep(torch.autograd.Function):
    """The identity, whose gradient is 1e21 times too long."""

    @staticmethod
    def forward(context, images):
        return images.clone()

    @staticmethod
    def backward(context, gradient):
        return 1e21 * gradient


@pytest.mark.slow
def test_a_size_that_a_domain_does_not_have_is_refused(place):
    with pytest.raises(MadlabError, match="images of digits have 36 pixels: ask for a size of at most that"):
        madlab.train("digits", "mad", base=str(place / "small.safetensors"), size=96)
    assert madlab.load_domain("digits", size=24).size == 24
