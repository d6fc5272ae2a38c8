"""The script that trains on the benchmarks' real numbers of images, here on a few of them."""

import json

import pytest
from scripts import load_script


@pytest.fixture(scope="module")
def script():
    return load_script("real_size")


def test_the_numbers_of_images_are_the_official_ones(script):
    assert sum(protocol.train for protocol in script.DOMAINS["decathlon"]) == 173_776
    assert len(script.DOMAINS["decathlon"]) == 9
    assert len(script.DOMAINS["sketch"]) == 5


@pytest.mark.slow
def test_one_command_trains_all_domains_and_writes_what_it_took(script, tmp_path, capsys):
    out = tmp_path / "record.json"
    options = ["--share", "0.0005", "--width", "4", "--batch-size", "8", "--device", "cpu", "--json", str(out)]
    script.main(["decathlon", *options])
    record = json.loads(out.read_text())
    assert [row["images"] for row in record["domains"]] == [2, 20, 12, 2, 16, 9, 24, 4, 2]
    assert all(row["cost"]["images_per_second"] > 0 for row in record["domains"])
    assert record["hours"].keys() == {"20", "100"}
    assert "91 training images" in capsys.readouterr().out


def test_hours_are_what_comes_once_and_the_epochs(script):
    rows = 2 * [{"seconds": 100.0, "epoch": 30.0}]
    assert script.hours(rows, 50) == pytest.approx((2 * 40 + 50 * 2 * 30) / 3600, abs=1e-3)


def test_a_domain_without_official_validation_images_holds_some_out(script):
    flowers = next(protocol for protocol in script.DOMAINS["sketch"] if protocol.name == "flowers")
    domain = script.made(flowers, 0.01)
    assert (len(domain.train), len(domain.val), len(domain.test)) == (18, 2, 61)
    assert domain.train.images.shape[1:] == (256, 256, 3)
