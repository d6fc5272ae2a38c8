"""Duels: differences and intervals by hand, what they fall back to, and that a win is called only where it is one."""

import csv
import math

import numpy as np
import pytest
from made_runs import made_run
from scipy import stats

from madlab import cli
from madlab.benchmarks.score import decathlon_score
from madlab.errors import MadlabError
from madlab.runs.record import Rounded, Run, write_runs
from madlab.tables.duel_report import write_duels
from madlab.tables.duels import Duel, duels, grid_of, mean_interval
from madlab.tables.outcomes import outcomes

DOMAINS = ("birds", "crops", "signs")
SHARES = {"finetune": 0.75, "mad": 0.8, "lora": 0.6, "series": 0.8}


def right(method: str, domain: str, seed: int, images: int = 400) -> np.ndarray:
    """Images that are easy or hard for all, and a little of every run's own."""
    easy = np.random.default_rng(DOMAINS.index(domain)).random(images)
    own = np.random.default_rng([seed, len(method), DOMAINS.index(domain)]).random(images)
    return 0.8 * easy + 0.2 * own < SHARES[method]


@pytest.fixture(scope="module")
def known() -> list[Run]:
    return [
        made_run(domain, method, 0, seed=seed, correct=right(method, domain, seed))
        for method in SHARES
        for domain in DOMAINS
        for seed in range(3)
    ]


@pytest.fixture(scope="module")
def unknown() -> list[Run]:
    """The same as accuracies only, as older runs have them."""
    return [
        made_run(domain, method, 100 * right(method, domain, seed).mean(), seed=seed)
        for method in SHARES
        for domain in DOMAINS
        for seed in range(3)
    ]


def by_where(found: list[Duel], second: str = "lora") -> dict[str, Duel]:
    return {duel.where: duel for duel in found if duel.second == second}


def accuracies(method: str) -> dict[str, list[float]]:
    return {domain: [100 * right(method, domain, seed).mean() for seed in range(3)] for domain in DOMAINS}


def test_differences_are_those_of_the_means(known) -> None:
    found = by_where(duels(grid_of(outcomes(known)), [("mad", "lora")]))
    mine, theirs, baseline = (accuracies(method) for method in ("mad", "lora", "finetune"))
    assert list(found) == [*DOMAINS, "mean", "S"]
    for domain in DOMAINS:
        assert found[domain].difference == pytest.approx(np.mean(mine[domain]) - np.mean(theirs[domain]))
    assert found["mean"].difference == pytest.approx(np.mean([found[domain].difference for domain in DOMAINS]))
    mean = {name: {d: float(np.mean(v)) for d, v in own.items()} for name, own in (("m", mine), ("t", theirs))}
    level = {domain: float(np.mean(values)) for domain, values in baseline.items()}
    wanted = decathlon_score(mean["m"], level) - decathlon_score(mean["t"], level)
    assert found["S"].difference == pytest.approx(wanted)
    assert {duel.basis for duel in found.values()} == {"images and seeds"}


def test_intervals_have_the_variance_of_images_and_of_seeds(known) -> None:
    found = by_where(duels(grid_of(outcomes(known)), [("mad", "lora")]))
    variances = []
    for domain in DOMAINS:
        gains = 100 * np.array([right("mad", domain, s) * 1.0 - right("lora", domain, s) for s in range(3)])
        variances.append(gains.mean(0).var() / 400 + gains.mean(1).var(ddof=1) / 3)
        interval = found[domain].interval
        assert interval is not None
        assert interval.high - interval.low == pytest.approx(2 * 1.96 * math.sqrt(variances[-1]), rel=0.08)
    interval = found["mean"].interval  # domains are drawn apart, so that their variances add up
    assert interval is not None
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * math.sqrt(sum(variances)) / 3, rel=0.05)
    assert interval.low < found["mean"].difference < interval.high


def test_a_win_is_called_where_holms_correction_leaves_one(known) -> None:
    found = duels(grid_of(outcomes(known)), [("mad", other) for other in ("lora", "series", "finetune")])
    assert by_where(found, "lora")["mean"].verdict == "leads"
    assert by_where(found, "series")["mean"].verdict == "ties"
    reverse = duels(grid_of(outcomes(known)), [("lora", "mad")])
    assert by_where(reverse, "mad")["mean"].verdict == "loses"
    means = [duel for duel in found if duel.where == "mean"]
    ordered = sorted(duel.interval.p for duel in means if duel.interval)
    smallest = min(means, key=lambda duel: duel.interval.p if duel.interval else 1)
    assert smallest.adjusted == pytest.approx(3 * ordered[0])  # of three means, not of nine domains
    on_domains = [duel for duel in found if duel.kind == "domain"]
    assert min(duel.adjusted or 1 for duel in on_domains) == pytest.approx(
        9 * min(duel.interval.p for duel in on_domains if duel.interval)
    )


