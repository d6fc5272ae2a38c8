"""The study of a network of 1x1 and depthwise filters: its tables on the page are those of its record."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from madlab.adapters import METHODS
from madlab.runs.record import read_runs

ROOT = Path(__file__).parents[2]
RUNS = read_runs(ROOT / "madlab" / "records" / "mobile-network.jsonl")


@pytest.fixture(scope="module")
def script(request: pytest.FixtureRequest) -> ModuleType:
    before = dict(METHODS)
    spec = importlib.util.spec_from_file_location("mobile_network", ROOT / "data_scripts" / "mobile_network.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["mobile_network"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    request.addfinalizer(lambda: (METHODS.clear(), METHODS.update(before)))
    return module


def test_the_page_has_the_tables_of_the_record(script: ModuleType) -> None:
    page = (ROOT / "notebooks" / "site" / "results.md").read_text()
    for table in script.tables(RUNS):
        assert table in page, "mobile_network.py --record madlab/records/mobile-network.jsonl --print shows it"


def test_the_last_column_is_the_mean_difference_over_the_domains(script: ModuleType) -> None:
    found = {(script.named(run), run.config.domain): run.result.test_accuracy for run in RUNS}
    domains = [domain for method, domain in found if method == "frozen" and domain.endswith("-96px")]
    rows = [[cell.strip() for cell in line.split("|")] for line in script.tables(RUNS)[0].splitlines()[2:]]
    lines = {row[1]: row[-2] for row in rows}
    for method in ("batchnorm", "mad"):
        gaps = [found[method, domain] - found["frozen", domain] for domain in domains]
        estimate, low, _, high = lines[method].replace("(", "").replace(")", "").split()
        assert float(estimate) == pytest.approx(sum(gaps) / len(gaps), abs=0.051)
        assert float(low) < float(estimate) < float(high)


def test_every_run_is_of_the_grid_and_has_the_rates_that_the_script_says(script: ModuleType) -> None:
    for run in RUNS:
        crop = int(run.config.domain.rpartition("-")[2].removesuffix("px"))
        assert (crop, script.named(run)) in script.GRID
        assert run.config.recipe.epochs == script.TIERS[crop].epochs
        method = script.named(run).partition(", ")[0]
        rates = run.result.rates
        assert rates["adapter"] == pytest.approx(script.SHARE * script.RATES[method])
        if method != "frozen":  # which trains nothing
            assert (rates["batchnorm"], rates["head"]) == pytest.approx((script.SHARE * script.NORM, script.HEAD))
