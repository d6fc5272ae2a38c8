"""A grid of runs, domains x methods x seeds: in this process, in several, or on a Ray cluster.

Each run is `train` with a folder of its own, OUT/DOMAIN/METHOD/seedK, and what is on disk is the whole state of a
sweep: a finished run is skipped, a half-done one goes on, and progress is counted in the runs' metrics files. A run
that fails does not stop the others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

from torch import nn

from madlab.adapters import METHODS
from madlab.adapters.base import join_method, split_method, whole_number
from madlab.adapters.rounding import check_bits
from madlab.backbones import load_base
from madlab.benchmarks import flips, load_domain, short_name, source_of, split_source
from madlab.device import chosen_device
from madlab.errors import MadlabError
from madlab.facts import method_and_options
from madlab.files.plain import check_writable
from madlab.guard import fingerprint
from madlab.network import MultiDomainNet
from madlab.runs.cell import Cell
from madlab.runs.config import CONFIG, BaseUsed, RunConfig
from madlab.runs.engines import Engine, choose_engine
from madlab.runs.epoch import crop_of
from madlab.runs.folder import check_config, check_place
from madlab.runs.live import State, watched
from madlab.runs.logs import make_log
from madlab.runs.recipe import RecipeOptions, make_recipe
from madlab.runs.record import Result, Run
from madlab.runs.train import check_backend, checked_layers, config_for
from madlab.sizes import image_size, name_of

MOST_SEEDS = 1000


@dataclass(frozen=True)
class Swept:
    """The outcome of a sweep, by run folder: results, old and new, and what went wrong in runs that failed."""

    results: dict[Path, Result]
    failures: dict[Path, str]


@dataclass(frozen=True)
class Plan:
    """What all runs of a sweep have in common, and which runs there are; see `sweep`."""

    domains: list[str]
    methods: list[str]
    seeds: int
    out: Path
    no_flip: Sequence[str]
    options: dict[str, Any]
    common: dict[str, Any]
    recipe: dict[str, Any]
    bits: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        seeds = whole_number(self.seeds)
        if seeds is None:
            raise MadlabError(f"{self.seeds!r:.60} is not a number of seeds: choose a whole number of at least 1.")
        if not self.domains or not self.methods or seeds < 1:
            raise MadlabError("There is nothing to do: give at least one domain, one method and one seed.")
        if seeds > MOST_SEEDS:
            raise MadlabError(f"{self.seeds} seeds are too many: choose at most {MOST_SEEDS}.")
        if "seed" in self.recipe:
            raise MadlabError("A sweep takes the number of seeds (seeds=3), not one seed.")
        names = [short_name(domain) for domain in self.domains]
        for name in self.no_flip:
            if name not in names:
                raise MadlabError(f"No domain {name!r} to leave unmirrored: the sweep has {', '.join(names)}.")
        taken = {name for method in self.methods for name in self.options_of(method)[1]}
        for name in self.options:
            if name not in taken:
                raise MadlabError(f"None of the methods takes an option {name!r}: leave it out.")

    def options_of(self, method: str) -> tuple[str, dict[str, Any]]:
        """A method's plain name and its options: its rank, and those of the sweep's that it takes."""
        name, _ = method_and_options(method)
        taken = {key: value for key, value in self.options.items() if key in METHODS[name].options}
        return method_and_options(method, options=taken)

    def cells(self) -> list[Cell]:
        """The runs, all with one seed before the next; MadlabError if two of them have one folder."""
        cells: dict[Path, Cell] = {}
        for seed in range(self.seeds):
            recipe = make_recipe(self.recipe | {"seed": seed})
            for domain in self.domains:
                name = short_name(domain)
                for text in self.methods:
                    method, options = self.options_of(text)
                    written = join_method(*split_method(text))  # "mad:08" is "mad:8"
                    folder = self.out / name / written.replace(":", "-") / f"seed{seed}"
                    if folder in cells:
                        raise MadlabError(f"Two runs have the name {folder}: give each domain and each method once.")
                    check_place(folder, domain)
                    check_writable(folder / CONFIG)
                    own = {"method": method, "options": options} | ({"flip": False} if name in self.no_flip else {})
                    given = self.common | own | self.recipe | {"seed": seed}
                    cells[folder] = Cell(folder, domain, given, recipe.epochs, self.bits)
        return list(cells.values())

    def check_started(self, cell: Cell, base: BaseUsed) -> None:
        """Raise MadlabError if the run is on disk already, but damaged or started with other options."""
        if cell.trained:
            Run.read(cell.folder)
        elif not cell.epochs_done():
            return
        options = cell.options
        config = config_for(
            RunConfig.read(cell.folder).domain,  # what a folder is called is known once it is loaded
            cell.domain,
            options.get("flip", flips(cell.domain)),
            base,
            make_recipe(self.recipe | {"seed": options["seed"]}),
            **{field: options[field] for field in ("method", "options", "layers", "head", "compile")},
        )
        check_config(cell.folder, config)


def sweep(
    domains: Sequence[Path | str],
    methods: Sequence[str],
    seeds: int = 1,
    out: Path | str = "runs",
    *,
    options: Mapping[str, Any] | None = None,
    base: Path | str = "pocket-resnet26",
    layers: str | Sequence[str] = "all",
    head: str | None = None,
    no_flip: Sequence[str] = (),
    split: str | None = None,
    log: str = "jsonl",
    engine: str = "local",
    workers: int | None = None,
    address: str | None = None,
    gpus_per_run: float | None = None,
    devices: int | None = None,
    device: str | None = None,
    compile: str | None = None,
    progress: bool = True,
    round_to: Sequence[int] = (),
    **recipe: Unpack[RecipeOptions],
) -> Swept:
    """Train every method on every domain with every seed: `madlab sweep`.

    domains: names or folders, as `train` takes them. methods: "mad", or with its rank "mad:8". seeds: how many; they
    count from 0, and the whole grid is run with one seed before the next. options: of methods, each given to those
    methods that take it. base, layers, head, device, compile, recipe: as in `train`, the same for all runs. no_flip:
    names of the domains whose images are not mirrored. split, log: as in `train`, for all domains.

    engine: "local" runs in this process, or with workers=N in N processes of one thread each, which on a CPU is quicker
    than one with N threads; devices=N spreads the runs over N GPUs, one for each worker in turn, with N workers unless
    another number of them is given. "ray" starts a Ray of `workers` processes that this machine alone can reach, or
    uses the cluster at `address`, whose machines must see the same files; gpus_per_run: the share of a GPU that a run
    takes there, by default one where the cluster has any. round_to: numbers of bits in which each finished run is
    measured as well, without training again (`evaluate.round_run`).

    Raises MadlabError, before anything is started, for whatever can be known to fail.
    """
    chosen_device(device)
    if devices is not None and device not in (None, "cuda"):
        raise MadlabError(f"Runs that are spread over {devices} GPUs are not on {device} alone: leave out either.")
    check_backend(compile)
    for what, names in (("domains", domains), ("methods", methods), ("no_flip", no_flip)):
        if isinstance(names, str):
            raise MadlabError(f"{what} is the text {names!r:.60}: give a list of them.")
    base, bits = str(base), tuple(check_bits(number) for number in round_to)
    if bits and recipe.get("finish_bits") is not None:
        raise MadlabError("With finish_bits the runs are stored rounded already: leave out one of it and round_to.")
    common = {
        "base": base,
        "layers": checked_layers(layers),
        "head": head,
        "device": device,
        "compile": compile,
        "log": log,
    }
    make_log(log, Path(out))
    given = {name: value for name, value in (options or {}).items() if value is not None}
    sources = [source_of(domain) for domain in domains]
    grid = Plan(sources, list(methods), seeds, Path(out), no_flip, given, common, dict(recipe), bits)
    bring_to_end = choose_engine(engine, workers, address, gpus_per_run, devices)
    network, cells = load_base(base), grid.cells()
    for source in sources if split is not None else ():
        split_source(source, str(split))
    _try_methods(network, grid)
    used = BaseUsed(name_of(network), fingerprint(network), base)
    for cell in cells:
        grid.check_started(cell, used)
    pending = [cell for cell in cells if not cell.finished]
    size = recipe.get("size") or image_size(network).resize
    images = {name: len(load_domain(name, size).train) for name in dict.fromkeys(cell.domain for cell in pending)}
    failures = _follow(bring_to_end, pending, images, progress) if pending else {}
    results = {cell.folder: Result.read(cell.folder) for cell in cells if cell.finished}
    # What failed here because another sweep was writing it may have been finished by that one.
    return Swept(results, {folder: failure for folder, failure in failures.items() if folder not in results})


def _try_methods(network: nn.Module, grid: Plan) -> None:
    """Raise MadlabError unless every method can be added to the network, with the window of the grid's images."""
    net, size, recipe = MultiDomainNet(network), image_size(network), make_recipe(grid.recipe)
    crop = crop_of(size, recipe.size or size.resize, recipe)
    for text in grid.methods:
        method, options = grid.options_of(text)
        common = {"layers": grid.common["layers"], "head": grid.common["head"], "crop": crop}
        net.add_domain("trial", 2, method, **common, **options)
        net.remove_domain("trial")


def _follow(bring_to_end: Engine, cells: list[Cell], images: dict[str, int], progress: bool) -> dict[Path, str]:
    """Finish cells and show how far they are, counted in images; returns the failures."""
    state = State()
    with watched(cells, images, state, progress) as show:
        show()
        for cell, failure in bring_to_end(cells, show):
            state.settled.add(cell.folder)
            if failure is not None:
                state.failures[cell.folder] = failure
            show()
    return state.failures
