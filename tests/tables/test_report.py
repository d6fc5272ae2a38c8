"""The report of runs that were never trained: their results are written here, their numbers worked out by hand."""

import csv
import json
import math
from dataclasses import asdict

import pytest
from matplotlib.figure import Figure

from madlab.errors import MadlabError
from madlab.figures.runs import pareto_line
from madlab.runs.recipe import Recipe
from madlab.tables.comparison import write_comparison
from madlab.tables.entries import budget
from madlab.tables.report import write_report

BASE = {"name": "small", "sha256": "0123456789abcdef"}


def put(
    root,
    domain,
    method,
    seed,
    test,
    parameters,
    rank=None,
    base=BASE,
    layers="all",
    source=None,
    base_source=None,
    date="2026-11-23",
    balanced=None,
    **recipe,
):
    """A finished run's result and config, in a folder of its own."""
    settings = asdict(Recipe(seed=seed, **recipe))
    folder = root / f"{len(list(root.iterdir())) if root.exists() else 0}" / "deeper"
    folder.mkdir(parents=True)
    result = {
        "domain": domain,
        "method": method,
        "rank": rank,
        "seed": seed,
        "base": base,
        "base_parameters": 1000,
        "adapter_parameters": parameters,
        "val_accuracy": 99.0,
        "test_accuracy": test,
        "best_epoch": 1,
        "epochs": settings["epochs"],
        "seconds": 1.0,
        "device": "x86_64 CPU",
        "versions": {},
        "date": date,
        "balanced_accuracy": balanced,
    }
    (folder / "result.json").write_text(json.dumps(result))
    config = {
        "domain": domain,
        "source": source,
        "flip": True,
        "base": base | {"source": base_source},
        "method": method,
        "options": {} if rank is None else {"rank": rank},
        "layers": layers,
        "recipe": settings,
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def runs(tmp_path):
    """Two domains; fine-tuning errs by 20 and 10 percent, so that Emax is 40 and 20."""
    root = tmp_path / "runs"
    for seed, signs, birds in ((0, 78.0, 91.0), (1, 82.0, 89.0)):
        put(root, "signs", "finetune", seed, signs, 1000)
        put(root, "birds", "finetune", seed, birds, 1000)
    for seed, signs, birds in ((0, 70.0, 95.0), (1, 80.0, 95.0)):
        put(root, "signs", "mad", seed, signs, 110, rank=8)
        put(root, "birds", "mad", seed, birds, 110, rank=8)
    put(root, "signs", "frozen", 0, 40.0, 0)
    return root


def rows(text):
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")
    ]
    return {cell[0]: dict(zip(cells[0], cell, strict=True)) for cell in cells[2:]}


def test_means_spreads_parameters_and_score(runs):
    table = rows(write_report(runs))
    assert list(table) == ["frozen", "mad:8", "finetune"]  # by parameters
    # seeds 70 and 80: mean 75, deviation sqrt(50); means over domains 82.5 and 87.5: 85, deviation sqrt(12.5)
    mad = {
        "method": "mad:8",
        "parameters": "110",
        "total": "1.22×",  # (1000 + 2 * 110) / 1000
        "birds": "95.00 ± 0.00",
        "signs": "75.00 ± 7.07",
        "mean": "85.00 ± 3.54",
        "seeds": "2",
    }
    assert {key: table["mad:8"][key] for key in mad} == mad
    # signs: 1000 / 40^2 * (40 - 25)^2 = 140.625; birds: 1000 / 20^2 * (20 - 5)^2 = 562.5; together 703
    # seed 0: 1000 / 1600 * 10^2 + 562.5 = 625; seed 1: 1000 / 1600 * 20^2 + 562.5 = 812.5; deviation 132.6
    assert table["mad:8"]["S"] == "703 ± 133"
    assert table["finetune"]["S"].startswith("500 ± ") and table["finetune"]["total"] == "3.00×"
    # One domain is missing: no mean, no score.
    assert [table["frozen"][key] for key in ("birds", "signs", "mean", "S", "seeds")] == ["–", "40.00", "–", "–", "1"]
    assert "S: against finetune of these runs" in write_report(runs)


def test_without_fine_tuning_there_is_no_score_and_the_text_says_why(tmp_path):
    put(tmp_path / "runs", "signs", "finetune", 0, 80.0, 1000)
    for domain in ("signs", "birds", "crops"):
        put(tmp_path / "runs", domain, "mad", 0, 75.0, 110)
    text = write_report(tmp_path / "runs")
    assert rows(text)["mad"]["S"] == "–" and rows(text)["mad"]["mean"] == "75.00"
    assert "S is left out, because its baseline, finetune, was not run on birds, crops." in text


