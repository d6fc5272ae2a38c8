"""Exports: what other software answers with them is what the adapted network answers, and a wrong one is not kept."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from any_networks import lively
from safetensors.torch import load_file, save_file
from tiny import WIDTH, write_base, write_folder
from torch import Tensor, nn

import madlab
from madlab.cli import main
from madlab.exports import deployable, export_domain
from madlab.exports.peft import KINDS
from madlab.exports.weights import with_new_heads
from madlab.files.tensors import load_tensors
from madlab.network import MultiDomainNet

STATISTICS = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3]}
NAMES = ["cat", "dog", "größer"]


def network_with(base: nn.Module, method: str, **options: Any) -> madlab.MultiDomainNet:
    """A domain of three classes that differs from its base in every adapter, norm and head."""
    torch.manual_seed(0)
    net = madlab.MultiDomainNet(base)
    net.add_domain("pets", 3, method, class_names=NAMES, normalization=STATISTICS, resize=36, crop=32, **options)
    view = net.view("pets")
    with torch.no_grad():
        for parameter in view.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
        for norm in view.norm_layers().values():
            norm.get_buffer("running_mean").add_(0.1)
            norm.get_buffer("running_var").mul_(1.3)
    return net


def small() -> nn.Module:
    torch.manual_seed(1)
    return lively(madlab.resnet26(num_classes=5, width=WIDTH))


def answers(net: madlab.MultiDomainNet, images: Tensor) -> Tensor:
    with torch.no_grad():
        return net(images, domain="pets")


def assert_same(got: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["mad:2", "prompt"])
def test_onnxruntime_answers_as_the_adapted_network_does(method: str, tmp_path: Path) -> None:
    import onnxruntime

    net, images = network_with(small(), method), torch.rand(5, 3, 32, 32)
    mean, std = (torch.tensor(STATISTICS[key]).view(3, 1, 1) for key in ("mean", "std"))
    export_domain(net, "pets", tmp_path / "own.onnx", normalises=True)
    session = onnxruntime.InferenceSession(str(tmp_path / "own.onnx"))
    for count in (1, 5):  # the batch is dynamic
        (logits,) = session.run(["logits"], {"images": images[:count].numpy()})
        assert_same(torch.from_numpy(logits), answers(net, (images[:count] - mean) / std))
    told = session.get_modelmeta().custom_metadata_map
    assert json.loads(told["class_names"]) == NAMES and json.loads(told["normalization"]) == STATISTICS
    assert (json.loads(told["resize"]), json.loads(told["crop"]), told["domain"]) == (36, 32, "pets")


def test_torch_export_answers_as_the_adapted_network_does(tmp_path: Path) -> None:
    net, images = network_with(small(), "mad"), torch.randn(4, 3, 32, 32)
    export_domain(net, "pets", tmp_path / "own.pt2")
    files = {"madlab.json": ""}
    program = torch.export.load(tmp_path / "own.pt2", extra_files=files).module()
    assert_same(program(images), answers(net, images))
    assert json.loads(json.loads(files["madlab.json"])["class_names"]) == NAMES


@pytest.mark.parametrize(
    ("source", "make"),
    [
        ("torchvision:shufflenet_v2_x0_5", lambda classes: torchvision.models.shufflenet_v2_x0_5(num_classes=classes)),
        ("timm:lcnet_050", lambda classes: timm.create_model("lcnet_050", num_classes=classes)),
    ],
)
def test_the_stock_network_loads_the_weights_strictly(source: str, make: Any, tmp_path: Path) -> None:
    torch.manual_seed(2)
    base, images = lively(make(7)), torch.randn(2, 3, 32, 32)
    net, path = network_with(base, "mad"), tmp_path / "own.safetensors"
    told = export_domain(net, "pets", path, source=source)
    assert "num_classes=3" in told and source.rpartition(":")[2] in told
    stock = make(3)
    stock.load_state_dict(load_file(path), strict=True)
    with torch.no_grad():
        assert_same(stock.eval()(images), answers(net, images))


def test_a_base_of_ones_own_loads_the_weights_strictly(tmp_path: Path) -> None:
    net, images = network_with(small(), "finetune"), torch.randn(2, 3, 32, 32)
    export_domain(net, "pets", tmp_path / "own.safetensors", source="somewhere/base.safetensors")
    stock = madlab.resnet26(num_classes=3, width=WIDTH)
    stock.load_state_dict(load_file(tmp_path / "own.safetensors"), strict=True)
    with torch.no_grad():
        assert_same(stock.eval()(images), answers(net, images))


@pytest.mark.parametrize("method", sorted(KINDS))
def test_peft_answers_as_the_adapted_network_does(method: str, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft", reason="PEFT is in the extra 'peers'")
    options: dict[str, Any] = {} if has_no_rank(method) else {"rank": 2}
    if method == "peft:oft":  # one size of blocks for all layers: 9 divides all of k^2 N but the stem's alone
        options = {"layers": [f"stages.0.{block}.conv2" for block in range(4)]}
    net, images = network_with(small(), method, **options), torch.randn(2, 3, 32, 32)
    export_domain(net, "pets", tmp_path / "own.peft")
    assert sorted(path.name for path in (tmp_path / "own.peft").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "madlab.json",
    ]
    about = json.loads((tmp_path / "own.peft" / "madlab.json").read_text())
    assert about["class_names"] == list(net.view("pets").facts.class_names) and about["method"] == method
    base = small()
    base.fc = nn.Linear(base.fc.in_features, 3)  # as PEFT's users would
    loaded = peft.PeftModel.from_pretrained(base, tmp_path / "own.peft")
    if method in ("peft:oft", "peft:hra"):
        loaded = loaded.merge_and_unload()
    with torch.no_grad():
        assert_same(loaded.eval()(images), answers(net, images))


def has_no_rank(method: str) -> bool:
    return "rank" not in madlab.METHODS[method].options


def test_peft_has_a_rank_for_each_layer(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft", reason="PEFT is in the extra 'peers'")
    layers = ["conv", "stages.0.0.conv1", "stages.1.0.conv1"]
    rank = dict(zip(layers, (1, 2, 3), strict=True))
    net, images = network_with(small(), "lora", layers=layers, rank=rank, alpha=4), torch.randn(2, 3, 32, 32)
    export_domain(net, "pets", tmp_path / "own.peft")
    base = small()
    base.fc = nn.Linear(base.fc.in_features, 3)
    with torch.no_grad():
        assert_same(peft.PeftModel.from_pretrained(base, tmp_path / "own.peft").eval()(images), answers(net, images))


def test_an_export_that_answers_otherwise_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written is wrong in one weight; a file that was there before stays as it was."""
    net, old = network_with(small(), "mad"), tmp_path / "own.safetensors"
    export_domain(net, "pets", old)
    before = old.read_bytes()

    def spoilt(path: Path, state: dict[str, Tensor], facts: dict[str, Any]) -> None:
        from madlab.files.tensors import save_tensors

        save_tensors(path, state | {"fc.bias": state["fc.bias"] + 1}, facts)

    monkeypatch.setattr("madlab.exports.weights.save_tensors", spoilt)
    with pytest.raises(madlab.MadlabError, match=r"differ from the merged network's by 1, so it was not written"):
        export_domain(net, "pets", old)
    assert old.read_bytes() == before and list(tmp_path.iterdir()) == [old]