def test_without_images_domains_have_students_interval_over_seeds_and_means_that_over_domains(unknown) -> None:
    found = by_where(duels(grid_of(outcomes(unknown)), [("mad", "lora")]))
    mine, theirs = accuracies("mad"), accuracies("lora")
    gains = {domain: np.subtract(mine[domain], theirs[domain]) for domain in DOMAINS}
    for domain in DOMAINS:
        wanted = stats.ttest_1samp(gains[domain], 0).confidence_interval(0.95)
        interval = found[domain].interval
        assert interval is not None and found[domain].basis == "seeds"
        assert (interval.low, interval.high) == pytest.approx((wanted.low, wanted.high))
    of_means = stats.ttest_1samp([own.mean() for own in gains.values()], 0)
    interval = found["mean"].interval
    assert interval is not None and found["mean"].basis == found["S"].basis == "domains"
    wanted = of_means.confidence_interval(0.95)
    assert (interval.low, interval.high, interval.p) == pytest.approx((wanted.low, wanted.high, of_means.pvalue))
    score = found["S"]
    assert score.interval is not None
    assert score.interval.low < score.difference < score.interval.high
    assert score.difference == pytest.approx((score.interval.low + score.interval.high) / 2)


def test_a_single_seed_is_said_and_only_shared_seeds_count(known) -> None:
    once = [run for run in known if run.method != "lora" or run.result.seed == 1]
    found = by_where(duels(grid_of(outcomes(once)), [("mad", "lora")]))
    assert found["mean"].seeds == 1 and found["mean"].basis == "images"
    wanted = np.mean([accuracies("mad")[d][1] - accuracies("lora")[d][1] for d in DOMAINS])
    assert found["mean"].difference == pytest.approx(wanted)
    apart = [run for run in known if (run.method == "lora") == (run.result.seed == 1)]
    assert duels(grid_of(outcomes(apart)), [("mad", "lora")]) == []


def test_one_seed_without_images_has_no_interval_and_no_verdict(unknown) -> None:
    once = [run for run in unknown if run.result.seed == 0 and run.result.domain == "birds"]
    found = by_where(duels(grid_of(outcomes(once)), [("mad", "lora")]))
    assert all((duel.interval, duel.verdict, duel.basis) == (None, "–", "–") for duel in found.values())


def test_other_test_images_are_no_pairs(known) -> None:
    mixed = [run for run in known if run.method != "lora"]
    mixed += [made_run(d, "lora", 0, seed=s, correct=right("lora", d, s, 300)) for d in DOMAINS for s in range(3)]
    found = by_where(duels(grid_of(outcomes(mixed)), [("mad", "lora")]))
    assert {found[domain].basis for domain in DOMAINS} == {"seeds"} and found["mean"].basis == "domains"


def test_a_method_without_runs_is_told(known) -> None:
    with pytest.raises(MadlabError, match="no runs of madd; methods with runs: finetune, lora, mad, series"):
        duels(grid_of(outcomes(known)), [("mad", "lora"), ("madd", "lora")])


def test_equal_methods_tie(known) -> None:
    twin = [made_run(d, "hira", 0, rank=8, seed=s, correct=right("mad", d, s)) for d in DOMAINS for s in range(3)]
    found = by_where(duels(grid_of(outcomes([*known, *twin])), [("mad", "hira:8")]), "hira:8")
    assert all(duel.verdict == "ties" and duel.adjusted == 1 for duel in found.values())


@pytest.mark.parametrize("images", [1, 5, 6])
def test_no_win_is_called_on_fewer_images_than_mcnemars_test_wants(images) -> None:
    """One method has all of them right and the other none, which the exact test believes from six images on."""
    runs = [made_run("birds", method, 0, correct=np.full(images, method == "mad")) for method in ("mad", "wtpb")]
    on_domain, mean = duels(grid_of(outcomes(runs)), [("mad", "wtpb")])
    exact = stats.binomtest(images, images).pvalue
    assert on_domain.interval is not None and mean.interval is not None
    assert on_domain.interval.p == pytest.approx(exact) and mean.interval.p == pytest.approx(exact)
    assert {on_domain.verdict, mean.verdict} == {"leads" if exact < 0.05 else "ties"}


def test_the_interval_of_a_mean(known, unknown) -> None:
    from_images, from_seeds = (mean_interval(grid_of(outcomes(runs))["mad"]) for runs in (known, unknown))
    own = accuracies("mad")
    by_seed = [np.mean([own[domain][seed] for domain in DOMAINS]) for seed in range(3)]
    wanted = stats.t.interval(0.95, 2, np.mean(by_seed), stats.sem(by_seed))
    assert from_seeds is not None and (from_seeds.low, from_seeds.high) == pytest.approx(wanted)
    assert from_images is not None and from_images.estimate == pytest.approx(np.mean(by_seed))
    assert from_images.high - from_images.low > 1  # 1,200 images: 2 * 1.96 * sqrt(0.2 * 0.8 / 1200) is 4.5 %


def rows(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]


