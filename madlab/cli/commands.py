"""What each command does: it hands its options to the library and prints what comes back.

The library is imported inside the functions, so that `--help` does not wait for PyTorch.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from madlab.cli.terminal import is_terminal, listed, tell, wait_for, warn
from madlab.errors import MadlabError

MANY_FILES = 200
"""So many files to predict have a progress bar."""


def doctor() -> None:
    """Say what is installed, which device there is, and whether a tiny training step works."""
    from madlab.doctor import examine

    for name, finding in examine():
        tell(f"{name:16s} {finding}")


def course(folder: Path, no_open: bool) -> None:
    """Copy the notebooks of the course into a folder and open JupyterLab on the first."""
    from madlab.lessons.course import copy_course, notebooks, open_course

    copied, everything = len(copy_course(folder)), len(notebooks())
    kept = f"; those that were there already ({everything - copied}) stay as they are" if copied < everything else ""
    tell(f"{copied} notebook{'' if copied == 1 else 's'} copied into {folder}{kept}.")
    if no_open:
        return
    tell("Opening JupyterLab; Ctrl-C ends it.")
    if code := wait_for(open_course(folder)):
        raise MadlabError(f"JupyterLab ended with exit code {code}: what it printed says why.")


def train(out: Path, config: Path | None, domain: str | None, layers: str | None, **options: Any) -> None:
    """Adapt a base network to one domain and test it."""
    from madlab.runs.train import repeat
    from madlab.runs.train import train as run

    options |= {"domain": domain, "layers": _layers(layers)}
    given = {name: value for name, value in options.items() if value is not None}
    if config is None and domain is None:
        raise MadlabError("There is no domain to train on: give --domain, or --config to repeat a run.")
    result = run(out=out, **given) if config is None else repeat(config, out, **given)
    reached = "no validation" if result.val_accuracy is None else f"validation {result.val_accuracy:.2f} %"
    tell(f"{result.domain}, {result.method}: {reached} (epoch {result.best_epoch})")
    tell(f"test accuracy {result.test_accuracy:.2f} %{_certainty(result)}")
    tell(f"{result.adapter_parameters:,} adapter parameters{_cost(result)}")
    tell(f"everything is in {out}, after {result.seconds:.0f} s")


def evaluate(
    runs: list[Path],
    domain: str | None,
    base: str | None,
    device: str | None,
    results: Path | None,
    labels: Path | None,
) -> None:
    """Print the test accuracy of finished runs, computed from their adapter files alone."""
    from madlab.benchmarks.annotations import MOST_FILES
    from madlab.benchmarks.archives import check_readable
    from madlab.files.plain import check_writable
    from madlab.runs.evaluate import tested
    from madlab.tables.submission import score_submission, write_submission

    if labels is not None and results is None:
        raise MadlabError("Labels score a results.json: say where to write it with --results FILE.")
    if domain is not None and results is not None:
        raise MadlabError("A results.json is of the benchmark's official test images: leave --domain out.")
    if results is not None:
        check_writable(results)
        if labels is not None:
            check_readable(labels, MOST_FILES)
        names = write_submission(runs, results, base=base, device=device)
        tell(f"The predictions for the official test images of {', '.join(names)} are in {results}.")
        if labels is not None:
            tell(*score_submission(results, labels).split("\n"))
        return
    for run in runs:
        found = tested(run, domain, base=base, device=device)
        numbers = f"test accuracy {found.accuracy:.2f} %, balanced {found.balanced_accuracy:.2f} %"
        tell((f"{run}: " if len(runs) > 1 else "") + numbers)


def predict(run: Path, paths: list[Path], top: int, format: str, base: str | None, device: str | None) -> None:
    """Print the most probable classes of images: one line per file, as CSV or JSON lines."""
    from madlab.prediction import checked_top
    from madlab.progress import track
    from madlab.runs.loaded import load_run
    from madlab.runs.predict import heading, image_files, line_of, predict_files

    top = checked_top(top)
    loaded = load_run(run, base, device)
    files, failures = image_files(listed(paths))
    if not files and not failures:
        raise MadlabError("The list on standard input names no file: give the path of one image per line.")
    tell(*heading(format, min(top, len(loaded.class_names))), safe=True)
    told = predict_files(loaded, files, top)
    # On a terminal the lines themselves show how far it is.
    shown = len(files) >= MANY_FILES and not is_terminal()
    for file, found in track(told, "predict", len(files), "images", show=shown):
        if isinstance(found, MadlabError):
            failures.append(found)
        else:
            tell(line_of(format, file, found), safe=True)
    if failures:
        raise MadlabError(f"{len(failures)} of what was asked for could not be read:", *map(str, failures))


def sweep(out: Path, layers: str | None, **options: Any) -> None:
    """Train every method on every domain with every seed; finished runs are skipped, half-done ones go on."""
    from madlab.runs.sweep import sweep as run

    options |= {"layers": _layers(layers)}
    outcome = run(out=out, **{name: value for name, value in options.items() if value is not None})
    count = len(outcome.results)
    finished = "1 finished run is" if count == 1 else f"{count} finished runs are"
    tell(f"{finished} in {out}; see what they reached with: madlab report {out}")
    if outcome.failures:
        told = [f"  {folder}: {failure}" for folder, failure in outcome.failures.items()]
        raise MadlabError(f"of {len(outcome.results) + len(outcome.failures)} runs these failed:", *told)


def report(runs: Path, benchmark: str | None, duels: list[str] | None, csv: Path | None, figure: Path | None) -> None:
    """Print the results table of all runs in a file or below a folder, beside published rows, or duel by duel."""
    from madlab.tables.comparison import write_comparison
    from madlab.tables.duel_report import write_duels
    from madlab.tables.report import write_report

    left_out = 0

    def on_damage(error: MadlabError) -> None:
        nonlocal left_out
        left_out += 1
        warn(f"left out: {error}")

    if benchmark and duels:
        raise MadlabError("Published rows have no seeds and images to draw: leave out --benchmark or --duels.")
    _check_outputs(csv, figure)
    if duels:
        table = write_duels(runs, duels, csv, figure, on_damage)
    elif benchmark:
        table = write_comparison(runs, benchmark, csv, figure, on_damage)
    else:
        table = write_report(runs, csv, figure, on_damage)
    tell(*table.split("\n"))
    if left_out:
        raise MadlabError(f"the table lacks {left_out} run{'s' if left_out > 1 else ''} that could not be read.")


def diagnose(run: Path, beside: Sequence[Path], base: str | None) -> None:
    """Say what is wrong with a run's training, why, and which command to try next; nothing is trained."""
    from madlab.analysis.diagnosis import as_lines
    from madlab.analysis.diagnosis import diagnose as signature_of

    def on_damage(error: MadlabError) -> None:
        warn(f"left out: {error}")

    tell(*as_lines(signature_of(run, beside, base=base, on_damage=on_damage)))


