r"""The fair table: every grid of runs behind it, resumable, in one command.

    python data_scripts/fair_table.py --data data --out runs/fair                        # all grids, in their order
    python data_scripts/fair_table.py --data data --out runs/fair --grids table --workers 2
    python data_scripts/fair_table.py --data data --out runs/fair --print-plan           # what is left, in core hours
    python data_scripts/fair_table.py --data data --out runs/fair --fold                 # finished runs -> records

data: a folder that holds the domains as image folders by the names of DOMAINS. What is finished in --out is skipped and
what was stopped goes on, so that the command may be ended and started at any time. It works through the STAGES of each
grid in turn: in `table`, the rows that take part in duels and those that the notebooks draw with one seed, then the
others, then two more seeds of the duels; the domains with few images first. Each finished run is measured in 8, 4, 3
and 2 bits too, but for those of `goal`, which are rounded while they train. `rates` is the control of what the ranks of
MAD owe to their rates. --fold writes what is finished into madlab/records, one file for each benchmark, and says what
is missing; it can be asked for at any time.

On a machine with a GPU the same command runs there (add --workers 4 to fill it, --devices N for several). The rates are
those of METHODS, from trials on validation images (data_scripts/tune.py). `recipe` is the control of what the recipe of
the table costs, which trains its first epochs on small images and bounds no step; `bounded` has the rows of the duels
with today's recipe, on five domains.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from madlab.adapters import METHODS
from madlab.device import chosen_device
from madlab.errors import MadlabError
from madlab.runs.recipe import make_recipe
from madlab.runs.record import RECORDS, RESULT, Result, Run, read_runs, write_runs
from madlab.runs.sweep import sweep
from madlab.runs.train import method_and_options

NINE = ("dtd10", "caltech100", "flowers", "cars196", "omniglot", "chars74k", "fashion_mnist", "gtsrb", "cifar10")
FIVE = ("pacs_art", "caltech100", "flowers", "cars196", "pacs_sketch")
"""In place of the decathlon's domains and of ImageNet-to-Sketch's; those of few images first."""
NO_FLIP = ("gtsrb", "omniglot", "chars74k")
BITS = (8, 4, 3, 2)

DUELS = (
    "frozen", "batchnorm", "mad", "mad:8", "piggyback", "wtpb", "parallel", "lora:8", "hira:8", "ksm",
    "filter-subspace", "series", "finetune", "mad:1", "mad:2", "mad:13", "mad:39",
)  # fmt: skip
"""The rows that are compared pair by pair. Ranks of MAD at the rivals' sizes: 1 and 2 store a little more than
filter-subspace, 13 has the parameters of the masks as the literature counts them, 39 those of lora:8."""
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
class Grid:
    """A grid of runs on one base network. records: file in madlab/records -> the domains that it holds.

    most_images: of training, where the machine has no GPU; milliseconds: of one image in one epoch on one core.
    """

    base: str
    stages: tuple[Stage, ...]
    records: dict[str, tuple[str, ...]]
    milliseconds: float
    most_images: int | None = None


def every(*domains: tuple[str, ...]) -> tuple[str, ...]:
    """Domains of several benchmarks, each once."""
    return tuple(dict.fromkeys(name for some in domains for name in some))


def rates_of_rank(rank: int) -> dict[str, float]:
    """The rates of MAD of this rank, as options of `train`: for ranks that have others by rule."""
    rates = METHODS["mad"].rates_for({"rank": rank})
    return {"adapter_lr": rates.adapter, "batchnorm_lr": rates.batchnorm, "head_lr": rates.head}


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
GRIDS = {
    "table": Grid(
        "pocket-resnet26",
        (
            Stage((*DUELS, *DRAWN), TABLE, 1, SIX),
            Stage(OTHERS, TABLE, 1, SIX),
            Stage(("mad:8",), TABLE, 1, SIX, {"form": "residual"}, "residual"),
            Stage(DUELS, TABLE, 3, SIX),
        ),
        {"fair-decathlon": NINE, "fair-sketch": FIVE},
        2.0,
    ),
    "epochs": Grid(
        "pocket-resnet26",
        tuple(Stage(LENGTHS, FOUR, 1, {"epochs": epochs} | EARLIER, place=f"{epochs}") for epochs in (6, 15, 30)),
        {"fair-epochs": FOUR},
        2.0,
    ),
    "goal": Grid(
        "pocket-resnet26",
        (
            Stage(("mad",), NINE, 1, SIX | {"finish_bits": 2}, place="2"),
            Stage(("mad:8", "mad:10"), NINE, 1, SIX | {"finish_bits": 4}, place="4"),
        ),
        {"fair-goal": NINE},
        2.0,
    ),
    "rates": Grid(
        "pocket-resnet26",
        (
            Stage(("mad:13", "mad:16"), NINE, 1, SIX | rates_of_rank(8), place="8"),
            Stage(("mad:8",), NINE, 1, SIX | rates_of_rank(13), place="13"),
        ),
        {"fair-rates": NINE},
        2.0,
    ),
    "recipe": Grid(
        "pocket-resnet26",
        (
            Stage(("frozen", *STEERED), MIXED, 1, SIX, place="earlier"),
            Stage(STEERED, MIXED, 1, {"epochs": 4} | UNBOUND, place="four"),
            Stage(STEERED, MIXED, 1, {"epochs": 6} | UNBOUND, place="whole"),
        ),
        {"fair-recipe": MIXED},
        2.5,
    ),
    "bounded": Grid(
        "pocket-resnet26",
        (Stage(DUELS, MIXED, 1, BOUNDED),),
        {"fair-bounded": MIXED},
        2.5,
    ),
    "densenet": Grid(
        "pocket-densenet",
        (Stage(DUELS, FIVE, 1, SIX), Stage(DUELS, FIVE, 3, SIX)),
        {"fair-densenet": FIVE},
        2.0,
    ),
    "full-width": Grid(
        "resnet26-tinyimagenet",
        (Stage(LENGTHS, NINE, 1, {"epochs": 6}), Stage(LENGTHS, NINE, 3, {"epochs": 6})),
        {"fair-full-width": NINE},
        30.0,
        most_images=1000,
    ),
}


def folders(grid: Grid, domains: tuple[str, ...], args: argparse.Namespace) -> list[Path]:
    """The folders of the domains or, where the grid says so and there is no GPU, of copies with fewer images."""
    if grid.most_images is None or chosen_device(args.device).type == "cuda":
        return [args.data / name for name in domains]
    for name in domains:
        training_images(args.data / name)
    place = args.data / f"at-most-{grid.most_images}"
    return [fewer(args.data / name, place / name, grid.most_images) for name in domains]


def fewer(folder: Path, copy: Path, most: int) -> Path:
    """A copy of a domain with every n-th training picture, so that there are at most `most`; made once."""
    if copy.exists():
        return copy
    pictures = sorted(path for path in folder.rglob("*") if path.is_file())
    train = [path for path in pictures if path.relative_to(folder).parts[0] == "train"]
    left_out = set(train) - set(train[:: -(-len(train) // most)])
    unfinished = copy.with_name(f"{copy.name}.tmp")
    for path in pictures:
        if path not in left_out:
            target = unfinished / path.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    unfinished.rename(copy)
    return copy


def run_stage(name: str, stage: Stage, args: argparse.Namespace) -> None:
    """Finish the runs of one stage, whatever is done of them already."""
    grid = GRIDS[name]
    outcome = sweep(
        folders(grid, stage.domains, args),
        stage.methods,
        stage.seeds,
        args.out / name / stage.place,
        options=stage.options,
        base=grid.base,
        no_flip=[domain for domain in stage.domains if domain in NO_FLIP],
        workers=args.workers,
        devices=args.devices,
        device=args.device,
        compile=args.compile,
        round_to=stage.bits,
        **stage.recipe,
    )
    for folder, failure in outcome.failures.items():
        print(f"{folder}: {failure}", flush=True)


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


def print_plan(names: list[str], data: Path, out: Path) -> None:
    """How many runs of each grid are finished, and the core hours of the others.

    Raises MadlabError if a domain of them is not there.
    """
    for name in names:
        grid, done, hours, total = GRIDS[name], 0, 0.0, 0
        for run in planned(name, out):
            total += 1
            if run.finished:
                done += 1
                continue
            images = min(training_images(data / run.domain), grid.most_images or sys.maxsize)
            hours += COST.get(run.method, 1.0) * images * run.epochs * grid.milliseconds / 3.6e6
        print(f"{name}: {done} of {total} runs are finished; about {hours:.1f} core hours are left")


@cache
def training_images(folder: Path) -> int:
    """How many training pictures a domain has; MadlabError if it is not there."""
    if not (folder / "train").is_dir():
        raise MadlabError(f"There is no {folder / 'train'}: give the folder of the domains as --data.")
    return sum(path.is_file() for path in (folder / "train").rglob("*"))


def fold(names: list[str], out: Path, records: Path) -> None:
    """Write the finished runs of each grid into its records files, by domain, method and seed.

    Raises MadlabError for a damaged run, for one that is not what its place says, and for a record that would lose runs
    that it has.
    """
    for name in names:
        every = list(planned(name, out))
        runs = [checked(one, GRIDS[name].base) for one in every if one.finished]
        missing = len(every) - len(runs)
        for file, domains in GRIDS[name].records.items():
            own = [run for domain in domains for run in runs if run.result.domain == domain]
            if own:
                write_record(records / f"{file}.jsonl", own)
            print(f"{file}.jsonl: {len(own)} runs")
        print(f"{name}: {missing} runs are missing")


def checked(planned: Planned, base: str) -> Run:
    """The finished run of a place; MadlabError if it is another one than the plan has there."""
    run, stage = Run.read(planned.folder), planned.stage
    _, options = method_and_options(planned.method, options=stage.options)
    wanted = {"domain": planned.domain, "method": planned.method, "options": options, "base": base}
    held = {"domain": run.result.domain, "method": run.method, "options": run.config.options}
    wanted |= {"flip": planned.domain not in NO_FLIP} | asdict(make_recipe(stage.recipe | {"seed": planned.seed}))
    held |= {"base": run.config.base.source, "flip": run.config.flip} | asdict(run.config.recipe)
    if wrong := [name for name, value in wanted.items() if held[name] != value]:
        raise MadlabError(
            f"{planned.folder} holds a run of another plan ({wrong[0]} {held[wrong[0]]}, not {wanted[wrong[0]]}): "
            "remove it, and the command without --fold makes what belongs there."
        )
    return run


def write_record(file: Path, runs: Sequence[Run]) -> None:
    """Write a records file; MadlabError if there is one that has runs, or rounded forms of them, which these lack."""
    known = read_runs(file) if file.exists() else []
    kept, new = ({cell for run in some for cell in _cells(run)} for some in (known, runs))
    if lost := sorted({cell[:5] for cell in kept - new}):
        raise MadlabError(
            f"{file} has runs, or rounded forms of them, that are not in --out ({len(lost)}, the first is "
            f"{' '.join(map(str, lost[0][:3]))}): give the folder that has them, or remove the file if they shall go."
        )
    write_runs(file, runs)


def _cells(run: Run) -> Iterator[tuple[str, str, int, int, str, str]]:
    """What tells a run from all others of its record, once for each of its stored forms."""
    options = json.dumps([run.config.options, asdict(run.config.recipe)], sort_keys=True)
    for bits in ("", *run.result.rounded):
        yield run.result.domain, run.method, run.result.seed, run.result.epochs, options, bits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="where the domains are, as image folders")
    parser.add_argument("--out", type=Path, required=True, help="where the runs are, or will be")
    parser.add_argument("--grids", nargs="+", choices=list(GRIDS), default=list(GRIDS))
    parser.add_argument("--workers", type=int, help="processes of one thread each")
    parser.add_argument("--device", help="where PyTorch computes; a GPU, if there is one")
    parser.add_argument("--devices", type=int, help="over how many GPUs the runs are spread")
    parser.add_argument("--compile", help="none, or a backend of torch.compile")
    parser.add_argument("--print-plan", action="store_true", help="only say what is left")
    parser.add_argument("--fold", action="store_true", help="only write what is finished into the records")
    parser.add_argument("--records", type=Path, default=RECORDS, help="where --fold writes")
    args = parser.parse_args()
    try:
        work(args)
    except MadlabError as error:
        sys.exit(f"fair_table: {error}")


def work(args: argparse.Namespace) -> None:
    """What the arguments ask for."""
    if args.print_plan:
        print_plan(args.grids, args.data, args.out)
    elif args.fold:
        fold(args.grids, args.out, args.records)
    else:
        for name in args.grids:
            for stage in GRIDS[name].stages:
                run_stage(name, stage, args)


if __name__ == "__main__":
    main()
