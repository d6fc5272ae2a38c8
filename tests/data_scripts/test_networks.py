"""The script that says which networks can be adapted, on a few of them."""

import json
from pathlib import Path
from types import ModuleType

import pytest
import timm
import torch
from scripts import load_script
from torch import nn


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script("networks")


@pytest.mark.slow
def test_the_record_is_made_once_and_printed(script, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TQDM_DISABLE", "1")
    monkeypatch.setattr(script, "LIMIT", 8_000_000)
    out = tmp_path / "networks.json"
    families = ["--out", str(out), "--families", "squeezenet", "levit", "pnasnet", "deepseek_vit"]
    script.main(families)
    lines = {line["network"] or line["family"]: line for line in json.loads(out.read_text())["networks"]}
    works = lines["squeezenet1_1"]
    assert (works["verdict"], works["head"], works["adapted"], works["pixels"]) == ("works", "classifier.1", 25, 64)
    assert works["difference"] <= 1e-6
    assert works["million"] == 1.24
    levit = lines["levit_128s"]
    assert (levit["verdict"], levit["head"]) == ("works", "head.linear, head_dist.linear")
    assert lines["pnasnet5large"]["verdict"] == "left out: more than 8 million parameters"
    assert lines["deepseek_vit"]["verdict"] == "left out: no network of this family has a classifier"
    monkeypatch.setattr(script, "row", lambda *_: pytest.fail("made again"))
    script.main(families)
    script.main(["--out", str(out), "--print"])
    told = capsys.readouterr().out
    assert "Of 5 networks 3 work, 0 are refused with a sentence, and 2 were left out. Made with torch " in told
    assert "| torchvision squeezenet | squeezenet1_1 | 1.24 | 25 | classifier.1 |" in told
    assert "| timm pnasnet | pnasnet5large | 86.06 | more than 8 million parameters |" in told


def test_the_page_is_what_the_record_says(script, capsys):
    script.main(["--print"])
    page = Path(__file__).parents[2] / "notebooks" / "site" / "networks.md"
    assert page.read_text() == capsys.readouterr().out


def test_no_recorded_network_fails_and_most_families_work(script):
    record = json.loads(script.OUT.read_text())["networks"]
    works = {(line["library"], line["family"]) for line in record if line["verdict"] == "works"}
    assert sum(library == "timm" for library, _ in works) >= 60
    assert not [line for line in record if line["verdict"].startswith("fails")]


def test_all_families_of_timm_and_all_networks_of_torchvision_are_wanted(script):
    wanted = list(script.networks())
    assert sum(library == "timm" for library, _, _ in wanted) >= 60
    assert ("torchvision", "resnet", "resnet18") in wanted
    assert ("torchvision", "vision_transformer", "vit_h_14") in wanted


def test_the_smallest_of_a_family_is_taken(script):
    assert script.smallest("selecsls") == min(
        timm.list_models(module="selecsls"), key=lambda n: sum(p.numel() for p in timm.create_model(n).parameters())
    )


class Idle(nn.Module):
    """A network of which one convolution runs without its adapter, as if the base's own code ran."""

    crop = 64

    def __init__(self):
        super().__init__()
        self.conv, self.beside, self.fc = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1), nn.Linear(4, 5)

    def forward(self, x):
        x = self.conv(x)
        return self.fc((x + self.beside(x).detach()).mean((2, 3)))


class Stateful(Idle):
    """A different result every time."""

    def forward(self, x):
        return self.fc(self.beside(self.conv(x)).mean((2, 3))) + torch.rand(())


@pytest.mark.parametrize(("network", "fault"), [(Idle, "beside"), (Stateful, "merge differs")])
def test_what_goes_wrong_is_no_success(script, network, fault):
    torch.manual_seed(0)
    verdict = script.try_to_adapt(network().eval())["verdict"]
    assert not verdict.startswith("works")
    assert fault in verdict or verdict.startswith("refused")
