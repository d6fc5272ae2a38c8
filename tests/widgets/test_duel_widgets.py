"""The duel explorer: leads by hand, budgets that leave rivals out, and one verdict per duel."""

import statistics
from dataclasses import replace

import pytest

from madlab import widgets
from madlab.tables.outcomes import Outcome

ACCURACIES = {  # domain by domain; the seeds are a point apart for all
    "mad": (70.0, 60.0, 55.0, 66.0),
    "mad:8": (66.0, 58.0, 50.0, 64.0),
    "lora:4": (62.0, 51.5, 47.0, 57.0),
    "piggyback": (70.5, 59.0, 56.0, 65.0),
}
BYTES = {"mad": 600_000, "mad:8": 90_000, "lora:4": 80_000, "piggyback": 170_000}


def made() -> list[Outcome]:
    return [
        Outcome(
            protocol="one",
            method=method,
            family=method.split(":")[0],
            bits=None,
            domain=f"domain {place}",
            seed=seed,
            adapter_bytes=BYTES[method],
            norm_bytes=5_000,
            val_accuracy=value + seed,
            test_accuracy=value + seed,
            correct=None,
        )
        for method, values in ACCURACIES.items()
        for place, value in enumerate(values)
        for seed in range(2)
    ]


def lead(first: str, second: str) -> float:
    return statistics.mean(a - b for a, b in zip(ACCURACIES[first], ACCURACIES[second], strict=True))


def test_duel_explorer_compares_what_fits() -> None:
    panel = widgets.duel_explorer({"made": made()})
    assert panel.state["own"] == "mad"
    assert panel.state["leads"] == pytest.approx({m: lead("mad", m) for m in ("lora:4", "piggyback")})
    assert panel.state["verdicts"] == {"lora:4": "leads", "piggyback": "ties"}
    low, high = panel.state["intervals"]["lora:4"]
    assert low < lead("mad", "lora:4") < high and "600" not in panel.note.value and "605 kB" in panel.note.value

    panel.budget.value = 100.0
    assert panel.state["own"] == "mad:8"
    assert panel.state["leads"] == pytest.approx({"lora:4": lead("mad:8", "lora:4")})
    panel.where.value = "domain 1"
    assert panel.state["leads"] == pytest.approx({"lora:4": 6.5})
    panel.budget.value = 60.0
    assert panel.state["own"] is None and not panel.state["leads"] and "larger budget" in panel.note.value


def test_another_table_keeps_the_method_if_it_has_it() -> None:
    less = [one for one in made() if one.method != "lora:4"]
    panel = widgets.duel_explorer({"made": made(), "without lora": less})
    panel.method.value, panel.where.value = "piggyback", "domain 1"
    panel.table.value = "without lora"
    assert (panel.method.value, panel.where.value, panel.state["own"]) == ("piggyback", "domain 1", "piggyback")
    panel.table.value, panel.method.value = "made", "lora"
    panel.table.value = "without lora"
    assert panel.method.value == "mad"


def test_duel_explorer_can_leave_holms_correction_out() -> None:
    panel = widgets.duel_explorer({"made": made()}, method="piggyback")
    assert "Holm" in panel.note.value
    with_holm = panel.state["verdicts"]
    panel.holm.value = False
    assert "duel by duel" in panel.note.value
    for rival, (low, high) in panel.state["intervals"].items():
        assert (panel.state["verdicts"][rival] == "ties") == (low <= 0 <= high)
        assert with_holm[rival] in ("ties", panel.state["verdicts"][rival])


def test_where_norms_are_not_known_adapters_alone_are_compared() -> None:
    rows = [replace(one, norm_bytes=None) if one.method == "mad:8" else one for one in made()]
    panel = widgets.duel_explorer({"table": rows}, "mad")
    panel.method.value = "lora"
    assert "takes 80 kB for a domain, adapter alone" in panel.state["note"]
    panel = widgets.duel_explorer({"table": made()}, "lora")
    assert "takes 85 kB for a domain, adapter and norms" in panel.state["note"]
