"""The small parts of drawn domains behind notebook 04: what they hold, and that every run is recorded once."""

from itertools import product

import torch
from notebook_tools import definitions, read
from scripts import load_script

import madlab
from madlab.runs.record import RECORDS, read_runs

drawn = load_script("drawn_parts")


def test_a_part_is_what_the_notebook_cuts_out() -> None:
    (few,) = definitions(read("04"), "few")
    signs, part = madlab.load_domain("signs"), drawn.part("signs")
    for split, count in (("train", 24), ("val", 8), ("test", 15)):
        cut = few(getattr(signs, split), count)
        distance = getattr(part, split).images.int() - cut.images.int()
        assert distance.shape == cut.images.shape and distance.abs().max() <= 1  # they round at different places
        assert torch.equal(getattr(part, split).labels, cut.labels)


def test_parts_have_as_many_images_whatever_their_classes() -> None:
    for name in ("walkers", "signs"):  # two classes, and more than ten
        part = drawn.part(name)
        assert part.name == f"few {name}" and part.num_classes == min(10, madlab.load_domain(name).num_classes)
        assert [len(split) for split in (part.train, part.val, part.test)] == [240, 80, 150]


def test_every_run_is_recorded_once() -> None:
    runs = read_runs(RECORDS / "drawn.jsonl")
    found = [(run.result.domain, run.method, run.result.seed) for run in runs]
    wanted = product((f"few {name}" for name in drawn.DOMAINS), drawn.METHODS, drawn.SEEDS)
    assert sorted(found) == sorted(wanted)
    for name, value in drawn.RECIPE.items():
        assert {getattr(run.config.recipe, name) for run in runs} == {value}
