"""Small parts of domains, so that a notebook can train in front of its reader."""

from dataclasses import replace
from typing import Any

import torch

from madlab.benchmarks.domain import Domain, Split


def few(
    domain: Domain, train: int = 20, val: int = 8, test: int = 15, classes: int = 10, size: int | None = 24
) -> Domain:
    """A domain of the first `classes` classes, with the first `train`, `val` and `test` images of each class.

    Its normalisation is measured anew. size: the side of the images in pixels; None leaves it as it is. Notebook 04
    writes this in its own cells.
    """
    counts = {"train": train, "val": val, "test": test}
    parts: dict[str, Any] = {split: _first(getattr(domain, split), n, classes) for split, n in counts.items()}
    part = replace(domain, class_names=domain.class_names[:classes], normalization={}, **parts)
    return part if size is None else replace(part.shrunk(size), normalization={})


def _first(split: Split, count: int, classes: int) -> Split:
    keep = torch.cat([(split.labels == label).nonzero().flatten()[:count] for label in range(classes)])
    return Split(split.images[keep], split.labels[keep])
