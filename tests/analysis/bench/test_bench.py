"""The bench: what it compares is what it says, its arithmetic is right, and its record is whole."""

import json

import pytest
import torch
from torch import nn

from madlab.analysis.bench import Setting, as_text, costs, draw, record, run_bench
from madlab.analysis.bench.clock import interleave, relative_times
from madlab.analysis.bench.epochs import time_epochs
from madlab.analysis.bench.growth import grow_domains
from madlab.analysis.bench.pipeline import time_pipeline
from madlab.analysis.bench.processes import measure_memory
from madlab.cli import main
from madlab.errors import MadlabError
from madlab.network import MultiDomainNet

CPU = torch.device("cpu")
SMALL = Setting(width=4, size=16, batch=4)


def test_every_round_runs_every_task_once_and_warm_up_does_not_count():
    calls = []
    times = interleave({name: lambda name=name: calls.append(name) for name in "abc"}, 5, CPU, warmup=2)
    assert [sorted(calls[i : i + 3]) for i in range(0, 21, 3)] == [["a", "b", "c"]] * 7
    assert {name: len(seconds) for name, seconds in times.items()} == {"a": 5, "b": 5, "c": 5}
    assert len({tuple(calls[i : i + 3]) for i in range(0, 21, 3)}) > 1, "the order must change between rounds"


def test_ratios_are_taken_within_a_round():
    """A machine that is ten times as slow in one round changes no ratio of that round."""
    clock = {"plain": [1.0, 10.0, 2.0], "mad": [1.1, 11.0, 2.2], "other": [2.0, 30.0, 8.0]}
    times = {name: [(t, 0.5 + (name == "mad")) for t in seconds] for name, seconds in clock.items()}
    table = relative_times(times, "plain")
    assert table["plain"]["milliseconds"] == 2000
    assert [row["ratio"] for row in table.values()] == pytest.approx([1, 1.1, 3])
    assert table["other"]["quartiles"] == [2.5, 3.5]
    assert [row["processor_ratio"] for row in table.values()] == [1, 3, 1]


def test_plain_fine_tuning_trains_every_weight_of_a_stock_network_without_an_adapter(monkeypatch):
    seen = {}
    monkeypatch.setattr(
        costs, "step_of", lambda network, optimiser, images, record: seen.update(n=network, o=optimiser)
    )
    costs.plain_step(SMALL, CPU)
    seen["p"] = [p for group in seen["o"].param_groups for p in group["params"]]
    assert {id(p) for p in seen["p"]} == {id(p) for p in seen["n"].parameters()}
    assert all(p.requires_grad for p in seen["p"])
    assert seen["n"].training
    assert not [m for m in seen["n"].modules() if type(m).__name__ in ("AdaptedConv2d", "DomainView", "Delta")]
    assert sum(type(m) is nn.Conv2d for m in seen["n"].modules()) == 25


@pytest.mark.parametrize("method", ["finetune", "mad", "mad:2", "frozen", "prompt"])
def test_a_measured_step_changes_what_its_method_trains_and_nothing_of_the_base(method):
    net, absent = costs.build(SMALL, [method], CPU)
    assert not absent
    head = net.view(method).network.fc.weight.clone()
    base = {k: v.clone() for k, v in net.base.state_dict().items()}
    step = costs.domain_step(net, method, SMALL.images(CPU))
    step()
    step()
    assert all(p.grad is not None for p in net.trainable_parameters(method))
    assert not torch.equal(head, net.view(method).network.fc.weight)
    assert all(torch.equal(v, base[k]) for k, v in net.base.state_dict().items())


@pytest.mark.slow
def test_the_peak_of_training_is_its_own_and_not_that_of_the_process_that_asks():
    fat = torch.ones(400_000_000)  # 1.6 GB, far above what the measured process needs
    setting = costs.Setting(width=16, size=32, batch=64)
    peak = measure_memory(setting, ["mad"], CPU)["mad"]
    kept = 4 * 64 * (16 * 32**2 + 8 * (32 * 16**2 + 64 * 8**2 + 128 * 4**2))  # what the convolutions answer, in bytes
    assert kept / 1e6 < peak < fat.nbytes / 1e6


