"""The studies of the open questions: what they plan, what part of a domain they use, and what they cut."""

from collections import Counter
from pathlib import Path

import pytest
import tiny
import torch
from scripts import load_script

import madlab
from madlab.analysis.allocation import Spectrum
from madlab.benchmarks.split import Split

studies = load_script("studies")


def test_three_turns_give_every_domain_all_seeds_and_one_turn_all_domains() -> None:
    for study, groups in (("sparsity", len(studies.CAUSES)), ("ranks", 1)):
        turns = [studies.plan(study, turn) for turn in range(3)]
        assert [len(runs) for runs in turns] == [9 * groups] * 3
        runs = [tuple(run.values()) for runs in turns for run in runs]
        assert len(set(runs)) == 27 * groups
        assert {run["domain"] for run in turns[0]} == set(studies.NINE)
        assert set(Counter(run["seed"] for run in turns[0]).values()) == {3 * groups}
    far = [run for turn in range(3) for run in studies.plan("far", turn) if run["domain"] == studies.FAR]
    assert {(run["method"], run["seed"]) for run in far} == {(m, s) for m in studies.METHODS for s in range(3)}


def test_a_part_has_as_many_images_of_each_class_and_the_same_test_for_every_seed(tmp_path: Path) -> None:
    domain = madlab.Domain.from_folder(tiny.write_folder(tmp_path / "d", classes=3, counts=(8, 4, 6)))
    one, other = studies.part(domain, 0, images=12), studies.part(domain, 1, images=12)
    assert one.train.labels.bincount().tolist() == [4, 4, 4] and len(one.test) == 18
    assert not torch.equal(one.train.images, other.train.images)
    assert torch.equal(one.test.images, other.test.images)
    label_of = dict(pictures(domain.train))
    assert all(label_of[picture] == label for picture, label in pictures(one.train))


def pictures(split: Split) -> list[tuple[bytes, int]]:
    return [(image.numpy().tobytes(), int(label)) for image, label in zip(split.images, split.labels, strict=True)]


def test_a_cut_keeps_the_numbers_furthest_from_where_their_layer_rests() -> None:
    torch.manual_seed(0)
    alphas = {"a": 0.3 + torch.randn(8, 5) / 10, "b": 1 + torch.randn(6, 10)}
    away = sorted(
        (abs(float(v) - float(alpha.median())), name, place)
        for name, alpha in alphas.items()
        for place, v in enumerate(alpha.flatten())
    )
    kept = {(name, place) for _, name, place in away[-20:]}
    cut = studies.largest(alphas, 0.2)
    for name, alpha in alphas.items():
        for place, (was, now) in enumerate(zip(alpha.flatten(), cut[name].flatten(), strict=True)):
            assert float(now) == float(was if (name, place) in kept else alpha.median())


def test_greedy_ranks_are_others_than_the_uniform_ones_for_hardly_more_bytes() -> None:
    torch.manual_seed(0)
    spectra = {f"{i}": Spectrum.of(torch.randn(32, 16 + i) * (1 + i)) for i in range(6)}
    uniform = dict.fromkeys(spectra, 4)
    least = 4 * sum(32 + 16 + i for i in range(6))
    budget = studies.greedy_budget(spectra, uniform)
    assert least <= budget < 1.1 * least
    ranks = studies.auto_ranks(spectra, budget)
    assert ranks != uniform
    assert least <= sum(rank * (32 + 16 + i) for i, rank in enumerate(ranks.values())) <= budget


@pytest.mark.parametrize("pull", studies.PULLS)
def test_a_pull_ends_where_it_says(pull: str) -> None:
    alpha = torch.tensor([-1.0, 0.5, 1.004, 3.0])
    for _ in range(2000):
        alpha = studies.PULLS[pull](alpha, 1.0)
    assert torch.allclose(alpha, torch.full((4,), 0.0 if pull == "to 0" else 1.0), atol=1e-3)
    once = studies.PULLS[pull](torch.tensor([1.004]), 1.0)
    assert (once == 1).item() == (pull == "L1")  # only L1 gets there, and stays


def test_one_training_measures_what_the_record_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.write_folder(tmp_path / "data" / "dtd10", counts=(12, 4, 6))
    base = tiny.write_base(tmp_path / "base.safetensors")
    monkeypatch.setattr(studies, "EPOCHS", 1)
    monkeypatch.setitem(studies.CAUSES, "L1", {"pull": "L1", "base": base, "epochs": 1})
    row = studies.sparsity(tmp_path / "data", "dtd10", "L1", 0)
    assert 0 < row["at_one"] < 1 and row["at_one"] + row["moved"] < 1
    assert {"accuracy", "accuracy_of_cut", "accuracy_of_shuffled", "median", "turn"} <= row.keys()
    again = studies.sparsity(tmp_path / "data", "dtd10", "L1", 0)
    assert again == row
