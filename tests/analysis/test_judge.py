"""From numbers to signatures: made evidence whose answer is known, and the recorded runs that were made to fail."""

import math
from dataclasses import replace
from typing import Any

import pytest
from made_runs import made_run

from madlab.adapters.base import split_method
from madlab.analysis.diagnosis import Evidence, judge
from madlab.analysis.diagnosis.signatures import (
    BASE,
    BATCHNORM,
    DIVERGED,
    EPOCHS,
    FORM,
    HEAD,
    NOTHING,
    OVERFITTING,
    RANK,
    TOO_HIGH,
    TOO_LOW,
    UNFINISHED,
)
from madlab.runs.record import Epoch

FLOOR = 0.5  # about the least loss with ten classes and a smoothing of 0.1


def made(path: str, method: str = "mad", *, fit: float = 0.1, val: float = 0.4, best: float = 60.0, **given: Any):
    """Ten epochs that end `fit` nats above the floor; what is not given is as in a run that works."""
    name, rank = split_method(method)
    recipe = {key: given.pop(key) for key in ("adapter_lr", "head_lr", "epochs", "seed") if key in given}
    config = made_run("glyphs", name, 0.0, rank=rank, **({"epochs": 10} | recipe)).config
    early = [Epoch(n, 2.0, 2.5, best / 2) for n in range(1, config.recipe.epochs)]
    log = (*early, Epoch(config.recipe.epochs, FLOOR + fit, val, best))
    rates = {"adapter": recipe.get("adapter_lr", 0.05), "batchnorm": 0.3, "head": recipe.get("head_lr", 0.1)}
    usual: dict[str, Any] = {"finished": True, "rates": rates, "own_rates": {**rates, "adapter": 0.05}, "classes": 10}
    usual |= {"turn": 0.5, "change": 1.0, "head": 2.0, "batchnorm": 0.1, "fitted": name == "frozen"}
    return Evidence(path, config, log, **(usual | given))


def with_losses(run: Evidence, train: float, val: float) -> Evidence:
    """The run with other losses in its second epoch."""
    spoilt = replace(run.log[1], train_loss=train, val_loss=val)
    return replace(run, log=(run.log[0], spoilt, *run.log[2:]))


def early_best(run: Evidence) -> Evidence:
    """The run with its best validation accuracy in the first epoch."""
    return replace(run, log=(replace(run.log[0], val_accuracy=70.0), *run.log[1:]))


ALONE = {
    "works": (made("a"), (NOTHING,)),
    "diverged": (made("a", finished=False, failure="The loss became nan in epoch 3."), (DIVERGED,)),
    "stopped": (made("a", finished=False), (UNFINISHED,)),
    "crashed": (made("a", finished=False, failure="RuntimeError: out of memory", crashed=True), (UNFINISHED,)),
    "turned away": (made("a", turn=0.9), (TOO_HIGH,)),
    "exploded": (with_losses(made("a"), 2.0, 80 * math.log(10)), (TOO_HIGH,)),
    "a jump that healthy runs have": (with_losses(made("a"), 2.0, 43 * math.log(10)), (NOTHING,)),
    "hardly turned": (made("a", turn=0.01), (TOO_LOW,)),
    "rank 4 with a large change": (made("a", "mad:4", turn=0.7, change=4.3), (NOTHING,)),
    "full alpha with as large a one": (made("a", turn=0.88, change=4.1), (TOO_HIGH,)),
    "best early and never ruined": (early_best(made("a", turn=0.01)), (TOO_LOW,)),
    "best before anything moved": (early_best(with_losses(made("a", turn=0.01), 2.0, 50.0)), (NOTHING,)),
    "loud": (with_losses(made("a", turn=0.9), 3 * math.log(10), 1e6), (HEAD,)),
    "scales ran away": (made("a", batchnorm=3.0), (BATCHNORM,)),
    "lost statistics": (made("a", stale=True), (BATCHNORM,)),
    "short": (made("a", fit=0.8, epochs=2, turn=0.05), (EPOCHS,)),
    "few images": (made("a", val=2.0), (OVERFITTING,)),
    "few images and a small turn": (made("a", val=2.0, turn=0.15), (TOO_LOW, OVERFITTING)),
    "rank 1 that does not fit": (made("a", "mad:1", fit=0.6), (RANK, FORM, BASE, EPOCHS)),
    "alpha that does not fit": (made("a", fit=0.6), (FORM, BASE, EPOCHS)),
    "fine-tuning that does not fit": (made("a", "finetune", fit=0.6), (BASE, EPOCHS)),
    "a method without filters": (made("a", "batchnorm", fit=0.6, turn=None, change=None), (FORM, BASE, EPOCHS)),
    "a fitted head": (made("a", "frozen", turn=None, change=None, head=1.0), (NOTHING,)),
    "a fitted head that does not fit": (made("a", "frozen", fit=0.6, epochs=2, turn=None, change=None), (FORM,)),
    "a fitted head that knows all by heart": (made("a", "frozen", val=2.0, turn=None, change=None), (OVERFITTING,)),
    "a decay that was not kept": (early_best(made("a", "frozen", fit=0.6, val=9.0, turn=None)), (FORM,)),
    "low-rank updates without a number": (made("a", "lora", fit=0.6), (RANK, FORM, BASE, EPOCHS)),
    "a head that sleeps": (made("a", fit=0.6, head=1.01), (HEAD, BASE)),
}


