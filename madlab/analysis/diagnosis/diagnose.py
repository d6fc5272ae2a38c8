"""`madlab diagnose`: from a run folder to a signature, its reasons and the next command."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from torch import nn

from madlab.analysis.diagnosis.evidence import Evidence, gather
from madlab.analysis.diagnosis.judge import Diagnosis, judge
from madlab.analysis.diagnosis.signatures import SIGNATURES
from madlab.benchmarks.walk import folders_with
from madlab.errors import MadlabError
from madlab.runs.config import CONFIG, RunConfig
from madlab.runs.record import OnDamage


def diagnose(
    run: Path | str,
    beside: Sequence[Path | str] = (),
    *,
    base: nn.Module | str | None = None,
    on_damage: OnDamage | None = None,
) -> Diagnosis:
    """What is wrong with the training of a run folder, finished or not: `madlab diagnose`.

    beside: run folders, or folders with runs at any depth below them, for comparison. Those on the same domain that
    differ from the run in one respect count: a rate, the number of epochs, the method or its rank, the base. base: as
    in `evaluate`, for this run and for those beside. on_damage: gets the error of each run beside that cannot be read,
    which is then left out; without it the first one is raised.

    Nothing is trained, and neither images nor the test accuracy are looked at. Raises MadlabError for what is no run
    folder, for files that are absent or damaged, and for a base network that would have to be downloaded.
    """
    evidence = gather(run, base)
    return judge(evidence, list(_others(evidence, beside, base, on_damage)))


def _others(
    run: Evidence, beside: Sequence[Path | str], base: nn.Module | str | None, on_damage: OnDamage | None
) -> Iterable[Evidence]:
    for place in map(Path, beside):
        if not place.is_dir():
            raise MadlabError(f"There is no folder {place} with runs to compare: give one, or leave it out.")
        for folder in folders_with(place, CONFIG):
            if folder.resolve() == Path(run.path).resolve():
                continue
            try:
                if RunConfig.read(folder).domain == run.config.domain:  # others would only take time
                    yield gather(folder, base)
            except MadlabError as error:
                if on_damage is None:
                    raise
                on_damage(error)


def as_lines(found: Diagnosis) -> list[str]:
    """A diagnosis as `madlab diagnose` prints it."""
    decided = len(found.signatures) == 1
    named = [f"{name}: {SIGNATURES[name]}" for name in found.signatures]
    told = named if decided else ["the evidence does not decide between", *(f"  {line}" for line in named)]
    told += ["because", *(f"  {line}" for line in found.because)]
    if found.next:
        told += ["try next" if decided else "to find out", *(f"  {line}" for line in found.next)]
    return told
