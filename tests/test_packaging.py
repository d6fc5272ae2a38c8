"""The files around the package: they say the same thing, and what the README promises is there."""

import ast
import json
import re
import statistics
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from scripts import load_script

import madlab
from madlab.cli import main
from madlab.runs.record import read_runs

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
README = (ROOT / "README.md").read_text()
RESULTS = (ROOT / "notebooks" / "site" / "results.md").read_text()
REQUIREMENTS = [
    Requirement(text)
    for texts in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    for text in texts
    if not text.startswith("madlab[")
]
# What Colab had in August 2026: a floor above one of these would make pip replace it there.
COLAB = {"torch": "2.11", "torchvision": "0.26"} | dict(
    line.removesuffix(".*").split("==")
    for line in (ROOT / "tests" / "colab.txt").read_text().splitlines()
    if not line.startswith("#")
)


def _constraints() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line.split("==") for line in lines if not line.startswith("#")]
    assert len({canonicalize_name(name) for name, _ in pins}) == len(pins)
    return {canonicalize_name(name): version for name, version in pins}


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=lambda requirement: requirement.name)
def test_requirements_are_floors_that_the_constraints_meet(requirement):
    (floor,) = requirement.specifier
    assert floor.operator == ">=" and requirement.url is None
    pinned = Version(_constraints()[canonicalize_name(requirement.name)])
    assert pinned >= Version(floor.version)


def test_constraints_are_exact_versions_and_nothing_else():
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        assert re.fullmatch(r"#.*|[A-Za-z0-9._-]+==[0-9][0-9a-z.]*", line), line


def test_colab_already_meets_every_floor():
    floors = {r.name: next(iter(r.specifier)).version for r in map(Requirement, PROJECT["dependencies"])}
    for name, there in COLAB.items():
        assert name not in floors or Version(floors[name]) <= Version(there), name
    assert {"torch", "numpy", "ipywidgets"} <= floors.keys() & COLAB.keys()
    assert Version("3.13") in Requirement(f"python{PROJECT['requires-python']}").specifier


def test_the_conda_environment_is_in_step():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["channels"] == ["conda-forge"]
    python, *others = environment["dependencies"]
    assert others == ["pip", {"pip": ["-e .[test]"]}]
    floor, ceiling = python.split(",")  # for what has no wheels yet beyond it
    newest = max(int(minor) for minor in re.findall(r"Python :: 3\.(\d+)", "\n".join(PROJECT["classifiers"])))
    assert (floor, ceiling) == (f"python{PROJECT['requires-python']}", f"<3.{newest + 1}")


def test_the_citation_has_the_version_and_licence_of_the_package():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert (citation["version"], citation["license"]) == (PROJECT["version"], PROJECT["license"])
    assert "2307.08528" in citation["references"][0]["url"]


def test_a_data_file_goes_into_the_wheel_if_the_course_or_the_library_reads_it() -> None:
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    patterns, left_out = tool["package-data"]["madlab"], tool["exclude-package-data"]["madlab"]
    files = [path.relative_to(ROOT / "madlab") for path in (ROOT / "madlab").rglob("*") if path.is_file()]
    data = [path for path in files if path.suffix != ".py" and "__pycache__" not in path.parts]
    assert Path("py.typed") in data
    assert [path for path in data if not any(path.match(pattern) for pattern in patterns)] == []
    code = [path.read_text() for path in (ROOT / "madlab").rglob("*.py")]
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        cells = json.loads(path.read_text())["cells"]
        code += ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    for path in data:
        if path.parts[0] == "records":
            name, suffix = re.escape(path.stem), re.escape(path.suffix)
            named = re.compile(rf"""["']{name}({suffix})?["']""")
            read = any(named.search(text) for text in code)
            ships = not any(path.match(pattern) for pattern in left_out)
            assert read == ships or path.stem == "networks", path  # a word that is no name of a file elsewhere


def test_only_records_that_something_reads_ship():
    """Each file of madlab/records is named in a notebook, on a page of the site, in the README or in the library."""
    readers = [
        *(ROOT / "notebooks").rglob("*.ipynb"),
        *(ROOT / "notebooks" / "site").glob("*.md"),
        ROOT / "README.md",
        *(ROOT / "madlab").rglob("*.py"),
    ]
    text = "".join(path.read_text() for path in readers)
    stems = {path.stem.removesuffix("-begun") for path in (ROOT / "madlab" / "records").iterdir()}
    unread = [stem for stem in stems if not re.search(rf"\b{stem}(\.jsonl?|\b[`\"'])", text)]
    assert unread == []


