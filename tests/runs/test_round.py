"""What a result says of single test images and of fewer bits is what its stored files give, picture by picture."""

import json

import numpy as np
import pytest
import tiny
import torch
from PIL import Image

import madlab
from madlab.errors import MadlabError
from madlab.runs.evaluate import round_run
from madlab.runs.recalibrate import round_domain
from madlab.runs.record import Run, pack_correct, read_runs, unpack_correct, write_runs


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A domain, a base network, and a run of full MAD that was rounded to 8 and 2 bits when it was finished."""
    root = tmp_path_factory.mktemp("rounding")
    tiny.write_folder(root / "noise", classes=4, counts=(8, 4, 9))
    tiny.write_base(root / "small.safetensors")
    run(root, "run")
    return root


def run(root, name, **options):
    options = {"epochs": 2, "batch_size": 8, "progress": False, "base": str(root / "small.safetensors")} | options
    return madlab.train(str(root / "noise"), "mad", out=root / name, **options)


def right(root, file, split):
    """Right or wrong for each picture, cut and normalised by hand, one at a time through the loaded domain."""
    net = madlab.MultiDomainNet(madlab.load_base(str(root / "small.safetensors")))
    domain = net.load_domain(file)
    normalization, found = net.view(domain).facts.normalization, []
    for label in range(4):
        for path in sorted((root / "noise" / split / f"class{label}").iterdir()):
            pixels = np.asarray(Image.open(path))[2:34, 2:34] / 255.0
            image = (pixels - normalization["mean"]) / normalization["std"]
            with torch.no_grad():
                logits = net(torch.tensor(image, dtype=torch.float32).permute(2, 0, 1)[None], domain)
            found.append(int(logits.argmax()) == label)
    return found


@pytest.mark.parametrize("count", [1, 8, 9, 1000])
def test_marks_come_back_as_they_were_packed(count):
    correct = np.random.default_rng(count).random(count) < 0.3
    text = pack_correct(correct)
    assert unpack_correct(text, count).tolist() == correct.tolist()
    for wrong in (count + 8, max(count - 8, 0)):
        with pytest.raises(MadlabError, match="bits, which are not those"):
            unpack_correct(text, wrong)
    with pytest.raises(MadlabError, match="base64"):
        unpack_correct("not?" + text, count)


def test_the_marks_of_a_run_are_those_of_its_adapter_file(place):
    result = Run.read(place / "run").result
    marks = unpack_correct(result.test_correct, result.test_images).tolist()
    assert marks == right(place, place / "run" / "adapter.safetensors", "test")
    assert len(marks) == 36 and 100 * sum(marks) / 36 == result.test_accuracy


@pytest.mark.slow
def test_a_rounded_run_tells_what_its_rounded_file_gives(place, tmp_path):
    before = Run.read(place / "run").result
    adapter = (place / "run" / "adapter.safetensors").read_bytes()
    result = round_run(place / "run", bits=(8, 2))
    assert (place / "run" / "adapter.safetensors").read_bytes() == adapter
    assert Run.read(place / "run").result == result and sorted(result.rounded) == ["2", "8"]
    assert (result.test_correct, result.rounded["8"].stored_bytes["head"]) == (
        before.test_correct,
        before.stored_bytes["head"],
    )
    net = madlab.MultiDomainNet(madlab.load_base(str(place / "small.safetensors")))
    name = net.load_domain(place / "run" / "adapter.safetensors")
    data = madlab.load_domain(str(place / "noise"), size=36)
    for bits, rounded in result.rounded.items():
        round_domain(net, name, f"{name}{bits}", int(bits), data, crop=32, batch_size=8)
        net.save_domain(f"{name}{bits}", tmp_path / f"{bits}.safetensors", bits=int(bits), norms="folded")
        marks = right(place, tmp_path / f"{bits}.safetensors", "test")
        assert unpack_correct(rounded.test_correct, result.test_images).tolist() == marks
        assert rounded.test_accuracy == 100 * sum(marks) / len(marks)
        val = right(place, tmp_path / f"{bits}.safetensors", "val")
        assert rounded.val_accuracy == 100 * sum(val) / len(val)
    adapters = [result.rounded[bits].stored_bytes["adapter"] for bits in ("2", "8")]
    assert adapters[0] < adapters[1] < before.stored_bytes["adapter"]
    write_runs(tmp_path / "grid.jsonl", [Run.read(place / "run")])
    assert read_runs(tmp_path / "grid.jsonl")[0].result == result


def test_what_was_measured_is_not_measured_again(place, monkeypatch):
    first = round_run(place / "run", bits=(8,))
    monkeypatch.setattr("madlab.runs.loaded.measure", None)
    assert round_run(place / "run", bits=(8,)) == first


@pytest.mark.slow
def test_a_run_that_is_stored_rounded_is_refused(place):
    run(place, "finished", finish_bits=4)
    with pytest.raises(MadlabError, match="stored in 4 bits already"):
        round_run(place / "finished")


def test_an_accuracy_that_its_marks_contradict_is_damage(place, tmp_path):
    facts = Run.read(place / "run").to_json()
    facts["result"]["test_correct"] = pack_correct([True] * 36)
    file = tmp_path / "grid.jsonl"
    file.write_text(json.dumps(facts) + "\n")
    with pytest.raises(MadlabError, match="differ in test accuracy"):
        read_runs(file)
