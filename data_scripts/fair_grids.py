"""The grids of the fair table: which runs there are to be, with which recipe and which rates."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tune import rates_of_trials

from madlab.adapters import METHODS
from madlab.adapters.base import split_method
from madlab.runs.record import RECORDS, RESULT, Result

NINE = ("dtd10", "caltech100", "flowers", "cars196", "omniglot", "chars74k", "fashion_mnist", "gtsrb", "cifar10")
FIVE = ("pacs_art", "caltech100", "flowers", "cars196", "pacs_sketch")
"""In place of the decathlon's domains and of ImageNet-to-Sketch's; those of few images first."""
NO_FLIP = ("gtsrb", "omniglot", "chars74k")
BITS = (8, 4, 3, 2)
FIRST_ROUND = RECORDS / "trials.jsonl"

DUELS = (
    "frozen", "batchnorm", "mad", "mad:8", "piggyback", "wtpb", "parallel", "lora:8", "hira:8", "ksm",
    "filter-subspace", "series", "finetune", "mad:1", "mad:2", "mad:13", "mad:39",
)  # fmt: skip
"""The rows that are compared pair by pair. Ranks of MAD at the rivals' sizes: 1 and 2 are the nearest to
filter-subspace, which stores less, 13 has the parameters of the masks as the literature counts them, 39 those of
lora:8."""
DRAWN = ("mad:4", "mad:16", "mad+wtpb")
"""Rows that the notebooks draw: MAD's other ranks, with the rates of the duels' ranks, and the paper's hybrid."""
OTHERS = (
    "prompt", "peft:lora:8", "peft:dora:8", "peft:hira:8", "peft:loha:8", "peft:lokr:8", "peft:ia3", "peft:oft",
    "peft:hra:8",
)  # fmt: skip
LENGTHS = ("frozen", "batchnorm", "finetune", "mad", "mad:8", "parallel", "piggyback", "wtpb")
"""The rows of the study of epochs and, with three seeds, of the table at full width on a CPU."""
COST = {"frozen": 0.5, "batchnorm": 0.8} | {name: 1.5 for name in OTHERS if name.startswith("peft:")}
"""Relative to one epoch of fine-tuning; 1 where a method is not listed."""


@dataclass(frozen=True)
class Stage:
    """One call of `sweep`: methods x domains x seeds, with options and a recipe of its own."""

    methods: tuple[str, ...]
    domains: tuple[str, ...]
    seeds: int
    recipe: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    place: str = ""
    """Below the grid's folder, where the runs would otherwise have the names of others."""

    @property
    def bits(self) -> tuple[int, ...]:
        """In which its runs are measured once they are trained; none where they are rounded in training."""
        return () if "finish_bits" in self.recipe else BITS


@dataclass(frozen=True)
class Planned:
    """One run of a grid, and where it is or will be."""

    folder: Path
    stage: Stage
    domain: str
    method: str
    seed: int

    @property
    def epochs(self) -> int:
        return int(self.stage.recipe["epochs"])

    @property
    def finished(self) -> bool:
        """Whether it is trained and measured in all bits of its stage, as `sweep` sees it."""
        if not (self.folder / RESULT).exists():
            return False
        return set(map(str, self.stage.bits)) <= Result.read(self.folder).rounded.keys()


@dataclass(frozen=True)
class Campaign:
    """A grid of runs on one base network. records: file in madlab/records -> the domains that it holds.

    most_images: of training, where the machine has no GPU; milliseconds: of one image in one epoch on one core of the
    machine that made its records, which were not all as fast; first_round: whether its runs have the best rates of the
    first round of trials (tune.py), not those of METHODS.
    """

    base: str
    stages: tuple[Stage, ...]
    records: dict[str, tuple[str, ...]]
    milliseconds: float
    most_images: int | None = None
    first_round: bool = False

    def recipe_of(self, stage: Stage, method: str) -> dict[str, Any]:
        """The recipe of a method in one of its stages, with its rates where they are not those of METHODS."""
        if not self.first_round:
            return stage.recipe
        return rates_of_trials(FIRST_ROUND, method, stage.options.get("form")) | stage.recipe


def files_of(record: Path) -> tuple[Path, Path]:
    """A records file, and the one beside it with the runs of seeds that are not whole."""
    return record, record.with_name(f"{record.stem}-begun.jsonl")