def stored(adapter: int, norms: int) -> dict[str, int]:
    return {"adapter": adapter, "norms": norms, "head": 10}


@pytest.fixture(scope="module")
def file(known, tmp_path_factory):
    """MAD in 4 bits takes 15 kB and is as good; series takes 35 kB exact and has no other form."""
    sizes = {"finetune": 900_000, "mad": 80_000, "lora": 60_000, "series": 30_000}
    runs = []
    for run in known:
        domain, seed, mark = run.result.domain, run.result.seed, run.result.test_correct
        four = Rounded(stored(10_000, 5000), 12.0, run.result.test_accuracy, mark)
        rounded = {"4": four} if run.method == "mad" else {}
        correct = right(run.method, domain, seed)
        whole = stored(sizes[run.method], 5000)
        runs.append(made_run(domain, run.method, 0, seed=seed, correct=correct, stored=whole, rounded=rounded))
    path = tmp_path_factory.mktemp("duels") / "runs.jsonl"
    write_runs(path, runs)
    return path


def test_the_report_says_what_is_settled(file, tmp_path) -> None:
    text = write_duels(file, ["mad"], csv=tmp_path / "duels.csv", figure=tmp_path / "ranks.png")
    cells = {row[0]: row for row in rows(text.partition("at equal bytes")[0]) if len(row) == 6}
    assert "leads" in cells["lora"][1] and "ties" in cells["series"][1]
    assert cells["lora"][3:] == ["3", "3", "images and seeds"]
    assert "images and seeds drawn again in pairs" in text and "Student" not in text
    at = {row[0]: row[1:] for row in rows(text.partition("at equal bytes")[2]) if len(row) > 2}
    assert at["against"] == ["at most 40 kB", "at most 90 kB", "at most 180 kB"]  # at 20 kB there is no rival
    assert at["its own form"] == ["mad in 4 bits", "mad", "mad"]
    assert at["lora"][0] == "–" and at["lora"][1].endswith("leads: lora")
    assert at["series"][0].endswith("ties: series") and "finetune" not in at
    assert "Two whose ranks are nearer than 2.71" in text  # 2.569 * sqrt(4 * 5 / (6 * 3)), Demsar's table 5
    assert (tmp_path / "ranks.png").read_bytes().startswith(b"\x89PNG")
    with open(tmp_path / "duels.csv", newline="") as stream:
        lines = list(csv.DictReader(stream))
    mean = next(line for line in lines if (line["second"], line["where"], line["budget"]) == ("lora", "mean", ""))
    assert mean["verdict"] == "leads" and float(mean["low"]) > 0 and float(mean["p_holm"]) >= float(mean["p"])
    assert len([line for line in lines if line["budget"] == ""]) == 3 * 5


def test_the_command_and_what_it_refuses(file, tmp_path, capsys) -> None:
    assert cli.main(["report", str(file), "--duels", "mad,lora"]) == 0
    told = capsys.readouterr().out
    assert "mad against every other method" in told and "lora against every other method" in told
    assert cli.main(["report", str(file), "--duels", "wtpb"]) == 2
    assert "has no run of 'wtpb': choose among finetune, lora, mad, mad in 4 bits, series" in capsys.readouterr().err
    assert cli.main(["report", str(file), "--duels", "mad", "--benchmark", "sketch"]) == 2
    assert "leave out --benchmark or --duels" in capsys.readouterr().err
    write_runs(tmp_path / "alone.jsonl", [made_run("birds", "mad", 50.0)])
    with pytest.raises(MadlabError, match="no method that shares a domain and a seed with mad"):
        write_duels(tmp_path / "alone.jsonl", ["mad"])
    with pytest.raises(MadlabError, match="Mean ranks need two methods and two domains"):
        write_runs(tmp_path / "one.jsonl", [made_run("birds", "mad", 50.0), made_run("birds", "wtpb", 60.0)])
        write_duels(tmp_path / "one.jsonl", ["mad"], figure=tmp_path / "ranks.png")


def test_a_name_with_a_comma_can_be_asked_for(tmp_path, capsys) -> None:
    residual = {"rank": 2, "options": {"form": "residual"}, "layers": "3x3"}
    runs = [run for d in DOMAINS for run in (made_run(d, "mad", 50.0, **residual), made_run(d, "wtpb", 60.0))]
    write_runs(tmp_path / "runs.jsonl", runs)
    assert cli.main(["report", str(tmp_path / "runs.jsonl"), "--duels", "mad:2 (3x3, form residual),wtpb"]) == 0
    told = capsys.readouterr().out
    assert "mad:2 (3x3, form residual) against every" in told and "wtpb against every" in told
    assert "Nemenyi, 0.05)." in told and "nan" not in told  # Friedman's test is not defined for two methods


def test_a_rounded_form_can_be_the_first(file) -> None:
    text = write_duels(file, ["mad in 4 bits"])
    cells = {row[0]: row for row in rows(text) if len(row) == 6}
    assert "mad in 4 bits against every other method" in text and "ties" in cells["mad"][1]
