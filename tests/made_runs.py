"""Runs that were never trained: their numbers are given by the test."""

from typing import Any

from madlab.runs.config import BaseUsed, RunConfig
from madlab.runs.recipe import Recipe
from madlab.runs.record import Epoch, Result, Rounded, Run, pack_correct

BASE = BaseUsed("small", "0123456789abcdef", "small.safetensors")


def made_run(
    domain: str,
    method: str,
    test: float,
    parameters: int = 110,
    *,
    rank: Any = None,
    seed: int = 0,
    layers: str | tuple[str, ...] = "all",
    options: dict[str, Any] | None = None,
    base_parameters: int = 1000,
    losses: tuple[float, ...] = (2.0, 1.0),
    rates: dict[str, float] | None = None,
    correct: Any = None,
    stored: dict[str, int] | None = None,
    rounded: dict[str, Rounded] | None = None,
    **recipe: Any,
) -> Run:
    """A finished run with one epoch per training loss; its validation accuracies are 10, 20, ... percent.

    correct: right or wrong for each test image, whose share takes the place of `test`.
    """
    given = ({} if rank is None else {"rank": rank}) | (options or {})
    settings = Recipe(**({"epochs": len(losses), "seed": seed} | recipe))
    config = RunConfig(domain, None, True, BASE, method, given, layers, recipe=settings)
    log = tuple(Epoch(n, loss, loss + 0.5, 10.0 * n) for n, loss in enumerate(losses, start=1))
    facts: dict[str, Any] = {"versions": {}, "device": "CPU", "seconds": 1.0, "rates": rates or {}}
    facts |= {"stored_bytes": stored or {}, "rounded": rounded or {}}
    if correct is not None:
        facts |= {"test_images": len(correct), "test_correct": pack_correct(correct)}
        test = float(100 * sum(correct) / len(correct))
    facts |= {"val_accuracy": 10.0 * len(log), "best_epoch": len(log), "epochs": settings.epochs}
    result = Result(
        domain, method, rank, seed, BASE, base_parameters, parameters, test_accuracy=test, date="2026-11-23", **facts
    )
    return Run(config, result, log)