def test_a_baseline_without_error_has_no_score(tmp_path):
    put(tmp_path / "runs", "signs", "finetune", 0, 100.0, 1000)
    assert "finetune, makes no error on signs." in write_report(tmp_path / "runs")


def test_the_file_has_the_same_numbers_unrounded(runs, tmp_path):
    write_report(runs, csv=tmp_path / "table.csv")
    with open(tmp_path / "table.csv", newline="") as file:
        found = {row["method"]: row for row in csv.DictReader(file)}
    mad = found["mad:8"]
    assert mad["protocol"] == "small (01234567), 20 epochs"
    numbers = {"adapter_parameters": 110, "total": 1.22, "seeds": 2, "mean": 85, "mean_std": math.sqrt(12.5)}
    numbers |= {"signs": 75, "signs_std": math.sqrt(50), "birds": 95, "birds_std": 0}
    numbers |= {"score": 703.125, "score_std": 187.5 / math.sqrt(2)}
    for key, number in numbers.items():
        assert float(mad[key]) == pytest.approx(number), key
    assert found["frozen"]["mean"] == found["frozen"]["score"] == found["frozen"]["birds"] == ""


def test_balanced_accuracy_stands_beside_accuracy_where_every_run_has_it(tmp_path):
    root = tmp_path / "runs"
    for seed, balanced in ((0, 60.0), (1, 64.0)):
        put(root, "signs", "mad", seed, 70.0, 110, balanced=balanced)
        put(root, "birds", "mad", seed, 80.0, 110, balanced=balanced + 10)
        put(root, "signs", "finetune", seed, 90.0, 1000, balanced=50.0 if seed else None)  # one of an earlier version
        put(root, "birds", "finetune", seed, 90.0, 1000, balanced=50.0)
    text = write_report(root, csv=tmp_path / "table.csv")
    table = rows(text)
    heads = list(table["mad"])
    assert heads[heads.index("mean") + 1] == "balanced"
    # Means over domains of 65 and 69, deviation sqrt(8).
    assert table["mad"]["balanced"] == "67.00 ± 2.83" and table["finetune"]["balanced"].startswith("–")
    assert "balanced: the mean in which every class counts alike" in text
    with open(tmp_path / "table.csv", newline="") as file:
        found = {row["method"]: row for row in csv.DictReader(file)}
    assert [float(found["mad"][key]) for key in ("balanced", "signs_balanced", "birds_balanced")] == [67, 62, 72]
    assert found["finetune"]["balanced"] == found["finetune"]["balanced_std"] == ""


def test_the_text_has_no_balanced_column_where_no_run_tells_it(runs):
    assert "balanced" not in write_report(runs)


def test_what_cannot_be_compared_gets_a_table_of_its_own(tmp_path):
    root = tmp_path / "runs"
    put(root, "signs", "mad", 0, 70.0, 110)
    put(root, "signs", "mad", 0, 80.0, 110, epochs=5)
    put(root, "signs", "mad", 0, 81.0, 110, crop=24)
    put(root, "signs", "mad", 0, 82.0, 110, base={"name": "small", "sha256": "fedcba9876543210"})
    put(root, "signs", "finetune", 0, 90.0, 1000, adapter_lr=0.3, head_decay=0.0)  # what a method tunes is its own
    headings = [line for line in write_report(root).splitlines() if line.startswith("small (")]
    assert headings == [
        "small (01234567), 20 epochs",
        "small (01234567), 20 epochs, crop 24",
        "small (01234567), 5 epochs",
        "small (fedcba98), 20 epochs",
    ]
    first = rows(write_report(root).split("\n\nsmall")[0])
    assert set(first) == {"mad", "finetune"}
    with pytest.raises(MadlabError, match="runs of 4 protocols"):
        write_report(root, figure=tmp_path / "figure.png")


def test_a_choice_of_layers_is_a_row_of_its_own(tmp_path):
    put(tmp_path / "runs", "signs", "mad", 0, 70.0, 110)
    put(tmp_path / "runs", "signs", "mad", 0, 69.0, 60, layers="3x3")
    assert list(rows(write_report(tmp_path / "runs"))) == ["mad (3x3)", "mad"]


def test_two_runs_of_one_cell_are_refused(tmp_path):
    one = put(tmp_path / "runs", "signs", "mad", 0, 70.0, 110)
    two = put(tmp_path / "runs", "signs", "mad", 0, 71.0, 110)
    with pytest.raises(MadlabError) as told:
        write_report(tmp_path / "runs")
    assert str(told.value) == f"{one} and {two} are both mad on signs, seed 0: keep one of them."