@pytest.mark.parametrize("off", [1e-3, float("nan")])
def test_the_check_refuses_what_is_off(off: float) -> None:
    own = deployable.deployable(network_with(small(), "mad"), "pets")
    own.check(own.network, "the same")
    with pytest.raises(madlab.MadlabError, match="was not written"):
        own.check(lambda images: own.network(images) * (1 + off) + off, "another")
    with pytest.raises(madlab.MadlabError, match=r"logits of shape \(1, 2\), not \(1, 3\)"):
        own.check(lambda images: own.network(images)[:, :2], "another")


def test_a_copy_of_the_base_gets_heads_of_its_own() -> None:
    net = network_with(small(), "mad")
    copy = with_new_heads(net, "pets")
    assert copy.fc.out_features == 3 and net.base.fc.out_features == 5
    assert all(torch.equal(a, b) for a, b in zip(copy.conv.parameters(), net.base.conv.parameters(), strict=True))


@pytest.mark.parametrize(
    ("method", "name", "options", "reason"),
    [
        ("mad", "own.zip", {}, r"end its name in one of \.onnx"),
        ("mad", "own", {}, "does not say what to write"),
        ("mad", "own.safetensors", {"normalises": True}, r"Only \.onnx and \.pt2 can hold the normalization"),
        ("mad", "own.peft", {}, "PEFT has no method 'mad'"),
        ("prompt", "own.safetensors", {}, "adapts its images"),
        ("prompt", "own.peft", {}, "adapts its images"),
        ("peft:oft", "own.peft", {}, "one size of blocks"),
    ],
)
def test_what_a_format_cannot_hold_is_told(
    method: str, name: str, options: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    net = network_with(small(), method)
    with pytest.raises(madlab.MadlabError, match=reason):
        export_domain(net, "pets", tmp_path / name, **options)
    assert list(tmp_path.iterdir()) == []


def test_weights_that_the_stock_network_does_not_have_are_told(tmp_path: Path) -> None:
    with pytest.raises(madlab.MadlabError, match=r"resnet18\(num_classes=3\) does not have the tensors"):
        export_domain(network_with(small(), "mad"), "pets", tmp_path / "own.safetensors", source="torchvision:resnet18")
    assert list(tmp_path.iterdir()) == []


def test_without_the_extra_the_command_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(madlab.MadlabError, match=r"needs onnxruntime: pip install 'madlab\[export\]'\.$"):
        export_domain(network_with(small(), "mad"), "pets", tmp_path / "own.onnx")


def test_a_folder_of_something_else_is_not_written_into(tmp_path: Path) -> None:
    pytest.importorskip("peft", reason="PEFT is in the extra 'peers'")
    folder = tmp_path / "own.peft"
    folder.mkdir()
    (folder / "mine.txt").write_text("keep me")
    with pytest.raises(madlab.MadlabError, match="holds something else"):
        export_domain(network_with(small(), "lora", rank=2), "pets", folder)
    assert [path.name for path in folder.iterdir()] == ["mine.txt"]


def test_normalisation_inside_needs_one_that_is_known(tmp_path: Path) -> None:
    base = small()
    del base.normalization
    net = madlab.MultiDomainNet(base)
    net.add_domain("pets", 3, "mad")
    with pytest.raises(madlab.MadlabError, match="does not know its normalization"):
        export_domain(net, "pets", tmp_path / "own.pt2", normalises=True)


def test_made_up_images_are_of_the_kind_that_the_network_takes() -> None:
    net = network_with(small(), "mad")
    inside, outside = (deployable.deployable(net, "pets", normalises).images(3) for normalises in (True, False))
    assert inside.shape == outside.shape == (3, 3, 32, 32)
    assert inside.min() >= 0 and inside.max() <= 1 and outside.min() < -1
    assert np.allclose(inside, deployable.deployable(net, "pets", True).images(3))


@pytest.mark.slow
def test_a_run_is_exported_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, base = write_folder(tmp_path / "shades"), write_base(tmp_path / "small.safetensors")
    run, file = tmp_path / "run", tmp_path / "out" / "own.safetensors"
    madlab.train(data, "mad:2", base=base, out=run, epochs=1, batch_size=8, progress=False, device="cpu")
    assert main(["export", str(run), str(file)]) == 0
    assert "answers like the merged network" in capsys.readouterr().out
    loaded = madlab.load_run(run, device="cpu")
    for name, tensor in loaded.net.merge(loaded.domain).state_dict().items():
        assert torch.equal(load_file(file)[name], tensor)
    (run / "result.json").unlink()
    assert main(["export", str(run), str(tmp_path / "other.safetensors")]) == 2
    assert "has not finished: go on with it first" in capsys.readouterr().err
    assert not (tmp_path / "other.safetensors").exists()


def test_a_prompts_export_leaves_the_network_as_it_was(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = MultiDomainNet(madlab.resnet26(num_classes=5, width=4)).double()
    net.add_domain("d", 3)
    net.add_domain("framed", 3, "prompt", size=32, crop=32)
    net.train()
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    before = [(tensor.dtype, tensor.stride()) for tensor in net.base.parameters()]
    export_domain(net, "framed", tmp_path / "framed.pt2")
    assert [(tensor.dtype, tensor.stride()) for tensor in net.base.parameters()] == before
    assert net.view("framed").training
    net(images, "d")


def test_an_export_does_not_replace_what_madlab_has_trained(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = MultiDomainNet(madlab.resnet26(num_classes=5, width=4))
    net.add_domain("d", 3)
    net.save_domain("d", tmp_path / "adapter.safetensors")
    save_file({"conv.weight": torch.zeros(3)}, tmp_path / "lite0.safetensors")  # as timm's weights are
    damaged = (tmp_path / "adapter.safetensors").read_bytes()[:-3]
    (tmp_path / "damaged.safetensors").write_bytes(damaged)
    for name in ("adapter", "lite0", "damaged"):
        held = (tmp_path / f"{name}.safetensors").read_bytes()
        with pytest.raises(madlab.MadlabError, match="is not an export of madlab's, and is not replaced"):
            export_domain(net, "d", tmp_path / f"{name}.safetensors")
        assert (tmp_path / f"{name}.safetensors").read_bytes() == held
    for name in ("own.onnx", "own.pt2"):
        (tmp_path / name).write_bytes(b"somebody's network")
        with pytest.raises(madlab.MadlabError, match="is not an export of madlab's, and is not replaced"):
            export_domain(net, "d", tmp_path / name)
        assert (tmp_path / name).read_bytes() == b"somebody's network"
    for name in ("weights.safetensors", "weights.onnx", "weights.pt2"):
        for _ in range(2):  # an export may be made again
            export_domain(net, "d", tmp_path / name)


def test_an_export_of_deep_greys_says_what_is_black_and_white(tmp_path: Path) -> None:
    net = MultiDomainNet(small())
    net.add_domain("d", 3, grey={"black": 0, "white": 4095})
    export_domain(net, "d", tmp_path / "d.safetensors")
    _, facts = load_tensors(tmp_path / "d.safetensors")
    assert json.loads(facts["grey"]) == {"black": 0, "white": 4095}


def test_a_network_that_fails_without_a_word_is_told(tmp_path: Path) -> None:
    class Refuses(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 5)
            self.crop = 16

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert not torch.compiler.is_exporting()
            return self.fc(self.conv(x).mean((2, 3)))

    net = MultiDomainNet(Refuses())
    net.add_domain("d", 3)
    with pytest.raises(madlab.MadlabError, match="cannot trace this network"):
        export_domain(net, "d", tmp_path / "d.pt2")
