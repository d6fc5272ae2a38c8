r"""The fair table: every grid of runs behind it, resumable, in one command.

    python data_scripts/fair_table.py --data data --out runs/fair                        # all grids, in their order
    python data_scripts/fair_table.py --data data --out runs/fair --grids table --workers 2
    python data_scripts/fair_table.py --data data --out runs/fair --print-plan           # what is left, in core hours
    python data_scripts/fair_table.py --data data --out runs/fair --fold                 # finished runs -> records
    python data_scripts/fair_table.py --data data --out runs/fair --restore              # records -> finished runs

data: a folder that holds the domains as image folders by their names in fair_grids.py. What is finished in --out is
skipped and what was stopped goes on, so that the command may be ended and started at any time. It works through the
stages of each grid in turn: in `table`, the rows that take part in duels and those that the notebooks draw with one
seed, then the others, then two more seeds of the duels; the domains with few images first. Each finished run is
measured in 8, 4, 3 and 2 bits too, but for those of `goal`, which are rounded while they train. `rates` is the control
of what the ranks of MAD owe to their rates. --fold writes what is finished into madlab/records, one file for each
benchmark, and says what is missing; it can be asked for at any time. (Seeds that not every row has on every domain lie
beside it, in FILE-begun.jsonl, and come to it when they are whole.) --restore is its opposite, for a machine that has
the records and not the runs: only what no record has is then trained. Restored runs have no adapters.

On a machine with a GPU the same command runs there (add --workers 4 to fill it, --devices N for several). `recipe` is
the control of what the recipe of the table costs, which trains its first epochs on small images and bounds no step;
`bounded` has the rows of the duels with today's recipe, on the domains of that control, then on the others. Rates come
from trials on validation images: those of `bounded`, `goal`, `rates` and `full-width` are METHODS', all others the best
of the first round (data_scripts/tune.py) and run one method after another; METHODS has what the later rounds chose
(data_scripts/finals.py and replicates.py).
"""

import argparse
import json
import shutil
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

from fair_grids import COST, GRIDS, NO_FLIP, Campaign, Planned, Stage, files_of, planned

from madlab.adapters import METHODS
from madlab.device import chosen_device
from madlab.errors import MadlabError
from madlab.facts import method_and_options
from madlab.runs.rates import peak_rates
from madlab.runs.recipe import make_recipe
from madlab.runs.record import RECORDS, Run, read_runs, write_log, write_runs
from madlab.runs.sweep import sweep

FEWER = "at-most-"
"""How the folder of copies with fewer images begins."""


def folders(grid: Campaign, domains: tuple[str, ...], args: argparse.Namespace) -> list[Path]:
    """The folders of the domains or, where the grid says so and there is no GPU, of copies with fewer images."""
    if grid.most_images is None or chosen_device(args.device).type == "cuda":
        return [args.data / name for name in domains]
    for name in domains:
        training_images(args.data / name)
    place = args.data / f"{FEWER}{grid.most_images}"
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
    """Finish the runs of one stage, whatever is done of them already: all at once, if METHODS has their rates."""
    grid = GRIDS[name]
    for methods in [(method,) for method in stage.methods] if grid.first_round else [stage.methods]:
        outcome = sweep(
            folders(grid, stage.domains, args),
            methods,
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
            **grid.recipe_of(stage, methods[0]),
        )
        for folder, failure in outcome.failures.items():
            print(f"{folder}: {failure}", flush=True)


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
        grid, every = GRIDS[name], list(planned(name, out))
        runs = [at_home(checked(one, grid)) for one in every if one.finished]
        for file, domains in grid.records.items():
            own = [run for domain in domains for run in runs if run.result.domain == domain]
            whole, begun = apart(own, [one for one in every if one.domain in domains])
            if own:
                write_record(records / f"{file}.jsonl", whole, begun)
            waiting = f", and {len(begun)} of seeds that are not whole" if begun else ""
            print(f"{file}.jsonl: {len(whole)} runs{waiting}")
        print(f"{name}: {len(every) - len(runs)} runs are missing")


def at_home(run: Run) -> Run:
    """The run with its images where the documented commands have them, wherever they are on this machine."""
    *place, domain = Path(str(run.config.source)).parts[-2:]
    fewer = [part for part in place if part.startswith(FEWER)]
    return replace(run, config=replace(run.config, source="/".join(["data", *fewer, domain])))


