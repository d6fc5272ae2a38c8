"""`madlab diagnose`: its measures against plain algebra, its evidence against the files, and its sentences."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
import tiny
import torch
from torch import nn
from torch.nn import functional as F

import madlab
from madlab import cli
from madlab.adapters import METHODS
from madlab.adapters.base import split_method
from madlab.analysis.diagnosis import diagnose, filter_change, filter_turn, gather
from madlab.analysis.diagnosis.change import batchnorm_change, has_statistics_of_base, head_growth
from madlab.analysis.diagnosis.signatures import BATCHNORM, DIVERGED, EPOCHS, SIGNATURES, TOO_HIGH, UNFINISHED
from madlab.errors import MadlabError
from madlab.runs.epoch import Diverged


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A domain, a base network, and three runs on them: a finished, a longer, and one whose loss became NaN."""
    root = tmp_path_factory.mktemp("diagnose")
    tiny.write_folder(root / "noise")
    tiny.write_base(root / "small.safetensors")
    train(root, "runs/done")
    train(root, "runs/longer", epochs=3)
    with pytest.raises(Diverged):
        train(root, "runs/nan", adapter_lr=1e30, epochs=6)
    return root


def train(root: Path, name: str, **options) -> None:
    options = {"method": "mad", "rank": 2, "epochs": 2, "batch_size": 24, "progress": False} | options
    madlab.train(str(root / "noise"), base=str(root / "small.safetensors"), out=root / name, **options)


@pytest.fixture
def net() -> madlab.MultiDomainNet:
    torch.manual_seed(0)
    net = madlab.MultiDomainNet(madlab.resnet26(num_classes=4, width=4))
    net.add_domain("d", 5, "finetune")
    with torch.no_grad():
        for adapter in net.view("d").adapters().values():
            adapter.delta.normal_(std=0.1)
    return net


def scale_filters(net: madlab.MultiDomainNet, factors) -> None:
    """Multiply every filter of W_d by a number of its own."""
    with torch.no_grad():
        for layer in net.view("d").adapted_layers().values():
            weight = layer.weight
            by = factors(len(weight)).view(-1, *[1] * (weight.ndim - 1))
            layer.adapter.delta.copy_(by * weight - layer.conv.weight)


def test_the_turn_is_what_no_scaling_of_a_filter_explains(net) -> None:
    squares = []
    for layer in net.view("d").adapted_layers().values():
        for old, new in zip(layer.conv.weight.double(), layer.weight.double(), strict=True):
            best = torch.linalg.lstsq(old.reshape(-1, 1), new.reshape(-1, 1)).solution  # min over c of |new - c old|
            squares.append(((new - best * old).norm() / new.norm()).item() ** 2)
    assert filter_turn(net.view("d")) == pytest.approx((sum(squares) / len(squares)) ** 0.5, rel=1e-5)


def test_scales_of_either_sign_change_the_filters_and_turn_none(net) -> None:
    before, change = filter_turn(net.view("d")), filter_change(net.view("d"))
    scale_filters(net, lambda n: torch.tensor([4.0, -0.5, 30.0, 0.01]).repeat(n)[:n])
    assert filter_turn(net.view("d")) == pytest.approx(before, rel=1e-4)
    assert filter_change(net.view("d")) > 5 * change


def test_a_positive_scale_is_hidden_from_the_loss_by_batchnorm(net) -> None:
    """Why the turn leaves it out: where BatchNorm follows, the network that learns is the same."""
    images = torch.randn(6, 3, 16, 16)
    before = net.view("d").train()(images)
    scale_filters(net, lambda n: torch.linspace(0.5, 20, n))
    assert torch.allclose(net.view("d").train()(images), before, atol=1e-2)


def test_ends_of_the_turn(net) -> None:
    view = net.view("d")
    with torch.no_grad():
        for adapter in view.adapters().values():
            adapter.delta.zero_()
    assert filter_turn(view) < 1e-7 and filter_change(view) == 0
    scale_filters(net, torch.zeros)
    assert filter_turn(view) == 1  # nothing is left of any filter
    net.add_domain("tiny change", 5, "mad")
    with torch.no_grad():
        for adapter in net.view("tiny change").adapters().values():
            adapter.alpha[:, 0] += 1e-6
    assert 1e-9 < filter_turn(net.view("tiny change")) < 1e-6  # 1 - cos^2 would have no digit left
    net.add_domain("plain", 5, "batchnorm")
    with pytest.raises(MadlabError, match="leaves the filters as they are"):
        filter_turn(net.view("plain"))