def test_the_licence_is_whole():
    text = (ROOT / "LICENSE").read_text()
    assert text.lstrip().startswith("Apache License") and "Copyright 2026 the madlab authors" in text
    assert text.rstrip().endswith("limitations under the License.")


def test_readme_starts_with_the_two_commands_that_make_knows():
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
    commands = re.findall(r"^make ([\w-]+)", README, re.M)
    assert commands == ["lab", "test"] and set(commands) <= set(targets)
    assert README.index("make lab") < README.index("##")


def test_readme_lists_every_command_and_no_other(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    known = re.findall(r"^ {4}(\w+) ", capsys.readouterr().out, re.M)
    named = re.findall(r"^madlab (\w+)", README, re.M)
    assert set(named) == set(known)


def test_readme_example_runs(tmp_path, monkeypatch, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.S)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(compile(ast.parse(code), "README.md", "exec"), names)
    # Full MAD has M * N parameters for each convolution: at half width a quarter of 645,120, and 3 * 16 in the stem.
    assert capsys.readouterr().out.split()[0] == str(645_120 // 4 + 3 * 16)
    assert tuple(names["logits"].shape) == (16, 43)
    assert (tmp_path / "signs.safetensors").is_file()


def test_every_public_name_can_be_imported():
    for name in madlab.__all__:
        assert getattr(madlab, name) is not None


def recorded(grid: str) -> dict[str, dict[str, list[dict]]]:
    """Method -> domain -> its results, seed by seed, of a grid that ships with madlab."""
    found: dict[str, dict[str, list[dict]]] = {}
    for line in (ROOT / "madlab" / "records" / f"{grid}.jsonl").read_text().splitlines():
        run = json.loads(line)
        result, form = run["result"], run["config"]["options"].get("form")
        method = (
            result["method"] + (f", rank {result['rank']}" if result["rank"] else "") + (f", {form}" if form else "")
        )
        found.setdefault(method, {}).setdefault(result["domain"], []).append(result)
    return found


def with_spread(values: list[float], digits: int) -> str:
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.{digits}f}{spread}"


def mean_of(runs: dict[str, list[dict]]) -> str:
    """The mean over domains and its spread over seeds, as a table writes it."""
    seeds = zip(*([run["test_accuracy"] for run in of_domain] for of_domain in runs.values()), strict=True)
    return with_spread([statistics.fmean(seed) for seed in seeds], 2)


def over_domains(runs: dict[str, list[dict]]) -> float:
    """The mean over domains of means over seeds."""
    return statistics.fmean(statistics.fmean(run["test_accuracy"] for run in own) for own in runs.values())


def score_of(runs: dict[str, list[dict]], tuned: dict[str, list[dict]]) -> float:
    """S by its definition: an error twice that of fine-tuning is worth nothing, none at all 1000."""
    error = {d: 100 - statistics.fmean(run["test_accuracy"] for run in of_domain) for d, of_domain in runs.items()}
    most = {d: 200 - 2 * statistics.fmean(run["test_accuracy"] for run in of_domain) for d, of_domain in tuned.items()}
    return sum(1000 * max(0, 1 - error[domain] / most[domain]) ** 2 for domain in runs)


def rows_of(page: str, column: str) -> list[dict[str, str]]:
    """The rows of the page's table that has such a column: head -> cell."""
    (table,) = re.findall(rf"^(\| method +\|.*\| {column} +\|.*\n)\|.*\n((?:\|.*\n)+)", page, re.M)
    head, *lines = ([cell.strip() for cell in line.strip("|").split("|")] for line in "".join(table).splitlines())
    return [dict(zip(head, line, strict=True)) for line in lines]


def size_of(runs: dict[str, list[dict]]) -> str:
    return f"{statistics.fmean({run['adapter_parameters'] for of_domain in runs.values() for run in of_domain}):,.0f}"


def test_the_table_of_photographs_is_what_the_recorded_runs_say() -> None:
    found, rows = recorded("photographs"), rows_of(RESULTS, "mean")
    assert {row["method"] for row in rows} == set(found)
    for row in rows:
        runs = found[row["method"]]
        expected = {"method": row["method"], "parameters per domain": size_of(runs), "mean": mean_of(runs)}
        expected |= {d: with_spread([r["test_accuracy"] for r in of_domain], 2) for d, of_domain in runs.items()}
        assert row == expected


def test_the_table_of_the_rivals_at_full_width_is_what_the_recorded_runs_say() -> None:
    grids = {"nine": recorded("mini-decathlon-64px"), "five": recorded("mini-sketch-64px")}
    rows = rows_of(RESULTS, "nine at 64 px")
    assert {row["method"] for row in rows} == set(grids["nine"]) == set(grids["five"])
    for row in rows:
        for name, found in grids.items():
            runs = found[row["method"]]
            assert row["parameters per domain"] == size_of(runs)
            assert row[f"{name} at 64 px"] == mean_of(runs), row["method"]
            score = score_of(runs, found["finetune"])
            assert row[f"S of {name}"].split(" ± ")[0] == f"{score:.0f}", row["method"]


def test_the_table_without_batchnorm_is_what_the_recorded_runs_say() -> None:
    found = recorded("frozen-batchnorm")
    rows = rows_of(RESULTS, "nine, frozen BatchNorm")
    assert {f"{row['method']}-frozen-batchnorm" for row in rows} == {name for name in found if name.endswith("norm")}
    sketch = {"pacs_art", "pacs_sketch"}
    for row in rows:
        runs = found[f"{row['method']}-frozen-batchnorm"]
        nine = {domain: own for domain, own in runs.items() if domain not in sketch}
        five = {domain: runs[domain] for domain in ("caltech100", "cars196", "flowers", *sketch)}
        assert (len(nine), len(five)) == (9, 5) and row["parameters per domain"] == size_of(runs)
        assert row["nine, frozen BatchNorm"] == mean_of(nine) and row["five, frozen BatchNorm"] == mean_of(five)


def test_the_table_of_networks_without_norms_is_what_the_recorded_runs_say() -> None:
    runs = read_runs(ROOT / "madlab" / "records" / "without-norms.jsonl")
    assert load_script("without_norms").table(runs) in RESULTS


@pytest.mark.parametrize("record, column", [("fair-bounded-nine", "nine"), ("fair-bounded-five", "five")])
def test_the_table_of_the_readme_is_what_the_recorded_runs_say(record: str, column: str) -> None:
    if not (ROOT / "madlab" / "records" / f"{record}.jsonl").exists():
        assert f"`{record}.jsonl` is not there yet" in README
        return
    found, rows = recorded(record), rows_of(README, r"five, rounded")
    assert len(rows) > 5
    duels = [row.replace(":", ", rank ") for row in load_script("fair_grids").DUELS]
    whole = set.intersection(*(set(found[row]) for row in duels))  # the domains on which all of them were run
    tight: dict[str, bool] = {}
    for row in rows:
        method = row["method"].replace(":", ", rank ")
        assert row["parameters"] == size_of(found[method])
        exact = {domain: own for domain, own in found[method].items() if domain in whole}
        rounded = {
            domain: [run["rounded"].get("4") or run["rounded"]["8"] for run in own] for domain, own in exact.items()
        }
        for runs, form in ((exact, ""), (rounded, ", rounded")):
            assert row[column + form].split(" ± ")[0] == f"{over_domains(runs):.1f}", row["method"] + form
            bytes_of = (run["stored_bytes"] for own in runs.values() for run in own)
            most = max(stored["adapter"] + stored["norms"] for stored in bytes_of)
            told = float(row["kB" + form].replace(",", ""))  # the most on any domain of both records
            assert told >= round(most / 1000, 1)
            tight[row["method"] + form] = told == round(most / 1000, 1)
    if record == "fair-bounded-nine":
        assert sum(tight.values()) >= len(tight) - 2  # of WTPB and fine-tuning, rounded, the five have more


def test_the_readme_fits_on_three_screens() -> None:
    assert len(README.splitlines()) <= 120


def test_the_table_of_slower_heads_is_what_the_recorded_runs_say() -> None:
    above, again = recorded("mini-decathlon-64px"), recorded("few-images-64px")
    rows = rows_of(RESULTS, r"validation, 0.015 \| 0.05 \| 0.15")
    trials: dict[tuple[str, float], list[float]] = {}
    for line in json.loads((ROOT / "madlab/records/trials-full-width-head.json").read_text()):
        slowed = {"flowers": 1, "dtd10": 10 / 32}[line["domain"]]  # as a head of ten classes is
        rate = round(line["rates"]["head_lr"] / slowed, 6)
        trials.setdefault((line["method"], rate), []).append(line["val_accuracy"])
    assert {row["method"] for row in rows} >= set(again)
    domains = again["mad"].keys()
    for row in rows:
        method = row["method"]
        assert row["three as above"] == mean_of({domain: above[method][domain] for domain in domains}), method
        assert row["three with slower heads"] == (mean_of(again[method]) if method in again else ""), method
        tried = {"mad, rank 8": "mad:8", "lora, rank 8": "lora"}.get(method, method)
        for column, rate in {"validation, 0.015": 0.015, "0.05": 0.05, "0.15": 0.15}.items():
            accuracies = trials.get((tried, rate))
            assert row[column] == (f"{statistics.fmean(accuracies):.1f}" if accuracies else ""), (method, rate)
