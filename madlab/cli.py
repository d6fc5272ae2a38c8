"""The command line, `madlab ...`: one thin function a command, all work is done in the library.

Bad input ends with one sentence and exit code 2; a traceback is a defect of madlab.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from madlab.errors import MadlabError
from madlab.recipe import Recipe


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    args = vars(_parser().parse_args(arguments))
    command = args.pop("command")
    try:
        command(**args)
    except MadlabError as error:
        print(f"madlab: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("madlab: stopped; the same command goes on where it was, train with --resume.", file=sys.stderr)
        return 130
    return 0


def doctor() -> None:
    """Say what is installed, which device there is, and whether a tiny training step works."""
    from madlab.doctor import examine

    for name, finding in examine():
        print(f"{name:16s} {finding}")


def train(domain: str, method: str, out: Path, **options: Any) -> None:
    """Adapt a base network to one domain and test it."""
    from madlab.adapters.base import split_method
    from madlab.training import train as run

    method, rank = split_method(method)
    options = {"rank": rank} | {name: value for name, value in options.items() if value is not None}
    result = run(domain, method, out=out, **options)
    print(f"{result.domain}, {result.method}: validation {result.val_accuracy:.2f} % (epoch {result.best_epoch})")
    print(f"test accuracy {result.test_accuracy:.2f} %, {result.adapter_parameters:,} adapter parameters")
    print(f"everything is in {out}, after {result.seconds:.0f} s")


def evaluate(runs: list[Path], results: Path | None, labels: Path | None) -> None:
    """Print the test accuracy of finished runs, computed from their adapter files alone."""
    from madlab.challenge import score_submission, write_submission
    from madlab.training import evaluate as score

    if labels is not None and results is None:
        raise MadlabError("Labels score a results.json: say where to write it with --results FILE.")
    if results is not None:
        names = write_submission(runs, results)
        print(f"The predictions for the official test images of {', '.join(names)} are in {results}.")
        if labels is not None:
            print(score_submission(results, labels))
        return
    for run in runs:
        print((f"{run}: " if len(runs) > 1 else "") + f"test accuracy {score(run):.2f} %")


def sweep(out: Path, **options: Any) -> None:
    """Train every method on every domain with every seed; finished runs are skipped, half-done ones go on."""
    from madlab.sweep import sweep as run

    outcome = run(out=out, **{name: value for name, value in options.items() if value is not None})
    print(f"{len(outcome.results)} finished runs are in {out}; see them with: madlab report {out}")
    if outcome.failures:
        told = "\n".join(f"  {folder}: {failure}" for folder, failure in outcome.failures.items())
        raise MadlabError(f"of {len(outcome.results) + len(outcome.failures)} runs these failed:\n{told}")


def report(runs: Path, benchmark: str | None, csv: Path | None, figure: Path | None) -> None:
    """Print the results table of all runs below a folder, or set it beside a benchmark's published rows."""
    from madlab.published import write_comparison
    from madlab.report import write_report

    print(write_comparison(runs, benchmark, csv, figure) if benchmark else write_report(runs, csv, figure))


def prepare(benchmark: str, root: Path | None, domains: list[str] | None, **options: Any) -> None:
    """Fetch, check and pack a benchmark's data; an interrupted call goes on with the next one."""
    from madlab.benchmarks.decathlon import prepare_decathlon
    from madlab.benchmarks.open_data import prepare_open
    from madlab.benchmarks.pocket import cache_folder
    from madlab.benchmarks.sketch import prepare_sketch

    works: dict[str, tuple[Callable[..., list[Path]], tuple[str, ...]]] = {
        "decathlon": (prepare_decathlon, ("imagenet", "labels")),
        "sketch": (prepare_sketch, ("source",)),
        "open": (prepare_open, ("list_only",)),
    }
    work, own = works[benchmark]
    given = {name: value for name, value in options.items() if value}
    for name in given:
        if name not in own:
            raise MadlabError(f"prepare {benchmark} has no option --{name.replace('_', '-')}: leave it out.")
    folders = work(cache_folder() if root is None else root, domains=domains, **given)
    if not options["list_only"]:
        print("\n".join(map(str, folders)))