def inspect(run: Path, out: Path | None, **options: Any) -> None:
    """Write a page about a finished run: what is right and wrong, how sure it is, and what changed in the network."""
    from madlab.inspection import inspect_run

    page, told = inspect_run(run, out, **options)
    tell(told, f"the page is {page}")


def compare(first: Path, second: Path, out: Path, **options: Any) -> None:
    """Write a page with two finished runs beside each other, and say whether they differ on the same images."""
    from madlab.inspection import compare_runs

    page, told = compare_runs(first, second, out, **options)
    tell(told, f"the page is {page}")


def export(run: Path, file: Path, with_normalization: bool, base: str | None) -> None:
    """Write a run's network for other software, checked against the original: .onnx, .pt2, .safetensors or .peft."""
    from madlab.exports import export_run

    tell(export_run(run, file, normalises=with_normalization, base=base))


def share(run: Path, out: Path, **options: Any) -> None:
    """Make a folder for a model hub: the adapter, what it was trained with, and a card with the results."""
    from madlab.exports import share_run

    told = share_run(run, out, **{name: value for name, value in options.items() if value is not None})
    tell(*told)


def prepare(benchmark: str, root: Path | None, domains: list[str] | None, **options: Any) -> None:
    """Fetch, check and pack a benchmark's data; an interrupted call goes on with the next one."""
    from madlab.benchmarks.decathlon import prepare_decathlon
    from madlab.benchmarks.fetch import cache_folder
    from madlab.benchmarks.open_data import prepare_open
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
    folders = work(cache_folder() if root is None else root, domains=domains, say=tell, **given)
    if not options["list_only"]:
        tell(*map(str, folders))


def bench(json: Path | None, figure: Path | None, **options: Any) -> None:
    """Measure on this machine what every method costs beside plain fine-tuning."""
    from madlab.analysis.bench import as_text, chosen_settings, draw, run_bench
    from madlab.files.jsonfiles import write_json

    _check_outputs(json, figure)
    settings = chosen_settings(*(options.pop(name) for name in ("base", "width", "size", "batch")))
    record = run_bench(
        settings,
        tell=warn,
        **{name: value for name, value in options.items() if value is not None},
    )
    if json is not None:
        write_json(json, record)
    tell(*as_text(record).split("\n"))
    if figure is not None:
        draw(record, figure)


def _certainty(result: Any) -> str:
    """The balanced accuracy of a result, and how far its test images can be trusted; "" for an old run's."""
    if result.balanced_accuracy is None or result.interval is None:
        return ""
    low, high = result.interval
    return (
        f", balanced {result.balanced_accuracy:.2f} %; {result.test_images} test images put it between {low:.1f} and "
        f"{high:.1f} % (95 % confidence)"
    )


def _cost(result: Any) -> str:
    speed, memory = result.cost.get("images_per_second"), result.cost.get("peak_bytes")
    told = f", trained at {speed:,.0f} images per second" if speed else ""
    return told + (f", {memory / 1e9:.2f} GB of memory at the most" if memory else "")


def _layers(text: str | None) -> str | list[str] | None:
    """The adapted layers as `add_domain` takes them: a kind of layer, or the names of some."""
    from madlab.anatomy import LAYERS

    return text if text is None or text in LAYERS else text.split(",")


def _check_outputs(table: Path | None, figure: Path | None) -> None:
    """Raise MadlabError for an output that cannot be written, before the work whose outcome goes there."""
    from madlab.files.plain import check_writable

    for path in (table, figure):
        if path is not None:
            check_writable(path)
    if figure is not None and figure.suffix not in (".png", ".pdf", ".svg"):
        raise MadlabError(f"A figure cannot be written as {figure.suffix!r}: choose .png, .pdf or .svg.")