@pytest.mark.parametrize("name", ALONE)
def test_a_run_alone(name: str) -> None:
    run, signatures = ALONE[name]
    assert judge(run).signatures == signatures


LOW = made("low", "mad:1", fit=0.6)
BESIDE = {
    "nothing that can be compared": (LOW, [replace(made("b"), classes=11)], (RANK, FORM, BASE, EPOCHS)),
    "full alpha ahead": (LOW, [made("b", best=65.0)], (RANK,)),
    "full alpha not ahead": (LOW, [made("b", best=64.9)], (FORM, BASE, EPOCHS)),
    "both ahead": (LOW, [made("b", best=66.0), made("c", "finetune", best=70.0)], (RANK,)),
    "only fine-tuning is there": (LOW, [made("c", "finetune", best=70.0)], (RANK, FORM)),
    "fine-tuning ahead of alpha": (LOW, [made("b"), made("c", "finetune", best=70.0)], (FORM,)),
    "nothing tried helps": (
        LOW,
        [made("b"), made("c", "finetune"), made("d", "mad:1", epochs=30)],
        (BASE,),
    ),
    "even fine-tuning does not help": (LOW, [made("c", "finetune")], (BASE, EPOCHS)),
    "a rate speaks before the kind": (
        made("a", turn=0.14, val=2.0, adapter_lr=0.005),
        [made("b", best=70.0), made("c", "finetune", adapter_lr=0.005, best=75.0)],
        (TOO_LOW,),
    ),
    "one that failed acquits nobody": (LOW, [made("b", turn=0.95)], (RANK, FORM, BASE, EPOCHS)),
    "longer is better": (made("a"), [made("b", epochs=30, best=80.0)], (EPOCHS,)),
    "a smaller rate is better": (made("a", adapter_lr=0.5), [made("b", best=80.0)], (TOO_HIGH,)),
    "a larger rate is not": (made("a", turn=0.05, adapter_lr=0.005), [made("b", best=62.0)], (NOTHING,)),
    "a larger rate is": (made("a", turn=0.05, adapter_lr=0.005), [made("b", best=66.0)], (TOO_LOW,)),
    "a wrong rate is not blamed on the rank": (made("a", "mad:1", turn=0.95), [made("b", best=80.0)], (TOO_HIGH,)),
    "two differences say nothing": (made("a"), [made("b", "mad:4", epochs=30, best=80.0)], (NOTHING,)),
    "the usual rank is not the highest": (made("a", "lora:16"), [made("b", "lora", best=70.0)], (NOTHING,)),
    "a rank for each layer may be less": (
        LOW,
        [
            replace(
                made("b"), config=replace(made("b").config, options={"rank": {"conv": 1}}), log=made("b", best=70.0).log
            )
        ],
        (RANK, FORM, BASE, EPOCHS),
    ),
    "another seed is no difference": (LOW, [made("b", seed=3, best=65.0)], (RANK,)),
    "itself": (made("a"), [made("a", epochs=30, best=99.0)], (NOTHING,)),
}


@pytest.mark.parametrize("name", BESIDE)
def test_a_run_beside_others(name: str) -> None:
    run, others, signatures = BESIDE[name]
    assert judge(run, others).signatures == signatures


def test_what_is_said_has_a_yardstick_and_a_command() -> None:
    found = judge(LOW, [made("b", best=70.0)])
    assert "filters turned by 0.5, of 1 (0.1 to 0.82 in runs that work)" in found.because
    assert "beside it, b (mad) has +10.0 points of validation accuracy: rank too low is likely" in found.because
    assert found.next == ("madlab train --config low/config.json --domain FOLDER --method mad --out low-full",)


@pytest.mark.parametrize(
    ("used", "turn", "advice"), [(0.5, 0.9, 0.05), (0.05, 0.9, 0.0167), (0.0005, 0.01, 0.05), (0.05, 0.01, 0.15)]
)
def test_the_rate_to_try_is_the_methods_own_or_beyond_it(used: float, turn: float, advice: float) -> None:
    (command,) = judge(made("a", turn=turn, adapter_lr=used)).next
    assert f"--adapter-lr {advice} " in command and command.endswith("--out a-adapter-rate")


NEXT = {
    "mad:1": "--augment trivial",
    "mad:8": "--method mad:1",
    "lora:8": "--method mad:1",
    "batchnorm": "--method frozen",
    "frozen": "--augment trivial",
}


@pytest.mark.parametrize("method", NEXT)
def test_the_remedy_for_overfitting_has_less_to_learn(method: str) -> None:
    (command,) = judge(made("a", method, val=2.0)).next
    assert NEXT[method] in command and not command.endswith("--out a")


def test_the_remedy_for_a_low_rank_is_a_higher_one() -> None:
    first = judge(made("a", "lora:16", fit=0.6)).next[0]
    assert first.endswith("--method lora:32 --out a-rank-32")
    assert judge(made("a", "hira", fit=0.6)).next[0].endswith("--method hira:16 --out a-rank-16")


@pytest.mark.parametrize(
    "source, other", [("pocket-resnet26", "resnet26-tinyimagenet"), ("resnet50", "BASE"), (None, "BASE")]
)
def test_a_base_that_is_too_small_makes_room_for_a_larger_one(source: str | None, other: str) -> None:
    run = made("a", "finetune", fit=0.6)
    run = replace(run, config=replace(run.config, base=replace(run.config.base, source=source)))
    assert f"--base {other}" in judge(run).next[0]