TABLE = (
    "dtd10", "pacs_art", "caltech100", "flowers", "cars196", "pacs_sketch", "omniglot", "chars74k", "fashion_mnist",
    "gtsrb", "cifar10",
)  # fmt: skip
FOUR = ("dtd10", "flowers", "chars74k", "gtsrb")
MIXED = ("dtd10", "caltech100", "flowers", "chars74k", "gtsrb")
STEERED = ("batchnorm", "mad", "wtpb", "parallel", "lora:8", "finetune")
"""The domains and rows of the control of the recipe."""
UNBOUND = {"polyak": 0.0}
"""Of the recipe: steps of any length."""
EARLIER = {"coarse": 0.6} | UNBOUND
"""Of the recipe: the first six tenths of the epochs on small images, too."""
SIX = {"epochs": 6} | EARLIER
BOUNDED = {"epochs": 6, "coarse": 0.0, "polyak": 4.0}
"""Today's recipe, on whole images with bounded steps."""


def rates_of(method: str) -> dict[str, float]:
    """The rates that METHODS has for a method, as options of `train` for another one."""
    name, rank = split_method(method)
    return {f"{group}_lr": rate for group, rate in asdict(METHODS[name].rates_for({"rank": rank})).items()}


GRIDS = {
    "table": Campaign(
        "pocket-resnet26",
        (
            Stage((*DUELS, *DRAWN), TABLE, 1, SIX),
            Stage(OTHERS, TABLE, 1, SIX),
            Stage(("mad:8",), TABLE, 1, SIX, {"form": "residual"}, "residual"),
            Stage(DUELS, TABLE, 3, SIX),
        ),
        {"fair-decathlon": NINE, "fair-sketch": FIVE},
        2.0,
        first_round=True,
    ),
    "epochs": Campaign(
        "pocket-resnet26",
        tuple(Stage(LENGTHS, FOUR, 1, {"epochs": epochs} | EARLIER, place=f"{epochs}") for epochs in (6, 15, 30)),
        {"fair-epochs": FOUR},
        2.0,
        first_round=True,
    ),
    "goal": Campaign(
        "pocket-resnet26",
        (
            Stage(("mad",), NINE, 1, BOUNDED | {"finish_bits": 2}, place="2"),
            Stage(("mad:8", "mad:10"), NINE, 1, BOUNDED | {"finish_bits": 4}, place="4"),
        ),
        {"fair-goal": NINE},
        8.0,
    ),
    "rates": Campaign(
        "pocket-resnet26",
        (
            Stage(("mad:13",), NINE, 1, BOUNDED | rates_of("mad:8"), place="8"),
            Stage(("mad:8",), NINE, 1, BOUNDED | rates_of("mad:13"), place="13"),
        ),
        {"fair-rates": NINE},
        8.0,
    ),
    "recipe": Campaign(
        "pocket-resnet26",
        (
            Stage(("frozen", *STEERED), MIXED, 1, SIX, place="earlier"),
            Stage(STEERED, MIXED, 1, {"epochs": 4} | UNBOUND, place="four"),
            Stage(STEERED, MIXED, 1, {"epochs": 6} | UNBOUND, place="whole"),
            Stage(STEERED, MIXED, 1, BOUNDED, place="bounded"),
        ),
        {"fair-recipe": MIXED},
        2.5,
        first_round=True,
    ),
    "bounded": Campaign(
        "pocket-resnet26",
        tuple(Stage(DUELS, domains, seeds, BOUNDED) for seeds in (1, 2, 3) for domains in (MIXED, FIVE, NINE)),
        {"fair-bounded": MIXED, "fair-bounded-five": FIVE, "fair-bounded-nine": NINE},
        8.0,
    ),
    "densenet": Campaign(
        "pocket-densenet",
        (Stage(DUELS, FIVE, 1, SIX), Stage(DUELS, FIVE, 3, SIX)),
        {"fair-densenet": FIVE},
        2.0,
        first_round=True,
    ),
    "full-width": Campaign(
        "resnet26-tinyimagenet",
        (Stage(LENGTHS, NINE, 1, {"epochs": 6}), Stage(LENGTHS, NINE, 3, {"epochs": 6})),
        {"fair-full-width": NINE},
        30.0,
        most_images=1000,
    ),
}


def planned(name: str, out: Path) -> Iterator[Planned]:
    """Each run of a grid once, in the order of its stages."""
    seen = set()
    for stage in GRIDS[name].stages:
        for seed in range(stage.seeds):
            for domain in stage.domains:
                for method in stage.methods:
                    folder = out / name / stage.place / domain / method.replace(":", "-") / f"seed{seed}"
                    if folder not in seen:
                        seen.add(folder)
                        yield Planned(folder, stage, domain, method, seed)