def test_bytes_of_domains_are_counted_once_for_what_they_share():
    points = grow_domains(SMALL, CPU, counts=(1, 3))
    net, _ = costs.build(SMALL, ["mad"], CPU)
    own = sum(t.numel() * t.element_size() for t in net.view("mad").own_state().values())
    base = sum(t.numel() * t.element_size() for t in net.base.state_dict().values())
    assert [point["bytes"] for point in points] == [base + own, base + 3 * own]
    assert points[1]["bytes_per_domain"] == own


def test_file_sizes_are_those_of_the_tensors_and_a_small_header():
    sizes = costs.measure_files(SMALL, ["frozen", "mad", "finetune"])
    alphas = 4 * sum(
        conv.weight.shape[0] * conv.weight.shape[1] for conv in costs.build(SMALL, ["mad"], CPU)[0].convs.values()
    )
    assert alphas < sizes["mad"] - sizes["frozen"] < alphas + 8000
    assert sizes["mad"] < sizes["finetune"]


def test_the_pipelines_serve_every_image_once():
    found = time_pipeline(16, 8, CPU, count=40, workers=0, epochs=1)
    assert found["images"] == 40
    ratio = found["images_per_second"] / found["torchvision_images_per_second"]
    assert found["ratio"] == pytest.approx(ratio, rel=0.1, abs=0.06)  # of rounded numbers, to one digit


@pytest.fixture
def quick(monkeypatch):
    """No other processes, few pictures: what is tested is the record, not the machine."""
    monkeypatch.setattr(record, "measure_memory", lambda setting, methods, device: dict.fromkeys(methods, 1.5))
    monkeypatch.setattr(record, "measure_start", lambda: {"import_all_names_seconds": 0.2, "help_seconds": 2.0})
    small = lambda size, batch, device: time_pipeline(size, batch, device, count=20, workers=0, epochs=1)  # noqa: E731
    monkeypatch.setattr(record, "time_pipeline", small)


@pytest.mark.slow
def test_the_command_writes_record_table_and_figure(quick, tmp_path, capsys):
    options = ["--width", "4", "--size", "16", "--batch", "4", "--rounds", "2", "--methods", "finetune,mad,mad:2"]
    files = ["--json", str(tmp_path / "bench.json"), "--figure", str(tmp_path / "bench.png")]
    assert main(["bench", *options, *files]) == 0
    printed = capsys.readouterr().out
    found = json.loads((tmp_path / "bench.json").read_text())
    (part,) = found["settings"]
    assert part["setting"] == {"base": "resnet26", "width": 4, "size": 16, "batch": 4}
    assert list(part["training"]["methods"])[2:] == ["finetune", "mad", "mad:2"]
    for name, row in part["training"]["methods"].items():
        assert row["milliseconds"] > 0
        assert name in printed
    assert {"base", "mad", "merged"} <= part["inference"].keys()
    assert part["mixed"]["images"] == 256
    assert found["machine"]["threads"] == torch.get_num_threads()
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")
    assert [bar["met"] for bar in found["bars"] if bar["what"].startswith(("import", "madlab"))] == [True, False]
    assert "NOT MET madlab --help, seconds: 2.0 (at most 1.0)" in printed


CPU_RECORD = {"machine": {"device": "CPU"}}


def test_bars_of_training_apply_to_the_networks_they_were_set_for():
    step = {name: {"ratio": ratio} for name, ratio in (("mad", 1.004), ("mad:8", 1.035))}
    part = {
        "training": {"methods": step},
        "inference": {"merged": {"ratio": 1.0}},
        "mixed": {"10 domains": {"ratio": 1.31}},
        "switching": {"milliseconds": 0.001},
        "pipeline": {"ratio": 40.0},
    }
    start = {"import_all_names_seconds": 0.1, "help_seconds": 0.2}
    for width, expected in ((32, [True, False]), (16, [True, True]), (24, [])):
        setting = {"base": "resnet26", "width": width, "size": 64, "batch": 32}
        found = record.bars(CPU_RECORD | {"settings": [{"setting": setting} | part], "start": start})
        assert [bar["met"] for bar in found if "training" in bar["what"]] == expected
        assert [bar["met"] for bar in found if "mixed" in bar["what"]] == [False]
        assert len(found) == len(expected) + 6