def apart(runs: Sequence[Run], every: Sequence[Planned]) -> tuple[list[Run], list[Run]]:
    """The runs of the first seed and of those of which all planned runs are there, and all others.

    Means, intervals and sentences are so over the same seeds everywhere; what was begun waits in a file of its own.
    """
    cells = {(run.method, run.result.domain, run.result.seed) for run in runs}
    lacking = {one.seed for one in every if (one.method, one.domain, one.seed) not in cells} - {0}
    return [r for r in runs if r.result.seed not in lacking], [r for r in runs if r.result.seed in lacking]


def restore(names: list[str], data: Path, out: Path, records: Path) -> None:
    """Write the runs of each grid's records files into their places in --out, where nothing is yet."""
    for name in names:
        grid, count = GRIDS[name], 0
        every = (file for record in grid.records for file in files_of(records / f"{record}.jsonl"))
        files = [file for file in every if file.exists()]
        known: dict[tuple[str, str, int, int], list[Run]] = defaultdict(list)
        for run in (run for file in files for run in read_runs(file)):
            known[run.result.domain, run.method, run.result.seed, run.result.epochs].append(run)
        for place in planned(name, out):
            own = known[place.domain, place.method, place.seed, place.epochs]
            found = next((run for run in own if not differences(run, place, grid)), None)
            if found and not place.folder.exists():
                place.folder.mkdir(parents=True)
                replace(found.config, source=str(data / place.domain)).write(place.folder)
                write_log(place.folder, found.log)
                found.result.write(place.folder)
                count += 1
        print(f"{name}: {count} runs are restored")


def checked(planned: Planned, grid: Campaign) -> Run:
    """The finished run of a place; MadlabError if it is another one than the plan has there."""
    run = Run.read(planned.folder)
    for name, (held, wanted) in differences(run, planned, grid).items():
        raise MadlabError(
            f"{planned.folder} holds a run of another plan ({name} {held}, not {wanted}): "
            "remove it, and the command without --fold makes what belongs there."
        )
    return run


def differences(run: Run, planned: Planned, grid: Campaign) -> dict[str, tuple[Any, Any]]:
    """What a run has and the plan of a place wants, by name, where the two are not the same."""
    stage = planned.stage
    name, options = method_and_options(planned.method, options=stage.options)
    recipe = make_recipe(grid.recipe_of(stage, planned.method) | {"seed": planned.seed})
    wanted = {"domain": planned.domain, "method": planned.method, "options": options, "base": grid.base}
    held = {"domain": run.result.domain, "method": run.method, "options": run.config.options}
    wanted |= {"flip": planned.domain not in NO_FLIP} | asdict(recipe)
    held |= {"base": run.config.base.source, "flip": run.config.flip} | asdict(run.config.recipe)
    for own in (wanted, held):  # what counts is the rate, wherever it was given
        del own["adapter_lr"], own["batchnorm_lr"], own["head_lr"]
    if name != "frozen":  # which has no rate
        wanted["rates"], held["rates"] = peak_rates(METHODS[name], options, recipe), run.result.rates
    return {name: (held[name], value) for name, value in wanted.items() if held[name] != value}


def write_record(file: Path, whole: Sequence[Run], begun: Sequence[Run]) -> None:
    """Write a records file, and beside it the runs of seeds that are not whole, where there are any.

    Raises MadlabError if these files have runs, or rounded forms of them, which these lack.
    """
    known = [run for place in files_of(file) if place.exists() for run in read_runs(place)]
    kept, new = ({cell for run in some for cell in _cells(run)} for some in (known, [*whole, *begun]))
    if lost := sorted({cell[:5] for cell in kept - new}):
        raise MadlabError(
            f"{file} has runs, or rounded forms of them, that are not in --out ({len(lost)}, the first is "
            f"{' '.join(map(str, lost[0][:3]))}): give the folder that has them, or remove the file if they shall go."
        )
    for place, runs in zip(files_of(file), (whole, begun), strict=True):
        if runs:
            write_runs(place, runs)
        else:
            place.unlink(missing_ok=True)


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
    parser.add_argument("--restore", action="store_true", help="only write what the records have into --out")
    parser.add_argument("--records", type=Path, default=RECORDS, help="where --fold writes and --restore reads")
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
    elif args.restore:
        restore(args.grids, args.data, args.out, args.records)
    else:
        for name in args.grids:
            for stage in GRIDS[name].stages:
                run_stage(name, stage, args)


if __name__ == "__main__":
    main()