def test_a_folder_without_results_and_one_with_a_damaged_result(tmp_path):
    with pytest.raises(MadlabError, match="no finished run in"):
        write_report(tmp_path)
    folder = put(tmp_path / "runs", "signs", "mad", 0, 70.0, 110)
    (folder / "result.json").write_text('{"domain": "signs",')
    with pytest.raises(MadlabError, match=r"result\.json is damaged"):
        write_report(tmp_path / "runs")


def test_the_figure_is_written_in_the_format_of_its_name(runs, tmp_path):
    for name, start in (("f.png", b"\x89PNG"), ("f.pdf", b"%PDF"), ("f.svg", b"<?xml")):
        write_report(runs, figure=tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(start)
    picture = (tmp_path / "f.svg").read_bytes()
    write_report(runs, figure=tmp_path / "again.svg")
    assert (tmp_path / "again.svg").read_bytes() == picture  # no date, no chance in its names
    with pytest.raises(MadlabError, match="cannot be written as 'docx'"):
        write_report(runs, figure=tmp_path / "f.docx")
    assert not (tmp_path / "f.docx").exists()


def test_the_pareto_line_is_the_best_that_can_be_had_for_each_budget():
    points = [(100, 70.0), (0, 50.0), (10, 65.0), (20, 60.0), (100, 72.0), (500, 71.0), (10, 64.0)]
    ax = Figure().subplots()
    pareto_line(ax, points)
    (line,) = ax.get_lines()
    assert line.get_drawstyle() == "steps-post"
    steps = list(zip(line.get_xdata(), line.get_ydata(), strict=True))
    for most in (0, 5, 10, 15, 20, 99, 100, 499, 500):
        shown = [y for x, y in steps if x <= most][-1]
        assert shown == max(accuracy for parameters, accuracy in points if parameters <= most)
    assert steps[-1][0] == 500


def put_decathlon(root, domain, method, test, source=None, **options):
    put(root, domain, method, options.pop("seed", 0), test, 110, source=source or f"decathlon:{domain}", **options)


def test_ours_stand_beside_the_published_rows_each_with_its_source(tmp_path):
    root = tmp_path / "runs"
    for seed, gtsrb, date in ((0, 96.0, "2026-11-20"), (1, 98.0, "2026-11-23")):
        put_decathlon(root, "gtsrb", "mad", gtsrb, rank=8, seed=seed, date=date)
        put_decathlon(root, "dtd", "mad", 50.0, rank=8, seed=seed)
    put_decathlon(root, "gtsrb@val", "mad", 99.9, source="decathlon:gtsrb")  # half of the validation images
    put_decathlon(root, "gtsrb", "mad", 99.9, source="images/gtsrb", rank=9)  # a folder of that name
    text = write_comparison(root, "decathlon", csv=tmp_path / "table.csv")
    table = rows_by(text, "method")
    assert len(table) == 23 + 1
    ours = table["mad:8"]
    # gtsrb: 40.9776 * (4.94 - 3)^2 = 154.22; dtd: 0.126419 * (88.94 - 50)^2 = 191.69 (Emax of the published table)
    wanted = {
        "": "ours",
        "gtsrb": "97.00",
        "dtd": "50.00",
        "svhn": "–",
        "mean": "–",
        "S": "–",
        "S of 2": "346*",
        "mean of 2": "73.50*",
    }
    assert {key: ours[key] for key in wanted} == wanted
    assert (ours["network"], ours["params"]) == ("small", "1.99x")
    note = next(line for line in text.splitlines() if line.startswith(ours["source"]))
    assert note == f"{ours['source']} ours, 2 seeds, 2026-11-20 to 2026-11-23; small (01234567), 20 epochs"
    url = table["URL"]
    assert (url[""], url["S"], url["mean"], url["svhn"]) == ("", "3626", "79.40", "96.95")
    # Of the published contributions 298 and 414.
    assert abs(int(url["S of 2"].rstrip("*")) - (298 + 414)) <= 2
    assert "arXiv 2204.02744" in next(line for line in text.splitlines() if line.startswith(url["source"]))
    assert (table["MAD"]["S"], table["MAD"]["S of 2"], table["MAD"]["params"]) == ("3828", "–", "–")
    assert table["Residual adapters 2017, finetune all"]["mean"] == "77.18*"  # not printed anywhere
    assert "Mean and S of 2: over dtd, gtsrb, which" in text
    with open(tmp_path / "table.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["method"] for line in lines if line["ours"] == "1"] == ["mad:8"]
    assert float(lines[-1]["score_of_2"]) == pytest.approx(345.9, abs=0.1) and lines[-1]["svhn"] == ""


def rows_by(text, key):
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    found = [dict(zip(cells[0], cell, strict=True)) for cell in cells[2:]]
    assert len({(row[key], row["network"]) for row in found}) == len(found)
    return {row[key]: row for row in found}


def test_the_base_networks_own_accuracy_completes_the_ten(tmp_path):
    """The log beside the weights says it, for these very weights."""
    published = {"aircraft": 60.34, "cifar100": 82.12, "daimlerpedcls": 92.82, "dtd": 55.53, "gtsrb": 97.53}
    published |= {"omniglot": 87.69, "svhn": 96.55, "ucf101": 51.2, "vgg-flowers": 81.41}
    weights = str(tmp_path / "base.safetensors")
    for domain, accuracy in published.items():
        put_decathlon(tmp_path / "runs", domain, "finetune", accuracy, base_source=weights)
    assert rows_by(write_comparison(tmp_path / "runs", "decathlon"), "method")["finetune"]["S of 9"] == "2250*"
    log = {"domain": "imagenet12", "sha256": BASE["sha256"], "test_accuracy": 59.87}
    (tmp_path / "base.json").write_text(json.dumps(log))
    text = write_comparison(tmp_path / "runs", "decathlon")
    ours = rows_by(text, "method")["finetune"]
    assert (ours["imagenet12"], ours["S"], ours["mean"]) == ("59.87", "2500*", "76.51*")
    assert "S of" not in text and "imagenet12: the base network, from base.json" in text
    others = log | {"sha256": "another"}, ["a", "b"], {k: v for k, v in log.items() if k != "test_accuracy"}
    for text in (*map(json.dumps, others), json.dumps(log)[:-5]):  # whatever else may lie there
        (tmp_path / "base.json").write_text(text)
        assert rows_by(write_comparison(tmp_path / "runs", "decathlon"), "method")["finetune"]["imagenet12"] == "–"


def test_sketch_scores_another_network_against_its_own_fine_tuning(tmp_path):
    base = {"name": "densenet121", "sha256": "0"}
    for method, cubs, cars in (("finetune", 80.0, 90.0), ("mad", 85.0, 90.0)):
        for domain, accuracy in (("cubs", cubs), ("cars", cars)):
            put(
                tmp_path, domain, method, 0, accuracy, 90, base=base, base_source="densenet121",
                source=f"sketch:{domain}", date="",
            )  # fmt: skip
    text = write_comparison(tmp_path, "sketch", figure=tmp_path / "figure.png")
    table = rows_by(text, "method")
    # cubs: 1000 / 40^2 * (40 - 15)^2 = 390.6; cars: 250
    assert (table["mad"]["S of 2"], table["finetune"]["S of 2"]) == ("641*", "500*")
    assert table["mad"]["imagenet"] == "74.43"  # torchvision's documentation of DenseNet121_Weights.IMAGENET1K_V1
    assert (table["H2"]["mean of 2"], table["CPG, released checkpoints"]["mean of 2"]) == ("87.35*", "88.19*")
    assert table["H2"]["S of 2"] != "–" and table["MAD"]["S"] == "1668"
    assert "1 seed, date not recorded" in text and "S against finetune of these runs" in text
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_a_flawless_baseline_leaves_the_score_out_and_nothing_else(tmp_path):
    for method, accuracy in (("finetune", 100.0), ("mad", 95.0)):
        put(tmp_path, "cubs", method, 0, accuracy, 90, source="sketch:cubs")
    table = rows_by(write_comparison(tmp_path, "sketch"), "method")
    assert (table["mad"]["cubs"], table["mad"]["S of 1"], table["H2"]["S of 1"] == "–") == ("95.00", "–", False)


def test_a_domain_may_have_the_name_of_a_column(tmp_path):
    root = tmp_path / "runs"
    for domain in ("mean", "method", "S"):
        put(root, domain, "mad", 0, 70.0, 110)
    put(root, "mean", "mad", 0, 60.0, 110, epochs=3)
    text = write_report(root, csv=tmp_path / "table.csv")
    assert text.count("70.00") == 4  # three domains and their mean
    with open(tmp_path / "table.csv", newline="") as file:
        head, first, second = csv.reader(file)
    assert head[-9:] == [name + end for name in ("S", "mean", "method") for end in ("", "_std", "_balanced")]
    assert first[-9:] == ["70.0", "", ""] * 3 and second[-6] == "60.0"


def test_runs_that_are_not_of_the_benchmark_do_not_count(runs):
    with pytest.raises(MadlabError, match="no finished run on the official test images of decathlon: train on decath"):
        write_comparison(runs, "decathlon")


def test_a_budget_is_read_only_where_it_is_relative_to_the_base():
    assert [budget(text) for text in ("1.28x (6.04M)", "10x", "23.4M", "", None)] == [1.28, 10.0, None, None, None]
