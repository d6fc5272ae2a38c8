"""How a run trains: the numbers that a person may want to change. Imports no PyTorch, so that `--help` is quick."""

import math
from dataclasses import dataclass, fields
from typing import Any

from madlab.errors import MadlabError


@dataclass(frozen=True)
class Recipe:
    """How a run trains. The paper's hyperparameters are unknown: these are ours, tuned on validation data only.

    epochs: passes over the training images. batch_size: images a step. seed: of initialisation, order and augmentation.
    adapter_lr, head_lr, batchnorm_lr: peak learning rates of SGD with Nesterov momentum; the method's own when None,
    chosen by trial on validation images (results/trials.json, data_scripts/tune.py). An adapter_lr may be in units of
    its layers: Adapter.rate_factors.
    adapter_decay: weight decay of the adapter (towards zero); head_decay: of the head. smoothing: of the labels.
    warmup: share of the training in which the rates rise; afterwards they fall to zero along a cosine.
    coarse: share of the epochs, the first ones, with images shrunk to 5/8 of the crop (20 of 32 pixels), which take 0.4
    of the time; what they teach, the rest refines at full size.
    crop: side of the training window in pixels; None takes what the base network was trained with.
    accumulate: batches whose mean gradient makes one step, for a large step where a large batch does not fit. It is not
    quite the same as the large batch, because BatchNorm takes its statistics from each small one.
    """

    epochs: int = 20
    batch_size: int = 64
    seed: int = 0
    adapter_lr: float | None = None
    head_lr: float | None = None
    batchnorm_lr: float | None = None
    adapter_decay: float = 0.0
    head_decay: float = 5e-4
    momentum: float = 0.9
    smoothing: float = 0.1
    warmup: float = 0.15
    coarse: float = 0.6
    crop: int | None = None
    accumulate: int = 1

    def __post_init__(self) -> None:
        for name, least in (
            ("epochs", 1),
            ("batch_size", 2),
            ("accumulate", 1),
        ):  # BatchNorm cannot learn from a batch of one image
            if getattr(self, name) < least:
                raise MadlabError(f"{name} is {getattr(self, name)}: choose at least {least}.")
        for name in ("adapter_lr", "head_lr", "batchnorm_lr"):
            if getattr(self, name) is not None and not 0 <= getattr(self, name) < math.inf:
                raise MadlabError(f"{name} is {getattr(self, name)}: choose a learning rate of 0 or more.")


def make_recipe(options: dict[str, Any]) -> Recipe:
    """A recipe from the names of its fields; MadlabError for a name that is none."""
    known = [field.name for field in fields(Recipe)]
    for name in options:
        if name not in known:
            raise MadlabError(f"Unknown option {name!r}: a recipe has {', '.join(known)}.")
    return Recipe(**options)