def test_head_and_batchnorm_of_a_new_domain_and_of_a_changed_one(net) -> None:
    view, base = net.view("d"), net.base
    assert head_growth(view) == pytest.approx(1, rel=0.2) and batchnorm_change(view, base) == 0
    assert has_statistics_of_base(view, base)
    with torch.no_grad():
        view.head.weight.mul_(7)
        for norm in view.norm_layers().values():
            norm.weight.mul_(1.5)
    view.train()(torch.randn(4, 3, 16, 16))
    assert head_growth(view) == pytest.approx(7, rel=0.2) and batchnorm_change(view, base) == pytest.approx(0.5)
    assert not has_statistics_of_base(view, base)
    net.add_domain("frozen", 5, "frozen")
    frozen = net.view("frozen")
    assert batchnorm_change(frozen, base) is None and not has_statistics_of_base(frozen, base)


def test_the_evidence_is_what_the_files_say(place: Path) -> None:
    found = gather(place / "runs/done")
    log = [json.loads(line) for line in (place / "runs/done/metrics.jsonl").read_text().splitlines()]
    target = F.one_hot(torch.arange(3), 3) * 0.9 + 0.1 / 3  # the best a network trained on smoothed labels can say
    smoothed = F.cross_entropy(target.log(), torch.arange(3), label_smoothing=0.1).item()
    plain = F.cross_entropy(target.log(), torch.arange(3)).item()
    assert found.misfit == pytest.approx(log[-1]["train_loss"] - smoothed, abs=1e-6)
    assert found.gap == pytest.approx(log[-1]["val_loss"] - plain - found.misfit, abs=1e-6)
    assert found.peak == pytest.approx(max(line["val_loss"] for line in log) / torch.tensor(3.0).log().item())
    net = madlab.MultiDomainNet(madlab.load_base(str(place / "small.safetensors")))
    view = net.view(net.load_domain(place / "runs/done/adapter.safetensors"))
    assert (found.turn, found.change) == (filter_turn(view), filter_change(view))
    assert found.finished and found.classes == 3 and found.rates == found.own_rates
    result = json.loads((place / "runs/done/result.json").read_text())
    assert found.rates == result["rates"]


def test_the_rates_are_those_that_the_run_had(place: Path, tmp_path: Path) -> None:
    """Not those that its method has by now, in another version of madlab."""
    shutil.copytree(place / "runs/done", tmp_path / "run")
    result = json.loads((tmp_path / "run/result.json").read_text())
    had = {kind: 10 * rate for kind, rate in result["rates"].items()}
    (tmp_path / "run/result.json").write_text(json.dumps(result | {"rates": had}))
    found = gather(tmp_path / "run")
    assert found.rates == had and found.own_rates == result["rates"]


def test_lowered_rates_are_told(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "runs/done", tmp_path / "run")
    assert not gather(tmp_path / "run").lowered
    result = json.loads((tmp_path / "run/result.json").read_text())
    for factors, by in (({"stem": 0.25, "conv2": 0.5}, "0.25 to 0.5 in 2"), ({"stem": 0.125}, "0.12 in 1")):
        (tmp_path / "run/result.json").write_text(json.dumps(result | {"filter_factors": factors}))
        assert f"adapter_lr times {by} layer" in str(diagnose(tmp_path / "run"))


def test_a_longer_run_beside_it_decides(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "runs", tmp_path / "runs")
    for name, accuracy in (("done", 40.0), ("longer", 45.0)):
        file = tmp_path / "runs" / name / "metrics.jsonl"
        calm = {"train_loss": 1.0, "val_loss": 1.1, "val_accuracy": accuracy}  # nothing else is suspected
        lines = [json.loads(line) | calm for line in file.read_text().splitlines()]
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = diagnose(tmp_path / "runs/done", [tmp_path / "runs"])
    assert found.signatures == (EPOCHS,)
    assert any("longer" in line and "+5.0 points" in line for line in found.because)
    assert not any("nan" in line for line in found.because)  # it has no result to compare


def test_a_diverged_run_names_the_rate_and_its_command_works(place: Path, capsys) -> None:
    assert cli.main(["diagnose", str(place / "runs/nan")]) == 0
    told = capsys.readouterr().out
    assert told.startswith(f"{DIVERGED}: {SIGNATURES[DIVERGED]}\n")
    own = METHODS["mad"].rate({"rank": 1})
    assert "loss became nan in epoch 2" in told and f"adapter_lr 1e+30 (the method's own is {own})" in told
    (command,) = re.findall(r"madlab (train .*)", told)
    assert f"--adapter-lr {own}" in command
    assert cli.main(shlex.split(command)) == 0
    again = diagnose(place / "runs/nan-adapter-rate")
    assert again.signatures not in ((DIVERGED,), (UNFINISHED,))
    shutil.rmtree(place / "runs/nan-adapter-rate")


