"""The trained domains that ship are what their recorded runs say, and small."""

import pytest
import torch

import madlab
from madlab.benchmarks.loader import batches
from madlab.errors import MadlabError
from madlab.lessons.shipped import ADAPTERS, DOMAINS, METHODS, shipped
from madlab.runs.record import RECORDS, read_runs


@pytest.mark.slow
@pytest.mark.parametrize("domain", DOMAINS)
def test_each_has_the_accuracy_of_its_recorded_run(domain: str) -> None:
    recorded = {
        run.method: run.result.test_accuracy
        for run in read_runs(RECORDS / "shipped.jsonl")
        if run.result.domain == domain
    }
    assert tuple(recorded) == (*METHODS, "finetune")  # the yardstick, which does not ship
    test = madlab.load_domain(domain).test
    for method in METHODS:
        net = madlab.MultiDomainNet(madlab.load_base("pocket-resnet26"))
        name = net.load_domain(shipped(domain, method))
        images, labels = next(
            batches(test.images, test.labels, len(test), 32, normalization=net.view(name).facts.normalization)
        )
        with torch.inference_mode():
            right = (net(images, domain=name).argmax(1) == labels).float().mean()
        assert 100 * right.item() == pytest.approx(recorded[method], abs=1)  # 8 bits change few answers
    assert recorded["frozen"] < recorded["batchnorm"] < recorded["mad"]


def test_all_of_them_take_less_than_a_megabyte() -> None:
    assert ADAPTERS.stat().st_size < 1_000_000


def test_a_damaged_copy_in_the_cache_is_replaced(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MADLAB_DATA", str(tmp_path))
    file = shipped("signs", "mad")
    whole = file.read_bytes()
    assert tmp_path in file.parents
    file.write_bytes(whole[:-1])
    assert shipped("signs", "mad").read_bytes() == whole


@pytest.mark.parametrize("domain, method", [("signs", "lora"), ("../signs", "mad")])
def test_what_does_not_ship_is_refused(domain: str, method: str) -> None:
    with pytest.raises(MadlabError, match="there are frozen, batchnorm, mad for signs, glyphs, digits"):
        shipped(domain, method)
