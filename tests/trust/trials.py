"""Trying something again and again, and counting what came of it.

right: what came back is what it would have been without the damage. as written: the damage left a valid file of a kind
that bears no hash, JSON, and madlab says what that file says. refused: one sentence. failed: whatever else.
"""

import platform
import re
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol

import numpy
import torch

from madlab.errors import MadlabError

PERISHABLE: dict[str, Any] = {"seconds": 0, "date": "", "cost": {}}
"""What a result says that depends on the clock and on the machine: as a comparison takes it."""
VERDICTS = ("right", "as written", "refused", "failed")
LONGEST = 1000
"""Letters that a sentence of refusal has at most."""
EXAMPLES = 5
"""Failures of one kind of trial of which the record tells the whole story."""
SENTENCES = 12
"""Kinds of sentences that the record names for one kind of trial; the rest are counted together."""


@dataclass(frozen=True)
class Outcome:
    """What came of one trial. way: what was done; told: the sentence of a refusal, or the story of a failure."""

    verdict: str
    way: str
    told: str = ""


class Kind(Protocol):
    """One kind of trial. tries: how many the whole run makes."""

    tries: int

    def attempt(self, number: int, random: Random) -> Outcome:
        """Trial `number`, whose outcome depends on it and on the random numbers alone."""


def refusal(error: Exception, way: str, named: str) -> Outcome:
    """The outcome of a trial that ended with this error; named: what the sentence of a MadlabError must name."""
    told = str(error)
    if not isinstance(error, MadlabError):
        return Outcome("failed", way, "".join(traceback.format_exception(error)))
    if named not in told or len(told) > LONGEST or not told.isprintable():
        return Outcome("failed", way, f"not one sentence that names {named}: {told}")
    return Outcome("refused", way, told)


def judged(way: str, named: str, act: Callable[[], Any], verdict: Callable[[Any], str]) -> Outcome:
    """The outcome of `act`; verdict: of what it returns."""
    try:
        value = act()
    except Exception as error:
        return refusal(error, way, named)
    found = verdict(value)
    return Outcome(found, way, f"taken for something else: {value!r:.500}" if found == "failed" else "")


def run(name: str, kind: Kind, seed: int, tries: int | None = None) -> dict[str, Any]:
    """The record of one kind: counts by verdict and by way, kinds of sentences, stories of failures, and the rest."""
    began, ways, sentences, failures = time.time(), {}, Counter[str](), []
    for number in range(kind.tries if tries is None else tries):
        outcome = kind.attempt(number, Random(f"{seed} {name} {number}"))
        ways.setdefault(outcome.way, Counter()).update((outcome.verdict, "tried"))
        if outcome.verdict == "refused":
            sentences[without_particulars(outcome.told)] += 1
        elif outcome.verdict == "failed" and len(failures) < EXAMPLES:
            failures.append({"number": number, "way": outcome.way, "story": outcome.told})
    return {
        **_counts(sum(ways.values(), Counter())),
        "seed": seed,
        "seconds": round(time.time() - began),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": numpy.__version__,
            "system": f"{platform.system()} {platform.machine()}",
        },
        "by way": {way: _counts(counter) for way, counter in sorted(ways.items())},
        "by sentence": _most_common(sentences),
        "failures": failures,
    }


def without_particulars(sentence: str) -> str:
    """A sentence without names, numbers and what depends on them, so that all of its kind read alike."""
    sentence = re.sub(r"\S*/\S+(?:, line \d+,?)?", "FILE", sentence)
    sentence = re.sub(r"\(.*\)", "(...)", sentence, flags=re.DOTALL)
    sentence = re.sub(r"'[^']*'|\"[^\"]*\"", "'...'", sentence)
    return re.sub(r"\d[\d,._]*", "N", sentence)[:160]


def _most_common(sentences: Counter[str]) -> dict[str, int]:
    found = dict(sentences.most_common(SENTENCES))
    rest = sentences.total() - sum(found.values())
    return found | ({f"and {len(sentences) - SENTENCES} more kinds": rest} if rest else {})


def _counts(counter: Counter[str]) -> dict[str, int]:
    return {key: counter[key] for key in ("tried", *VERDICTS)}