def test_bars_of_a_gpu_are_its_own():
    step = {"mad": {"ratio": 1.04}, "mad:8": {"ratio": 1.2}, costs.LAUNCHED: {"ratio": 4.0}}
    part = {
        "setting": {"base": "resnet26", "width": 32, "size": 64, "batch": 256},
        "training": {"methods": step},
        "loop": {"mad": {"ratio": 1.5}},
        "epochs": {"madlab": {"ratio": 0.05, "busy": 0.7}},
    }
    found = {
        bar["what"].partition(": ")[2]: bar for bar in record.bars({"machine": {"device": "A GPU"}, "settings": [part]})
    }
    values = {what: (bar["value"], bar["met"]) for what, bar in found.items()}
    assert values == {
        "training step, mad / plain": (1.04, True),
        "training step, mad:8 / plain": (1.2, False),
        "plain, as one graph / kernel by kernel": (0.25, True),
        "epoch / classical epoch": (0.05, True),
        "epoch / a tenth of a classical epoch": (0.5, True),
        "device idle in an epoch, share": (0.3, False),
    }


def test_a_loop_of_ones_own_has_nothing_of_train_in_it(monkeypatch):
    """A base as it comes, images and optimiser as PyTorch makes them, and fine-tuning in both memory formats."""
    seen, real = [], costs.step_of

    def watched(network, optimiser, images, record=True):
        seen.append((network, optimiser, images, record))
        return real(network, optimiser, images, record)

    monkeypatch.setattr(costs, "step_of", watched)
    table = costs.time_own_loop(SMALL, ["mad", "mad:2"], 1, CPU)
    assert list(table) == [costs.PLAIN, costs.AGAIN, costs.DEFAULT, "mad", "mad:2"]
    assert all(images.is_contiguous() and not record for _, _, images, record in seen)
    assert all(type(o) is torch.optim.SGD and o.defaults["fused"] is None for _, o, _, _ in seen)
    plain = [next(m for m in network.modules() if isinstance(m, nn.Conv2d)) for network, *_ in seen[:3]]
    assert [conv.weight.is_contiguous() for conv in plain] == [False, False, True]
    assert all(p.requires_grad for network, *_ in seen[:3] for p in network.parameters())
    net = seen[3][0].func
    assert net.training
    assert {id(p) for g in seen[3][1].param_groups for p in g["params"]} == {
        id(p) for p in net.trainable_parameters("mad")
    }


def test_parts_that_were_not_asked_for_are_absent_from_record_bars_and_table(tmp_path):
    found = run_bench([SMALL], rounds=1, parts=["switching"])
    assert list(found["settings"][0]) == ["setting", "switching"]
    assert [bar["what"] for bar in found["bars"]] == ["resnet26 4, 16 px: switching, milliseconds"]
    assert "training step" not in as_text(found)
    with pytest.raises(MadlabError, match="no training steps to draw"):
        draw(found, tmp_path / "bench.png")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--methods", "magic"], "Unknown method 'magic'"),
        (["--rounds", "0"], "choose at least 1"),
        (["--parts", "magic"], "no part 'magic'"),
        (["--base", "pocket-resnet26", "--width", "8"], "leave --width out"),
        (["--size", "2"], "too small"),
        (["--batch", "1"], "not trained image by image"),
        (["--methods", "mad:1000"], "None of these methods can be measured"),
    ],
)
def test_what_cannot_be_measured_is_said_in_a_sentence(options, said, capsys):
    assert main(["bench", *options]) == 2
    assert said in capsys.readouterr().err


def test_an_epoch_of_each_way_trains_on_every_image_once(monkeypatch):
    seen = {}
    real = MultiDomainNet.add_domain

    def watched(net, *args, **options):
        real(net, *args, **options)
        sizes = seen.setdefault(id(net), [])
        net.view(args[0]).register_forward_pre_hook(lambda _, inputs: sizes.append(tuple(inputs[0].shape)))

    monkeypatch.setattr(MultiDomainNet, "add_domain", watched)
    found = time_epochs(SMALL, rounds=1, device=CPU, count=12, workers=1)
    assert sorted(seen.values()) == [[(4, 3, 16, 16)] * 3 * 2] * 2, "one epoch to warm up and one that is timed"
    assert found["classical"]["ratio"] == 1
    for name in ("madlab", "classical"):
        row = found[name]
        assert row["images_per_second"] == pytest.approx(12e3 / row["milliseconds"], abs=1)