def test_an_unfinished_run_is_measured_from_its_checkpoint_and_can_go_on(place: Path, tmp_path: Path, capsys) -> None:
    shutil.copytree(place / "runs/nan", tmp_path / "run")
    (tmp_path / "run/failure.txt").unlink()
    assert 0 <= gather(tmp_path / "run").turn < 1
    found = diagnose(tmp_path / "run")
    assert found.signatures == (UNFINISHED,)
    assert found.next == (f"madlab train --config {tmp_path}/run/config.json --resume --out {tmp_path}/run",)
    (tmp_path / "run/checkpoint.safetensors").unlink()
    assert "nothing trained is in the folder, neither an adapter nor a checkpoint" in diagnose(tmp_path / "run").because


@pytest.mark.parametrize("options", [{"method": "mad", "crop": 60}, {"method": "prompt"}])
def test_an_unfinished_run_on_larger_images_is_measured(place: Path, tmp_path: Path, options: dict) -> None:
    def stop(epoch) -> None:
        raise KeyboardInterrupt

    source = next(path for path in place.iterdir() if (path / "train").is_dir())
    with pytest.raises(KeyboardInterrupt):
        options |= {"epochs": 2, "size": 72, "batch_size": 4, "progress": False}
        madlab.train(source, out=tmp_path / "run", on_epoch=stop, **options)
    found = gather(tmp_path / "run")
    assert found.head > 0 and (found.change is None if options["method"] == "prompt" else found.change > 0)


def test_lost_statistics_are_noticed(place: Path, tmp_path: Path) -> None:
    net = madlab.MultiDomainNet(madlab.load_base(str(place / "small.safetensors")))
    name = net.load_domain(place / "runs/done/adapter.safetensors")
    shutil.copytree(place / "runs/done", tmp_path / "run")
    with torch.no_grad():
        for place_, norm in net.view(name).norm_layers().items():
            assert isinstance(norm, nn.BatchNorm2d)
            norm.running_mean.copy_(net.base.get_submodule(place_).running_mean)
            norm.running_var.copy_(net.base.get_submodule(place_).running_var)
    net.save_domain(name, tmp_path / "run/adapter.safetensors")
    found = diagnose(tmp_path / "run")
    assert found.signatures == (BATCHNORM,) and any("base network's" in line for line in found.because)


def spoil(folder: Path, file: str, content: bytes | None) -> None:
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(content)


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("config.json", None, "not a run folder, as it has no config.json"),
        ("config.json", b"{", "config.json is damaged"),
        ("metrics.jsonl", None, "finished but has no metrics.jsonl"),
        ("metrics.jsonl", b"", "finished but has no metrics.jsonl"),
        ("metrics.jsonl", b"[1]\n", "metrics.jsonl, line 1"),
        ("result.json", b"{}", "result.json is not valid"),
        ("adapter.safetensors", None, "finished but has no adapter.safetensors"),
        ("adapter.safetensors", b"1234567890", "adapter.safetensors"),
    ],
)
def test_what_cannot_be_diagnosed_is_told_in_a_sentence(place, tmp_path, capsys, file, content, words) -> None:
    shutil.copytree(place / "runs/done", tmp_path / "run")
    spoil(tmp_path / "run", file, content)
    assert cli.main(["diagnose", str(tmp_path / "run")]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("madlab: ") and err.count("\n") == 1 and words in err
    if (tmp_path / "run/config.json").exists():  # beside another run it is left out, and the diagnosis stands
        assert cli.main(["diagnose", str(place / "runs/done"), "--beside", str(tmp_path)]) == 0
        assert "madlab: left out: " in capsys.readouterr().err


def test_a_config_of_an_unknown_or_of_another_method(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "runs/done", tmp_path / "run")
    file = tmp_path / "run/config.json"
    for method, words in (
        ("magic", "unknown method 'magic'"),
        ("finetune", r"is not of the run that its config\.json asks for \(method"),
        ("mad:1", r"is not of the run that its config\.json asks for \(options"),
    ):
        name, rank = split_method(method)
        config = json.loads(file.read_text()) | {"method": name, "options": {} if rank is None else {"rank": rank}}
        file.write_text(json.dumps(config))
        with pytest.raises(MadlabError, match=words):
            diagnose(tmp_path / "run")


def test_folders_that_are_not_there_and_another_base(place: Path, capsys) -> None:
    tiny.write_base(place / "other.safetensors", seed=1)
    done = str(place / "runs/done")
    for command, words in (
        ([str(place / "nowhere")], "There is no run folder"),
        ([str(place / "runs/done/config.json")], "is a file, and not a run folder"),
        ([str(place / "runs")], "not a run folder"),
        ([done, "--beside", str(place / "nowhere")], "There is no folder"),
        ([done, "--base", str(place / "other.safetensors")], "trained on another base network"),
    ):
        assert cli.main(["diagnose", *command]) == 2
        assert words in capsys.readouterr().err


def test_every_signature_has_words() -> None:
    assert len(SIGNATURES) == 12 and TOO_HIGH in SIGNATURES and all(SIGNATURES.values())
