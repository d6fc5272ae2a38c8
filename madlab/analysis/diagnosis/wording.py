"""What a diagnosis tells: numbers, each beside its yardstick, comparisons, and the commands to try next."""

from collections.abc import Iterator, Mapping

from madlab.adapters import METHODS
from madlab.adapters.base import split_method
from madlab.analysis.diagnosis.evidence import Evidence
from madlab.analysis.diagnosis.signatures import (
    ASLEEP,
    AWAY,
    BASE,
    BATCHNORM,
    BETTER,
    DIVERGED,
    EPOCHS,
    EXPLODED,
    FORM,
    GAP,
    HARDLY,
    HEAD,
    LOUD,
    MISFIT,
    OVERFITTING,
    RANK,
    TOO_HIGH,
    TOO_LOW,
    UNFINISHED,
    WILDLY,
)
from madlab.runs.config import command_again

KINDS = {TOO_HIGH: "adapter", TOO_LOW: "adapter", HEAD: "head", BATCHNORM: "batchnorm"}
LARGER = "resnet26-tinyimagenet"
"""The largest base network that ships with madlab."""
SMALLER = ("pocket-resnet26", "pocket-densenet")
"""The others that do."""


def measured(run: Evidence) -> tuple[str, ...]:
    """The numbers of a run with their yardsticks, one a line, as far as there are any."""
    lines = [run.failure] if run.failure else []
    for kind, rate in run.rates.items():
        if rate != run.own_rates[kind]:
            lines.append(f"{kind}_lr {rate:.3g} (the method's own is {run.own_rates[kind]:.3g})")
    if run.lowered:
        least, most = min(run.lowered.values()), max(run.lowered.values())
        by = f"{least:.2g}" if least == most else f"{least:.2g} to {most:.2g}"
        layers = f"{len(run.lowered)} layer{'' if len(run.lowered) == 1 else 's'} whose scale no norm takes out"
        lines.append(f"adapter_lr times {by} in {layers}")
    if run.log:
        done = f"{run.log[-1].epoch} of {run.config.recipe.epochs} epochs are done"
        lines.append(f"validation accuracy at best {run.reached:.1f} %, in epoch {run.best.epoch}; {done}")
    if run.classes is None:
        return (*lines, "nothing trained is in the folder, neither an adapter nor a checkpoint")
    return (*lines, *_of_network(run), *(_of_log(run) if run.log else ()))


def _of_network(run: Evidence) -> Iterator[str]:
    if run.turn is not None:
        yield f"filters turned by {run.turn:.2g}, of 1 ({HARDLY:g} to {WILDLY:g} in runs that work)"
        yield f"filters changed by {run.change:.2g} of their size (no yardstick: BatchNorm hides their scale)"
    else:
        yield "filters as in the base network: this method does not change them"
    if run.head is not None:
        yield f"head {run.head:.2g} times as long as a random one (at least {ASLEEP:g} where it learned)"
    if run.batchnorm is not None:
        yield f"BatchNorm's scales changed by {run.batchnorm:.2g} of their size (up to {AWAY:g} in runs that work)"
    if run.stale:
        yield "BatchNorm's running averages are the base network's (a domain measures its own)"


def _of_log(run: Evidence) -> Iterator[str]:
    yield f"training loss {run.misfit:.2f} nats above its floor (up to {MISFIT:g} where a run fits)"
    yield f"validation loss {run.gap:.2f} nats worse than training (up to {GAP:g} in runs that generalise)"
    yield f"highest validation loss {run.peak:.2g} times that of guessing (up to {EXPLODED:g} in runs that work)"
    yield f"highest training loss {run.loudest:.2g} times that of guessing (up to {LOUD:g} in runs that work)"


def compared(what: str, run: Evidence, other: Evidence, counts: bool) -> str:
    """What the best run beside it that tests a signature says; counts: whether it is ahead, or fit to acquit."""
    gain = other.reached - run.reached
    says = f"{what} is likely" if gain >= BETTER else f"less than {BETTER:g}, so it is not: {what}"
    if not counts:
        says = f"not ahead, but with a failure of its own, so it says nothing of: {what}"
    return f"beside it, {other.path} ({other.method}) has {gain:+.1f} points of validation accuracy: {says}"


def commands(run: Evidence, signatures: tuple[str, ...]) -> tuple[str, ...]:
    """What to try: a command for each signature that has one, which makes a new run folder beside the old one."""
    return tuple(dict.fromkeys(command for one in signatures if (command := _command(run, one))))


def _command(run: Evidence, signature: str) -> str:
    if signature == UNFINISHED:
        return _train(run, "", resume=None)
    if signature == DIVERGED:
        signature = {"adapter": TOO_HIGH, "head": HEAD, "batchnorm": BATCHNORM}[run.fastest]
    if signature in KINDS:
        kind, name = KINDS[signature], f"{KINDS[signature]}_lr"
        return _train(run, f"-{kind}-rate", **{name: _better_rate(run, kind, signature == TOO_LOW)})
    if signature == EPOCHS:
        return _train(run, "-longer", epochs=3 * run.config.recipe.epochs)
    if signature == RANK and run.config.method == "mad":
        return _train(run, "-full", **_method(run, "mad"))
    if signature == RANK:
        rank = 2 * (max(run.rank.values()) if isinstance(run.rank, Mapping) else int(run.rank))
        return _train(run, f"-rank-{rank}", **_method(run, f"{run.config.method}:{rank}"))
    if signature == FORM:
        return _train(run, "-finetune", **_method(run, "finetune"))
    if signature == BASE:
        return _train(run, "-other-base", base=LARGER if run.config.base.source in SMALLER else "BASE")
    if signature == OVERFITTING:
        return _fewer_numbers(run)
    return ""


def _fewer_numbers(run: Evidence) -> str:
    """For a run that knows its training images by heart: an adapter with less to learn or, without one, more images."""
    if run.config.method == "batchnorm":
        return _train(run, "-frozen", **_method(run, "frozen"))
    if not run.fitted and (run.config.method, run.rank) != ("mad", 1):
        return _train(run, "-rank-1", **_method(run, "mad:1"))
    return "" if run.config.recipe.augment == "trivial" else _train(run, "-augmented", augment="trivial")


def _better_rate(run: Evidence, kind: str, higher: bool) -> str:
    """The method's own rate where the run's lies on the wrong side of it, else three times as much, or a third."""
    used, own = run.rates[kind], run.own_rates[kind]
    if higher:
        return f"{own if used < own else 3 * used:.3g}"
    return f"{own if used > own else used / 3:.3g}"


def _method(run: Evidence, method: str) -> dict[str, str]:
    """Another method and, where the config has one for the old method, its rate."""
    name, rank = split_method(method)
    own = METHODS[name].rate({"rank": rank})
    return {"method": method} | ({} if run.config.recipe.adapter_lr is None else {"adapter_lr": f"{own:g}"})


def _train(run: Evidence, ending: str, **changes: object) -> str:
    return command_again(run.path, run.config, ending, **changes)
