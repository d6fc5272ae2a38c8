"""Recorded runs that were made to fail, and how often a diagnosis names the cause."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from madlab.analysis.diagnosis.evidence import Evidence
from madlab.analysis.diagnosis.judge import Diagnosis, judge
from madlab.analysis.diagnosis.signatures import BETTER, NOTHING
from madlab.errors import MadlabError
from madlab.files.schemas import STRICT, validated
from madlab.runs.record import RECORDS, read_lines


@dataclass(frozen=True, config=STRICT)
class Failure:
    """A run of data_scripts/failures.py, as a line of its records file holds it.

    cause: the signature of what was done to it, NOTHING for a run that was left alone. reference: the path of the same
    run without that. evidence: its `path` names it within the file. test_accuracy: in percent, None where it diverged.
    """

    cause: str
    reference: str
    evidence: Evidence
    test_accuracy: Annotated[float, Field(ge=0, le=100)] | None

    def truth(self, failures: Iterable["Failure"]) -> str:
        """The cause if it did harm: if the reference is ahead by BETTER points of test accuracy; else NOTHING."""
        if self.test_accuracy is None:
            return self.cause
        reference = next(other for other in failures if other.evidence.path == self.reference)
        harm = (reference.test_accuracy or 0.0) - self.test_accuracy
        return self.cause if harm >= BETTER else NOTHING

    def diagnosis(self, failures: Iterable["Failure"] = ()) -> Diagnosis:
        """What is said of it alone, or beside other runs."""
        return judge(self.evidence, [other.evidence for other in failures])


def read_failures(file: Path | str = RECORDS / "failures.jsonl") -> list[Failure]:
    """The runs of a file, in its order; MadlabError if there is none or a line is damaged."""
    failures = read_lines(file, lambda facts, where: validated(Failure, facts, where))
    if not failures:
        raise MadlabError(f"There are no runs in {file}: make them with data_scripts/failures.py.")
    return failures


def verdicts_by_cause(failures: Sequence[Failure], beside: bool) -> dict[str, Counter[tuple[str, ...]]]:
    """True cause -> how often each verdict was given, which is one signature, or several where it does not decide.

    beside: whether each run is judged beside all others that can be compared, or alone.
    """
    table: dict[str, Counter[tuple[str, ...]]] = {}
    for failure in failures:
        said = failure.diagnosis(failures if beside else ()).signatures
        table.setdefault(failure.truth(failures), Counter())[said] += 1
    return table


def outcome(truth: str, said: tuple[str, ...]) -> str:
    """Whether a verdict is "right", "undecided" with the true cause among its signatures, or "wrong"."""
    return "right" if said == (truth,) else "undecided" if truth in said else "wrong"
