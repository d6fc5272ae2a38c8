"""MAD's duels at equal size: who meets whom, who does not take part, and what is said of it."""

import numpy as np
from made_runs import made_run

from madlab.runs.record import Rounded, Run
from madlab.tables.budgets import stored_forms
from madlab.tables.duel_report import duels_at_budgets
from madlab.tables.duels import grid_of
from madlab.tables.equal_size import EqualDuels, equal_duels
from madlab.tables.outcomes import outcomes

SHARES = {"mad": 0.7, "lora": 0.5, "wtpb": 0.9, "ksm": 0.7, "hira": 0.7, "frozen": 0.4, "finetune": 0.8}
IMAGES = 300


def runs(sizes: dict[tuple[str, int | None], int], seeds: dict[str, int]) -> list[Run]:
    """Each also in 4 bits, an eighth of its bytes; norms take 9 kB. seeds: of a method, two unless given."""
    return [
        made_run(
            domain, method, 0, rank=rank, seed=seed, correct=np.arange(IMAGES) < SHARES[method] * IMAGES,
            stored={"adapter": size, "norms": 9000, "head": 1},
            rounded={"4": Rounded({"adapter": size // 8, "norms": 9000, "head": 1}, 5.0, 50.0, "")},
        )
        for domain in ("signs", "birds")
        for (method, rank), size in sizes.items()
        for seed in range(seeds.get(method, 2))
    ]  # fmt: skip


def fought(own: list[Run]) -> EqualDuels:
    forms = stored_forms(outcomes(own))
    return equal_duels(grid_of(outcomes(own)), {"bytes": forms.assign(size=forms["stored"])})


SIZES = {
    # With norms 29, 89 and 609 kB. LoRA's 102 are near 89, wtpb's 500 within a quarter of 609; nothing is near 200.
    ("mad", 2): 20_000, ("mad", 8): 80_000, ("mad", None): 600_000, ("lora", 8): 93_000, ("wtpb", None): 491_000,
    ("ksm", None): 600_000, ("hira", 8): 191_000, ("finetune", None): 600_000, ("frozen", None): 80_000,
}  # fmt: skip


def test_a_rival_meets_the_form_of_mad_that_is_within_a_quarter_of_its_size() -> None:
    found = fought(runs(SIZES, {}))
    assert found.at == {"bytes": [("mad:8", "lora:8"), ("mad", "wtpb"), ("mad", "ksm")]}
    assert found.without == {"bytes": ["hira:8"]}
    assert [duel.second for duel in found.means.values()] == ["lora:8", "ksm", "wtpb"]
    assert found.verdicts("bytes") == "MAD **leads**: lora:8 (mad:8); **ties**: ksm; **loses**: wtpb."


def test_who_has_fewer_seeds_takes_no_part() -> None:
    own = runs(SIZES, {"lora": 1, "hira": 1})
    found = fought(own)
    assert found.at == {"bytes": [("mad", "wtpb"), ("mad", "ksm")]} and found.without == {"bytes": []}
    assert found.verdicts("bytes") == "MAD **leads**: nobody; **ties**: ksm; **loses**: wtpb."
    at = duels_at_budgets(grid_of(outcomes(own)), stored_forms(outcomes(own)), "mad")
    assert at[180].keys() == {"wtpb", "ksm", "frozen", "finetune"}


def test_while_a_grid_grows_the_few_that_have_a_new_seed_shut_nobody_out() -> None:
    assert fought(runs(SIZES, {"mad": 3, "frozen": 3})).at == fought(runs(SIZES, {})).at
    assert fought(runs(SIZES, {"mad": 3, "ksm": 3})).at["bytes"][-1] == ("mad", "ksm")


def test_without_mad_there_are_no_duels() -> None:
    found = fought(runs({("lora", 8): 1000}, {}))
    assert not found.means and found.without == {"bytes": ["lora:8"]}
