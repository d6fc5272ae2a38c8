"""The best form at a number of bytes: chosen on validation, never by test accuracy, and never above the budget."""

import pytest
from made_runs import made_run

from madlab.runs.record import Rounded, Run, write_runs
from madlab.tables.budgets import best_at_budgets, best_forms, stored_forms
from madlab.tables.frame import as_frame
from madlab.tables.outcomes import outcomes
from madlab.tables.report import write_report


def stored(adapter: int, norms: int = 5000) -> dict[str, int]:
    return {"adapter": adapter, "norms": norms, "head": 99_000}


def on(domain: str, method: str, size: int, test: float, forms: dict[str, tuple[int, float, float]], **facts) -> Run:
    """forms: bits -> (adapter bytes, validation accuracy, test accuracy); a run's own validation is 20 %."""
    rounded = {bits: Rounded(stored(b), val, tested, "") for bits, (b, val, tested) in forms.items()}
    return made_run(domain, method, test, stored=stored(size, 9000), rounded=rounded, **facts)


RUNS = [
    # In 2 bits the test accuracy is higher by chance; validation says 4 bits.
    on("signs", "mad", 80_000, 70.0, {"4": (11_000, 19.0, 69.0), "2": (6000, 10.0, 75.0)}),
    on("birds", "mad", 80_000, 90.0, {"4": (12_000, 19.0, 89.0), "2": (6000, 10.0, 95.0)}),
    on("signs", "mad", 9000, 60.0, {"4": (1500, 15.0, 59.0)}, rank=2),
    on("birds", "mad", 9000, 80.0, {"4": (1500, 15.0, 79.0)}, rank=2),
    on("signs", "wtpb", 30_000, 66.0, {}),
    on("birds", "wtpb", 33_000, 68.0, {}),
    on("signs", "lora", 1000, 99.0, {}, rank=8),  # not on birds
]


def test_forms_are_means_over_domains_of_those_that_were_run_on_all() -> None:
    forms = stored_forms(outcomes(RUNS))
    names = ["mad", "mad in 4 bits", "mad in 2 bits", "mad:2", "mad:2 in 4 bits", "wtpb"]
    assert list(forms.index) == names
    four = forms.loc["mad in 4 bits"]
    assert (four["family"], four["bits"], four["adapter_bytes"], four["norm_bytes"]) == ("mad", 4, 11_500, 5000)
    assert (four["stored"], four["validation"], four["mean"]) == (17_000, 19, 79)


@pytest.mark.parametrize(
    ("kilobytes", "best"),
    [
        (6, {}),
        (6.5, {"mad": "mad:2 in 4 bits"}),
        (16, {"mad": "mad:2 in 4 bits"}),  # mad in 2 bits fits and is better on test, not on validation
        (16.9, {"mad": "mad:2 in 4 bits"}),
        (18, {"mad": "mad:2"}),  # validation 20
        (41.9, {"mad": "mad:2"}),
        (42, {"mad": "mad:2", "wtpb": "wtpb"}),  # on birds it takes that much
    ],
)
def test_the_best_form_fits_on_every_domain(kilobytes, best) -> None:
    assert best_forms(stored_forms(outcomes(RUNS)), kilobytes) == best


def test_without_validation_the_largest_form_that_fits_stands_in() -> None:
    runs = []
    for domain in ("signs", "birds"):
        for rank, size, test in ((2, 9000, 80.0), (4, 18_000, 70.0)):
            run = made_run(domain, "mad", test, rank=rank, stored=stored(size), trainval=True)
            result = {**vars(run.result), "val_accuracy": None}
            runs.append(Run(run.config, type(run.result)(**result), run.log))
    assert best_forms(stored_forms(outcomes(runs)), 90) == {"mad": "mad:4"}
    assert best_forms(stored_forms(outcomes(runs)), 20) == {"mad": "mad:2"}
    assert "fit and that is the largest;" in "".join(best_at_budgets(stored_forms(outcomes(runs))))


def test_bytes_that_were_not_recorded_come_from_the_numbers_and_the_base() -> None:
    (old,) = as_frame([made_run("signs", "mad", 70.0, 110)]).to_dict("records")
    assert old["adapter_bytes"] == 440
    forms = stored_forms(outcomes([made_run("signs", "mad", 70.0, 110)]))
    assert best_forms(forms, 10**6) == {}  # a base that does not ship with madlab: its norms are not known


def test_the_report_shows_kilobytes_and_the_best_form_at_each_budget(tmp_path) -> None:
    write_runs(tmp_path / "runs.jsonl", RUNS)
    text = write_report(tmp_path / "runs.jsonl", csv=tmp_path / "table.csv", figure=tmp_path / "figure.svg")
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    table = {row[0]: dict(zip(lines[0], row, strict=True)) for row in lines[2:6]}
    assert (table["mad"]["adapter kB"], table["mad"]["norms kB"]) == ("80.0", "9.0")
    assert table["wtpb"]["adapter kB"] == "31.5" and list(table) == ["lora:8", "mad:2", "wtpb", "mad"]
    best = {row[0]: row[1:] for row in lines[6:]}
    assert best["method"] == [f"at most {size} kB" for size in (20, 40, 90, 180)]
    assert best["mad"] == ["**70.0: mad:2**"] * 4  # full MAD is no better on validation, and larger
    assert best["wtpb"] == ["–", "–", "67.0: wtpb", "67.0: wtpb"]
    assert "mad in 4 bits,4,11500.0,5000.0" in (tmp_path / "table.csv").read_text()
    assert (tmp_path / "figure.svg").read_text().startswith("<?xml")