def bench(json: Path | None, figure: Path | None, **options: Any) -> None:
    """Measure on this machine what every method costs beside plain fine-tuning."""
    from madlab.bench import as_text, chosen_settings, draw, run_bench
    from madlab.files import write_json

    settings = chosen_settings(*(options.pop(name) for name in ("base", "width", "size", "batch")))
    record = run_bench(
        settings,
        tell=lambda line: print(line, file=sys.stderr),
        **{name: value for name, value in options.items() if value is not None},
    )
    if json is not None:
        write_json(json, record)
    if figure is not None:
        draw(record, figure)
    print(as_text(record))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="madlab", description="Multi-domain learning with Modulation Adapters.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(command: Any) -> argparse.ArgumentParser:
        sub = commands.add_parser(command.__name__, help=command.__doc__, description=command.__doc__)
        sub.set_defaults(command=command)
        return sub

    add(doctor)

    one = add(train)
    one.add_argument("--domain", required=True, help="a pocket domain's name, or a folder with train/ val/ test/")
    one.add_argument("--method", default="mad", help="a method's name; mad:8 is mad with rank 8")
    one.add_argument("--rank", type=int, help="the rank I of a factorised method")
    one.add_argument("--base", default="pocket-resnet26", help="the base network (default: %(default)s)")
    one.add_argument("--layers", default="all", help="convolutions that are adapted: all, 3x3 or 1x1")
    one.add_argument("--out", type=Path, required=True, help="the run folder to make")
    one.add_argument("--resume", action="store_true", help="go on with the run that is in --out")
    one.add_argument(
        "--no-flip", dest="flip", action="store_const", const=False, help="never mirror images (signs, letters)"
    )
    one.add_argument("--device", help="cpu, cuda ... (default: the GPU if there is one)")
    one.add_argument("--compile", help="compile the training step: inductor or cudagraphs, for example (default: not)")
    _add_recipe(one)

    test = add(evaluate)
    test.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="a run folder")
    test.add_argument("--results", type=Path, help="instead write the Decathlon challenge's results.json to this file")
    test.add_argument("--labels", type=Path, help="score that file with the labels of the test images (folder or zip)")

    grid = add(sweep)
    grid.add_argument("--domains", type=_names, required=True, help="pocket domains' names or folders: a,b,c")
    grid.add_argument("--methods", type=_names, required=True, help="methods, with their ranks: mad,mad:8,finetune")
    grid.add_argument("--seeds", type=int, default=1, help="how many seeds; they count from 0 (default: %(default)s)")
    grid.add_argument("--out", type=Path, required=True, help="the folder for OUT/DOMAIN/METHOD/seedK")
    grid.add_argument("--base", help="the base network (default: pocket-resnet26)")
    grid.add_argument("--layers", help="convolutions that are adapted: all, 3x3 or 1x1")
    grid.add_argument("--no-flip", type=_names, help="domains whose images are never mirrored: a,b")
    grid.add_argument("--device", help="cpu, cuda ... (default: the GPU if there is one)")
    grid.add_argument("--compile", help="compile the training step: inductor or cudagraphs, for example (default: not)")
    grid.add_argument("--engine", help="local or ray (default: local)")
    grid.add_argument("--workers", type=int, help="processes on this machine (local: 1, ray: one a core)")
    grid.add_argument("--devices", type=int, help="GPUs of this machine to spread the runs over (local engine)")
    grid.add_argument("--address", help="a running Ray cluster, HOST:PORT or auto")
    grid.add_argument("--gpus-per-run", type=float, help="share of a GPU that a run takes on Ray, 0.25 for example")
    _add_recipe(grid, without=("seed",))

    data = add(prepare)
    data.add_argument("benchmark", choices=["decathlon", "sketch", "open"], help="open: what torchvision downloads")
    data.add_argument("--root", type=Path, help="where the data go (default: $MADLAB_DATA, else the user's cache)")
    data.add_argument("--domains", type=_names, help="only some, by their official names: gtsrb,svhn")
    data.add_argument("--imagenet", type=Path, help="decathlon: the ImageNet archive, which needs registration")
    data.add_argument("--labels", type=Path, help="decathlon: a folder or zip with the labels of the test images")
    data.add_argument("--source", type=Path, help="sketch: the archives or folders that you have")
    data.add_argument("--list-only", action="store_true", help="open: only list sizes and licences")

    costs = add(bench)
    costs.add_argument("--base", help="the base network (default: resnet26, untrained, at full and at half width)")
    costs.add_argument("--width", type=int, help="channels of resnet26's stem")
    costs.add_argument("--size", type=int, help="side of the images in pixels")
    costs.add_argument("--batch", type=int, help="images in a batch")
    costs.add_argument("--rounds", type=int, help="how often each step is timed (default: 15)")
    costs.add_argument("--methods", type=_names, help="methods, with their ranks (default: all, and mad:8)")
    costs.add_argument(
        "--parts", type=_names, help="training,inference,mixed,switching,files,memory,pipeline,epochs,start"
    )
    costs.add_argument("--growth", action="store_true", help="also: more domains, ranks, images and wider networks")
    costs.add_argument("--device", help="cpu, cuda ... (default: the GPU if there is one)")
    costs.add_argument("--json", type=Path, help="write everything that was measured to this file")
    costs.add_argument("--figure", type=Path, help="draw the training steps into this file (.png, .pdf, .svg)")

    table = add(report)
    table.add_argument("runs", type=Path, help="a folder with run folders in it, at any depth")
    table.add_argument("--benchmark", choices=["decathlon", "sketch"], help="beside the published rows, with sources")
    table.add_argument("--csv", type=Path, help="write the table to this file, too")
    table.add_argument("--figure", type=Path, help="draw it into this file (.png, .pdf, .svg)")
    return parser


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def _add_recipe(parser: argparse.ArgumentParser, without: Sequence[str] = ()) -> None:
    """An option for every field of the recipe, without importing PyTorch to print the help."""
    group = parser.add_argument_group("recipe")
    for name, (kind, default) in _recipe_fields().items():
        if name in without:
            continue
        group.add_argument(f"--{name.replace('_', '-')}", type=kind, help=f"default: {default}")


def _recipe_fields() -> dict[str, tuple[type, Any]]:
    kinds = {"int": int, "float": float}
    return {
        field.name: (next(kinds[kind] for kind in kinds if kind in str(field.type)), field.default)
        for field in fields(Recipe)
        if field.default is not MISSING
    }


if __name__ == "__main__":
    sys.exit(main())
