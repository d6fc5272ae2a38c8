"""The decathlon's score: what counts is how much of the baseline's error a domain removes, not the mean accuracy.

Rebuffi, Bilen, Vedaldi, "Learning multiple visual domains with residual adapters", arXiv 1705.08045. For a domain with
test error E, and Emax twice the error of a network fine-tuned to that domain alone:

    S = sum over domains of 1000 / Emax^2 * max(0, Emax - E)^2

so fine-tuning earns 250 points in every domain, no error earns 1000, and twice the baseline's error earns nothing.
"""

from collections.abc import Mapping
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from madlab.errors import MadlabError
from madlab.files.jsonfiles import read_json

DECATHLON_BASELINE = {
    "imagenet12": 59.87,
    "aircraft": 60.34,
    "cifar100": 82.12,
    "daimlerpedcls": 92.82,
    "dtd": 55.53,
    "gtsrb": 97.53,
    "omniglot": 87.69,
    "svhn": 96.55,
    "ucf101": 51.20,
    "vgg-flowers": 81.41,
}
"""Test accuracy in percent of ten fine-tuned networks: row "Finetune (10 nets)" of the published tables."""

SKETCH_BASELINE = {
    "imagenet": 76.16,
    "cubs": 82.83,
    "cars": 91.83,
    "flowers": 96.56,
    "wikiart": 75.60,
    "sketch": 80.78,
}
"""Test accuracy in percent of six fine-tuned ResNet-50 (README of ivclab/CPG).

That the published ImageNet-to-Sketch scores use this baseline is our assumption: no source says so. For another
network, DenseNet-121 among them, give the accuracies of your own fine-tuned networks.
"""

PUBLISHED = Path(__file__).parents[1] / "records" / "published.json"


def decathlon_score(accuracies: Mapping[str, float], baseline: Mapping[str, float] = DECATHLON_BASELINE) -> float:
    """The score S of test accuracies in percent, keyed by domain.

    baseline: accuracies in percent of networks fine-tuned to each domain. S is summed over the domains given, so it is
    out of 1000 times their number: compare it only with scores over the same domains.
    Raises MadlabError for a domain that the baseline lacks and an accuracy that is not from 0 to 100.
    """
    return sum(domain_scores(accuracies, baseline).values())


def domain_scores(
    accuracies: Mapping[str, float], baseline: Mapping[str, float] = DECATHLON_BASELINE
) -> dict[str, float]:
    """Each domain's share of the score S, from 0 to 1000; arguments and errors as in `decathlon_score`."""
    if not accuracies:
        raise MadlabError("There is nothing to score: give at least one domain's accuracy.")
    return {name: _domain_score(name, accuracy, baseline) for name, accuracy in accuracies.items()}


def published_rows(benchmark: str) -> list[dict[str, Any]]:
    """Published rows of a benchmark, "decathlon" or "sketch", as they were found in public copies.

    A row has `method`, `network`, `params` (as printed, "2x" of the base or millions), `accuracies` (percent by domain,
    as many as are known), `mean` (percent) and `score` as printed, `source`, `provenance` ("sourced", or "sourced,
    suspect" for a probable misprint) and `note`. What was not found is null or absent from `accuracies`.
    """
    rows = read_json(PUBLISHED)
    if benchmark not in rows:
        raise MadlabError(f"No published rows of {benchmark!r}: choose one of {', '.join(rows)}.")
    return rows[benchmark]


def _domain_score(name: str, accuracy: float, baseline: Mapping[str, float]) -> float:
    if name not in baseline:
        raise MadlabError(f"The baseline has no domain {name!r}: its domains are {', '.join(baseline)}.")
    if not isinstance(accuracy, Real) or not 0 <= accuracy <= 100:
        raise MadlabError(f"The accuracy of {name} is {accuracy}: it must be a percentage from 0 to 100.")
    if not isinstance(baseline[name], Real) or not 0 <= baseline[name] < 100:
        raise MadlabError(f"The baseline of {name} is {baseline[name]}: it must be a percentage from 0 to below 100.")
    return float(points(accuracy, baseline[name]))


def points(accuracies: ArrayLike, baselines: ArrayLike) -> NDArray[np.float64]:
    """The shares of S, from 0 to 1000, of accuracies in percent; arrays of any shapes that go together, unchecked."""
    most = 2 * (100 - np.asarray(baselines, dtype=np.float64))
    left = np.maximum(0, 1 - (100 - np.asarray(accuracies, dtype=np.float64)) / most)
    return np.asarray(1000 * left**2)
